-- Closing periods: what was billed is frozen, and what arrives late is carried on.
ALTER TABLE meter.statement DISABLE TRIGGER refuse_truncate;
TRUNCATE meter.meter, meter.meter_event, meter.event_key, meter.event_void, meter.period_close, meter.statement, meter.rollup_pending, meter.rollup_generation, meter.rollup_state, meter.rollup, meter.rollup_total, meter.rollup_days, meter.rollup_month, meter.rollup_meter, meter.usage_limit, meter.limit_usage, meter.alert_rule, meter.alert, meter.event_void, meter.retention RESTART IDENTITY;
ALTER TABLE meter.statement ENABLE TRIGGER refuse_truncate;
ALTER SEQUENCE meter.meter_event_id_seq RESTART;
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
CREATE FUNCTION pg_temp.error_of(query text) RETURNS text LANGUAGE plpgsql AS $$
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
SELECT event_name FROM meter.create_meter('tokens', dimensions => '{model,request}');
SELECT event_name FROM meter.create_meter('gauge', 'last');
SELECT event_name FROM meter.create_meter('idle', 'count');
SELECT meter.leave_out('tokens', 'request');
CREATE FUNCTION pg_temp.record(meter text, who text, v numeric, at timestamptz, model text DEFAULT 'a', key text DEFAULT NULL) RETURNS bigint LANGUAGE sql AS
$$ SELECT meter.record_event(meter, who, v, CASE WHEN meter = 'tokens' THEN jsonb_build_object('model', model, 'request', v) ELSE '{}' END, key, at) $$;
CREATE VIEW bill AS SELECT event_name, user_id, dimensions, period_start, period_end, kind, for_start, quantity, event_count FROM meter.list_statements();
CREATE VIEW late AS SELECT event_name, period_start, user_id, dimensions, quantity, event_count FROM meter.late_usage();
-- By meter and user: statements and what is late are the usage of what is closed.
CREATE VIEW unbalanced AS
    SELECT m.event_name, b.*, u.value, u.event_count
    FROM (SELECT meter_id, max(period_end) AS closed FROM meter.period_close GROUP BY 1) c JOIN meter.meter m ON m.id = meter_id AND m.aggregation <> 'last' AND m.org = 'default',
        LATERAL (SELECT COALESCE(sum(quantity), 0) AS quantity, COALESCE(sum(event_count), 0) AS n, COALESCE(meter.sum_digests(digest), '00000000-0000-0000-0000-000000000000') AS digest FROM (
            SELECT quantity, event_count, digest FROM meter.list_statements(m.event_name) UNION ALL
            SELECT quantity, event_count, digest FROM meter.late_usage(m.event_name)) x) b,
        LATERAL meter.usage_digest(m.event_name, '1970-01-01', c.closed) u
    WHERE (b.quantity, b.n, b.digest) IS DISTINCT FROM (u.value, u.event_count, u.digest);

SELECT pg_temp.record('tokens', 'ann', 10, '2025-01-10'), pg_temp.record('tokens', 'ann', 20, '2025-01-20', 'b', 'k20'), pg_temp.record('tokens', 'bob', 5, '2025-01-31 23:59:59.999999'),
    pg_temp.record('tokens', 'ann', 7, '2025-02-01'), pg_temp.record('gauge', 'ann', 3, '2025-01-05'), pg_temp.record('gauge', 'ann', 4, '2025-01-06');
-- A fold only now and then: cells and deltas are one.
SELECT meter.close_period('2025-02-01');
SELECT * FROM bill;
SELECT event_name, c.period_start, c.period_end, c.event_count, c.aggregation, c.dimensions, closed_by = current_user AS by_us FROM meter.period_close c JOIN meter.meter ON id = meter_id ORDER BY 1;
SELECT * FROM late;
-- Again, and again for one: nothing.
SELECT meter.close_period('2025-02-01'), meter.close_period('2025-02-01', 'tokens');
SELECT * FROM unbalanced;

