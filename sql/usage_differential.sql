-- slow
-- meter.usage against plain GROUP BY over the events: random events, random questions.
SET client_min_messages = warning;
SET timezone = 'UTC';
SET meter.org = 'usage_differential';
SELECT event_name FROM meter.create_meter('sums', 'sum', '{model,region,n}');
SELECT event_name FROM meter.create_meter('lasts', 'last');
SELECT event_name FROM meter.create_meter('counts', 'count');
SELECT setseed(0.25);

-- Events of two years, many near changes of offset, many at one instant, some a microsecond beside it.
CREATE TEMP TABLE hot AS SELECT hot, row_number() OVER () AS n FROM unnest(ARRAY[
    '2026-03-08 05:00+00', '2026-03-08 07:00+00', '2026-11-01 04:00+00', '2026-11-01 06:00+00',
    '2026-03-29 01:00+00', '2026-10-25 01:00+00', '2026-04-04 15:00+00', '2026-10-03 15:30+00',
    '2026-01-01 00:00+00', '2026-12-31 18:30+00', '2026-02-01 00:00+00', '2025-12-31 23:00+00',
    '2026-06-01 04:00+00', '2026-06-15 12:00+00']::timestamptz[]) AS hot;
INSERT INTO meter.meter_event ("timestamp", meter_id, user_id, value, dimensions)
SELECT CASE WHEN random() < 0.3 THEN timestamptz '2025-06-01' + random() * interval '730 days'
            ELSE hot + CASE WHEN random() < 0.3 THEN interval '0'
                            WHEN random() < 0.5 THEN interval '1 minute' * floor(random() * 240 - 120)
                            ELSE interval '1 microsecond' * floor(random() * 5 - 2) END END,
       m.id, (ARRAY['ann', 'bob', 'Ann', 'ünal', 'o''brien', '{user_id}'])[1 + i % 6],
       (ARRAY[1, 0.5, -2.25, 0, 123456789012345678901234567890, 0.000000000000000001, 3, 10])[1 + floor(random() * 8)::int],
       jsonb_strip_nulls(jsonb_build_object(
           'model', (ARRAY['"gpt-4"', '"gpt-3"', 'null', '""', 'true']::jsonb[])[1 + floor(random() * 5)::int],
           'region', (ARRAY['"us"', '"eu"', 'null']::jsonb[])[1 + floor(random() * 3)::int],
           'n', (ARRAY['1', '"1"', '1.5', 'null', 'null']::jsonb[])[1 + floor(random() * 5)::int]))
FROM meter.meter AS m, generate_series(1, 2500) AS i, hot
WHERE m.org = 'usage_differential' AND hot.n = 1 + i % 14;
ANALYZE meter.meter_event;
-- Written past record_event, they have no deltas.
SELECT meter.rebuild('2025-01-01', '2028-01-01') AS events;

