-- record_event with dimensions that a session has seen before: it remembers them, and what it finds is the same.
TRUNCATE meter.meter, meter.meter_event, meter.event_key, meter.rollup_pending, meter.rollup_generation, meter.rollup_state, meter.rollup, meter.rollup_total, meter.rollup_days, meter.rollup_month, meter.rollup_meter, meter.usage_limit, meter.limit_usage, meter.alert_rule, meter.alert, meter.event_void RESTART IDENTITY;
SET TIME ZONE 'UTC';
SELECT count(*) FROM meter.create_meter('any') AS a, meter.create_meter('model', dimensions => '{model}') AS m, meter.create_meter('both', dimensions => '{model,region}') AS b;
-- Records it `times` times: what became of each, without repeating itself.
CREATE FUNCTION pg_temp.record(meter_name text, dimensions jsonb, key text DEFAULT NULL, times integer DEFAULT 4) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    said text; before text; id_of bigint; detail text;
BEGIN
    FOR i IN 1 .. times LOOP
        BEGIN
            id_of := meter.record_event(meter_name, 'ann', 1, dimensions, key);
            said := CASE WHEN key IS NULL THEN 'recorded' ELSE 'event ' || (SELECT dense_rank FROM (SELECT e.id, dense_rank() OVER (ORDER BY e.id) FROM meter.meter_event e) AS r WHERE r.id = id_of) END;
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
            said := concat_ws(' | ', SQLSTATE, SQLERRM, nullif(detail, ''));
        END;
        IF said IS DISTINCT FROM before THEN
            RETURN NEXT said;
        END IF;
        before := said;
    END LOOP;
END
$$;

-- One set of dimensions in several spellings: each is stored in canonical form, first time or not, and none differs from another.
SELECT pg_temp.record('any', spelling::jsonb, 'key')
FROM unnest('{"{\"a\": 1.50, \"b\": \"x\"}","{\"a\": 1.5, \"b\": \"x\"}","{\"a\": 1.5, \"b\": \"x\", \"c\": null}","{\"a\": \"1.5\", \"b\": \"x\"}","{\"a\": 1.5}","{}"}'::text[]) AS spelling;
SELECT pg_temp.record('any', spelling::jsonb)
FROM unnest('{"{\"a\": 1.50, \"b\": \"x\"}","{\"a\": 1.5, \"b\": \"x\"}","{\"a\": 1.5, \"b\": \"x\", \"c\": null}"}'::text[]) AS spelling;
SELECT dimensions, count(*) FROM meter.meter_event GROUP BY dimensions;
SELECT dimensions, digest, count(*) FROM meter.rollup_pending GROUP BY dimensions, digest;

-- What one meter declares another may not, however often it was asked; what is no dimensions never becomes some.
SELECT pg_temp.record(m, '{"model": "m", "region": "r"}') FROM unnest('{both,model,any,both,model}'::text[]) AS m;
SELECT pg_temp.record('any', d::jsonb) FROM unnest('{"{\"user_id\": 1}","{\"a\": [1]}","[]","1"}'::text[]) AS d;

-- Declared meanwhile, and no more once that is rolled back.
BEGIN;
SELECT count(*) FROM meter.add_dimension('model', 'region');
SELECT pg_temp.record('model', '{"model": "m", "region": "r"}');
ROLLBACK;
SELECT pg_temp.record('model', '{"model": "m", "region": "r"}');
SELECT count(*) FROM meter.add_dimension('model', 'region');
SELECT pg_temp.record('model', '{"model": "m", "region": "r"}');

-- More sets than are remembered, larger ones among them, each again and again.
SELECT meter.record_event('both', 'bob', 1, jsonb_build_object('model', repeat('m', 1 + 2 * (i % 500)), 'region', i % 500)) IS NULL AS lost, count(*) FROM generate_series(1, 1500) AS i GROUP BY 1;
SELECT count(DISTINCT dimensions), count(DISTINCT digest), bool_and(dimensions = jsonb_build_object('model', repeat('m', 1 + 2 * (dimensions ->> 'region')::int), 'region', dimensions -> 'region')) AS right, sum(event_count)
FROM meter.rollup_pending WHERE user_id = 'bob';
SELECT meter.fold() > 500 AS folded;
SELECT count(*) AS differing FROM meter.verify('2000-01-01', '2100-01-01');
-- The digest is the same as a batch computes, which does not ask what the session remembers.
SELECT count(*) FROM meter.record_events((SELECT jsonb_agg(DISTINCT jsonb_build_object('event_name', 'both', 'user_id', 'bob', 'dimensions', dimensions)) FROM meter.meter_event WHERE user_id = 'bob'));
SELECT count(*), count(DISTINCT r.digest) FROM meter.rollup_pending p JOIN meter.rollup r ON r.meter_id = p.meter_id AND r.user_id = 'bob' AND r.grain = 'm' AND r.digest = p.digest WHERE p.user_id = 'bob' AND r.dimensions = p.dimensions;

-- An index of someone's that compares by functions of its own: these find names in pg_catalog alone, whoever records, by whatever path.
CREATE SCHEMA trap;
CREATE TABLE trap.log (what text, search_path text);
CREATE FUNCTION trap.abs(integer) RETURNS integer LANGUAGE plpgsql AS $$ BEGIN INSERT INTO trap.log VALUES ('trapped', current_setting('search_path')); RETURN $1; END $$;
CREATE SEQUENCE trap.compared;
CREATE FUNCTION trap.compare(a integer, b integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    PERFORM nextval('trap.compared');
    RETURN CASE WHEN abs(a) < abs(b) THEN -1 WHEN abs(a) > abs(b) THEN 1 ELSE 0 END;
END $$;
CREATE OPERATOR CLASS trap.int4_ops FOR TYPE integer USING btree AS
    OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 trap.compare(integer, integer);
DO $$
DECLARE
    partition regclass;
BEGIN
    FOR partition IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'meter.meter_event'::regclass LOOP
        EXECUTE format('CREATE INDEX ON %s (meter_id trap.int4_ops)', partition);
    END LOOP;
END
$$;
SELECT nextval('trap.compared') AS before \gset
SET search_path = trap, pg_temp, pg_catalog;
SELECT pg_temp.record('any', '{}', times => 1);
SELECT pg_catalog.current_setting('search_path') AS still;
RESET search_path;
SELECT nextval('trap.compared') > :before + 1 AS compared, count(*) AS trapped FROM trap.log;
SET client_min_messages = warning;
DROP SCHEMA trap CASCADE;
