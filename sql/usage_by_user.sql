-- slow
-- meter.usage of every user over whole months: cells added up without the executor where meter.rollup is plain, and by it
-- where somebody has changed the table. Each answer by plain SQL too.
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET meter.org = 'usage_by_user';
\set VERBOSITY terse
SELECT event_name FROM meter.create_meter('first', 'sum', '{model}') UNION ALL SELECT event_name FROM meter.create_meter('second', 'count', '{model}');
-- Late ones too, some users in one month alone, values of any size, and cells by the dozen for each user.
CREATE FUNCTION pg_temp.record(first int, last int) RETURNS bigint LANGUAGE sql AS $$
    SELECT count(*) FILTER (WHERE r.status = 'recorded') FROM (
        SELECT array_agg(CASE WHEN i % 3 = 0 THEN 'second' ELSE 'first' END) AS names, array_agg('user-' || i % 61) AS users,
               array_agg(CASE WHEN i % 3 = 0 THEN 1 WHEN i % 50 = 1 THEN 1e29 + i ELSE (i % 97 - 40)::numeric / 8 END) AS quantities,
               array_agg(jsonb_build_object('model', 'm' || i % 13)) AS dimensions, array_agg('k' || i) AS keys,
               array_agg('2026-01-01'::timestamptz + (i * 7919 % 5900) * interval '15 minutes') AS times
        FROM generate_series(first, last) AS i) AS b,
        meter.record_events(b.names, b.users, b.quantities, b.dimensions, b.keys, b.times) AS r $$;
CREATE FUNCTION pg_temp.differing() RETURNS TABLE (questions bigint, rows numeric, differing numeric) LANGUAGE sql AS $$
    SELECT count(*), sum(d.rows), sum(d.differing)
    FROM (VALUES ('2026-01-01'::timestamptz, '2026-02-01'::timestamptz), ('2026-01-01', '2026-03-01'), ('2025-01-01', '2027-01-01'), ('2026-01-17 10:11:12', '2026-03-01')) AS p (start, stop),
        unnest('{first,second}'::text[]) AS m (name), unnest('{sum,count,avg}'::text[]) AS a (aggregation),
        LATERAL (WITH ours AS MATERIALIZED (
            SELECT u.user_id, u.value, u.event_count FROM meter.usage(m.name, p.start, p.stop, group_by => '{user_id}', aggregation => a.aggregation) AS u
        ), plain AS (
            SELECT e.user_id, CASE a.aggregation WHEN 'sum' THEN trim_scale(sum(e.value)) WHEN 'count' THEN count(*)
                                                 ELSE trim_scale(trim_scale(sum(e.value)) / count(*)) END, count(*)
            FROM meter.meter_event AS e
            WHERE e.meter_id = (SELECT id FROM meter.meter WHERE event_name = m.name AND org = current_setting('meter.org'))
              AND e."timestamp" >= p.start AND e."timestamp" < p.stop
              AND NOT EXISTS (SELECT FROM meter.event_void AS v WHERE v.event_id = e.id AND v.event_timestamp = e."timestamp")
            GROUP BY 1
        ) SELECT (SELECT count(*) FROM ours), (SELECT count(*) FROM ((TABLE ours EXCEPT ALL TABLE plain) UNION ALL (TABLE plain EXCEPT ALL TABLE ours)) AS x)) AS d (rows, differing) $$;
-- The report of all users tells the same of each meter.
CREATE FUNCTION pg_temp.report_differs() RETURNS bigint LANGUAGE sql AS $$
    WITH report AS (SELECT event_name, user_id, value, event_count FROM meter.usage_report('2026-01-01', '2026-03-01')),
    each AS (SELECT m.name, u.user_id, u.value, u.event_count
             FROM unnest('{first,second}'::text[]) AS m (name), meter.usage(m.name, '2026-01-01', '2026-03-01', group_by => '{user_id}') AS u)
    SELECT count(*) FROM ((TABLE report EXCEPT ALL TABLE each) UNION ALL (TABLE each EXCEPT ALL TABLE report)) AS x $$;
SELECT pg_temp.record(1, 4000);
SELECT meter.fold() > 0 AS folded;
SELECT * FROM pg_temp.differing();
-- With deltas, voids of what was folded, and a transaction's own.
SELECT pg_temp.record(4001, 4500);
SELECT count(meter.void_event('first', 'user-' || i % 61, 'k' || i, 'test')) FROM generate_series(1, 4400, 217) AS i WHERE i % 3 <> 0;
SELECT * FROM pg_temp.differing();
SELECT meter.fold() > 0 AS folded;
SELECT * FROM pg_temp.differing();
SELECT pg_temp.report_differs();
BEGIN;
SELECT pg_temp.record(4501, 4600);
SELECT meter.fold() > 0 AS folded;
SELECT * FROM pg_temp.differing();
ROLLBACK;
SELECT * FROM pg_temp.differing();
-- A user all of whose events are voided has no usage.
SELECT meter.record_event('first', 'gone', 5, NULL, 'gone', '2026-01-05') IS NOT NULL AS recorded;
SELECT meter.fold();
SELECT count(meter.void_event('first', 'gone', 'gone', 'test'));
SELECT meter.fold();
SELECT count(*) FROM meter.usage('first', '2026-01-01', '2026-02-01', group_by => '{user_id}') WHERE user_id = 'gone';
-- How many users there are is counted over the same.
CREATE FUNCTION pg_temp.users_differ() RETURNS TABLE (questions bigint, users numeric, differing bigint) LANGUAGE sql AS $$
    SELECT count(*), sum(u.value), count(*) FILTER (WHERE u.value <> (
        SELECT count(DISTINCT e.user_id) FROM meter.meter_event AS e
        WHERE e.meter_id = (SELECT id FROM meter.meter WHERE event_name = m.name AND org = current_setting('meter.org'))
          AND e."timestamp" >= p.start AND e."timestamp" < p.stop
          AND NOT EXISTS (SELECT FROM meter.event_void AS v WHERE v.event_id = e.id AND v.event_timestamp = e."timestamp")))
    FROM (VALUES ('2026-01-01'::timestamptz, '2026-02-01'::timestamptz), ('2026-01-01', '2026-03-01'), ('2026-01-17 10:11:12', '2026-03-01')) AS p (start, stop),
        unnest('{first,second}'::text[]) AS m (name),
        LATERAL meter.usage(m.name, p.start, p.stop, aggregation => 'unique_count', property => 'user_id') AS u $$;
