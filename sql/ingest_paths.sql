-- Events are written straight into the tables where these are plain, else by SQL statements. Both
-- give the same result, and what someone has added to a table is heeded.
TRUNCATE meter.meter, meter.meter_event, meter.event_key, meter.rollup_pending, meter.rollup_generation, meter.rollup_state, meter.rollup, meter.rollup_total, meter.rollup_days, meter.rollup_month, meter.rollup_meter, meter.usage_limit, meter.limit_usage, meter.alert_rule, meter.alert, meter.event_void RESTART IDENTITY;
SET TIME ZONE 'UTC';
SELECT count(*) FROM meter.create_meter('tokens', dimensions => '{model,region}') AS t, meter.create_meter('calls', 'count') AS c;
CREATE TEMPORARY TABLE made AS SELECT * FROM meter.create_partitions(0, '2026-01-01') AS p (partition);

CREATE TEMPORARY TABLE answer (form text, ordinal integer, event_id bigint, status text, error text);
-- What a payload leaves behind, without what differs from run to run.
CREATE FUNCTION pg_temp.state(OUT events text, OUT keys text, OUT deltas text, OUT answers text) LANGUAGE sql AS $$
    SELECT (SELECT md5(string_agg(e::text, E'\n' ORDER BY e)) FROM (
                SELECT row(dense_rank() OVER (ORDER BY id), meter_id, "timestamp", user_id, value, idempotency, dimensions, metadata, tableoid::regclass, recorded_at = now()) AS e FROM meter.meter_event) AS s),
           (SELECT md5(string_agg(k::text, E'\n' ORDER BY k)) FROM (
                SELECT row(digest, fingerprint, dense_rank() OVER (ORDER BY event_id), event_timestamp, event_id IN (SELECT id FROM meter.meter_event)) AS k FROM meter.event_key) AS s),
           (SELECT md5(string_agg(d::text, E'\n' ORDER BY d)) FROM (
                SELECT row(first_timestamp, event_count, last_timestamp, meter_id, generation, digest, user_id, value_sum, dimensions, value_min, value_max, last_value, value_time, dirty, fold_error) AS d FROM meter.rollup_pending) AS s),
           (SELECT string_agg(status || ' ' || n, ', ' ORDER BY status) FROM (SELECT status, count(*) AS n FROM pg_temp.answer GROUP BY status) AS s)
$$;
-- Every form and kind of item: new, repeated, in conflict, invalid; with and without key; of months with and without partition.
CREATE FUNCTION pg_temp.record() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    payload jsonb;
BEGIN
    SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('event_name', CASE WHEN i % 50 = 7 THEN 'unknown' WHEN i % 3 = 0 THEN 'calls' ELSE 'tokens' END,
            'user_id', 'user-' || i % 37 || CASE WHEN i % 11 = 0 THEN repeat('x', i % 200) ELSE '' END,
            'value', CASE WHEN i % 60 = 1 THEN '1e31' ELSE (i % 100)::text || '.' || (i % 7) || '0' END,
            'dimensions', CASE WHEN i % 3 > 0 THEN jsonb_build_object('model', 'm' || i % 4, 'region', CASE WHEN i % 5 > 0 THEN i % 5 END) END,
            'idempotency', CASE WHEN i % 4 > 0 THEN 'key-' || i % 900 END,
            'timestamp', to_char(timestamptz '2026-01-15' + (i % 997) * interval '1 hour', 'YYYY-MM-DD"T"HH24:MI:SSZ'),
            'metadata', CASE WHEN i % 13 = 0 THEN jsonb_build_object('n', i, 'wide', (SELECT string_agg(md5(g::text), '') FROM generate_series(i, i + i % 150) AS g)) END)) ORDER BY i)
    INTO payload FROM generate_series(1, 2000) AS i;
    INSERT INTO pg_temp.answer SELECT 'jsonb', r.* FROM meter.record_events(payload) AS r;
    INSERT INTO pg_temp.answer SELECT 'text', r.* FROM meter.ingest((SELECT string_agg((e || '{"user_id": "other"}')::text, E'\n') FROM jsonb_array_elements(payload) AS e)) AS r;
    INSERT INTO pg_temp.answer SELECT 'arrays', r.* FROM (
            SELECT array_agg(e->>'event_name') AS names, array_agg(e->>'user_id' || '!') AS users, array_agg((e->>'value')::numeric) AS vals, array_agg(e->'dimensions') AS dims,
                   array_agg(e->>'idempotency') AS keys, array_agg((e->>'timestamp')::timestamptz) AS times, array_agg(e->'metadata') AS metas
            FROM jsonb_array_elements(payload) AS e) AS a, meter.record_events(names, users, vals, dims, keys, times, metas) AS r;
    INSERT INTO pg_temp.answer SELECT 'single', i, meter.record_event('tokens', 'single-' || i % 7, i, '{"model": "s"}', CASE WHEN i % 3 > 0 THEN 'single-' || i % 19 END, timestamptz '2026-01-31 23:00' + i * interval '1 minute'), 'done', NULL
        FROM generate_series(1, 19) AS i;
    INSERT INTO pg_temp.answer SELECT 'again', i, meter.record_event('tokens', 'single-' || i % 7, i, '{"model": "s"}', 'single-' || i % 19), 'done', NULL
        FROM generate_series(1, 19) AS i WHERE i % 3 > 0;
