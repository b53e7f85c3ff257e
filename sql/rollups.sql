-- Folding, what it leaves, and putting right what was broken by hand.
SET client_min_messages = warning;
SET timezone = 'UTC';
TRUNCATE meter.meter, meter.meter_event, meter.event_key, meter.rollup_pending, meter.rollup_generation, meter.rollup_state, meter.rollup, meter.rollup_total, meter.rollup_days, meter.rollup_month, meter.rollup_meter, meter.usage_limit, meter.limit_usage, meter.alert_rule, meter.alert, meter.event_void RESTART IDENTITY;
SELECT event_name FROM meter.create_meter('tokens', dimensions => '{model}');
-- A dense user and a sparse one, over two months.
SELECT count(*) FROM meter.record_events(
    array_fill('tokens'::text, ARRAY[2000]),
    (SELECT array_agg(CASE WHEN i % 100 = 0 THEN 'sparse' ELSE 'dense' END) FROM generate_series(1, 2000) AS i),
    (SELECT array_agg(i / 8.0) FROM generate_series(1, 2000) AS i),
    (SELECT array_agg(jsonb_build_object('model', 'm' || i % 3)) FROM generate_series(1, 2000) AS i),
    NULL,
    (SELECT array_agg(timestamptz '2026-01-01' + i * interval '41 minutes') FROM generate_series(1, 2000) AS i), NULL) AS r
WHERE status = 'recorded';
CREATE TEMP VIEW answers AS
SELECT 'total' AS question, u.* FROM meter.usage('tokens', '2026-01-01', '2026-02-01') AS u
UNION ALL SELECT 'cut', u.* FROM meter.usage('tokens', '2026-01-03 10:20:30', '2026-02-05 07:08:09.5', group_by => '{user_id,model}') AS u
UNION ALL SELECT 'last', u.* FROM meter.usage('tokens', '2026-01-03 10:20', '2026-02-11', aggregation => 'last', group_by => '{user_id}') AS u
UNION ALL SELECT 'max', u.* FROM meter.usage('tokens', '2026-01-03 10:20', '2026-02-11', 'sparse', aggregation => 'max') AS u
UNION ALL SELECT 'day', u.* FROM meter.usage('tokens', '2026-01-01', '2026-02-01', 'dense', bucket => 'day', time_zone => 'Asia/Kolkata') AS u
UNION ALL SELECT 'hour', u.* FROM meter.usage('tokens', '2026-01-01', '2026-02-01', bucket => 'hour') AS u;
CREATE TEMP TABLE before AS SELECT * FROM answers;
SELECT question, count(*), sum(value) FROM before GROUP BY question ORDER BY question;
SELECT meter.fold() > 0 AS folded, meter.fold() AS again;
SELECT count(*) AS pending FROM meter.rollup_pending;
SELECT user_id, grain, sum(event_count) AS events, count(hours) > 0 AS with_hours
FROM meter.rollup GROUP BY 1, 2 ORDER BY 1, 2;
SELECT user_id, month, days_from FROM meter.rollup_days ORDER BY 1, 2;
-- Folding changes no answer.
SELECT * FROM (TABLE before EXCEPT ALL SELECT * FROM answers) AS lost;
SELECT * FROM (SELECT * FROM answers EXCEPT ALL TABLE before) AS gained;
SELECT * FROM meter.verify('2026-01-01', '2026-04-01');

-- With more events, folded and not folded, too.
SELECT meter.record_event('tokens', 'dense', 0.5, '{"model": "m1"}', event_time => '2026-01-15 12:00') > 0 AS recorded;
SELECT value, event_count FROM meter.usage('tokens', '2026-01-01', '2026-02-01');
SELECT * FROM meter.verify('2026-01-01', '2026-04-01');

-- Whole months of one user are answered without the events: they are not even there.
BEGIN;
CREATE TEMP TABLE kept AS SELECT value, event_count FROM meter.usage('tokens', '2026-01-01', '2026-02-01', 'dense');
DELETE FROM meter.meter_event;
SELECT count(*) AS same FROM (TABLE kept INTERSECT SELECT value, event_count FROM meter.usage('tokens', '2026-01-01', '2026-02-01', 'dense')) AS s;
ROLLBACK;

