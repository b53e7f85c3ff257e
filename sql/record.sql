-- record_event: one event, exactly once.
TRUNCATE meter.meter, meter.meter_event, meter.event_key, meter.rollup_pending, meter.rollup_generation, meter.rollup_state, meter.rollup, meter.rollup_total, meter.rollup_days, meter.rollup_month, meter.rollup_meter, meter.usage_limit, meter.limit_usage, meter.alert_rule, meter.alert, meter.event_void RESTART IDENTITY;
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
SELECT count(*) FROM meter.create_meter('tokens', 'sum', '{model,region}');
SELECT count(*) FROM meter.create_meter('calls', 'count');
CREATE VIEW pg_temp.events AS
    SELECT m.event_name, user_id, value, "timestamp", idempotency, e.dimensions, e.metadata
    FROM meter.meter_event e JOIN meter.meter m ON m.id = e.meter_id ORDER BY e.id;

-- Every field arrives; the defaults are 1, {}, no key, now, {}.
SELECT meter.record_event('tokens', 'alice', 12.5, '{"model": "gpt-4", "region": "us"}', 'k1',
                          '2026-01-31 12:00:00+00', '{"trace": [1, {"a": null}]}') AS id \gset first_
SELECT meter.record_event('calls', 'bob') > 0 AS recorded;
SELECT event_name, user_id, value, "timestamp" = now() AS now, idempotency, dimensions, metadata
FROM pg_temp.events WHERE user_id = 'bob' AND "timestamp" > now() - interval '1 hour';
SELECT * FROM pg_temp.events WHERE user_id = 'alice';
SELECT recorded_at > now() - interval '1 minute' AS recorded_now FROM meter.meter_event WHERE user_id = 'alice';

-- An explicit NULL means the default.
BEGIN;
SELECT meter.record_event('calls', 'carol', NULL, NULL, NULL, NULL, NULL) > 0 AS recorded;
SELECT value, "timestamp" = now() AS now, idempotency, dimensions, metadata FROM pg_temp.events WHERE user_id = 'carol';
COMMIT;
SELECT pg_temp.sqlstate_of($$SELECT meter.record_event(NULL, 'carol')$$);
SELECT pg_temp.sqlstate_of($$SELECT meter.record_event('calls', NULL)$$);

-- A retry gets the first one's id and writes nothing, though time and metadata differ.
SELECT meter.record_event('tokens', 'alice', 12.5, '{"model": "gpt-4", "region": "us"}', 'k1') = :first_id AS same;
SELECT meter.record_event('tokens', 'alice', 12.50, '{"region": "us", "model": "gpt-4"}', 'k1',
                          '2026-02-01', '{"retry": true}') = :first_id AS same;
SELECT count(*), sum(value) FROM meter.meter_event WHERE user_id = 'alice';
SELECT "timestamp", metadata FROM pg_temp.events WHERE user_id = 'alice';

-- Another payload is refused, and the detail says what differs.
SELECT pg_temp.sqlstate_of($$SELECT meter.record_event('tokens', 'alice', 13, '{"model": "gpt-4", "region": "us"}', 'k1')$$);
SELECT pg_temp.sqlstate_of($$SELECT meter.record_event('tokens', 'alice', 12.5, '{"model": "gpt-5", "region": "us"}', 'k1')$$);
SELECT pg_temp.sqlstate_of($$SELECT meter.record_event('tokens', 'alice', 12.5, '{"model": "gpt-4"}', 'k1')$$);
SELECT pg_temp.sqlstate_of($$SELECT meter.record_event('tokens', 'alice', 1, '{}', 'k1')$$);
SELECT count(*), sum(value) FROM meter.meter_event WHERE user_id = 'alice';

-- A key belongs to its meter and user; no key, no deduplication.
SELECT meter.record_event('tokens', 'bob', 1, '{}', 'k1') <> :first_id AS another;
SELECT meter.record_event('calls', 'alice', 1, '{}', 'k1') <> :first_id AS another;
SELECT count(DISTINCT id) FROM (SELECT meter.record_event('calls', 'dave') AS id FROM generate_series(1, 3)) AS three;
SELECT count(*) FROM pg_temp.events WHERE user_id = 'dave';