END
$$;
CREATE TEMPORARY TABLE seen (path text, round integer, LIKE answer, state text[]);
CREATE PROCEDURE pg_temp.try(path text) LANGUAGE plpgsql AS $$
BEGIN
    TRUNCATE meter.meter_event, meter.event_key, meter.rollup_pending, pg_temp.answer;
    FOR round IN 1 .. 2 LOOP
        -- Twice: the second time all keys are there.
        PERFORM pg_temp.record();
        INSERT INTO pg_temp.seen SELECT path, round, a.form, a.ordinal, dense_rank() OVER (ORDER BY a.event_id), a.status, a.error,
            (SELECT ARRAY[s.events, s.keys, s.deltas, s.answers] FROM pg_temp.state() AS s) FROM pg_temp.answer AS a;
    END LOOP;
END
$$;
SELECT pg_catalog.set_config('meter.direct_insert', 'on', false);
CALL pg_temp.try('direct');
SET meter.direct_insert = off;
CALL pg_temp.try('sql');
RESET meter.direct_insert;
SELECT path, round, (SELECT state[4] FROM seen AS l WHERE (l.path, l.round) = (s.path, s.round) LIMIT 1) AS answers, count(*) FROM seen AS s GROUP BY path, round ORDER BY round, path;
SELECT count(*) AS differing FROM (
    (SELECT round, form, ordinal, event_id, status, error, state FROM seen WHERE path = 'direct' EXCEPT ALL SELECT round, form, ordinal, event_id, status, error, state FROM seen WHERE path = 'sql')
    UNION ALL
    (SELECT round, form, ordinal, event_id, status, error, state FROM seen WHERE path = 'sql' EXCEPT ALL SELECT round, form, ordinal, event_id, status, error, state FROM seen WHERE path = 'direct')) AS d;
-- All that is written is found by each index.
SELECT count(*) FROM meter.meter_event;
SET enable_seqscan = off; SET enable_bitmapscan = off;
SELECT count(*) FROM meter.meter_event WHERE user_id > '';
SELECT count(*) FROM meter.meter_event WHERE meter_id > 0;
SELECT count(*) = (SELECT count(*) FROM meter.event_key) AS complete FROM meter.event_key WHERE digest >= '00000000-0000-0000-0000-000000000000';
RESET enable_seqscan; RESET enable_bitmapscan;