-- Broken by hand: found, and put right.
UPDATE meter.rollup SET value_sum = value_sum + 1 WHERE user_id = 'dense' AND grain = 'd' AND start = '2026-01-02' AND dimensions = '{"model": "m1"}';
DELETE FROM meter.rollup_total WHERE grain = 'm' AND start = '2026-02-01' AND dimensions = '{"model": "m2"}';
UPDATE meter.rollup_total SET hours = NULL WHERE grain = 'd' AND start = '2026-01-05' AND dimensions = '{"model": "m0"}';
SELECT event_name, grain, start, user_id, dimensions, expected -> 'sum' AS expected, actual -> 'sum' AS actual
FROM meter.verify('2026-01-01', '2026-03-01') WHERE grain <> 'h';
SELECT count(*) > 0 AS hours_too FROM meter.verify('2026-01-01', '2026-03-01') WHERE grain = 'h';
SELECT meter.rebuild('2026-01-10', '2026-02-10', 'tokens');
SELECT count(*) AS differences FROM meter.verify('2026-01-01', '2026-04-01');
SELECT value, event_count FROM meter.usage('tokens', '2026-01-01', '2026-02-01');

-- Events written past record_event are not counted until the month is rebuilt.
INSERT INTO meter.meter_event ("timestamp", meter_id, user_id, value) SELECT '2026-01-20 05:00', id, 'by_hand', 3 FROM meter.meter WHERE event_name = 'tokens';
SELECT count(*) AS differences FROM meter.verify('2026-01-01', '2026-02-01') WHERE grain = 'm';
SELECT meter.rebuild('2026-01-20', '2026-01-21') AS events;
SELECT value, event_count FROM meter.usage('tokens', '2026-01-01', '2026-02-01', 'by_hand');

-- A trigger that changes or suppresses events: what counts is what is stored.
CREATE FUNCTION pg_temp.halve() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.user_id = 'nobody' THEN RETURN NULL; END IF;
    NEW.value := NEW.value / 2;
    RETURN NEW;
END $$;
CREATE TRIGGER halve BEFORE INSERT ON meter.meter_event FOR EACH ROW EXECUTE FUNCTION pg_temp.halve();
SELECT meter.record_event('tokens', 'halved', 8, event_time => '2026-01-20 05:00') > 0 AS recorded;
SELECT meter.record_event('tokens', 'nobody', 8, event_time => '2026-01-20 05:00') > 0 AS recorded;
SELECT count(*) FROM meter.record_events('[{"event_name": "tokens", "user_id": "halved", "value": 4, "timestamp": "2026-01-20T05:00:00Z"},
    {"event_name": "tokens", "user_id": "nobody", "value": 4, "timestamp": "2026-01-20T05:00:00Z"}]');
DROP TRIGGER halve ON meter.meter_event;
SELECT u.user_id, value, event_count FROM meter.usage('tokens', '2026-01-20', '2026-01-21', group_by => '{user_id}') AS u WHERE u.user_id <> 'dense';

-- A delta that cannot be folded is set aside, and still counted; the rest is folded.
ALTER TABLE meter.rollup ADD CONSTRAINT refuse CHECK (user_id <> 'poison');
SELECT meter.record_event('tokens', 'poison', 7, event_time => '2026-01-21') > 0 AS recorded;
SELECT meter.record_event('tokens', 'healthy', 5, event_time => '2026-01-21') > 0 AS recorded;
SELECT meter.fold();
SELECT user_id, generation, fold_error FROM meter.rollup_pending;
SELECT u.user_id, value FROM meter.usage('tokens', '2026-01-21', '2026-01-22', group_by => '{user_id}') AS u WHERE u.user_id IN ('poison', 'healthy');
ALTER TABLE meter.rollup DROP CONSTRAINT refuse;
SELECT meter.rebuild('2026-01-21', '2026-01-22', 'tokens') > 0 AS repaired;
SELECT count(*) AS aside FROM meter.rollup_pending;
SELECT count(*) AS differences FROM meter.verify('2026-01-01', '2026-04-01');

-- A trigger on deltas hears of each that is folded, and may keep it; what it keeps is not folded.
CREATE TEMP TABLE heard (user_id text);
CREATE FUNCTION pg_temp.hear() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO heard VALUES (OLD.user_id);
    RETURN CASE WHEN OLD.user_id <> 'kept' THEN OLD END;
END $$;
CREATE TRIGGER hear BEFORE DELETE ON meter.rollup_pending FOR EACH ROW EXECUTE FUNCTION pg_temp.hear();
SELECT count(meter.record_event('tokens', u, 3, event_time => '2026-01-21')) AS recorded FROM unnest('{kept,let_go}'::text[]) AS u;
SELECT meter.fold() AS folded;
SELECT user_id FROM heard ORDER BY 1;
SELECT user_id FROM meter.rollup_pending;
-- Nor is it lost when the generation that it is in might be closed.
SELECT setval('meter.rollup_folded_seq', 100000) > 0 AS set, meter.record_event('tokens', 'other', 1, event_time => '2026-01-21') > 0 AS recorded;
SELECT meter.fold();
SELECT meter.fold();
SELECT value FROM meter.usage('tokens', '2026-01-21', '2026-01-22', 'kept');
DROP TRIGGER hear ON meter.rollup_pending;
SELECT meter.fold();
SELECT u.user_id, value FROM meter.usage('tokens', '2026-01-21', '2026-01-22', group_by => '{user_id}') AS u WHERE u.user_id IN ('kept', 'let_go');
SELECT count(*) AS differences FROM meter.verify('2026-01-01', '2026-04-01');

