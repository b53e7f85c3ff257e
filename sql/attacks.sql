-- What a role that is bound to one org finds out about another, or does to it: nothing. Every function
-- that it may call is called many times, with what it may guess of the other org; once while that org
-- is there, once when it never was, and once among temporary objects that shadow what we use. What it
-- is told has to be the same each time, errors with all their parts and EXPLAIN included.
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
TRUNCATE meter.meter, meter.meter_event, meter.event_key, meter.rollup_pending, meter.rollup_generation, meter.rollup_state, meter.rollup, meter.rollup_total, meter.rollup_days, meter.rollup_month, meter.rollup_meter, meter.usage_limit, meter.limit_usage, meter.alert_rule, meter.alert, meter.event_void, meter.retention RESTART IDENTITY;
CREATE ROLE attacks_admin;
CREATE ROLE attacks_nobody;
SELECT meter.grant_access('attacks_admin', 'admin', 'attacker');
SELECT count(*) > 0 FROM meter.create_partitions(1, '2026-01-15');

-- The attacker's own: one meter of a name that the other org has too.
SET meter.org = 'attacker';
SELECT id AS mine FROM meter.create_meter('tokens', dimensions => '{model}') \gset
SELECT FROM meter.create_meter('calls', 'count');
SELECT count(*) FROM meter.record_events((SELECT jsonb_agg(jsonb_build_object('event_name', 'tokens', 'user_id', 'ann', 'value', i, 'dimensions', jsonb_build_object('model', 'm' || i % 3),
    'idempotency', 'key-' || i, 'timestamp', '2026-01-15T00:00:00Z'::timestamptz + i * interval '1 hour')) FROM generate_series(1, 60) AS i)) WHERE status = 'recorded';
SELECT meter.fold();
SELECT count(*) FROM meter.record_events('[{"event_name": "tokens", "user_id": "bob", "value": 5, "timestamp": "2026-01-16T00:00:00Z", "idempotency": "pending"}]') WHERE status = 'recorded';
RESET meter.org;

-- The other org, with events in cells, in deltas, and in one that was set aside.
CREATE PROCEDURE attacks_make_victim() LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('meter.org', 'victim', true);
    PERFORM meter.create_meter(n, dimensions => '{model}', metadata => '{"secret": 1}') FROM unnest('{tokens,victim}'::text[]) AS n;
    PERFORM meter.record_events((SELECT jsonb_agg(jsonb_build_object('event_name', n, 'user_id', u, 'value', 424242.5, 'dimensions', '{"model": "secret"}'::jsonb,
        'idempotency', 'key-' || i, 'metadata', '{"secret": 1}'::jsonb, 'timestamp', '2026-01-15T00:00:00Z'::timestamptz + i * interval '1 hour'))
        FROM generate_series(1, 200) AS i, unnest('{tokens,victim}'::text[]) AS n, unnest('{ann,zoe}'::text[]) AS u));
    PERFORM meter.fold();
    PERFORM meter.record_event('victim', 'zoe', 424242.5, '{"model": "secret"}', 'late', '2026-01-17');
    UPDATE meter.rollup_pending SET generation = -1, fold_error = 'secret' WHERE user_id = 'zoe';
    PERFORM meter.record_event('tokens', 'zoe', 424242.5, '{"model": "secret"}', 'later', '2026-01-17');
END $$;
CALL attacks_make_victim();
CREATE TABLE attacks_state AS SELECT id AS victim, (SELECT min(e.id) FROM meter.meter_event e WHERE meter_id = m.id) AS event FROM meter.meter m WHERE org = 'victim' AND event_name = 'victim';

