-- Who may do what: every function, table and sequence of the extension, for every kind of role.
SET client_min_messages = warning;
SET timezone = 'UTC';
SET meter.org = 'access_a';
SELECT id > 0 AS created FROM meter.create_meter('tokens');
SET meter.org = 'access_b';
SELECT id > 0 AS created FROM meter.create_meter('tokens');
SELECT id > 0 AS created FROM meter.create_meter('secret');
RESET meter.org;

-- Three roles bound to an org, three that are not, one with nothing, one to whom somebody granted
-- all functions by hand, and one that belongs to the extension's owner.
CREATE ROLE access_reader;
CREATE ROLE access_writer;
CREATE ROLE access_admin;
CREATE ROLE access_any_reader;
CREATE ROLE access_any_writer;
CREATE ROLE access_any_admin;
CREATE ROLE access_nobody;
CREATE ROLE access_by_hand;
CREATE ROLE access_member;
SELECT meter.grant_access('access_reader', 'reader', 'access_a');
SELECT meter.grant_access('access_writer', 'writer', 'access_a');
SELECT meter.grant_access('access_admin', 'admin', 'access_a');
SELECT meter.grant_access('access_any_reader', 'reader');
SELECT meter.grant_access('access_any_writer', 'writer');
SELECT meter.grant_access('access_any_admin', 'admin');
GRANT USAGE ON SCHEMA meter TO access_by_hand;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA meter TO access_by_hand;
DO $$ BEGIN
    EXECUTE format('GRANT %s TO access_member',
                   (SELECT relowner::regrole FROM pg_class WHERE oid = 'meter.meter'::regclass));
END $$;

-- The rule for each function by its name. Public: whoever may use the schema. A function that has no
-- rule here fails the test.
CREATE TABLE access_rule (function name PRIMARY KEY, public boolean, reader boolean, writer boolean, admin boolean, unbound boolean);
INSERT INTO access_rule (function, public, reader, writer, admin, unbound)
SELECT function, rule = 'public', rule ~ 'reader|public', rule ~ 'writer|public', rule ~ 'admin|public', rule ~ 'unbound'
FROM (VALUES
    ('list_meters', 'reader writer admin'),
    ('list_events', 'reader admin'), ('usage', 'reader admin'), ('usage_report', 'reader admin'),
    ('record_event', 'writer admin'), ('record_events', 'writer admin'), ('ingest', 'writer admin'),
    ('create_meter', 'admin'), ('update_meter', 'admin'), ('add_dimension', 'admin'),
    ('archive_meter', 'admin'), ('drop_meter', 'admin'), ('fold', 'admin unbound'), ('erase_user', 'admin unbound'),
    ('leave_out', 'admin unbound'), ('take_in', 'admin unbound'), ('void_event', 'admin'), ('amend_event', 'admin'), ('close_period', 'admin'),
    ('event_history', 'reader admin'), ('late_usage', 'reader admin'), ('list_statements', 'reader admin'), ('explain_usage', 'reader admin'),
    ('set_limit', 'admin'), ('drop_limit', 'admin'), ('list_limits', 'reader admin'), ('remaining', 'reader admin'), ('set_alert', 'admin'), ('drop_alert', 'admin'), ('list_alert_rules', 'reader admin'), ('list_alerts', 'reader admin'), 
    ('usage_digest', 'owner'), ('event_digest', 'owner'), ('add_digests', 'owner'), ('negate_digest', 'owner'), ('sum_digests', 'owner'), ('refuse_change', 'owner'), ('status', 'reader admin'), ('system_status', 'reader admin unbound'),
    ('verify', 'owner'), ('rebuild', 'owner'), ('cell_hours', 'owner'), ('sum_hours', 'owner'), ('sum_hours_add', 'owner'), ('sum_hours_final', 'owner'), ('sum_months', 'owner'),
    ('dimensions_digest', 'owner'),
    ('grant_access', 'owner'), ('revoke_access', 'owner'), ('create_partitions', 'owner'),
    ('empty_default_partition', 'owner'), ('drop_events', 'owner'), ('may_verify', 'owner'), ('open_generations', 'owner'), ('key_digest', 'owner'),
    ('forget_cached', 'owner'), ('load_events', 'owner'), ('is_event', 'owner'), ('is_dimension_names', 'owner'),
    ('bucket_start', 'reader admin'), ('bucket_end', 'reader admin'), ('round_value', 'reader admin'),
    ('sum_by', 'public'), ('count_by', 'public'), ('last_by', 'public'), ('last', 'public'), ('first_by', 'public'), ('first', 'public'), ('first_by_add', 'public'), ('first_add', 'public'),
    ('sum_by_add', 'public'), ('count_by_add', 'public'), ('last_by_add', 'public'), ('last_add', 'public'),
    ('groups_combine', 'public'), ('groups_final', 'public'), ('last_combine', 'public'), ('last_final', 'public'),
    ('aggregate_state_in', 'public'), ('aggregate_state_out', 'public'),
    ('aggregate_state_recv', 'public'), ('aggregate_state_send', 'public')) AS rules (function, rule);
