-- Recording events.

CREATE FUNCTION meter.record_event(
    event_name text,
    user_id text,
    value numeric DEFAULT 1,
    dimensions jsonb DEFAULT '{}',
    idempotency text DEFAULT NULL,
    event_time timestamptz DEFAULT NULL,
    metadata jsonb DEFAULT '{}'
) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'meter_record_event';
REVOKE ALL ON FUNCTION
    meter.record_event(text, text, numeric, jsonb, text, timestamptz, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION meter.record_event(text, text, numeric, jsonb, text, timestamptz, jsonb) IS
'records one event and returns its id; a retry with the same idempotency key returns the first one''s id and writes nothing';

CREATE FUNCTION meter.record_events(
    events jsonb,
    strict boolean DEFAULT false,
    OUT ordinal integer,
    OUT event_id bigint,
    OUT status text,
    OUT error text
) RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 1000
AS 'MODULE_PATHNAME', 'meter_record_events_json';
REVOKE ALL ON FUNCTION meter.record_events(jsonb, boolean) FROM PUBLIC;
COMMENT ON FUNCTION meter.record_events(jsonb, boolean) IS
'records an array of events, each judged by itself: recorded, duplicate, conflict or invalid; strict: all of them or, with an error, none';

CREATE FUNCTION meter.record_events(
    event_names text[],
    user_ids text[],
    quantities numeric[],
    dimensions jsonb[],
    idempotency text[],
    event_times timestamptz[],
    metadata jsonb[] DEFAULT NULL,
    strict boolean DEFAULT false,
    OUT ordinal integer,
    OUT event_id bigint,
    OUT status text,
    OUT error text
) RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 1000
AS 'MODULE_PATHNAME', 'meter_record_events_arrays';
REVOKE ALL ON FUNCTION
    meter.record_events(text[], text[], numeric[], jsonb[], text[], timestamptz[], jsonb[], boolean) FROM PUBLIC;
COMMENT ON FUNCTION
    meter.record_events(text[], text[], numeric[], jsonb[], text[], timestamptz[], jsonb[], boolean) IS
'records events given as one array for each field; a null array, or a null in one, means the default';

CREATE FUNCTION meter.ingest(
    payload text,
    strict boolean DEFAULT false,
    OUT ordinal integer,
    OUT event_id bigint,
    OUT status text,
    OUT error text
) RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 1000
AS 'MODULE_PATHNAME', 'meter_ingest';
REVOKE ALL ON FUNCTION meter.ingest(text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION meter.ingest(text, boolean) IS
'records the events of a JSON array, of NDJSON, or of CloudEvents 1.0 (one or a batch)';

CREATE FUNCTION meter.create_partitions(months_ahead integer DEFAULT 3, since timestamptz DEFAULT NULL)
RETURNS SETOF regclass
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'meter_create_partitions';
REVOKE ALL ON FUNCTION meter.create_partitions(integer, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION meter.create_partitions(integer, timestamptz) IS
'makes the monthly partitions of meter.meter_event that are missing from this month, or the month of since, up to some months ahead, and returns the new ones';
