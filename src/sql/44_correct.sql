-- Voiding and amending events.

CREATE FUNCTION meter.void_event(event_name text, user_id text, idempotency text, reason text) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'meter_void_event';
REVOKE ALL ON FUNCTION meter.void_event(text, text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION meter.void_event(text, text, text, text) IS
'takes the event with an idempotency key back: it stays, with who voided it and why, and counts no more; of an amended one the latest version. Returns its id; the same again is harmless';

CREATE FUNCTION meter.void_event(event_name text, user_id text, event_id bigint, event_time timestamptz, reason text)
RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'meter_void_event_by_id';
REVOKE ALL ON FUNCTION meter.void_event(text, text, bigint, timestamptz, text) FROM PUBLIC;
COMMENT ON FUNCTION meter.void_event(text, text, bigint, timestamptz, text) IS
'the same for an event given by its id and timestamp';

CREATE FUNCTION meter.amend_event(
    event_name text,
    user_id text,
    idempotency text,
    value numeric DEFAULT NULL,
    dimensions jsonb DEFAULT NULL,
    event_time timestamptz DEFAULT NULL,
    metadata jsonb DEFAULT NULL,
    reason text DEFAULT NULL
) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'meter_amend_event';
REVOKE ALL ON FUNCTION meter.amend_event(text, text, text, numeric, jsonb, timestamptz, jsonb, text) FROM PUBLIC;
COMMENT ON FUNCTION meter.amend_event(text, text, text, numeric, jsonb, timestamptz, jsonb, text) IS
'replaces the event with an idempotency key: voids the latest version, and records another that differs in what is given; null: as it was. The reason is required. Returns the new version''s id; the same again is harmless';

CREATE FUNCTION meter.event_history(event_name text, user_id text, idempotency text) RETURNS TABLE (
    version integer,
    event_id bigint,
    "timestamp" timestamptz,
    value numeric,
    dimensions jsonb,
    metadata jsonb,
    recorded_at timestamptz,
    status text,
    changed_at timestamptz,
    changed_by text,
    reason text
)
LANGUAGE c STABLE PARALLEL UNSAFE ROWS 2
AS 'MODULE_PATHNAME', 'meter_event_history';
REVOKE ALL ON FUNCTION meter.event_history(text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION meter.event_history(text, text, text) IS
'every version of the event with an idempotency key, the first one first: live, amended or voided, and when, by whom and why';

CREATE FUNCTION meter.event_history(event_name text, user_id text, event_id bigint, event_time timestamptz) RETURNS TABLE (
    version integer,
    event_id bigint,
    "timestamp" timestamptz,
    value numeric,
    dimensions jsonb,
    metadata jsonb,
    recorded_at timestamptz,
    status text,
    changed_at timestamptz,
    changed_by text,
    reason text
)
LANGUAGE c STABLE PARALLEL UNSAFE ROWS 2
AS 'MODULE_PATHNAME', 'meter_event_history_by_id';
REVOKE ALL ON FUNCTION meter.event_history(text, text, bigint, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION meter.event_history(text, text, bigint, timestamptz) IS
'the same for an event given by its id and timestamp, and the versions that replaced it';
