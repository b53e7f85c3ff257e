-- Voiding and amending events.
TRUNCATE meter.meter, meter.meter_event, meter.event_key, meter.event_void, meter.rollup_pending, meter.rollup_generation, meter.rollup_state, meter.rollup, meter.rollup_total, meter.rollup_days, meter.rollup_month, meter.rollup_meter, meter.usage_limit, meter.limit_usage, meter.alert_rule, meter.alert, meter.event_void, meter.retention RESTART IDENTITY;
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
    RETURN regexp_replace(concat_ws(' | ', state, message, nullif(detail, ''), nullif(hint, '')), 'at 20..-[^ ]*Z by role "[^"]*"', 'at SOMETIME by SOMEBODY');
END
$$;
SELECT event_name FROM meter.create_meter('tokens', dimensions => '{model}');
SELECT event_name FROM meter.create_meter('gauge', 'last');
CREATE VIEW told AS
    SELECT a AS aggregation, u.user_id, u.dimensions, u.value, u.event_count
    FROM unnest('{sum,count,avg,min,max,last}'::text[]) a,
         meter.usage('tokens', '2026-01-01', '2026-02-01', group_by => '{user_id,model}', aggregation => a) u;

SELECT meter.record_event('tokens', 'ann', v, '{"model": "a"}', 'k' || v, timestamptz '2026-01-10 10:00' + v * interval '1 minute')
FROM unnest('{1,2,3,4,5}'::int[]) v;
SELECT meter.record_event('tokens', 'ann', 100, '{"model": "b"}', 'b', '2026-01-10 12:00');
SELECT * FROM told;

-- The event stays, and counts no more: pending.
SELECT meter.void_event('tokens', 'ann', 'k3', 'sent twice') AS voided;
SELECT * FROM told;
-- The same again is harmless, folded too; another reason is not.
SELECT meter.void_event('tokens', 'ann', 'k3', 'sent twice') AS again;
SELECT meter.fold() > 0 AS folded;
SELECT meter.void_event('tokens', 'ann', 3, '2026-01-10 10:03', 'sent twice') AS by_id;
SELECT pg_temp.error_of($$SELECT meter.void_event('tokens', 'ann', 'k3', 'another')$$);
SELECT pg_temp.error_of($$SELECT meter.void_event('tokens', 'ann', 3, '2026-01-10 10:03', 'another')$$);
SELECT * FROM told;
-- Strictly inside: the month's cell is as good as before, the hour's and the day's too.
SELECT grain, event_count, value_sum, dirty FROM meter.rollup ORDER BY 1, 3;
SELECT * FROM meter.verify('2026-01-01', '2026-02-01');

-- The largest and last, and all there is of a group.
SELECT meter.void_event('tokens', 'ann', 'k5', 'largest'), meter.void_event('tokens', 'ann', 'b', 'all of b');
SELECT * FROM told;
SELECT meter.fold();
SELECT * FROM told;
SELECT grain, event_count, value_sum, dirty FROM meter.rollup ORDER BY 1, 3;
SELECT dirty, event_count FROM meter.rollup_month;
SELECT * FROM meter.verify('2026-01-01', '2026-02-01');
-- An edge below the hour reads events, and takes voided ones back.
SELECT a, u.value, u.event_count FROM unnest('{sum,count,min,max,last}'::text[]) a,
    meter.usage('tokens', '2026-01-10 10:02:30', '2026-01-10 10:04:30', 'ann', aggregation => a) u;
SELECT * FROM meter.usage_report('2026-01-10 10:02:30', '2026-01-10 13:00');
-- Nothing is left: one row all the same, and none where groups are told apart.
SELECT value, event_count FROM meter.usage('tokens', '2026-01-10 12:00', '2026-01-11');
SELECT value, event_count FROM meter.usage('tokens', '2026-01-10 12:00', '2026-01-11', bucket => 'hour');
SELECT value, event_count FROM meter.usage('tokens', '2026-01-10 12:00', '2026-01-11', bucket => 'day', fill => true, aggregation => 'max');
-- A rebuild makes dirty cells clean, and cells of nothing vanish.
SELECT meter.rebuild('2026-01-01', '2026-02-01', 'tokens');
SELECT grain, event_count, value_sum, dirty FROM meter.rollup ORDER BY 1, 3;
SELECT * FROM told;
SELECT * FROM meter.verify('2026-01-01', '2026-02-01');

