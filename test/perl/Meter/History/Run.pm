# Runs a history: clients over servers whose processes are killed, and a checker that sees all of it. What
# it says are tests, of Test::More.
package Meter::History::Run;

use strict;
use warnings;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();
use Meter::History::Check;
use Meter::History::Clients;
use Meter::History::Keeper;
use Meter::History::Log;
use Meter::History::Nemesis;
use Meter::History::Plan;
use Meter::History::Reader;
use Meter::History::Recorder;
use Meter::History::Servers;

# How many records the checker may have left to see before the clients wait for it.
use constant MOST_BEHIND => 300;

# The clients by name: class and role. They are stopped in the order of their roles here: whoever
# records has its own retries to do, and those need what others leave prepared to be ended.
my @roles = qw(recorder resolver holder mirror reader janitor folder);
my %class = (recorder => 'Recorder', resolver => 'Recorder', holder => 'Reader', mirror => 'Reader', reader => 'Reader',
	janitor => 'Keeper', folder => 'Keeper');

# `rounds`: how many rounds of strikes; `seed`; `standby`, whether there is a synchronous standby that
# takes over at times; `worker`, whether there is a background worker.
sub new
{
	my ($class, %args) = @_;
	my $self = bless {%args}, $class;
	my $timeout = $self->{timeout} = $PostgreSQL::Test::Utils::timeout_default;
	$self->{directory} = PostgreSQL::Test::Utils::tempdir();
	$self->{servers} = Meter::History::Servers->new(map { $_ => $self->{$_} } qw(directory standby worker timeout));
	$self->{check} = Meter::History::Check->new;
	$self->{log} = Meter::History::Log->new(Meter::History::Clients::log_file($self->{directory}));
	$self->{common} = { directory => $self->{directory}, timeout => $timeout, seed => $args{seed},
		base => int(time() / 3600) * 3600 * 1_000_000 };
	$self->{plan} = Meter::History::Plan->new(%{ $self->{common} }, stream => 'nemesis');
	$self->{nemesis} = Meter::History::Nemesis->new(servers => $self->{servers}, timeout => $timeout);
	$self->{clients} = [ (map { [ "recorder $_", 'recorder' ] } 1 .. 4), [ 'resolver', 'resolver' ], [ 'folder', 'folder' ],
		(map { [ "reader $_", 'reader' ] } 1 .. 2), [ 'holder', 'holder' ], [ 'janitor', 'janitor' ],
		$args{worker} ? () : [ 'second folder', 'folder' ], $args{standby} ? [ 'mirror', 'mirror' ] : () ];
	return $self;
}

# Runs all of it.
sub run
{
	my ($self) = @_;
	$self->{servers}->primary->safe_psql('postgres', <<'SQL');
CREATE EXTENSION meter;
SELECT meter.create_meter('tokens', dimensions => '{model,region}');
SELECT meter.create_partitions(1, now() - interval '45 days');
SQL
	$self->{servers}->open;
	$self->_start_clients;
	$self->_strike_for_rounds;
	$self->_stop_clients($_) for @roles;
	$self->_close;
	return;
}

# --- the clients

sub _start_clients
{
	my ($self) = @_;
	for (@{ $self->{clients} })
	{
		my ($name, $role) = @$_;
		my $process = "Meter::History::$class{$role}"->start(%{ $self->{common} }, name => $name, role => $role,
			stop => "$self->{directory}/stop-$role", server => $role eq 'mirror' ? 'standby' : 'primary');
		$self->{running}{$process} = [ $name, $role ];
	}
	return;
}

