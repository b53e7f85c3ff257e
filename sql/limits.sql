-- Limits: what a user may use of a meter in a period.
\pset format unaligned
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
TRUNCATE meter.meter, meter.meter_event, meter.event_key, meter.rollup_pending, meter.rollup_generation, meter.rollup_state, meter.rollup, meter.rollup_total, meter.rollup_days, meter.rollup_month, meter.rollup_meter, meter.usage_limit, meter.limit_usage, meter.alert_rule, meter.alert, meter.event_void RESTART IDENTITY;
CREATE OR REPLACE FUNCTION try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE answer text; hint text;
BEGIN
    EXECUTE statement INTO answer;
    RETURN answer;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(' | ', SQLSTATE, SQLERRM, nullif(hint, ''));
END $$;
-- What every counter says, and whether it is the usage of its period (UTC).
CREATE VIEW counters AS
    SELECT m.event_name, c.user_id, c.period, c.period_start, trim_scale(c.usage) AS usage,
           c.usage = (SELECT value FROM meter.usage(m.event_name, CASE WHEN c.period = 't' THEN '1970-01-01'::timestamptz
               ELSE c.period_start END, CASE WHEN c.period = 't' THEN '9999-12-31'::timestamptz ELSE c.period_start
               + CASE c.period WHEN 'h' THEN interval '1 hour' WHEN 'd' THEN '1 day' WHEN 'w' THEN '7 days'
               WHEN 'm' THEN '1 month' ELSE '1 year' END END, c.user_id)) AS exact
    FROM meter.limit_usage c JOIN meter.meter m ON m.id = c.meter_id;
SELECT (meter.create_meter(name, aggregation)).id FROM (VALUES ('tokens', 'sum'), ('calls', 'count'), ('level', 'last')) m (name, aggregation);
\set at '\'2020-05-15 12:30:00+00\''

-- Exactly at the limit, and not beyond it.
SELECT id, meter_id, user_id, period, kind, amount, time_zone FROM meter.set_limit('tokens', NULL, 10.50);
SELECT try($$SELECT meter.record_event('tokens', 'ann', 8.25, event_time => '2020-05-15 12:30:00+00') > 0$$);
SELECT try($$SELECT meter.record_event('tokens', 'ann', 2.26, event_time => '2020-05-15 12:30:00+00')$$);
SELECT try($$SELECT meter.record_event('tokens', 'ann', 2.25, event_time => '2020-05-31 23:59:59.999999+00') > 0$$);
SELECT try($$SELECT meter.record_event('tokens', 'ann', 0.000000000000000001, event_time => '2020-05-01 00:00:00+00')$$);
-- Nothing of what was refused is there.
SELECT count(*), sum(value) FROM meter.meter_event;
-- Other periods and other users have their own.
SELECT try($$SELECT meter.record_event('tokens', 'ann', 10.5, event_time => '2020-06-01 00:00:00+00') > 0$$);
SELECT try($$SELECT meter.record_event('tokens', 'ann', 10.5, event_time => '2020-04-30 23:59:59.999999+00') > 0$$);
SELECT try($$SELECT meter.record_event('tokens', 'bob', 10.51, event_time => '2020-05-15 12:30:00+00')$$);
-- What lowers usage is never refused, and makes room; what changes nothing is not either.
SELECT try($$SELECT meter.record_event('tokens', 'ann', 0, event_time => '2020-05-15 12:30:00+00') > 0$$);
SELECT try($$SELECT meter.record_event('tokens', 'ann', -1, event_time => '2020-05-15 12:30:00+00') > 0$$);
SELECT try($$SELECT meter.record_event('tokens', 'ann', 1, event_time => '2020-05-15 12:30:00+00') > 0$$);
SELECT try($$SELECT meter.record_event('tokens', 'ann', 1, event_time => '2020-05-15 12:30:00+00')$$);
SELECT * FROM counters ORDER BY event_name, user_id, period, period_start;

-- A retry is answered at the limit too, a refused event has not taken its key.
SELECT try($$SELECT meter.record_event('tokens', 'dan', 10, '{}', 'a', '2020-05-15 12:30:00+00') > 0$$);
SELECT try($$SELECT meter.record_event('tokens', 'dan', 10, '{}', 'a', '2020-05-15 12:30:00+00') > 0$$);
SELECT try($$SELECT meter.record_event('tokens', 'dan', 10, '{}', 'b', '2020-05-15 12:30:00+00')$$);
SELECT try($$SELECT meter.record_event('tokens', 'dan', 0.5, '{}', 'b', '2020-05-15 12:30:00+00') > 0$$);
SELECT * FROM counters WHERE user_id = 'dan';

