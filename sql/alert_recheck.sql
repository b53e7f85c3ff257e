-- What folds look at for alerts whoever used, and what must not stop them.
\c
\pset format unaligned
\set VERBOSITY terse
SET timezone = 'UTC';
TRUNCATE meter.meter, meter.meter_event, meter.event_key, meter.rollup_pending, meter.rollup_generation, meter.rollup_state, meter.rollup, meter.rollup_total, meter.rollup_days, meter.rollup_month, meter.rollup_meter, meter.usage_limit, meter.limit_usage, meter.alert_rule, meter.alert, meter.alert_recheck, meter.event_void RESTART IDENTITY;
CREATE VIEW fired AS SELECT user_id, name, kind, threshold FROM meter.alert ORDER BY name, user_id COLLATE "C", threshold;
SELECT event_name FROM meter.create_meter('tokens');

-- Percentages of nothing: a notice. With a limit for someone, or for the user, there is none.
SELECT name FROM meter.set_alert('tokens', NULL, 'part', percents => '{50}');
SELECT amount FROM meter.set_limit('tokens', 'ann', 10, kind => 'soft');
SELECT name FROM meter.set_alert('tokens', NULL, 'part', percents => '{50}');
SELECT name FROM meter.set_alert('tokens', 'bob', 'bob', percents => '{50}');
SELECT name FROM meter.set_alert('tokens', 'ann', 'ann', percents => '{50}', period => 'day');
SELECT amount FROM meter.set_limit('tokens', NULL, 10, kind => 'soft');
SELECT name FROM meter.set_alert('tokens', 'bob', 'bob', percents => '{50}');
SELECT count(meter.drop_alert('tokens', name)) FROM unnest('{ann,bob}'::text[]) name;

-- A limit that changes for one user is looked at for him alone.
SELECT count(meter.record_event('tokens', who, 6)) FROM unnest('{ann,bob,cat}'::text[]) who;
SELECT meter.fold();
SELECT * FROM fired;
DELETE FROM meter.alert;
SELECT amount FROM meter.set_limit('tokens', 'ann', 11, kind => 'soft');
SELECT period, user_id FROM meter.alert_recheck;
SELECT meter.fold();
SELECT * FROM fired;
SELECT amount FROM meter.set_limit('tokens', NULL, 11, kind => 'soft');
SELECT meter.fold();
SELECT * FROM fired;
-- Of no rule by percentages of its period there is nothing to look at.
SELECT amount FROM meter.set_limit('tokens', NULL, 11, 'day', kind => 'soft');
SELECT count(*) FROM meter.alert_recheck;
-- A person who goes is in none of it.
SELECT amount FROM meter.set_limit('tokens', 'cat', 12, kind => 'soft');
UPDATE meter.alert_recheck SET after_user = 'cat';
SELECT meter.erase_user('cat', 'gone');
SELECT user_id, after_user FROM meter.alert_recheck;
SELECT meter.fold();
SELECT count(*) FROM meter.alert_recheck;

-- A rule whose time zone has gone stops nothing: deltas are folded, other rules fire. It is looked at once it can be.
SELECT name FROM meter.set_alert('tokens', NULL, 'zone', '{1}', time_zone => 'Asia/Kolkata');
UPDATE meter.alert_rule SET time_zone = 'Mars/Olympus' WHERE name = 'zone';
DELETE FROM meter.alert;
SELECT meter.record_event('tokens', 'dan', 8) > 0 AS recorded;
SELECT meter.fold();
SELECT count(*) FROM meter.rollup_pending;
SELECT * FROM fired;
SELECT meter.record_event('tokens', 'dan', 1) > 0 AS recorded;
SELECT meter.fold();
SELECT period, time_zone, user_id, problem FROM meter.alert_recheck;
UPDATE meter.alert_rule SET time_zone = 'Asia/Kolkata' WHERE name = 'zone';
UPDATE meter.alert_recheck SET time_zone = 'Asia/Kolkata';
SELECT meter.fold();
SELECT * FROM fired WHERE name = 'zone';
SELECT count(*) FROM meter.alert_recheck;

-- Nor does a user whose usage cannot be read: the sum of two damaged cells overflows.
SELECT count(meter.record_event('tokens', 'eve', 1, jsonb_build_object('model', m))) FROM generate_series(1, 2) m;
SELECT meter.fold();
CREATE TABLE cells AS SELECT digest, value_sum FROM meter.rollup WHERE user_id = 'eve';
UPDATE meter.rollup SET value_sum = 9e131071 WHERE user_id = 'eve';
SELECT name FROM meter.set_alert('tokens', NULL, 'any', '{0.5}');
SELECT meter.fold();
SELECT * FROM fired WHERE name = 'any';
SELECT user_id, problem FROM meter.alert_recheck;
-- It is not told again and again.
SELECT meter.fold();
SELECT count(*) FROM meter.alert_recheck;
UPDATE meter.rollup r SET value_sum = c.value_sum FROM cells c WHERE user_id = 'eve' AND r.digest = c.digest;
SELECT meter.fold();
SELECT * FROM fired WHERE name = 'any' AND user_id = 'eve';
SELECT count(*) FROM meter.alert_recheck;
DROP TABLE cells;

