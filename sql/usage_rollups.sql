-- meter.usage over rollups that a question cuts: days apart into hours, months with nothing between them, and questions
-- of the kind that asks for too much.
SET meter.dense_events = 2;
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET meter.org = 'usage_rollups';
\set VERBOSITY default
SELECT event_name FROM meter.create_meter('cut', 'sum', '{model,region}');
-- One of 1970, and then 90 minutes apart from November to January, a few in the same minute.
SELECT count(meter.record_event('cut', 'dense', 0.5, '{"model": "a"}', event_time => '1970-01-01 00:00:01'));
SELECT count(*) FROM (SELECT array_agg('cut'::text) AS names, array_agg('dense'::text) AS users,
    array_agg((i % 97 - 40)::numeric / 8) AS quantities, array_agg(jsonb_build_object('model', chr(97 + i % 3))) AS dimensions,
    array_agg('2025-11-20'::timestamptz + (i - i % 5) * interval '90 minutes' + i % 5 * interval '10 seconds') AS times
    FROM generate_series(0, 999) AS i) AS b,
    meter.record_events(b.names, b.users, b.quantities, b.dimensions, NULL, b.times) AS r WHERE r.status = 'recorded';
SELECT meter.fold() > 0 AS folded, meter.fold();
SELECT grain, count(*) > 20 AS many, count(hours) > 0 AS with_hours FROM meter.rollup
WHERE user_id = 'dense' AND meter_id = (SELECT id FROM meter.meter WHERE event_name = 'cut') GROUP BY 1 ORDER BY 1;

-- Each by plain SQL: no row differs. With an aggregation that needs an order and one that does not; by user and over all.
CREATE TEMP TABLE question AS
SELECT row_number() OVER () AS n, u.user_id, a.aggregation, z.zone, b.bucket, p.start, p.stop
FROM (VALUES ('dense'), (NULL)) AS u (user_id), unnest('{sum,count,min,max,last,avg}'::text[]) AS a (aggregation),
    unnest('{UTC,America/New_York,Asia/Kolkata}'::text[]) AS z (zone), unnest('{hour,day,month}'::text[]) AS b (bucket),
    (VALUES ('1970-01-01'::timestamptz, '2026-03-01'::timestamptz), ('2025-11-25 03:17:05.000001', '2026-01-09 21:40')) AS p (start, stop);
CREATE FUNCTION pg_temp.differing(q question) RETURNS bigint LANGUAGE sql AS $$
    WITH ours AS (
        SELECT u.bucket_start, u.dimensions, u.value, u.event_count
        FROM meter.usage('cut', q.start, q.stop, q.user_id, '{model}', bucket => q.bucket, time_zone => q.zone,
                         aggregation => q.aggregation) AS u
    ), plain AS (
        SELECT meter.bucket_start(e."timestamp", q.bucket, q.zone), jsonb_build_object('model', e.dimensions -> 'model'),
               CASE q.aggregation WHEN 'sum' THEN sum(e.value) WHEN 'count' THEN count(*) WHEN 'min' THEN min(e.value)
                   WHEN 'max' THEN max(e.value) WHEN 'last' THEN meter.last(e.value, e."timestamp", e.id)
                   ELSE trim_scale(trim_scale(sum(e.value)) / count(*)) END, count(*)
        FROM meter.meter_event e JOIN meter.meter m ON m.id = e.meter_id
        WHERE m.event_name = 'cut' AND e."timestamp" >= q.start AND e."timestamp" < q.stop GROUP BY 1, 2
    )
    SELECT count(*) FROM ((TABLE ours EXCEPT ALL TABLE plain) UNION ALL (TABLE plain EXCEPT ALL TABLE ours)) AS d
$$;
SELECT count(*) AS questions, sum(pg_temp.differing(q)) AS differing FROM question AS q;
-- More shapes of questions than a session keeps plans of, and again the first ones.
SELECT sum(u.event_count) FROM generate_series(1, 2) AS again, generate_series(0, 90) AS i,
    meter.usage('cut', '2025-11-20', '2026-03-01', CASE WHEN i % 2 = 0 THEN 'dense' END,
                CASE WHEN i % 3 = 0 THEN '{model}' WHEN i % 3 = 1 THEN '{region,user_id}' ELSE '{}' END::text[],
                CASE WHEN i % 5 = 0 THEN '{"model": ["a", "b", "c"]}' ELSE '{}' END::jsonb,
                CASE WHEN i % 7 < 5 THEN ('{hour,day,week,month,year}'::text[])[1 + i % 7] END,
                aggregation => ('{sum,count,min,max,last,avg}'::text[])[1 + i % 6]) AS u;

-- Too much.
SELECT * FROM meter.usage('cut', '0001-01-01', '9999-12-31', bucket => 'minute', fill => true);
SELECT * FROM meter.usage('cut', '0001-01-01', '9999-12-31', 'dense', bucket => 'minute', fill => true);
SELECT count(*), sum(event_count) FROM meter.usage('cut', '0001-01-01', '9999-12-31', bucket => 'minute', time_zone => 'Asia/Kolkata');
SELECT count(*), sum(event_count) FROM meter.usage('cut', '0001-01-01', '9999-12-31', 'dense', bucket => 'hour', time_zone => 'Asia/Kolkata');
SELECT * FROM meter.usage('cut', '2025-01-01', '2027-01-01', group_by => (SELECT array_agg('d' || i) FROM generate_series(1, 50) AS i));
SELECT value, event_count FROM meter.usage('cut', '2025-01-01', '2027-01-01',
    filter => (SELECT jsonb_build_object('model', jsonb_agg('m' || i) || '["a"]') FROM generate_series(1, 9999) AS i));
SELECT value, event_count FROM meter.usage('cut', '2025-01-01 00:30', '2027-01-01', 'dense',
    filter => (SELECT jsonb_build_object('model', jsonb_agg('m' || i) || '["a"]') FROM generate_series(1, 9999) AS i));
SELECT * FROM meter.usage('cut', '2025-01-01', '2027-01-01',
    filter => (SELECT jsonb_build_object('model', jsonb_agg(i)) FROM generate_series(1, 10001) AS i));
