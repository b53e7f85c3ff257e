-- slow
-- The aggregations first, unique_count and weighted_sum, and rounding.
TRUNCATE meter.meter, meter.meter_event, meter.event_key, meter.rollup_pending, meter.rollup_generation, meter.rollup_state, meter.rollup, meter.rollup_total, meter.rollup_days, meter.rollup_month, meter.rollup_meter, meter.usage_limit, meter.limit_usage, meter.alert_rule, meter.alert, meter.event_void, meter.retention RESTART IDENTITY;
SET TIME ZONE 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;

-- Meters: each aggregation, what it counts, how results are rounded.
SELECT event_name, aggregation, property, rounding, rounding_precision
FROM unnest('{sum,count,last,first,min,max,avg,weighted_sum}'::text[]) AS a, meter.create_meter('m.' || a, a);
SELECT event_name, aggregation, property, rounding, rounding_precision
FROM meter.create_meter('visitors', 'unique_count', '{session,page}', property => 'session');
SELECT event_name, property FROM meter.create_meter('tags', 'unique_count', property => 'metadata.tag');
SELECT event_name, property FROM meter.create_meter('active', 'unique_count', property => 'user_id');
SELECT event_name, rounding, rounding_precision FROM meter.create_meter('seats', 'weighted_sum', rounding => 'round', rounding_precision => 5);
SELECT event_name, rounding, rounding_precision FROM meter.create_meter('plain', dimensions => '{model}');
SELECT event_name, aggregation, property, rounding, rounding_precision FROM meter.list_meters();
-- The same meter again is the one that is there; another property or rounding is another meter.
SELECT property FROM meter.create_meter('visitors', 'unique_count', '{page,session}', property => 'session', if_not_exists => true);
SELECT property FROM meter.create_meter('visitors', 'unique_count', '{page,session}', property => 'page', if_not_exists => true);
SELECT rounding FROM meter.create_meter('seats', 'weighted_sum', rounding => 'ceil', rounding_precision => 5, if_not_exists => true);

-- Changing one: what is not given stays, and a property goes with unique_count.
SELECT aggregation, property, rounding, rounding_precision FROM meter.update_meter('visitors', name => 'Visitors');
SELECT aggregation, property FROM meter.update_meter('visitors', property => 'metadata.tag');
SELECT aggregation, property FROM meter.update_meter('visitors', aggregation => 'count');
SELECT aggregation, property FROM meter.update_meter('visitors', aggregation => 'unique_count');
SELECT aggregation, property FROM meter.update_meter('visitors', aggregation => 'unique_count', property => 'session');
SELECT rounding, rounding_precision FROM meter.update_meter('visitors', rounding => 'ceil', rounding_precision => -1);
SELECT rounding, rounding_precision FROM meter.update_meter('visitors', rounding_precision => 2);
SELECT rounding, rounding_precision FROM meter.update_meter('visitors', rounding => 'none');
SELECT rounding, rounding_precision FROM meter.update_meter('visitors', rounding_precision => 2);

-- What is refused.
DO $$
DECLARE
    statement text;
    state text;
    message text;
    hint text;
