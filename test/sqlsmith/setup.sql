-- A database for sqlsmith: meters with usage of every kind, a login that may do everything but what ends
-- a server, and our functions under names by which sqlsmith finds them, often.
CREATE EXTENSION meter;
SET client_min_messages = warning;
SELECT FROM meter.create_partitions(2, now() - interval '3 months');
SELECT FROM meter.create_meter('tokens', dimensions => '{model,region}');
SELECT FROM meter.create_meter('calls', 'count');
SELECT FROM meter.create_meter('seats', 'last');
SELECT count(*) FROM meter.record_events((SELECT jsonb_agg(jsonb_build_object('event_name', (ARRAY['tokens', 'calls', 'seats'])[1 + i % 3], 'user_id', 'user-' || i % 7,
    'value', CASE i % 5 WHEN 0 THEN -0.000001 * i WHEN 1 THEN 1e29 ELSE i END, 'idempotency', 'key-' || i, 'timestamp', now() - i * interval '37 minutes',
    'dimensions', CASE i % 3 WHEN 0 THEN jsonb_build_object('model', 'm' || i % 4, 'region', CASE WHEN i % 2 = 0 THEN 'eu' END) ELSE jsonb_build_object('n', i % 11) END))
    FROM generate_series(1, 3000) AS i));
SELECT meter.fold();
SELECT count(*) FROM meter.record_events((SELECT jsonb_agg(jsonb_build_object('event_name', 'tokens', 'user_id', 'user-' || i % 7)) FROM generate_series(1, 50) AS i));

CREATE ROLE smith LOGIN;
SELECT meter.grant_access('smith', 'admin');
GRANT ALL ON ALL TABLES IN SCHEMA meter TO smith;
GRANT ALL ON ALL SEQUENCES IN SCHEMA meter TO smith;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA meter TO smith;
CREATE SCHEMA smith AUTHORIZATION smith;

-- What sqlsmith has of its own to begin with: values of our types, good and bad.
CREATE TABLE smith.value AS SELECT i AS n, 'tokens'::text AS event_name, 'user-' || i AS user_id, now() - i * interval '1 day' AS at, i * 1.5 AS value, '{"model": "m1"}'::jsonb AS dimensions,
    ARRAY['model', 'user_id'] AS names, (ARRAY['minute', 'hour', 'day', 'week', 'month', 'year'])[1 + i % 6] AS bucket, (ARRAY['UTC', 'Europe/Berlin', 'Asia/Kolkata'])[1 + i % 3] AS zone,
    '[{"event_name": "tokens", "user_id": "ann", "value": 1}]'::jsonb AS events, '{"event_name": "calls", "user_id": "ann", "dimensions": {"n": 1.50}}'::text AS payload
FROM generate_series(1, 30) AS i;
CREATE TABLE smith.state AS SELECT '\xa701020000000100000001610000000100000001100000000000000009'::meter.aggregate_state AS state UNION ALL SELECT NULL;
CREATE TABLE smith.hours AS SELECT * FROM meter.rollup WHERE hours IS NOT NULL UNION ALL SELECT * FROM meter.rollup LIMIT 20;
GRANT SELECT ON ALL TABLES IN SCHEMA smith TO smith;

-- sqlsmith calls functions by their result's type, and none that return sets: each of ours becomes
-- several that return one value.
DO $$
DECLARE
    f record;
BEGIN
    FOR f IN SELECT p.oid, p.proname, p.proretset, t.typname AS result, format_type(p.prorettype, NULL) AS result_type, t.typtype,
            (SELECT string_agg(format_type(a, NULL), ', ' ORDER BY i) FROM unnest(p.proargtypes) WITH ORDINALITY AS u (a, i)) AS arguments,
            (SELECT string_agg('$' || i, ', ' ORDER BY i) FROM generate_series(1, p.pronargs) AS i) AS numbers
        FROM pg_proc p JOIN pg_type t ON t.oid = p.prorettype
        WHERE p.pronamespace = 'meter'::regnamespace AND p.prokind = 'f' AND t.typname NOT IN ('trigger', 'cstring', 'internal')
          AND NOT (2281 = ANY (p.proargtypes) OR 2275 = ANY (p.proargtypes))
    LOOP
        FOR copy IN 1 .. 12 LOOP
            EXECUTE format('CREATE FUNCTION smith.%I(%s) RETURNS %s LANGUAGE sql VOLATILE AS %L', f.proname || '_' || copy, COALESCE(f.arguments, ''),
                CASE WHEN f.proretset OR f.typtype = 'c' THEN 'bigint' WHEN f.result = 'void' THEN 'text' ELSE f.result_type END,
                CASE WHEN f.proretset OR f.typtype = 'c' THEN format('SELECT count(*) FROM %s(%s)', f.oid::regproc, f.numbers)
                     WHEN f.result = 'void' THEN format('SELECT %s(%s)::text', f.oid::regproc, f.numbers) ELSE format('SELECT %s(%s)', f.oid::regproc, f.numbers) END);
        END LOOP;
    END LOOP;
END $$;
