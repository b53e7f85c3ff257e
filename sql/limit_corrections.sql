-- Voids and amendments change what is left of a hard limit.
\set VERBOSITY terse
TRUNCATE meter.meter, meter.meter_event, meter.event_key, meter.rollup_pending, meter.rollup_generation, meter.rollup_state, meter.rollup, meter.rollup_total, meter.rollup_days, meter.rollup_month, meter.rollup_meter, meter.usage_limit, meter.limit_usage, meter.alert_rule, meter.alert, meter.event_void RESTART IDENTITY;
SET timezone = 'UTC';
SELECT event_name FROM meter.create_meter('tokens', dimensions => '{model}');
SELECT amount FROM meter.set_limit('tokens', NULL, 10, 'month');
SELECT amount FROM meter.set_limit('tokens', 'ann', 8, 'day');
SELECT meter.record_event('tokens', 'ann', 6, '{}', 'one', '2026-03-05Z') > 0 AS recorded;
SELECT meter.record_event('tokens', 'ann', 3, '{}', 'two', '2026-03-05Z');
-- A void makes room, at once and no more than it took; again it does not.
SELECT meter.void_event('tokens', 'ann', 'one', 'twice') > 0 AS voided;
SELECT meter.void_event('tokens', 'ann', 'one', 'twice') > 0 AS voided;
SELECT meter.record_event('tokens', 'ann', 8.1, '{}', 'three', '2026-03-05Z');
SELECT meter.record_event('tokens', 'ann', 8, '{}', 'three', '2026-03-05Z') > 0 AS recorded;
-- A void that is rolled back makes none.
BEGIN;
SELECT meter.void_event('tokens', 'ann', 'three', 'test') > 0 AS voided;
ROLLBACK;
SELECT meter.record_event('tokens', 'ann', 0.1, '{}', 'four', '2026-03-05Z');
-- A retry of what is voided is a duplicate, and takes none.
SELECT meter.record_event('tokens', 'ann', 6, '{}', 'one', '2026-03-05Z') > 0 AS duplicate;
-- An amendment is not refused, to another day neither.
SELECT meter.amend_event('tokens', 'ann', 'three', value => 20, reason => 'wrong') > 0 AS amended;
SELECT c.period, c.period_start, trim_scale(c.usage) AS usage, trim_scale(c.usage) = u.value AS exact FROM meter.limit_usage c,
    LATERAL meter.usage('tokens', c.period_start, c.period_start + CASE c.period WHEN 'd' THEN interval '1 day' ELSE interval '1 month' END, c.user_id) u ORDER BY 1, 2;
SELECT meter.record_event('tokens', 'ann', 1, '{}', 'five', '2026-03-05Z');
SELECT meter.amend_event('tokens', 'ann', 'three', value => 2, event_time => '2026-03-06Z', reason => 'wrong day') > 0 AS amended;
SELECT c.period, c.period_start, trim_scale(c.usage) AS usage, trim_scale(c.usage) = u.value AS exact FROM meter.limit_usage c,
    LATERAL meter.usage('tokens', c.period_start, c.period_start + CASE c.period WHEN 'd' THEN interval '1 day' ELSE interval '1 month' END, c.user_id) u ORDER BY 1, 2;
SELECT meter.record_event('tokens', 'ann', 8, '{}', 'five', '2026-03-05Z') > 0 AS recorded;
SELECT meter.record_event('tokens', 'ann', 1, '{}', 'six', '2026-03-06Z');
-- Of a user without a counter yet, too: none is made until somebody needs it, of what there is then.
DELETE FROM meter.limit_usage;
SELECT meter.void_event('tokens', 'ann', 'five', 'test') > 0 AS voided;
SELECT count(*) FROM meter.limit_usage;
SELECT meter.record_event('tokens', 'ann', 0, '{}', 'seven', '2026-03-05Z') > 0 AS recorded;
SELECT c.period, c.period_start, trim_scale(c.usage) AS usage, trim_scale(c.usage) = u.value AS exact FROM meter.limit_usage c,
    LATERAL meter.usage('tokens', c.period_start, c.period_start + CASE c.period WHEN 'd' THEN interval '1 day' ELSE interval '1 month' END, c.user_id) u ORDER BY 1, 2;
TRUNCATE meter.meter, meter.meter_event, meter.event_key, meter.rollup_pending, meter.rollup_generation, meter.rollup_state, meter.rollup, meter.rollup_total, meter.rollup_days, meter.rollup_month, meter.rollup_meter, meter.usage_limit, meter.limit_usage, meter.alert_rule, meter.alert, meter.event_void RESTART IDENTITY;
