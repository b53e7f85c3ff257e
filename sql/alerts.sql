-- Alerts: thresholds of usage fire once each, when a fold sees them reached.
\pset format unaligned
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
TRUNCATE meter.meter, meter.meter_event, meter.event_key, meter.rollup_pending, meter.rollup_generation, meter.rollup_state, meter.rollup, meter.rollup_total, meter.rollup_days, meter.rollup_month, meter.rollup_meter, meter.usage_limit, meter.limit_usage, meter.alert_rule, meter.alert, meter.alert_recheck, meter.event_void RESTART IDENTITY;
CREATE OR REPLACE FUNCTION try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE answer text; hint text;
BEGIN
    EXECUTE statement INTO answer;
    RETURN answer;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(' | ', SQLSTATE, SQLERRM, nullif(hint, ''));
END $$;
CREATE FUNCTION use(event_name text, who text, value numeric, at text DEFAULT '2020-05-15 12:30') RETURNS boolean LANGUAGE sql
    AS $$ SELECT meter.record_event(event_name, who, value, event_time => (at || '+00')::timestamptz) > 0 $$;
-- What has fired since the last look.
CREATE SEQUENCE seen MINVALUE 0;
SELECT setval('seen', 0);
CREATE FUNCTION fired() RETURNS TABLE (event_name text, user_id text, name text, start text, kind text, threshold numeric, amount numeric, usage numeric)
LANGUAGE sql AS $$
    SELECT meter.fold();
    SELECT event_name, user_id, name, period_start::text, kind, threshold, amount, trim_scale(usage) FROM
        (SELECT *, setval('seen', id) FROM meter.list_alerts(after_id => (SELECT last_value FROM seen), max_rows => 10000)) a ORDER BY id $$;
SELECT (meter.create_meter(name, aggregation)).id FROM (VALUES ('tokens', 'sum'), ('calls', 'count'), ('level', 'last')) m (name, aggregation);
SELECT meter_id, user_id, name, thresholds, percents, recurring, period, time_zone
    FROM meter.set_alert('tokens', NULL, 'spend', '{30,10,50}', recurring => 100);

-- 33, then 351: each once, and the step beyond the greatest.
SELECT use('tokens', 'ann', 33);
SELECT * FROM fired();
SELECT * FROM fired();
SELECT use('tokens', 'ann', 318);
SELECT * FROM fired();
-- Other users, other periods; a late event counts for its period.
SELECT use('tokens', 'bob', 29.999), use('tokens', 'bob', 30, '2020-06-01 00:00'), use('tokens', 'cat', 500);
SELECT * FROM fired();
SELECT use('tokens', 'bob', 0.001);
SELECT * FROM fired();
-- What falls and rises again does not fire again, a step neither; what is beyond it does.
SELECT use('tokens', 'ann', -340), use('tokens', 'cat', -500);
SELECT * FROM fired();
SELECT use('tokens', 'ann', 340), use('tokens', 'cat', 549.99);
SELECT * FROM fired();
SELECT use('tokens', 'ann', 99), use('tokens', 'cat', 0.01);
SELECT * FROM fired();

-- A rule that comes later, or changes, is looked at for the current period of all; others as usage comes.
SELECT use('calls', 'ann', 1, now()::timestamp::text), use('calls', 'ann', 1, now()::timestamp::text), use('calls', 'bob', 1, now()::timestamp::text),
    use('calls', 'ann', 1), use('calls', 'ann', 1);
SELECT * FROM fired();
SELECT name FROM meter.set_alert('calls', NULL, 'busy', '{2}');
SELECT event_name, user_id, name, kind, threshold, usage FROM fired();
SELECT name FROM meter.set_alert('calls', NULL, 'busy', '{1,2}');
SELECT event_name, user_id, name, kind, threshold, usage FROM fired();
SELECT name FROM meter.set_alert('calls', 'bob', 'bob', '{1}', period => 'total');
SELECT event_name, user_id, name, kind, threshold, usage FROM fired();
SELECT use('calls', 'ann', 1);
SELECT event_name, user_id, name, kind, threshold, usage FROM fired();

-- Percentages of the limit: of one's own or the default, as it is then. A limit that changes is looked at.
SELECT name FROM meter.set_alert('calls', NULL, 'limit', percents => '{50,80,100,150}', period => 'day');
SELECT (meter.set_limit('calls', NULL, 4, 'day', 'soft')).amount, (meter.set_limit('calls', 'eve', 2, 'day')).amount;
SELECT use('calls', 'dan', 1, now()::timestamp::text) FROM generate_series(1, 3);
SELECT use('calls', 'eve', 1, now()::timestamp::text) FROM generate_series(1, 2);
SELECT user_id, name, kind, threshold, amount, usage FROM fired() WHERE user_id IN ('dan', 'eve') AND name = 'limit';
SELECT (meter.set_limit('calls', NULL, 3, 'day', 'soft')).amount;
SELECT user_id, name, kind, threshold, amount, usage FROM fired() WHERE user_id IN ('dan', 'eve') AND name = 'limit';
SELECT (meter.set_limit('calls', NULL, 2, 'day', 'soft')).amount;
SELECT user_id, name, kind, threshold, amount, usage FROM fired() WHERE user_id IN ('dan', 'eve') AND name = 'limit';

