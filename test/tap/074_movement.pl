# slow: it loads two servers while they are copied.
# Copies that are taken while events are recorded and the worker folds: by pg_dump and by pg_basebackup.
# And a publisher that drops events.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $configuration = "timezone = 'UTC'\nlc_messages = 'C'\nshared_preload_libraries = 'meter'\nmeter.worker_databases = 'usage,copy'\nmeter.fold_interval = 50ms\n";
my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(extra => [ '--encoding=UTF8', '--no-locale' ], allows_streaming => 'logical');
$primary->append_conf('postgresql.conf', $configuration);
$primary->start;
$primary->safe_psql('postgres', "CREATE DATABASE $_") for qw(usage copy);
$primary->safe_psql('usage', <<'SQL');
CREATE EXTENSION meter;
SET client_min_messages = error;
SELECT FROM meter.create_meter('tokens', dimensions => '{model}');
SELECT FROM meter.create_meter('calls', 'count');
SELECT count(*) FROM meter.create_partitions(5, '2025-10-15');
SELECT count(*) FROM meter.record_events((SELECT jsonb_agg(jsonb_build_object('event_name', 'tokens', 'user_id', 'user-' || i % 9, 'value', i * 0.5, 'idempotency', 'first-' || i,
    'dimensions', jsonb_build_object('model', 'm' || i % 4), 'timestamp', '2025-10-01T00:00:00Z'::timestamptz + i * interval '53 minutes')) FROM generate_series(1, 3000) AS i));
SQL

# Usage that differs from the events, by whatever there is; and cells that are wrong. Nothing, if all is right.
my $wrong = <<'SQL';
WITH ours AS MATERIALIZED (SELECT event_name, user_id, value, event_count FROM meter.usage_report('2025-09-01', '2026-06-01')),
plain AS (SELECT event_name, user_id, CASE event_name WHEN 'calls' THEN count(*) ELSE sum(value) END, count(*) FROM meter.meter_event e JOIN meter.meter m ON m.id = e.meter_id GROUP BY 1, 2)
SELECT * FROM (TABLE ours EXCEPT ALL TABLE plain) AS t UNION ALL SELECT * FROM (TABLE plain EXCEPT ALL TABLE ours) AS t;
SELECT * FROM meter.verify('2025-09-01', '2026-06-01');
-- Each event that has a key has it in the ledger, and no other is there.
SELECT 'key', count(*) FROM meter.meter_event e FULL JOIN meter.event_key k ON k.event_id = e.id WHERE e.idempotency IS NOT NULL AND k.event_id IS NULL OR e.id IS NULL HAVING count(*) > 0;
SQL
my $again = q{SELECT count(*) > 3000, bool_and(meter.record_event(m.event_name, user_id, value, e.dimensions, idempotency, "timestamp") = e.id) FROM meter.meter_event e JOIN meter.meter m ON m.id = e.meter_id WHERE idempotency IS NOT NULL};

sub goes_on
{
	my ($node, $database, $name) = @_;
	my $ask = sub { $node->safe_psql($database, $_[0]) };
	is($ask->($wrong), '', "$name: totals are those of the events");
	my $events = $ask->('SELECT count(*) FROM meter.meter_event');
	is($ask->($again), 't|t', "$name: keys deduplicate");
	is($ask->('SELECT count(*) FROM meter.meter_event'), $events, "$name: and nothing was recorded");
	my $last = $ask->('SELECT max(id) FROM meter.meter_event');
	is($ask->("SELECT min(meter.record_event('tokens', 'user-' || i % 9, 1, '{\"model\": \"m1\"}', '$name-' || i, '2026-01-20')) > $last FROM generate_series(1, 50) AS i"), 't', "$name: what is recorded has new ids");
	ok($node->poll_query_until($database, 'SELECT count(*) = 0 FROM meter.rollup_pending'), "$name: the worker folds");
	is($ask->($wrong), '', "$name: totals are right again");
}

# Records until told to stop, each event twice, in single calls and batches; some of them stay open for a while.
my $directory = PostgreSQL::Test::Utils::tempdir;
append_to_file("$directory/load.sql", <<'SQL');
\set n random(1, 100000000)
\set how random(1, 10)
BEGIN;
SELECT meter.record_event('tokens', 'user-' || :n % 9, 1, '{"model": "m2"}', 'load-' || :n, '2026-01-01T00:00:00Z'::timestamptz + :n % 2000000 * interval '1 second');
SELECT count(*) FROM meter.record_events((SELECT jsonb_agg(jsonb_build_object('event_name', 'calls', 'user_id', 'user-' || i, 'idempotency', 'batch-' || :n || i, 'timestamp', '2026-01-10T00:00:00Z')) FROM generate_series(1, 5) AS i));
\if :how = 1
\sleep 30 ms
\endif
COMMIT;
SELECT meter.record_event('tokens', 'user-' || :n % 9, 1, '{"model": "m2"}', 'load-' || :n, '2026-01-01T00:00:00Z'::timestamptz + :n % 2000000 * interval '1 second');
SQL
my ($load, $load_out, $load_err);
sub start_load
{
	$load = IPC::Run::start([ 'pgbench', '-n', '-c', 3, '-T', 600, '-R', 60, '-f', "$directory/load.sql", $primary->connstr('usage') ], '<', \undef, '>', \$load_out, '2>', \$load_err);
	my $before = $primary->safe_psql('usage', 'SELECT count(*) FROM meter.meter_event');
	$primary->poll_query_until('usage', "SELECT count(*) > $before + 100 FROM meter.meter_event") or die "no load: $load_err";
}
sub stop_load
{
	$load->signal('TERM');
	$load->finish;
	unlike($load_err, qr/ERROR|aborted/, 'recording went on beside');
}

