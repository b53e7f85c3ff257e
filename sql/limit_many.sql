-- A batch of many users without a counter: it takes a few locks, not one for each.
\set VERBOSITY terse
TRUNCATE meter.meter, meter.meter_event, meter.event_key, meter.rollup_pending, meter.rollup_generation, meter.rollup_state, meter.rollup, meter.rollup_total, meter.rollup_days, meter.rollup_month, meter.rollup_meter, meter.usage_limit, meter.limit_usage, meter.alert_rule, meter.alert, meter.alert_recheck, meter.event_void RESTART IDENTITY;
SET timezone = 'UTC';
SELECT event_name FROM meter.create_meter('tokens');
SELECT amount FROM meter.set_limit('tokens', NULL, 10);
-- Each user twice: 4 and 8 for every second one.
BEGIN;
SELECT status, count(*) FROM meter.record_events(array_fill('tokens'::text, '{40000}'),
    (SELECT array_agg('user-' || i % 20000 ORDER BY i) FROM generate_series(0, 39999) i),
    (SELECT array_agg(CASE WHEN i < 20000 THEN 4 ELSE 4 + i % 2 * 4 END ORDER BY i) FROM generate_series(0, 39999) i),
    NULL, NULL, array_fill('2020-05-15 12:30:00+00'::timestamptz, '{40000}')) GROUP BY 1 ORDER BY 1;
SELECT count(*) <= 64 AS few FROM pg_locks WHERE locktype = 'object' AND classid = 'meter.limit_usage'::regclass AND pid = pg_backend_pid();
COMMIT;
SELECT usage, count(*), bool_and(user_id ~ '[13579]$') AS odd FROM meter.limit_usage GROUP BY 1 ORDER BY 1;
-- Once more: the counters are there.
SELECT status, count(*) FROM meter.record_events(array_fill('tokens'::text, '{20000}'),
    (SELECT array_agg('user-' || i) FROM generate_series(0, 19999) i), array_fill(3::numeric, '{20000}'),
    NULL, NULL, array_fill('2020-05-15 12:30:00+00'::timestamptz, '{20000}')) GROUP BY 1 ORDER BY 1;
SELECT usage, count(*) FROM meter.limit_usage GROUP BY 1 ORDER BY 1;
SELECT count(*) FROM meter.limit_usage c JOIN (SELECT user_id, sum(value) AS value FROM meter.meter_event GROUP BY 1) e USING (user_id) WHERE c.usage = e.value;
-- Where a session has found counters before there may be others, or none: it looks at what is there.
SELECT count(meter.record_event('tokens', 'user-' || i, 0, event_time => '2020-05-15 12:30:00+00')) FROM generate_series(0, 99) i;
DELETE FROM meter.limit_usage WHERE user_id !~ '^user-[0-9]$';
VACUUM meter.limit_usage;
SELECT status, count(*) FROM meter.record_events(array_fill('tokens'::text, '{100}'), (SELECT array_agg('other-' || i) FROM generate_series(1, 100) i),
    array_fill(9::numeric, '{100}'), NULL, NULL, array_fill('2020-05-15 12:30:00+00'::timestamptz, '{100}')) GROUP BY 1;
SELECT count(meter.record_event('tokens', 'user-' || i, 1, event_time => '2020-05-15 12:30:00+00')) FROM generate_series(0, 99) i WHERE i % 2 = 1;
SELECT user_id LIKE 'user-%' AS counted_before, usage, count(*) FROM meter.limit_usage GROUP BY 1, 2 ORDER BY 1, 2;
DELETE FROM meter.limit_usage;
VACUUM meter.limit_usage;
SELECT count(meter.record_event('tokens', 'user-' || i, -1, event_time => '2020-05-15 12:30:00+00')) FROM generate_series(0, 99) i;
SELECT usage, count(*) FROM meter.limit_usage GROUP BY 1 ORDER BY 1;
TRUNCATE meter.meter, meter.meter_event, meter.event_key, meter.rollup_pending, meter.rollup_generation, meter.rollup_state, meter.rollup, meter.rollup_total, meter.rollup_days, meter.rollup_month, meter.rollup_meter, meter.usage_limit, meter.limit_usage, meter.alert_rule, meter.alert, meter.alert_recheck, meter.event_void RESTART IDENTITY;