-- (user, key) pairs that look alike when glued together are different.
SELECT count(DISTINCT id) FROM (
    SELECT meter.record_event('calls', u, 1, '{}', k) AS id
    FROM (VALUES ('ab', 'c'), ('a', 'bc'), ('a', 'b'), ('a', 'B'), ('A', 'b'), ('a', 'b '), ('a', 'bc' || chr(1))) AS t (u, k)) AS ids;

-- A rolled-back event frees its key.
BEGIN;
SELECT meter.record_event('calls', 'erin', 1, '{}', 'e1') > 0 AS recorded;
ROLLBACK;
SELECT meter.record_event('calls', 'erin', 2, '{}', 'e1') > 0 AS recorded;
BEGIN;
SAVEPOINT s;
SELECT meter.record_event('calls', 'erin', 1, '{}', 'e2') > 0 AS recorded;
ROLLBACK TO s;
SELECT meter.record_event('calls', 'erin', 3, '{}', 'e2') > 0 AS recorded;
COMMIT;
SELECT value, idempotency FROM pg_temp.events WHERE user_id = 'erin';
SELECT count(*) FROM meter.event_key k WHERE NOT EXISTS (SELECT FROM meter.meter_event e WHERE e.id = k.event_id AND e."timestamp" = k.event_timestamp);

-- Dimensions are stored canonical: null members removed, trailing zeros trimmed. 1 is not "1".
SELECT meter.record_event('calls', 'frank', 1, d::jsonb) > 0 AS recorded
FROM (VALUES ('{"a": null}'), ('{"a": 1.0, "b": null}'), ('{"a": 1}'), ('{"a": "1"}'), ('{"a": 10.50}'),
             ('{"a": -0.0}'), ('{"a": true, "b": "x", "c": 1e3, "d": 1E-7}'), ('{"": 1}'), (NULL)) AS t (d) WHERE d IS DISTINCT FROM '{"": 1}';
SELECT DISTINCT dimensions::text FROM meter.meter_event WHERE user_id = 'frank' ORDER BY 1;
SELECT meter.record_event('calls', 'frank', 1, '{"a": 1.0}', 'f1') = meter.record_event('calls', 'frank', 1, '{"a": 1, "z": null}', 'f1') AS retry;
SELECT pg_temp.sqlstate_of($$SELECT meter.record_event('calls', 'frank', 1, '{"a": "1"}', 'f1')$$);

-- Values are exact.
SELECT meter.record_event('calls', 'grace', v) > 0 AS recorded
FROM (VALUES (9223372036854775807), (-9223372036854775808), (0.000001), (0), (-0.0), (1.10),
             (999999999999999999999999999999.999999999999999999), (-999999999999999999999999999999.999999999999999999),
             (0.000000000000000001), (1.000000000000000000000000000000)) AS t (v);
SELECT value FROM pg_temp.events WHERE user_id = 'grace';
SELECT sum(value) FROM meter.meter_event WHERE user_id = 'grace';

