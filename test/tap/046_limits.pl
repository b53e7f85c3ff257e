# slow: it records under load.
# Under many clients, retries, batches, folds, changes of the limit and a killed server process, usage
# lands exactly on the limit, no user has more, and every counter is the usage of its period. Then
# limits in a dump, on a standby, and after events have been dropped.
use strict;
use warnings;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $users = 5;
my $clients = 6;
my $limit = 2000;
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--encoding=UTF8', '--no-locale' ], allows_streaming => 1);
$node->append_conf('postgresql.conf', "restart_after_crash = on\nfsync = on\ndeadlock_timeout = 200ms\n");
$node->start;
$node->safe_psql('postgres', <<SQL);
CREATE EXTENSION meter;
SELECT meter.create_meter('tokens');
SELECT meter.create_partitions(0);
SELECT meter.set_limit('tokens', NULL, $limit), meter.set_limit('tokens', NULL, $limit, 'total', time_zone => 'Asia/Kolkata');
CREATE FUNCTION public.exact() RETURNS TABLE (user_id text, period "char", used numeric, is_exact boolean) LANGUAGE sql AS \$\$
    SELECT c.user_id, c.period, c.usage, c.usage = (SELECT COALESCE(sum(e.value), 0) FROM meter.meter_event e WHERE e.user_id = c.user_id)
    AND c.usage = (SELECT value FROM meter.usage('tokens', '1970-01-01', '9999-01-01', c.user_id))
    FROM meter.limit_usage c \$\$;
SQL

# Records until every user is at the limit. Keys are those of the client, so that what it does again
# after a crash are retries.
sub client
{
	my ($number) = @_;
	return <<SQL;
SELECT setseed(0.$number);
DO \$do\$
DECLARE
    key int := 0; amount numeric; who text; refused int := 0; again bigint; id bigint;
BEGIN
    WHILE refused < 25 LOOP
        key := key + 1;
        who := 'user-' || 1 + (random() * ($users - 1))::int;
        -- The last units are recorded one by one.
        amount := CASE WHEN refused > 0 THEN 1 ELSE 1 + (random() * 6)::int END;
        BEGIN
            IF key % 5 = 0 THEN
                PERFORM FROM meter.record_events(ARRAY['tokens', 'tokens', 'tokens'], ARRAY[who, 'user-1', 'user-$users'], ARRAY[amount, 1, 1],
                    NULL, ARRAY['$number-' || key, '$number-b-' || key, '$number-c-' || key], NULL);
            ELSIF key % 7 = 0 THEN
                PERFORM meter.record_event('tokens', who, -1, idempotency => '$number-' || key);
            ELSE
                id := meter.record_event('tokens', who, amount, idempotency => '$number-' || key);
                again := meter.record_event('tokens', who, amount, idempotency => '$number-' || key);
                IF again <> id THEN RAISE 'a retry was recorded'; END IF;
                IF random() < 0.1 THEN RAISE 'away with it' USING ERRCODE = 'ZZ000'; END IF;
            END IF;
        EXCEPTION WHEN SQLSTATE 'MT001' THEN refused := refused + 1;
            WHEN SQLSTATE 'ZZ000' OR deadlock_detected OR unique_violation THEN NULL;
        END;
        COMMIT;
    END LOOP;
END \$do\$;
SQL
}

# Starts all clients.
sub start_clients
{
	return map {
		my ($out, $err) = ('', '');
		IPC::Run::start([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-c', (split /;\n/, client($_), 2) [0],
				'-c', (split /;\n/, client($_), 2) [1] ], '>', \$out, '2>', \$err)
	} 1 .. $clients;
}

my @clients = start_clients();
usleep(700_000);
my $killed = $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE query LIKE 'DO%' LIMIT 1");
kill 'KILL', $killed if $killed;
ok($killed, 'a server process is killed');
$_->finish for @clients;
$node->poll_query_until('postgres', 'SELECT true') or die 'the server does not come back';
is($node->safe_psql('postgres', 'SELECT count(*) FROM public.exact() WHERE NOT is_exact'), 0, 'after the crash every counter is the usage');

@clients = start_clients();
for (1 .. 10)
{
	usleep(100_000);
	$node->safe_psql('postgres', 'SELECT meter.fold()');
	# A counter that is removed is made anew.
	my (undef, undef, $failed) = $node->psql('postgres', "DELETE FROM meter.limit_usage WHERE user_id = 'user-' || (1 + random() * 4)::int");
	# Which takes them in no order.
	die $failed if $failed && $failed !~ /deadlock detected/;
	# So is one whose limit has changed meanwhile: another zone, and back.
	$node->safe_psql('postgres', "SELECT meter.set_limit('tokens', NULL, $limit, time_zone => '$_')") for 'Etc/GMT-1', 'UTC';
}
ok($_->finish, 'a client ends') for @clients;
# What is left below the limit, since some event with a negative value came last, is used up.
$node->safe_psql('postgres', <<SQL);
DO \$\$
BEGIN
    FOR i IN 1 .. $users LOOP
        BEGIN
            LOOP PERFORM meter.record_event('tokens', 'user-' || i, 1); END LOOP;
        EXCEPTION WHEN SQLSTATE 'MT001' THEN NULL;
        END;
        PERFORM meter.record_event('tokens', 'user-' || i, meter.remaining('tokens', 'user-' || i));
    END LOOP;
