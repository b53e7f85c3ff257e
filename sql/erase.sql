-- Erasing a person: the usage stays right.
SET meter.dense_events = 2;
TRUNCATE meter.meter, meter.meter_event, meter.event_key, meter.rollup_pending, meter.rollup_generation, meter.rollup_state, meter.rollup, meter.rollup_total, meter.rollup_days, meter.rollup_month, meter.rollup_meter, meter.usage_limit, meter.limit_usage, meter.alert_rule, meter.alert, meter.event_void, meter.retention RESTART IDENTITY;
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
SET datestyle = 'ISO';
-- ann and bob of dense usage over two months, eve of sparse usage, in two orgs, folded and not.
CREATE FUNCTION pg_temp.fill() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM meter.create_meter('calls', 'sum', '{model}');
    PERFORM meter.create_meter('level', 'last');
    PERFORM meter.record_events((SELECT jsonb_agg(jsonb_build_object('event_name', e, 'user_id', CASE WHEN i % 97 = 0 THEN 'eve' ELSE (ARRAY['ann', 'bob'])[1 + i % 2] END, 'value', i,
        'idempotency', 'k' || i, 'metadata', '{"mail": "someone@example.org"}'::jsonb, 'dimensions', CASE e WHEN 'calls' THEN jsonb_build_object('model', 'm' || i % 3) ELSE '{}' END,
        'timestamp', to_char('2025-01-01 00:20Z'::timestamptz + i * interval '1 hour', 'YYYY-MM-DD"T"HH24:MI:SSZ')))
        FROM generate_series(0, 1399) i, unnest('{calls,level}'::text[]) e), true);
    PERFORM meter.fold();
    PERFORM meter.record_event('calls', u, 10, '{"model": "m1"}', 'late', '2025-02-27 12:34:56Z', '{"mail": "x"}') FROM unnest('{ann,bob}'::text[]) u;
END
$$;
SELECT pg_temp.fill();
SET meter.org = 'other';
SELECT pg_temp.fill();
RESET meter.org;
SELECT count(*) FROM unnest('{ann,bob,eve}'::text[]) u, meter.record_event('calls', u, 11, '{"model": "m2"}', 'later', '2025-02-27 22:34:56Z', '{"mail": "x"}');
CREATE VIEW usage_now AS
    SELECT 'total' AS what, to_jsonb(r) AS r FROM meter.usage('calls', '2025-01-02Z', '2025-02-28 12:30Z', group_by => '{model}', bucket => 'day') r
    UNION ALL SELECT 'level', to_jsonb(r) FROM meter.usage('level', '2025-01-02Z', '2025-02-28 12:30Z', bucket => 'hour') r
    UNION ALL SELECT 'max', to_jsonb(r) FROM meter.usage('calls', '2025-01-02Z', '2025-02-28 12:30Z', aggregation => 'max') r
    UNION ALL SELECT 'user', to_jsonb(r) FROM meter.usage('calls', '2025-01-02Z', '2025-02-28 12:30Z', group_by => '{user_id,model}', bucket => 'week') r
        WHERE user_id NOT IN ('eve', 'someone') AND user_id NOT LIKE 'erased-%'
    UNION ALL SELECT 'report', to_jsonb(r) - 'user_id' FROM meter.usage_report('2025-01-01Z', '2025-03-01Z') r;
CREATE TEMPORARY TABLE before AS SELECT * FROM usage_now;
CREATE VIEW changed AS
    (SELECT 'gone', * FROM before EXCEPT ALL SELECT 'gone', * FROM usage_now) UNION ALL (SELECT 'new', * FROM usage_now EXCEPT ALL SELECT 'new', * FROM before);
-- What is left of a user in any table, by org.
CREATE VIEW traces AS
    SELECT m.org, t.what, t.user_id, count(*) FROM (
        SELECT 'event' AS what, meter_id, user_id FROM meter.meter_event
        UNION ALL SELECT 'key', e.meter_id, e.user_id FROM meter.meter_event e JOIN meter.event_key k ON k.digest = meter.key_digest(e.meter_id, e.user_id, e.idempotency)
        UNION ALL SELECT 'key text', meter_id, user_id FROM meter.meter_event WHERE idempotency IS NOT NULL
        UNION ALL SELECT 'metadata', meter_id, user_id FROM meter.meter_event WHERE metadata <> '{}'
        UNION ALL SELECT 'delta', meter_id, user_id FROM meter.rollup_pending
        UNION ALL SELECT 'cell', meter_id, user_id FROM meter.rollup
        UNION ALL SELECT 'day', meter_id, user_id FROM meter.rollup_days) AS t JOIN meter.meter m ON m.id = t.meter_id GROUP BY 1, 2, 3;
SELECT * FROM traces WHERE user_id IN ('ann', 'eve') ORDER BY 1, 3, 2;
SELECT (SELECT count(*) FROM meter.event_key) AS keys;

