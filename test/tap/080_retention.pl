# slow: it drops events under load.
# Dropping events and emptying the default partition: through crashes, dumps, prepared transactions,
# and beside recorders.
use strict;
use warnings;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$node->append_conf('postgresql.conf', "max_prepared_transactions = 5\nfsync = on\n");
$node->start;
my $sql = sub { $node->safe_psql('postgres', $_[0]) };
$sql->(<<'SQL');
CREATE EXTENSION meter;
SELECT meter.create_meter('tokens');
SELECT count(*) FROM meter.record_events((SELECT jsonb_agg(jsonb_build_object('event_name', 'tokens', 'user_id', 'u' || i % 7,
    'value', i, 'idempotency', 'k' || i, 'timestamp', to_char(timestamp '2025-01-01 00:20' + i * interval '20 minutes', 'YYYY-MM-DD"T"HH24:MI:SSZ')))
    FROM generate_series(0, 8999) i)) WHERE status <> 'recorded';
SELECT meter.fold();
SQL

my $placed = "SELECT string_agg(format('%s %s', replace(t::regclass::text, 'meter.meter_event_', ''), n), ', ' ORDER BY t::regclass::text COLLATE \"C\")
    FROM (SELECT tableoid AS t, count(*) AS n FROM meter.meter_event GROUP BY 1) AS p";
my $tables = "SELECT count(*) FROM pg_class WHERE relnamespace = 'meter'::regnamespace AND relkind = 'r' AND relname LIKE 'meter_event_2%'";
my $usage = "SELECT md5(string_agg(u::text, ',' ORDER BY u::text)) FROM meter.usage('tokens', '2025-01-01Z', '2025-07-01Z', group_by => '{user_id}', bucket => 'month') u";
my $before = $sql->($usage);
is($sql->($placed), 'default 9000', 'all events lie in the default partition');

# A session that keeps to a transaction, and one that runs a statement beside it.
sub open_session
{
	my ($statement) = @_;
	my $session = { in => "$statement\n\\echo reached\n", out => '', err => '' };
	$session->{timer} = IPC::Run::timer($PostgreSQL::Test::Utils::timeout_default);
	$session->{run} = IPC::Run::start([ 'psql', '-X', '-A', '-t', '-q', '-d', $node->connstr('postgres') ],
		'<', \$session->{in}, '>', \$session->{out}, '2>', \$session->{err}, $session->{timer});
	$session->{run}->pump while length $session->{in};
	return $session;
}

sub reached
{
	my ($session) = @_;
	$session->{run}->pump until $session->{out} =~ /reached/;
}

sub crash
{
	my @sessions = @_;
	$node->stop('immediate');
	for my $session (@sessions)
	{
		$session->{in} .= "\\q\n";
		eval { $session->{run}->finish };
	}
	$node->start;
}

# --- a crash while a month is moved

my $holder = open_session("BEGIN; SELECT meter.record_event('tokens', 'lost', event_time => '2025-01-20Z');");
reached($holder);
my $mover = open_session('CALL meter.empty_default_partition();');
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_locks WHERE relation = 'meter.meter_event_default'::regclass AND mode = 'AccessExclusiveLock' AND NOT granted")
	or die 'the move does not wait';
is($sql->($placed), 'default 9000', 'a move that waits has moved nothing to be seen');
is($sql->("SELECT meter.record_event('tokens', 'u1', 0, event_time => '2025-01-20Z') > 0; DELETE FROM meter.meter_event WHERE value = 0 AND idempotency IS NULL; SELECT meter.rebuild('2025-01-01Z', '2025-02-01Z') > 0"),
	"t\nt", 'and keeps no recorder waiting for longer than a moment');
crash($holder, $mover);
is($sql->($placed), 'default 9000', 'after a crash all is where it was');
is($sql->($tables), 0, 'and no table is left over');
is($sql->($usage), $before, 'nor has usage changed');

# --- emptied beside recorders and readers

$sql->("CREATE TABLE outcome (month timestamptz, status text, batch text); CREATE SEQUENCE batch");
append_to_file($node->basedir . '/load.sql', <<'SQL');
\set h random(0, 3600)
\set k random(1, 400)
INSERT INTO outcome SELECT date_trunc('month', '2025-01-01Z'::timestamptz + :h * interval '1 hour', 'UTC'), status, event_id::text
FROM meter.record_events(ARRAY['tokens'], ARRAY['load'], ARRAY[1], NULL, ARRAY['load-' || :k || '-' || :h], ARRAY['2025-01-01Z'::timestamptz + :h * interval '1 hour']);
SQL
append_to_file($node->basedir . '/read.sql', <<'SQL');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT 1 / (s.n = u.event_count)::int FROM (SELECT count(*) AS n FROM outcome WHERE status = 'recorded' AND month < '2025-05-01Z') AS s,
    meter.usage('tokens', '2025-01-01Z', '2025-04-30 23:59:59Z', 'load') AS u;