-- What is fired is by the rule and the meter as they are then: here they change while a fold is under way.
CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE TG_ARGV[0]; RETURN NULL; END $$;
CREATE TRIGGER change AFTER INSERT ON meter.rollup EXECUTE FUNCTION change('UPDATE meter.alert_rule SET user_id = ''ann'' WHERE name = ''any''');
SELECT meter.record_event('tokens', 'fay', 1) > 0 AS recorded;
SELECT meter.fold();
SELECT * FROM fired WHERE user_id = 'fay';
DROP TRIGGER change ON meter.rollup;
CREATE TRIGGER change AFTER INSERT ON meter.rollup EXECUTE FUNCTION change('UPDATE meter.meter SET aggregation = ''count''');
SELECT meter.record_event('tokens', 'guy', 100) > 0 AS recorded;
SELECT meter.fold();
SELECT * FROM fired WHERE user_id = 'guy';
DROP TRIGGER change ON meter.rollup;
UPDATE meter.meter SET aggregation = 'sum';

-- A queue of notifications that is nearly full stops no fold: what has fired is there, and not notified.
\c
\pset format unaligned
\set VERBOSITY default
SET timezone = 'UTC';
BEGIN;
SET LOCAL allow_system_table_mods = on;
ALTER FUNCTION pg_catalog.pg_notification_queue_usage() RENAME TO real_queue_usage;
CREATE FUNCTION pg_catalog.pg_notification_queue_usage() RETURNS double precision LANGUAGE sql AS 'SELECT 0.91::double precision';
SELECT meter.record_event('tokens', 'hal', 100) > 0 AS recorded;
SELECT meter.fold();
SELECT * FROM fired WHERE user_id = 'hal';
ROLLBACK;
\set VERBOSITY terse

-- A rule for every user is looked at by parts.
SELECT event_name FROM meter.create_meter('calls', 'count');
SELECT status, count(*) FROM meter.record_events(array_fill('calls'::text, '{6000}'), (SELECT array_agg('user-' || i) FROM generate_series(1, 6000) i),
    NULL, NULL, NULL, NULL) GROUP BY 1;
SELECT meter.fold();
SELECT name FROM meter.set_alert('calls', NULL, 'first', '{1}', period => 'total');
SELECT meter.fold();
SELECT count(*) FROM meter.alert WHERE name = 'first';
SELECT meter_id, user_id, after_user > '' AS begun FROM meter.alert_recheck;
SELECT meter.fold();
SELECT count(*), count(DISTINCT user_id) FROM meter.alert WHERE name = 'first';
SELECT count(*) FROM meter.alert_recheck;

-- A meter has so many rules and no more.
SELECT count(meter.set_alert('tokens', NULL, 'all-' || i, '{1}')) FROM generate_series(1, 98) i;
SELECT name FROM meter.set_alert('tokens', NULL, 'all-99', '{1}');
\set VERBOSITY default
SELECT name FROM meter.set_alert('tokens', NULL, 'all-100', '{1}');
SELECT name FROM meter.set_alert('tokens', NULL, 'all-98', '{2}');
SELECT count(meter.set_alert('tokens', 'ann', 'ann-' || i, '{1}')) FROM generate_series(1, 899) i;
SELECT name FROM meter.set_alert('tokens', 'ann', 'one more', '{1}');
SELECT name FROM meter.set_alert('tokens', 'ann', 'ann-899', '{2}');
SELECT meter.drop_alert('tokens', 'ann-899');
SELECT name FROM meter.set_alert('tokens', 'ann', 'one more', '{1}');

-- What goes with a meter is looked at no more; in a transaction that may not see all of it, it does not go.
SELECT event_name FROM meter.create_meter('brief');
SELECT name FROM meter.set_alert('brief', NULL, 'a', '{5}');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT meter.drop_meter('brief');
ROLLBACK;
SELECT meter.drop_meter('brief');
SELECT count(*) FROM meter.alert_recheck WHERE meter_id NOT IN (SELECT id FROM meter.meter);
DROP VIEW fired;
DROP FUNCTION change();
TRUNCATE meter.meter, meter.meter_event, meter.event_key, meter.rollup_pending, meter.rollup_generation, meter.rollup_state, meter.rollup, meter.rollup_total, meter.rollup_days, meter.rollup_month, meter.rollup_meter, meter.usage_limit, meter.limit_usage, meter.alert_rule, meter.alert, meter.alert_recheck, meter.event_void RESTART IDENTITY;