-- All that belongs to other orgs, in one value.
CREATE FUNCTION attacks_others() RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
SELECT concat_ws(' ', (SELECT md5(string_agg(m::text, ',' ORDER BY id)) FROM meter.meter m WHERE org <> 'attacker'),
    (SELECT md5(string_agg(e::text, ',' ORDER BY e.id)) FROM meter.meter_event e JOIN meter.meter m ON m.id = e.meter_id WHERE org <> 'attacker'),
    (SELECT count(*) FROM meter.event_key k JOIN meter.meter_event e ON e.id = k.event_id JOIN meter.meter m ON m.id = e.meter_id WHERE org <> 'attacker'),
    (SELECT md5(string_agg(r::text, ',' ORDER BY r::text)) FROM meter.rollup r JOIN meter.meter m ON m.id = r.meter_id WHERE org <> 'attacker'),
    (SELECT md5(string_agg(r::text, ',' ORDER BY r::text)) FROM meter.rollup_pending r JOIN meter.meter m ON m.id = r.meter_id WHERE org <> 'attacker'),
    (SELECT md5(string_agg(r::text, ',' ORDER BY r::text)) FROM meter.rollup_meter r JOIN meter.meter m ON m.id = r.meter_id WHERE org <> 'attacker'),
    (SELECT md5(string_agg(a::text, ',' ORDER BY a::text)) FROM meter.access a))
$$;

-- What a role is told by a statement, all that there is of an error too; whether the other org's rows
-- are as before; and which locks that could stop others it holds until its transaction ends. What it
-- did is undone. Names are qualified, since the role's search path is in force.
CREATE FUNCTION attacks_ask(who name, path text, statement text, OUT answer text, OUT touched boolean, OUT locks text) LANGUAGE plpgsql AS $$
DECLARE
    line record;
    part1 pg_catalog.text;
    part2 pg_catalog.text;
BEGIN
    answer := '';
    PERFORM pg_catalog.set_config('search_path', path, true), pg_catalog.set_config('role', who, true);
    IF statement OPERATOR(pg_catalog.~) '^INSERT' THEN
        EXECUTE statement;
    ELSE
        FOR line IN EXECUTE statement LOOP
            answer := answer OPERATOR(pg_catalog.||) line::pg_catalog.text OPERATOR(pg_catalog.||) E'\n';
        END LOOP;
    END IF;
    PERFORM pg_catalog.set_config('role', 'none', true), pg_catalog.set_config('search_path', 'pg_catalog', true);
    touched := public.attacks_others() <> current_setting('attacks.others');
    SELECT string_agg(DISTINCT concat_ws(' ', locktype, COALESCE(relation::regclass::text, classid::regclass::text), mode), ', ') INTO locks FROM pg_locks
    WHERE pid = pg_backend_pid() AND locktype IN ('relation', 'object', 'advisory', 'page', 'tuple')
      AND mode IN ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
      AND COALESCE(classid NOT IN ('meter.meter'::regclass, 'meter.period_close'::regclass), true);
    RAISE EXCEPTION 'undo' USING ERRCODE = 'ZZZZZ';
EXCEPTION
    WHEN SQLSTATE 'ZZZZZ' THEN
        NULL;
    WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS part1 = PG_EXCEPTION_DETAIL, part2 = PG_EXCEPTION_HINT;
        answer := concat_ws(' | ', SQLSTATE, SQLERRM, part1, part2);
END $$;