# --- pg_dump

start_load();
$primary->command_ok([ 'pg_dump', '-Fc', '-f', "$directory/whole", $primary->connstr('usage') ], 'a dump beside recorders and the worker');
$primary->command_ok([ 'pg_dump', '--schema-only', '-f', "$directory/schema.sql", $primary->connstr('usage') ], 'its schema alone');
$primary->command_ok([ 'pg_dump', '--data-only', '-f', "$directory/data.sql", $primary->connstr('usage') ], 'its data alone');
stop_load();
# Into a database that a worker of the same server looks after.
$primary->command_ok([ 'pg_restore', '--exit-on-error', '-d', $primary->connstr('copy'), "$directory/whole" ], 'restored beside a worker');
cmp_ok($primary->safe_psql('copy', 'SELECT count(*) FROM meter.meter_event'), '>', 3000, 'with what was recorded by then');
goes_on($primary, 'copy', 'dump');
$primary->safe_psql('copy', 'DROP EXTENSION meter; DROP SCHEMA meter');
$primary->command_ok([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-f', "$directory/$_.sql", '-d', $primary->connstr('copy') ], "restored: $_") for qw(schema data);
goes_on($primary, 'copy', 'schema and data');
goes_on($primary, 'usage', 'the source');

# --- pg_basebackup

start_load();
$primary->backup('base');
stop_load();
my $copy = PostgreSQL::Test::Cluster->new('copy');
$copy->init_from_backup($primary, 'base');
$copy->start;
$copy->poll_query_until('usage', 'SELECT NOT pg_is_in_recovery()');
goes_on($copy, 'usage', 'base backup');
$copy->stop;

# --- a publisher that drops events

my $subscriber = PostgreSQL::Test::Cluster->new('subscriber');
$subscriber->init(extra => [ '--encoding=UTF8', '--no-locale' ], allows_streaming => 'logical');
$subscriber->append_conf('postgresql.conf', $configuration);
$subscriber->start;
$subscriber->safe_psql('postgres', "CREATE DATABASE usage");
$primary->safe_psql('usage', "CREATE PUBLICATION everything FOR ALL TABLES WITH (publish_via_partition_root = true)");
my $connection = $primary->connstr('usage') =~ s/'/''/gr;
# Of the months that are dropped the subscriber has one as a partition, and none of the other.
$subscriber->safe_psql('usage', "SET client_min_messages = error; CREATE EXTENSION meter; SELECT count(*) FROM meter.create_partitions(2, '2025-11-15'); CREATE SUBSCRIPTION copy CONNECTION '$connection' PUBLICATION everything");
$subscriber->wait_for_subscription_sync($primary, 'copy', 'usage');
my $months = "SELECT 'month', m, u.* FROM generate_series(0, 6) AS m, meter.usage_report('2025-10-01'::timestamptz + m * interval '1 month', '2025-11-01'::timestamptz + m * interval '1 month') AS u ORDER BY 2, 3, 4;
	SELECT * FROM meter.retention; SELECT count(*) FROM meter.event_key; SELECT min(\"timestamp\") FROM meter.list_events('tokens', max_rows => 10000);";
my $before = $primary->safe_psql('usage', $months);
$primary->safe_psql('usage', "CALL meter.drop_events('2025-12-01')");
is($primary->safe_psql('usage', 'SELECT min("timestamp") >= \'2025-12-01\' FROM meter.meter_event'), 't', 'the publisher has dropped two months');
$primary->wait_for_catchup('copy');
my $after = $primary->safe_psql('usage', $months);
is(join("\n", grep { /^month/ } split /\n/, $after), join("\n", grep { /^month/ } split /\n/, $before), 'and their usage stays');
is($subscriber->safe_psql('usage', $months), $after, 'the subscriber says the same: of usage, the horizon, keys, and which events there are');
is($subscriber->safe_psql('usage', "SELECT count(*) FROM meter.verify('2025-12-01', '2026-06-01')"), 0, 'its rollups are right');
my ($status, $out, $err) = $subscriber->psql('usage', "SELECT * FROM meter.usage('tokens', '2025-11-03 01:02:03', '2025-11-20')");
like($err, qr/events that have been dropped/, 'what the rollups cannot tell is refused there too');
$primary->safe_psql('usage', "SELECT meter.record_event('tokens', 'after', 1, event_time => '2026-01-25')");
$primary->wait_for_catchup('copy');
is($subscriber->safe_psql('usage', "SELECT value FROM meter.usage('tokens', '2026-01-01', '2026-02-01', 'after')"), 1, 'and it follows on');
is($subscriber->safe_psql('usage', "SELECT count(*) FROM pg_stat_subscription WHERE subname = 'copy' AND pid IS NOT NULL"), 1, 'nothing stopped the subscription');

$subscriber->stop;
$primary->stop;
done_testing();