-- Late events, a void and an amendment are to be seen, and are carried into the next statement.
SELECT pg_temp.record('tokens', 'ann', 100, '2025-01-15'), pg_temp.record('tokens', 'eve', 1, '2025-01-15'), pg_temp.record('gauge', 'ann', 9, '2025-01-07');
SELECT meter.void_event('tokens', 'ann', 'k20', 'not theirs') IS NOT NULL AS voided;
SELECT * FROM late;
SELECT meter.fold() > 0 AS folded;
SELECT * FROM late;
SELECT * FROM unbalanced;
SELECT meter.close_period('2025-03-01');
SELECT * FROM bill;
SELECT * FROM late;
SELECT * FROM unbalanced;
-- A dimension declared since does not divide what was billed without.
SELECT dimensions FROM meter.add_dimension('tokens', 'region');
SELECT meter.record_event('tokens', 'ann', 1000, '{"model": "a", "region": "eu"}', 'r', '2025-02-03') IS NOT NULL AS recorded;
SELECT * FROM late;
SELECT meter.amend_event('tokens', 'ann', 'r', value => 1500, reason => 'typo') IS NOT NULL AS amended;
SELECT * FROM late;
-- Not into a closed period, but within one, or out of it.
SELECT pg_temp.record('tokens', 'ann', 2, '2025-03-02', 'a', 'm') IS NOT NULL AS recorded;
SELECT pg_temp.error_of($$SELECT meter.amend_event('tokens', 'ann', 'm', event_time => '2025-02-28', reason => 'r')$$);
SELECT pg_temp.error_of($$SELECT meter.amend_event('tokens', 'ann', 'r', event_time => '2025-01-28', reason => 'r')$$);
SELECT meter.amend_event('tokens', 'ann', 'r', event_time => '2025-02-04', reason => 'a day late') IS NOT NULL AS amended;
SELECT meter.close_period('2025-03-01 12:34:56.789', 'tokens');
SELECT * FROM bill WHERE period_start >= '2025-03-01';
-- Here only the digest says that something has changed, then the event is moved out.
SELECT meter.amend_event('tokens', 'ann', 'r', event_time => '2025-02-05', reason => 'another day') IS NOT NULL AS amended;
SELECT * FROM late;
SELECT meter.amend_event('tokens', 'ann', 'r', event_time => '2025-03-03', reason => 'not even that month') IS NOT NULL AS amended;
SELECT * FROM late;
SELECT * FROM unbalanced;

-- Nothing changes what was billed.
SELECT pg_temp.error_of(q) FROM unnest('{UPDATE meter.statement SET quantity = 0,DELETE FROM meter.statement,TRUNCATE meter.statement}'::text[]) q;
-- Periods that cannot be.
SELECT pg_temp.error_of(q) FROM unnest(ARRAY[
    $$SELECT meter.close_period('2025-02-15', 'tokens')$$,
    $$SELECT meter.close_period('2025-03-01')$$,
    $$SELECT meter.close_period('9000-01-01')$$,
    $$SELECT meter.close_period('infinity')$$,
    $$SELECT meter.close_period('1969-01-01')$$,
    $$SELECT meter.close_period(NULL)$$,
    $$SELECT meter.close_period('2025-04-01', 'nometer')$$]) q;
SELECT pg_temp.error_of($$SELECT meter.close_period(now() + interval '1 minute')$$) ~ 'lies in the future' AS refused;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT meter.close_period('2025-04-01');
ROLLBACK;

-- Each org its own; an admin closes, a reader reads.
SET meter.org = 'foreign';
SELECT event_name FROM meter.create_meter('tokens');
SELECT pg_temp.error_of($$SELECT meter.record_event('tokens', 'fay', 1, event_time => '2025-01-01')$$);
SELECT meter.close_period('2025-02-01');
SELECT * FROM bill;
RESET meter.org;
CREATE ROLE period_admin;
CREATE ROLE period_reader;
SELECT meter.grant_access('period_admin', 'admin', 'default'), meter.grant_access('period_reader', 'reader', 'default');
SET ROLE period_reader;
SET meter.org = 'foreign';
SELECT user_id, sum(quantity) FROM meter.list_statements('tokens') GROUP BY 1 ORDER BY 1;
SELECT user_id, quantity FROM meter.late_usage('tokens');
SELECT source, count(*) FROM meter.explain_usage('tokens', '2025-01-01', '2025-02-01') GROUP BY 1 ORDER BY 1;
SELECT meter.close_period('2025-04-01');
SELECT count(*) FROM meter.statement;
SET ROLE period_admin;
SELECT meter.close_period('2025-04-01', 'tokens');
RESET ROLE;
RESET meter.org;
SELECT * FROM unbalanced;
SELECT closed_by, count(*) FROM meter.period_close WHERE closed_by LIKE 'period%' GROUP BY 1;
SELECT user_id, for_start, quantity FROM meter.list_statements('tokens', 'ann', '2025-03-01') WHERE period_end = '2025-04-01';

