-- Meters: define, change, list.

CREATE FUNCTION meter.create_meter(
    event_name text,
    aggregation text DEFAULT 'sum',
    dimensions text[] DEFAULT '{}',
    name text DEFAULT NULL,
    currency text DEFAULT 'usd',
    metadata jsonb DEFAULT '{}',
    if_not_exists boolean DEFAULT false,
    property text DEFAULT NULL,
    rounding text DEFAULT NULL,
    rounding_precision integer DEFAULT NULL
) RETURNS meter.meter
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'meter_create_meter';
REVOKE ALL ON FUNCTION meter.create_meter(text, text, text[], text, text, jsonb, boolean, text, text, integer) FROM PUBLIC;
COMMENT ON FUNCTION meter.create_meter(text, text, text[], text, text, jsonb, boolean, text, text, integer) IS
'defines a meter; with if_not_exists returns the one that is there, provided aggregation, property, rounding and dimensions are the same';

CREATE FUNCTION meter.update_meter(
    event_name text,
    name text DEFAULT NULL,
    aggregation text DEFAULT NULL,
    currency text DEFAULT NULL,
    metadata jsonb DEFAULT NULL,
    property text DEFAULT NULL,
    rounding text DEFAULT NULL,
    rounding_precision integer DEFAULT NULL
) RETURNS meter.meter
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'meter_update_meter';
REVOKE ALL ON FUNCTION meter.update_meter(text, text, text, text, jsonb, text, text, integer) FROM PUBLIC;
COMMENT ON FUNCTION meter.update_meter(text, text, text, text, jsonb, text, text, integer) IS
'changes a meter''s name, aggregation, currency, metadata, property or rounding; null leaves as it is';

CREATE FUNCTION meter.add_dimension(event_name text, dimension text) RETURNS meter.meter
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'meter_add_dimension';
REVOKE ALL ON FUNCTION meter.add_dimension(text, text) FROM PUBLIC;
COMMENT ON FUNCTION meter.add_dimension(text, text) IS
'declares a further dimension of a meter that declares dimensions; earlier events lack it';

CREATE FUNCTION meter.archive_meter(event_name text) RETURNS meter.meter
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'meter_archive_meter';
REVOKE ALL ON FUNCTION meter.archive_meter(text) FROM PUBLIC;
COMMENT ON FUNCTION meter.archive_meter(text) IS
'ends a meter: it takes no more events, and its history stays readable';

CREATE FUNCTION meter.drop_meter(event_name text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'meter_drop_meter';
REVOKE ALL ON FUNCTION meter.drop_meter(text) FROM PUBLIC;
COMMENT ON FUNCTION meter.drop_meter(text) IS 'removes a meter that has no events';

CREATE FUNCTION meter.list_meters(include_archived boolean DEFAULT false) RETURNS SETOF meter.meter
LANGUAGE c STABLE PARALLEL UNSAFE ROWS 20
AS 'MODULE_PATHNAME', 'meter_list_meters';
REVOKE ALL ON FUNCTION meter.list_meters(boolean) FROM PUBLIC;
COMMENT ON FUNCTION meter.list_meters(boolean) IS 'the org''s meters by event_name';

CREATE FUNCTION meter.list_events(
    event_name text,
    period_start timestamptz DEFAULT NULL,
    period_end timestamptz DEFAULT NULL,
    user_id text DEFAULT NULL,
    filter jsonb DEFAULT '{}',
    max_rows integer DEFAULT 100,
    after_time timestamptz DEFAULT NULL,
    after_id bigint DEFAULT NULL
) RETURNS SETOF meter.meter_event
LANGUAGE c STABLE PARALLEL UNSAFE ROWS 100
AS 'MODULE_PATHNAME', 'meter_list_events';
REVOKE ALL ON FUNCTION
    meter.list_events(text, timestamptz, timestamptz, text, jsonb, integer, timestamptz, bigint) FROM PUBLIC;
COMMENT ON FUNCTION
    meter.list_events(text, timestamptz, timestamptz, text, jsonb, integer, timestamptz, bigint) IS
'a page of a meter''s events, newest first; for the next page pass the last row''s timestamp and id as after_time and after_id';
