-- slow
-- Dimensions with too many values are left out of the rollups, and no answer changes.
SET client_min_messages = warning;
SET timezone = 'UTC';
TRUNCATE meter.meter, meter.meter_event, meter.event_key, meter.rollup_pending, meter.rollup_generation, meter.rollup_state, meter.rollup, meter.rollup_total, meter.rollup_days, meter.rollup_month, meter.rollup_meter, meter.usage_limit, meter.limit_usage, meter.alert_rule, meter.alert, meter.event_void RESTART IDENTITY;
LOAD 'meter';
SET meter.max_cells = 1000;
SELECT event_name FROM meter.create_meter('calls', dimensions => '{model,region,request_id}');
SELECT event_name FROM meter.create_meter('few', dimensions => '{model}');
SELECT event_name FROM meter.create_meter('names');
SELECT event_name FROM meter.create_meter('grid');
CREATE PROCEDURE pg_temp.record(meter text, first int, last int, dimensions text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('SELECT count(*) FROM meter.record_events(array_fill(%L::text, ARRAY[$2 - $1 + 1]),
        (SELECT array_agg(''user-'' || i %% 7) FROM generate_series($1, $2) AS i),
        (SELECT array_agg(i / 8.0) FROM generate_series($1, $2) AS i),
        (SELECT array_agg(%s) FROM generate_series($1, $2) AS i), NULL,
        (SELECT array_agg(timestamptz ''2026-01-01'' + i * interval ''17 minutes'') FROM generate_series($1, $2) AS i), NULL)',
        meter, dimensions) USING first, last;
END $$;
CREATE PROCEDURE pg_temp.record_all(first int, last int) LANGUAGE plpgsql AS $$
BEGIN
    -- Two events a request; some have none.
    CALL pg_temp.record('calls', first, last, $d$jsonb_strip_nulls(jsonb_build_object('model', 'm' || i % 3, 'region', CASE WHEN i % 2 = 0 THEN 'us' END,
        'request_id', CASE WHEN i % 10 > 0 THEN 'request ' || i / 2 END))$d$);
    -- As many users and events, few dimensions.
    CALL pg_temp.record('few', first, last, $d$jsonb_build_object('model', 'm' || i % 3)$d$);
    -- Every event has a dimension of its own name.
    CALL pg_temp.record('names', first, last, $d$jsonb_build_object('model', 'm' || i % 3, 'is ' || i, true)$d$);
    -- Each dimension has few values; together they make many cells.
    CALL pg_temp.record('grid', first, last, $d$jsonb_build_object('x', i % 41, 'y', i % 43, 'z', i % 2)$d$);
END $$;
CREATE TEMP TABLE question AS
SELECT row_number() OVER () AS number, q.* FROM (VALUES ('{}', '{}', NULL, NULL), ('{model}', '{}', 'day', NULL), ('{region,user_id}', '{"model": "m1"}', NULL, 'user-3'),
    ('{request_id}', '{}', NULL, NULL), ('{request_id,model}', '{}', 'month', 'user-2'), ('{user_id}', '{"request_id": ["request 5", "request 600", null]}', NULL, NULL),
    ('{}', '{"is 700": true}', NULL, NULL), ('{is 700}', '{}', NULL, NULL), ('{x}', '{"y": [4, 5]}', NULL, NULL), ('{z,y}', '{}', 'week', NULL)) AS q (group_by, filter, bucket, user_id);
CREATE TEMP VIEW answer AS
SELECT number, m.event_name, p.period_start, u.bucket_start, u.user_id, u.dimensions, u.value, u.event_count, u.last
FROM question q, (VALUES ('calls'), ('few'), ('names'), ('grid')) AS m (event_name),
    (VALUES (timestamptz '2026-01-01', timestamptz '2026-02-01'), ('2026-01-03 10:20:30', '2026-02-10 07:00')) AS p (period_start, period_end),
    LATERAL (SELECT s.*, l.value AS last
        FROM meter.usage(m.event_name, period_start, period_end, q.user_id, group_by::text[], filter::jsonb, bucket) WITH ORDINALITY AS s
        JOIN meter.usage(m.event_name, period_start, period_end, q.user_id, group_by::text[], filter::jsonb, bucket, aggregation => 'last') WITH ORDINALITY AS l USING (ordinality)) AS u
