-- Closed periods and dropped events: nothing that is still to be billed is dropped where it could not
-- be told without its events, and what is left of an erased user's level stays right.
\set VERBOSITY default
ALTER TABLE meter.statement DISABLE TRIGGER refuse_truncate;
TRUNCATE meter.meter, meter.meter_event, meter.event_key, meter.rollup_pending, meter.rollup_generation, meter.rollup_state, meter.rollup, meter.rollup_total, meter.rollup_days, meter.rollup_month, meter.rollup_meter, meter.usage_limit, meter.limit_usage, meter.alert_rule, meter.alert, meter.event_void, meter.period_close, meter.statement, meter.retention RESTART IDENTITY;
ALTER TABLE meter.statement ENABLE TRIGGER refuse_truncate;
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
SELECT (meter.create_meter(name, how, '{kind}', property => CASE how WHEN 'unique_count' THEN 'metadata.tag' END)).aggregation
FROM (VALUES ('tokens', 'sum'), ('opening', 'first'), ('tags', 'unique_count'), ('lowest', 'min'), ('disk', 'weighted_sum')) AS m (name, how);
CREATE FUNCTION pg_temp.record(meter text, who text, v numeric, at timestamptz) RETURNS bigint LANGUAGE sql AS
$$ SELECT meter.record_event(meter, who, v, '{"kind": "a"}', at::text, at, jsonb_build_object('tag', v)) $$;
CREATE VIEW late AS SELECT event_name, user_id, period_start, round(quantity, 6) AS quantity, event_count FROM meter.late_usage() ORDER BY 1, 2, 3;
CREATE VIEW horizon AS SELECT horizon, dropped FROM meter.retention;
SELECT count(pg_temp.record(m, u, v, at)) FROM unnest('{tokens,opening,tags,lowest,disk}'::text[]) m, unnest('{ann,bob}'::text[]) u,
    (VALUES (3, timestamptz '2026-01-10'), (5, '2026-01-20'), (4, '2026-02-10'), (2, '2026-02-20'), (6, '2026-03-10')) AS e (v, at);
-- In the middle of a month one void more would make it one of which cells do not know the minimum.
SELECT meter.close_period('2026-02-01', 'lowest');
CALL meter.drop_events('2026-02-15');
SELECT * FROM horizon;
-- Nor may what a level begins with that is still to be billed.
SELECT event_name FROM meter.create_meter('ram', 'weighted_sum');
SELECT meter.record_event('ram', 'ann', 4, event_time => '2026-01-04') IS NOT NULL AS recorded;
SELECT meter.close_period('2026-01-15', 'ram');
CALL meter.drop_events('2026-01-10');
CALL meter.drop_events('2026-01-15');
SELECT meter.close_period('2026-02-01', 'ram');
SELECT count(meter.close_period('2026-02-01', m)) FROM unnest('{opening,tags,disk}'::text[]) m;
SELECT meter.close_period('2026-01-15', 'tokens');

-- Not billed yet: first events, values in metadata, and what a month in UTC does not begin with.
CALL meter.drop_events('2026-03-01');
SELECT meter.close_period('2026-03-01', 'tokens');
CALL meter.drop_events('2026-03-01');
SELECT meter.close_period('2026-03-01', 'opening');
CALL meter.drop_events('2026-03-01');
SELECT meter.close_period('2026-03-01', 'tags');
-- What is late for them.
SELECT pg_temp.record('tags', 'ann', 9, '2026-01-21') IS NOT NULL AS recorded;
CALL meter.drop_events('2026-03-01');
SELECT * FROM horizon;
-- Nothing was dropped, so that more may come late, for meters of which all was billed.
SELECT pg_temp.record('opening', 'ann', 1, '2026-01-02') IS NOT NULL AS recorded;
SELECT * FROM late;
SELECT meter.close_period('2026-03-05', 'opening');
SELECT meter.close_period('2026-03-05', 'tags'), meter.close_period('2026-03-01', 'disk');
-- Minima of whole months cells do have: those may go before they are billed.
CALL meter.drop_events('2026-03-01');
SELECT * FROM horizon;
SELECT meter.void_event('lowest', 'ann', '2026-03-10 00:00:00+00', 'wrong') IS NOT NULL AS voided;
SELECT meter.close_period('2026-04-01') > 0 AS closed;
SELECT event_name, user_id, kind, for_start, round(quantity, 6) AS quantity, event_count FROM meter.list_statements() ORDER BY 1, 2, 4, period_start;
SELECT * FROM late;
-- It goes on where it was left, whatever would speak against it now.
CALL meter.drop_events('2026-03-01');

-- A meter that is closed for the first time when first events have been dropped begins there.
SELECT event_name FROM meter.create_meter('closing', 'first');
SELECT meter.record_event('closing', 'ann', 8, event_time => '2026-03-02') IS NOT NULL AS recorded;
SELECT meter.close_period('2026-04-01', 'closing');
SELECT period_start, period_end, user_id, quantity FROM meter.list_statements('closing');

-- Of a removed user the level of the months that stay goes on, and so does what was billed for it.
SELECT meter.erase_user('bob', 'gone', remove => true);
SELECT * FROM late;
SELECT user_id, round(sum(quantity), 6) AS billed FROM (
    SELECT user_id, quantity FROM meter.list_statements('disk') WHERE for_start = '2026-03-01'
    UNION ALL SELECT user_id, quantity FROM meter.late_usage('disk') WHERE period_start = '2026-03-01') AS x GROUP BY 1 ORDER BY 1;
SELECT user_id, round(value, 6) AS usage FROM meter.usage('disk', '2026-03-01', '2026-04-01', group_by => '{user_id}');
SELECT meter.close_period('2026-05-01') > 0 AS closed;
SELECT * FROM late;

-- What cannot be told any more, here since a dimension is left out of the rollups, is no reason to be
-- stuck between two horizons.
SELECT event_name FROM meter.create_meter('calls', 'count', '{kind}');
SELECT pg_temp.record('calls', 'ann', 1, '2026-03-05') IS NOT NULL AS recorded;
SELECT meter.close_period('2026-04-01', 'calls');
SELECT pg_temp.record('calls', 'ann', 1, '2026-03-06') IS NOT NULL AS recorded;
CALL meter.drop_events('2026-04-01');
SELECT meter.leave_out('calls', 'kind');
SELECT pg_temp.record('calls', 'ann', 1, '2026-04-06') IS NOT NULL AS recorded;
\set VERBOSITY terse
CALL meter.drop_events('2026-05-01');
SELECT * FROM horizon;
SELECT user_id, value, event_count FROM meter.usage('calls', '2026-04-06', '2026-04-07', group_by => '{user_id}');

DROP VIEW late, horizon;
ALTER TABLE meter.statement DISABLE TRIGGER refuse_truncate;
TRUNCATE meter.period_close, meter.statement, meter.event_void, meter.retention;
ALTER TABLE meter.statement ENABLE TRIGGER refuse_truncate;