# Whatever happens to the test, its clients end.
sub end_clients
{
	my ($self) = @_;
	kill('TERM', keys %{ $self->{running} }) if %{ $self->{running} // {} };
	return;
}

# Stops the clients of a role, and waits for their end.
sub _stop_clients
{
	my ($self, $role) = @_;
	append_to_file("$self->{directory}/stop-$role", '');
	my $deadline = time() + 2 * $self->{timeout};
	for my $process (grep { $self->{running}{$_}[1] eq $role } keys %{ $self->{running} })
	{
		my $name = $self->{running}{$process}[0];
		while (waitpid($process, POSIX::WNOHANG) == 0)
		{
			die "$name does not end" if time() > $deadline;
			$self->_watch(0.02);
		}
		is($?, 0, "$name has ended well");
		delete $self->{running}{$process};
	}
	return;
}

# Lets the checker see what has happened, for some seconds or until it complains. Where it does not keep
# up the clients wait for it.
sub _watch
{
	my ($self, $seconds) = @_;
	my $end = Time::HiRes::time() + $seconds;
	my $queue = $self->{queue} //= [];
	my $behind = Meter::History::Clients::behind_file($self->{directory});
	do
	{
		push @$queue, $self->{log}->read_new;
		if (@$queue > MOST_BEHIND) { append_to_file($behind, '') unless -e $behind; }
		else { unlink $behind; }
		my $slice = 100;
		$self->{check}->add(shift @$queue) while @$queue && $slice-- > 0;
		Time::HiRes::sleep(0.02) unless @$queue;
	} until Time::HiRes::time() >= $end || $self->{check}->complaints;
	return;
}

# Lets the checker see all that has happened.
sub _watch_all
{
	my ($self) = @_;
	$self->{check}->add($_) for splice(@{ $self->{queue} // [] }), $self->{log}->read_new;
	return;
}

# The process that serves a client now, or did.
sub _backend_of
{
	my ($self, $name) = @_;
	my $file = Meter::History::Clients::backend_file($self->{directory}, $name);
	return -e $file ? slurp_file($file) : undef;
}

# --- the strikes

sub _heavy
{
	my ($self) = @_;
	return (@Meter::History::Nemesis::HEAVY, $self->{standby} ? 'failover' : (), $self->{worker} ? 'worker' : ());
}

# What a history without it shows nothing about; `strikes` are by kind.
sub _needed
{
	my ($self) = @_;
	return (
		qw(acknowledged failed unknown rolled_back retried recorded duplicate accepted errors errors_40001 errors_40P01),
		qw(prepared prepared_acknowledged prepared_failed drops invalid errors_55000 reads_of_dropped reads_of_events answers_held),
		qw(reads reads_explained reads_with_choice reads_failed pairs rollups_compared folds folded folds_failed),
		qw(kept_make kept_move kept_vacuum kept_rebuild kept_verify),
		$self->{standby} ? 'reads_on_standby' : (), $self->{worker} ? 'worker_folds' : (),
		map { "strike_$_" } $self->_heavy, @Meter::History::Nemesis::LIGHT);
}

sub missing { my ($self) = @_; return grep { !$self->{check}->count($_) } $self->_needed; }

# Rounds of strikes; some more where something that is to be seen was not, and none after a complaint.
sub _strike_for_rounds
{
	my ($self) = @_;
	my ($check, $rounds) = @$self{qw(check rounds)};
	my @heavy;
	for (my $round = 0; !$check->complaints && ($round < $rounds || ($self->missing && $round < 4 * $rounds)); $round++)
	{
		@heavy = $self->{plan}->shuffle($self->_heavy) unless @heavy;
		for my $strike ($self->{plan}->strikes(shift @heavy, @Meter::History::Nemesis::LIGHT))
		{
			my ($victim) = @{ $self->{plan}->pick(@{ $self->{clients} }) };
			$self->_watch($strike->{after});
			last if $check->complaints;
			my $struck = $self->{nemesis}->strike($strike->{kind}, $self->_backend_of($victim));
			$self->{log}->append('strike', kind => $strike->{kind}) if $struck;
			$self->_await_worker if $struck && $strike->{kind} eq 'worker';
		}
		$self->_watch(0.3);
	}
	return;
}

# Waits until the worker is there again and has folded, while nobody else does. Meanwhile clients go on,
# and strikes that only one of them feels do too.
sub _await_worker
{
	my ($self) = @_;
	my $pause = Meter::History::Keeper::pause_file($self->{directory});
	append_to_file($pause, '');
	$self->_watch(0.5);
	my $folds = sub { $self->_ask('SELECT max(version) FROM meter.rollup_state') };
	my $before = $folds->();
	my $deadline = Time::HiRes::time() + $self->{timeout};
	until ($self->{check}->complaints)
	{
		die "the worker does not fold again\n" if Time::HiRes::time() > $deadline;
		$self->_watch(0.4);
		my $now = $self->{nemesis}->workers ? $folds->() : undef;
		if (defined $now && defined $before && $now > $before)
		{
			$self->{log}->append('worker_fold');
			last;
		}
		$before //= $now;
		my ($victim) = @{ $self->{plan}->pick(@{ $self->{clients} }) };
		my $kind = $self->{plan}->pick(@Meter::History::Nemesis::LIGHT);
		$self->{log}->append('strike', kind => $kind) if $self->{nemesis}->strike($kind, $self->_backend_of($victim));
	}
	unlink $pause;
	return;
}

# A query's answer; nothing where there is none now.
sub _ask
{
	my ($self, $query) = @_;
	my ($failed, $answer) = $self->{servers}->primary->psql('postgres', $query);
	return $failed || $answer eq '' ? undef : $answer;
}

# --- the end

sub _close
{
	my ($self) = @_;
	my $check = $self->{check};
	my $node = $self->{servers}->primary;
	my $closing = Meter::History::Reader->new(%{ $self->{common} }, name => 'closing');
	my $ask_all = sub { map { [ map { join ' ', @$_ } @{ ($closing->ask($_))[0] // [] } ] } $self->{plan}->closing_questions };
	my @before = $ask_all->();
	is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_prepared_xacts'), 0, 'nothing is left prepared');
	my $folds = 0;
	while ($folds < 10_000 && $node->safe_psql('postgres', 'SELECT count(*) FROM meter.rollup_pending') > 0)
	{
		# The worker may be about it.
		$folds += $node->safe_psql('postgres', 'SELECT meter.fold(true)') > 0 ? 1 : 0.1;
	}
	is($node->safe_psql('postgres', 'SELECT count(*) FROM meter.rollup_pending'), 0, 'folding comes to an end, and nothing is left');
	my @after = $ask_all->();
	cmp_ok($node->safe_psql('postgres', 'SELECT max(generation) FROM meter.rollup_generation'), '>', 0, 'generations of deltas have begun');
	$node->safe_psql('postgres', 'SELECT meter.fold()');
	is($node->safe_psql('postgres', 'SELECT cardinality(recorded) FROM meter.rollup_state ORDER BY version DESC LIMIT 1'), 1, 'and all but the last one are closed');
	cmp_ok(scalar(grep { @$_ } @before), '==', @before, 'each closing question has an answer');
	is_deeply(\@after, \@before, 'folding does not change usage');
	is($node->safe_psql('postgres', <<'SQL'), 0, 'the rollups are what the events that are kept add up to');
SELECT count(*) FROM meter.verify((SELECT date_trunc('month', max(horizon), 'UTC') + interval '1 month' FROM meter.retention), now() + interval '2 days')
SQL
	my $stored = $node->safe_psql('postgres', 'SELECT user_id, idempotency, count(*), max(id) FROM meter.meter_event GROUP BY 1, 2');
	$self->{log}->append('stored', rows => [ map { [ split /\|/ ] } split /\n/, $stored ]);
	is($node->safe_psql('postgres', <<'SQL'), '0|0', 'each event that is kept has its key, and each key its event');
SELECT count(*) FILTER (WHERE k.digest IS NULL), count(*) FILTER (WHERE e.id IS NULL)
FROM meter.event_key k FULL JOIN meter.meter_event e ON k.event_id = e.id AND k.event_timestamp = e."timestamp"
SQL
	$closing->{session}->disconnect if $closing->{session};
	$self->_watch_all;
	$check->finish;
	$self->_report;
	return;
}

# What the checker has to say.
sub _report
{
	my ($self) = @_;
	my $check = $self->{check};
	my @complaints = $check->complaints;
	is(scalar @complaints, 0, 'the checker has no complaint');
	diag($_) for @complaints[ 0 .. ($#complaints < 9 ? $#complaints : 9) ];
	if (@complaints && -e "$self->{directory}/errors")
	{
		my %said = map { $_ => 1 } grep { /^(ERROR|PANIC):/ } split /\n/, slurp_file("$self->{directory}/errors");
		diag("psql said: $_") for (sort keys %said)[ 0 .. (keys %said < 30 ? keys(%said) - 1 : 29) ];
	}
	# Nor could it have overlooked one for want of anything to check. A complaint ends the strikes early.
	SKIP:
	{
		skip 'the checker has complained', 1 if @complaints;
		cmp_ok($check->count($_), '>', 0, "seen: $_") for $self->_needed, qw(events_stored events_absent events_dropped);
		cmp_ok($check->count('reads_undecided') * 10, '<', $check->count('reads'), 'few reads are beyond the search');
	}
	is($check->count('unresolved'), 0, 'no outcome is unknown at the end');
	note(join ', ', map { "$_ " . $check->count($_) } sort keys %{ $check->counts });
	return;
}

1;