BEGIN
    FOREACH statement IN ARRAY ARRAY[
        $q$meter.create_meter('x', 'median')$q$,
        $q$meter.create_meter('x', 'unique_count')$q$,
        $q$meter.create_meter('x', 'unique_count', property => '')$q$,
        $q$meter.create_meter('x', 'unique_count', '{a}', property => 'b')$q$,
        $q$meter.create_meter('x', 'unique_count', property => 'metadata.')$q$,
        $q$meter.create_meter('x', 'unique_count', property => repeat('n', 256))$q$,
        $q$meter.create_meter('x', 'sum', property => 'a')$q$,
        $q$meter.create_meter('x', rounding => 'up')$q$,
        $q$meter.create_meter('x', rounding => 'round', rounding_precision => 19)$q$,
        $q$meter.create_meter('x', rounding => 'round', rounding_precision => -31)$q$,
        $q$meter.create_meter('x', rounding_precision => 2)$q$,
        $q$meter.create_meter('x', rounding => 'none', rounding_precision => 0)$q$,
        $q$meter.update_meter('plain', property => 'model')$q$,
        $q$meter.update_meter('plain', aggregation => 'unique_count')$q$,
        $q$meter.update_meter('plain', aggregation => 'unique_count', property => 'colour')$q$,
        $q$meter.update_meter('plain', aggregation => 'median')$q$,
        $q$meter.usage('plain', '2026-01-01', '2026-02-01', aggregation => 'median')$q$,
        $q$meter.usage('plain', '2026-01-01', '2026-02-01', aggregation => 'unique_count')$q$,
        $q$meter.usage('plain', '2026-01-01', '2026-02-01', aggregation => 'unique_count', property => 'colour')$q$,
        $q$meter.usage('plain', '2026-01-01', '2026-02-01', property => 'model')$q$,
        $q$meter.usage('visitors', '2026-01-01', '2026-02-01', aggregation => 'last', property => 'session')$q$,
        $q$meter.usage('plain', '2026-01-01', '2026-02-01', rounding => 'Round')$q$,
        $q$meter.usage('plain', '2026-01-01', '2026-02-01', rounding_precision => 1)$q$,
        $q$meter.usage('plain', '2026-01-01', '2026-02-01', rounding => 'none', rounding_precision => 1)$q$,
        $q$meter.usage('plain', '2026-01-01', '2026-02-01', rounding => 'ceil', rounding_precision => 2000000000)$q$,
        $q$meter.round_value(1, 'ceil', -31)$q$,
        $q$meter.round_value(1, 'even', 0)$q$]
    LOOP
        BEGIN
            EXECUTE 'SELECT FROM ' || statement;
            RAISE EXCEPTION '% was not refused', statement;
        EXCEPTION WHEN invalid_parameter_value THEN
            GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
            RAISE WARNING '%', replace(format(E'%s\n  %s: %s%s', statement, state, message, E'\n  ' || NULLIF(hint, '')), repeat('n', 256), 'nnn...');
        END;
    END LOOP;
END
$$;
\set VERBOSITY terse
-- Nor by hand.
INSERT INTO meter.meter (org, name, event_name, aggregation, currency, dimensions, metadata, created_at, updated_at)
VALUES ('default', 'x', 'x', 'unique_count', 'usd', '{}', '{}', now(), now());
UPDATE meter.meter SET rounding_precision = 2 WHERE event_name = 'plain';
UPDATE meter.meter SET rounding = 'round', rounding_precision = 19 WHERE event_name = 'plain';
\set VERBOSITY default

-- weighted_sum: a level that events raise and lower, over the period's whole length.
SELECT count(meter.record_event('seats', 'ann', v, '{}', event_time => ('2023-03-05 ' || t)::timestamptz))
FROM (VALUES (2, '00:00'), (3, '01:00'), (1, '01:30'), (-4, '02:00'), (-2, '04:00'), (10, '05:00'), (-10, '05:30')) AS e (v, t);
SELECT value, event_count FROM meter.usage('seats', '2023-03-01', '2023-04-01');
SELECT value, event_count FROM meter.usage('seats', '2023-03-01', '2023-04-01', rounding => 'none');
SELECT meter.fold();
SELECT value, event_count FROM meter.usage('seats', '2023-03-01', '2023-04-01');
SELECT value, event_count FROM meter.usage('seats', '2023-03-01', '2023-04-01', rounding => 'none');
-- What was there before is carried in, and the last level is carried on, with no event in the period.
SELECT count(meter.record_event('seats', u, v, d, event_time => t::timestamptz))
FROM (VALUES ('bob', 3, '{"plan": "pro"}'::jsonb, '2022-11-30 12:00'), ('bob', 1.5, '{"plan": "free"}', '2023-02-28 23:59:59.999999'),
    ('bob', -1.5, '{"plan": "free"}', '2023-04-01'), ('cid', 7, '{"plan": "pro"}', '2023-01-01'), ('cid', -7, '{"plan": "pro"}', '2023-01-02')) AS e (u, v, d, t);
