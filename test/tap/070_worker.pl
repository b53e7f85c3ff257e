# slow: it waits for what must not happen.
# The background worker: it folds by itself and only where it may, says what it does, outlives
# errors, and stops at once.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--encoding=UTF8', '--no-locale' ], allows_streaming => 'logical');
$node->append_conf('postgresql.conf', "autovacuum = off\ntimezone = 'UTC'\n");
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE app; CREATE DATABASE "Odd, Db"; CREATE DATABASE plain');

# A statement's answer, or why there is none.
sub ask
{
	my ($server, $database, $statement) = @_;
	my ($status, $out, $err) = $server->psql($database, $statement);
	return $status == 0 ? $out : "error: $err";
}

# Waits until the query answers 't'; returns the seconds it took, or nothing after ten times as many as
# a machine at rest needs at the most: ours may be a busy one.
sub wait_for
{
	my ($server, $database, $query, $seconds) = @_;
	my $start = time;
	while (time - $start < 10 * $seconds)
	{
		return time - $start if ask($server, $database, $query) eq 't';
		sleep 0.1;
	}
	diag("never true in $database: $query");
	return;
}

# ok() for something that is to become true within a time.
sub becomes
{
	my ($server, $database, $query, $seconds, $name) = @_;
	return ok(defined wait_for($server, $database, $query, $seconds), $name);
}