-- What no event can be.
SELECT what, pg_temp.sqlstate_of('SELECT meter.record_event(' || arguments || ')')
FROM (VALUES
    ('unknown meter', $$'nothing', 'alice'$$),
    ('empty meter', $$'', 'alice'$$),
    ('empty user', $$'calls', ''$$),
    ('user of 256 bytes', $$'calls', repeat('u', 256)$$),
    ('user of 256 bytes, fewer characters', $$'calls', repeat('ü', 128)$$),
    ('empty key', $$'calls', 'alice', 1, '{}', ''$$),
    ('key of 256 bytes', $$'calls', 'alice', 1, '{}', repeat('k', 256)$$),
    ('NaN', $$'calls', 'alice', 'NaN'$$),
    ('infinity', $$'calls', 'alice', 'Infinity'$$),
    ('-infinity', $$'calls', 'alice', '-Infinity'$$),
    ('10^30', $$'calls', 'alice', 1e30$$),
    ('-10^30', $$'calls', 'alice', -1e30$$),
    ('huge', $$'calls', 'alice', 1e1000$$),
    ('19 decimals', $$'calls', 'alice', 0.0000000000000000001$$),
    ('dimensions array', $$'calls', 'alice', 1, '[1]'$$),
    ('dimensions scalar', $$'calls', 'alice', 1, '1'$$),
    ('dimensions json null', $$'calls', 'alice', 1, 'null'$$),
    ('nested object', $$'calls', 'alice', 1, '{"a": {"b": 1}}'$$),
    ('nested array', $$'calls', 'alice', 1, '{"a": []}'$$),
    ('undeclared', $$'tokens', 'alice', 1, '{"model": "gpt-4", "modle": "x"}'$$),
    ('user_id as a dimension', $$'calls', 'alice', 1, '{"user_id": "x"}'$$),
    ('empty dimension name', $$'calls', 'alice', 1, '{"": "x"}'$$),
    ('dimension name of 256 bytes', $$'calls', 'alice', 1, jsonb_build_object(repeat('d', 256), 1)$$),
    ('33 dimensions', $$'calls', 'alice', 1, (SELECT jsonb_object_agg('d' || i, i) FROM generate_series(1, 33) i)$$),
    ('dimensions of 2 kB and more', $$'calls', 'alice', 1, jsonb_build_object('d', repeat('x', 2048))$$),
    ('a number of 3000 digits', $$'calls', 'alice', 1, '{"a": 1e3000}'$$),
    ('before 1970', $$'calls', 'alice', event_time => '1969-12-31 23:59:59.999999+00'$$),
    ('after 9999', $$'calls', 'alice', event_time => '10000-01-01 00:00:00+00'$$),
    ('infinite time', $$'calls', 'alice', event_time => 'infinity'$$),
    ('-infinite time', $$'calls', 'alice', event_time => '-infinity'$$),
    ('BC', $$'calls', 'alice', event_time => '0044-03-15 BC'$$),
    ('end of the type', $$'calls', 'alice', event_time => '294276-12-31 23:59:59.999999+00'$$),
    ('metadata array', $$'calls', 'alice', metadata => '[]'$$)) AS t (what, arguments);
-- A day ahead is the most, and a setting; the messages have clock times in them.
SELECT left(pg_temp.sqlstate_of($$SELECT meter.record_event('calls', 'alice', event_time => clock_timestamp() + interval '1 day 1 minute')$$), 5);
SELECT meter.record_event('calls', 'alice', event_time => now() + interval '23 hours 59 minutes') > 0 AS recorded;
SET meter.max_event_lead = 0;
SELECT left(pg_temp.sqlstate_of($$SELECT meter.record_event('calls', 'alice', event_time => clock_timestamp() + interval '1 minute')$$), 5);
SET meter.max_event_lead = '7d';
SELECT meter.record_event('calls', 'alice', event_time => now() + interval '6 days') > 0 AS recorded;
RESET meter.max_event_lead;

-- The edges of the bounds are inside.
SELECT meter.record_event(repeat('x', 255), 'u') FROM meter.create_meter(repeat('x', 255)) \g /dev/null
SELECT meter.record_event('calls', repeat('u', 255), 1, '{}', repeat('k', 255)) > 0 AS recorded;
SELECT meter.record_event('calls', 'henry', event_time => '1970-01-01 00:00:00+00') > 0 AS recorded;
SELECT meter.record_event('calls', 'henry', 1, (SELECT jsonb_object_agg('d' || i, i) FROM generate_series(1, 32) i)) > 0 AS recorded;
SELECT meter.record_event('calls', 'henry', 1, jsonb_build_object('d', repeat('x', 2040))) > 0 AS recorded;
SELECT pg_temp.sqlstate_of($$SELECT meter.record_event('calls', 'henry', 1, jsonb_build_object('d', repeat('x', 2041)))$$);

-- The table refuses what the function would, whoever writes.
SELECT what, regexp_replace(pg_temp.sqlstate_of(
    'INSERT INTO meter.meter_event (meter_id, user_id, value, "timestamp", idempotency, dimensions, metadata) VALUES (' || row_values || ')'),
    'relation "[^"]*"| \| Failing row.*', '', 'g')