SELECT user_id, value, event_count FROM meter.usage('seats', '2023-03-01', '2023-04-01', group_by => '{user_id}');
SELECT dimensions, value, event_count FROM meter.usage('seats', '2023-04-01', '2023-05-01', group_by => '{plan}');
SELECT value, event_count FROM meter.usage('seats', '2023-04-01', '2023-05-01', filter => '{"plan": "free"}');
SELECT value, event_count FROM meter.usage('seats', '2023-04-01', '2023-05-01', 'bob', filter => '{"plan": "pro"}');
SELECT value, event_count FROM meter.usage('seats', '2022-01-01', '2022-02-01');
SELECT value, event_count FROM meter.usage('seats', '2023-04-01', '2023-04-01');
SELECT value, event_count FROM meter.usage('seats', '2023-04-01', '2023-04-01', group_by => '{user_id}');
SELECT value, event_count FROM meter.usage('seats', '2023-04-01', '2023-04-01 00:00:00.000001', 'bob');
-- A bucket counts for the part of it that lies in the period. A row for each with events or a level.
SELECT bucket_start, value, event_count FROM meter.usage('seats', '2023-03-05 00:30', '2023-03-05 07:10', 'ann', bucket => 'hour');
SELECT bucket_start, value, event_count FROM meter.usage('seats', '2023-03-05 00:30', '2023-03-05 07:10', 'ann', bucket => 'hour', fill => true, rounding => 'ceil', rounding_precision => 0);
SELECT bucket_start, user_id, dimensions, value, event_count
FROM meter.usage('seats', '2022-11-15', '2023-04-02', group_by => '{user_id,plan}', bucket => 'month');
SELECT bucket_start, dimensions, value, event_count
FROM meter.usage('seats', '2022-12-30', '2023-01-04', group_by => '{plan}', bucket => 'day', fill => true);
SELECT bucket_start, value, event_count FROM meter.usage('seats', '2023-05-01', '2023-05-03', 'cid', bucket => 'day');
SELECT bucket_start, value, event_count FROM meter.usage('seats', '2023-05-01', '2023-05-03', 'cid', bucket => 'day', fill => true);
SELECT bucket_start, value, event_count FROM meter.usage('seats', '2023-05-01', '2023-05-03', 'nobody', bucket => 'day', group_by => '{user_id}', fill => true);
SET meter.max_usage_rows = 100;
SELECT count(*) FROM meter.usage('seats', '1970-01-01', '2023-02-15', 'bob', bucket => 'day');
SELECT count(*) FROM meter.usage('seats', '1970-01-01', '2023-02-15', bucket => 'day', group_by => '{user_id}');
SELECT count(*) FROM meter.usage('seats', '1970-01-01', '2023-06-15', 'bob', bucket => 'day');
RESET meter.max_usage_rows;
-- The same from cells.
SELECT meter.fold() > 0 AS folded;
SELECT bucket_start, user_id, dimensions, value, event_count
FROM meter.usage('seats', '2022-11-15', '2023-04-02', group_by => '{user_id,plan}', bucket => 'month', rounding => 'floor');
SELECT user_id, value, event_count FROM meter.usage('seats', '2023-03-05 01:10:00.000001', '2023-03-05 01:20', group_by => '{user_id}', rounding => 'none');

-- unique_count: 1 is 1.0 and not "1"; what is missing is not counted.
SELECT count(meter.record_event('tags', u, 1, d, event_time => t::timestamptz, metadata => m))
FROM (VALUES ('ann', '{"model": "a", "n": 1}'::jsonb, '{"tag": 1}'::jsonb, '2026-01-05 10:00'), ('ann', '{"model": "b", "n": 1.0}', '{"tag": 1.0}', '2026-01-05 11:00'),
    ('bob', '{"model": "a", "n": "1"}', '{"tag": "1"}', '2026-01-06 10:00'), ('bob', '{"model": "c"}', '{"tag": null}', '2026-01-06 10:00'),
    ('bob', '{"n": null}', '{"tag": {"a": 1, "b": [2]}}', '2026-01-06 10:00'), ('cid', '{"model": "a"}', '{"tag": {"b": [2.0], "a": 1}}', '2026-02-01'),
    ('cid', '{"model": true}', '{}', '2026-02-28')) AS e (u, d, m, t);
