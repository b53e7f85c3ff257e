-- Closed periods, and explanations, of meters whose aggregation adds no rows up.
\set VERBOSITY terse
ALTER TABLE meter.statement DISABLE TRIGGER refuse_truncate;
TRUNCATE meter.meter, meter.meter_event, meter.event_key, meter.rollup_pending, meter.rollup_generation, meter.rollup_state, meter.rollup, meter.rollup_total, meter.rollup_days, meter.rollup_month, meter.rollup_meter, meter.usage_limit, meter.limit_usage, meter.alert_rule, meter.alert, meter.event_void, meter.period_close, meter.statement, meter.retention RESTART IDENTITY;
ALTER TABLE meter.statement ENABLE TRIGGER refuse_truncate;
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
SELECT event_name, aggregation FROM meter.create_meter('seats', 'unique_count', '{seat}', property => 'seat');
SELECT (meter.create_meter(name, how)).aggregation FROM (VALUES ('disk', 'weighted_sum'), ('opening', 'first')) AS m (name, how);
SELECT event_name, rounding FROM meter.create_meter('tokens', rounding => 'ceil', rounding_precision => -2);
CREATE PROCEDURE pg_temp.record(at timestamptz) LANGUAGE sql AS $$
    SELECT meter.record_event('seats', u, 1, jsonb_build_object('seat', s), at::text || s, at) FROM unnest('{ann,bob}'::text[]) u, unnest('{a,b}'::text[]) s
        WHERE u = 'ann' OR s = 'a';
    SELECT meter.record_event('disk', 'ann', 10, '{}', at::text, at);
    SELECT meter.record_event('opening', 'ann', extract(day FROM at), '{}', at::text, at);
    SELECT meter.record_event('tokens', 'ann', 120.5, '{}', at::text, at);
$$;
CALL pg_temp.record('2026-01-11Z');
CALL pg_temp.record('2026-02-15Z');
SELECT meter.close_period('2026-02-01Z');
SELECT meter.close_period('2026-03-01Z');
-- What was billed is what usage says, not rounded; a level is billed for months without an event.
SELECT meter.close_period('2026-04-01Z');
SELECT event_name, user_id, kind, period_start, for_start, round(quantity, 6) AS quantity, event_count FROM meter.list_statements() ORDER BY event_name, user_id, period_start, for_start;
SELECT * FROM meter.late_usage();
-- What is late for a month changes the level of those after it too, and the first event, and the seats.
SELECT meter.record_event('seats', 'ann', 1, '{"seat": "a"}', 'late', '2026-01-20Z'), meter.record_event('seats', 'ann', 1, '{"seat": "c"}', 'late 2', '2026-01-20Z'),
    meter.record_event('disk', 'ann', 31, '{}', 'late', '2026-01-31Z'), meter.record_event('opening', 'ann', 7, '{}', 'late', '2026-01-02Z'),
    meter.void_event('tokens', 'ann', '2026-02-15 00:00:00+00', 'twice');
SELECT event_name, user_id, period_start, round(quantity, 6) AS quantity, event_count FROM meter.late_usage() ORDER BY 1, 2, 3;
SELECT meter.fold() > 0 AS folded;
SELECT meter.close_period('2026-05-01Z');
SELECT event_name, user_id, kind, for_start, round(quantity, 6) AS quantity, event_count FROM meter.list_statements(period_start => '2026-04-01Z') ORDER BY 1, 2, 3, 4;
SELECT * FROM meter.late_usage();
-- Statements are usage, month by month.
SELECT m.event_name, s.for_start, s.quantity - u.value AS differs FROM meter.list_meters() m,
    LATERAL (SELECT user_id, for_start, for_end, sum(quantity) AS quantity FROM meter.list_statements(m.event_name) GROUP BY 1, 2, 3) s
    LEFT JOIN LATERAL meter.usage(m.event_name, s.for_start, s.for_end, s.user_id, rounding => 'none') u ON true WHERE s.quantity IS DISTINCT FROM COALESCE(u.value, 0);
-- The property that a period was closed with stays its property.
SELECT property FROM meter.update_meter('seats', property => 'user_id');
SELECT count(*) FROM meter.late_usage('seats');
SELECT m.event_name, c.property, count(*) FROM meter.period_close c JOIN meter.meter m ON m.id = c.meter_id WHERE c.property IS DISTINCT FROM m.property GROUP BY 1, 2;
-- Digests are not to be had with these.
SELECT count(*) FROM meter.usage_digest('disk', '2026-01-01Z', '2026-02-01Z');
-- Explained: rows of a level add up to it, what is carried in among them.
SELECT source, at, user_id, round(value, 6) AS value, event_count FROM meter.explain_usage('disk', '2026-02-01Z', '2026-03-01Z', 'ann');
SELECT round((SELECT sum(value) FROM meter.explain_usage('disk', '2026-01-12 03:00Z', '2026-02-20 10:20Z', 'ann')) - value, 12) AS differs
FROM meter.usage('disk', '2026-01-12 03:00Z', '2026-02-20 10:20Z', 'ann');
SELECT source, at, value, event_count FROM meter.explain_usage('opening', '2026-01-01 12:00Z', '2026-01-02 12:00Z', 'ann');
SELECT sum(event_count) AS events, count(DISTINCT user_id) AS users FROM meter.explain_usage('seats', '2026-01-01Z', '2026-02-01Z');
SELECT count(*) FROM meter.explain_usage('disk', '2026-02-01Z', '2026-03-01Z', 'ann', aggregation => 'unique_count');
-- The first period of a level begins in 1970, which is told, unless the time before was closed by itself.
\set VERBOSITY default
SELECT (meter.create_meter(name, how)).aggregation FROM (VALUES ('beds', 'weighted_sum'), ('rooms', 'weighted_sum'), ('nights', 'sum'), ('empty', 'weighted_sum')) AS m (name, how);
SELECT count(meter.record_event(name, 'ann', 31, event_time => '2026-01-01Z')) FROM unnest('{beds,rooms,nights}'::text[]) AS name;
SELECT meter.close_period('2026-01-01Z', 'rooms');
SELECT name, meter.close_period('2026-02-01Z', name) FROM unnest('{rooms,nights,empty,beds}'::text[]) AS name;
SELECT event_name, round(quantity, 3) FROM meter.list_statements() WHERE event_name IN ('beds', 'rooms') AND period_end = '2026-02-01Z' ORDER BY 1;
\set VERBOSITY terse
ALTER TABLE meter.statement DISABLE TRIGGER refuse_truncate;
TRUNCATE meter.meter, meter.meter_event, meter.event_key, meter.rollup_pending, meter.rollup_generation, meter.rollup_state, meter.rollup, meter.rollup_total, meter.rollup_days, meter.rollup_month, meter.rollup_meter, meter.usage_limit, meter.limit_usage, meter.alert_rule, meter.alert, meter.event_void, meter.period_close, meter.statement, meter.retention RESTART IDENTITY;
ALTER TABLE meter.statement ENABLE TRIGGER refuse_truncate;
