# A history of recorders, folders and readers over a server whose processes are killed, and what a
# checker has to say of it: each acknowledged event is counted once, from then on and for ever, no
# other is, and every read of usage is exact.
#
# METER_SEED repeats the operations of an earlier run (not how they interleave), METER_ROUNDS sets for
# how many rounds of strikes it goes on. What it does not show: fsync is off, since it is processes
# that are killed, not the machine.
use strict;
use warnings;
use FindBin;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();
use lib "$FindBin::RealBin/../perl";
use Meter::History::Check;
use Meter::History::Clients;
use Meter::History::Log;
use Meter::History::Nemesis;
use Meter::History::Plan;

my $seed = $ENV{METER_SEED} || time() . "-$$";
my $rounds = $ENV{METER_ROUNDS} || 6;
my $timeout = $PostgreSQL::Test::Utils::timeout_default;
diag("METER_SEED=$seed METER_ROUNDS=$rounds");

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$node->append_conf('postgresql.conf', "restart_after_crash = on\nlog_statement = none\n");
$node->start;
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION meter;
SELECT meter.create_meter('tokens', dimensions => '{model,region}');
SELECT meter.create_partitions(1, now() - interval '45 days');
SQL

my $directory = PostgreSQL::Test::Utils::tempdir;
my $log = Meter::History::Log->new(Meter::History::Clients::log_file($directory));
my $check = Meter::History::Check->new;
my %common = (
	directory => $directory,
	connstr => $node->connstr('postgres'),
	timeout => $timeout,
	seed => $seed,
	base => int(time() / 3600) * 3600 * 1_000_000);
my $plan = Meter::History::Plan->new(%common, stream => 'nemesis');
my $nemesis = Meter::History::Nemesis->new(node => $node, timeout => $timeout);

# --- the clients

my %roles = ((map { ("recorder $_" => 'recorder') } 1 .. 3), (map { ("folder $_" => 'folder', "reader $_" => 'reader') } 1 .. 2));
my %running;
for my $name (sort keys %roles)
{
	my $process = Meter::History::Clients::start(%common, name => $name, role => $roles{$name}, stop => "$directory/stop-$roles{$name}");
	$running{$process} = $name;
}

# Whatever happens to the test, its clients end.
END
{
	my $status = $?;
	kill('TERM', keys %running) if %running;
	$? = $status;
}

# Lets the checker see what has happened, for some seconds or until it complains.
sub watch
{
	my ($seconds) = @_;
	my $end = Time::HiRes::time() + $seconds;
	do
	{
		$check->add($_) for $log->read_new;
		Time::HiRes::sleep(0.02);
	} until Time::HiRes::time() >= $end || $check->complaints;
	return;
}

# Stops the clients of a role, and waits for their end.
sub stop_clients
{
	my ($role) = @_;
	append_to_file("$directory/stop-$role", '');
	my @processes = grep { $roles{ $running{$_} } eq $role } keys %running;
	my $deadline = time() + 2 * $timeout;
	for my $process (@processes)
	{
		while (waitpid($process, POSIX::WNOHANG) == 0)
		{
			die "$running{$process} does not end" if time() > $deadline;
			watch(0.02);
		}
		is($?, 0, "$running{$process} has ended well");
		delete $running{$process};
	}
	return;
}

# The process that serves a client now, or did.
sub backend_of
{
	my $file = Meter::History::Clients::backend_file($directory, $_[0]);
	return -e $file ? slurp_file($file) : undef;
}

# --- the strikes

# What a history without it shows nothing about; `strikes` are by kind.
my @strikes = map { "strike_$_" } @Meter::History::Nemesis::HEAVY, @Meter::History::Nemesis::LIGHT;
my @needed = (
	qw(acknowledged failed unknown rolled_back retried recorded duplicate accepted errors),
	qw(reads reads_explained reads_with_choice reads_failed pairs rollups_compared folds folded folds_failed), @strikes);
sub missing { return grep { !$check->count($_) } @needed; }

my @heavy;
for (my $round = 0; !$check->complaints && ($round < $rounds || (missing() && $round < 4 * $rounds)); $round++)
{
	@heavy = $plan->shuffle(@Meter::History::Nemesis::HEAVY) unless @heavy;
	for my $strike ($plan->strikes(shift @heavy, @Meter::History::Nemesis::LIGHT))
	{
		my $victim = $plan->pick(sort keys %roles);
		watch($strike->{after});
		last if $check->complaints;
		$log->append('strike', kind => $strike->{kind}) if $nemesis->strike($strike->{kind}, backend_of($victim));
	}
	watch(0.3);
}

# --- the end

stop_clients('recorder');
stop_clients($_) for qw(reader folder);

my $closing = Meter::History::Clients->new(%common, name => 'closing');
my $ask_all = sub { map { [ map { join ' ', @$_ } @{ ($closing->ask($_))[0] // [] } ] } $plan->closing_questions };
my @before = $ask_all->();
my $folds = 0;
$folds++ while $folds < 10_000 && $node->safe_psql('postgres', 'SELECT meter.fold()') > 0;
is($node->safe_psql('postgres', 'SELECT count(*) FROM meter.rollup_pending'), 0, 'folding comes to an end, and nothing is left');
my @after = $ask_all->();
cmp_ok($node->safe_psql('postgres', 'SELECT max(generation) FROM meter.rollup_generation'), '>', 0, 'generations of deltas have begun');
is($node->safe_psql('postgres', 'SELECT cardinality(recorded) FROM meter.rollup_state ORDER BY version DESC LIMIT 1'), 1, 'and all but the last one are closed');
cmp_ok(scalar(grep { @$_ } @before), '==', @before, 'each closing question has an answer');
is_deeply(\@after, \@before, 'folding does not change usage');

my $stored = $node->safe_psql('postgres', 'SELECT user_id, idempotency, count(*), max(id) FROM meter.meter_event GROUP BY 1, 2');
$log->append('stored', rows => [ map { [ split /\|/ ] } split /\n/, $stored ]);
$check->add($_) for $log->read_new;
$check->finish;

my @complaints = $check->complaints;
is(scalar @complaints, 0, 'the checker has no complaint');
diag($_) for @complaints[ 0 .. ($#complaints < 9 ? $#complaints : 9) ];
if (@complaints && -e "$directory/errors")
{
	my %said = map { $_ => 1 } grep { /^(ERROR|PANIC):/ } split /\n/, slurp_file("$directory/errors");
	diag("psql said: $_") for sort keys %said;
}

# Nor could it have overlooked one for want of anything to check. A complaint ends the strikes early.
SKIP:
{
	skip 'the checker has complained', 1 if @complaints;
	cmp_ok($check->count($_), '>', 0, "seen: $_") for @needed, qw(events_stored events_absent);
	cmp_ok($check->count('reads_undecided') * 10, '<', $check->count('reads'), 'few reads are beyond the search');
}
is($check->count('unresolved'), 0, 'no outcome is unknown at the end');
note(join ', ', map { "$_ " . $check->count($_) } sort keys %{ $check->counts });

done_testing();