-- The events are all there; a list shows those that count.
SELECT count(*) FROM meter.meter_event;
SELECT id, value FROM meter.list_events('tokens', '2026-01-01', '2026-02-01');
SELECT id, value FROM meter.list_events('tokens', '2026-01-01', '2026-02-01', 'ann', '{"model": "b"}');

-- A voided key cannot be replayed by accident: the original payload is a duplicate, another a conflict.
SELECT meter.record_event('tokens', 'ann', 3, '{"model": "a"}', 'k3', '2026-01-10 10:03') AS first_id;
SELECT pg_temp.error_of($$SELECT meter.record_event('tokens', 'ann', 4, '{"model": "a"}', 'k3', '2026-01-10 10:03')$$);
SELECT event_id, status FROM meter.record_events('[{"event_name": "tokens", "user_id": "ann", "value": 3, "dimensions": {"model": "a"}, "idempotency": "k3"}]');
SELECT value FROM meter.usage('tokens', '2026-01-01', '2026-02-01');

-- Amending: value, dimensions, time and metadata, each as it was where it is not given.
SELECT meter.amend_event('tokens', 'ann', 'k4', value => 40, reason => 'a zero was lost') AS new_id \gset
SELECT :new_id > 6 AS is_new, meter.amend_event('tokens', 'ann', 'k4', value => 40.0, reason => 'a zero was lost') = :new_id AS same_again;
SELECT * FROM told;
SELECT meter.amend_event('tokens', 'ann', 'k4', dimensions => '{"model": "c"}', event_time => '2026-01-11 00:00:00.000001', metadata => '{"ticket": 7}', reason => 'wrong model') > :new_id AS chained;
SELECT * FROM told;
SELECT meter.fold() > 0 AS folded;
SELECT * FROM told;
SELECT * FROM meter.verify('2026-01-01', '2026-02-01');
SELECT version, value, dimensions, "timestamp", metadata, status, changed_by = current_user AS by_us, changed_at IS NOT NULL AS at, reason FROM meter.event_history('tokens', 'ann', 'k4');
SELECT version, value, status, reason FROM meter.event_history('tokens', 'ann', 4, '2026-01-10 10:04');
SELECT count(*) FROM meter.event_history('tokens', 'ann', idempotency => 'k4');
SELECT pg_temp.error_of($$SELECT meter.void_event('tokens', 'ann', 4, '2026-01-10 10:04', 'too late')$$) ~ '^55000 \| event 4 is amended \| It was amended at SOMETIME by SOMEBODY: a zero was lost \| Event [0-9]+ of 2026-01-10T10:04:00Z took its place\.$' AS refused;
SELECT pg_temp.error_of($$SELECT meter.amend_event('tokens', 'ann', 'k4', dimensions => '{"model": "c"}', reason => 'something else')$$) ~ '^22023 \| the amendment of event [0-9]+ changes nothing \| Give a value, ' AS nothing;
-- A void by key takes the live version; then there is nothing to amend.
SELECT meter.void_event('tokens', 'ann', 'k4', 'never was') > :new_id AS latest;
SELECT pg_temp.error_of($$SELECT meter.amend_event('tokens', 'ann', 'k4', value => 1, reason => 'r')$$) ~ '^55000 \| event [0-9]+ is voided already' AS refused;
SELECT version, value, status, reason FROM meter.event_history('tokens', 'ann', 'k4');
SELECT * FROM told;
SELECT meter.record_event('tokens', 'ann', 4, '{"model": "a"}', 'k4', '2026-01-10 10:04') AS first_id;

-- Last, of a meter that is told by it.
SELECT meter.record_event('gauge', 'bob', v, '{}', 'g' || v, timestamptz '2026-01-05 00:00' + v * interval '1 day') IS NOT NULL FROM unnest('{1,2,3}'::int[]) v;
SELECT meter.fold();
SELECT meter.void_event('gauge', 'bob', 'g3', 'sensor broken') IS NOT NULL AS voided;
SELECT value, event_count FROM meter.usage('gauge', '2026-01-01', '2026-02-01');
SELECT meter.fold();
SELECT value, event_count FROM meter.usage('gauge', '2026-01-01', '2026-02-01');
SELECT * FROM meter.usage_report('2026-01-01', '2026-02-01');
SELECT meter.amend_event('gauge', 'bob', 'g1', event_time => '2026-01-20', reason => 'late clock') IS NOT NULL AS amended;
SELECT value, event_count FROM meter.usage('gauge', '2026-01-01', '2026-02-01');
SELECT * FROM meter.verify('2026-01-01', '2026-02-01');