FROM (VALUES
    ('empty user', $$1, '', 1, now(), NULL, '{}', '{}'$$),
    ('long user', $$1, repeat('u', 256), 1, now(), NULL, '{}', '{}'$$),
    ('NaN', $$1, 'u', 'NaN', now(), NULL, '{}', '{}'$$),
    ('infinity', $$1, 'u', 'Infinity', now(), NULL, '{}', '{}'$$),
    ('-infinity', $$1, 'u', '-Infinity', now(), NULL, '{}', '{}'$$),
    ('10^30', $$1, 'u', 1e30, now(), NULL, '{}', '{}'$$),
    ('19 decimals', $$1, 'u', 1e-19, now(), NULL, '{}', '{}'$$),
    ('before 1970', $$1, 'u', 1, '1969-12-31 23:59:59+00', NULL, '{}', '{}'$$),
    ('year 10000', $$1, 'u', 1, '10000-01-01 00:00:00+00', NULL, '{}', '{}'$$),
    ('infinite time', $$1, 'u', 1, 'infinity', NULL, '{}', '{}'$$),
    ('empty key', $$1, 'u', 1, now(), '', '{}', '{}'$$),
    ('long key', $$1, 'u', 1, now(), repeat('k', 256), '{}', '{}'$$),
    ('dimensions array', $$1, 'u', 1, now(), NULL, '[]', '{}'$$),
    ('nested', $$1, 'u', 1, now(), NULL, '{"a": []}', '{}'$$),
    ('null member', $$1, 'u', 1, now(), NULL, '{"a": null}', '{}'$$),
    ('trailing zeros', $$1, 'u', 1, now(), NULL, '{"a": 1.0}', '{}'$$),
    ('33 dimensions', $$1, 'u', 1, now(), NULL, (SELECT jsonb_object_agg('d' || i, i) FROM generate_series(1, 33) i), '{}'$$),
    ('2 kB', $$1, 'u', 1, now(), NULL, jsonb_build_object('d', repeat('x', 2041)), '{}'$$),
    ('metadata', $$1, 'u', 1, now(), NULL, '{}', '1'$$)) AS t (what, row_values);

-- record_event returns a scalar, so a composite expansion cannot run it more than once.
SELECT count(*) FROM pg_temp.events WHERE user_id = 'ivan';
SELECT (r).id > 0 AS once FROM (SELECT meter.record_event('calls', 'ivan') AS id) AS r;
SELECT count(*) FROM pg_temp.events WHERE user_id = 'ivan';

-- It writes: not in a read-only transaction.
BEGIN READ ONLY;
SELECT meter.record_event('calls', 'alice');
ROLLBACK;
SELECT provolatile, proparallel FROM pg_proc WHERE oid = 'meter.record_event'::regproc;

-- A session keeps the plans it made on empty tables, and they must not scan what has grown since.
TRUNCATE meter.event_key, meter.meter_event;
VACUUM meter.event_key;
\c -
SET TIME ZONE 'UTC';
SELECT meter.record_event('calls', 'kim', 1, '{}', 'grow') AS grow_id \gset
SELECT meter.record_event('calls', 'kim', 1, '{}', 'grow') = :grow_id AS retry;
SELECT count(*) FROM meter.record_events((SELECT jsonb_agg(jsonb_build_object('event_name', 'calls', 'user_id', 'kim', 'idempotency', i)) FROM generate_series(1, 5) i));
DO $$ BEGIN PERFORM meter.record_event('calls', 'kim', 2, '{}', 'grow'); EXCEPTION WHEN unique_violation THEN END $$;
SELECT status, count(*) FROM meter.record_events((SELECT jsonb_agg(jsonb_build_object('event_name', 'calls', 'user_id', 'kim', 'idempotency', 'g' || i)) FROM generate_series(1, 20000) i)) GROUP BY status;
BEGIN;
SELECT meter.record_event('calls', 'kim', 1, '{}', 'grow') = :grow_id AS retry;
SELECT status FROM meter.record_events('[{"event_name": "calls", "user_id": "kim", "idempotency": "grow"}]');
DO $$ BEGIN PERFORM meter.record_event('calls', 'kim', 2, '{}', 'grow'); EXCEPTION WHEN unique_violation THEN END $$;
SELECT sum(pg_stat_get_xact_numscans(oid)) AS sequential_scans FROM pg_class
WHERE oid = 'meter.event_key'::regclass OR oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'meter.meter_event'::regclass);
SELECT count(*) AS counts_a_scan FROM meter.event_key;
SELECT sum(pg_stat_get_xact_numscans(oid)) > 0 AS counted FROM pg_class WHERE oid = 'meter.event_key'::regclass;
COMMIT;
