-- Dropping events, and emptying the default partition.
SET meter.dense_events = 2;
TRUNCATE meter.meter, meter.meter_event, meter.event_key, meter.rollup_pending, meter.rollup_generation, meter.rollup_state, meter.rollup, meter.rollup_total, meter.rollup_days, meter.rollup_month, meter.rollup_meter, meter.usage_limit, meter.limit_usage, meter.alert_rule, meter.alert, meter.event_void, meter.retention RESTART IDENTITY;
DO $$
DECLARE
    partition regclass;
BEGIN
    FOR partition IN SELECT inhrelid::regclass FROM pg_inherits
                     WHERE inhparent = 'meter.meter_event'::regclass AND inhrelid <> 'meter.meter_event_default'::regclass LOOP
        EXECUTE format('DROP TABLE %s', partition);
    END LOOP;
END
$$;
CREATE FUNCTION pg_temp.sqlstate_of(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text; message text; detail text; hint text;
BEGIN
    EXECUTE query;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
        detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(' | ', state, message, nullif(detail, ''), nullif(hint, ''));
END
$$;
SET TIME ZONE 'UTC';
SET datestyle = 'ISO';

-- Three users of dense usage, an event each hour; one of sparse usage, an event each nine days.
SELECT count(*) FROM meter.create_meter('tokens', 'sum', '{model}');
SELECT count(*) FROM meter.create_meter('level', 'last');
SELECT status, count(*) FROM meter.record_events((
    SELECT jsonb_agg(jsonb_build_object('event_name', 'tokens', 'user_id', 'u' || i % 3, 'value', i, 'idempotency', 'k' || i,
        'dimensions', jsonb_build_object('model', 'm' || i % 2), 'timestamp', to_char('2025-01-01 00:20Z'::timestamptz + i * interval '1 hour', 'YYYY-MM-DD"T"HH24:MI:SSZ')))
    FROM generate_series(0, 2999) i)) GROUP BY 1;
SELECT status, count(*) FROM meter.record_events((
    SELECT jsonb_agg(jsonb_build_object('event_name', e, 'user_id', 'rare', 'value', i, 'idempotency', 'k' || i,
        'timestamp', to_char('2025-01-05 12:30Z'::timestamptz + i * interval '9 days', 'YYYY-MM-DD"T"HH24:MI:SSZ')))
    FROM generate_series(0, 12) i, unnest('{tokens,level}'::text[]) e)) GROUP BY 1;
SELECT meter.fold() > 0 AS folded;
CREATE TEMPORARY TABLE before AS
    SELECT 'report' AS what, to_jsonb(r) AS r FROM meter.usage_report('2025-01-01Z', '2025-06-01Z') r
    UNION ALL SELECT 'months', to_jsonb(r) FROM meter.usage('tokens', '2025-01-01Z', '2025-06-01Z', group_by => '{user_id,model}', bucket => 'month') r
    UNION ALL SELECT 'days', to_jsonb(r) FROM meter.usage('tokens', '2025-01-10Z', '2025-05-07Z', 'u1', bucket => 'day', time_zone => 'America/New_York') r
    UNION ALL SELECT 'total', to_jsonb(r) FROM meter.usage('tokens', '2025-01-10 05:00Z', '2025-05-07Z', group_by => '{model}') r
    UNION ALL SELECT 'events', to_jsonb(e) FROM meter.meter_event e WHERE "timestamp" >= '2025-03-10 07:30Z';
CREATE VIEW changed AS
    WITH now AS (
        SELECT 'report' AS what, to_jsonb(r) AS r FROM meter.usage_report('2025-01-01Z', '2025-06-01Z') r
        UNION ALL SELECT 'months', to_jsonb(r) FROM meter.usage('tokens', '2025-01-01Z', '2025-06-01Z', group_by => '{user_id,model}', bucket => 'month') r
        UNION ALL SELECT 'days', to_jsonb(r) FROM meter.usage('tokens', '2025-01-10Z', '2025-05-07Z', 'u1', bucket => 'day', time_zone => 'America/New_York') r
        UNION ALL SELECT 'total', to_jsonb(r) FROM meter.usage('tokens', '2025-01-10 05:00Z', '2025-05-07Z', group_by => '{model}') r
        UNION ALL SELECT 'events', to_jsonb(e) FROM meter.meter_event e WHERE "timestamp" >= '2025-03-10 07:30Z'
    ) (SELECT 'gone', * FROM before EXCEPT ALL SELECT 'gone', * FROM now) UNION ALL (SELECT 'new', * FROM now EXCEPT ALL SELECT 'new', * FROM before);
CREATE VIEW placed AS
    SELECT tableoid::regclass AS partition, count(*) AS events, min("timestamp") AS first FROM meter.meter_event GROUP BY 1 ORDER BY 1;

-- The default partition is emptied; a trigger that forbids to delete events has no part in it.
CREATE FUNCTION pg_temp.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'events are never deleted'; END $$;
CREATE TRIGGER refuse BEFORE DELETE ON meter.meter_event FOR EACH ROW EXECUTE FUNCTION pg_temp.refuse();
CALL meter.empty_default_partition(0);
CALL meter.empty_default_partition(700);
CALL meter.empty_default_partition(min_events => 200);
CALL meter.empty_default_partition();
SELECT count(DISTINCT reloptions) AS vacuum_settings, count(*) = count(reloptions) AS on_all
FROM pg_class JOIN pg_inherits ON inhrelid = oid WHERE inhparent = 'meter.meter_event'::regclass;
SHOW session_replication_role;
DROP TRIGGER refuse ON meter.meter_event;
SELECT * FROM placed;
SELECT * FROM changed;
SELECT count(*) FROM meter.verify('2025-01-01Z', '2025-06-01Z');
SELECT count(*) AS partitions, count(*) FILTER (WHERE indexes <> 2) AS wrong_indexes, count(*) FILTER (WHERE checks <> 1) AS wrong_checks
FROM (SELECT (SELECT count(*) FROM pg_index WHERE indrelid = inhrelid) AS indexes,
             (SELECT count(*) FROM pg_constraint WHERE conrelid = inhrelid AND contype = 'c') AS checks
      FROM pg_inherits WHERE inhparent = 'meter.meter_event'::regclass) AS p;
BEGIN; CALL meter.empty_default_partition(); ROLLBACK;

-- What drop_events does not take.
CALL meter.drop_events(NULL);
CALL meter.drop_events('infinity');
CALL meter.drop_events('1969-12-31Z');
CALL meter.drop_events(now() + interval '1 day');
BEGIN; CALL meter.drop_events('2025-03-10Z'); ROLLBACK;
DO $$ BEGIN CALL meter.drop_events('2025-03-10Z'); EXCEPTION WHEN invalid_transaction_termination THEN RAISE NOTICE '%', SQLERRM; END $$;
SET default_transaction_isolation = 'repeatable read';
CALL meter.drop_events('2025-03-10Z');
RESET default_transaction_isolation;
CREATE ROLE meter_retention_admin;
SELECT meter.grant_access('meter_retention_admin', 'admin');
SET ROLE meter_retention_admin;
CALL meter.drop_events('2025-03-10Z');
CALL meter.empty_default_partition();
RESET ROLE;
SELECT meter.revoke_access('meter_retention_admin');
DROP ROLE meter_retention_admin;
SELECT count(*) FROM meter.retention;

-- From a horizon on that is committed, before anything is deleted, as after an interruption.
INSERT INTO meter.retention VALUES ('2025-03-10 07:30Z');
SELECT * FROM changed;
SELECT pg_temp.sqlstate_of($$SELECT FROM meter.usage('tokens', '2025-01-01Z', '2025-03-09 12:10Z')$$);
SELECT meter.record_event('tokens', 'u1', 1, event_time => '2025-03-10 07:29:59.999999Z');
SELECT count(*), min("timestamp") FROM meter.list_events('tokens', max_rows => 10000);
-- Then it is done, and again there is nothing to do.
CALL meter.drop_events('2025-03-10 07:30Z');
CALL meter.drop_events('2025-03-01Z');
CALL meter.drop_events('2025-03-10 07:30Z');
SELECT * FROM meter.retention;
SELECT * FROM placed;
SELECT count(*), min(event_timestamp), (SELECT count(*) FROM meter.event_key k JOIN meter.meter_event e ON e.id = k.event_id) AS with_event FROM meter.event_key;

-- The rollups answer as before, for all users and for each.
SELECT * FROM changed;
SELECT value, event_count FROM meter.usage('tokens', '2025-01-01Z', '2025-02-01Z', 'rare');
SELECT value, event_count FROM meter.usage('level', '2025-01-01Z', '2025-03-01Z');
-- What they cannot tell is refused: edges within hours, minutes, days of sparse users; for all users together these are there.
SELECT pg_temp.sqlstate_of($$SELECT FROM meter.usage('tokens', '2025-01-01Z', '2025-02-03 12:10Z')$$);
SELECT pg_temp.sqlstate_of($$SELECT FROM meter.usage('tokens', '2025-01-01Z', '2025-02-03 12:10Z', 'u1')$$);
SELECT pg_temp.sqlstate_of($$SELECT FROM meter.usage('tokens', '2025-01-01Z', '2025-03-01Z', bucket => 'minute')$$);
SELECT pg_temp.sqlstate_of($$SELECT FROM meter.usage('tokens', '2025-01-01Z', '2025-03-01Z', bucket => 'day', time_zone => 'Asia/Kolkata')$$);
SELECT pg_temp.sqlstate_of($$SELECT FROM meter.usage('tokens', '2025-01-01Z', '2025-02-03Z', 'rare')$$);
SELECT pg_temp.sqlstate_of($$SELECT FROM meter.usage('tokens', '2025-01-01Z', '2025-02-03Z', group_by => '{user_id}')$$);
SELECT pg_temp.sqlstate_of($$SELECT FROM meter.usage('tokens', '2025-01-01Z', '2025-02-03Z', group_by => '{user_id}', bucket => 'day', fill => true)$$);
SELECT pg_temp.sqlstate_of($$SELECT FROM meter.usage_report('2025-01-01Z', '2025-02-03Z')$$);
SELECT pg_temp.sqlstate_of($$SELECT FROM meter.usage_report('2025-03-10 07:29Z', '2025-04-01Z')$$);
SELECT value, event_count FROM meter.usage('tokens', '2025-01-01Z', '2025-02-03Z');
SELECT value, event_count FROM meter.usage('tokens', '2025-01-01Z', '2025-02-03 12:00Z', 'u1');
-- Nobody was there: nothing is lost.
SELECT value, event_count FROM meter.usage('tokens', '2025-01-01Z', '2025-02-03 12:10Z', 'nobody');
SELECT value, event_count FROM meter.usage('tokens', '2024-01-01Z', '2024-12-31 23:10Z');
SELECT count(*) FROM meter.usage_report('2025-01-01Z', '2025-02-01Z', 'nobody');
-- From the horizon on all is there.
SELECT value, event_count FROM meter.usage('tokens', '2025-03-10 07:30Z', '2025-05-01 11:11Z');
SELECT value, event_count FROM meter.usage('tokens', '2025-03-10 07:30Z', '2025-05-01 11:11Z', 'rare');
SELECT pg_temp.sqlstate_of($$SELECT FROM meter.usage('tokens', '2025-03-10 07:29:59.999999Z', '2025-05-01 11:11Z')$$) LIKE '55000%' AS refused;
SELECT count(*) FROM meter.usage_report('2025-03-10 07:30Z', '2025-03-10 13:13Z');
-- Dirty cells and dimensions that were left out need the events.
UPDATE meter.rollup_month SET dirty = true WHERE month = '2025-02-01Z';
UPDATE meter.rollup_total SET dirty = true WHERE start = '2025-02-01Z' AND grain = 'm';
SELECT pg_temp.sqlstate_of($$SELECT FROM meter.usage('tokens', '2025-01-01Z', '2025-03-01Z', aggregation => 'max')$$) LIKE '55000%' AS refused;
SELECT value FROM meter.usage('tokens', '2025-01-01Z', '2025-03-01Z');
UPDATE meter.rollup_month SET dirty = false;
UPDATE meter.rollup_total SET dirty = false;
INSERT INTO meter.rollup_meter SELECT id, '{model}' FROM meter.meter WHERE event_name = 'tokens';
SELECT pg_temp.sqlstate_of($$SELECT FROM meter.usage('tokens', '2025-01-01Z', '2025-03-01Z', group_by => '{model}')$$) LIKE '55000%' AS refused;
SELECT value FROM meter.usage('tokens', '2025-01-01Z', '2025-03-01Z');
TRUNCATE meter.rollup_meter;

-- Older events are refused, with a key that was dropped and without one; in a batch each by itself.
SELECT pg_temp.sqlstate_of($$SELECT meter.record_event('tokens', 'u1', 1, '{"model": "m1"}', 'k1', '2025-01-01 01:20Z')$$);
SELECT status, error FROM meter.record_events('[{"event_name": "tokens", "user_id": "u1", "value": 1, "idempotency": "k1", "timestamp": "2025-01-01T01:20:00Z"},
    {"event_name": "tokens", "user_id": "new", "value": 0, "timestamp": "2025-03-10T07:30:00Z"}]');
SELECT status FROM meter.ingest('{"event_name": "tokens", "user_id": "u1", "timestamp": "2025-03-10T07:29:59Z"}');
SELECT pg_temp.sqlstate_of($$SELECT FROM meter.record_events('[{"event_name": "tokens", "user_id": "u1", "timestamp": "2025-01-01T01:20:00Z"}]', strict => true)$$);
-- An event that is there is a duplicate as before.
SELECT status FROM meter.record_events('[{"event_name": "tokens", "user_id": "u2", "value": 2999, "dimensions": {"model": "m1"}, "idempotency": "k2999", "timestamp": "2025-05-05T23:20:00Z"}]');

-- Listing begins at the horizon.
SELECT count(*), min("timestamp") FROM meter.list_events('tokens', max_rows => 10000);
SELECT count(*) FROM meter.list_events('tokens', max_rows => 10000, after_time => '2025-03-10 09:00Z', after_id => 0);
SELECT pg_temp.sqlstate_of($$SELECT FROM meter.list_events('tokens', '2025-03-10 07:29Z')$$);
SELECT count(*) FROM meter.list_events('tokens', '2025-03-10 07:30Z', '2025-03-10 08:30Z');
SELECT count(*) FROM meter.list_events('tokens', '-infinity', '2025-03-10 08:30Z');

-- verify and rebuild take the months that are there whole.
SELECT pg_temp.sqlstate_of($$SELECT FROM meter.verify('2025-03-20Z', '2025-06-01Z')$$);
SELECT pg_temp.sqlstate_of($$SELECT meter.rebuild('2025-03-20Z', '2025-06-01Z')$$);
SELECT count(*) FROM meter.verify('2025-04-01Z', '2025-06-01Z');
SELECT meter.rebuild('2025-04-01Z', '2025-06-01Z') > 0 AS rebuilt;
SELECT what, count(*) FROM changed GROUP BY 1 ORDER BY 1;
-- No partition is made before it, and a meter whose events were dropped is not dropped.
SELECT p::text FROM meter.create_partitions(0, '2025-01-01Z') AS p ORDER BY 1 LIMIT 1;
SELECT count(*) FROM meter.create_meter('old');
INSERT INTO meter.rollup_pending (first_timestamp, last_id, event_count, meter_id, generation, digest, event_digest, user_id, value_sum, dimensions)
SELECT '2025-01-01Z', 1, 1, id, 0, meter.dimensions_digest('{}'), meter.event_digest(1, now(), 1, '{}'), 'ann', 1, '{}' FROM meter.meter WHERE event_name = 'old';
SELECT pg_temp.sqlstate_of($$SELECT meter.drop_meter('old')$$);
SELECT meter.fold();
SELECT pg_temp.sqlstate_of($$SELECT meter.drop_meter('old')$$);

-- A horizon at the start of a month drops whole partitions; and events in the default partition go too.
SELECT meter.record_event('tokens', 'u1', 5, event_time => '2025-05-06Z') > 0 AS recorded;
CALL meter.drop_events('2025-05-01Z');
SELECT * FROM placed;
DROP TABLE meter.meter_event_2025_05;
SELECT meter.record_event('tokens', 'u1', 5, idempotency => 'd1', event_time => '2025-05-06Z') > 0 AS recorded;
SELECT meter.record_event('tokens', 'u1', 5, idempotency => 'd2', event_time => '2025-05-09Z') > 0 AS recorded;
CALL meter.drop_events('2025-05-08Z');
SELECT * FROM placed;
SELECT count(*) FROM meter.event_key;
SELECT value, event_count FROM meter.usage('tokens', '2025-05-01Z', '2025-06-01Z', 'u1');

DROP VIEW changed, placed;
TRUNCATE meter.meter, meter.meter_event, meter.event_key, meter.rollup_pending, meter.rollup_generation, meter.rollup_state, meter.rollup, meter.rollup_total, meter.rollup_days, meter.rollup_month, meter.rollup_meter, meter.usage_limit, meter.limit_usage, meter.alert_rule, meter.alert, meter.event_void, meter.retention RESTART IDENTITY;
