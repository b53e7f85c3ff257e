-- Bulk loading: COPY and INSERT ... SELECT into the system.

CREATE FUNCTION meter.load_events() RETURNS trigger
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'meter_load_events';
REVOKE ALL ON FUNCTION meter.load_events() FROM PUBLIC;
COMMENT ON FUNCTION meter.load_events() IS 'the triggers of meter.event_load and meter.event_load_json';

-- A view's triggers cannot be made to fire always. So the one column that every line has is of a type
-- that refuses every value where they do not fire, or it would be lost without an error.
CREATE DOMAIN meter.loaded_text AS pg_catalog.text
    CONSTRAINT no_trigger_records_under_session_replication_role_replica
    CHECK (pg_catalog.current_setting('session_replication_role') OPERATOR(pg_catalog.<>) 'replica');
REVOKE ALL ON DOMAIN meter.loaded_text FROM PUBLIC;
COMMENT ON DOMAIN meter.loaded_text IS
'a text of meter.event_load and meter.event_load_json: an error where their triggers do not fire';
COMMENT ON CONSTRAINT no_trigger_records_under_session_replication_role_replica ON DOMAIN meter.loaded_text IS
'triggers record what is loaded, and do not fire there';

CREATE VIEW meter.event_load AS
SELECT NULL::meter.loaded_text AS event_name,
       NULL::pg_catalog.text AS user_id,
       NULL::pg_catalog.numeric AS value,
       NULL::pg_catalog.jsonb AS dimensions,
       NULL::pg_catalog.text AS idempotency,
       NULL::pg_catalog.timestamptz AS "timestamp",
       NULL::pg_catalog.jsonb AS metadata
WHERE false;
COMMENT ON VIEW meter.event_load IS
'always empty: what is copied or inserted into it is recorded, all of it or, with an error, none; each event needs an idempotency key, so that a load can be run again';
COMMENT ON COLUMN meter.event_load.event_name IS 'the meter';
COMMENT ON COLUMN meter.event_load.user_id IS 'who used';
COMMENT ON COLUMN meter.event_load.value IS 'how much; null: 1';
COMMENT ON COLUMN meter.event_load.dimensions IS 'a flat object; null: {}';
COMMENT ON COLUMN meter.event_load.idempotency IS 'the idempotency key';
COMMENT ON COLUMN meter.event_load."timestamp" IS 'when it was used; null: now';
COMMENT ON COLUMN meter.event_load.metadata IS 'an object; null: {}';

CREATE VIEW meter.event_load_json AS
SELECT NULL::meter.loaded_text AS line WHERE false;
COMMENT ON VIEW meter.event_load_json IS
'the same as meter.event_load for lines of JSON, in the forms that meter.ingest takes';
COMMENT ON COLUMN meter.event_load_json.line IS 'an event, or an array of events';

CREATE TRIGGER begin_load BEFORE INSERT ON meter.event_load
    FOR EACH STATEMENT EXECUTE FUNCTION meter.load_events();
CREATE TRIGGER load INSTEAD OF INSERT ON meter.event_load
    FOR EACH ROW EXECUTE FUNCTION meter.load_events();
CREATE TRIGGER end_load AFTER INSERT ON meter.event_load
    FOR EACH STATEMENT EXECUTE FUNCTION meter.load_events();
CREATE TRIGGER begin_load BEFORE INSERT ON meter.event_load_json
    FOR EACH STATEMENT EXECUTE FUNCTION meter.load_events();
CREATE TRIGGER load INSTEAD OF INSERT ON meter.event_load_json
    FOR EACH ROW EXECUTE FUNCTION meter.load_events();
CREATE TRIGGER end_load AFTER INSERT ON meter.event_load_json
    FOR EACH STATEMENT EXECUTE FUNCTION meter.load_events();
COMMENT ON TRIGGER begin_load ON meter.event_load IS 'makes a buffer';
COMMENT ON TRIGGER load ON meter.event_load IS 'adds an event to the buffer, and records it when it is full';
COMMENT ON TRIGGER end_load ON meter.event_load IS 'records what is left in the buffer';
COMMENT ON TRIGGER begin_load ON meter.event_load_json IS 'makes a buffer';
COMMENT ON TRIGGER load ON meter.event_load_json IS 'adds events to the buffer, and records it when it is full';
COMMENT ON TRIGGER end_load ON meter.event_load_json IS 'records what is left in the buffer';
