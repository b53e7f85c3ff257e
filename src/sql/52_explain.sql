-- How a number came to be.

CREATE FUNCTION meter.explain_usage(
    event_name text,
    period_start timestamptz,
    period_end timestamptz,
    user_id text DEFAULT NULL,
    filter jsonb DEFAULT '{}',
    aggregation text DEFAULT NULL
) RETURNS TABLE (
    source text,
    at timestamptz,
    user_id text,
    dimensions jsonb,
    event_id bigint,
    value numeric,
    event_count bigint
)
LANGUAGE c STABLE PARALLEL UNSAFE ROWS 100 COST 10000
AS 'MODULE_PATHNAME', 'meter_explain_usage';
REVOKE ALL ON FUNCTION meter.explain_usage(text, timestamptz, timestamptz, text, jsonb, text) FROM PUBLIC;
COMMENT ON FUNCTION meter.explain_usage(text, timestamptz, timestamptz, text, jsonb, text) IS
'what meter.usage adds up for these arguments, a row each: cells of whole months, days and hours, deltas not folded yet, events at the cut edges, and corrections that take events back. The sums of value and event_count are those of usage';
