-- Adding cells up: the hours of days', where a question cuts days, and those of months by user.

CREATE TYPE meter.hour_sum AS (
    start timestamptz,
    first_timestamp timestamptz,
    last_timestamp timestamptz,
    event_count bigint,
    last_id bigint,
    value_sum numeric,
    value_min numeric,
    value_max numeric,
    last_value numeric,
    value_time numeric
);
REVOKE ALL ON TYPE meter.hour_sum FROM PUBLIC;
COMMENT ON TYPE meter.hour_sum IS 'what hours of one bucket add up to; see meter.sum_hours';

CREATE FUNCTION meter.sum_hours_add(
    state internal,
    day timestamptz,
    first_timestamp timestamptz,
    last_timestamp timestamptz,
    event_count bigint,
    last_id bigint,
    value_sum numeric,
    value_min numeric,
    value_max numeric,
    last_value numeric,
    value_time numeric,
    hours bytea,
    piece_starts timestamptz[],
    piece_ends timestamptz[],
    piece_buckets timestamptz[],
    ordered boolean,
    timed boolean
) RETURNS internal
LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'meter_sum_hours_add';
REVOKE ALL ON FUNCTION meter.sum_hours_add(internal, timestamptz, timestamptz, timestamptz, bigint, bigint, numeric, numeric, numeric, numeric, numeric, bytea, timestamptz[], timestamptz[], timestamptz[], boolean, boolean) FROM PUBLIC;
COMMENT ON FUNCTION meter.sum_hours_add(internal, timestamptz, timestamptz, timestamptz, bigint, bigint, numeric, numeric, numeric, numeric, numeric, bytea, timestamptz[], timestamptz[], timestamptz[], boolean, boolean) IS
'state transition of meter.sum_hours';

CREATE FUNCTION meter.sum_hours_final(state internal) RETURNS meter.hour_sum[]
LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'meter_sum_hours_final';
REVOKE ALL ON FUNCTION meter.sum_hours_final(internal) FROM PUBLIC;
COMMENT ON FUNCTION meter.sum_hours_final(internal) IS 'the result of meter.sum_hours';

CREATE AGGREGATE meter.sum_hours(
    day timestamptz,
    first_timestamp timestamptz,
    last_timestamp timestamptz,
    event_count bigint,
    last_id bigint,
    value_sum numeric,
    value_min numeric,
    value_max numeric,
    last_value numeric,
    value_time numeric,
    hours bytea,
    piece_starts timestamptz[],
    piece_ends timestamptz[],
    piece_buckets timestamptz[],
    ordered boolean,
    timed boolean
) (
    SFUNC = meter.sum_hours_add,
    STYPE = internal,
    SSPACE = 4096,
    FINALFUNC = meter.sum_hours_final,
    PARALLEL = SAFE
);
REVOKE ALL ON FUNCTION meter.sum_hours(timestamptz, timestamptz, timestamptz, bigint, bigint, numeric, numeric, numeric, numeric, numeric, bytea, timestamptz[], timestamptz[], timestamptz[], boolean, boolean) FROM PUBLIC;
COMMENT ON AGGREGATE meter.sum_hours(timestamptz, timestamptz, timestamptz, bigint, bigint, numeric, numeric, numeric, numeric, numeric, bytea, timestamptz[], timestamptz[], timestamptz[], boolean, boolean) IS
'what hours of days'' cells of meter.rollup or meter.rollup_total add up to by bucket: those within pieces, each of which lies in one bucket; minimum, maximum and last only where ordered, the sum of value times microseconds since the bucket''s start only where timed';

CREATE FUNCTION meter.sum_months(meters integer[], months timestamptz[])
RETURNS TABLE (user_id text, meter_id integer, event_count bigint, value_sum numeric)
LANGUAGE c STABLE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'meter_sum_months';
REVOKE ALL ON FUNCTION meter.sum_months(integer[], timestamptz[]) FROM PUBLIC;
COMMENT ON FUNCTION meter.sum_months(integer[], timestamptz[]) IS
'what the cells of the meters'' months, by their starts, add up to for each user and meter; where they are very many, in parts';