-- Nothing of it stays where the transaction does not.
BEGIN;
SELECT meter.void_event('gauge', 'bob', 'g2', 'oops') IS NOT NULL AS voided;
SAVEPOINT s;
SELECT meter.amend_event('gauge', 'bob', 'g1', value => 17, reason => 'oops') IS NOT NULL AS amended;
SELECT value, event_count FROM meter.usage('gauge', '2026-01-01', '2026-02-01');
ROLLBACK TO s;
SELECT value, event_count FROM meter.usage('gauge', '2026-01-01', '2026-02-01');
ROLLBACK;
SELECT value, event_count FROM meter.usage('gauge', '2026-01-01', '2026-02-01');
-- Recorded and voided in one transaction.
BEGIN;
SELECT meter.void_event('gauge', 'bob', meter.record_event('gauge', 'bob', 99, '{}', NULL, '2026-01-21'), '2026-01-21', 'at once') IS NOT NULL AS voided;
COMMIT;
SELECT value, event_count FROM meter.usage('gauge', '2026-01-01', '2026-02-01');
-- The void is folded before what it takes back: deltas know no order.
UPDATE meter.rollup_pending SET generation = -1 WHERE voided IS NULL;
SELECT meter.fold();
SELECT value, event_count FROM meter.usage('gauge', '2026-01-01', '2026-02-01');
SELECT * FROM meter.verify('2026-01-01', '2026-02-01');
UPDATE meter.rollup_pending SET generation = 0;
SELECT meter.fold();
SELECT value, event_count FROM meter.usage('gauge', '2026-01-01', '2026-02-01');
SELECT * FROM meter.verify('2026-01-01', '2026-02-01');

-- What is not there, and what may not be.
SELECT pg_temp.error_of(q) FROM unnest(ARRAY[
    $$SELECT meter.void_event('tokens', 'ann', 'nokey', 'r')$$,
    $$SELECT meter.void_event('tokens', 'bob', 'k1', 'r')$$,
    $$SELECT meter.void_event('nometer', 'ann', 'k1', 'r')$$,
    $$SELECT meter.void_event('tokens', 'ann', 1, '2026-01-10 10:02', 'r')$$,
    $$SELECT meter.void_event('tokens', 'ann', 4711, '2026-01-10 10:01', 'r')$$,
    $$SELECT meter.void_event('tokens', 'ann', 1, 'infinity', 'r')$$,
    $$SELECT meter.void_event('tokens', 'ann', 'k1', '')$$,
    $$SELECT meter.void_event('tokens', 'ann', 'k1', repeat('x', 1001))$$,
    $$SELECT meter.void_event('tokens', 'ann', 'k1', NULL)$$,
    $$SELECT meter.void_event('tokens', '', 'k1', 'r')$$,
    $$SELECT meter.amend_event('tokens', 'ann', 'k1', value => 2)$$,
    $$SELECT meter.amend_event('tokens', 'ann', 'k1', reason => 'r')$$,
    $$SELECT meter.amend_event('tokens', 'ann', 'k1', value => 'NaN', reason => 'r')$$,
    $$SELECT meter.amend_event('tokens', 'ann', 'k1', value => 1e30, reason => 'r')$$,
    $$SELECT meter.amend_event('tokens', 'ann', 'k1', dimensions => '{"colour": 1}', reason => 'r')$$,
    $$SELECT meter.amend_event('tokens', 'ann', 'k1', metadata => '[]', reason => 'r')$$,
    $$SELECT meter.amend_event('tokens', 'ann', 'k1', event_time => '1960-01-01', reason => 'r')$$,
    $$SELECT meter.void_event('tokens', 'ann', 1, '2026-01-10 10:01', NULL)$$,
    $$SELECT meter.void_event('tokens', 'ann', NULL, 'r')$$,
    $$SELECT * FROM meter.event_history('tokens', 'ann', 'nokey')$$,
    $$SELECT * FROM meter.event_history('tokens', 'ann', 4711, '2026-01-10 10:01')$$]) q;
-- Another org's events are as if they were not there.
SET meter.org = 'foreign';
SELECT pg_temp.error_of($$SELECT meter.void_event('tokens', 'ann', 'k1', 'r')$$);
SELECT event_name FROM meter.create_meter('tokens');
SELECT pg_temp.error_of(q) FROM unnest(ARRAY[
    $$SELECT meter.void_event('tokens', 'ann', 'k1', 'r')$$,
    $$SELECT meter.void_event('tokens', 'ann', 1, '2026-01-10 10:01', 'r')$$,
    $$SELECT * FROM meter.event_history('tokens', 'ann', 1, '2026-01-10 10:01')$$]) q;