sub log_count
{
	my ($pattern, $offset, $server) = @_;
	my $log = substr slurp_file(($server // $node)->logfile), $offset // 0;
	return scalar(() = $log =~ /$pattern/g);
}

sub log_size { return -s ($_[0] // $node)->logfile; }

# Changes settings while the server runs; a value of undef takes one back.
sub configure
{
	my ($server, %setting) = @_;
	for my $name (sort keys %setting)
	{
		$server->safe_psql('postgres', defined $setting{$name} ? "ALTER SYSTEM SET $name = '$setting{$name}'" : "ALTER SYSTEM RESET $name");
	}
	$server->safe_psql('postgres', 'SELECT pg_reload_conf()');
}

my $folded = 'SELECT NOT EXISTS (SELECT FROM meter.rollup_pending)';
my $worker = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'meter worker' AND datname = current_database()";

# Cells and deltas together are what the events add up to; and how many events that is.
my $exact = <<'SQL';
WITH cells AS (
    SELECT meter_id, m, sum(n) AS n, sum(v) AS v FROM (
        SELECT meter_id, start AS m, event_count AS n, value_sum AS v FROM meter.rollup_total WHERE grain = 'm'
        UNION ALL SELECT meter_id, date_trunc('month', first_timestamp, 'UTC'), event_count, value_sum FROM meter.rollup_pending) AS t
    GROUP BY 1, 2),
users AS (
    SELECT meter_id, m, sum(n) AS n, sum(v) AS v FROM (
        SELECT meter_id, start AS m, event_count AS n, value_sum AS v FROM meter.rollup WHERE grain = 'm'
        UNION ALL SELECT meter_id, date_trunc('month', first_timestamp, 'UTC'), event_count, value_sum FROM meter.rollup_pending) AS t
    GROUP BY 1, 2),
events AS (
    SELECT meter_id, date_trunc('month', "timestamp", 'UTC') AS m, count(*) AS n, sum(value) AS v FROM meter.meter_event GROUP BY 1, 2)
SELECT (SELECT count(*) FROM (TABLE cells EXCEPT TABLE events) AS t), (SELECT count(*) FROM (TABLE events EXCEPT TABLE cells) AS t),
       (SELECT count(*) FROM (TABLE users EXCEPT TABLE events) AS t), (SELECT count(*) FROM meter.meter_event)
SQL

sub is_exact
{
	my ($server, $database, $events, $name) = @_;
	return is(ask($server, $database, $exact), "0|0|0|$events", $name);
}

sub record
{
	my ($count, $extra) = @_;
	return "SELECT count(meter.record_event('tokens', 'user-' || i % 7, i, event_time => now() - i * interval '1 minute' $extra)) FROM generate_series(1, $count) i";
}

# --- without it

is($node->safe_psql('plain', "CREATE EXTENSION meter; SELECT FROM meter.create_meter('tokens'); SELECT meter.record_event('tokens', 'ann', 5) > 0; SELECT meter.fold()"),
	"t\n1", 'without a worker meter.fold() folds');
is_exact($node, 'plain', 1, 'exactly');
is($node->safe_psql('plain', "LOAD 'meter'; SHOW meter.worker_databases"), '', 'no database has a worker unless it is named');

# --- it starts

$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'meter'
meter.worker_databases = 'app, "Odd, Db", APP, nosuch'
meter.fold_interval = 100ms
CONF
$node->restart;
my $started = time;
becomes($node, 'app', "SELECT count(*) = 2 FROM pg_stat_activity WHERE backend_type = 'meter worker'", 20,
	'there is a worker for each database that is there');
is($node->safe_psql('app', "SELECT application_name, usename IS NOT NULL FROM pg_stat_activity WHERE datname = 'app' AND backend_type = 'meter worker'"),
	'meter worker|t', 'which says what it is');
becomes($node, 'app', "SELECT query ~ 'not installed' FROM pg_stat_activity WHERE backend_type = 'meter worker' AND datname = 'app'", 10,
	'and that it has nothing to do');
for my $database ('app', 'Odd, Db')
{
	$node->safe_psql($database, <<'SQL');
CREATE EXTENSION meter;
SELECT FROM meter.create_meter('tokens');
CREATE TABLE public.fault (error bool, pause float8);
INSERT INTO public.fault VALUES (false, 0);
CREATE FUNCTION public.fail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT error FROM public.fault) THEN
        RAISE EXCEPTION 'injected error' USING ERRCODE = 'insufficient_resources', HINT = 'wait';
    END IF;
    PERFORM pg_sleep(pause) FROM public.fault WHERE pause > 0;
    RETURN NEW;
END $$;
CREATE TRIGGER fail BEFORE INSERT OR UPDATE ON meter.rollup FOR EACH ROW EXECUTE FUNCTION public.fail();
SQL
}
becomes($node, $_, "SELECT count(*) = 4 FROM pg_inherits WHERE inhparent = 'meter.meter_event'::regclass AND inhrelid <> 'meter.meter_event_default'::regclass", 20,
	"$_: the partitions of this month and the next three are made") for 'app', 'Odd, Db';
for my $database ('app', 'Odd, Db')
{
	$node->safe_psql($database, record(500, ''));
	becomes($node, $database, $folded, 5, "$database: events are folded");
	is_exact($node, $database, 500, "$database: exactly");
}
my $slowest = 0;
for (1 .. 5)
{
	$node->safe_psql('app', record(1, ''));
	my $took = wait_for($node, 'app', $folded, 5) // 5;
	$slowest = $took if $took > $slowest;
}
cmp_ok($slowest, '<', 2, 'what comes later is folded at once');
note("slowest of five: $slowest s, at an interval of 0.1 s");
my $events = 505;

# --- its settings

configure($node, 'meter.fold_interval' => '1h');
sleep 1;
$node->safe_psql('app', record(10, ''));
sleep 2;
is(ask($node, 'app', $folded), 'f', 'a longer interval is kept to');
configure($node, 'meter.fold_interval' => undef, 'meter.fold_batch' => 3);
becomes($node, 'app', $folded, 5, 'a shorter one counts at once');
$events += 10;
is_exact($node, 'app', $events, 'in small batches as well');
configure($node, 'meter.fold_batch' => undef);

# --- errors

my $offset = log_size();
$node->safe_psql('app', 'UPDATE fault SET error = true');
$node->safe_psql('app', record(10, ''));
$events += 10;
# After 1, 2 and 4 seconds.
sleep 8;
is(ask($node, 'app', $folded), 'f', 'what cannot be folded stays');
is(log_count('cannot fold: injected error', $offset), 1, 'the error is logged, once');
is(log_count('HINT:  wait', $offset), 1, 'with its hint');
like(ask($node, 'app', "SELECT query FROM pg_stat_activity WHERE backend_type = 'meter worker' AND datname = 'app'"), qr/after an error, cannot fold/,
	'and shown');
is_exact($node, 'app', $events, 'nothing is counted twice meanwhile');
$node->safe_psql('app', 'UPDATE fault SET error = false');
my $pid = ask($node, 'app', $worker);
becomes($node, 'app', $folded, 15, 'without the error it is folded');
is_exact($node, 'app', $events, 'exactly');

# A table that is locked: neither waits in the queue nor complains.
$offset = log_size();
my $locker = $node->background_psql('app');
$locker->query_safe('BEGIN; LOCK TABLE meter.rollup_days IN SHARE MODE');
$node->safe_psql('app', record(10, ''));
$events += 10;
becomes($node, 'app', "SELECT query ~ 'locked' FROM pg_stat_activity WHERE backend_type = 'meter worker' AND datname = 'app'", 5, 'a locked table is left alone');
is(ask($node, 'app', "SELECT count(*) FROM pg_locks WHERE NOT granted"), 0, 'without waiting for it');
$locker->query_safe('COMMIT');
becomes($node, 'app', $folded, 5, 'until it is free');
$locker->quit;

# The extension goes, and comes again.
is(ask($node, 'app', "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE backend_type = 'meter worker' AND locktype = 'relation'"), 0, 'idle, it holds no lock');
for (1 .. 10)
{
	$node->safe_psql('Odd, Db', "DROP EXTENSION meter CASCADE");
	$node->safe_psql('Odd, Db', "CREATE EXTENSION meter; SELECT FROM meter.create_meter('tokens');");
	sleep 0.13;
}
$node->safe_psql('Odd, Db', "DROP EXTENSION meter CASCADE");
sleep 1;
$node->safe_psql('Odd, Db', "CREATE EXTENSION meter; SELECT FROM meter.create_meter('tokens');" . record(20, ''));
becomes($node, 'Odd, Db', $folded, 15, 'an extension made anew is folded');
is_exact($node, 'Odd, Db', 20, 'exactly');
is(log_count('meter worker in database', $offset), 0, 'and nothing of it all is an error');
is(ask($node, 'app', $worker), $pid, 'it is still the same process');

# --- signals, in the middle of a fold

sub slow_fold
{
	my ($pause) = @_;
	$node->safe_psql('app', "UPDATE fault SET pause = $pause");
	$node->safe_psql('app', record(3000, q{, dimensions => jsonb_build_object('n', i)}));
	$events += 3000;
	becomes($node, 'app', "SELECT query = 'folding' AND state = 'active' AND wait_event = 'PgSleep' FROM pg_stat_activity WHERE backend_type = 'meter worker' AND datname = 'app'", 10,
		'a fold is going on');
}
$offset = log_size();
slow_fold(0.2);
$node->safe_psql('app', "SELECT pg_cancel_backend(($worker))");
for (1 .. 600) { last if log_count('cannot fold: canceling statement due to user request', $offset); sleep 0.1; }
is(log_count('cannot fold: canceling statement due to user request', $offset), 1, 'a cancelled fold is reported');
is(ask($node, 'app', $worker), $pid, 'by a worker that goes on');
is_exact($node, 'app', $events, 'it left nothing half done');
becomes($node, 'app', "SELECT query = 'folding' AND state = 'active' FROM pg_stat_activity WHERE backend_type = 'meter worker' AND datname = 'app'", 10, 'it is tried again');
$node->safe_psql('app', "SELECT pg_terminate_backend(($worker))");
my $took = wait_for($node, 'app', "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)", 10);
cmp_ok($took // 99, '<', 2, 'a worker that is terminated ends at once');
is_exact($node, 'app', $events, 'and leaves nothing half done');
$node->safe_psql('app', 'UPDATE fault SET pause = 0');
becomes($node, 'app', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'meter worker' AND datname = 'app'", 15, 'it is started again');
becomes($node, 'app', $folded, 20, 'and folds');
is_exact($node, 'app', $events, 'exactly');
slow_fold(0.2);
my $stop = time;
$node->stop('fast');
$took = time - $stop;
cmp_ok($took, '<', 5, 'a fast shutdown does not wait for a fold');
note(sprintf 'fast shutdown in the middle of a fold: %.1f s', $took);
my $ran = $stop - $started;
is(log_count('FATAL:  database "nosuch" does not exist'), 1 + int($ran / 60), sprintf('a database that is not there is a line a minute (%.0f s)', $ran));
$node->start;
$node->safe_psql('app', 'UPDATE fault SET pause = 0');
becomes($node, 'app', $folded, 30, 'after the restart it folds');
is_exact($node, 'app', $events, 'exactly');

# --- vacuum

# What came before the statistics counted is not told apart.
my $vacuums = "SELECT vacuum_count FROM pg_stat_all_tables WHERE relid = 'meter.rollup_pending'::regclass";
my $before = ask($node, 'app', $vacuums);
my $old = $node->background_psql('app');
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM meter.rollup_pending');
$node->safe_psql('app', record(30_000, ''));
$events += 30_000;
becomes($node, 'app', $folded, 20, 'a backlog is folded');
sleep 2;
is(ask($node, 'app', $vacuums), $before, 'deltas that an old snapshot keeps are not vacuumed in vain');
$old->query_safe('COMMIT');
becomes($node, 'app', "SELECT ($vacuums) > $before", 10, 'once it is gone they are');
$old->quit;
becomes($node, 'app', "SELECT n_dead_tup = 0 FROM pg_stat_all_tables WHERE relid = 'meter.rollup_pending'::regclass", 10, 'to the last');
cmp_ok(ask($node, 'app', "SELECT pg_relation_size('meter.rollup_pending')"), '>', 0, 'without giving the pages back');
is_exact($node, 'app', $events, 'and nothing else is lost');

# --- a standby

configure($node, 'meter.fold_interval' => '1h');
$node->backup('one');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'one', has_streaming => 1);
$standby->start;
sleep 1;
$node->safe_psql('app', record(40, ''));
$events += 40;
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
is(ask($standby, 'app', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'meter worker'"), 0, 'a standby has no worker');
is(ask($standby, 'app', $folded), 'f', 'what comes there stays');
is_exact($standby, 'app', $events, 'and counts');
$standby->append_conf('postgresql.auto.conf', "meter.fold_interval = '100ms'");
$standby->reload;
$standby->promote;
becomes($standby, 'app', $folded, 30, 'promoted, it is folded');
is_exact($standby, 'app', $events, 'exactly');
$standby->stop;

done_testing();