-- How a number came to be.
SELECT source, at, user_id, dimensions, value, event_count FROM meter.explain_usage('tokens', '2025-01-01', '2025-03-03 00:00:00.000001');
SELECT source, at, user_id, dimensions, event_id IS NOT NULL AS event, value, event_count FROM meter.explain_usage('tokens', '2025-01-10 00:00:00', '2025-01-20 00:00:00.5', 'ann');
SELECT source, at, value, event_count FROM meter.explain_usage('gauge', '2025-01-01', '2025-02-01');
SELECT sum(value), sum(event_count) FROM meter.explain_usage('tokens', '2025-01-10', '2025-02-04 00:30', filter => '{"model": "a"}');
SELECT value, event_count FROM meter.usage('tokens', '2025-01-10', '2025-02-04 00:30', filter => '{"model": "a"}');

-- Erased: what was billed stays, under the pseudonym, and nothing is late of it; or goes with the usage.
SELECT meter.erase_user('ann', 'gone');
SELECT DISTINCT user_id FROM meter.statement ORDER BY 1;
SELECT * FROM late;
SELECT * FROM unbalanced;
SELECT meter.erase_user('bob', remove => true);
SELECT DISTINCT user_id FROM meter.statement ORDER BY 1;
SELECT * FROM late;
SELECT * FROM unbalanced;
-- A meter that was billed stays; one that was not goes.
SELECT pg_temp.error_of($$SELECT meter.drop_meter('tokens')$$);
SELECT meter.drop_meter('idle');
SELECT count(*) FROM meter.period_close WHERE meter_id NOT IN (SELECT id FROM meter.meter);

-- Dropping events: what arrived late just before is not lost with them.
SELECT pg_temp.record('tokens', 'gone', 64, '2025-01-15') IS NOT NULL AS late;
CALL meter.drop_events('2025-02-01');
SELECT * FROM late;
SELECT meter.close_period('2025-05-01', 'tokens');
SELECT user_id, for_start, quantity FROM meter.list_statements('tokens', NULL, '2025-04-01');
SELECT * FROM unbalanced;
-- Of a period with other bounds its events have to be there as long as it can change: they are not dropped,
CALL meter.drop_events('2025-03-01 06:00');
-- nor are they unbilled,
SELECT pg_temp.record('tokens', 'gone', 1, '2025-03-01 06:00') IS NOT NULL AS late;
CALL meter.drop_events('2025-03-10');
CALL meter.drop_events('2025-04-01');
SELECT horizon, dropped FROM meter.retention;
SELECT * FROM late;
SELECT meter.close_period('2025-06-01', 'tokens');
-- and once it was billed it is settled.
CALL meter.drop_events('2025-04-01');
SELECT period_start, settled FROM meter.period_close c JOIN meter.meter m ON m.id = meter_id WHERE event_name = 'tokens' AND org = 'default' ORDER BY 1;
SELECT * FROM late;
SELECT horizon, dropped FROM meter.retention;
SELECT meter.close_period('2025-07-01');
DROP VIEW bill, late, unbalanced;
DROP OWNED BY period_admin, period_reader;
SELECT meter.revoke_access(r::name) FROM unnest('{period_admin,period_reader}'::text[]) r;
DROP ROLE period_admin, period_reader;
ALTER TABLE meter.statement DISABLE TRIGGER refuse_truncate;
TRUNCATE meter.period_close, meter.statement, meter.event_void, meter.retention;
ALTER TABLE meter.statement ENABLE TRIGGER refuse_truncate;