CREATE VIEW access_function AS
    SELECT p.oid, p.proname AS function, p.oid::regprocedure::text AS signature, p.prosecdef, p.proisstrict,
           ARRAY(SELECT 'NULL::' || t::regtype FROM unnest(p.proargtypes) WITH ORDINALITY AS a (t, n) ORDER BY n) AS nulls,
           -- What SQL cannot call.
           2281 = ANY (p.proargtypes) OR 2275 = ANY (p.proargtypes) AS internal
    FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
    JOIN pg_extension x ON x.oid = d.refobjid AND x.extname = 'meter';
SELECT function AS without_rule FROM access_function EXCEPT SELECT function FROM access_rule;
SELECT function AS without_function FROM access_rule EXCEPT SELECT function FROM access_function;
SELECT signature AS security_definer FROM access_function WHERE prosecdef;

-- Whether a role may run a statement; what the statement does is undone.
CREATE FUNCTION access_may(role name, statement text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('role', role, true);
    EXECUTE statement;
    RAISE EXCEPTION 'undo' USING ERRCODE = 'ZZZZZ';
EXCEPTION
    WHEN insufficient_privilege THEN RETURN false;
    WHEN OTHERS THEN RETURN true;
END $$;

-- Each function called with nulls: whether a role gets as far as the function. (Strict ones are not
-- called at all; the catalog tells.)
CREATE TABLE access_role (role name PRIMARY KEY, kind text);
INSERT INTO access_role VALUES
    ('access_nobody', 'nobody'), ('access_reader', 'reader'), ('access_writer', 'writer'), ('access_admin', 'admin'),
    ('access_any_reader', 'reader'), ('access_any_writer', 'writer'), ('access_any_admin', 'admin'),
    ('access_member', 'owner'), (current_user, 'owner');
CREATE VIEW access_expected AS
    SELECT f.oid, f.signature, f.nulls, f.internal, f.proisstrict, o.role, o.kind,
           CASE o.kind WHEN 'owner' THEN true WHEN 'nobody' THEN false WHEN 'reader' THEN r.reader
                       WHEN 'writer' THEN r.writer ELSE r.admin END
           AND NOT (r.unbound AND o.role IN ('access_reader', 'access_writer', 'access_admin')) AS expected
    FROM access_function f JOIN access_rule r USING (function) CROSS JOIN access_role o;
SELECT signature, role, expected FROM access_expected
WHERE NOT internal AND NOT proisstrict
  AND access_may(role, (SELECT CASE prokind WHEN 'p' THEN 'CALL' ELSE 'SELECT' END || ' meter.' || quote_ident(proname)
                         FROM pg_proc p WHERE p.oid = access_expected.oid)
                       || '(' || array_to_string(nulls, ', ') || ')') <> expected;
-- The same by the catalog, those that SQL cannot call too; public functions need the schema.
SELECT signature, role, expected FROM access_expected
WHERE (has_schema_privilege(role, 'meter', 'USAGE') AND has_function_privilege(role, oid, 'EXECUTE')) <> expected;
SELECT signature AS granted_to_public FROM access_function f JOIN access_rule r USING (function)
WHERE has_function_privilege('access_nobody', f.oid, 'EXECUTE') <> r.public;
SELECT has_schema_privilege('access_nobody', 'meter', 'USAGE') AS nobody_uses_the_schema;

-- Real calls: what the function itself answers, to who was granted it by hand too.
CREATE TABLE access_call (function name, call text);
INSERT INTO access_call VALUES
    ('list_meters', 'SELECT count(*) FROM meter.list_meters()'),
    ('list_events', $$SELECT count(*) FROM meter.list_events('tokens')$$),
    ('usage', $$SELECT * FROM meter.usage('tokens', '2026-01-01', '2026-02-01')$$),
    ('usage_report', $$SELECT count(*) FROM meter.usage_report('2026-01-01', '2026-02-01')$$),
    ('record_event', $$SELECT meter.record_event('tokens', 'ann')$$),
    ('record_events', $$SELECT count(*) FROM meter.record_events('[{"event_name": "tokens", "user_id": "ann"}]')$$),
    ('record_events', $$SELECT count(*) FROM meter.record_events('{tokens}', '{ann}', NULL, NULL, NULL, NULL)$$),
    ('ingest', $$SELECT count(*) FROM meter.ingest('{"event_name": "tokens", "user_id": "ann"}')$$),
    ('create_meter', $$SELECT meter.create_meter('another')$$),
    ('update_meter', $$SELECT meter.update_meter('tokens', name => 'T')$$),
    ('add_dimension', $$SELECT meter.add_dimension('tokens', 'd')$$),
    ('archive_meter', $$SELECT meter.archive_meter('tokens')$$),
    ('drop_meter', $$SELECT meter.drop_meter('tokens')$$),
    ('grant_access', $$SELECT meter.grant_access('access_nobody', 'admin')$$),
    ('grant_access', $$SELECT meter.grant_access(current_user, 'admin')$$),
    ('revoke_access', $$SELECT meter.revoke_access('access_reader')$$),
    ('create_partitions', $$SELECT count(*) FROM meter.create_partitions(60, now() + interval '59 months')$$),
    ('empty_default_partition', $$CALL meter.empty_default_partition()$$),
    ('drop_events', $$CALL meter.drop_events('2001-01-01')$$),
    ('erase_user', $$SELECT meter.erase_user('ann')$$),
    ('fold', $$SELECT meter.fold() >= 0$$),
    ('set_limit', $$SELECT meter.set_limit('tokens', 'ann', 5)$$), ('drop_limit', $$SELECT meter.drop_limit('tokens', 'ann')$$),
    ('list_limits', $$SELECT * FROM meter.list_limits('tokens')$$), ('remaining', $$SELECT meter.remaining('tokens', 'ann')$$),
    ('set_alert', $$SELECT meter.set_alert('tokens', 'ann', 'a', '{5}')$$), ('drop_alert', $$SELECT meter.drop_alert('tokens', 'a')$$),
    ('list_alert_rules', $$SELECT * FROM meter.list_alert_rules('tokens')$$), ('list_alerts', $$SELECT * FROM meter.list_alerts('tokens')$$),
    ('leave_out', $$SELECT meter.leave_out('tokens', 'd')$$),
    ('take_in', $$SELECT meter.take_in('tokens')$$),
    ('status', $$SELECT * FROM meter.status()$$),
    ('system_status', $$SELECT * FROM meter.system_status()$$),
    ('rebuild', $$SELECT meter.rebuild('2026-01-01', '2026-02-01')$$),
    ('verify', $$SELECT count(*) FROM meter.verify('2026-01-01', '2026-02-01')$$);
-- Every entry point is called; what is left over acts on nothing of the extension.
SELECT function AS not_called FROM access_rule WHERE NOT public EXCEPT SELECT function FROM access_call ORDER BY 1;
SET meter.org = 'access_a';
SELECT c.call, o.role, expected
FROM access_call c JOIN access_expected o ON o.signature LIKE 'meter.' || c.function || '(%'
WHERE access_may(o.role, c.call) <> expected;
SELECT call AS allowed_by_hand FROM access_call WHERE access_may('access_by_hand', call);
-- The table of docs/access.md.
SELECT c.function,
       bool_or(access_may('access_nobody', call)) AS nobody,
       bool_or(access_may('access_reader', call)) AS reader,
       bool_or(access_may('access_writer', call)) AS writer,
       bool_or(access_may('access_admin', call)) AS admin,
       bool_or(access_may('access_any_reader', call)) AS any_reader,
       bool_or(access_may('access_any_writer', call)) AS any_writer,
       bool_or(access_may('access_any_admin', call)) AS any_admin,
       bool_or(access_may('access_member', call)) AS owner
FROM access_call c GROUP BY c.function ORDER BY c.function;
RESET meter.org;

-- Tables and sequences: who but the owner has any right on them.
SELECT c.oid::regclass AS relation, role, string_agg(privilege, ' ') AS privileges
FROM pg_class c CROSS JOIN access_role o
     CROSS JOIN unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER,USAGE}'::text[]) privilege