-- A count, several periods at once, a limit of one's own, a zone.
SELECT (meter.set_limit('calls', NULL, amount, period)).amount FROM (VALUES (3, 'day'), (5, 'month'), (7, 'total'), (2, 'hour'),
    (6, 'year'), (4, 'week')) l (amount, period);
SELECT (meter.set_limit('calls', 'ann', 4, 'day', time_zone => 'Asia/Kolkata')).period;
CREATE FUNCTION calls(who text, VARIADIC times text[]) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT t || ' ' || try(format('SELECT meter.record_event(''calls'', %L, 100, event_time => %L) > 0', who, t || '+00')) FROM unnest(times) t $$;
SELECT calls('bob', '2020-05-15 12:00', '2020-05-15 12:59:59', '2020-05-15 12:30', '2020-05-15 13:00', '2020-05-15 14:00',
    '2020-05-16 00:00', '2020-05-17 00:00', '2020-05-20 00:00', '2020-05-21 00:00', '2020-06-01 00:00', '2020-07-01 00:00', '2021-01-01 00:00',
    '2022-01-01 00:00');
SELECT * FROM counters WHERE event_name = 'calls' ORDER BY 2, 3, 4;
-- A day in Kolkata is from 18:30 to 18:30.
SELECT calls('ann', '2020-05-15 18:29:59', '2020-05-15 18:30', '2020-05-15 20:00', '2020-05-16 03:00', '2020-05-16 18:29', '2020-05-16 18:29:59');
SELECT period_start, usage FROM meter.limit_usage WHERE user_id = 'ann' AND period = 'd' AND meter_id = 2 ORDER BY 1;
SELECT meter.drop_limit('calls', NULL, p) FROM unnest('{hour,day,week,month,year,total}'::text[]) p;
SELECT user_id, period FROM meter.list_limits('calls');
SELECT count(*) FROM counters WHERE event_name = 'calls' AND user_id = 'bob';

-- Usage before there was a limit counts, folded or not; a limit set anew, lowered, dropped.
SELECT count(meter.record_event('calls', 'eve', event_time => '2020-05-15 12:30:00+00')) FROM generate_series(1, 20);
SELECT meter.fold() > 0;
SELECT count(meter.record_event('calls', 'eve', event_time => '2020-05-15 12:30:00+00')) FROM generate_series(1, 2);
SELECT count(*) FROM meter.set_limit('calls', 'eve', 23);
SELECT calls('eve', '2020-05-16 00:00', '2020-05-16 00:00');
SELECT count(*) FROM meter.set_limit('calls', 'eve', 24);
SELECT calls('eve', '2020-05-16 00:00', '2020-05-16 00:00');
SELECT count(*) FROM meter.set_limit('calls', 'eve', 10);
SELECT calls('eve', '2020-05-16 00:00');
SELECT meter.drop_limit('calls', 'eve');
SELECT calls('eve', '2020-05-16 00:00', '2020-05-16 00:00');
SELECT count(*) FROM meter.set_limit('calls', 'eve', 26);
SELECT calls('eve', '2020-05-16 00:00');
SELECT * FROM counters WHERE user_id = 'eve';
-- Soft: nothing is refused, and there is no counter.
SELECT count(*) FROM meter.set_limit('calls', 'eve', 26, kind => 'soft');
SELECT calls('eve', '2020-05-16 00:00');
SELECT count(*) FROM counters WHERE user_id = 'eve';
SELECT count(*) FROM meter.set_limit('calls', 'eve', 28, kind => 'hard');
SELECT calls('eve', '2020-05-16 00:00', '2020-05-16 00:00');
-- A soft limit of one's own takes the place of the hard default.
SELECT count(*) FROM meter.set_limit('tokens', 'sam', 1, kind => 'soft');
SELECT try($$SELECT meter.record_event('tokens', 'sam', 1000, event_time => '2020-05-15 12:30:00+00') > 0$$);
-- 0 lets nothing pass.
SELECT count(*) FROM meter.set_limit('tokens', 'zoe', 0);
SELECT try($$SELECT meter.record_event('tokens', 'zoe', 0.1, event_time => '2020-05-15 12:30:00+00')$$);

