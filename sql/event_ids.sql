-- The ids of events, which batches take from their sequence many at a time.
TRUNCATE meter.meter, meter.meter_event, meter.event_key, meter.rollup_pending, meter.rollup_generation, meter.rollup_state, meter.rollup, meter.rollup_total, meter.rollup_days, meter.rollup_month, meter.rollup_meter, meter.usage_limit, meter.limit_usage, meter.alert_rule, meter.alert, meter.event_void RESTART IDENTITY;
SELECT count(*) FROM meter.create_meter('calls', 'count');
CREATE FUNCTION pg_temp.record(amount int) RETURNS TABLE (first bigint, last bigint, ids bigint) LANGUAGE sql AS $$
SELECT min(event_id), max(event_id), count(DISTINCT event_id) FROM meter.record_events(array_fill('calls'::text, ARRAY[amount]), array_fill('ann'::text, ARRAY[amount]), NULL, NULL, NULL, NULL)
$$;

-- A new sequence begins with its start.
ALTER SEQUENCE meter.meter_event_id_seq RESTART WITH 100;
SELECT * FROM pg_temp.record(40);
SELECT last_value, is_called FROM meter.meter_event_id_seq;
SELECT * FROM pg_temp.record(20);
SELECT last_value, is_called FROM meter.meter_event_id_seq;
SELECT meter.record_event('calls', 'ann');
SELECT * FROM pg_temp.record(30);
SELECT last_value, is_called FROM meter.meter_event_id_seq;
SELECT nextval('meter.meter_event_id_seq');
-- In the order of the items, without gaps where some are not recorded.
SELECT ordinal, event_id, status FROM meter.record_events('[
    {"event_name": "calls", "user_id": "ann", "idempotency": "b"},
    {"event_name": "calls", "user_id": "ann", "idempotency": "a"},
    {"event_name": "calls", "user_id": "ann", "idempotency": "b"},
    {"event_name": "nothing", "user_id": "ann"},
    {"event_name": "calls", "user_id": "ann"}]') ORDER BY ordinal;
-- What an aborted transaction took is not given back.
BEGIN;
SELECT * FROM pg_temp.record(10);
ROLLBACK;
SELECT * FROM pg_temp.record(10);

-- Sequences that someone altered are heeded.
ALTER SEQUENCE meter.meter_event_id_seq INCREMENT 10 RESTART WITH 1000;
SELECT * FROM pg_temp.record(3);
ALTER SEQUENCE meter.meter_event_id_seq INCREMENT 1 CACHE 5 RESTART WITH 2000;
SELECT * FROM pg_temp.record(3);
SELECT last_value FROM meter.meter_event_id_seq;
ALTER SEQUENCE meter.meter_event_id_seq CACHE 1 RESTART WITH 3000 MAXVALUE 3049;
SELECT * FROM pg_temp.record(10);
SELECT * FROM pg_temp.record(30);
\set VERBOSITY sqlstate
SELECT * FROM pg_temp.record(11);
\set VERBOSITY default
SELECT count(*), max(id) FROM meter.meter_event WHERE id >= 3000;
ALTER SEQUENCE meter.meter_event_id_seq RESTART WITH 3048;
SELECT * FROM pg_temp.record(2);
ALTER SEQUENCE meter.meter_event_id_seq NO MAXVALUE RESTART WITH 9223372036854775800;
SELECT * FROM pg_temp.record(5);
ALTER SEQUENCE meter.meter_event_id_seq RESTART WITH 4000;

-- A transaction that may not write takes none.
BEGIN READ ONLY;
SELECT * FROM pg_temp.record(2);
ROLLBACK;
SELECT last_value, is_called FROM meter.meter_event_id_seq;