SELECT * FROM pg_temp.users_differ();
SELECT count(meter.record_event('first', 'new-' || i, 1, '{"model": "m1"}', event_time => '2026-01-05')) FROM generate_series(1, 7) AS i;
SELECT count(meter.void_event('first', e.user_id, e.id, e."timestamp", 'test')) FROM meter.meter_event e WHERE user_id = 'new-7';
SELECT * FROM pg_temp.users_differ();
SELECT meter.fold() > 0 AS folded;
SELECT * FROM pg_temp.users_differ();
-- How: the cells are read by meter.sum_months, but not where rows are to be heeded that only the executor does.
-- What is not yet flushed of transactions before is counted too, so a transaction starts with what there is.
CREATE FUNCTION pg_temp.scans() RETURNS bigint LANGUAGE sql AS $$ SELECT COALESCE(pg_stat_get_xact_function_calls('meter.sum_months'::regproc), 0) $$;
SET track_functions = 'all';
BEGIN;
SELECT pg_temp.scans() AS before \gset
SELECT count(*) FROM meter.usage('first', '2026-01-01', '2026-02-01', group_by => '{user_id}');
SELECT pg_temp.scans() - :before AS scans;
SELECT value FROM meter.usage('first', '2026-01-01', '2026-02-01', aggregation => 'unique_count', property => 'user_id');
SELECT pg_temp.scans() - :before AS scans;
SELECT count(*) FROM meter.usage('first', '2026-01-01', '2026-02-01', group_by => '{user_id,model}');
SELECT count(*) FROM meter.usage('first', '2026-01-01', '2026-02-01', group_by => '{user_id}', filter => '{"model": "m1"}');
SELECT count(*) FROM meter.usage('first', '2026-01-01', '2026-02-01', group_by => '{user_id}', aggregation => 'max');
SELECT pg_temp.scans() - :before AS scans;
COMMIT;
BEGIN;
SELECT pg_temp.scans() AS before \gset
ALTER TABLE meter.rollup ENABLE ROW LEVEL SECURITY;
SELECT * FROM pg_temp.differing();
SELECT pg_temp.scans() - :before AS scans;
SELECT * FROM meter.sum_months('{1}', '{2026-01-01}');
ROLLBACK;
-- Rows of a table that inherits count as by SQL.
BEGIN;
CREATE TABLE heir () INHERITS (meter.rollup);
INSERT INTO heir SELECT r.* FROM meter.rollup r JOIN meter.meter m ON m.id = r.meter_id WHERE m.event_name = 'first' AND r.grain = 'm' AND r.start = '2026-01-01' LIMIT 1;
UPDATE heir SET user_id = 'heir', event_count = 1;
SELECT count(*) FROM meter.usage('first', '2026-01-01', '2026-02-01', group_by => '{user_id}') AS u WHERE u.user_id = 'heir';
ROLLBACK;
-- By hand: nothing for what is not there, an error for what is no array of them.
SELECT count(*) FROM meter.sum_months('{}', '{2026-01-01}');
SELECT count(*) FROM meter.sum_months('{-1}', '{2026-01-01,infinity}');
SELECT count(*) FROM meter.sum_months(NULL, '{2026-01-01}');
SELECT count(*) FROM meter.sum_months('{NULL}', '{2026-01-01}');
RESET track_functions;
SELECT count(*) FROM meter.verify('2025-12-01', '2026-04-01');
-- Where users are more than are added up at a time, one comes out in parts, which add up. The cells are made by hand.
BEGIN;
INSERT INTO meter.rollup (first_timestamp, last_timestamp, start, event_count, last_id, digest, event_digest, meter_id, grain, dirty,
                          user_id, value_sum, value_min, value_max, last_value, value_time, dimensions)
SELECT '2031-01-02', '2031-01-02', '2031-01-01', 2, 1, md5(d::text)::uuid, md5('')::uuid, 1, 'm', false,
       CASE WHEN u = 0 THEN 'alone' ELSE 'many-' || u END, u + d, u, u, u, 0, '{}'
FROM generate_series(0, 155000) AS u, generate_series(1, 2) AS d WHERE u > 0 OR d = 1;
SELECT count(*) - count(DISTINCT user_id) AS more_parts, count(DISTINCT user_id) AS users, sum(event_count) AS events, sum(value_sum) AS sum,
       (SELECT 1 + sum(2 * u::numeric + 3) FROM generate_series(1, 155000) AS u) AS wanted
FROM meter.sum_months('{1}', '{2031-01-01}');
ROLLBACK;
VACUUM meter.rollup;
