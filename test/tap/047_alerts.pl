# slow: it waits for alerts.
# The worker fires alerts: soon, once each, with a notification that tells no more than a number; over a
# killed server and under an old snapshot too.
use strict;
use warnings;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'meter'\nmeter.worker_databases = 'postgres'\n");
$node->start;
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION meter;
SELECT meter.create_meter('tokens');
SELECT count(*) FROM meter.create_partitions(0);
SELECT meter.set_alert('tokens', NULL, 'spend', '{10,30,50}', recurring => 100, period => 'total');
SQL
my $fired = "SELECT string_agg(trim_scale(threshold)::text, ' ' ORDER BY id) FROM meter.alert WHERE user_id = ";
$node->safe_psql('postgres', "SELECT meter.record_event('tokens', 'warm', 10)");
$node->poll_query_until('postgres', $fired . "'warm'", '10') or die 'the worker does not fire';

my ($in, $out, $err) = ('', '', '');
my $timer = IPC::Run::timer($PostgreSQL::Test::Utils::timeout_default);
my $listener = IPC::Run::start([ 'psql', '-X', '-A', '-t', '-q', '-d', $node->connstr('postgres') ], '<', \$in, '>', \$out, '2>', \$err, $timer);
$in .= "LISTEN meter_alert;\n\\echo there\n";
$listener->pump until $out =~ /there/;
$node->safe_psql('postgres', "SELECT meter.record_event('tokens', 'ann', 33)");
$node->poll_query_until('postgres', $fired . "'ann'", '10 30');
# At ten moments between two looks of the worker.
for my $i (1 .. 10)
{
	$node->safe_psql('postgres', "SELECT meter.record_event('tokens', 'soon-$i', 10)");
	usleep(170_000);
}
ok($node->poll_query_until('postgres', "SELECT count(*) = 10 FROM meter.alert WHERE user_id LIKE 'soon-%'"), 'each of ten fires');
my ($half, $most) = split /\|/, $node->safe_psql('postgres', <<'SQL');
SELECT round(percentile_cont(0.5) WITHIN GROUP (ORDER BY s)::numeric, 2), round(max(s), 2)
FROM (SELECT extract(epoch FROM a.fired_at - e.recorded_at) AS s FROM meter.alert AS a JOIN meter.meter_event AS e USING (user_id) WHERE user_id LIKE 'soon-%') AS t
SQL
note("the transaction that fires an alert begins $half s after its event in the median, $most at most");
# A second, and what a busy machine takes.
cmp_ok($half, '<', 5, 'an alert fires soon');
$node->safe_psql('postgres', "SELECT meter.record_event('tokens', 'ann', 318)");
ok($node->poll_query_until('postgres', $fired . "'ann'", '10 30 50 150 250 350'), 'each threshold once');
my $ids = $node->safe_psql('postgres', "SELECT string_agg(id::text, ' ' ORDER BY id) FROM meter.alert WHERE user_id <> 'warm'");
usleep(100_000);
$in .= "SELECT 1;\n\\echo again\n";
$listener->pump until $out =~ /again/;
is(join(' ', $out =~ /"meter_alert" with payload "\{"alert" : (\d+)\}"/g), $ids, 'and one notification each, with its number');
unlike($out, qr/ann|tokens|351/, 'that tells nothing else');
$in .= "\\q\n";
$listener->finish;

# An alert is committed with the fold or not at all: crashes while many fire.
for my $round (1 .. 3)
{
	$node->safe_psql('postgres', "SELECT count(*) FROM meter.record_events(array_fill('tokens'::text, '{2000}'),
		(SELECT array_agg('user-' || i % 500) FROM generate_series(1, 2000) i), array_fill(5::numeric, '{2000}'), NULL, NULL, NULL)");
	usleep(400_000 * $round);
	$node->stop('immediate');
	$node->start;
}
ok($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM meter.rollup_pending'), 'after crashes all is folded');
is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT user_id), string_agg(DISTINCT trim_scale(threshold)::text, ' ') FROM meter.alert WHERE user_id LIKE 'user-%'"),
	'1500|500|10 30 50', 'and each fired once, for every user');

# An old snapshot: deltas are added up, and moved again later.
my $old = IPC::Run::start([ 'psql', '-X', '-A', '-t', '-q', '-d', $node->connstr('postgres') ], '<', \$in, '>', \$out, '2>', \$err, $timer);
($in, $out) = ("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM meter.rollup;\n\\echo there\n", '');
$old->pump until $out =~ /there/;
for my $i (1 .. 30)
{
	$node->safe_psql('postgres', "SELECT meter.record_event('tokens', 'run', 2); SELECT meter.fold()");
}
ok($node->poll_query_until('postgres', $fired . "'run'", '10 30 50'), 'under an old snapshot they fire too');
$in .= "COMMIT;\n\\q\n";
$old->finish;
$node->safe_psql('postgres', 'SELECT meter.fold(true)');
is($node->safe_psql('postgres', $fired . "'run'"), '10 30 50', 'and not once more when all goes into cells');
# A rule that is set is looked at without new events.
$node->safe_psql('postgres', "SELECT meter.set_alert('tokens', 'run', 'late', '{20,60,61}', period => 'total')");
ok($node->poll_query_until('postgres', "SELECT string_agg(threshold::text, ' ') FROM meter.alert WHERE name = 'late'", '20 60'), 'a new rule is looked at');

# A dump has rules and alerts, and nothing fires once more.
my $dump = PostgreSQL::Test::Utils::tempdir . '/dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('postgres') ], 'a dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'pg_restore', '-d', $node->connstr('restored'), $dump ], 'is restored');
my $count = $node->safe_psql('restored', 'SELECT count(*) FROM meter.alert');
$node->safe_psql('restored', "SELECT meter.record_event('tokens', 'run', 1); SELECT meter.fold()");
is($node->safe_psql('restored', "SELECT count(*) - $count, max(threshold) FILTER (WHERE name = 'late') FROM meter.alert"), '1|61', 'and goes on from there');
$node->stop;
done_testing();