RESET meter.org;
-- An archived meter takes no more events, and corrections still.
SELECT archived_at IS NOT NULL FROM meter.archive_meter('tokens');
SELECT meter.void_event('tokens', 'ann', 'k2', 'late') IS NOT NULL, meter.amend_event('tokens', 'ann', 'k1', value => 10, reason => 'late') IS NOT NULL;
SELECT value, event_count FROM meter.usage('tokens', '2026-01-01', '2026-02-01');

-- Who may: an admin; a writer records, and a reader sees what became of it.
CREATE ROLE correct_admin;
CREATE ROLE correct_writer;
CREATE ROLE correct_reader;
SELECT meter.grant_access('correct_admin', 'admin', 'default'), meter.grant_access('correct_writer', 'writer', 'default'), meter.grant_access('correct_reader', 'reader', 'default');
SET ROLE correct_writer;
SELECT meter.void_event('gauge', 'bob', 'g2', 'r');
SET ROLE correct_reader;
SELECT meter.void_event('gauge', 'bob', 'g2', 'r');
SELECT version, status FROM meter.event_history('gauge', 'bob', 'g1');
SELECT count(*) FROM meter.event_void;
SET ROLE correct_admin;
SET meter.org = 'foreign';
SELECT meter.void_event('gauge', 'bob', 'g2', 'by the admin') IS NOT NULL AS voided;
RESET meter.org;
RESET ROLE;
SELECT voided_by, reason FROM meter.event_void WHERE idempotency = 'g2';

-- Erased with the person, and dropped with the events.
SELECT meter.erase_user('bob', 'gone');
SELECT user_id, idempotency, reason, count(*) FROM meter.event_void WHERE user_id <> 'ann' GROUP BY 1, 2, 3;
SELECT value, event_count FROM meter.usage('gauge', '2026-01-01', '2026-02-01', 'gone');
SELECT meter.fold() IS NOT NULL;
SELECT * FROM meter.verify('2026-01-01', '2026-02-01');
SELECT meter.erase_user('ann', remove => true);
SELECT count(*) FROM meter.event_void WHERE user_id = 'ann';
SELECT * FROM meter.verify('2026-01-01', '2026-02-01');
SET client_min_messages = warning;
CALL meter.drop_events('2026-02-01');
SELECT count(*) FROM meter.event_void;
SELECT pg_temp.error_of($$SELECT meter.void_event('gauge', 'gone', 1, '2026-01-10 10:01', 'r')$$);
-- What a dirty cell could not tell was read from the events while they were there.
SELECT a, value, event_count FROM unnest('{sum,min,max,last}'::text[]) a, meter.usage('gauge', '2026-01-01', '2026-02-01', aggregation => a);
SELECT count(*) FROM meter.rollup WHERE dirty;

-- However often an event is amended, a correction looks at a few of its versions.
SELECT event_name FROM meter.create_meter('chain', dimensions => '{model}');
SELECT meter.record_event('chain', 'eve', 1, '{"model": "a"}', 'often', '2026-02-10') IS NOT NULL AS recorded;
DO $$
BEGIN
    FOR i IN 2..400 LOOP
        PERFORM meter.amend_event('chain', 'eve', 'often', value => i, event_time => '2026-02-10'::timestamptz + i * interval '1 hour', reason => 'step ' || i);
    END LOOP;
END $$;
BEGIN;
SELECT meter.amend_event('chain', 'eve', 'often', value => 400, reason => 'step 400') = max(event_id) AS same_again FROM meter.event_history('chain', 'eve', 'often');
COMMIT;
BEGIN;
SELECT sum(pg_stat_get_xact_numscans(indexrelid)) AS scans FROM pg_index WHERE indrelid = 'meter.event_void'::regclass \gset
SELECT meter.amend_event('chain', 'eve', 'often', value => 401, reason => 'step 401') IS NOT NULL AS amended, meter.void_event('chain', 'eve', 'often', 'all of it') IS NOT NULL AS voided,
    meter.void_event('chain', 'eve', 'often', 'all of it') IS NOT NULL AS again;
SELECT sum(pg_stat_get_xact_numscans(indexrelid)) - :scans BETWEEN 1 AND 25 AS few FROM pg_index WHERE indrelid = 'meter.event_void'::regclass;
COMMIT;
SELECT count(*), max(version), count(*) FILTER (WHERE status = 'amended') AS amended, sum(value), array_agg(value ORDER BY version) = array_agg(version::numeric ORDER BY version) AS in_order
    FROM meter.event_history('chain', 'eve', 'often');