SELECT 1 / (s.n = count(*))::int FROM (SELECT count(*) AS n FROM outcome WHERE status = 'recorded') AS s,
    meter.list_events('tokens', '2025-01-01Z', '2026-01-01Z', 'load', max_rows => 100000) GROUP BY s.n;
COMMIT;
SQL
sub load
{
	my ($file, $clients, $seconds) = @_;
	my $load = { out => '', err => '' };
	$load->{run} = IPC::Run::start([ 'pgbench', '-n', '-c', $clients, '-T', $seconds, '-f', $node->basedir . "/$file", '-h', $node->host, '-p', $node->port, 'postgres' ],
		'<', \undef, '>', \$load->{out}, '2>', \$load->{err});
	return $load;
}
my $writers = load('load.sql', 3, 8);
my $readers = load('read.sql', 1, 8);
$node->poll_query_until('postgres', 'SELECT count(*) > 200 FROM outcome') or die 'no load';
my ($status, $out, $err) = $node->psql('postgres', 'CALL meter.empty_default_partition()');
is($status, 0, 'the default partition is emptied beside recorders') or diag $err;
like($err, qr/moved \d+ events to meter.meter_event_2025_05/, 'each month moved is told of');
$_->{run}->finish for $writers, $readers;
is($readers->{err} =~ /ERROR/ ? $readers->{err} : '', '', 'and a snapshot sees each event once meanwhile');
is($writers->{err} =~ /ERROR/ ? $writers->{err} : '', '', 'and none is refused');
is($sql->('SELECT count(*) FROM meter.meter_event_default'), 0, 'nothing is left in it');
is($sql->("SELECT (SELECT count(*) FROM outcome WHERE status = 'recorded') = count(*) FROM meter.meter_event WHERE user_id = 'load'"), 't', 'each event is there');
is($sql->("SELECT count(*) FROM meter.meter_event e LEFT JOIN meter.event_key k ON k.event_id = e.id WHERE k.event_id IS NULL"), 0, 'with its key');
is($sql->("SELECT count(*) FROM meter.verify('2025-01-01Z', '2025-07-01Z')"), 0, 'the rollups are exact');
is($sql->("SELECT count(DISTINCT i.inhrelid) FROM pg_inherits i WHERE inhparent = 'meter.meter_event'::regclass"), 6, 'a partition a month');
$sql->("SELECT meter.fold()");
$before = $sql->($usage);

# --- a prepared transaction, and one that is cancelled

$sql->("BEGIN; SELECT meter.record_event('tokens', 'prepared', 5, idempotency => 'p', event_time => '2025-01-05Z'); PREPARE TRANSACTION 'p'");
($status, $out, $err) = $node->psql('postgres', "SET statement_timeout = '5s'; CALL meter.drop_events('2025-02-10 07:30Z')");
like($err, qr/canceling statement due to statement timeout/, 'who recorded before the horizon is waited for, prepared or not');
is($sql->("SET timezone = 'UTC'; SELECT horizon FROM meter.retention"), '2025-02-10 07:30:00+00', 'the horizon stays');
is($sql->("SELECT count(*) FROM meter.event_key WHERE event_timestamp < '2025-02-10 07:30Z'") > 0, 1, 'nothing was deleted yet');
($status, $out, $err) = $node->psql('postgres', "SELECT meter.record_event('tokens', 'u1', 5, event_time => '2025-01-05Z')");
like($err, qr/lies before the retention horizon/, 'but older events are refused');
$sql->("COMMIT PREPARED 'p'");
is($sql->("SELECT value FROM meter.usage('tokens', '2025-01-01Z', '2025-02-01Z', 'prepared')"), 5, 'what was prepared before it counts');
$sql->("SELECT meter.fold()");
$before = $sql->($usage);

# --- a crash in the middle: keys are gone, a partition is in use

my $till_may = $usage =~ s/'2025-07-01Z'/'2025-06-01Z'/r;
my $before_crash = $sql->($till_may);
$holder = open_session('BEGIN; SELECT count(*) FROM meter.meter_event;');
reached($holder);
my $dropper = open_session("CALL meter.drop_events('2025-02-10 07:30Z');");
$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM meter.event_key WHERE event_timestamp < '2025-02-10 07:30Z'") or die 'no keys deleted';
$node->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_locks WHERE relation = 'meter.meter_event'::regclass AND mode = 'AccessExclusiveLock' AND NOT granted")
	or die 'the drop does not wait';
