# Clients of a history that keep the database: folders, and the one that makes partitions, drops old
# events, vacuums, verifies and rebuilds.
package Meter::History::Keeper;

use strict;
use warnings;
use parent 'Meter::History::Clients';
use Time::HiRes ();
use Meter::History::Statements qw(time_text);

use constant DAY => 86400 * 1_000_000;

# While the file is there nobody but the worker folds, nor does anything that makes it wait.
sub pause_file { my ($directory) = @_; return "$directory/pause-keepers"; }

# Waits until there is no such file.
sub _pause
{
	my ($self) = @_;
	Time::HiRes::sleep(0.05) while -e pause_file($self->{directory}) && !$self->stopped;
	return;
}

# Folds all the time: mostly at once again, so that several do it at the same time, and after a while
# in which deltas gather.
sub folder
{
	my ($self) = @_;
	while (!$self->stopped)
	{
		$self->_pause;
		# At times a new generation of deltas begins, as otherwise after very many of them.
		$self->run(undef, q{SELECT setval('meter.rollup_folded_seq', 1000000000)}) if $self->{pause}->chance(10);
		my $answer = $self->run(undef, 'SELECT meter.fold()');
		$self->{log}->append('fold', error => $answer->{error}, lost => $answer->{lost},
			folded => $answer->{rows} ? $answer->{rows}[0][0][0] : 0);
		Time::HiRes::sleep($self->{pause}->pick(0, 0, 0.001, $self->{pause}->between(1, 60) / 1000));
	}
	return;
}

# Does one thing after the other; at the end drops what is to be dropped once more, to the end.
sub janitor
{
	my ($self) = @_;
	my @horizons = $self->{plan}->horizons;
	my $horizon = $horizons[0];
	my $plan = $self->{plan};
	my @kinds;
	while (!$self->stopped)
	{
		$self->_pause;
		@kinds = $plan->shuffle(qw(make move drop drop rebuild verify vacuum)) unless @kinds;
		my $kind = shift @kinds;
		my $from = $plan->{base} - $plan->between(0, 100) * DAY;
		if ($kind eq 'drop')
		{
			$horizon = shift @horizons if @horizons;
			$self->_drop($horizon);
		}
		else { $self->_keep($kind, $from); }
		Time::HiRes::sleep($self->{pause}->between(100, 1000) / 1000);
	}
	my $deadline = Time::HiRes::time() + $self->{timeout};
	until ($self->_drop($horizon))
	{
		die "events cannot be dropped\n" if Time::HiRes::time() > $deadline;
	}
	return;
}

# Drops the events before a time; true where that was done to the end.
sub _drop
{
	my ($self, $horizon) = @_;
	my $answer = $self->run(sub {
			$self->{log}->append('drop', horizon => $horizon);
			Meter::History::Clients::write_file(Meter::History::Clients::horizon_file($self->{directory}), $horizon);
		},
		sprintf(q{CALL meter.drop_events('%s')}, time_text($horizon)));
	$self->{log}->append('dropped', horizon => $horizon, error => $answer->{error}, lost => $answer->{lost});
	return $answer->{rows} ? 1 : 0;
}

# Keeps the tables in one of several ways; `from` is some time, for those that have a period.
sub _keep
{
	my ($self, $kind, $from) = @_;
	my %statement = (
		make => sprintf(q{SELECT count(*) FROM meter.create_partitions(1, '%s')}, time_text($from)),
		move => q{CALL meter.empty_default_partition()},
		rebuild => sprintf(q{SELECT meter.rebuild('%s', '%s')}, map { time_text($_) } $from, $from + 1),
		verify => sprintf(q{SELECT count(*) FROM meter.verify('%s', '%s')}, map { time_text($_) } $from, $from + 40 * DAY),
		vacuum => 'VACUUM (TRUNCATE false) meter.rollup_pending, meter.event_key, meter.meter_event_default');
	my $answer = $self->run(sub { $self->{log}->append('keep', kind => $kind) }, $statement{$kind});
	$self->{log}->append('kept', kind => $kind, from => $from, error => $answer->{error}, lost => $answer->{lost},
		wrong => $kind eq 'verify' && $answer->{rows} ? $answer->{rows}[0][0][0] : 0);
	return;
}

1;
