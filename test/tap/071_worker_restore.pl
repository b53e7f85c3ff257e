# slow: it waits for what must not happen.
# The worker leaves a database alone while it is being restored, and one that a subscription fills:
# the restore has no error, and afterwards everything is folded and right.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $source = PostgreSQL::Test::Cluster->new('source');
$source->init(extra => [ '--encoding=UTF8', '--no-locale' ], allows_streaming => 'logical');
$source->append_conf('postgresql.conf', "timezone = 'UTC'\n");
$source->start;
$source->safe_psql('postgres', 'CREATE DATABASE original');
$source->safe_psql('original', <<'SQL');
CREATE EXTENSION meter;
SELECT FROM meter.create_meter('tokens');
SELECT FROM meter.create_meter('calls', 'count');
-- Partitions of the past; this month's events are in the default one, next months have none.
SELECT meter.record_event('tokens', 'now');
SET client_min_messages = error;
SELECT count(*) FROM meter.create_partitions(0, now() - interval '3 months');
SELECT count(meter.record_event('tokens', 'user-' || i % 50, i, jsonb_build_object('n', i % 3),
    event_time => now() - i * interval '7 minutes')) FROM generate_series(1, 10000) i;
SELECT count(*) FROM generate_series(1, 2), LATERAL (SELECT meter.fold()) AS f;
-- And a tail that is not folded, in the same cells.
SELECT count(meter.record_event('tokens', 'user-' || i % 50, i, jsonb_build_object('n', i % 3),
    event_time => now() - i * interval '70 minutes')) FROM generate_series(1, 1000) i;
SELECT count(meter.record_event('calls', 'user-' || i % 50, event_time => now())) FROM generate_series(1, 100) i;
SQL
my $events = 11_101;
# By meter, month and user, from cells and deltas alike.
my $usage = <<'SQL';
SELECT count(*), sum(n), md5(string_agg(concat_ws(' ', meter_id, m, user_id, n, v), ',' ORDER BY meter_id, m, user_id)) FROM (
    SELECT meter_id, m, user_id, sum(n) AS n, sum(v)::numeric(40,18) AS v FROM (
        SELECT meter_id, start AS m, user_id, event_count AS n, value_sum AS v FROM meter.rollup WHERE grain = 'm'
        UNION ALL SELECT meter_id, date_trunc('month', first_timestamp, 'UTC'), user_id, event_count, value_sum FROM meter.rollup_pending) AS t
    GROUP BY 1, 2, 3) AS t
SQL
my $totals = <<'SQL';
SELECT count(*), sum(n), md5(string_agg(concat_ws(' ', meter_id, m, n, v), ',' ORDER BY meter_id, m)) FROM (
    SELECT meter_id, m, sum(n) AS n, sum(v)::numeric(40,18) AS v FROM (
        SELECT meter_id, start AS m, event_count AS n, value_sum AS v FROM meter.rollup_total WHERE grain = 'm'
        UNION ALL SELECT meter_id, date_trunc('month', first_timestamp, 'UTC'), event_count, value_sum FROM meter.rollup_pending) AS t
    GROUP BY 1, 2) AS t
SQL
my $expected = $source->safe_psql('original', "SET TimeZone = 'UTC'; $usage; $totals");
like($expected, qr/^\d+\|$events\|/, 'the source has what was recorded');
cmp_ok($source->safe_psql('original', 'SELECT count(*) FROM meter.rollup_pending'), '>', 1000, 'in part as deltas');

my @databases = qw(plain paused parallel once data_only truncated pieces subscriber);
my $target = PostgreSQL::Test::Cluster->new('target');
$target->init(extra => [ '--encoding=UTF8', '--no-locale' ], allows_streaming => 'logical');
$target->start;
$target->safe_psql('postgres', "CREATE DATABASE $_") for @databases;
$target->append_conf('postgresql.conf', "timezone = 'UTC'\nshared_preload_libraries = 'meter'\nmeter.fold_interval = 10ms\nmax_worker_processes = 20\n"
	  . "meter.worker_databases = '" . join(',', @databases) . "'\n");
