# slow: it records under load.
# Events enter their rows into B-trees without PostgreSQL's search for the place, and those of batches by pages. The indexes
# then have what its own insertions would have put there, in its order: by amcheck, on the primary and on a standby that compares each page with the
# primary's. Beside other batches, folds and vacuums, with indexes of someone's in other orders.
use strict;
use warnings;
use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IPC::Run ();

my $seed = $ENV{METER_SEED} // time;
note("METER_SEED=$seed");

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(extra => [ '--encoding=UTF8', '--locale=C.UTF-8' ], allows_streaming => 1);
$primary->append_conf('postgresql.conf', "timezone = 'UTC'\nautovacuum = off\nlc_messages = 'C'\nshared_buffers = 64MB\nwal_consistency_checking = 'btree'\nmax_wal_size = 4GB\n");
$primary->start;
$primary->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'copy', has_streaming => 1);
$standby->start;

$primary->safe_psql('postgres', <<'SQL');
CREATE EXTENSION meter;
CREATE EXTENSION amcheck;
SET client_min_messages = error;
SELECT count(*) FROM meter.create_partitions(1, '2026-01-01');
SELECT FROM unnest('{tokens,calls,seconds}'::text[]) AS e, meter.create_meter(e, dimensions => '{model}');
-- Indexes in other orders than that of the rows: backwards, with nulls in front, by a locale, by jsonb, of included columns, and no B-tree.
CREATE INDEX events_backwards ON meter.meter_event ("timestamp" DESC, user_id DESC);
CREATE INDEX events_by_key ON meter.meter_event (idempotency NULLS FIRST, id);
CREATE INDEX events_by_locale ON meter.meter_event (user_id COLLATE "C.utf8", value);
CREATE INDEX events_by_dimensions ON meter.meter_event (dimensions);
CREATE INDEX events_by_meter ON meter.meter_event (meter_id) INCLUDE (user_id, value);
CREATE INDEX events_hashed ON meter.meter_event USING hash (user_id);
CREATE INDEX events_by_block ON meter.meter_event USING brin ("timestamp");
CREATE INDEX keys_by_time ON meter.event_key (event_timestamp DESC);
CREATE INDEX deltas_by_time ON meter.rollup_pending (first_timestamp, last_timestamp NULLS FIRST);

-- A batch of so many events: of few users or many, whose names begin alike, at few times or many; a key in three is one of any batch's.
CREATE FUNCTION batch(amount int, tag text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    users int := 1 + random() ^ 3 * 3000;
    seconds int := 1 + random() ^ 2 * 4000000;
    names text[]; who text[]; quantities numeric[]; about jsonb[]; keys text[]; times timestamptz[];
BEGIN
    SELECT array_agg(('{tokens,calls,seconds}'::text[])[1 + i % 3]), array_agg(CASE WHEN i % 3 = 1 THEN 'anyone' WHEN i % 11 = 0 THEN repeat('n', 200) ELSE 'a user whose name is long ' END || (random() * users)::int),
        array_agg((i % 7)::numeric / 4), array_agg(jsonb_build_object('model', 'm' || i % 5)),
        array_agg(CASE i % 3 WHEN 0 THEN tag || i WHEN 1 THEN 'any' || (random() * 300000)::int END),
        array_agg(timestamptz '2026-01-03' + (random() * seconds)::int * interval '1 second')
    INTO names, who, quantities, about, keys, times FROM generate_series(1, amount) AS i;
    RETURN (SELECT count(*) FILTER (WHERE status = 'recorded') FROM meter.record_events(names, who, quantities, about, keys, times));
END $$;
-- Some events, one by one, each fifth again.
CREATE FUNCTION singles(amount int, tag text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    event bigint;
BEGIN
    FOR i IN 1..amount LOOP
        event := meter.record_event('calls', 'one ' || (random() * 2000)::int, i, idempotency => CASE WHEN i % 3 > 0 THEN tag || i END, event_time => timestamptz '2026-01-03' + (random() * 4000000)::int * interval '1 second');
        IF i % 5 = 1 AND i % 3 > 0 AND event <> meter.record_event('calls', (SELECT user_id FROM meter.meter_event WHERE id = event), i, idempotency => tag || i) THEN
            RAISE 'a retry is another event';
        END IF;
    END LOOP;
END $$;
-- Some batches, a transaction each.
CREATE PROCEDURE batches(amount int, tag text) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..amount LOOP
        PERFORM batch((CASE i % 4 WHEN 0 THEN 2 + random() * 20 WHEN 3 THEN 1000 ELSE 1 + random() * 300 END)::int, tag || '-' || i || '-');
        PERFORM singles(20, tag || '-' || i || '-one-');
        IF i % 5 = 0 THEN ROLLBACK; ELSE COMMIT; END IF;
    END LOOP;
END $$;
-- Batches of a few users at the same times, in other months than those before.
CREATE PROCEDURE crowded(amount int, tag text) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..amount LOOP
        PERFORM count(*) FROM (SELECT array_agg('tokens'::text) AS names, array_agg('crowd ' || e % 3) AS who, array_agg(1::numeric) AS quantities,
                array_agg(jsonb_build_object('model', 'm' || e % 50)) AS about, array_agg(timestamptz '2026-02-03' + (i + e % 40 * 10) * interval '1 second') AS times
            FROM generate_series(1, 400) AS e) AS b, meter.record_events(names, who, quantities, about, NULL, times);
        COMMIT;
    END LOOP;
END $$;
-- Events with the same keys as those of other sessions, a transaction each, and which event each key has. Who finds keys taken is faster, and so
-- catches up with who is ahead.
CREATE UNLOGGED TABLE raced (key int, event bigint);
CREATE PROCEDURE race(amount int) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..amount LOOP
        INSERT INTO raced VALUES (i, meter.record_event('calls', 'racer', 1, idempotency => 'race ' || i, event_time => '2026-01-03'));
        COMMIT;
    END LOOP;
END $$;
-- Every B-tree of meter's is in order, and has an entry for each row; their number.
CREATE FUNCTION check_indexes() RETURNS bigint LANGUAGE sql AS $$
SELECT count(bt_index_parent_check(c.oid, true, true)) FROM pg_class AS c JOIN pg_am AS a ON a.oid = c.relam
WHERE c.relkind = 'i' AND a.amname = 'btree' AND c.relnamespace = 'meter'::regnamespace
$$;
-- The same where nothing may be written.
CREATE FUNCTION look_at_indexes() RETURNS bigint LANGUAGE sql AS $$
SELECT count(bt_index_check(c.oid, true)) FROM pg_class AS c JOIN pg_am AS a ON a.oid = c.relam
WHERE c.relkind = 'i' AND a.amname = 'btree' AND c.relnamespace = 'meter'::regnamespace
$$;
SQL

# A session that runs the statements, while we go on: they are arguments, since IPC::Run sends a session its input only while it is waited for.
sub start_session
{
	my ($error, @statements) = @_;
	return IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $primary->connstr('postgres'), map { ('-c', $_) } @statements ], '<', \undef, '>', \my $out, '2>', $error);
}