END \$\$;
SQL
is($node->safe_psql('postgres', "SELECT count(*), min(value), max(value) FROM meter.usage('tokens', '1970-01-01', '9999-01-01', group_by => '{user_id}')"),
	"$users|$limit|$limit", 'everyone is exactly at the limit');
is($node->safe_psql('postgres', 'SELECT count(*), bool_and(is_exact), min(used), max(used) FROM public.exact()'),
	2 * $users . "|t|$limit|$limit", 'and so are the counters');
is($node->safe_psql('postgres', "SELECT count(*) FROM meter.verify('1970-01-01', '9999-01-01')"), 0, 'cells are right');
like(($node->psql('postgres', "SELECT meter.record_event('tokens', 'user-1', 0.000000000000000001)"))[2], qr/usage limit exceeded/, 'nothing more goes');

# --- a standby

$node->backup('standby');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'standby', has_streaming => 1);
$standby->start;
$node->safe_psql('postgres', "SELECT meter.record_event('tokens', 'new', 5)");
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
is($standby->safe_psql('postgres', "SELECT meter.remaining('tokens', 'new'), meter.remaining('tokens', 'user-1'), meter.remaining('tokens', 'nobody')"),
	$limit - 5 . "|0|$limit", 'a standby tells what remains, with a counter and without');
like(($standby->psql('postgres', "SELECT meter.set_limit('tokens', NULL, 5)"))[2], qr/read-only transaction|recovery/, 'and sets no limit');
$standby->stop;

# --- dump and restore

my $dump = PostgreSQL::Test::Utils::tempdir . '/dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('postgres') ], 'a dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'pg_restore', '-d', $node->connstr('restored'), $dump ], 'is restored');
is($node->safe_psql('restored', 'SELECT count(*), bool_and(is_exact) FROM public.exact()'), 2 * ($users + 1) . '|t', 'with the counters');
like(($node->psql('restored', "SELECT meter.record_event('tokens', 'user-1', 1)"))[2], qr/limit 2000 (per month|in total), used 2000/, 'and the limits');
is($node->safe_psql('restored', "SELECT id > 2 FROM meter.set_limit('tokens', 'new', 7)"), 't', 'a new one has a new number');

# --- retention: what can be told without the events counts, the rest is an error

$node->safe_psql('restored', <<'SQL');
SELECT meter.create_meter('calls', 'count');
SELECT count(*) FROM meter.create_partitions(0, '2026-01-01');
SELECT count(meter.record_event('calls', 'ann', event_time => '2026-03-10 10:00+00')) FROM generate_series(1, 5);
SELECT count(meter.record_event('calls', 'ann', event_time => '2026-03-20 10:00+00')) FROM generate_series(1, 5);
SELECT count(meter.record_event('calls', 'ben', event_time => t)) FROM unnest('{2026-02-28 10:00+00,2026-02-28 20:00+00}'::timestamptz[]) t;
SELECT meter.record_event('calls', 'ben', idempotency => k, event_time => '2026-03-20 10:00+00') FROM unnest('{a,b}'::text[]) k;
SELECT meter.fold();
SQL
$node->safe_psql('restored', "CALL meter.drop_events('2026-03-15 00:00+00')");
$node->safe_psql('restored', "SELECT meter.set_limit('calls', 'ann', 11, 'total')");
$node->safe_psql('restored', "SELECT meter.record_event('calls', 'ann', event_time => '2026-03-20 10:00+00')");
like(($node->psql('restored', "SELECT meter.record_event('calls', 'ann', event_time => '2026-03-20 10:00+00')"))[2],
	qr/limit 11 in total, used 11, requested 1/, 'dropped events count for the total');
$node->safe_psql('restored', "SELECT meter.set_limit('calls', 'ann', 100, 'total'), meter.set_limit('calls', 'ann', 100, 'month', time_zone => 'Asia/Kolkata')");
# The month in Kolkata begins within a day whose events are gone; it has none there, but for the
# event that comes on the last day of February in UTC.
like(($node->psql('restored', "SELECT meter.record_event('calls', 'ann', event_time => '2026-03-20 10:00+00')"))[2],
	qr/cannot be told any more without events that have been dropped|^$/, 'a period that cannot be told is an error');
is($node->safe_psql('restored', "SELECT count(*) FROM meter.limit_usage c WHERE meter_id = 2 AND usage <> (SELECT value FROM meter.usage('calls', '1970-01-01', '9999-01-01', 'ann'))"),
	0, 'and never wrong');
# A correction needs no counter, where one cannot be made either.
$node->safe_psql('restored', "SELECT meter.set_limit('calls', 'ben', 100, 'month', time_zone => 'Asia/Kolkata')");
like(($node->psql('restored', "SELECT meter.record_event('calls', 'ben', event_time => '2026-03-20 10:00+00')"))[2],
	qr/cannot be told any more without events that have been dropped/, 'a counter cannot be made');
is($node->safe_psql('restored', "SELECT meter.void_event('calls', 'ben', 'a', 'test') > 0"), 't', 'a void goes');
is($node->safe_psql('restored', "SELECT meter.amend_event('calls', 'ben', 'b', value => 2, reason => 'test') > 0"), 't', 'so does an amendment');
is($node->safe_psql('restored', "SELECT value FROM meter.usage('calls', '2026-03-16', '2026-04-01', 'ben')"), 1, 'and counts');
$node->stop;
done_testing();
