-- list_events: pages of events, newest first.
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
SELECT count(*) FROM meter.create_meter('calls', 'count', '{model,region}');
SELECT count(*) FROM meter.create_meter('other', 'count');
SET client_min_messages = error;
SELECT count(*) > 0 AS made FROM meter.create_partitions(0, '2026-01-01');
RESET client_min_messages;
-- Ties in the timestamp, several months, the default partition on both sides, another meter and org in between.
INSERT INTO meter.meter_event (meter_id, user_id, value, "timestamp", dimensions)
SELECT 1 + i % 2, 'u' || i % 3, i, timestamptz '2025-11-01' + (i / 7) * interval '1 day',
       CASE i % 4 WHEN 0 THEN '{}'::jsonb WHEN 1 THEN '{"model": "a"}' WHEN 2 THEN '{"model": "b", "region": "us"}' ELSE '{"model": 1}' END
FROM generate_series(1, 1000) i;

-- Walks all pages of a size; returns the ids in the order they came.
CREATE FUNCTION pg_temp.all_pages(size integer, start_at timestamptz, end_at timestamptz, who text, matching jsonb) RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
    ids bigint[] := '{}';
    page bigint[];
    last_time timestamptz;
    last_id bigint;
BEGIN
    LOOP
        SELECT array_agg(id ORDER BY n), (array_agg("timestamp" ORDER BY n DESC))[1], (array_agg(id ORDER BY n DESC))[1]
        INTO page, last_time, last_id
        FROM (SELECT row_number() OVER () AS n, e.*
              FROM meter.list_events('calls', start_at, end_at, who, matching, size, last_time, last_id) AS e) AS p;
        EXIT WHEN page IS NULL;
        IF cardinality(page) > size THEN
            RAISE 'a page of % rows', cardinality(page);
        END IF;
        ids := ids || page;
    END LOOP;
    RETURN ids;
END
$$;
-- Equal to plain SQL for every page size, period, user and filter.
SELECT count(*) AS questions, count(*) FILTER (WHERE pages IS DISTINCT FROM plain) AS wrong, max(cardinality(plain)) AS most
FROM (VALUES (1), (2), (7), (100), (1000)) AS s (size),
     (VALUES (NULL::timestamptz, NULL::timestamptz), ('2026-01-15', NULL), (NULL, '2026-01-15'), ('2025-12-31 12:00', '2026-02-01'),
             ('2026-01-01', '2026-01-01'), ('2030-01-01', '2031-01-01')) AS p (start_at, end_at),
     (VALUES (NULL), ('u1'), ('nobody')) AS u (who),
     (VALUES (NULL::jsonb), ('{"model": "a"}'), ('{"model": ["a", "b"], "region": null}'), ('{"model": [1, null]}')) AS f (matching),
     LATERAL (SELECT pg_temp.all_pages(size, start_at, end_at, who, matching) AS pages) AS a,
     LATERAL (SELECT coalesce(array_agg(id ORDER BY "timestamp" DESC, id DESC), '{}') AS plain
              FROM meter.meter_event
              WHERE meter_id = 1 AND ("timestamp" >= start_at OR start_at IS NULL) AND ("timestamp" < end_at OR end_at IS NULL)
                AND (user_id = who OR who IS NULL)
                AND (matching IS NULL OR (matching -> 'model' @> coalesce(dimensions -> 'model', 'null')
                                          AND (NOT matching ? 'region' OR NOT dimensions ? 'region')))) AS b
WHERE size >= 7 OR who = 'u1';

-- The row is the table's row; the default page has 100.
SELECT bool_and(l = e) AS whole, count(*) FROM meter.list_events('calls') AS l JOIN meter.meter_event AS e USING (id);
SELECT count(*) FROM meter.list_events('calls', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT count(*) FROM meter.list_events('other', max_rows => 100000);

-- An archived meter's events stay readable; another org's are not there.
SELECT count(*) FROM meter.archive_meter('other');
SELECT count(*) FROM meter.list_events('other');
SET meter.org = 'acme';
SELECT pg_temp.sqlstate_of($$SELECT meter.list_events('calls')$$);
RESET meter.org;

-- What it refuses.
SELECT pg_temp.sqlstate_of('SELECT meter.list_events(' || arguments || ')')
FROM (VALUES ('NULL'), ($$'nothing'$$), ($$'calls', max_rows => 0$$), ($$'calls', max_rows => -1$$), ($$'calls', max_rows => 100001$$),
             ($$'calls', '2026-02-01', '2026-01-01'$$), ($$'calls', after_id => 1$$), ($$'calls', after_time => now()$$),
             ($$'calls', filter => '[]'$$), ($$'calls', filter => '{"modle": 1}'$$), ($$'calls', filter => '{"model": {"a": 1}}'$$),
             ($$'calls', filter => '{"user_id": "u1"}'$$)) AS t (arguments);

-- The settings that a page makes for itself are the session's own again.
SELECT current_setting('enable_sort') AS sort, current_setting('enable_seqscan') AS seqscan,
       current_setting('enable_bitmapscan') AS bitmapscan, current_setting('plan_cache_mode') AS plan_cache_mode;
