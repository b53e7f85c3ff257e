-- Installing where others have been before, and what was found by trying to break in.
SELECT current_database() AS regression_database \gset
CREATE DATABASE meter_install_test TEMPLATE template0 ENCODING 'UTF8';
\c meter_install_test
CREATE ROLE meter_install_attacker;
CREATE ROLE meter_install_tenant;

-- A schema that another role made could hold functions that capture calls of ours.
\set SHOW_CONTEXT never
CREATE SCHEMA meter AUTHORIZATION meter_install_attacker;
CREATE EXTENSION meter;
ALTER SCHEMA meter OWNER TO CURRENT_USER;
GRANT CREATE ON SCHEMA meter TO meter_install_attacker;
CREATE EXTENSION meter;
REVOKE ALL ON SCHEMA meter FROM meter_install_attacker;
CREATE FUNCTION meter.record_event(text, text, integer) RETURNS text LANGUAGE sql AS $$ SELECT 'captured' $$;
CREATE EXTENSION meter;
DROP FUNCTION meter.record_event(text, text, integer);
\set SHOW_CONTEXT errors

-- What ALTER DEFAULT PRIVILEGES grants on new tables and functions is not granted on ours.
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO meter_install_tenant;
ALTER DEFAULT PRIVILEGES GRANT USAGE ON SEQUENCES TO meter_install_tenant;
CREATE EXTENSION meter;
SELECT count(*) > 0 AS made FROM meter.create_partitions(1);
SELECT meter.grant_access('meter_install_tenant', 'writer', 'acme');
SELECT relname FROM pg_class
WHERE relnamespace = 'meter'::regnamespace AND relkind IN ('r', 'p', 'S')
  AND CASE relkind WHEN 'S' THEN has_sequence_privilege('meter_install_tenant', oid, 'USAGE')
           ELSE has_table_privilege('meter_install_tenant', oid, 'SELECT') END;

-- A row of a function that returns a meter can be stored, and read by another session.
CREATE TABLE saved AS SELECT meter.create_meter('calls') AS m;
\c -
SELECT (m).event_name, pg_typeof(m) FROM saved;

-- What a statement that failed wrote and recorded into is forgotten, though no trigger told of it.
\set VERBOSITY terse
INSERT INTO meter.meter (org, name, event_name, aggregation, currency, dimensions, metadata, created_at, updated_at)
SELECT 'default', 'n', 'm' || i, CASE i WHEN 3 THEN 'none' ELSE 'sum' END, 'usd', '{}', '{}', now(), now() FROM generate_series(1, 3) i
RETURNING meter.record_event(CASE event_name WHEN 'm1' THEN 'calls' ELSE 'm1' END, 'ann') > 0 AS recorded;
\set VERBOSITY default
SELECT meter.record_event('m1', 'ann');

-- A trigger of the owner's works as its own function says, search_path included.
CREATE SCHEMA app;
CREATE TABLE app.audit (who text);
CREATE FUNCTION app.note() RETURNS trigger LANGUAGE plpgsql SET search_path = app AS
$$ BEGIN INSERT INTO audit VALUES (new.user_id); RETURN new; END $$;
CREATE TRIGGER note AFTER INSERT ON meter.meter_event FOR EACH ROW EXECUTE FUNCTION app.note();
SELECT meter.record_event('calls', 'ann') > 0 AS recorded;
SELECT status FROM meter.record_events('[{"event_name": "calls", "user_id": "bob"}]');
SELECT * FROM app.audit;
DROP TRIGGER note ON meter.meter_event;
-- A trigger that raises stops the whole call, and nothing stays.
CREATE FUNCTION app.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no more events'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON meter.meter_event FOR EACH ROW EXECUTE FUNCTION app.refuse();
SELECT meter.record_event('calls', 'ann', 1, '{}', 'refused');
SELECT status FROM meter.record_events('[{"event_name": "calls", "user_id": "bob", "idempotency": "refused"}]');
DROP TRIGGER refuse ON meter.meter_event;
SELECT count(*) AS keys FROM meter.event_key;

DROP TABLE saved;
DROP EXTENSION meter;
DROP OWNED BY meter_install_attacker, meter_install_tenant;
\c :regression_database
DROP DATABASE meter_install_test;
DROP ROLE meter_install_attacker, meter_install_tenant;