# How many of the sessions ended well.
sub finish_sessions
{
	my $good = 0;
	$good += $_->finish ? 1 : 0 for @_;
	return $good;
}

my $indexes = $primary->safe_psql('postgres', 'SELECT check_indexes()');
cmp_ok($indexes, '>', 25, 'there are indexes to be looked at');

# Four sessions record, one folds and vacuums.
for my $round (1 .. 2)
{
	my (@sessions, @errors);
	for my $session (1 .. 4)
	{
		push @sessions, start_session(\$errors[$session], sprintf('SELECT setseed(%s)', (($seed * 7 + $round * 5 + $session) % 1000) / 1000), "CALL batches(12, '$round-$session')");
	}
	for (1 .. 5)
	{
		$primary->safe_psql('postgres', $_) for 'SELECT meter.fold()', 'VACUUM meter.rollup_pending', 'DELETE FROM meter.meter_event_2026_01 WHERE id % 10 = 1', 'VACUUM meter.meter_event_2026_01, meter.event_key';
	}
	is(finish_sessions(@sessions), 4, "round $round: every batch is recorded") or diag(@errors[1 .. 4]);
	is($primary->safe_psql('postgres', 'SELECT check_indexes()'), $indexes, "round $round: the indexes are in order");
}

# Many sessions on few leaves: while one waits for a leaf, another splits it.
is(finish_sessions(map { start_session(\my $error, "CALL crowded(40, '$_')") } 1 .. 6), 6, 'a crowd: every batch is recorded');
is($primary->safe_psql('postgres', 'SELECT check_indexes()'), $indexes, 'a crowd: the indexes are in order');