WHERE c.relnamespace = 'meter'::regnamespace AND c.relkind IN ('r', 'p', 'S', 'v', 'm', 'f') AND o.kind <> 'owner'
  AND CASE WHEN c.relkind = 'S'
           THEN privilege IN ('SELECT', 'UPDATE', 'USAGE') AND has_sequence_privilege(role, c.oid, privilege)
           ELSE privilege <> 'USAGE' AND has_table_privilege(role, c.oid, privilege) END
GROUP BY c.oid, role ORDER BY c.oid::regclass::text, role;
-- Nor on any column.
SELECT c.oid::regclass AS relation, role FROM pg_class c CROSS JOIN access_role o
WHERE c.relnamespace = 'meter'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND o.kind <> 'owner'
  AND has_any_column_privilege(role, c.oid, 'SELECT, INSERT, UPDATE, REFERENCES')
  AND NOT has_table_privilege(role, c.oid, 'SELECT, INSERT');
SELECT role, has_schema_privilege(role, 'meter', 'CREATE') AS creates FROM access_role WHERE kind <> 'owner' ORDER BY role;
SET ROLE access_reader;
SELECT count(*) FROM meter.meter_event;
SELECT count(*) FROM meter.meter;
SELECT count(*) FROM meter.event_key;
SELECT nextval('meter.meter_event_id_seq');
RESET ROLE;
SET ROLE access_any_admin;
SELECT count(*) >= 0 AS reads FROM meter.meter_event;
DELETE FROM meter.meter_event;
SELECT count(*) FROM meter.access;
RESET ROLE;

