# slow: it waits for what goes wrong.
# The script of docs/operating.md that runs a transaction again: through deadlocks, serialization failures,
# lost connections and a restart every event is recorded once; it gives up where it should.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $source = $ENV{METER_SOURCE} || abs_path(dirname(__FILE__) . '/../..');
my ($script) = slurp_file("$source/docs/operating.md") =~ /^```bash\n(.*?)^```$/ms;
like($script // '', qr/^run_transaction\(\)/m, 'the page has the script');

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$node->append_conf('postgresql.conf', "deadlock_timeout = 50ms\n");
$node->start;
$node->safe_psql('postgres', "CREATE EXTENSION meter; SELECT meter.create_meter(name) FROM unnest('{tokens,calls}'::text[]) AS name");
my $directory = PostgreSQL::Test::Utils::tempdir;
my $files = 0;

sub event { my ($key, $meter) = @_; return "SELECT meter.record_event('" . ($meter // 'tokens') . "', 'ann', 5, idempotency => '$key', event_time => date_trunc('hour', now()));\n"; }
sub pause { return "SELECT pg_sleep($_[0]);\n"; }

# Starts the script for a transaction; what it says comes into `said`.
sub begin
{
	my ($statements, %environment) = @_;
	my $file = "$directory/" . ++$files . '.sql';
	append_to_file($file, $statements);
	my $run = { said => '' };
	my $timer = IPC::Run::timer($PostgreSQL::Test::Utils::timeout_default);
	local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => 'postgres', %environment);
	$run->{process} = IPC::Run::start([ 'bash', '-c', "$script\nrun_transaction \"\$1\"", 'bash', $file ], '<', \undef, '>', \my $out, '2>', \$run->{said}, $timer);
	return $run;
}

# Waits for its end; returns whether the transaction was committed, and how many times it had failed.
sub end
{
	my ($run) = @_;
	$run->{process}->finish;
	my $tries = () = $run->{said} =~ /^try/mg;
	note($run->{said}) if $tries;
	return ($run->{process}->result(0) == 0 ? 1 : 0, $tries);
}

# A transaction stops at a gate, which a session of ours keeps shut.
my $keeper;
sub gate { return "SELECT FROM pg_advisory_xact_lock_shared(1);\n"; }
sub shut { $keeper = $node->background_psql('postgres'); $keeper->query_safe('SELECT pg_advisory_lock(1)'); return; }
sub open_gate { $keeper->quit; return; }

# Waits until somebody stands at the gate, and returns the process.
sub await_one
{
	my $waiting = "SELECT %s FROM pg_stat_activity WHERE wait_event = 'advisory'";
	$node->poll_query_until('postgres', sprintf $waiting, 'count(*) = 1') or die 'nobody waits';
	return $node->safe_psql('postgres', sprintf $waiting, 'pid');
}

sub count_of { return $node->safe_psql('postgres', "SELECT count(*) FROM meter.meter_event WHERE idempotency LIKE '$_[0]%'"); }

is_deeply([ end(begin(event('one'))) ], [ 1, 0 ], 'what goes well is run once');
is_deeply([ end(begin(event('one'))) ], [ 1, 0 ], 'and so is what was recorded');

# Two transactions with two keys, in opposite orders.
my @runs = (begin(event('lock a') . pause(0.5) . event('lock b')), begin(event('lock b') . pause(0.5) . event('lock a')));
my @ends = map { [ end($_) ] } @runs;
is($ends[0][0] + $ends[1][0], 2, 'two that deadlock are both committed');
cmp_ok($ends[0][1] + $ends[1][1], '>', 0, 'after one of them had failed');
like("$runs[0]{said}$runs[1]{said}", qr/40P01/, 'by a deadlock');
is(count_of('lock'), 2, 'each event is there once');

# One that archives two meters, against one that records into both in the opposite order.
@runs = (begin(event('archive a', 'calls') . pause(0.5) . event('archive b')),
	begin("SELECT archived_at IS NULL FROM meter.archive_meter('tokens');\n" . pause(0.5) . "SELECT archived_at IS NULL FROM meter.update_meter('calls', name => 'c');\n"
		. "UPDATE meter.meter SET archived_at = NULL WHERE event_name = 'tokens';\n"));
@ends = map { [ end($_) ] } @runs;
is($ends[0][0] + $ends[1][0], 2, 'so are one that changes meters and one that records');
like("$runs[0]{said}$runs[1]{said}", qr/40P01/, 'after a deadlock');
is(count_of('archive'), 2, 'and each event is there once');

# A key that is recorded after the snapshot was taken.
for my $level ('repeatable read', 'serializable')
{
	my $key = $level =~ s/ /-/r;
	shut();
	my $run = begin("SET TRANSACTION ISOLATION LEVEL $level;\nSELECT count(*) FROM meter.meter;\n" . gate() . event($key) . event("$key too"));
	await_one();
	$node->safe_psql('postgres', event($key));
	open_gate();
	is_deeply([ end($run) ], [ 1, 1 ], "at $level it is run again");
	like($run->{said}, qr/40001/, 'after a serialization failure');
	is(count_of($key), 2, 'and each event is there once');
}

# The connection ends, before anything is committed; and with it the server.
shut();
my $run = begin(event('ended') . gate());
$node->safe_psql('postgres', 'SELECT pg_terminate_backend(' . await_one() . ')');
open_gate();
is_deeply([ end($run) ], [ 1, 1 ], 'after its connection was ended it is run again');
is(count_of('ended'), 1, 'and the event is there once');
shut();
$run = begin(event('restarted') . gate());
await_one();
$node->stop('immediate');
$node->start;
my ($committed, $tries) = end($run);
is($committed, 1, 'after a crash it is run until the server is there again');
cmp_ok($tries, '>=', 1, 'having failed');
is(count_of('restarted'), 1, 'and the event is there once');

# What comes again each time is not tried again.
($committed, $tries) = end($run = begin(event('unknown', 'no such meter')));
is_deeply([ $committed, $tries ], [ 0, 1 ], 'an unknown meter ends it');
is_deeply([ end(begin("SELECT meter.record_event('tokens', 'ann', 6, idempotency => 'one')")) ], [ 0, 1 ], 'and so does another value under a key');
is_deeply([ end(begin(event('nobody'), PGPORT => 1)) ], [ 0, 5 ], 'where there is no server it gives up after five times');
is(count_of('unknown') + count_of('nobody'), 0, 'and nothing is recorded');

done_testing();
