# slow: one workload under a dozen sets of settings, and tens of thousands of hostile events.
# What a hostile client may do, and gets no further by: its settings, its names, its keys, its volume,
# transactions that it leaves open. sql/attacks.sql has what one session can tell.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);
use JSON::PP;
use FindBin;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$node->append_conf('postgresql.conf', "fsync = off\ntimezone = 'UTC'\nlc_messages = 'C'\nshared_preload_libraries = 'meter'\nmeter.worker_databases = 'postgres'\nmeter.fold_interval = 100ms\n");
$node->start;
my $sql = sub { $node->safe_psql($_[1] // 'postgres', $_[0]) };

# --- a transaction left open while the worker waits for the tables to settle

$sql->(<<'SQL');
CREATE EXTENSION meter;
CREATE ROLE attacker LOGIN;
CREATE ROLE victim LOGIN;
SET client_min_messages = error;
SELECT count(*) FROM meter.create_partitions(0, '2026-01-15');
SELECT meter.grant_access('attacker', 'admin', 'attacker'), meter.grant_access('victim', 'admin', 'victim');
SET meter.org = 'attacker';
SELECT FROM meter.create_meter('tokens');
SET meter.org = 'victim';
SELECT FROM meter.create_meter('tokens');
SELECT meter.record_event('tokens', 'ann', 5, event_time => '2026-01-15');
SQL
my $as = sub { my ($role, $statement) = @_; $node->psql('postgres', $statement, extra_params => [ '-U', $role ]) };
my $opened = time;
my $held = $node->background_psql('postgres', extra_params => [ '-U', 'attacker' ]);
$held->query_safe("BEGIN; SELECT FROM meter.create_meter('held')");

# --- settings: whatever a client sets, the same is recorded and answered

my @names = ('plain', q(it's), q("quoted"), q(back\\slash\\), q(\\' OR 1=1 --), q($1), q($$;$$), q(%s%n%I), "new\nline", "tab\t", q(a,b{c}d), q('; DROP TABLE canary; --), "\x{e2}\x{80}\x{99}", '{"a":1}', '/* */', 'NULL', ' ', ':x', q(E'\\x'));
$sql->('CREATE DATABASE matrix');
$sql->(<<'SQL', 'matrix');
CREATE EXTENSION meter;
CREATE TABLE canary ();
CREATE TABLE hostile (n int, name text);
SELECT FROM meter.create_partitions(1, '2026-01-15');
SELECT FROM meter.create_meter('dense', dimensions => '{model,region}');
SELECT FROM meter.record_events((SELECT jsonb_agg(jsonb_build_object('event_name', 'dense', 'user_id', 'user-' || i % 40, 'value', i * 0.001, 'idempotency', 'k' || i, 'dimensions', jsonb_build_object('model', 'm' || i % 7, 'region', i % 5),
    'timestamp', '2026-01-01T00:00:00Z'::timestamptz + i * interval '13 minutes')) FROM generate_series(1, 4000) AS i));
SELECT meter.fold();
SELECT FROM meter.record_events((SELECT jsonb_agg(jsonb_build_object('event_name', 'dense', 'user_id', 'user-' || i % 40, 'dimensions', jsonb_build_object('model', 'm' || i % 7), 'timestamp', '2026-01-20T00:00:00Z')) FROM generate_series(1, 300) AS i));
-- What a statement fails with, in full; its one parameter is the name.
CREATE FUNCTION failure(statement text, name text) RETURNS text LANGUAGE plpgsql SET standard_conforming_strings = on AS $$
DECLARE
    detail text;
    hint text;
BEGIN
    EXECUTE statement USING name;
    RETURN 'none';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(' | ', SQLSTATE, SQLERRM, detail, hint);
END $$;
SQL
for my $n (0 .. $#names)
{
	my $bytes = unpack 'H*', $names[$n];
	$sql->("INSERT INTO hostile VALUES ($n, convert_from('\\x$bytes', 'UTF8'))", 'matrix');
}

# Each name in each place where there is text, and questions about many cells. Written without any
# literal that a setting could change.
my $workload = <<'SQL';
BEGIN;
SELECT count(*) FROM hostile, meter.create_meter(name, 'sum', ARRAY[name], name, name, jsonb_build_object(name, name)) AS m WHERE m.event_name = hostile.name AND m.dimensions = ARRAY[hostile.name] AND m.currency = hostile.name;
CREATE TEMP TABLE first AS SELECT n, meter.record_event(name, name, 1.5, jsonb_build_object(name, name), name, '2026-01-15T01:00:00Z', jsonb_build_object(name, name)) AS id FROM hostile ORDER BY n;
SELECT count(*) FROM hostile JOIN first USING (n) WHERE meter.record_event(name, name, 1.50, jsonb_build_object(name, name), name) = id;
SELECT n, status, error FROM hostile, meter.record_events(jsonb_build_array(jsonb_build_object('event_name', name, 'user_id', name, 'value', 2, 'dimensions', jsonb_build_object(name, name), 'idempotency', name),
    jsonb_build_object('event_name', name, 'user_id', name, 'dimensions', jsonb_build_object(name, name), 'timestamp', '2026-01-15T02:00:00Z'), jsonb_build_object('event_name', name, 'user_id', name, 'x' || name, 1))) ORDER BY n, ordinal;
SELECT n, status, error FROM hostile, meter.record_events(ARRAY[name, name || 'x'], ARRAY[name, name], NULL, ARRAY[jsonb_build_object(name, name), '{}'], ARRAY['second' || name, NULL], ARRAY['2026-01-15T03:00:00Z', NULL]::timestamptz[], ARRAY[jsonb_build_object(name, ARRAY[name]), '{}']) ORDER BY n, ordinal;
SELECT n, status, error FROM hostile, meter.ingest(jsonb_build_object('event_name', name, 'user_id', name, 'dimensions', jsonb_build_object(name, name), 'timestamp', '2026-01-15T04:00:00Z', 'metadata', jsonb_build_object(name, name))::text) ORDER BY n;
SELECT n, status, error FROM hostile, meter.ingest(name) ORDER BY n, ordinal;
INSERT INTO meter.event_load SELECT name, name, 3, jsonb_build_object(name, name), 'loaded' || name, '2026-01-15T05:00:00Z' FROM hostile;
INSERT INTO meter.event_load_json SELECT jsonb_build_object('event_name', name, 'user_id', name, 'idempotency', 'json' || name, 'dimensions', jsonb_build_object(name, name), 'timestamp', '2026-01-15T06:00:00Z')::text FROM hostile;
SELECT n, value, event_count, u.user_id = name, dimensions = jsonb_build_object(name, name) FROM hostile, meter.usage(name, '2026-01-15T00:30:00Z', '2026-01-16T00:00:00Z', name, ARRAY[name, 'user_id'], jsonb_build_object(name, jsonb_build_array(name, 'x')), 'day') AS u ORDER BY n;
SELECT meter.fold();
SELECT n, value, event_count, u.user_id = name, dimensions = jsonb_build_object(name, name) FROM hostile, meter.usage(name, '2026-01-15T00:30:00Z', '2026-01-16T00:00:00Z', NULL, ARRAY['user_id', name], jsonb_build_object(name, name), fill => true) AS u ORDER BY n;
SELECT n, count(*), sum(value), bool_and(e.metadata = jsonb_build_object(name, name)) FROM hostile, meter.list_events(name, user_id => name, filter => jsonb_build_object(name, name)) AS e WHERE metadata <> '{}' AND value = 1.5 GROUP BY n ORDER BY n;
SELECT u.event_name, u.user_id, value, event_count FROM meter.usage_report('2026-01-15T00:00:00Z', '2026-01-16T00:00:00Z') AS u WHERE event_name <> 'dense' ORDER BY 1, 2;
SELECT event_name, pending_rows, set_aside, cells FROM meter.status ORDER BY 1;
SELECT count(meter.leave_out(name, name)) FROM hostile;
SELECT sum(meter.take_in(name, name)) FROM hostile;
SELECT count(*) FROM hostile, meter.update_meter(name, name || name, currency => name, metadata => jsonb_build_object(name, 1)) AS m WHERE m.name = hostile.name || hostile.name;
SELECT count(*) FROM hostile, meter.add_dimension(name, 'x' || name);
SELECT n, failure('SELECT meter.add_dimension($1, $1)', name), failure('SELECT meter.usage($1, now(), now(), bucket => $1)', name), failure('SELECT meter.usage($1, now(), now(), time_zone => $1)', name),
    failure('SELECT meter.usage($1, now(), now(), aggregation => $1)', name), failure('SELECT meter.usage($1, now(), now(), group_by => ARRAY[$1 || $1])', name), failure('SELECT meter.usage($1 || $1, now(), now())', name),
    failure('SELECT meter.create_meter($1 || $1, $1)', name), failure('SELECT meter.record_event($1, $1, 1, jsonb_build_object($1 || $1, 1))', name), failure('SELECT meter.record_event($1, $1, 7, ''{}'', $1)', name),
    failure('SELECT meter.grant_access($1, ''reader'', $1)', name), failure('SELECT meter.grant_access(current_user, $1)', name), failure('SELECT meter.create_meter($1, ''count'', if_not_exists => true)', name),
    failure('SELECT meter.record_event($1, $1, 1, event_time => ''2050-01-01Z'')', name) ~ 'lies', failure('SELECT meter.usage($1, ''2026-02-01Z'', ''2026-01-01Z'')', name) ~ 'lies before', failure('SELECT meter.drop_meter($1)', name) FROM hostile ORDER BY n;
SELECT count(*) FROM hostile, meter.verify('2026-01-01Z', '2026-02-01Z', name) WHERE n IN (3, 11);
SELECT sum(meter.rebuild('2026-01-01Z', '2026-02-01Z', name)) FROM hostile;
SELECT count(*) FROM hostile WHERE meter.erase_user(name, 'gone' || n) = 'gone' || n;
SELECT count(*) FROM hostile, meter.archive_meter(name) AS m WHERE m.archived_at IS NOT NULL;
SELECT n, m.name = hostile.name || hostile.name, m.metadata = jsonb_build_object(hostile.name, 1) FROM hostile, meter.list_meters(true) AS m WHERE event_name = hostile.name ORDER BY n;
SELECT extract(epoch FROM bucket_start), extract(epoch FROM bucket_end), user_id, dimensions, value, event_count FROM meter.usage('dense', '2026-01-01T03:04:05Z', '2026-02-01T00:00:00Z', group_by => '{user_id,model}', bucket => 'week', time_zone => 'Asia/Kolkata') ORDER BY 1, 3, 4;
SELECT extract(epoch FROM bucket_start), dimensions, value, event_count FROM meter.usage('dense', '2026-01-05T00:00:00Z', '2026-01-06T00:00:00Z', group_by => '{region}', bucket => 'hour', time_zone => 'America/New_York', fill => true, aggregation => 'last') ORDER BY 1, 2;
SELECT value, event_count FROM meter.usage('dense', '2026-01-05T00:10:00Z', '2026-01-26T11:00:00Z', 'user-3', filter => '{"model": ["m1", "m2"]}');
SELECT meter.sum_by(value, dimensions, '{model,region}') = (SELECT meter.sum_by(value, dimensions, '{model,region}') FROM meter.meter_event WHERE id > 0), md5(meter.sum_by(value, dimensions, '{model,region}')::text), md5(meter.last_by(value, "timestamp", dimensions, '{region}')::text), md5(meter.count_by(dimensions, '{model}')::text), meter.last(value, "timestamp", id) FROM meter.meter_event;
SELECT count(*), sum(value) FROM meter.list_events('dense', filter => '{"region": 3}', max_rows => 500);
SELECT count(*) FROM meter.verify('2026-01-01T00:00:00Z', '2026-02-01T00:00:00Z');
SELECT count(*) FROM canary;
ROLLBACK;
SQL
my $directory = PostgreSQL::Test::Utils::tempdir;
append_to_file("$directory/workload.sql", $workload);
my $run = sub {
	my (@settings) = @_;
	local $ENV{PGOPTIONS} = join ' ', map { "-c $_" } @settings;
	my ($out, $err) = run_command([ 'psql', '-XAtq', '-f', "$directory/workload.sql", '-d', $node->connstr('matrix') ]);
	# Timestamps of now in messages.
	return "$out\n$err" =~ s/psql:\S+ //gr;
};
my $expected = $run->();
unlike($expected, qr/ERROR|FATAL/, 'the statements work') or diag(substr $expected, 0, 3000);
my $names = @names;
my @facts = split /\n/, $expected;
is_deeply([ @facts[0, 1] ], [ $names, $names ], 'each name is a meter, a dimension, a user, a key');
my $settings_parallel = $node->pg_version >= 16 ? 'debug_parallel_query=on' : 'force_parallel_mode=on';
my @matrix = (
	[ 'standard_conforming_strings=off', 'escape_string_warning=off', 'backslash_quote=on' ],
	[ 'transform_null_equals=on', 'array_nulls=off', 'quote_all_identifiers=on' ],
	[ 'datestyle=SQL,DMY', 'intervalstyle=sql_standard', 'timezone=Asia/Kathmandu', 'extra_float_digits=-15', 'bytea_output=escape' ],
	[ 'datestyle=German', 'timezone=America/St_Johns', 'timezone_abbreviations=Australia' ],
	[ 'enable_seqscan=off', 'enable_partition_pruning=off', 'constraint_exclusion=on', 'plan_cache_mode=force_custom_plan', 'row_security=off', 'jit=off' ],
	[ 'enable_indexscan=off', 'enable_bitmapscan=off', 'enable_indexonlyscan=off', 'enable_mergejoin=off', 'jit=off' ],
	[ 'enable_hashagg=off', 'enable_nestloop=off', 'enable_material=off', 'enable_memoize=off', 'jit=off' ],
	[ $settings_parallel, 'parallel_setup_cost=0', 'parallel_tuple_cost=0', 'min_parallel_table_scan_size=0', 'min_parallel_index_scan_size=0', 'jit=off' ],
	[ 'work_mem=64kB', 'hash_mem_multiplier=1', 'maintenance_work_mem=1MB', 'temp_buffers=800kB' ],
	[ 'from_collapse_limit=1', 'join_collapse_limit=1', 'geqo_threshold=2', 'cursor_tuple_fraction=0.000001', 'default_statistics_target=1' ],
	[ 'meter.direct_insert=off', 'default_toast_compression=pglz', 'synchronous_commit=off', 'check_function_bodies=off' ],
	[ 'search_path=nowhere,pg_temp,public', 'meter.max_usage_rows=100000000', 'deadlock_timeout=1ms' ],
);
# Who may set them all is a superuser: for others it is fewer.
@matrix = map { [ grep { !/deadlock_timeout/ } @$_ ] } @matrix;
for my $settings (@matrix)
{
	my $answer = $run->(@$settings);
	ok($answer eq $expected, "the same under @$settings") or do {
		my @got = split /\n/, $answer;
		my ($i) = grep { ($got[$_] // '') ne ($facts[$_] // '') } 0 .. $#facts;
		diag("line $i: " . ($got[$i] // 'nothing') . "\ninstead of: $facts[$i]") if defined $i;
	};
}

# --- a login that is bound

for my $way ([ 'options', sub { local $ENV{PGOPTIONS} = '-c meter.org=victim'; $as->('attacker', 'SELECT DISTINCT org FROM meter.list_meters()') } ],
	[ 'a setting of the role', sub { $as->('attacker', q(ALTER ROLE attacker SET meter.org = 'victim')); $as->('attacker', 'SELECT DISTINCT org FROM meter.list_meters()') } ],
	[ 'SET LOCAL in a function', sub { $as->('attacker', q(CREATE FUNCTION pg_temp.f() RETURNS SETOF text LANGUAGE sql SET meter.org = 'victim' AS 'SELECT DISTINCT org FROM meter.list_meters()'; SELECT pg_temp.f())) } ])
{
	my ($status, $out, $err) = $way->[1]->();
	is($out, 'attacker', "its org is its own, by $way->[0]");
}
for my $statement ('SET SESSION AUTHORIZATION victim', 'SET ROLE victim', 'COPY meter.meter_event TO STDOUT', 'COPY (SELECT * FROM meter.event_key) TO STDOUT', 'ALTER ROLE attacker SET session_replication_role = replica',
	'ANALYZE (VERBOSE) meter.meter_event; SELECT 1/0', 'SET meter.worker_databases = x', "SELECT * FROM pg_ls_dir('.')")
{
	my ($status, $out, $err) = $as->('attacker', $statement);
	isnt($status, 0, "refused: $statement");
	unlike("$out$err", qr/\bann\b/, '... and nothing is shown');
}
is(($as->('attacker', "COPY meter.event_load (event_name, user_id, idempotency) FROM STDIN;\ntokens\tann\tk\n\\.\nSELECT count(*) FROM meter.list_events('tokens')"))[1], 1, 'what it copies is its own');

# --- transactions left open: no other waits for them, but for who drops what they use

my $open = $node->background_psql('postgres', extra_params => [ '-U', 'attacker' ]);
$open->query_safe(q(BEGIN; SELECT meter.record_event('tokens', 'ann', 1, '{}', 'same key', '2026-01-15'); SELECT FROM meter.update_meter('tokens', name => 'T');
	SELECT FROM meter.create_meter('more'); SELECT FROM meter.add_dimension('more', 'x') WHERE false; SELECT count(*) FROM meter.usage_report('2026-01-01', '2026-02-01'); SELECT count(*) FROM meter.status;
	SELECT count(*) FROM meter.list_events('tokens'); SELECT count(*) FROM meter.list_meters()));
my $start = time;
is(($as->('victim', q(SET statement_timeout = '3s'; SELECT meter.record_event('tokens', 'ann', 1, '{}', 'same key', '2026-01-15') > 0)))[1], 't', 'the same user and key of another org does not wait');
is(($as->('victim', q(SET statement_timeout = '3s'; SELECT value FROM meter.usage('tokens', '2026-01-01', '2026-02-01'))))[1], 6, 'nor does a question');
is(($as->('victim', q(SET statement_timeout = '3s'; SELECT event_name FROM meter.create_meter('more'))))[1], 'more', 'nor a meter of the same name');
# Making partitions does, for as long as it says; nobody else waits behind it for longer.
my ($status, $out, $err) = $node->psql('postgres', "SET client_min_messages = error; SELECT count(*) FROM meter.create_partitions(0, '2025-11-01')");
like($err, qr/could not lock .* within 3s|lock timeout/, 'who makes partitions gives up');
is(($as->('victim', q(SET statement_timeout = '3s'; SELECT meter.record_event('tokens', 'ann', 1, '{}', 'after', '2026-01-15') > 0)))[1], 't', 'and is in nobody else\'s way');
is($sql->(q(SET statement_timeout = '3s'; SELECT meter.fold() >= 0)), 't', 'nor a fold');
is($sql->(q(SET statement_timeout = '3s'; SET meter.org = 'victim'; SELECT meter.rebuild('2026-01-01', '2026-02-01'))), 3, 'nor a rebuild');
for my $function (q(meter.erase_user('ann')), q(meter.leave_out('tokens')), q(meter.take_in('tokens')), q(meter.fold()), q(meter.rebuild('2026-01-01', '2026-02-01')))
{
	like(($as->('attacker', "SELECT $function"))[2], qr/permission denied/, "it cannot take the lock of the rollups: $function");
}
$open->query_safe('ROLLBACK');
$open->quit;

# The worker has settled and folds, in spite of the transaction that has been open since the start.
$sql->(q(SET meter.org = 'victim'; SELECT meter.record_event('tokens', 'bob', 1, event_time => '2026-01-15')));
ok($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM meter.rollup_pending'), 'the worker folds');
cmp_ok(time - $opened, '>', 6, 'after a transaction of a bound role was open for longer than tables take to settle');
is($sql->(q(SELECT count(*) FROM pg_stat_activity WHERE usename = 'attacker' AND state = 'idle in transaction' AND xact_start < now() - interval '5 seconds')), 1, '... and still is');
$held->query_safe('ROLLBACK');
$held->quit;

# --- values at the bounds and dimensions without end

my $ask_blocks = sub {
	my ($question) = @_;
	my $out = $sql->("SET meter.org = 'victim'; CREATE TEMP TABLE t AS $question; EXPLAIN (ANALYZE, BUFFERS, FORMAT json) $question");
	my $plan = decode_json($out);
	return $plan->[0]{Plan}{'Shared Hit Blocks'} + $plan->[0]{Plan}{'Shared Read Blocks'};
};
$sql->(q(SET meter.org = 'victim'; SELECT FROM meter.record_events((SELECT jsonb_agg(jsonb_build_object('event_name', 'tokens', 'user_id', 'user-' || i % 20, 'dimensions', jsonb_build_object('m', i % 5), 'timestamp', '2026-01-02T00:00:00Z'::timestamptz + i * interval '40 minutes')) FROM generate_series(1, 1000) AS i))));
$node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM meter.rollup_pending');
my @questions = map { "SELECT * FROM meter.usage('tokens', '2026-01-01', '2026-02-01'$_)" } ", 'user-3', '{m}'", ", NULL, '{m}', bucket => 'day'", ", NULL, '{user_id}'";
my @before = map { $ask_blocks->($_) } @questions;
my $poison = q(SET client_min_messages = warning; SET meter.org = 'attacker';
SELECT status, count(*) FROM meter.record_events((SELECT jsonb_agg(jsonb_build_object('event_name', 'tokens', 'user_id', CASE WHEN i % 2 = 0 THEN 'u' ELSE repeat('u', 240) || i END,
    'value', CASE i % 4 WHEN 0 THEN '999999999999999999999999999999.999999999999999999' WHEN 1 THEN '-999999999999999999999999999999.999999999999999999' WHEN 2 THEN '0.000000000000000001' ELSE '-0.000000000000000001' END::numeric,
    'dimensions', CASE WHEN i % 100 = 0 THEN (SELECT jsonb_object_agg('d' || d, repeat('x', 40) || i) FROM generate_series(1, 32) AS d) ELSE jsonb_build_object('id', i) END,
    'timestamp', CASE i % 3 WHEN 0 THEN '1970-01-01T00:00:00Z'::timestamptz + i % 600 * interval '1 month' ELSE '2026-01-15T00:00:00Z'::timestamptz + i * interval '1 minute' END, 'idempotency', repeat('k', 240) || i)) FROM generate_series(1, 30000) AS i)) GROUP BY 1);
is($sql->($poison), 'recorded|30000', 'values at the bounds, long names, and tens of thousands of sets of dimensions are recorded');
$start = time;
ok($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM meter.rollup_pending'), 'and folded');
note(sprintf '%.1f s', time - $start);
is($sql->(q(SET meter.org = 'attacker'; SELECT set_aside, pending_rows FROM meter.status WHERE event_name = 'tokens')), '0|0', 'none is set aside');
is($sql->(q(SET meter.org = 'attacker'; SELECT value = (SELECT sum(value) FROM meter.meter_event e JOIN meter.meter m ON m.id = e.meter_id WHERE org = 'attacker' AND event_name = 'tokens'), event_count FROM meter.usage('tokens', '1970-01-01', '2027-01-01'))), 't|30001', 'what they add up to is exact');
for my $i (0 .. $#questions)
{
	my $after = $ask_blocks->($questions[$i]);
	cmp_ok($after, '<', 2 * $before[$i] + 100, "another org's question reads $after blocks, and read $before[$i]: $questions[$i]");
}
# Beside a fold of the worker the other org records as before.
$start = time;
$as->('victim', join ';', map { "SELECT meter.record_event('tokens', 'u$_')" } 1 .. 100);
note(sprintf '100 events in %.2f s', time - $start);
is($sql->("SET meter.org = 'victim'; SELECT count(*) FROM meter.verify('2026-01-01', '2026-02-01')"), 0, 'its rollups are right');
unlike(slurp_file($node->logfile), qr/cannot be folded|cannot fold|PANIC|TRAP/, 'the worker had no trouble');

# --- the install script: nothing that another could have made before is taken over, and no name that
# could be spelled by another reaches SQL unquoted

my $source = $ENV{METER_SOURCE} || "$FindBin::Bin/../..";
for my $file (glob("$source/src/sql/*.sql"), glob("$source/updates/*.sql"))
{
	my $text = slurp_file($file) =~ s/--.*$//mgr;
	my ($name) = $file =~ m{([^/]+)$};
	unlike($text, qr/\bOR\s+REPLACE\b|\bIF\s+NOT\s+EXISTS\b(?!\s*\()/i, "$name replaces nothing, and takes nothing that is there");
	unlike($text, qr/\@ext(?:owner|schema)/i, "$name has no text put in for names");
	unlike($text, qr/SECURITY\s+DEFINER/i, "$name defines nothing that runs as its owner");
	my @unqualified = grep { !/^meter\b/ } $text =~ /^CREATE\s+(?:FUNCTION|PROCEDURE|TABLE|VIEW|SEQUENCE|TYPE|AGGREGATE)\s+(\S+)/mg;
	is("@unqualified", '', "$name qualifies what it makes");
	my @plain = $text =~ /(CREATE\s+(?:FUNCTION|PROCEDURE)(?:(?!;\n).)*?LANGUAGE\s+(?:sql|plpgsql)(?:(?!AS\s+\$).)*)/sg;
	is(scalar(grep { !/SET search_path = pg_catalog, pg_temp/ } @plain), 0, "$name: functions not in C pin their search path");
}
like(slurp_file("$source/meter.control"), qr/^schema\s*=\s*'?meter'?\s*$/m, 'the schema is fixed');

$node->stop;
done_testing();