-- What it may guess, for an argument of a name and a type, or else of a type alone.
CREATE TABLE attacks_guess (argument name, type regtype, value text);
INSERT INTO attacks_guess SELECT argument, type::regtype, value FROM attacks_state, LATERAL (VALUES
    ('event_name', 'text', 'tokens'), ('event_name', 'text', 'tokens'), ('event_name', 'text', 'victim'),
    ('user_id', 'text', 'ann'), ('user_id', 'text', 'zoe'), ('user_id', 'text', NULL),
    ('idempotency', 'text', 'key-1'), ('idempotency', 'text', 'late'), ('bucket', 'text', 'day'), ('bucket', 'text', 'month'), ('bucket', 'text', NULL),
    ('time_zone', 'text', NULL), ('time_zone', 'text', 'Asia/Kolkata'), ('aggregation', 'text', NULL), ('aggregation', 'text', 'last'),
    ('period_start', 'timestamptz', '2026-01-01'), ('period_start', 'timestamptz', '2026-01-15 07:30'), ('period_end', 'timestamptz', '2026-02-01'), ('period_end', 'timestamptz', '2026-01-17 01:01'),
    ('event_time', 'timestamptz', '2026-01-15 01:00'), ('filter', 'jsonb', '{}'), ('filter', 'jsonb', '{"model": ["m1", "secret"]}'), ('filter', 'jsonb', NULL),
    ('dimensions', 'jsonb', '{"model": "secret"}'), ('dimensions', 'jsonb', '{"model": "m1"}'), ('dimensions', 'jsonb', '{"secret": "m1"}'),
    ('metadata', 'jsonb', '{}'), ('group_by', 'text[]', '{model,user_id}'), ('group_by', 'text[]', NULL), ('group_by', 'text[]', '{secret}'),
    ('event_names', 'text[]', '{tokens,victim}'), ('event_names', 'text[]', '{tokens,tokens}'), ('user_ids', 'text[]', '{ann,zoe}'), ('user_ids', 'text[]', '{zoe,ann}'),
    ('dimensions', 'text[]', '{model}'), ('dimensions', 'text[]', NULL), ('idempotency', 'text[]', '{key-1,late}'), ('idempotency', 'text[]', '{key-2,key-3}'),
    ('event_times', 'timestamptz[]', '{2026-01-15,2026-01-16}'), ('dimension', 'text', 'model'), ('dimension', 'text', 'secret'),
    ('max_rows', 'int', '3'), ('max_rows', 'int', '1000'), ('after_id', 'bigint', event::text), ('after_id', 'bigint', NULL), ('after_time', 'timestamptz', '2026-01-16'), ('after_time', 'timestamptz', NULL),
    ('events', 'jsonb', format('[{"meter_id": %s, "user_id": "zoe", "idempotency": "late"}, {"event_name": "victim", "user_id": "zoe"}]', victim)),
    ('events', 'jsonb', format('[{"event_name": "tokens", "user_id": "zoe", "idempotency": "later", "timestamp": "2026-01-17T00:00:00Z"}, {"meter_id": %s, "user_id": "zoe"}]', victim)),
    ('events', 'jsonb', '[{"event_name": "tokens", "user_id": "ann", "idempotency": "key-1", "value": 424242.5, "dimensions": {"model": "secret"}}, {"event_name": "tokens", "user_id": "ann", "timestamp": "2026-01-17T00:00:00Z"}]'),
    ('payload', 'text', format('{"meter_id": %s, "user_id": "zoe", "idempotency": "late"}', victim)),
    ('payload', 'text', '{"event_name": "tokens", "user_id": "ann", "idempotency": "key-1", "value": 424242.5, "dimensions": {"model": "secret"}}'),
    ('payload', 'text', '{"event_name": "tokens", "user_id": "zoe", "timestamp": "2026-01-17T00:00:00Z"}'),
    (NULL, 'text', 'victim'), (NULL, 'text', 'sum'), (NULL, 'text', NULL), (NULL, 'bigint', event::text), (NULL, 'int', victim::text), (NULL, 'numeric', '424242.5'), (NULL, 'numeric', '1'),
    (NULL, 'boolean', 'true'), (NULL, 'boolean', 'false'), (NULL, 'timestamptz', '2026-01-16'), (NULL, 'jsonb', '{}'), (NULL, 'numeric[]', '{1,2}'), (NULL, 'numeric[]', '{424242.5,1}')) AS g (argument, type, value);

-- The calls: of every function and procedure of ours that the role may call and SQL can, drawn from the
-- guesses; some to be explained; then what goes by way of the views, and what it may read.
SELECT setseed(0.25);
CREATE TABLE attacks_call AS
SELECT row_number() OVER (ORDER BY p.proname, p.oid, n) AS n, p.proname AS function,
    CASE WHEN n % 8 = 0 THEN 'EXPLAIN (VERBOSE) ' ELSE '' END || CASE WHEN p.prokind = 'p' THEN 'CALL ' ELSE 'SELECT * FROM ' END || p.oid::regproc || '(' || (
    SELECT COALESCE(string_agg(COALESCE(quote_literal(g.value), 'NULL') || '::' || format_type(a.type, NULL), ', ' ORDER BY a.i), '')
    FROM unnest(p.proargtypes, p.proargnames[1:p.pronargs]) WITH ORDINALITY AS a (type, name, i), LATERAL (
        SELECT value FROM (SELECT value, argument FROM attacks_guess WHERE attacks_guess.type = a.type AND (argument = a.name OR argument IS NULL)
            UNION ALL SELECT NULL, NULL) AS g ORDER BY argument IS NULL, CASE WHEN n + i > 0 THEN random() END LIMIT 1) AS g) || ')' AS call
FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e' JOIN pg_extension x ON x.oid = d.refobjid AND x.extname = 'meter',
    generate_series(1, 24) AS n
WHERE has_function_privilege('attacks_admin', p.oid, 'EXECUTE') AND p.prokind <> 'a'
  AND NOT (2281 = ANY (p.proargtypes) OR 2275 = ANY (p.proargtypes)) AND p.proname !~ '^(aggregate_state|groups|first|last|.*_by)_';
INSERT INTO attacks_call SELECT 10000 + row_number() OVER (), 'other', replace(call, '$VICTIM', victim::text) FROM attacks_state, unnest(ARRAY[
    'SELECT * FROM meter.status', 'EXPLAIN SELECT * FROM meter.status WHERE event_name = ''victim''', 'SELECT * FROM meter.system_status',
    'INSERT INTO meter.event_load (event_name, user_id, idempotency, value) VALUES (''tokens'', ''ann'', ''key-1'', 424242.5)',
    'INSERT INTO meter.event_load (event_name, user_id, idempotency) VALUES (''victim'', ''zoe'', ''late'')',
    'INSERT INTO meter.event_load (event_name, user_id, idempotency) VALUES (''tokens'', ''zoe'', ''later'')',
    'INSERT INTO meter.event_load_json VALUES (''{"meter_id": $VICTIM, "user_id": "zoe", "idempotency": "late"}'')',
    'SELECT count(*), bool_or(schemaname = ''meter'') FROM pg_catalog.pg_stats WHERE schemaname = ''meter''',
    'SELECT count(*) FROM pg_catalog.pg_stats_ext', 'SELECT count(last_value) FROM pg_catalog.pg_sequences WHERE schemaname = ''meter''',
    'EXPLAIN SELECT * FROM meter.meter_event', 'EXPLAIN SELECT * FROM meter.event_key WHERE digest = ''00000000-0000-0000-0000-000000000000''',
    'EXPLAIN SELECT FROM meter.rollup_pending WHERE user_id = ''zoe''']) AS call;

CREATE TABLE attacks_answer (round int, n int, answer text, touched boolean, locks text);
CREATE PROCEDURE attacks_round(number int, path text) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('attacks.others', attacks_others(), true);
    PERFORM setval('meter.meter_id_seq', 1000), setval('meter.meter_event_id_seq', 100000), setval('meter.alert_rule_id_seq', 1000), setval('meter.usage_limit_id_seq', 1000);
    -- What a clock says is not the same each time; nor are ids, since a retry may take one or not.
    INSERT INTO public.attacks_answer SELECT number, n, regexp_replace(regexp_replace(a.answer, '(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d\.\d+(\+00)?', 'T', 'g'), '\m100\d\d\d\M', 'ID', 'g'), touched, locks
        FROM public.attacks_call, LATERAL (SELECT * FROM public.attacks_ask('attacks_admin', path, call) OFFSET 0) AS a;
END $$;
CALL attacks_round(1, 'public, pg_catalog');
DELETE FROM meter.event_key k USING meter.meter_event e, meter.meter m WHERE e.id = k.event_id AND m.id = e.meter_id AND org = 'victim';
DELETE FROM meter.meter_event e USING meter.meter m WHERE m.id = e.meter_id AND org = 'victim';
DO $$
DECLARE
    name regclass;
BEGIN
    FOREACH name IN ARRAY '{meter.rollup_pending,meter.rollup,meter.rollup_total,meter.rollup_days,meter.rollup_month,meter.rollup_meter}'::regclass[] LOOP
        EXECUTE format('DELETE FROM %s r USING meter.meter m WHERE m.id = r.meter_id AND org = ''victim''', name);
    END LOOP;