-- An index that summarizes what changes gets entries of its own; the key gets none for a row that is found by the row before.
CREATE INDEX summary ON meter.rollup USING brin (last_timestamp);
SELECT meter.record_event('tokens', 'let_go', 1, event_time => '2026-01-21 01:00') > 0 AS recorded;
SELECT meter.fold();
SELECT meter.record_event('tokens', 'let_go', 1, event_time => '2026-01-21 02:00') > 0 AS recorded;
SELECT meter.fold();
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET enable_indexonlyscan = off;
SELECT count(*) FROM meter.rollup WHERE meter_id = (SELECT id FROM meter.meter WHERE event_name = 'tokens') AND grain = 'm' AND start = '2026-01-01Z' AND user_id = 'let_go';
RESET enable_seqscan;
RESET enable_bitmapscan;
RESET enable_indexonlyscan;
DROP INDEX meter.summary;
SELECT value FROM meter.usage('tokens', '2026-01-21', '2026-01-22', 'let_go');

-- Few cells among many, and many of them: either way each that is stored is found.
SELECT count(meter.record_event('tokens', 'crowd-' || i, 1, event_time => '2026-03-01Z')) FROM generate_series(1, 3000) AS i;
SELECT meter.fold();
SELECT count(meter.record_event('tokens', 'crowd-' || i, 2, event_time => '2026-03-01Z')) FROM generate_series(1, 3000, 120) AS i;
SELECT meter.fold();
SELECT count(meter.record_event('tokens', 'crowd-' || i, 4, event_time => '2026-03-01Z')) FROM generate_series(0, 3000, 2) AS i;
SELECT meter.fold();
SELECT value, count(*) FROM meter.usage('tokens', '2026-03-01', '2026-04-01', group_by => '{user_id}') AS u WHERE u.user_id LIKE 'crowd-%' GROUP BY value ORDER BY value;
SELECT count(*) AS differences FROM meter.verify('2026-03-01', '2026-04-01');

-- Where a change could be lost, it is refused.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT meter.fold();
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT meter.rebuild('2026-01-01', '2026-02-01');
ROLLBACK;
SELECT meter.rebuild(NULL, '2026-02-01');
SELECT meter.rebuild('2026-01-01', '2026-02-01', 'unknown');
SELECT meter.rebuild('2026-02-01', '2026-01-01');

-- What else verify finds: a wrong or missing row of a month, deltas that no query looks at.
SELECT meter.rebuild('2026-01-01', '2026-04-01') > 0 AS rebuilt;
UPDATE meter.rollup_month SET last_timestamp = last_timestamp - interval '1 second' WHERE month = '2026-01-01Z';
DELETE FROM meter.rollup_month WHERE month = '2026-02-01Z';
SELECT DISTINCT grain, start, expected IS NULL AS unexpected, actual IS NULL AS missing FROM meter.verify('2026-01-01', '2026-04-01') ORDER BY 1, 2;
SELECT meter.rebuild('2026-01-01', '2026-04-01') > 0 AS rebuilt;
SELECT count(*) AS differences FROM meter.verify('2026-01-01', '2026-04-01');
BEGIN;
SELECT meter.record_event('tokens', 'ann', 1, event_time => '2026-01-05Z') > 0 AS recorded;
SELECT count(*) AS differences FROM meter.verify('2026-01-01', '2026-04-01');
UPDATE meter.rollup_pending SET generation = 99;
SELECT grain, user_id, actual IS NULL AS missing FROM meter.verify('2026-01-01', '2026-04-01') WHERE grain = 'm' ORDER BY 1, 2;
ROLLBACK;
SELECT * FROM meter.verify('2026-01-01', '2026-02-01', 'unknown');
SELECT * FROM meter.verify('2026-02-01', '2026-01-01');
SELECT * FROM meter.verify(NULL, '2026-01-01');

TRUNCATE meter.meter, meter.meter_event, meter.event_key, meter.rollup_pending, meter.rollup_generation, meter.rollup_state, meter.rollup, meter.rollup_total, meter.rollup_days, meter.rollup_month, meter.rollup_meter, meter.usage_limit, meter.limit_usage, meter.alert_rule, meter.alert, meter.event_void RESTART IDENTITY;