-- What a bucket is, told by local time: see usage_buckets.sql. In these zones no clock falls back over
-- midnight, so the date on it is the day.
CREATE FUNCTION pg_temp.label(t timestamptz, bucket text, zone text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT date_trunc(bucket, t AT TIME ZONE zone)::text
           || CASE WHEN bucket IN ('minute', 'hour')
                   THEN ((t AT TIME ZONE zone) - (t AT TIME ZONE 'UTC'))::text ELSE '' END
$$;

-- The same as JSON, a missing one null.
CREATE FUNCTION pg_temp.passes(dimensions jsonb, filter jsonb) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT NOT EXISTS (
        SELECT FROM jsonb_each(filter) AS f (name, wanted)
        WHERE NOT EXISTS (
            SELECT FROM jsonb_array_elements(CASE jsonb_typeof(wanted) WHEN 'array' THEN wanted
                                             ELSE jsonb_build_array(wanted) END) AS w
            WHERE NULLIF(w, 'null') IS NOT DISTINCT FROM NULLIF(dimensions -> name, 'null')))
$$;

-- One question, asked both ways: the rows that only one of the two answers has.
CREATE FUNCTION pg_temp.differ(event text, from_time timestamptz, to_time timestamptz, who text, names text[],
                               wanted jsonb, unit text, zone text, how text, filled boolean,
                               OUT rows bigint, OUT differences bigint)
LANGUAGE plpgsql AS $f$
BEGIN
    EXECUTE format($q$
        WITH ours AS MATERIALIZED (
            SELECT CASE WHEN $7 IS NULL THEN '' ELSE pg_temp.label(u.bucket_start, $7, $8) END AS label,
                   u.user_id, u.dimensions, u.value, u.event_count
            FROM meter.usage($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) AS u
            WHERE $7 IS NULL OR (u.bucket_end > $2 AND u.bucket_start < $3)
        ), plain AS (
            SELECT CASE WHEN $7 IS NULL THEN '' ELSE pg_temp.label(e."timestamp", $7, $8) END AS label,
                   CASE WHEN 'user_id' = ANY ($5) THEN e.user_id ELSE $4 END AS user_id,
                   (SELECT COALESCE(jsonb_object_agg(n, e.dimensions -> n), '{}') FROM unnest($5) AS n WHERE n <> 'user_id') AS dimensions,
                   e.*
            FROM (SELECT "timestamp", id, user_id, value, dimensions FROM meter.meter_event
                  WHERE meter_id = (SELECT id FROM meter.meter WHERE org = 'usage_differential' AND event_name = $1)
                    AND "timestamp" >= $2 AND "timestamp" < $3 AND ($4 IS NULL OR user_id = $4)
                    AND pg_temp.passes(dimensions, $6)) AS e
        ), expected AS (
            SELECT label, user_id, dimensions, %1$s AS value, count(*) AS event_count
            FROM (SELECT label, p.user_id, p.dimensions, value, "timestamp", id FROM plain AS p (label, user_id, dimensions, "timestamp", id, u2, value, d2)) AS p
            GROUP BY label, user_id, dimensions
            UNION ALL
            SELECT '', $4, '{}', CASE WHEN %2$L THEN 0 END, 0
            WHERE $7 IS NULL AND $5 = '{}' AND NOT EXISTS (SELECT FROM plain)
        )
        SELECT (SELECT count(*) FROM ours),
               (SELECT count(*) FROM ours FULL JOIN expected AS x
                    ON x.label = ours.label AND x.dimensions = ours.dimensions AND COALESCE(x.user_id, '-') = COALESCE(ours.user_id, '-')
                WHERE NOT ($10 AND ours.event_count = 0 AND x.label IS NULL AND ours.value IS NOT DISTINCT FROM CASE WHEN %2$L THEN 0 END)
                  AND (ours.value::text, ours.event_count) IS DISTINCT FROM (trim_scale(x.value)::text, x.event_count))
               + (SELECT count(*) - count(DISTINCT (label, user_id, dimensions)) FROM ours)
        $q$,
        CASE COALESCE(how, rtrim(event, 's'))
            WHEN 'count' THEN 'count(*)::numeric'
            WHEN 'last' THEN '(array_agg(value ORDER BY "timestamp" DESC, id DESC))[1]'
            WHEN 'avg' THEN 'trim_scale(sum(value)) / count(*)'
            ELSE COALESCE(how, 'sum') || '(value)' END,
        COALESCE(how, rtrim(event, 's')) IN ('sum', 'count'))
    INTO rows, differences USING event, from_time, to_time, who, names, wanted, unit, zone, how, filled;
END
$f$;

CREATE TEMP TABLE question AS
SELECT i,
    (ARRAY['sums', 'lasts', 'counts'])[1 + i % 3] AS event,
    p.a AS from_time,
    CASE WHEN random() < 0.4 THEN p.a + random() * interval '3 days'
         WHEN random() < 0.6 THEN COALESCE((SELECT min(hot) FROM hot WHERE hot > p.a + interval '1 minute'), p.a) + interval '1 microsecond' * (i % 3)
         ELSE p.a + random() * interval '400 days' END AS to_time,
    CASE WHEN random() < 0.3 THEN (ARRAY['ann', 'o''brien', 'ünal', 'nobody'])[1 + floor(random() * 4)::int] END AS who,
    (ARRAY['{}', '{user_id}', '{model}', '{n}', '{region,model}', '{user_id,n,model,region}'])[1 + floor(random() * 6)::int]::text[] AS names,
    (ARRAY['{}', '{}', '{"model": "gpt-4"}', '{"model": [null, "gpt-3"], "region": ["us", null]}', '{"n": [1.0]}',
           '{"n": "1"}', '{"region": []}', '{"model": [true, ""], "n": null}'])[1 + floor(random() * 8)::int]::jsonb AS wanted,
    (ARRAY['minute', 'hour', 'day', 'week', 'month', 'year', NULL])[1 + floor(random() * 7)::int] AS unit,
    (ARRAY['UTC', 'America/New_York', 'Europe/Berlin', 'Australia/Lord_Howe', 'Asia/Kolkata', 'Asia/Kathmandu',
           'Pacific/Chatham', 'Pacific/Kiritimati', 'America/Havana', 'Europe/London'])[1 + floor(random() * 10)::int] AS zone,
    (ARRAY['sum', 'count', 'last', 'min', 'max', 'avg', NULL, NULL])[1 + floor(random() * 8)::int] AS how,
    random() < 0.3 AS filled
FROM generate_series(1, 400) AS i,
LATERAL (SELECT CASE WHEN random() < 0.5 THEN hot + interval '1 microsecond' * floor(random() * 5 - 2)
                     ELSE hot - random() * interval '200 days' END AS a
         FROM hot WHERE n = 1 + (i * 5) % 14) AS p;
-- Minutes are filled in short periods only, or there would be more of them than is worth the wait.
UPDATE question SET filled = false WHERE unit IN ('minute', 'hour') AND to_time - from_time > interval '3 days';

CREATE TEMP TABLE answer AS
SELECT q.*, d.rows, d.differences
FROM question AS q, pg_temp.differ(event, from_time, to_time, who, names, wanted, unit, zone, how, filled) AS d;
SELECT count(*) AS questions, sum(rows) > 10000 AS enough_rows, count(*) FILTER (WHERE rows > 1) > 150 AS enough_answers,
       sum(differences) AS differences
FROM answer;
SELECT * FROM answer WHERE differences > 0 ORDER BY i LIMIT 5;

-- Filled: every bucket from the period's first to its last, each starting where the one before ended,
-- and the same sums as unfilled.
SELECT count(*) > 200 AS enough_questions, count(*) FILTER (WHERE NOT (whole AND equal)) AS differences
FROM question,
LATERAL (
    SELECT count(*) = 0 OR bool_and(COALESCE(bucket_start = before, bucket_start <= from_time) AND (after IS NOT NULL OR bucket_end >= to_time)) AS whole,
           COALESCE(sum(event_count), 0) = (SELECT COALESCE(sum(event_count), 0) FROM meter.usage(event, from_time, to_time, who, names, wanted, unit, zone, how)) AS equal
    FROM (SELECT *, lag(bucket_end) OVER w AS before, lead(bucket_start) OVER w AS after
          FROM meter.usage(event, from_time, to_time, who, names, wanted, unit, zone, how, true)
          WINDOW w AS (PARTITION BY user_id, dimensions ORDER BY bucket_start)) AS f
) AS l
WHERE unit IN ('day', 'week', 'month', 'year') OR (unit IS NOT NULL AND to_time - from_time < interval '3 days');

-- The report is each meter's usage by user.
SELECT count(*) > 300 AS enough_rows, count(*) FILTER (WHERE r.value::text IS DISTINCT FROM u.value::text OR r.event_count IS DISTINCT FROM u.event_count) AS differences
FROM (SELECT DISTINCT from_time, to_time FROM question WHERE i % 10 = 0) AS q,
LATERAL (
    SELECT r.*, u.value AS v, u.event_count AS n FROM meter.usage_report(from_time, to_time) AS r
    FULL JOIN (SELECT m.event_name, u.* FROM meter.meter AS m, meter.usage(m.event_name, from_time, to_time, group_by => '{user_id}') AS u
               WHERE m.org = 'usage_differential') AS u USING (event_name, user_id)
) AS r (event_name, user_id, value, event_count, v, n),
LATERAL (SELECT v AS value, n AS event_count) AS u;

-- The same under parallel plans and merge plans.
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET min_parallel_index_scan_size = 0;
CREATE TEMP TABLE again AS
SELECT q.i, d.* FROM question AS q, pg_temp.differ(event, from_time, to_time, who, names, wanted, unit, zone, how, filled) AS d WHERE i <= 60;
SET enable_hashagg = off;
INSERT INTO again
SELECT q.i, d.* FROM question AS q, pg_temp.differ(event, from_time, to_time, who, names, wanted, unit, zone, how, filled) AS d WHERE i <= 60;
SELECT count(*) AS questions, sum(differences) AS differences FROM again;