WHERE CASE m.event_name WHEN 'calls' THEN group_by || filter !~ 'is|x|y' WHEN 'few' THEN group_by || filter !~ 'is|x|y|reg|req' ELSE true END;
CREATE TEMP VIEW left_out AS SELECT m.event_name, l.left_out, l.kept FROM meter.rollup_meter l JOIN meter.meter m ON m.id = l.meter_id;
CREATE TEMP VIEW cell AS SELECT m.event_name, count(*) FROM meter.rollup_total r JOIN meter.meter m ON m.id = r.meter_id WHERE r.grain = 'm' GROUP BY 1;

CALL pg_temp.record_all(1, 900);
SELECT meter.fold() > 0 AS folded;
-- Few cells are not judged.
TABLE left_out;
CALL pg_temp.record_all(901, 3000);
CREATE TEMP TABLE before AS TABLE answer;
SELECT event_name, count(*), sum(event_count) FROM before GROUP BY 1 ORDER BY 1;
SELECT meter.fold() > 0 AS folded;
SELECT * FROM left_out ORDER BY 1;
SELECT count(*) FROM (TABLE before EXCEPT ALL TABLE answer) AS lost;
SELECT count(*) FROM (TABLE answer EXCEPT ALL TABLE before) AS gained;
SELECT * FROM meter.verify('2026-01-01', '2026-04-01');
SELECT event_name, month, cells, events_per_cell, left_out FROM meter.status ORDER BY 1;

-- More of the same: cells are as they were, but for the sets that are new without what is left out.
CREATE TEMP TABLE cells_before AS TABLE cell;
CALL pg_temp.record_all(3001, 4000);
DROP TABLE before;
CREATE TEMP TABLE before AS TABLE answer;
SELECT meter.fold() > 0 AS folded;
SELECT event_name, c.count - b.count AS more FROM cell c JOIN cells_before b USING (event_name) ORDER BY 1;
SELECT count(*) FROM (TABLE before EXCEPT ALL TABLE answer) AS lost;
SELECT count(*) FROM (TABLE answer EXCEPT ALL TABLE before) AS gained;
SELECT * FROM meter.verify('2026-01-01', '2026-04-01');
-- Not folded yet.
CALL pg_temp.record_all(4001, 4100);
DROP TABLE before;
CREATE TEMP TABLE before AS TABLE answer;
SELECT * FROM meter.verify('2026-01-01', '2026-04-01');

-- A rebuild makes them few.
SELECT meter.rebuild('2026-01-01', '2026-04-01') AS events;
SELECT * FROM cell ORDER BY 1;
SELECT count(*) FROM (TABLE before EXCEPT ALL TABLE answer) AS lost;
SELECT count(*) FROM (TABLE answer EXCEPT ALL TABLE before) AS gained;
SELECT * FROM meter.verify('2026-01-01', '2026-04-01');
-- The events are needed for what was left out alone.
BEGIN;
DELETE FROM meter.meter_event;
SELECT event_count FROM meter.usage('calls', '2026-01-01', '2026-02-01', group_by => '{model}');
SELECT event_count FROM meter.usage('calls', '2026-01-01', '2026-02-01', filter => '{"request_id": "request 5"}');
ROLLBACK;

-- Broken by hand: found.
BEGIN;
UPDATE meter.rollup SET value_sum = value_sum + 1 WHERE meter_id = 1 AND grain = 'm' AND start = '2026-01-01' AND user_id = 'user-1' AND dimensions = '{"model": "m1"}';
UPDATE meter.rollup_total SET digest = '00000000-0000-0000-0000-000000000000' WHERE meter_id = 1 AND grain = 'm' AND start = '2026-02-01' AND dimensions = '{"model": "m1"}';
SELECT event_name, grain, start, user_id, dimensions, expected -> 'sum' AS expected, actual -> 'sum' AS actual FROM meter.verify('2026-01-01', '2026-04-01') ORDER BY start, expected -> 'sum' NULLS FIRST;
ROLLBACK;