-- remaining: the least of all limits, or that of a period.
SELECT meter.remaining('tokens', 'new'), meter.remaining('calls', 'new') IS NULL AS none;
SELECT meter.record_event('tokens', 'new', 4.5) > 0;
SELECT meter.remaining('tokens', 'new'), meter.remaining('tokens', 'new', 'month'), meter.remaining('tokens', 'new', 'day') IS NULL AS none;
SELECT count(*) FROM meter.set_limit('tokens', 'new', 5, 'total', 'soft');
SELECT meter.remaining('tokens', 'new'), meter.remaining('tokens', 'new', 'month'), meter.remaining('tokens', 'new', 'total');
SELECT meter.record_event('tokens', 'new', 6.00) > 0;
SELECT meter.remaining('tokens', 'new'), meter.remaining('tokens', 'new', 'month'), meter.remaining('tokens', 'new', 'total');
SELECT * FROM (SELECT event_name, user_id, period, kind, amount, time_zone FROM meter.list_limits()) l;
SELECT * FROM (SELECT event_name, user_id, period, kind, amount FROM meter.list_limits('tokens', 'new')) l;

-- Batches: by item, in order.
SELECT ordinal, event_id > 0 AS recorded, status, error FROM meter.record_events('[
    {"event_name": "tokens", "user_id": "b1", "value": 6, "idempotency": "1", "timestamp": "2020-05-15T12:30:00Z"},
    {"event_name": "tokens", "user_id": "b1", "value": 5, "idempotency": "2", "timestamp": "2020-05-15T12:30:00Z"},
    {"event_name": "tokens", "user_id": "b1", "value": 5, "idempotency": "2", "timestamp": "2020-05-15T12:30:00Z"},
    {"event_name": "tokens", "user_id": "b1", "value": 7, "idempotency": "2", "timestamp": "2020-05-15T12:30:00Z"},
    {"event_name": "tokens", "user_id": "b1", "value": 6, "idempotency": "1", "timestamp": "2020-05-15T12:30:00Z"},
    {"event_name": "tokens", "user_id": "b1", "value": 4.5, "idempotency": "3", "timestamp": "2020-05-15T12:30:00Z"},
    {"event_name": "tokens", "user_id": "b1", "value": -3, "timestamp": "2020-05-15T12:30:00Z"},
    {"event_name": "tokens", "user_id": "b1", "value": 3.1, "timestamp": "2020-05-15T12:30:00Z"},
    {"event_name": "tokens", "user_id": "b1", "value": 3, "timestamp": "2020-06-15T12:30:00Z"},
    {"event_name": "tokens", "user_id": "b2", "value": 10, "timestamp": "2020-05-15T12:30:00Z"},
    {"event_name": "tokens", "user_id": "zoe", "value": 1, "timestamp": "2020-05-15T12:30:00Z"},
    {"meter_id": 1, "user_id": "zoe", "value": 1, "timestamp": "2020-05-15T12:30:00Z"},
    {"event_name": "level", "user_id": "b2", "value": 1e20, "timestamp": "2020-05-15T12:30:00Z"}]');
SELECT * FROM counters WHERE user_id LIKE 'b%' AND event_name = 'tokens' ORDER BY 2, 4;
SELECT count(*) FROM meter.event_key;
-- Sent again: what was recorded is a duplicate, what was refused may pass now.
SELECT count(*) FROM meter.set_limit('tokens', 'b1', 100);
SELECT ordinal, status, error FROM meter.record_events(ARRAY['tokens', 'tokens', 'tokens'], '{b1,b1,b1}', '{6,5,4.5}', NULL, '{1,2,3}', array_fill(:at::timestamptz, '{3}'));
-- All or nothing.
SELECT try($$SELECT meter.record_events(ARRAY['tokens', 'tokens'], '{b3,b3}', '{6,5}', NULL, '{1,2}', array_fill('2020-05-15 12:30:00+00'::timestamptz, '{2}'), strict => true)$$);
SELECT try($$SELECT meter.ingest('{"event_name": "tokens", "user_id": "b3", "value": 11, "timestamp": "2020-05-15T12:30:00Z"}')$$);
SELECT count(*) FROM meter.meter_event WHERE user_id = 'b3';
INSERT INTO meter.event_load (event_name, user_id, value, idempotency, "timestamp")
    VALUES ('tokens', 'b4', 10, '1', :at), ('tokens', 'b4', 1, '2', :at);
INSERT INTO meter.event_load (event_name, user_id, value, idempotency, "timestamp") VALUES ('tokens', 'b4', 10, '1', :at);
SELECT * FROM counters WHERE user_id = 'b4';
-- One batch that meets every limit of many users.
SELECT status, count(*) FROM meter.record_events((SELECT jsonb_agg(jsonb_build_object('event_name', 'tokens', 'user_id', 'u' || i % 50,
    'value', 1, 'timestamp', '2020-05-15T12:30:00Z')) FROM generate_series(1, 1000) i)) GROUP BY 1 ORDER BY 1;