is($sql->("SELECT meter.record_event('tokens', 'u1', 0, event_time => '2025-06-20Z') > 0"), 't', 'recorders go on while it waits');
crash($holder, $dropper);
is($sql->("SELECT count(*) FROM meter.meter_event WHERE \"timestamp\" < '2025-02-10 07:30Z'") > 0, 1, 'events are left after the crash');
is($sql->($till_may), $before_crash, 'usage is what it was');
($status, $out, $err) = $node->psql('postgres', "SELECT meter.record_event('tokens', 'u1', 1, idempotency => 'k1', event_time => '2025-01-01 00:40Z')");
like($err, qr/lies before the retention horizon/, 'a retry whose key is gone is refused');
($status, $out, $err) = $node->psql('postgres', "CALL meter.drop_events('2025-02-10 07:30Z')");
like($err, qr/DETAIL:  1 partition, \d+ events of others, 0 keys/, 'run again, it goes on');
is($sql->("SELECT count(*) FROM meter.meter_event WHERE \"timestamp\" < '2025-02-10 07:30Z'"), 0, 'then they are gone');
is($sql->($till_may), $before_crash, 'and usage is what it was');
is($sql->("SELECT count(*) FROM meter.event_key k WHERE NOT EXISTS (SELECT FROM meter.meter_event e WHERE e.id = k.event_id)"), 0, 'and no key is left without its event');
$sql->("SELECT meter.fold(); DELETE FROM meter.meter_event WHERE \"timestamp\" >= '2025-06-01Z'; SELECT meter.rebuild('2025-06-01Z', '2025-07-01Z')");
is($sql->("SELECT value, event_count FROM meter.usage('tokens', '2025-01-01Z', '2025-02-01Z', 'u1')"), $sql->("SELECT sum(value_sum), sum(event_count) FROM meter.rollup WHERE grain = 'm' AND user_id = 'u1' AND start = '2025-01-01Z'"), 'usage of a dropped month is told by its cells');

# --- beside recorders: what was recorded is counted, once

$sql->('TRUNCATE outcome');
my $counted = $sql->("SELECT event_count FROM meter.usage('tokens', '2025-01-01Z', '2026-01-01Z', 'load')");
$writers = load('load.sql', 3, 8);
$node->poll_query_until('postgres', 'SELECT count(*) > 100 FROM outcome') or die 'no load';
for my $horizon ('2025-03-01Z', '2025-03-10Z', '2025-04-01Z', '2025-04-20 12:34Z')
{
	($status, $out, $err) = $node->psql('postgres', "CALL meter.drop_events('$horizon'); SELECT meter.fold()");
	is($status, 0, "events before $horizon are dropped beside recorders") or diag $err;
}
$writers->{run}->finish;
is($writers->{err} =~ /ERROR/ ? $writers->{err} : '', '', 'recorders get an answer for each event');
cmp_ok($sql->("SELECT count(*) FROM outcome WHERE status = 'invalid'"), '>', 0, 'some are refused');
is($sql->("SELECT event_count FROM meter.usage('tokens', '2025-01-01Z', '2026-01-01Z', 'load')") - $counted,
	$sql->("SELECT count(*) FROM outcome WHERE status = 'recorded'"), 'all others are counted, once');
is($sql->("SELECT count(*) FROM meter.meter_event WHERE \"timestamp\" < '2025-04-20 12:34Z'"), 0, 'no older event is there');
is($sql->("SELECT count(*) FROM meter.event_key k FULL JOIN meter.meter_event e ON e.id = k.event_id WHERE e.id IS NULL OR (k.event_id IS NULL AND e.idempotency IS NOT NULL)"), 0, 'keys and events agree');
is($sql->("SELECT count(*) FROM meter.verify('2025-05-01Z', '2025-07-01Z')"), 0, 'the rollups are exact');

# --- dump and restore

$before = $sql->($usage);
$sql->('CREATE DATABASE copy');
my $dump = $node->basedir . '/dump.sql';
command_ok([ 'pg_dump', '-h', $node->host, '-p', $node->port, '-f', $dump, 'postgres' ], 'a dump');
command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-d', $node->connstr('copy'), '-f', $dump ], 'is restored');
is($node->safe_psql('copy', $usage), $before, 'with the usage of what was dropped');
is($node->safe_psql('copy', $placed), $sql->($placed), 'and the events where they were');
($status, $out, $err) = $node->psql('copy', "SELECT meter.record_event('tokens', 'u1', 1, event_time => '2025-04-20 12:33Z')");
like($err, qr/lies before the retention horizon/, 'the copy knows the horizon');
($status, $out, $err) = $node->psql('copy', "SELECT FROM meter.usage('tokens', '2025-01-01Z', '2025-04-20 12:33Z')");
like($err, qr/cannot be told any more/, 'in reading too');
($status, $out, $err) = $node->psql('copy', "CALL meter.drop_events('2025-06-01Z')");
is($status, 0, 'and drops more') or diag $err;
is($node->safe_psql('copy', $usage), $before, 'its usage stays');

done_testing();