-- Taken in again, for good: cells are made anew from the events.
SELECT meter.take_in('calls', 'request_id') AS events;
SELECT * FROM left_out ORDER BY 1;
SELECT count FROM cell WHERE event_name = 'calls';
SELECT count(*) FROM (TABLE before EXCEPT ALL TABLE answer) AS lost;
SELECT count(*) FROM (TABLE answer EXCEPT ALL TABLE before) AS gained;
SELECT meter.rebuild('2026-01-01', '2026-04-01', 'calls') AS events;
SELECT left_out, kept FROM left_out WHERE event_name = 'calls';
-- One of many, and all.
SELECT meter.take_in('names', 'model') AS events;
SELECT left_out, kept FROM left_out WHERE event_name = 'names';
SELECT dimensions, count(*) FROM meter.rollup_total WHERE meter_id = 3 AND grain = 'm' GROUP BY 1 ORDER BY 1;
SELECT * FROM meter.verify('2026-01-01', '2026-04-01');
SELECT count(*) FROM (TABLE before EXCEPT ALL TABLE answer) AS lost;
SELECT meter.take_in('names') AS events;
SELECT left_out, kept FROM left_out WHERE event_name = 'names';
SELECT count(*) > 4000 AS many FROM meter.rollup_total WHERE meter_id = 3 AND grain = 'm';
SELECT count(*) FROM (TABLE before EXCEPT ALL TABLE answer) AS lost;
-- Left out by hand.
SELECT meter.leave_out('few', 'model');
SELECT meter.leave_out('few', 'model');
SELECT meter.leave_out('names', 'is 700');
SELECT meter.leave_out('calls');
SELECT * FROM left_out ORDER BY 1;
SELECT count(*) FROM (TABLE before EXCEPT ALL TABLE answer) AS lost;
SELECT count(*) FROM (TABLE answer EXCEPT ALL TABLE before) AS gained;
SELECT * FROM meter.verify('2026-01-01', '2026-04-01');
CALL pg_temp.record_all(4101, 4200);
DROP TABLE before;
CREATE TEMP TABLE before AS TABLE answer;
SELECT meter.fold() > 0 AS folded;
SELECT dimensions, sum(event_count) FROM meter.rollup_total WHERE meter_id = 2 AND grain = 'm' GROUP BY 1 ORDER BY 1;
SELECT count(*) FROM (TABLE before EXCEPT ALL TABLE answer) AS lost;
SELECT count(*) FROM (TABLE answer EXCEPT ALL TABLE before) AS gained;
SELECT * FROM meter.verify('2026-01-01', '2026-04-01');
-- What was not left out needs nothing made anew.
SELECT meter.take_in('few', 'model') AS events, meter.take_in('few', 'model') AS again;
SELECT * FROM meter.verify('2026-01-01', '2026-04-01');

-- Refused.
SELECT meter.leave_out('calls', 'unknown');
SELECT meter.leave_out('calls', '');
SELECT meter.take_in('names', 'user_id');
SELECT meter.take_in('unknown');
SELECT meter.leave_out(NULL);
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT meter.take_in('few');
ROLLBACK;
CREATE ROLE left_out_admin;
CREATE ROLE left_out_bound;
SELECT meter.grant_access('left_out_admin', 'admin');
SELECT meter.grant_access('left_out_bound', 'admin', 'default');
SET ROLE left_out_admin;
SET meter.org = 'elsewhere';
SELECT meter.leave_out('few');
RESET meter.org;
SET ROLE left_out_bound;
SELECT meter.leave_out('few');
SELECT meter.take_in('few');
RESET ROLE;
GRANT EXECUTE ON FUNCTION meter.leave_out TO left_out_bound;
GRANT EXECUTE ON FUNCTION meter.take_in TO left_out_bound;
SET ROLE left_out_bound;
SELECT meter.leave_out('few');
SELECT meter.take_in('few');
RESET ROLE;
REVOKE EXECUTE ON FUNCTION meter.leave_out FROM left_out_bound;
REVOKE EXECUTE ON FUNCTION meter.take_in FROM left_out_bound;
SELECT meter.revoke_access('left_out_admin'), meter.revoke_access('left_out_bound');
DROP ROLE left_out_admin, left_out_bound;
-- A meter that is dropped leaves nothing behind.
SELECT count(*) FROM meter.create_meter('brief', dimensions => '{model}');
SELECT meter.leave_out('brief', 'model');
SELECT left_out FROM left_out WHERE event_name = 'brief';
SELECT meter.drop_meter('brief');
SELECT count(*) FROM meter.rollup_meter l WHERE NOT EXISTS (SELECT FROM meter.meter m WHERE m.id = l.meter_id);
RESET meter.max_cells;
TRUNCATE meter.meter, meter.meter_event, meter.event_key, meter.rollup_pending, meter.rollup_generation, meter.rollup_state, meter.rollup, meter.rollup_total, meter.rollup_days, meter.rollup_month, meter.rollup_meter, meter.usage_limit, meter.limit_usage, meter.alert_rule, meter.alert, meter.event_void RESTART IDENTITY;