-- A bound role is in its org, whatever the setting says.
SET meter.org = 'access_b';
SELECT amount FROM meter.set_limit('secret', NULL, 1000);
SELECT name FROM meter.set_alert('secret', NULL, 'any', recurring => 1);
SELECT meter.record_event('secret', 'ann') > 0 AS recorded, meter.fold() >= 0 AS folded;
SELECT meter.fold() >= 0 AS folded;
SELECT count(*) > 0 AS fired FROM meter.list_alerts();
RESET meter.org;
SET ROLE access_admin;
SET meter.org = 'access_b';
SELECT org, event_name FROM meter.list_meters();
SELECT org, event_name FROM meter.create_meter('mine');
SELECT meter.record_event('mine', 'ann') > 0 AS recorded;
SELECT meter.record_event('secret', 'ann');
SELECT * FROM meter.usage('secret', '2026-01-01', '2026-02-01');
SELECT * FROM meter.list_events('secret');
SELECT meter.set_limit('secret', NULL, 5);
SELECT meter.remaining('secret', 'ann');
SELECT * FROM meter.list_limits('secret');
SELECT * FROM meter.list_alerts('secret');
SELECT count(*) FROM meter.list_limits();
SELECT count(*) FROM meter.list_alert_rules();
SELECT count(*) FROM meter.list_alerts();
SELECT count(*) FROM meter.alert;
SELECT event_name FROM meter.usage_report('2026-01-01', '2100-01-01');
SELECT meter.archive_meter('secret');
SELECT meter.drop_meter('secret');
-- Nor does another org's number name a meter to it.
RESET ROLE;
SELECT id AS secret FROM meter.meter WHERE org = 'access_b' AND event_name = 'secret' \gset
SELECT id AS mine FROM meter.meter WHERE org = 'access_a' AND event_name = 'mine' \gset
SELECT jsonb_build_array(jsonb_build_object('meter_id', :secret, 'user_id', 'ann'),
                         jsonb_build_object('meter_id', :mine, 'user_id', 'ann')) AS items \gset