CREATE TABLE asked (number int, what text);
INSERT INTO asked VALUES
    (1, $$aggregation => 'unique_count', property => 'model'$$), (2, $$aggregation => 'unique_count', property => 'n'$$),
    (3, $$aggregation => 'unique_count', property => 'user_id'$$), (4, $$bucket => 'month'$$),
    (5, $$aggregation => 'unique_count', property => 'model', bucket => 'month'$$),
    (6, $$aggregation => 'unique_count', property => 'model', bucket => 'week', fill => true, filter => '{"n": [1, "1"]}'$$),
    (7, $$aggregation => 'unique_count', property => 'model', group_by => '{user_id}'$$),
    (8, $$aggregation => 'unique_count', property => 'model', group_by => '{model}'$$),
    (9, $$group_by => '{user_id}'$$), (10, $$aggregation => 'unique_count', property => 'never'$$),
    (11, $$aggregation => 'unique_count', property => 'metadata.never'$$), (12, $$aggregation => 'unique_count', property => 'user_id', group_by => '{model}', bucket => 'month'$$);
CREATE FUNCTION ask(meter text, period_start text, period_end text)
RETURNS TABLE (number int, day timestamptz, user_id text, dimensions jsonb, value numeric, event_count bigint) LANGUAGE plpgsql AS $$
DECLARE q record;
BEGIN
    FOR q IN SELECT * FROM asked ORDER BY 1 LOOP
        RETURN QUERY EXECUTE format('SELECT %s, bucket_start, user_id, dimensions, value, event_count FROM meter.usage(%L, %L, %L, %s) AS u', q.number, meter, period_start, period_end, q.what);
    END LOOP;
END
$$;
CREATE TABLE pending_answers AS SELECT * FROM ask('tags', '2026-01-05', '2026-03-01');
TABLE pending_answers ORDER BY number, day, user_id, dimensions;
SELECT meter.fold() > 0 AS folded;
(SELECT * FROM ask('tags', '2026-01-05', '2026-03-01') EXCEPT TABLE pending_answers) UNION ALL (TABLE pending_answers EXCEPT SELECT * FROM ask('tags', '2026-01-05', '2026-03-01'));
-- A dimension that is left out is counted from the events.
SELECT count(*) FROM meter.leave_out('tags', 'model');
SELECT meter.rebuild('2026-01-01', '2026-03-01', 'tags') > 0 AS rebuilt;
(SELECT * FROM ask('tags', '2026-01-05', '2026-03-01') EXCEPT TABLE pending_answers) UNION ALL (TABLE pending_answers EXCEPT SELECT * FROM ask('tags', '2026-01-05', '2026-03-01'));

-- first: the least (timestamp, id).
SELECT count(meter.record_event('m.first', u, v, d, event_time => t::timestamptz))
FROM (VALUES ('bob', 5, '{"model": "b"}'::jsonb, '2026-01-05 10:00'), ('ann', 4, '{"model": "a"}', '2026-01-05 10:00'), ('ann', 3, '{"model": "b"}', '2026-01-05 09:00'),
    ('ann', 9.50, '{}', '2026-01-04'), ('bob', 2, '{"model": "a"}', '2026-02-03 23:59:59.999999'), ('bob', 1, '{"model": "a"}', '2026-02-03 23:59:59.999999')) AS e (u, v, d, t);
TRUNCATE asked;
INSERT INTO asked VALUES (1, 'NULL'), (2, $$group_by => '{user_id}'$$), (3, $$group_by => '{model}'$$), (4, $$group_by => '{model,user_id}', bucket => 'day'$$),
    (5, $$filter => '{"model": "b"}'$$), (6, $$user_id => 'bob', bucket => 'month', fill => true$$), (7, $$filter => '{"model": "never"}'$$),
    (8, $$bucket => 'hour', time_zone => 'Asia/Kolkata'$$), (9, $$group_by => '{model}', rounding => 'ceil', rounding_precision => -1$$);
