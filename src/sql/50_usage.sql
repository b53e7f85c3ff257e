-- Usage: what the events of a period add up to.

CREATE FUNCTION meter.bucket_start(at timestamptz, bucket text, time_zone text DEFAULT 'UTC')
RETURNS timestamptz
LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'meter_bucket_start';
REVOKE ALL ON FUNCTION meter.bucket_start(timestamptz, text, text) FROM PUBLIC;
COMMENT ON FUNCTION meter.bucket_start(timestamptz, text, text) IS
'the start of the minute, hour, day, week (from Monday), month or year of a time zone that an instant lies in';

CREATE FUNCTION meter.bucket_end(at timestamptz, bucket text, time_zone text DEFAULT 'UTC')
RETURNS timestamptz
LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'meter_bucket_end';
REVOKE ALL ON FUNCTION meter.bucket_end(timestamptz, text, text) FROM PUBLIC;
COMMENT ON FUNCTION meter.bucket_end(timestamptz, text, text) IS
'the end of the bucket that meter.bucket_start starts, which is the start of the next one';

CREATE FUNCTION meter.round_value(value numeric, rounding text, rounding_precision integer DEFAULT 0)
RETURNS numeric
LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'meter_round_value';
REVOKE ALL ON FUNCTION meter.round_value(numeric, text, integer) FROM PUBLIC;
COMMENT ON FUNCTION meter.round_value(numeric, text, integer) IS
'a value rounded as usage is: round (half away from zero), ceil or floor, to so many decimals or, negative, tens; none or null: as it is';

CREATE FUNCTION meter.usage(
    event_name text,
    period_start timestamptz,
    period_end timestamptz,
    user_id text DEFAULT NULL,
    group_by text[] DEFAULT '{}',
    filter jsonb DEFAULT '{}',
    bucket text DEFAULT NULL,
    time_zone text DEFAULT 'UTC',
    aggregation text DEFAULT NULL,
    fill boolean DEFAULT false,
    property text DEFAULT NULL,
    rounding text DEFAULT NULL,
    rounding_precision integer DEFAULT NULL
) RETURNS TABLE (
    bucket_start timestamptz,
    bucket_end timestamptz,
    user_id text,
    dimensions jsonb,
    value numeric,
    event_count bigint
)
LANGUAGE c STABLE PARALLEL UNSAFE ROWS 100 COST 10000
AS 'MODULE_PATHNAME', 'meter_usage';
REVOKE ALL ON FUNCTION
    meter.usage(text, timestamptz, timestamptz, text, text[], jsonb, text, text, text, boolean, text, text, integer) FROM PUBLIC;
COMMENT ON FUNCTION
    meter.usage(text, timestamptz, timestamptz, text, text[], jsonb, text, text, text, boolean, text, text, integer) IS
'a meter''s exact usage in the period [period_start, period_end), by calendar bucket of a time zone, user and dimensions as asked';

CREATE FUNCTION meter.usage_report(
    period_start timestamptz,
    period_end timestamptz,
    user_id text DEFAULT NULL
) RETURNS TABLE (
    event_name text,
    user_id text,
    value numeric,
    event_count bigint
)
LANGUAGE c STABLE PARALLEL UNSAFE ROWS 1000 COST 10000
AS 'MODULE_PATHNAME', 'meter_usage_report';
REVOKE ALL ON FUNCTION meter.usage_report(timestamptz, timestamptz, text) FROM PUBLIC;
COMMENT ON FUNCTION meter.usage_report(timestamptz, timestamptz, text) IS
'every meter''s exact usage in the period [period_start, period_end), by user: what an invoice needs';