END $$;
DELETE FROM meter.meter WHERE org = 'victim';
CALL attacks_round(2, 'public, pg_catalog');

-- Among temporary types that are named as ours are and tell who looks at them, and temporary tables
-- with the names and columns of the catalog's, in a session that has prepared nothing.
\c -
SET client_min_messages = error;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
-- Sequences, since what is done to them is not undone.
CREATE SEQUENCE attacks_trap;
CREATE SEQUENCE attacks_trapped_owner;
GRANT USAGE ON SEQUENCE attacks_trap, attacks_trapped_owner TO PUBLIC;
SET ROLE attacks_admin;
CREATE FUNCTION pg_temp.trap(what pg_catalog.text) RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM nextval(CASE WHEN current_user = 'attacks_admin' THEN 'public.attacks_trap' ELSE 'public.attacks_trapped_owner' END);
    RETURN true;
END $$;
DO $$
DECLARE
    name pg_catalog.text;
BEGIN
    FOR name IN SELECT c.relname FROM pg_catalog.pg_class c WHERE c.relnamespace = 'pg_catalog'::pg_catalog.regnamespace AND c.relkind IN ('r', 'v')
            AND has_table_privilege(c.oid, 'SELECT') UNION ALL SELECT unnest('{meter,meter_event,event_key,access,rollup,rollup_pending,rollup_state,rollup_meter,retention}'::pg_catalog.text[]) LOOP
        BEGIN
            EXECUTE CASE WHEN name LIKE 'pg\_%' THEN pg_catalog.format('CREATE TEMP TABLE %I (LIKE pg_catalog.%1$I)', name) ELSE pg_catalog.format('CREATE TEMP TABLE %I ()', name) END;
        EXCEPTION WHEN OTHERS THEN
            -- A column of a pseudo-type, or with the name of a system column.
            EXECUTE pg_catalog.format('CREATE TEMP TABLE %I ()', name);
        END;
    END LOOP;
    FOREACH name IN ARRAY '{text,jsonb,uuid,timestamptz,regclass,oid,name,interval,numeric,bool,int2,int4,int8,bytea,float8,regtype,tid,regprocedure,regrole,text[]}'::pg_catalog.text[] LOOP
        IF name <> 'text[]' THEN
            EXECUTE pg_catalog.format('CREATE DOMAIN pg_temp.%I AS pg_catalog.%1$I CHECK (pg_temp.trap(VALUE::pg_catalog.text))', name);
        END IF;
    END LOOP;
END $$;
SET search_path = pg_temp, public, pg_catalog;
-- The traps work.
SELECT 'x'::text, count(*) AS classes FROM pg_class;
RESET search_path;
RESET ROLE;
SELECT t.is_called AS caller, o.is_called AS owner FROM attacks_trap t, attacks_trapped_owner o;
CALL attacks_round(3, 'pg_temp, public, pg_catalog');
SELECT t.last_value > 100 AS caller, o.is_called AS owner FROM attacks_trap t, attacks_trapped_owner o;

\c -
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET client_min_messages = warning;
-- Many calls were made, and enough of them with success.
SELECT function, count(*) >= 24 AS many, count(*) FILTER (WHERE answer !~ '^[0-9A-Z]{5} \|') > 0 AS some_work
FROM attacks_call JOIN attacks_answer USING (n) WHERE round = 1 AND function <> 'other' GROUP BY 1 ORDER BY 1;
-- The same answers whether or not the other org is there, and among traps.
SELECT call, a.answer AS there, b.answer AS not_there FROM attacks_call JOIN attacks_answer a USING (n) JOIN attacks_answer b USING (n)
WHERE a.round = 1 AND b.round = 2 AND a.answer <> b.answer ORDER BY n LIMIT 5;
SELECT call, a.answer AS plain, b.answer AS trapped FROM attacks_call JOIN attacks_answer a USING (n) JOIN attacks_answer b USING (n)
WHERE a.round = 2 AND b.round = 3 AND a.answer <> b.answer AND call NOT LIKE 'EXPLAIN%' ORDER BY n LIMIT 5;
-- Nothing that only the other org knows; nothing of the other org changed; no lock was left held that
-- would make others wait for the end of the transaction.
SELECT round, call, answer FROM attacks_call JOIN attacks_answer USING (n) WHERE round = 1 AND call NOT LIKE '%secret%' AND call NOT LIKE '%424242%' AND answer ~ 'secret|424242' ORDER BY n LIMIT 5;
SELECT round, call FROM attacks_call JOIN attacks_answer USING (n) WHERE touched ORDER BY round, n LIMIT 5;
SELECT DISTINCT function, locks FROM attacks_call JOIN attacks_answer USING (n) WHERE locks IS NOT NULL ORDER BY 1, 2;
-- The others answer as they did when this was written.
SELECT call, answer FROM attacks_call JOIN attacks_answer USING (n) WHERE round = 1 AND function = 'other' AND call NOT LIKE '%FROM meter.status%' ORDER BY n;