TRUNCATE pending_answers;
INSERT INTO pending_answers SELECT * FROM ask('m.first', '2026-01-01', '2026-03-01');
TABLE pending_answers ORDER BY number, day, user_id, dimensions;
SELECT meter.fold() > 0 AS folded;
(SELECT * FROM ask('m.first', '2026-01-01', '2026-03-01') EXCEPT TABLE pending_answers) UNION ALL (TABLE pending_answers EXCEPT SELECT * FROM ask('m.first', '2026-01-01', '2026-03-01'));
SELECT value, event_count FROM meter.usage('m.first', '2026-01-04 00:00:00.000001', '2026-03-01');
SELECT value, event_count FROM meter.usage('m.first', '2027-01-01', '2027-03-01');

-- Rounding: results only, half away from zero.
SELECT r, p, array_agg(meter.round_value(v, r, p) ORDER BY v) AS rounded
FROM unnest('{round,ceil,floor}'::text[]) AS r, unnest('{0,1,-1,-30,18}'::int[]) AS p, unnest('{-25,-0.25,0,0.25,25,1234.5678}'::numeric[]) AS v GROUP BY r, p ORDER BY r, p;
SELECT meter.round_value(NULL, 'ceil', 1) AS null, meter.round_value(1.50, NULL) AS as_it_is, meter.round_value(1.55, 'round') AS to_integers, meter.round_value(1.5, 'none', 0) AS none;
SELECT count(meter.record_event('plain', 'ann', 0.4, event_time => '2026-01-05')) FROM generate_series(1, 3);
SELECT rounding, rounding_precision FROM meter.update_meter('plain', rounding => 'round');
SELECT value FROM meter.usage('plain', '2026-01-01', '2026-02-01');
SELECT value FROM meter.usage('plain', '2026-01-01', '2026-02-01', rounding => 'none');
SELECT value FROM meter.usage('plain', '2026-01-01', '2026-02-01', rounding => 'ceil');
SELECT value FROM meter.usage('plain', '2026-01-01', '2026-02-01', rounding_precision => 1);
SELECT value FROM meter.usage('plain', '2026-01-01', '2026-02-01', rounding => 'ceil', rounding_precision => -2);
SELECT value FROM meter.usage('plain', '2026-02-01', '2026-03-01', aggregation => 'max');
-- A meter is rounded where it is asked for its own aggregation; another has no rounding but what is given.
SELECT a, (meter.usage('plain', '2026-01-01', '2026-02-01', aggregation => a, property => CASE a WHEN 'unique_count' THEN 'user_id' END)).value,
    (meter.usage('plain', '2026-01-01', '2026-02-01', aggregation => a, property => CASE a WHEN 'unique_count' THEN 'user_id' END, rounding => 'ceil')).value AS asked
FROM unnest('{sum,count,last,first,min,max,avg,unique_count,weighted_sum}'::text[]) AS a;
SELECT value FROM meter.usage('plain', '2026-01-01', '2026-02-01', aggregation => 'max', rounding_precision => 1);
SELECT value FROM meter.usage('plain', '2026-01-05', '2026-01-06', aggregation => 'max', bucket => 'day', fill => true);
-- Explained and billed it is not rounded.
SELECT sum(value) FROM meter.explain_usage('plain', '2026-01-01', '2026-02-01');
BEGIN;
SELECT meter.close_period('2026-02-01', 'plain');
SELECT quantity FROM meter.list_statements('plain');
SELECT meter.record_event('plain', 'ann', 0.3, event_time => '2026-01-05') > 0 AS recorded;
SELECT quantity FROM meter.late_usage('plain');
ROLLBACK;
SELECT sum(value) FROM meter.list_events('plain');