$target->restart;

sub ask
{
	my ($database, $statement) = @_;
	my ($status, $out, $err) = $target->psql($database, $statement);
	return $status == 0 ? $out : "error: $err";
}

sub wait_for
{
	my ($database, $query, $seconds) = @_;
	my $start = time;
	while (time - $start < $seconds)
	{
		return 1 if ask($database, $query) eq 't';
		sleep 0.1;
	}
	diag("never true in $database: $query");
	return 0;
}

my $folded = 'SELECT NOT EXISTS (SELECT FROM meter.rollup_pending)';

# After a restore: it is all there, then all is folded, and the months to come have partitions.
sub check_restored
{
	my ($database) = @_;
	is(ask($database, "SET TimeZone = 'UTC'; $usage; $totals"), $expected, "$database: usage is that of the source");
	ok(wait_for($database, $folded, 180), "$database: the deltas are folded in the end");
	is(ask($database, "SET TimeZone = 'UTC'; $usage; $totals"), $expected, "$database: usage still is");
	ok(wait_for($database, "SELECT to_regclass('meter.meter_event_' || to_char(now() + interval '1 month', 'YYYY_MM')) IS NOT NULL", 180),
		"$database: partitions are made again");
	is(ask($database, 'SELECT count(*) FROM meter.meter_event'), $events, "$database: all events are there");
}

my $directory = PostgreSQL::Test::Utils::tempdir;
my $from = $source->connstr('original');
$source->command_ok([ 'pg_dump', '-f', "$directory/plain.sql", $from ], 'plain dump');
$source->command_ok([ 'pg_dump', '-Fc', '-f', "$directory/custom", $from ], 'custom dump');
$source->command_ok([ 'pg_dump', '--data-only', '-f', "$directory/data.sql", $from ], 'the data');
$source->command_ok([ 'pg_dump', '--schema-only', '-f', "$directory/schema.sql", $from ], 'the schema');
my @psql = ('psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null');