SELECT count(*), min(usage), max(usage), bool_and(exact) FROM counters WHERE user_id ~ '^u[0-9]';

-- Where an update may not be published it is refused, as everywhere.
ALTER TABLE meter.limit_usage REPLICA IDENTITY NOTHING;
SET client_min_messages = error;
CREATE PUBLICATION all_counters FOR TABLE meter.limit_usage;
SELECT try($$SELECT meter.record_event('tokens', 'u1', 0, event_time => '2020-05-15 12:30:00+00')$$);
DROP PUBLICATION all_counters;
RESET client_min_messages;
ALTER TABLE meter.limit_usage REPLICA IDENTITY DEFAULT;

-- By SQL, where the tables are not written directly; and what a trigger changes counts as stored.
SET meter.direct_insert = off;
SELECT try($$SELECT meter.record_event('tokens', 's1', 10, event_time => '2020-05-15 12:30:00+00') > 0$$);
SELECT try($$SELECT meter.record_event('tokens', 's1', 0.5, event_time => '2020-05-15 12:30:00+00') > 0$$);
SELECT try($$SELECT meter.record_event('tokens', 's1', 0.1, event_time => '2020-05-15 12:30:00+00') > 0$$);
RESET meter.direct_insert;
CREATE FUNCTION halve() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF new.user_id = 'nobody' THEN RETURN NULL; END IF;
    new.value = new.value / 2; RETURN new;
END $$;
CREATE TRIGGER halve BEFORE INSERT ON meter.meter_event FOR EACH ROW EXECUTE FUNCTION halve();
SELECT try($$SELECT meter.record_event('tokens', 's2', 10, event_time => '2020-05-15 12:30:00+00') > 0$$);
SELECT try($$SELECT meter.record_event('tokens', 'nobody', 10, event_time => '2020-05-15 12:30:00+00') > 0$$);
SELECT status FROM meter.record_events(ARRAY['tokens', 'tokens', 'tokens'], '{s2,nobody,s3}', '{5,8,6}', NULL, NULL, array_fill(:at::timestamptz, '{3}'));
DROP TRIGGER halve ON meter.meter_event;
-- Their counters are made anew when they are needed.
SELECT * FROM counters WHERE user_id IN ('s1', 's2', 's3', 'nobody') ORDER BY 2;
SELECT try(format('SELECT meter.record_event(''tokens'', %L, 0, event_time => %L) > 0', who, :at)) FROM unnest('{s2,s3,nobody}'::text[]) who;
SELECT * FROM counters WHERE user_id IN ('s1', 's2', 's3', 'nobody') ORDER BY 2;
-- Moved to a user and to a month without a counter: nothing counts twice, single, in a batch, or amended.
CREATE FUNCTION move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    new.user_id = replace(new.user_id, 'from', 'to'); new."timestamp" = new."timestamp" + interval '1 month'; RETURN new;
END $$;
SELECT try($$SELECT meter.record_event('tokens', 'from-3', 4, '{}', 'k', '2020-05-15 12:30:00+00') > 0$$);
CREATE TRIGGER move BEFORE INSERT ON meter.meter_event FOR EACH ROW EXECUTE FUNCTION move();
SELECT try($$SELECT meter.record_event('tokens', 'from-1', 4, event_time => '2020-05-15 12:30:00+00') > 0$$);
SELECT status FROM meter.record_events(array_fill('tokens'::text, '{4}'), '{from-2,from-2,to-2,from-2}', '{1,2,4,1}', NULL, NULL, array_fill(:at::timestamptz, '{4}'));
SELECT meter.amend_event('tokens', 'from-3', 'k', value => 3, event_time => '2020-06-15 12:30:00+00', reason => 'late') > 0;
DROP TRIGGER move ON meter.meter_event;
SELECT try(format('SELECT meter.record_event(''tokens'', %L, 1, event_time => %L) > 0', who || '-' || i, m)) FROM generate_series(1, 3) i,
    unnest('{from,to}'::text[]) who, unnest('{2020-05-15 12:30:00+00,2020-06-15 12:30:00+00,2020-07-15 12:30:00+00}'::text[]) m;
SELECT * FROM counters WHERE user_id ~ '^(from|to)-' ORDER BY 2, 4;