SET ROLE access_writer;
SELECT status, replace(error, :'secret', 'N') AS error FROM meter.record_events(:'items');
SELECT status, replace(error, :'secret', 'N') AS error FROM meter.ingest(:'items');
RESET ROLE;
SELECT m.org, m.event_name, count(e.id) FROM meter.meter m LEFT JOIN meter.meter_event e ON e.meter_id = m.id
WHERE org ~ '^access_' GROUP BY 1, 2 ORDER BY 1, 2;
-- A role that is not bound is where the setting says.
SET ROLE access_any_reader;
SELECT event_name FROM meter.list_meters();
SET meter.org = 'access_a';
SELECT event_name FROM meter.list_meters();
RESET meter.org;
RESET ROLE;

-- Membership: a login has what it inherits, in one org.
CREATE ROLE access_login LOGIN NOINHERIT;
GRANT access_writer TO access_login;
SET SESSION AUTHORIZATION access_login;
SELECT org FROM meter.list_meters();
SET ROLE access_writer;
SELECT DISTINCT org FROM meter.list_meters();
RESET ROLE;
RESET SESSION AUTHORIZATION;
-- Since PostgreSQL 16 it is the grant that says whether it is inherited, as the role is at that time.
ALTER ROLE access_login INHERIT;
REVOKE access_writer FROM access_login;
GRANT access_writer TO access_login;
SET SESSION AUTHORIZATION access_login;
SELECT DISTINCT org FROM meter.list_meters();
SELECT count(*) FROM meter.usage('tokens', '2026-01-01', '2026-02-01');
RESET SESSION AUTHORIZATION;
-- What several roles of one org grant adds up.
GRANT access_reader TO access_login;
SET SESSION AUTHORIZATION access_login;
SELECT count(*) FROM meter.usage('tokens', '2026-01-01', '2026-02-01');
RESET SESSION AUTHORIZATION;
-- Of two orgs, or of one and all, it has none.
CREATE ROLE access_other;
SELECT meter.grant_access('access_other', 'reader', 'access_b');
GRANT access_other TO access_login;
SET SESSION AUTHORIZATION access_login;
SELECT DISTINCT org FROM meter.list_meters();
SET ROLE access_other;
SELECT DISTINCT org FROM meter.list_meters();
RESET SESSION AUTHORIZATION;
REVOKE access_other FROM access_login;
GRANT access_any_reader TO access_login;
SET SESSION AUTHORIZATION access_login;
SELECT DISTINCT org FROM meter.list_meters();
RESET SESSION AUTHORIZATION;
-- Its own grant comes before what it inherits.
SELECT meter.grant_access('access_login', 'reader', 'access_b');
SET SESSION AUTHORIZATION access_login;
SELECT DISTINCT org FROM meter.list_meters();
SELECT meter.record_event('tokens', 'ann');
RESET SESSION AUTHORIZATION;

-- Granting: twice is once; another org, an unknown privilege or role, an empty org are refused.
SELECT meter.grant_access('access_other', 'reader', 'access_b');
SELECT meter.grant_access('access_other', 'writer', 'access_b');
SELECT role, org, reader, writer, admin FROM meter.access WHERE role = 'access_other'::regrole;
SELECT meter.grant_access('access_other', 'reader', 'access_a');
SELECT meter.grant_access('access_other', 'reader');
SELECT meter.grant_access('access_any_reader', 'reader', 'access_a');
SELECT meter.grant_access('access_other', 'owner', 'access_b');
SELECT meter.grant_access('access_unknown', 'reader');
SELECT meter.grant_access('public', 'reader');
SELECT meter.grant_access('access_other', 'reader', '');
SELECT meter.grant_access(NULL, 'reader');
SELECT meter.grant_access('access_other', NULL);
SELECT meter.grant_access('access_member', 'reader');
SELECT role, org, reader, writer, admin FROM meter.access WHERE role = 'access_other'::regrole;
-- Taking back one privilege leaves what the other needs.
SELECT meter.revoke_access('access_other', 'reader');
SET ROLE access_other;
SELECT DISTINCT org FROM meter.list_meters();
SELECT * FROM meter.usage('tokens', '2026-01-01', '2026-02-01');
RESET ROLE;
SELECT meter.revoke_access('access_other');
SELECT meter.revoke_access('access_other');
SET ROLE access_other;
SELECT DISTINCT org FROM meter.list_meters();
RESET ROLE;
-- Then nothing is left on the role, and it can be dropped.
DROP ROLE access_other;
-- A role that is dropped with what it had is not there again when one of its name is made.
CREATE ROLE access_dropped;
SELECT meter.grant_access('access_dropped', 'admin', 'access_a');
DROP ROLE access_dropped;
DROP OWNED BY access_dropped;
DROP ROLE access_dropped;
CREATE ROLE access_dropped;
SELECT access_may('access_dropped', 'SELECT * FROM meter.list_meters()');
GRANT USAGE ON SCHEMA meter TO access_dropped;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA meter TO access_dropped;
SELECT access_may('access_dropped', 'SELECT * FROM meter.list_meters()');
SELECT meter.grant_access('access_dropped', 'reader', 'access_b');
SELECT count(*) FROM meter.access WHERE role::oid NOT IN (SELECT oid FROM pg_authid);
SELECT role, org, reader, writer, admin FROM meter.access WHERE role = 'access_dropped'::regrole;