-- The report has every meter by its own aggregation and rounding, in order.
SELECT count(meter.record_event('m.' || a, u, v, event_time => t::timestamptz))
FROM unnest('{sum,count,last,min,max,avg,weighted_sum}'::text[]) AS a, (VALUES ('ann', 1, '2026-01-01'), ('ann', 3, '2026-01-16 12:00'), ('bob', 4, '2025-01-01')) AS e (u, v, t);
SELECT count(meter.record_event('visitors', 'ann', 1, jsonb_build_object('session', i % 3), event_time => '2026-01-05')) FROM generate_series(1, 10) AS i;
SELECT * FROM meter.usage_report('2026-01-01', '2026-02-01');
SELECT * FROM meter.usage_report('2026-01-01', '2026-02-01', 'bob');
CREATE TABLE pending_report AS SELECT * FROM meter.usage_report('2026-01-01', '2026-02-01');
SELECT meter.fold() > 0 AS folded;
(SELECT * FROM meter.usage_report('2026-01-01', '2026-02-01') EXCEPT TABLE pending_report) UNION ALL (TABLE pending_report EXCEPT SELECT * FROM meter.usage_report('2026-01-01', '2026-02-01'));

-- No event is read for the count of a dimension and for a level over whole months, and days where
-- they have cells: they say the same once the events are gone. What needs one says so.
SELECT meter.take_in('tags') IS NOT NULL AS taken_in;
CREATE TABLE before AS
SELECT 'tags' AS meter, t.* FROM meter.usage('tags', '2026-01-01', '2026-03-01', aggregation => 'unique_count', property => 'model', group_by => '{n}', bucket => 'day') AS t
UNION ALL SELECT 'seats', t.* FROM meter.usage('seats', '2023-03-01', '2023-05-01', group_by => '{user_id,plan}', bucket => 'month') AS t
UNION ALL SELECT 'seats', t.* FROM meter.usage('seats', '2023-03-01', '2023-03-20', bucket => 'day') AS t;
BEGIN;
DELETE FROM meter.meter_event;
SELECT count(*) FROM before;
SELECT 'tags' AS meter, t.* FROM meter.usage('tags', '2026-01-01', '2026-03-01', aggregation => 'unique_count', property => 'model', group_by => '{n}', bucket => 'day') AS t
UNION ALL SELECT 'seats', t.* FROM meter.usage('seats', '2023-03-01', '2023-05-01', group_by => '{user_id,plan}', bucket => 'month') AS t
UNION ALL SELECT 'seats', t.* FROM meter.usage('seats', '2023-03-01', '2023-03-20', bucket => 'day') AS t
EXCEPT ALL TABLE before;
SELECT value FROM meter.usage('m.first', '2026-01-01', '2026-03-01');
ROLLBACK;

-- Behind the horizon the balance and the counts of whole months are known; first events are not.
CALL meter.drop_events('2026-02-01');
SELECT value, event_count FROM meter.usage('seats', '2023-03-01', '2023-04-01', 'bob');
SELECT value, event_count FROM meter.usage('seats', '2026-03-01 01:02:03', '2026-04-01', 'bob');
SELECT value, event_count FROM meter.usage('seats', '2023-03-05 01:30', '2023-04-01', 'ann');
SELECT value FROM meter.usage('tags', '2026-01-01', '2026-02-01', aggregation => 'unique_count', property => 'model');
SELECT value FROM meter.usage('tags', '2026-01-01', '2026-02-01');
SELECT value FROM meter.usage('tags', '2026-02-01', '2026-03-01');
SELECT value FROM meter.usage('m.first', '2026-01-01', '2026-03-01');
SELECT value FROM meter.usage('m.first', '2026-01-01', '2026-03-01', bucket => 'month');
SELECT value FROM meter.usage('m.first', '2026-02-01', '2026-03-01');
SELECT * FROM meter.usage_report('2026-01-01', '2026-02-01');

DROP FUNCTION ask(text, text, text);
DROP TABLE asked, pending_answers, pending_report, before;
TRUNCATE meter.meter, meter.meter_event, meter.event_key, meter.rollup_pending, meter.rollup_generation, meter.rollup_state, meter.rollup, meter.rollup_total, meter.rollup_days, meter.rollup_month, meter.rollup_meter, meter.usage_limit, meter.limit_usage, meter.alert_rule, meter.alert, meter.event_void, meter.retention RESTART IDENTITY;