-- Steps without end: the last hundred, and none of those passed over later.
SELECT name FROM meter.set_alert('tokens', 'max', 'steps', recurring => 0.000000000000000001);
SELECT use('tokens', 'max', 999999999999999999999999999999);
SELECT count(*), max(amount), max(amount) - min(amount) FROM fired() WHERE name = 'steps';
SELECT use('tokens', 'max', -0.00000000000000005);
SELECT count(*) FROM fired() WHERE name = 'steps';

-- Zones: the day in Kolkata begins at 18:30. One delta of a batch has two days.
SELECT name FROM meter.set_alert('tokens', 'zed', 'zone', '{5}', period => 'day', time_zone => 'Asia/Kolkata');
SELECT status FROM meter.record_events(array_fill('tokens'::text, '{4}'), array_fill('zed'::text, '{4}'), '{4,1,4.99,0.01}', NULL, NULL,
    '{2020-05-15 18:00+00,2020-05-15 18:29:59+00,2020-05-15 18:30+00,2020-05-15 18:31+00}');
SELECT user_id, name, start, threshold, usage FROM fired() WHERE name = 'zone' ORDER BY start;

-- A fold that is rolled back has fired nothing.
SELECT use('tokens', 'roy', 11);
BEGIN;
SELECT count(*) FROM fired();
ROLLBACK;
SELECT setval('seen', (SELECT max(id) FROM meter.alert)) > 0 AS set;
SELECT user_id, threshold FROM fired();
-- A rebuild looks at the periods it makes anew: nothing fires again, but for rules that came after them.
SELECT meter.rebuild('2020-01-01', '2021-01-01') > 0;
SELECT event_name, user_id, name, start, threshold FROM fired();
SELECT count(*) FROM fired();
SELECT use('tokens', 'lou', 10);
SELECT user_id, threshold FROM fired();

-- Listing, and a person who goes.
SELECT event_name, name, user_id, thresholds, percents, recurring, period, time_zone FROM meter.list_alert_rules();
SELECT name FROM meter.list_alert_rules('tokens');
SELECT count(*), min(event_name), max(event_name) FROM meter.list_alerts('calls');
SELECT count(*) FROM meter.list_alerts(user_id => 'ann', max_rows => 3);
SELECT meter.erase_user('max', 'gone');
SELECT user_id, count(*) FROM meter.alert WHERE user_id IN ('max', 'gone') GROUP BY 1;
SELECT user_id FROM meter.alert_rule WHERE name = 'steps';
SELECT meter.erase_user('lou', remove => true);
SELECT count(*) FROM meter.alert WHERE user_id = 'lou';

-- Bad input.
SELECT try(format('SELECT meter.set_alert(%s)', arguments)) FROM unnest(ARRAY[$$NULL, 'ann', 'a', '{1}'$$, $$'tokens', 'ann', NULL, '{1}'$$,
    $$'nothing', 'ann', 'a', '{1}'$$, $$'tokens', '', 'a', '{1}'$$, $$'tokens', 'ann', '', '{1}'$$, $$'tokens', 'ann', 'a'$$,
    $$'tokens', 'ann', 'a', '{0}'$$, $$'tokens', 'ann', 'a', '{1,-1}'$$, $$'tokens', 'ann', 'a', '{NaN}'$$, $$'tokens', 'ann', 'a', '{Infinity}'$$,
    $$'tokens', 'ann', 'a', '{1,NULL}'$$, $$'tokens', 'ann', 'a', '{{1},{2}}'$$, $$'tokens', 'ann', 'a', '{}', '{1e30}'$$,
    $$'tokens', 'ann', 'a', recurring => 0$$, $$'tokens', 'ann', 'a', recurring => 1e-19$$, $$'tokens', 'ann', 'a', (SELECT array_agg(i) FROM generate_series(1, 101) i)$$,
    $$'tokens', 'ann', 'a', '{1,2,1.0}'$$, $$'tokens', 'ann', 'a', '{}', '{80,80}'$$,
    $$'tokens', 'ann', 'a', '{1}', period => 'minute'$$, $$'tokens', 'ann', 'a', '{1}', time_zone => 'Mars'$$, $$'level', 'ann', 'a', '{1}'$$]) arguments;
SELECT try($$SELECT meter.drop_alert('tokens', 'none')$$);
SELECT try($$SELECT meter.drop_alert('nothing', 'spend')$$);
SELECT try($$SELECT FROM meter.list_alerts('nothing')$$);
SELECT try($$SELECT FROM meter.list_alerts(max_rows => -1)$$);
SELECT try($$SELECT meter.update_meter('tokens', aggregation => 'last')$$);

-- A rule that is dropped fires no more; a meter takes all of its along.
SELECT meter.drop_alert('tokens', 'spend');
SELECT use('tokens', 'tom', 1000);
SELECT count(*) FROM fired();
SELECT count(*) > 0 AS kept FROM meter.list_alerts('tokens');
SELECT count(*) FROM meter.create_meter('brief');
SELECT name FROM meter.set_alert('brief', NULL, 'a', '{5}');
SELECT meter.drop_meter('brief');
SELECT count(*) FROM meter.alert_rule r WHERE NOT EXISTS (SELECT FROM meter.meter m WHERE m.id = r.meter_id);