-- The caller is the caller again after success, and after an error that was caught.
GRANT CREATE ON SCHEMA public TO access_admin;
SET ROLE access_admin;
DO $$
DECLARE
    calls text[] := ARRAY['SELECT meter.record_event(''tokens'', ''ann'')', 'SELECT meter.record_event(''nothing'', ''ann'')',
        'SELECT meter.record_event(''tokens'', ''ann'', ''NaN'')', 'SELECT meter.record_events(''{}'')',
        'SELECT meter.ingest(''{'')', 'SELECT meter.ingest(''[1]'', true)', 'SELECT meter.create_meter(''tokens'')',
        'SELECT meter.usage(''tokens'', ''2026-01-01'', ''2025-01-01'')', 'SELECT meter.list_events(''nothing'')',
        'SELECT meter.grant_access(''access_admin'', ''admin'')', 'SELECT meter.create_partitions()',
        'SELECT * FROM meter.list_meters()'];
    call text;
BEGIN
    FOREACH call IN ARRAY calls LOOP
        BEGIN
            EXECUTE call;
        EXCEPTION WHEN OTHERS THEN
            NULL;
        END;
        IF current_user <> 'access_admin' OR current_setting('search_path') <> '"$user", public'
           OR current_setting('lock_timeout') <> '0' OR 'x'::text IS DISTINCT FROM 'x' THEN
            RAISE EXCEPTION '% left % with %', call, current_user, current_setting('search_path');
        END IF;
        -- The rights are the caller's too.
        BEGIN
            EXECUTE 'SELECT count(*) FROM meter.meter_event';
            RAISE EXCEPTION '% left its rights', call;
        EXCEPTION WHEN insufficient_privilege THEN
            NULL;
        END;
    END LOOP;
END $$;
SELECT current_user, session_user = current_user AS session;
RESET ROLE;
REVOKE CREATE ON SCHEMA public FROM access_admin;

-- Names of the caller's own, found first by its search path, are not what we run. Here are all the
-- operators and functions of pg_catalog on the types that we use, each of which tells who ran it.
CREATE SCHEMA access_trap;
CREATE TABLE access_trap.log (ran name, what text);
GRANT ALL ON SCHEMA access_trap TO access_admin;
GRANT INSERT ON access_trap.log TO PUBLIC;
DO $$
DECLARE
    types regtype[] := '{text,int4,int8,numeric,timestamptz,jsonb,uuid,bool,oid,text[],name,regclass,interval,float8}';
    made record;
    body text;
BEGIN
    FOR made IN
        SELECT p.proname, array_to_string(p.proargtypes::regtype[], ', ') AS arguments, p.prorettype::regtype AS result
        FROM pg_proc p
        WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND NOT p.proretset AND p.provariadic = 0
          AND p.pronargs <= 3 AND p.prorettype = ANY (types) AND p.proargtypes::oid[] <@ types::oid[]
    LOOP
        body := format('BEGIN INSERT INTO access_trap.log VALUES (current_user, %L); RETURN NULL; END', made.proname);
        EXECUTE format('CREATE FUNCTION access_trap.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L',
                       made.proname, made.arguments, made.result, body);
    END LOOP;
    FOR made IN
        SELECT o.oprname, p.proname, o.oprleft::regtype, o.oprright::regtype
        FROM pg_operator o JOIN pg_proc p ON p.oid = o.oprcode
        WHERE o.oprnamespace = 'pg_catalog'::regnamespace AND o.oprkind = 'b'
          AND o.oprleft = ANY (types) AND o.oprright = ANY (types) AND o.oprresult = ANY (types)
          AND to_regprocedure(format('access_trap.%I(%s,%s)', p.proname, o.oprleft::regtype, o.oprright::regtype)) IS NOT NULL
    LOOP
        EXECUTE format('CREATE OPERATOR access_trap.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = access_trap.%I)',
                       made.oprname, made.oprleft, made.oprright, made.proname);
    END LOOP;