SELECT pg_temp.error_of($$SELECT meter.amend_event('chain', 'eve', 'often', value => 1, reason => 'r')$$) ~ '^55000 \| event [0-9]+ is voided already .* all of it' AS refused;
SELECT value, event_count FROM meter.usage('chain', '2026-02-01', '2026-04-01', 'eve');
SELECT meter.fold() IS NOT NULL;
SELECT * FROM meter.verify('2026-02-01', '2026-04-01');

-- Written straight into the table, or by SQL: where one asks for that, or a trigger has a say.
SELECT count(meter.record_event('chain', 'fay', 5, '{"model": "b"}', 'w' || i, '2026-02-11')) FROM generate_series(1, 3) i;
SELECT count(meter.record_event('chain', 'fay', 5, '{"model": "b"}', NULL, '2026-02-11'));
SELECT meter.void_event('chain', 'fay', 'w1', 'sent twice') IS NOT NULL AS voided, meter.void_event('chain', 'fay', 'w1', 'sent twice') IS NOT NULL AS again;
SET meter.direct_insert = off;
SELECT meter.void_event('chain', 'fay', 'w2', 'sent twice') IS NOT NULL AS voided, meter.void_event('chain', 'fay', 'w2', 'sent twice') IS NOT NULL AS again;
RESET meter.direct_insert;
CREATE FUNCTION note_reason() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.reason := upper(NEW.reason); RETURN NEW; END $$;
CREATE TRIGGER note_reason BEFORE INSERT ON meter.event_void FOR EACH ROW EXECUTE FUNCTION note_reason();
SELECT meter.void_event('chain', 'fay', 'w3', 'sent twice') IS NOT NULL AS voided;
DROP TRIGGER note_reason ON meter.event_void;
DROP FUNCTION note_reason();
SELECT meter.void_event('chain', 'fay', id, "timestamp", 'sent twice') = id AS voided FROM meter.meter_event WHERE user_id = 'fay' AND idempotency IS NULL;
SELECT idempotency, to_jsonb(v) - '{event_id,voided_at,voided_by,idempotency,meter_id,last_amended,last_amended_timestamp}'::text[] AS row FROM meter.event_void v WHERE user_id = 'fay' ORDER BY event_id;
SELECT value, event_count FROM meter.usage('chain', '2026-02-01', '2026-03-01', 'fay');
SELECT meter.fold() IS NOT NULL;
SELECT * FROM meter.verify('2026-02-01', '2026-04-01');

-- Digests add up, in any order, and what is taken back leaves nothing.
SELECT meter.event_digest(1, '2026-01-01', 1.50, '{"a": 1.0}') = meter.event_digest(1, '2026-01-01', 1.5, '{"a": 1, "b": null}') AS canonical;
SELECT count(DISTINCT meter.event_digest(i, t::timestamptz, v, d::jsonb)) FROM (VALUES (1, '2026-01-01', 1, '{}'), (2, '2026-01-01', 1, '{}'), (1, '2026-01-02', 1, '{}'), (1, '2026-01-01', -1, '{}'),
    (1, '2026-01-01', 10000, '{}'), (1, '2026-01-01', 0, '{}'), (1, '2026-01-01', 1, '{"a": 1}')) x (i, t, v, d);
SELECT meter.add_digests(d, meter.negate_digest(d)) FROM (VALUES (uuid '00000000-0000-0000-ffff-ffffffffffff'), ('00000000-0000-0001-0000-000000000000'), ('00000000-0000-0000-0000-000000000000'), ('80000000-0000-0000-8000-000000000001')) x (d);
SELECT meter.add_digests('00000000-0000-0000-ffff-ffffffffffff', '00000000-0000-0000-0000-000000000001'), meter.sum_digests(d) FROM unnest('{ffffffff-ffff-ffff-ffff-ffffffffffff,00000000-0000-0000-0000-000000000003}'::uuid[]) d;
SELECT meter.event_digest(1, '2026-01-01', 'NaN', '{}');
DROP VIEW told;
DROP OWNED BY correct_admin, correct_writer, correct_reader;
SELECT meter.revoke_access(r::name) FROM unnest('{correct_admin,correct_writer,correct_reader}'::text[]) r;
DROP ROLE correct_admin, correct_writer, correct_reader;
TRUNCATE meter.event_void, meter.retention;