# A restore that stops for a while, longer than tables take to settle, after one table and another:
# the worker has every chance to do the wrong thing.
my $paused = slurp_file("$directory/plain.sql");
my $pauses = 0;
$paused =~ s/^(COPY meter\.(meter|meter_event_\d+_\d+|rollup|rollup_pending) \(.*?^\\\.\n)/$pauses += 1; "$1SELECT pg_catalog.pg_sleep(7);\n"/mseg;
append_to_file("$directory/paused.sql", $paused);
cmp_ok($pauses, '>=', 4, "the dump was given $pauses pauses");

$target->command_ok([ @psql, '-f', "$directory/plain.sql", '-d', $target->connstr('plain') ], 'plain');
$target->command_ok([ 'pg_restore', '--exit-on-error', '-j', 2, '-d', $target->connstr('parallel'), "$directory/custom" ], 'in parallel');
$target->command_ok([ 'pg_restore', '-1', '-d', $target->connstr('once'), "$directory/custom" ], 'in one transaction');
check_restored($_) for qw(plain parallel once);
$target->command_ok([ @psql, '-f', "$directory/paused.sql", '-d', $target->connstr('paused') ], 'with pauses');
check_restored('paused');

# The data into a schema that has been there for a while.
$target->command_ok([ @psql, '-f', "$directory/schema.sql", '-d', $target->connstr($_) ], "the schema for $_") for qw(data_only truncated pieces);
sleep 7;
$target->command_ok([ @psql, '-f', "$directory/data.sql", '-d', $target->connstr('data_only') ], 'the data');
check_restored('data_only');

# In a database that was in use: its sequences are ahead, its tables are emptied.
$target->safe_psql('truncated', <<'SQL');
SELECT setval('meter.meter_id_seq', 100), setval('meter.meter_event_id_seq', 100000);
SELECT FROM meter.create_meter('other');
SELECT meter.record_event('other', 'ann', event_time => now() - interval '1 month');
SQL
ok(wait_for('truncated', $folded, 180), 'a database is in use');
$target->safe_psql('truncated', 'TRUNCATE meter.meter, meter.meter_event, meter.event_key, meter.access, meter.rollup, meter.rollup_total, meter.rollup_days,
	meter.rollup_meter, meter.rollup_generation, meter.rollup_state, meter.rollup_pending');
# Whatever partitions it was given meanwhile, the dump's default partition knows none of them.
$target->safe_psql('truncated', <<'SQL');
SELECT format('DROP TABLE %s', inhrelid::regclass) FROM pg_inherits
WHERE inhparent = 'meter.meter_event'::regclass AND substring(inhrelid::regclass::text FROM '\d+_\d+$') >= to_char(now(), 'YYYY_MM')
\gexec
SQL
$target->command_ok([ @psql, '-f', "$directory/data.sql", '-d', $target->connstr('truncated') ], 'the data again');
check_restored('truncated');

# As a parallel restore may do at worst: the sequences are set, and a table still takes long.
my $data = slurp_file("$directory/data.sql");
my ($last) = $data =~ /^(COPY meter\.rollup \(.*?^\\\.\n)/ms;
(my $first = $data) =~ s/\Q$last\E//;
append_to_file("$directory/first.sql", $first);
append_to_file("$directory/last.sql", $last);
my $loader = $target->background_psql('pieces');
$loader->query_safe('BEGIN; INSERT INTO meter.rollup SELECT * FROM meter.rollup WHERE false');
$target->command_ok([ @psql, '-f', "$directory/first.sql", '-d', $target->connstr('pieces') ], 'all but one table');
sleep 12;
is(ask('pieces', $folded), 'f', 'a table that is written keeps the worker away');
like(ask('pieces', "SELECT query FROM pg_stat_activity WHERE backend_type = 'meter worker' AND datname = 'pieces'"), qr/other sessions write/, 'and it says so');
$loader->query_safe('COMMIT');
$target->command_ok([ @psql, '-f', "$directory/last.sql", '-d', $target->connstr('pieces') ], 'then that one');
$loader->quit;
check_restored('pieces');

# --- a subscription

$source->safe_psql('original', 'CREATE PUBLICATION everything FOR TABLES IN SCHEMA meter');
$target->command_ok([ @psql, '-f', "$directory/schema.sql", '-d', $target->connstr('subscriber') ], 'the schema for a subscriber');
$target->safe_psql('subscriber', "CREATE SUBSCRIPTION copy CONNECTION '" . ($source->connstr('original') =~ s/'/''/gr) . "' PUBLICATION everything");
ok(wait_for('subscriber', "SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel", 180), 'a subscriber has copied the tables');
$source->safe_psql('original', "SELECT meter.record_event('tokens', 'late', event_time => now() - interval '1 month')");
$source->wait_for_catchup('copy');
sleep 7;
is(ask('subscriber', "SELECT count(*) FROM meter.rollup_pending WHERE user_id = 'late'"), 1, 'deltas arrive, and stay');
like(ask('subscriber', "SELECT query FROM pg_stat_activity WHERE backend_type = 'meter worker' AND datname = 'subscriber'"), qr/a subscription writes/, 'the worker says why');
$target->safe_psql('subscriber', 'DROP SUBSCRIPTION copy');
sleep 7;
like(ask('subscriber', "SELECT query FROM pg_stat_activity WHERE backend_type = 'meter worker' AND datname = 'subscriber'"), qr/meter_id_seq is behind/,
	'without it, the sequences are missing');
$target->safe_psql('subscriber', "SELECT setval('meter.meter_id_seq', 1000), setval('meter.meter_event_id_seq', 1000000)");
ok(wait_for('subscriber', $folded, 180), 'with them, it folds');
is(ask('subscriber', "SET TimeZone = 'UTC'; $usage; $totals"), $source->safe_psql('original', "SET TimeZone = 'UTC'; $usage; $totals"), 'to the same usage');

unlike(slurp_file($target->logfile), qr/meter worker in database .* cannot/, 'no worker had an error');
$target->stop;
$source->stop;
done_testing();