END $$;
SELECT count(*) > 500 AS many FROM pg_proc WHERE pronamespace = 'access_trap'::regnamespace;
SELECT count(*) > 100 AS many FROM pg_operator WHERE oprnamespace = 'access_trap'::regnamespace;
CREATE FUNCTION access_trap.unnest(anyarray) RETURNS SETOF anyelement LANGUAGE plpgsql AS $$
BEGIN INSERT INTO access_trap.log VALUES (current_user, 'unnest'); RETURN; END $$;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA access_trap TO PUBLIC;
GRANT USAGE ON SCHEMA access_trap TO PUBLIC;

-- What the entry points do, called under that path; each as it would be by a stranger's session.
CREATE PROCEDURE access_spring() LANGUAGE plpgsql AS $$
DECLARE
    call text;
BEGIN
    FOREACH call IN ARRAY pg_catalog.string_to_array(pg_catalog.current_setting('access.calls'), ';') LOOP
        BEGIN
            EXECUTE call;
        EXCEPTION WHEN OTHERS THEN
            RAISE WARNING '%: %', call, SQLERRM;
        END;
    END LOOP;
END $$;
SELECT set_config('access.calls', concat_ws(';',
    'SELECT meter.create_meter(''trap'', dimensions => ''{model}'')',
    'SELECT meter.create_meter(''trap'', dimensions => ''{model}'', if_not_exists => true)',
    'SELECT meter.update_meter(''trap'', name => ''Trap'', metadata => ''{"a": 1}'')',
    'SELECT meter.add_dimension(''trap'', ''region'')',
    'SELECT meter.record_event(''trap'', ''ann'', 5.10, ''{"model": 1.50}'', ''k'')',
    'SELECT meter.record_event(''trap'', ''ann'', 5.1, ''{"model": 1.5}'', ''k'')',
    'SELECT meter.record_events(''[{"event_name": "trap", "user_id": "ann", "idempotency": "k", "value": 1}, {"event_name": "trap", "user_id": "ann", "idempotency": "l"}]'')',
    'SELECT meter.record_events(''{trap,trap}'', ''{ann,bob}'', ''{1,2}'', NULL, ''{k,m}'', NULL)',
    'SELECT meter.ingest(''{"event_name": "trap", "user_id": "ann", "idempotency": "n"}'')',
    'SELECT meter.list_events(''trap'', filter => ''{"model": [1.5, "x"]}'', user_id => ''ann'', period_start => ''2000-01-01'')',
    'SELECT meter.usage(''trap'', ''2000-01-01'', ''2100-01-01'', group_by => ''{user_id,model}'', filter => ''{"model": [1.5, "x"]}'', bucket => ''year'', time_zone => ''Europe/Berlin'', aggregation => ''last'')',
    'SELECT meter.usage(''trap'', ''2000-01-01'', ''2010-01-01'', group_by => ''{model}'', bucket => ''year'', fill => true)',
    'SELECT meter.usage_report(''2000-01-01'', ''2100-01-01'')',
    'SELECT meter.list_meters(true)',
    'SELECT meter.archive_meter(''trap'')',
    'SELECT meter.create_meter(''trap2'')',
    'SELECT meter.drop_meter(''trap2'')'), false) <> '' AS set;