-- What someone adds to a table is heeded, by SQL where it takes that: a message says so. Each is tried with a batch and a single event.
CREATE TABLE log (message text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.log VALUES (format('%s %s %s', TG_OP, TG_LEVEL, TG_TABLE_NAME));
    RETURN NULL;
END
$$;
CREATE FUNCTION double() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.value := NEW.value * 2; RETURN NEW; END $$;
CREATE TABLE users (user_id text PRIMARY KEY);
INSERT INTO users VALUES ('u1');
CREATE PROCEDURE pg_temp.try_with(ddl text) LANGUAGE plpgsql AS $$
DECLARE
    call text;
    outcome text;
BEGIN
    TRUNCATE meter.meter_event, meter.event_key, meter.rollup_pending, public.log;
    EXECUTE ddl;
    FOREACH call IN ARRAY ARRAY[
        $q$SELECT status FROM meter.ingest('{"event_name": "tokens", "user_id": "u1", "value": 7, "dimensions": {"model": "a"}, "idempotency": "k", "timestamp": "2026-01-05T00:00:00Z"}')$q$,
        $q$SELECT CASE WHEN meter.record_event('tokens', 'u1', 8, '{"model": "a"}', 'k2', '2026-01-05') > 0 THEN 'recorded' END$q$,
        $q$SELECT CASE WHEN meter.record_event('tokens', 'u2', 9, '{}', NULL, '2026-01-05') > 0 THEN 'recorded' END$q$]
    LOOP
        BEGIN
            SET LOCAL statement_timeout = '20s'; SET LOCAL client_min_messages = debug1;
            EXECUTE call INTO outcome;
            RESET client_min_messages;
            RAISE NOTICE '%', outcome;
        EXCEPTION WHEN OTHERS THEN
            RAISE NOTICE '% %', SQLSTATE, SQLERRM;
        END;
    END LOOP;
    RAISE NOTICE 'events: %, usage: %, keys: %, log: %', (SELECT string_agg(user_id || ' ' || value, ', ' ORDER BY id) FROM meter.meter_event),
        (SELECT value FROM meter.usage('tokens', '2026-01-01', '2026-02-01')), (SELECT count(*) FROM meter.event_key), (SELECT string_agg(message, ', ') FROM public.log);
    ROLLBACK;
END
$$;
\set VERBOSITY terse
CALL pg_temp.try_with('SELECT');
CALL pg_temp.try_with('SET LOCAL meter.direct_insert = off');
CALL pg_temp.try_with('CREATE TRIGGER t BEFORE INSERT ON meter.meter_event FOR EACH ROW EXECUTE FUNCTION double()');
CALL pg_temp.try_with('CREATE TRIGGER t AFTER INSERT ON meter.meter_event_2026_01 FOR EACH ROW EXECUTE FUNCTION note()');
CALL pg_temp.try_with('CREATE TRIGGER t AFTER INSERT ON meter.meter_event FOR EACH STATEMENT EXECUTE FUNCTION note()');
CALL pg_temp.try_with('CREATE TRIGGER t BEFORE TRUNCATE ON meter.meter_event FOR EACH STATEMENT EXECUTE FUNCTION note()');
CALL pg_temp.try_with('CREATE TRIGGER t AFTER INSERT ON meter.event_key FOR EACH ROW EXECUTE FUNCTION note()');
CALL pg_temp.try_with('CREATE TRIGGER t AFTER INSERT ON meter.rollup_pending FOR EACH ROW EXECUTE FUNCTION note()');
CALL pg_temp.try_with($$CREATE RULE r AS ON INSERT TO meter.meter_event DO ALSO INSERT INTO public.log VALUES ('rule')$$);
CALL pg_temp.try_with('ALTER TABLE meter.meter_event_2026_01 ADD FOREIGN KEY (user_id) REFERENCES public.users');
CALL pg_temp.try_with('ALTER TABLE meter.meter_event ADD CHECK (value < 9)');
CALL pg_temp.try_with('ALTER TABLE meter.meter_event_2026_01 ADD CHECK (value < 9)');
CALL pg_temp.try_with('ALTER TABLE meter.meter_event ALTER idempotency SET NOT NULL');
CALL pg_temp.try_with('ALTER TABLE meter.meter_event ALTER value TYPE numeric(1,0)');
CALL pg_temp.try_with($$ALTER TABLE meter.meter_event ADD COLUMN extra text DEFAULT 'x'$$);
CALL pg_temp.try_with('ALTER TABLE meter.meter_event ADD COLUMN doubled numeric GENERATED ALWAYS AS (value * 2) STORED');
CALL pg_temp.try_with('ALTER TABLE meter.meter_event ALTER user_id TYPE varchar');
CALL pg_temp.try_with('CREATE UNIQUE INDEX ON meter.meter_event_2026_01 (user_id)');
CALL pg_temp.try_with('CREATE UNIQUE INDEX ON meter.event_key (event_timestamp)');
CALL pg_temp.try_with('CREATE INDEX ON meter.meter_event_2026_01 ((value / (9 - value)))');
CALL pg_temp.try_with('CREATE INDEX ON meter.meter_event (user_id) WHERE 1 / (9 - value) > 0');
CALL pg_temp.try_with('ALTER TABLE meter.meter_event_2026_01 ADD EXCLUDE USING btree (user_id WITH =)');
CALL pg_temp.try_with('ALTER TABLE meter.meter_event ENABLE ROW LEVEL SECURITY; ALTER TABLE meter.meter_event FORCE ROW LEVEL SECURITY');
CALL pg_temp.try_with('ALTER TABLE meter.meter_event DETACH PARTITION meter.meter_event_2026_01');
CALL pg_temp.try_with('DROP TABLE meter.meter_event_2026_01; CREATE TABLE sub PARTITION OF meter.meter_event FOR VALUES FROM (''2026-01-01'') TO (''2026-02-01'') PARTITION BY LIST (user_id); CREATE TABLE sub1 PARTITION OF sub FOR VALUES IN (''u1'')');
CALL pg_temp.try_with('CREATE INDEX ON meter.meter_event USING brin ("timestamp"); CREATE INDEX ON meter.meter_event_2026_01 USING gin (dimensions); CREATE INDEX ON meter.meter_event_2026_01 USING hash (user_id); CREATE INDEX ON meter.event_key (event_timestamp) INCLUDE (event_id)');
CALL pg_temp.try_with('SELECT');
-- Indexes of other kinds on plain columns are kept up.
BEGIN;
TRUNCATE meter.meter_event, meter.event_key, meter.rollup_pending;
CREATE INDEX by_dimensions ON meter.meter_event USING gin (dimensions);
CREATE INDEX by_time ON meter.meter_event USING brin ("timestamp") WITH (pages_per_range = 1);
CREATE INDEX by_key ON meter.meter_event USING hash (idempotency);
CREATE INDEX by_wide ON meter.meter_event (value DESC, user_id) INCLUDE (id);
SELECT pg_temp.record();
SET enable_seqscan = off;
SELECT count(*) FROM meter.meter_event WHERE dimensions @> '{"model": "m1"}';
SELECT count(*) FROM meter.meter_event WHERE "timestamp" >= '2026-01-20' AND "timestamp" < '2026-01-21';
SELECT count(*) FROM meter.meter_event WHERE idempotency = 'key-9';
SET enable_bitmapscan = off;
SELECT count(*), sum(value) FROM meter.meter_event WHERE value > 98;
SET enable_seqscan = on; SET enable_indexscan = off; SET enable_indexonlyscan = off;
SELECT count(*) FILTER (WHERE dimensions @> '{"model": "m1"}'), count(*) FILTER (WHERE "timestamp" >= '2026-01-20' AND "timestamp" < '2026-01-21'),
       count(*) FILTER (WHERE idempotency = 'key-9'), count(*) FILTER (WHERE value > 98), sum(value) FILTER (WHERE value > 98) FROM meter.meter_event;
ROLLBACK;

-- A few keys that are there already, among many new ones: written first, found out by the index, and taken back.
TRUNCATE meter.meter_event, meter.event_key, meter.rollup_pending;
SELECT status, count(*) FROM meter.record_events(array_fill('calls'::text, ARRAY[3]), array_fill('few'::text, ARRAY[3]), '{1,2,3}', NULL, '{k5000,k5001,k5002}', NULL) GROUP BY status;
SELECT status, count(*), string_agg(error, '; ' ORDER BY ordinal) FROM meter.record_events(array_fill('calls'::text, ARRAY[10000]), array_fill('few'::text, ARRAY[10000]), array_fill(2::numeric, ARRAY[10000]), NULL,
    (SELECT array_agg('k' || i) FROM generate_series(1, 10000) AS i), NULL) GROUP BY status ORDER BY status;
SELECT count(*) AS keys, count(DISTINCT digest) AS digests, count(DISTINCT event_id) AS events, (SELECT count(*) FROM meter.meter_event) AS stored FROM meter.event_key;
SELECT status, count(*) FROM meter.record_events(array_fill('calls'::text, ARRAY[10000]), array_fill('few'::text, ARRAY[10000]), array_fill(2::numeric, ARRAY[10000]), NULL,
    (SELECT array_agg('k' || i) FROM generate_series(1, 10000) AS i), NULL) GROUP BY status ORDER BY status;

-- What one statement records the next one sees, and the same one too where it calls twice; a savepoint takes it back.
BEGIN;
TRUNCATE meter.meter_event, meter.event_key, meter.rollup_pending;
SELECT meter.record_event('calls', 'seen', 1, '{}', 'once') = meter.record_event('calls', 'seen', 1, '{}', 'once') AS same;
SAVEPOINT s;
SELECT status FROM meter.ingest('{"event_name": "calls", "user_id": "seen", "idempotency": "twice"}');
SELECT status FROM meter.ingest('{"event_name": "calls", "user_id": "seen", "idempotency": "twice"}');
ROLLBACK TO s;
SELECT status FROM meter.ingest('{"event_name": "calls", "user_id": "seen", "idempotency": "twice"}');
SELECT value, event_count FROM meter.usage('calls', now() - interval '1 day', now() + interval '1 day');
ROLLBACK;
TRUNCATE meter.meter_event, meter.event_key, meter.rollup_pending;

-- A trigger of one partition alone changes what is stored, and usage with it; so does a rule.
CREATE FUNCTION public.ten_times() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.user_id = 'dropped' THEN RETURN NULL; END IF;
    NEW.value := NEW.value * 10;
    RETURN NEW;
END $$;
CREATE TRIGGER ten_times BEFORE INSERT ON meter.meter_event_default FOR EACH ROW EXECUTE FUNCTION public.ten_times();
SELECT meter.record_event('calls', 'changed', 7, event_time => '2020-01-05') > 0 AS recorded;
SELECT meter.record_event('calls', 'dropped', 7, event_time => '2020-01-05') > 0 AS recorded;
SELECT status FROM meter.record_events(ARRAY['calls', 'calls'], ARRAY['changed', 'dropped'], '{1,2}', NULL, NULL, ARRAY['2020-01-05', '2020-01-05']::timestamptz[]);
SELECT user_id, value, (SELECT sum(e.value) FROM meter.meter_event e WHERE e.user_id = u.user_id) AS stored
FROM meter.usage('calls', '2020-01-01', '2020-02-01', group_by => '{user_id}', aggregation => 'sum') u ORDER BY 1;
DROP TRIGGER ten_times ON meter.meter_event_default;
DROP FUNCTION public.ten_times();
TRUNCATE meter.meter_event, meter.event_key, meter.rollup_pending;
DO $$
DECLARE
    name regclass;
BEGIN
    FOR name IN SELECT partition FROM pg_temp.made LOOP
        EXECUTE 'DROP TABLE ' || name;
    END LOOP;
END
$$;
DROP TABLE log, users;
DROP FUNCTION note(), double();
