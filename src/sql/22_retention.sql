-- Retention: which events have been dropped, and moving and dropping events.

CREATE TABLE meter.retention (
    horizon timestamptz NOT NULL,
    one boolean NOT NULL DEFAULT true,
    dropped timestamptz,
    CONSTRAINT retention_pkey PRIMARY KEY (one),
    CONSTRAINT retention_one_check CHECK (one),
    CONSTRAINT retention_horizon_check CHECK (pg_catalog.isfinite(horizon))
);
COMMENT ON TABLE meter.retention IS
'one row where events have been dropped by meter.drop_events, or none';
COMMENT ON COLUMN meter.retention.horizon IS
'events before this are dropped, or about to be: none is recorded any more, and usage of that time comes from the rollups alone';
COMMENT ON COLUMN meter.retention.one IS 'true: there is one row at the most';
COMMENT ON COLUMN meter.retention.dropped IS
'the same once no event before is recorded any more, and what was late for closed periods was looked for: only then are events deleted; null: never yet';
COMMENT ON CONSTRAINT retention_pkey ON meter.retention IS 'one row at the most';

-- Sessions cache the horizon.
CREATE TRIGGER forget_cached AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON meter.retention
    FOR EACH STATEMENT EXECUTE FUNCTION meter.forget_cached();
CREATE TRIGGER forget_cached_row AFTER INSERT OR UPDATE OR DELETE ON meter.retention
    FOR EACH ROW EXECUTE FUNCTION meter.forget_cached();
ALTER TABLE meter.retention ENABLE ALWAYS TRIGGER forget_cached_row;
COMMENT ON TRIGGER forget_cached ON meter.retention IS 'sessions forget the horizon they cached';
COMMENT ON TRIGGER forget_cached_row ON meter.retention IS 'the same for changes that a subscription applies';

CREATE PROCEDURE meter.drop_events(before timestamptz)
LANGUAGE c
AS 'MODULE_PATHNAME', 'meter_drop_events';
REVOKE ALL ON PROCEDURE meter.drop_events(timestamptz) FROM PUBLIC;
COMMENT ON PROCEDURE meter.drop_events(timestamptz) IS
'drops the events before a time, of every org, and their keys, and keeps the rollups; from then on no older event is recorded. Run again after an interruption, it goes on';

CREATE PROCEDURE meter.empty_default_partition(min_events bigint DEFAULT 1)
LANGUAGE c
AS 'MODULE_PATHNAME', 'meter_empty_default_partition';
REVOKE ALL ON PROCEDURE meter.empty_default_partition(bigint) FROM PUBLIC;
COMMENT ON PROCEDURE meter.empty_default_partition(bigint) IS
'gives each month that has at least min_events events in meter.meter_event_default a partition of its own, and moves them there while others record and query';

SELECT pg_catalog.pg_extension_config_dump('meter.retention', '');
