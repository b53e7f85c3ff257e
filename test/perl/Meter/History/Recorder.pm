# Clients of a history that record: recorders, and the one that ends transactions which were left
# prepared.
package Meter::History::Recorder;

use strict;
use warnings;
use parent 'Meter::History::Clients';
use Time::HiRes ();
use Meter::History::Statements qw(statements);

# How many times in a row a transaction is tried again that was in nobody's way but others'.
use constant TRIES => 5;

# Records events as planned until it is stopped; then sends again what it does not know the fate of.
sub recorder
{
	my ($self) = @_;
	my @later;
	while (!$self->stopped)
	{
		push @later, $self->_perform($self->_dropped_now
			  // (@later && $later[0]{later}-- <= 0 ? shift @later : $self->{plan}->operation(int(time()))));
		Time::HiRes::sleep($self->{pause}->between(0, 25) / 1000);
	}
	$self->_perform_all(@later);
	return;
}

# An operation that sends again what was recorded and is being dropped just now; nothing where there is
# none. It is a duplicate or refused, whenever it comes.
sub _dropped_now
{
	my ($self) = @_;
	my $recorded = $self->{recorded} // [];
	open(my $in, '<', Meter::History::Clients::horizon_file($self->{directory})) or return;
	my $horizon = <$in> // return;
	my ($at) = grep { $recorded->[$_]{time} < $horizon } 0 .. $#$recorded;
	return unless defined $at;
	my ($event) = splice @$recorded, $at, 1;
	return { way => 'single', events => [$event], again => 1, later => 0, retry => 1, rollback => 0, prepare => 0 };
}

# Remembers what was recorded and will be dropped one day.
sub _remember
{
	my ($self, $operation, $results) = @_;
	my @events = @{ $operation->{events} };
	push @{ $self->{recorded} }, map { $events[$_] }
	  grep { $results->[$_][1] ne 'invalid' && $events[$_]{time} < $self->{plan}->oldest_kept } 0 .. $#events;
	splice @{ $self->{recorded} }, 0, -50 if @{ $self->{recorded} } > 50;
	return;
}

# Performs operations until nothing is left of them.
sub _perform_all
{
	my ($self, @later) = @_;
	my $deadline = Time::HiRes::time() + $self->{timeout};
	while (@later)
	{
		die "retries do not end\n" if Time::HiRes::time() > $deadline;
		push @later, $self->_perform(shift @later);
	}
	return;
}

# Performs an operation, and returns the one that it leaves to be done, if any.
sub _perform
{
	my ($self, $operation) = @_;
	my $name = $self->next_name;
	my $transaction = $operation->{way} eq 'transaction';
	my $answer = $self->run(sub {
			$self->{log}->append('invoke', operation => $name, events => $operation->{events}, transaction => $transaction,
				retry => $operation->{retry} ? 1 : 0, map { $_ => $operation->{$_} } qw(isolation contended)) },
		statements($operation));
	my @results = map { @$_ } @{ $answer->{rows} // [] };
	# A transaction whose COMMIT was not sent is not committed, even if its connection is lost.
	my $outcome = $answer->{rows} ? 'acknowledged' : $answer->{error} || $transaction ? 'failed' : 'unknown';
	my $rolled_back = 0;
	if ($transaction && $answer->{rows} && $operation->{prepare})
	{
		$answer = $self->run_on("PREPARE TRANSACTION '$name'");
		return $self->_leave($name, $operation, $answer, \@results) unless $answer->{error};
		$outcome = 'failed';
		$self->roll_back;
	}
	elsif ($transaction && $answer->{rows} && !$operation->{rollback})
	{
		$self->{log}->append('commit', operation => $name);
		$answer = $self->run_on('COMMIT');
		$outcome = $answer->{rows} ? 'acknowledged' : $answer->{error} ? 'failed' : 'unknown';
		# Cancelled before it was looked at, it leaves the transaction open, and aborted.
		$self->roll_back if $answer->{error};
	}
	elsif ($transaction && !$answer->{lost})
	{
		$outcome = 'failed';
		$rolled_back = 1 unless $answer->{error};
		$self->roll_back;
	}
	$self->{log}->append('answer', operation => $name, outcome => $outcome, error => $answer->{error},
		rolled_back => $rolled_back, $outcome eq 'acknowledged' ? (results => \@results) : ());
	$self->_remember($operation, \@results) if $outcome eq 'acknowledged' && !$operation->{retry};
	return $self->_rest($operation, $outcome, $answer->{error} // '');
}

# Leaves a transaction prepared, or perhaps so, to the one that ends them.
sub _leave
{
	my ($self, $name, $operation, $answer, $results) = @_;
	$self->{log}->append('prepared', operation => $name, results => $results, unsure => $answer->{lost} ? 1 : 0,
		map { $_ => $operation->{$_} } qw(events rollback prepare again));
	return;
}

# What is left to be done of an operation.
sub _rest
{
	my ($self, $operation, $outcome, $error) = @_;
	return if $outcome eq 'acknowledged';
	my %again = (%$operation, rollback => 0, prepare => 0, retry => 1, later => $operation->{retry} ? 0 : $operation->{later});
	if ($error =~ /^(40001|40P01)$/)
	{
		my $tries = $operation->{tries} // 0;
		return { %again, later => $tries < TRIES ? 0 : 20, tries => ($tries + 1) % (2 * TRIES) };
	}
	return if $outcome eq 'failed' && !$operation->{again} && !$operation->{retry};
	return \%again if $error ne '55000';
	# Some are too old to be taken, whatever became of them.
	my $answer = $self->run(undef, 'SELECT (extract(epoch FROM max(horizon)) * 1000000)::bigint FROM meter.retention');
	return \%again unless $answer->{rows};
	my @left = grep { $_->{time} >= $answer->{rows}[0][0][0] } @{ $operation->{events} };
	return @left && @left < @{ $operation->{events} } ? { %again, events => \@left } : ();
}

# Ends what recorders leave prepared, each when its time has come, whatever became of its server
# meanwhile; then sends again what was rolled back.
sub resolver
{
	my ($self) = @_;
	my (@prepared, @later);
	while (1)
	{
		my $stopped = $self->stopped;
		my $now = Time::HiRes::time();
		push @prepared, map { { %$_, due => $now + $_->{prepare} } } grep { $_->{type} eq 'prepared' } $self->{log}->read_new;
		last if $stopped && !@prepared;
		my @left;
		for my $transaction (@prepared)
		{
			my $outcome = $stopped || $transaction->{due} <= $now ? $self->_resolve($transaction) : '';
			push @left, $transaction unless $outcome;
			push @later, { way => 'records', events => $transaction->{events}, later => 0, retry => 1, again => 1 }
			  if $outcome && ($outcome eq 'unknown' || ($outcome eq 'failed' && $transaction->{again}));
		}
		@prepared = @left;
		Time::HiRes::sleep(0.02);
	}
	$self->_perform_all(@later);
	return;
}

# Commits a prepared transaction or rolls it back. Returns the outcome; nothing where that is to be tried
# again.
sub _resolve
{
	my ($self, $transaction) = @_;
	my $name = $transaction->{operation};
	my $commit = !$transaction->{rollback};
	my $answer = $self->run(sub { $self->{log}->append('commit', operation => $name) if $commit && !$transaction->{sent}++ },
		($commit ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$name'");
	my $error = $answer->{error};
	my $outcome = $commit ? 'acknowledged' : 'failed';
	if ($answer->{lost})
	{
		$transaction->{lost} = 1;
		return;
	}
	# It is not there: it never was, or we have ended it and were not told.
	if (($error // '') eq '42704' && ($transaction->{unsure} || $transaction->{lost}))
	{
		undef $error;
		$outcome = $commit && $transaction->{lost} ? 'unknown' : 'failed' if $transaction->{unsure};
	}
	# Cancelled, terminated, or somebody else's for a moment yet.
	return if defined $error && $error =~ /^(57...|55000)$/;
	$self->{log}->append('answer', operation => $name, outcome => defined $error ? 'failed' : $outcome, error => $error, was_prepared => 1,
		rolled_back => $commit ? 0 : 1, $outcome eq 'acknowledged' ? (results => $transaction->{results}) : ());
	return defined $error ? 'failed' : $outcome;
}

1;