# Sessions that send the same keys at once: each key has one event, and who comes second writes no row of the ledger, nor, as a rule, takes a transaction id. (Where a
# leaf is full its row is written first, and taken back.)
sub keys_written
{
	# A session tells what it did before it ends.
	$primary->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()});
	return $primary->safe_psql('postgres', q{SELECT n_tup_ins FROM pg_stat_all_tables WHERE relid = 'meter.event_key'::regclass});
}
my $keys_before = keys_written();
is(finish_sessions(map { start_session(\my $error, 'SET synchronous_commit = off', 'CALL race(1500)') } 1 .. 6), 6, 'a race: every session has its answers');
is($primary->safe_psql('postgres', 'SELECT count(*), count(DISTINCT key), count(DISTINCT event) FROM raced'), '9000|1500|1500', 'a race: each key has one event');
is($primary->safe_psql('postgres', q{SELECT count(*) FROM meter.meter_event WHERE user_id = 'racer'}), 1500, 'a race: and there are no others');
my $written = keys_written() - $keys_before;
note("$written rows of the ledger");
cmp_ok($written, '<', 1600, 'a race: who comes second writes nothing');
$primary->safe_psql('postgres', 'CALL race(1000)');
is(keys_written() - $keys_before, $written, 'nor does a retry');
# But for one in 32, which takes an id of the sequence that is logged.
cmp_ok($primary->safe_psql('postgres', <<'SQL'), '>', 80, 'of a hundred retries, each in a transaction of its own, few take a transaction id');
CREATE PROCEDURE retry(amount int, INOUT without_id int DEFAULT 0) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM meter.record_event('calls', 'racer', 1, idempotency => 'race 1', event_time => '2026-01-03');
    COMMIT;
    FOR i IN 1..amount LOOP
        PERFORM meter.record_event('calls', 'racer', 1, idempotency => 'race ' || i, event_time => '2026-01-03');
        without_id := without_id + (pg_current_xact_id_if_assigned() IS NULL)::int;
        COMMIT;
    END LOOP;
END $$;
CALL retry(100);
SQL

# Rows that lie side by side in an index are entered by pages: to go down from the root for each takes two pages a row or more.
sub pages_visited
{
	return $primary->safe_psql('postgres', q{SELECT sum(idx_blks_read + idx_blks_hit) FROM pg_statio_all_indexes WHERE schemaname = 'meter' AND indexrelname ~ '^(meter_event_2026_02_(user|meter)_idx|rollup_pending_idx)$'});
}
my $before = pages_visited();
$primary->safe_psql('postgres', <<'SQL');
SELECT count(*) FROM meter.record_events(array_fill('tokens'::text, '{2000}'), array_fill('crowd 1'::text, '{2000}'), array_fill(1::numeric, '{2000}'), NULL, NULL,
    (SELECT array_agg('2026-02-20'::timestamptz + i * interval '1 second') FROM generate_series(1, 2000) AS i));
SQL
my $visited = pages_visited() - $before;
note("$visited pages");
cmp_ok($visited, '>', 0, 'the pages visited are counted');
cmp_ok($visited, '<', 1000, 'two thousand rows are entered into three indexes by pages');

# Keys that were taken are found, each its event, by pages of the ledger's index; also past entries of transactions that were rolled back.
my $keys = "meter.record_events(array_fill('tokens'::text, '{3000}'), array_fill('ann'::text, '{3000}'), array_fill(1::numeric, '{3000}'), NULL, (SELECT array_agg('again' || i) FROM generate_series(1, 3000) AS i), NULL)";
$primary->safe_psql('postgres', "BEGIN; SELECT count(*) FROM $keys; ROLLBACK;");
is($primary->safe_psql('postgres', "SELECT status, count(*) FROM $keys GROUP BY status"), 'recorded|3000', 'keys of a transaction that was rolled back are free');
is($primary->safe_psql('postgres', "SELECT status, count(*), count(*) FILTER (WHERE e.idempotency = 'again' || ordinal) FROM $keys AS r JOIN meter.meter_event AS e ON e.id = r.event_id GROUP BY status"),
	'duplicate|3000|3000', 'and taken then, each by its event');
sub key_pages_visited
{
	return $primary->safe_psql('postgres', q{SELECT idx_blks_read + idx_blks_hit FROM pg_statio_all_indexes WHERE schemaname = 'meter' AND indexrelname = 'event_key_pkey'});
}
$before = key_pages_visited();
is($primary->safe_psql('postgres', "SELECT count(*) FROM $keys WHERE status = 'duplicate'"), 3000, 'so they are when they come again');
$visited = key_pages_visited() - $before;
note("$visited pages");
cmp_ok($visited, '>', 0, 'the pages visited are counted');
cmp_ok($visited, '<', 1500, 'three thousand keys are looked up by pages');

