-- Keeping the rollups.

CREATE FUNCTION meter.fold(into_cells boolean DEFAULT false) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'meter_fold';
REVOKE ALL ON FUNCTION meter.fold(boolean) FROM PUBLIC;
COMMENT ON FUNCTION meter.fold(boolean) IS
'moves what was recorded into the rollups, which keeps usage queries fast, and returns how many deltas it moved; 0 at once where another session is at it. While an old snapshot is held, deltas are added up and most of the time kept beside the cells; with into_cells they never are';

CREATE FUNCTION meter.cell_hours(
    day timestamptz,
    first_timestamp timestamptz,
    last_timestamp timestamptz,
    event_count bigint,
    last_id bigint,
    value_sum numeric,
    value_min numeric,
    value_max numeric,
    last_value numeric,
    hours bytea
) RETURNS TABLE (
    start timestamptz,
    last_timestamp timestamptz,
    event_count bigint,
    last_id bigint,
    value_sum numeric,
    value_min numeric,
    value_max numeric,
    last_value numeric
)
LANGUAGE c IMMUTABLE PARALLEL SAFE ROWS 20
AS 'MODULE_PATHNAME', 'meter_cell_hours';
REVOKE ALL ON FUNCTION meter.cell_hours(timestamptz, timestamptz, timestamptz, bigint, bigint, numeric, numeric, numeric, numeric, bytea) FROM PUBLIC;
COMMENT ON FUNCTION meter.cell_hours(timestamptz, timestamptz, timestamptz, bigint, bigint, numeric, numeric, numeric, numeric, bytea) IS
'the hours of a day''s cell of meter.rollup or meter.rollup_total, from its columns';