-- A chosen replacement, and a random one; totals and everybody else stay as they are.
SELECT meter.erase_user('eve', 'someone');
SELECT * FROM changed;
SELECT meter.erase_user('ann') AS ann \gset
SELECT :'ann' ~ '^erased-[0-9a-f]{8}-[0-9a-f-]{27}$' AS random;
SELECT what, r FROM changed WHERE what <> 'user';
SELECT * FROM traces WHERE user_id IN ('ann', 'eve') ORDER BY 1, 3, 2;
SELECT org, what, regexp_replace(user_id, '^(erased-).*', '\1') AS user_id, count FROM traces WHERE user_id NOT IN ('ann', 'eve', 'bob') ORDER BY 1, 3, 2;
SELECT (SELECT count(*) FROM meter.event_key) AS keys;
SELECT value, event_count FROM meter.usage('calls', '2025-01-01Z', '2025-03-01Z', :'ann');
SELECT value, event_count FROM meter.usage('calls', '2025-01-01Z', '2025-03-01Z', 'ann');
SELECT count(*) FROM meter.verify('2025-01-01Z', '2025-03-01Z');
SELECT meter.fold();
SELECT count(*) FROM meter.verify('2025-01-01Z', '2025-03-01Z');
SELECT what, r FROM changed WHERE what <> 'user';
-- The other org knows them still.
SET meter.org = 'other';
SELECT value, event_count FROM meter.usage('calls', '2025-01-01Z', '2025-03-01Z', 'ann');
RESET meter.org;
-- A retry of an erased event is a new event, of a user who can be erased again; nothing is left of one who was not there.
SELECT status FROM meter.record_events('[{"event_name": "calls", "user_id": "ann", "value": 10, "dimensions": {"model": "m1"}, "idempotency": "late", "timestamp": "2025-02-27T12:34:56Z"}]');
SELECT meter.erase_user('ann', remove => true) IS NULL AS nothing_left;
SELECT meter.erase_user('ann') IS NULL AS nothing_left;
SELECT what, r FROM changed WHERE what <> 'user';

-- Removed: the totals are without it, and right.
SELECT meter.erase_user('bob', remove => true) IS NULL AS nothing_left;
SELECT * FROM traces WHERE user_id = 'bob' ORDER BY 1, 2, 3;
SELECT count(*) FROM meter.verify('2025-01-01Z', '2025-03-01Z');
SELECT event_name, regexp_replace(user_id, '^(erased-).*', '\1') AS user_id, value, event_count FROM meter.usage_report('2025-01-01Z', '2025-03-01Z');
SELECT value, event_count FROM meter.usage('calls', '2025-01-01Z', '2025-03-01Z');

-- Behind the horizon there are cells alone, which keep the usage, under another name.
SET meter.org = 'other';
SET client_min_messages = warning;
CALL meter.empty_default_partition();
CALL meter.drop_events('2025-01-15Z');
RESET client_min_messages;
SELECT count(*) FROM meter.usage_report('2025-01-01Z', '2025-02-01Z', 'ann');
SELECT meter.erase_user('ann', 'x1', remove => true);
SELECT meter.erase_user('eve', 'x2');
SELECT event_name, user_id, value, event_count FROM meter.usage_report('2025-01-01Z', '2025-03-01Z');
SELECT event_name, user_id, value, event_count FROM meter.usage_report('2025-02-01Z', '2025-03-01Z');
SELECT value, event_count FROM meter.usage('calls', '2025-01-01Z', '2025-03-01Z');
SELECT value, event_count FROM meter.usage('calls', '2025-01-03Z', '2025-01-17Z', 'x1');
SELECT * FROM traces WHERE user_id IN ('ann', 'eve') AND org = 'other' ORDER BY 1, 2, 3;
SELECT count(*) FROM meter.verify('2025-02-01Z', '2025-03-01Z');

-- What it does not take.
SELECT pg_temp.sqlstate_of($$SELECT meter.erase_user(NULL)$$);
SELECT pg_temp.sqlstate_of($$SELECT meter.erase_user('')$$);
SELECT pg_temp.sqlstate_of($$SELECT meter.erase_user('bob', repeat('x', 256))$$);
SELECT pg_temp.sqlstate_of($$SELECT meter.erase_user('bob', 'x1')$$);
SELECT pg_temp.sqlstate_of($$SELECT meter.erase_user('bob', 'bob')$$);
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT meter.erase_user('bob');
ROLLBACK;
-- Admins, in the org of the setting; not one who is bound to an org: the lock of all rollups is taken,
-- and it is held to the end of the transaction.
CREATE ROLE meter_erase_admin;
CREATE ROLE meter_erase_bound;
SELECT meter.grant_access('meter_erase_admin', 'admin');
SELECT meter.grant_access('meter_erase_bound', 'admin', 'default');
SET ROLE meter_erase_bound;
SELECT meter.erase_user('bob');
RESET ROLE;
-- Nor where it was granted the function by hand.
GRANT EXECUTE ON FUNCTION meter.erase_user TO meter_erase_bound;
SET ROLE meter_erase_bound;
SELECT meter.erase_user('bob');
RESET ROLE;
BEGIN;
SET LOCAL ROLE meter_erase_admin;
SET LOCAL meter.org = 'default';
SELECT meter.erase_user('bob') IS NULL AS nothing_there;
SELECT meter.erase_user('someone', 'nobody', true) IS NULL AS not_whole;
COMMIT;
SELECT event_name, user_id, event_count FROM meter.usage_report('2025-01-01Z', '2025-02-01Z') WHERE user_id = 'bob';
REVOKE EXECUTE ON FUNCTION meter.erase_user FROM meter_erase_bound;
SELECT meter.revoke_access('meter_erase_admin'), meter.revoke_access('meter_erase_bound');
DROP ROLE meter_erase_admin, meter_erase_bound;

DROP VIEW changed, usage_now, traces;
RESET meter.org;
TRUNCATE meter.meter, meter.meter_event, meter.event_key, meter.rollup_pending, meter.rollup_generation, meter.rollup_state, meter.rollup, meter.rollup_total, meter.rollup_days, meter.rollup_month, meter.rollup_meter, meter.usage_limit, meter.limit_usage, meter.alert_rule, meter.alert, meter.event_void, meter.retention RESTART IDENTITY;