# A trigger's value may be a pointer into another table's TOAST: it is fetched before it is compared.
$primary->safe_psql('postgres', <<'SQL');
CREATE TABLE alias (alias text PRIMARY KEY, filler text, user_id text);
ALTER TABLE alias ALTER filler SET STORAGE PLAIN, ALTER user_id SET STORAGE EXTERNAL;
INSERT INTO alias SELECT 'alias ' || i, repeat('x', 3000), chr(65 + i % 26) || repeat('y', 150) || i FROM generate_series(1, 200) AS i;
CREATE FUNCTION resolve() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN SELECT a.user_id INTO NEW.user_id FROM public.alias AS a WHERE a.alias = NEW.user_id; RETURN NEW; END $$;
CREATE TRIGGER resolve BEFORE INSERT ON meter.meter_event_default FOR EACH ROW EXECUTE FUNCTION resolve();
SELECT count(meter.record_event('calls', 'alias ' || i, 1, event_time => '2020-01-05')) FROM generate_series(1, 200) AS i;
SELECT count(*) FROM meter.record_events(array_fill('calls'::text, '{200}'), (SELECT array_agg('alias ' || i) FROM generate_series(1, 200) AS i), array_fill(2::numeric, '{200}'), NULL, NULL, array_fill('2020-02-05'::timestamptz, '{200}'));
DROP TRIGGER resolve ON meter.meter_event_default;
SQL
cmp_ok($primary->safe_psql('postgres', q{SELECT sum(pg_relation_size(reltoastrelid)) FROM pg_class WHERE oid = 'alias'::regclass}), '>', 0, 'the users stand in a TOAST table');
is($primary->safe_psql('postgres', 'SELECT check_indexes()'), $indexes, 'the indexes have the users themselves');

# Rows are found by each index as they are without.
sub found
{
	my ($by_index) = @_;
	my $settings = $by_index ? 'SET enable_seqscan = off; SET enable_bitmapscan = off;' : 'SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off;';
	return $primary->safe_psql('postgres', $settings . <<'SQL');
SELECT count(*), sum(value) FROM meter.meter_event WHERE user_id = repeat('n', 200) || '1';
SELECT count(*), count(DISTINCT user_id) FROM meter.meter_event WHERE user_id COLLATE "C.utf8" >= 'a user whose name is long 2';
SELECT count(*) FROM meter.meter_event WHERE idempotency IS NULL;
SELECT count(*) FROM meter.meter_event WHERE dimensions = '{"model": "m3"}';
SELECT md5(string_agg("timestamp" || user_id, ',' ORDER BY "timestamp" DESC, user_id DESC)) FROM meter.meter_event WHERE "timestamp" < '2026-01-04';
SELECT count(*) FROM meter.event_key WHERE event_timestamp < '2026-01-09';
SQL
}
is(found(1), found(0), 'rows are found by the indexes');
is($primary->safe_psql('postgres', 'SELECT count(*) - count(DISTINCT digest) FROM meter.event_key'), 0, 'no key is there twice');
cmp_ok($primary->safe_psql('postgres', 'SELECT count(*) FROM meter.meter_event'), '>', 15_000, 'there are many events');

# The standby would have stopped at a page that is not the primary's.
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('write'));
is($standby->safe_psql('postgres', 'SELECT look_at_indexes()'), $indexes, 'the standby has the same indexes');

# A server that dies has them as well.
$primary->stop('immediate');
$primary->start;
is($primary->safe_psql('postgres', 'SELECT check_indexes()'), $indexes, 'so has the primary after a crash');
$standby->stop;

# Without WAL: at wal_level minimal that of a partition that is made in the same transaction, and that of unlogged tables.
$primary->stop;
$primary->append_conf('postgresql.conf', "wal_level = minimal\nmax_wal_senders = 0\narchive_mode = off\n");
$primary->start;
my $events = "FROM meter.record_events(array_fill('seconds'::text, '{3000}'), (SELECT array_agg('minimal ' || i % 700) FROM generate_series(1, 3000) AS i), array_fill(1::numeric, '{3000}'), NULL,"
  . " (SELECT array_agg('minimal' || i) FROM generate_series(1, 3000) AS i), (SELECT array_agg('2025-11-05'::timestamptz + i * interval '1 minute') FROM generate_series(1, 3000) AS i))";
$primary->safe_psql('postgres', "BEGIN; SELECT count(*) FROM meter.create_partitions(0, '2025-11-01'); SELECT count(*) $events; SELECT meter.record_event('seconds', 'minimal', 1, event_time => '2025-11-07'); COMMIT;");
$primary->stop('immediate');
$primary->start;
is($primary->safe_psql('postgres', 'SELECT count(*) FROM meter.meter_event_2025_11'), 3001, 'events of a partition made in their transaction are there after a crash');
cmp_ok($primary->safe_psql('postgres', 'SELECT check_indexes()'), '>=', $indexes, 'and in its indexes');
is($primary->safe_psql('postgres', "SELECT status, count(*) $events GROUP BY status"), 'duplicate|3000', 'and their keys are taken');
$primary->safe_psql('postgres', 'ALTER TABLE meter.rollup_pending SET UNLOGGED; ALTER TABLE meter.event_key SET UNLOGGED;');
$primary->safe_psql('postgres', q{CALL batches(5, 'unlogged')});
cmp_ok($primary->safe_psql('postgres', 'SELECT check_indexes()'), '>=', $indexes, 'the indexes of unlogged tables are in order');
$primary->stop;
done_testing();