SET ROLE access_admin;
CREATE TEMP TABLE meter_event (LIKE pg_class);
CREATE TEMP TABLE meter (LIKE pg_class);
CREATE TEMP TABLE event_key (LIKE pg_class);
CREATE TEMP TABLE access (LIKE pg_class);
CREATE FUNCTION pg_temp.now() RETURNS timestamptz LANGUAGE plpgsql AS $$
BEGIN INSERT INTO access_trap.log VALUES (current_user, 'pg_temp.now'); RETURN '1970-01-01'; END $$;
CREATE FUNCTION pg_temp.is_event(timestamptz, text, numeric, text, jsonb, jsonb) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN INSERT INTO access_trap.log VALUES (current_user, 'pg_temp.is_event'); RETURN true; END $$;
SET search_path = access_trap, pg_temp, public, pg_catalog;
-- The trap works.
SELECT 'a'::text = 'a'::text AS trapped;
RESET search_path;
RESET ROLE;
SELECT * FROM access_trap.log;
TRUNCATE access_trap.log;
SET ROLE access_admin;
SET search_path = access_trap, pg_temp, public, pg_catalog;
CALL public.access_spring();
RESET search_path;
RESET ROLE;
-- In a new session, where nothing was prepared before.
\c -
SET client_min_messages = warning;
SELECT set_config('access.calls', concat_ws(';',
    'SELECT meter.create_meter(''trap3'', dimensions => ''{model}'')',
    'SELECT meter.record_event(''trap3'', ''ann'', 5.10, ''{"model": 1.50}'', ''k'')',
    'SELECT meter.record_event(''trap3'', ''ann'', 5.1, ''{"model": 1.5}'', ''k'')',
    'SELECT meter.record_events(''[{"event_name": "trap3", "user_id": "ann", "idempotency": "k", "value": 1}, {"event_name": "trap3", "user_id": "ann", "idempotency": "l"}]'')',
    'SELECT meter.list_events(''trap3'')',
    'SELECT meter.usage(''trap3'', ''2000-01-01'', ''2100-01-01'', group_by => ''{user_id,model}'')'), false) <> '' AS set;
SET ROLE access_admin;
SET search_path = access_trap, public, pg_catalog;
CALL public.access_spring();
RESET search_path;
RESET ROLE;
SELECT ran, what, count(*) FROM access_trap.log GROUP BY 1, 2;
-- An owner with such a path is as safe.
SELECT set_config('access.calls', concat_ws(';',
    'SELECT meter.grant_access(''access_nobody'', ''reader'', ''access_a'')',
    'SELECT meter.revoke_access(''access_nobody'')',
    'SELECT meter.create_partitions(60, pg_catalog.now() OPERATOR(pg_catalog.+) pg_catalog.make_interval(months => 59))',
    'SELECT meter.create_meter(''trap4'')',
    'SELECT meter.record_event(''trap4'', ''ann'', idempotency => ''k'')'), false) <> '' AS set;
BEGIN;
SET LOCAL search_path = access_trap, public, pg_catalog;
CALL public.access_spring();
SET LOCAL search_path = pg_catalog, public;
SELECT ran, what, count(*) FROM access_trap.log GROUP BY 1, 2;
ROLLBACK;
RESET search_path;

-- Those calls did what they do.
SELECT m.event_name, m.name, m.dimensions, m.archived_at IS NOT NULL AS archived, count(e.id) AS events, sum(e.value)
FROM meter.meter m LEFT JOIN meter.meter_event e ON e.meter_id = m.id
WHERE m.org = 'access_a' AND m.event_name ~ '^trap' GROUP BY m.id ORDER BY m.id;

-- The database is shared with other tests: leave nothing behind.
DROP SCHEMA access_trap CASCADE;
DROP PROCEDURE access_spring();
DROP VIEW access_expected, access_function;
DROP TABLE access_rule, access_call, access_role;
DROP FUNCTION access_may(name, text);
DELETE FROM meter.meter_event e USING meter.meter m WHERE m.id = e.meter_id AND m.org ~ '^access_';
DELETE FROM meter.meter WHERE org ~ '^access_';
DELETE FROM meter.access WHERE role::text ~ '^access_';
DROP OWNED BY access_reader, access_writer, access_admin, access_any_reader, access_any_writer, access_any_admin,
    access_nobody, access_by_hand, access_member, access_login, access_dropped;
DROP ROLE access_reader, access_writer, access_admin, access_any_reader, access_any_writer, access_any_admin,
    access_nobody, access_by_hand, access_member, access_login, access_dropped;