-- The tables themselves, by every kind of statement.
CREATE FUNCTION attacks_outcome(who name, statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('role', who, true);
    EXECUTE statement;
    RAISE EXCEPTION 'undo' USING ERRCODE = 'ZZZZZ';
EXCEPTION
    WHEN SQLSTATE 'ZZZZZ' THEN RETURN 'allowed';
    WHEN insufficient_privilege THEN RETURN 'refused';
    WHEN OTHERS THEN RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
GRANT CREATE ON SCHEMA public TO attacks_admin, attacks_nobody;
CREATE FUNCTION attacks_leak(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$ BEGIN IF $1 NOT IN ('calls', 'tokens', 'row of ann', 'row of bob') THEN RAISE WARNING 'leaked %', $1; END IF; RETURN true; END $$;
SELECT outcome, statement, string_agg(DISTINCT relation::text, ' ' ORDER BY relation::text) AS relations, string_agg(DISTINCT role::text, ' ') AS roles FROM (
    SELECT c.oid::regclass AS relation, statement, role, attacks_outcome(role, replace(statement, '$R', c.oid::regclass::text)) AS outcome
    FROM pg_class c, unnest('{attacks_admin,attacks_nobody}'::name[]) AS role, unnest(ARRAY['SELECT * FROM $R', 'SELECT 1 FROM $R', 'INSERT INTO $R DEFAULT VALUES', 'DELETE FROM $R', 'TRUNCATE $R',
        'LOCK $R IN ROW EXCLUSIVE MODE', 'LOCK $R IN SHARE MODE', 'LOCK $R IN ACCESS EXCLUSIVE MODE', 'EXPLAIN SELECT * FROM $R', 'CREATE TABLE attacks_like (LIKE $R)',
        'CREATE TABLE attacks_child () INHERITS ($R)', 'CREATE VIEW attacks_view AS SELECT count(*) FROM $R', 'CREATE TRIGGER attacks BEFORE INSERT ON $R FOR EACH STATEMENT EXECUTE FUNCTION pg_catalog.suppress_redundant_updates_trigger()',
        'CREATE RULE attacks AS ON INSERT TO $R DO ALSO SELECT 1', 'ALTER TABLE $R OWNER TO attacks_admin', 'ALTER TABLE $R ENABLE ROW LEVEL SECURITY', 'COMMENT ON TABLE $R IS NULL', 'DROP TABLE $R', 'GRANT SELECT ON $R TO PUBLIC']) AS statement
    WHERE c.relnamespace = 'meter'::regnamespace AND c.relkind IN ('r', 'p', 'v')) AS o
WHERE outcome = 'allowed' AND statement !~ '^CREATE VIEW' AND statement !~ '^GRANT' GROUP BY 1, 2 ORDER BY 1, 2;
-- A view can be made over anything; what it shows is what its owner may see. A grant of what one has not is a warning.
SELECT attacks_outcome('attacks_admin', 'DO $x$ BEGIN CREATE VIEW public.attacks_view AS SELECT * FROM meter.meter_event; PERFORM * FROM public.attacks_view; END $x$');
SELECT grantee::regrole, privilege_type FROM pg_class c, aclexplode(relacl) WHERE relnamespace = 'meter'::regnamespace AND grantee = 0;
-- Sequences, the schema, functions.
SELECT DISTINCT attacks_outcome(role, replace(statement, '$S', c.oid::regclass::text)) FROM pg_class c, unnest('{attacks_admin,attacks_nobody}'::name[]) AS role,
    unnest(ARRAY['SELECT nextval(''$S'')', 'SELECT setval(''$S'', 1)', 'SELECT last_value FROM $S', 'ALTER SEQUENCE $S RESTART']) AS statement WHERE c.relnamespace = 'meter'::regnamespace AND c.relkind = 'S';
SELECT statement, attacks_outcome('attacks_admin', statement) FROM unnest(ARRAY['CREATE FUNCTION meter.usage(text, text, text) RETURNS text LANGUAGE sql AS ''SELECT 1::text''', 'CREATE TABLE meter.t ()', 'CREATE OPERATOR meter.+ (LEFTARG = text, RIGHTARG = text, FUNCTION = textcat)',
    'CREATE TYPE meter.t AS (a int)', 'CREATE OR REPLACE FUNCTION meter.fold(boolean) RETURNS bigint LANGUAGE sql AS ''SELECT 1::bigint''', 'ALTER EXTENSION meter UPDATE', 'ALTER EXTENSION meter ADD TABLE public.attacks_call', 'DROP EXTENSION meter', 'DROP SCHEMA meter CASCADE', 'ALTER FUNCTION meter.fold(boolean) SET search_path = public',
    'CREATE FUNCTION public.attacks_c() RETURNS bigint LANGUAGE c AS ''meter'', ''meter_fold''', 'CREATE CAST (text AS bigint) WITH INOUT', 'CREATE EVENT TRIGGER t ON ddl_command_end EXECUTE FUNCTION pg_catalog.suppress_redundant_updates_trigger()',
    'CREATE PUBLICATION p FOR TABLE meter.meter_event', 'CREATE STATISTICS public.s ON user_id, meter_id FROM meter.meter_event', 'CREATE INDEX ON meter.meter_event (user_id)', 'SET session_replication_role = replica', 'SET meter.max_event_lead = 1000000',
    'SET meter.max_payload_size = ''1GB''', 'SET meter.fold_batch = 1', 'LOAD ''auto_explain''', 'SET allow_system_table_mods = on']) AS statement;
-- A cheap function that tells what it is given sees the attacker's own rows alone.
CALL attacks_make_victim();
SET ROLE attacks_admin;
SELECT event_name FROM meter.status WHERE attacks_leak(event_name) ORDER BY 1;
SELECT count(*) FROM meter.list_events('tokens') WHERE attacks_leak('row of ' || user_id) AND user_id = 'bob';
RESET ROLE;

-- Nothing of ours runs with the rights of its owner but C functions that ask who calls, and those that
-- are not C pin their search path; nothing is to be replaced by whoever was there first.
SELECT p.oid::regprocedure, p.prosecdef, l.lanname, p.proconfig FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
WHERE p.pronamespace = 'meter'::regnamespace AND (p.prosecdef OR l.lanname <> 'c' AND p.prokind <> 'a') ORDER BY 1;

DROP FUNCTION attacks_leak(text), attacks_outcome(name, text), attacks_ask(name, text, text), attacks_others();
DROP PROCEDURE attacks_make_victim(), attacks_round(int, text);
DROP SEQUENCE attacks_trap, attacks_trapped_owner;
DROP TABLE attacks_state, attacks_guess, attacks_call, attacks_answer;
SELECT meter.revoke_access('attacks_admin');
DROP OWNED BY attacks_admin, attacks_nobody;
DROP ROLE attacks_admin, attacks_nobody;
TRUNCATE meter.meter, meter.meter_event, meter.event_key, meter.rollup_pending, meter.rollup_generation, meter.rollup_state, meter.rollup, meter.rollup_total, meter.rollup_days, meter.rollup_month, meter.rollup_meter, meter.usage_limit, meter.limit_usage, meter.alert_rule, meter.alert, meter.event_void RESTART IDENTITY;