-- Within transactions: savepoints, errors, own limits.
BEGIN;
SELECT meter.record_event('tokens', 'x1', 5, event_time => :at) > 0;
SAVEPOINT s;
SELECT meter.record_event('tokens', 'x1', 5.5, event_time => :at) > 0;
ROLLBACK TO s;
SELECT try($$SELECT meter.record_event('tokens', 'x1', 6, event_time => '2020-05-15 12:30:00+00')$$);
SELECT try($$SELECT meter.record_event('tokens', 'x1', 1, event_time => '2020-05-15 12:30:00+00') > 0$$);
SAVEPOINT s;
SELECT count(*) FROM meter.set_limit('tokens', 'x1', 7);
SELECT try($$SELECT meter.record_event('tokens', 'x1', 2, event_time => '2020-05-15 12:30:00+00')$$);
ROLLBACK TO s;
SELECT try($$SELECT meter.record_event('tokens', 'x1', 2, event_time => '2020-05-15 12:30:00+00') > 0$$);
COMMIT;
BEGIN;
SELECT meter.record_event('tokens', 'x2', 5, event_time => :at) > 0;
ROLLBACK;
SELECT * FROM counters WHERE user_id LIKE 'x%';

-- Another aggregation counts anew; a level cannot have limits.
SELECT try($$SELECT meter.set_limit('level', NULL, 5)$$);
SELECT try($$SELECT meter.update_meter('tokens', aggregation => 'last')$$);
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT try($$SELECT meter.update_meter('tokens', aggregation => 'count')$$);
SELECT try($$SELECT (meter.update_meter('tokens', currency => 'eur')).currency$$);
SELECT (meter.create_meter('brief')).event_name;
ROLLBACK;
SELECT (meter.create_meter('brief')).event_name, (meter.set_limit('brief', NULL, 1)).amount;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT try($$SELECT meter.drop_meter('brief')$$);
ROLLBACK;
SELECT meter.drop_meter('brief');
SELECT (meter.update_meter('tokens', aggregation => 'count')).aggregation;
SELECT try($$SELECT meter.record_event('tokens', 'ann', 1000, event_time => '2020-05-15 12:30:00+00') > 0$$);
SELECT bool_and(exact), count(*) FROM counters WHERE event_name = 'tokens';
SELECT (meter.update_meter('tokens', aggregation => 'sum')).aggregation;

-- A person goes: the limits too, and the counters are of what is there.
SELECT meter.erase_user('eve', 'gone');
SELECT user_id, amount FROM meter.list_limits('calls') WHERE user_id IN ('eve', 'gone');
SELECT calls('gone', '2020-05-16 00:00');
SELECT calls('eve', '2020-05-16 00:00');
SELECT meter.erase_user('zoe') IS NULL;
SELECT count(*) FROM meter.usage_limit WHERE user_id = 'zoe';
SELECT count(*) FROM counters WHERE NOT exact;

-- Bad input: nothing is changed.
SELECT try(format('SELECT meter.set_limit(%s)', arguments)) FROM unnest(ARRAY[$$NULL, 'ann', 1$$, $$'tokens', 'ann', NULL$$,
    $$'nothing', 'ann', 1$$, $$'tokens', '', 1$$, $$'tokens', repeat('x', 256), 1$$, $$'tokens', 'ann', -0.1$$, $$'tokens', 'ann', 'NaN'$$,
    $$'tokens', 'ann', 'Infinity'$$, $$'tokens', 'ann', 1e30$$, $$'tokens', 'ann', 1e-19$$, $$'tokens', 'ann', 1, 'minute'$$,
    $$'tokens', 'ann', 1, 'month', 'firm'$$, $$'tokens', 'ann', 1, 'month', 'hard', 'Mars/Olympus'$$]) arguments;
SELECT try($$SELECT meter.drop_limit('tokens', 'ann')$$);
SELECT try($$SELECT meter.drop_limit('tokens', NULL, 'week')$$);
SELECT try($$SELECT meter.drop_limit('tokens', NULL, 'fortnight')$$);
SELECT try($$SELECT meter.remaining('tokens', NULL)$$);
SELECT try($$SELECT meter.remaining('nothing', 'ann')$$);
SELECT try($$SELECT meter.remaining('tokens', 'ann', 'fortnight')$$);
SELECT try($$SELECT FROM meter.list_limits('nothing')$$);
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT try($$SELECT meter.set_limit('tokens', 'ann', 5)$$);
SELECT try($$SELECT meter.drop_limit('tokens', NULL)$$);
ROLLBACK;

-- A meter that is dropped takes its limits along.
SELECT count(*) FROM meter.create_meter('brief');
SELECT (meter.set_limit('brief', NULL, 5)).amount, (meter.set_limit('brief', 'ann', 5, 'day')).amount;
SELECT meter.drop_meter('brief');
SELECT count(*) FROM meter.usage_limit l WHERE NOT EXISTS (SELECT FROM meter.meter m WHERE m.id = l.meter_id);
SELECT count(*) FROM meter.verify('2020-01-01', '2023-01-01');
