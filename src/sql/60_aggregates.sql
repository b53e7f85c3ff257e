
-- The state of the aggregates: flat on its way between processes, an expanded object in memory.
CREATE TYPE meter.aggregate_state;

CREATE FUNCTION meter.aggregate_state_in(pg_catalog.cstring) RETURNS meter.aggregate_state
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'meter_aggregate_state_in';
COMMENT ON FUNCTION meter.aggregate_state_in(pg_catalog.cstring) IS 'input of the type meter.aggregate_state';

CREATE FUNCTION meter.aggregate_state_out(meter.aggregate_state) RETURNS pg_catalog.cstring
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'meter_aggregate_state_out';
COMMENT ON FUNCTION meter.aggregate_state_out(meter.aggregate_state) IS 'output of the type meter.aggregate_state';

CREATE FUNCTION meter.aggregate_state_recv(pg_catalog.internal) RETURNS meter.aggregate_state
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'meter_aggregate_state_recv';
COMMENT ON FUNCTION meter.aggregate_state_recv(pg_catalog.internal) IS 'binary input of the type meter.aggregate_state';

CREATE FUNCTION meter.aggregate_state_send(meter.aggregate_state) RETURNS pg_catalog.bytea
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'meter_aggregate_state_send';
COMMENT ON FUNCTION meter.aggregate_state_send(meter.aggregate_state) IS 'binary output of the type meter.aggregate_state';

CREATE TYPE meter.aggregate_state (
    INPUT = meter.aggregate_state_in,
    OUTPUT = meter.aggregate_state_out,
    RECEIVE = meter.aggregate_state_recv,
    SEND = meter.aggregate_state_send,
    INTERNALLENGTH = VARIABLE,
    ALIGNMENT = int4,
    STORAGE = extended
);
COMMENT ON TYPE meter.aggregate_state IS 'the state of an aggregate of meter, as partial aggregation passes it on';

CREATE FUNCTION meter.sum_by_add(state meter.aggregate_state, value pg_catalog.numeric,
                                 dimensions pg_catalog.jsonb, keys pg_catalog.text[])
    RETURNS meter.aggregate_state
    LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'meter_sum_by_add';
COMMENT ON FUNCTION meter.sum_by_add(meter.aggregate_state, pg_catalog.numeric, pg_catalog.jsonb, pg_catalog.text[])
    IS 'transition of the aggregate meter.sum_by';

CREATE FUNCTION meter.count_by_add(state meter.aggregate_state, dimensions pg_catalog.jsonb,
                                   keys pg_catalog.text[])
    RETURNS meter.aggregate_state
    LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'meter_count_by_add';
COMMENT ON FUNCTION meter.count_by_add(meter.aggregate_state, pg_catalog.jsonb, pg_catalog.text[])
    IS 'transition of the aggregate meter.count_by';

CREATE FUNCTION meter.last_by_add(state meter.aggregate_state, value pg_catalog.numeric,
                                  event_time pg_catalog.timestamptz, dimensions pg_catalog.jsonb,
                                  keys pg_catalog.text[])
    RETURNS meter.aggregate_state
    LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'meter_last_by_add';
COMMENT ON FUNCTION meter.last_by_add(meter.aggregate_state, pg_catalog.numeric, pg_catalog.timestamptz, pg_catalog.jsonb, pg_catalog.text[])
    IS 'transition of the aggregate meter.last_by';

CREATE FUNCTION meter.first_by_add(state meter.aggregate_state, value pg_catalog.numeric,
                                  event_time pg_catalog.timestamptz, dimensions pg_catalog.jsonb,
                                  keys pg_catalog.text[])
    RETURNS meter.aggregate_state
    LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'meter_first_by_add';
COMMENT ON FUNCTION meter.first_by_add(meter.aggregate_state, pg_catalog.numeric, pg_catalog.timestamptz, pg_catalog.jsonb, pg_catalog.text[])
    IS 'transition of the aggregate meter.first_by';

CREATE FUNCTION meter.groups_combine(meter.aggregate_state, meter.aggregate_state)
    RETURNS meter.aggregate_state
    LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'meter_groups_combine';
COMMENT ON FUNCTION meter.groups_combine(meter.aggregate_state, meter.aggregate_state)
    IS 'combines two states of meter.sum_by, meter.count_by, meter.last_by or meter.first_by';

CREATE FUNCTION meter.groups_final(meter.aggregate_state) RETURNS pg_catalog.jsonb
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'meter_groups_final';
COMMENT ON FUNCTION meter.groups_final(meter.aggregate_state)
    IS 'the result of a state of meter.sum_by, meter.count_by, meter.last_by or meter.first_by';

CREATE FUNCTION meter.last_add(state meter.aggregate_state, value pg_catalog.numeric,
                               event_time pg_catalog.timestamptz)
    RETURNS meter.aggregate_state
    LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'meter_last_add';
COMMENT ON FUNCTION meter.last_add(meter.aggregate_state, pg_catalog.numeric, pg_catalog.timestamptz)
    IS 'transition of the aggregate meter.last';

CREATE FUNCTION meter.last_add(state meter.aggregate_state, value pg_catalog.numeric,
                               event_time pg_catalog.timestamptz, tiebreak pg_catalog.int8)
    RETURNS meter.aggregate_state
    LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'meter_last_add';
COMMENT ON FUNCTION meter.last_add(meter.aggregate_state, pg_catalog.numeric, pg_catalog.timestamptz, pg_catalog.int8)
    IS 'transition of the aggregate meter.last with a tiebreak';

CREATE FUNCTION meter.first_add(state meter.aggregate_state, value pg_catalog.numeric,
                               event_time pg_catalog.timestamptz)
    RETURNS meter.aggregate_state
    LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'meter_first_add';
COMMENT ON FUNCTION meter.first_add(meter.aggregate_state, pg_catalog.numeric, pg_catalog.timestamptz)
    IS 'transition of the aggregate meter.first';

CREATE FUNCTION meter.first_add(state meter.aggregate_state, value pg_catalog.numeric,
                               event_time pg_catalog.timestamptz, tiebreak pg_catalog.int8)
    RETURNS meter.aggregate_state
    LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'meter_first_add';
COMMENT ON FUNCTION meter.first_add(meter.aggregate_state, pg_catalog.numeric, pg_catalog.timestamptz, pg_catalog.int8)
    IS 'transition of the aggregate meter.first with a tiebreak';

CREATE FUNCTION meter.last_combine(meter.aggregate_state, meter.aggregate_state)
    RETURNS meter.aggregate_state
    LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'meter_last_combine';
COMMENT ON FUNCTION meter.last_combine(meter.aggregate_state, meter.aggregate_state)
    IS 'combines two states of meter.last or meter.first';

CREATE FUNCTION meter.last_final(meter.aggregate_state) RETURNS pg_catalog.numeric
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'meter_last_final';
COMMENT ON FUNCTION meter.last_final(meter.aggregate_state) IS 'the result of a state of meter.last or meter.first';

CREATE AGGREGATE meter.sum_by(value pg_catalog.numeric, dimensions pg_catalog.jsonb, keys pg_catalog.text[]) (
    SFUNC = meter.sum_by_add,
    STYPE = meter.aggregate_state,
    SSPACE = 8192,
    COMBINEFUNC = meter.groups_combine,
    FINALFUNC = meter.groups_final,
    FINALFUNC_MODIFY = READ_ONLY,
    PARALLEL = SAFE
);
COMMENT ON AGGREGATE meter.sum_by(pg_catalog.numeric, pg_catalog.jsonb, pg_catalog.text[])
    IS 'exact sums for each combination of the dimensions named by keys';

CREATE AGGREGATE meter.count_by(dimensions pg_catalog.jsonb, keys pg_catalog.text[]) (
    SFUNC = meter.count_by_add,
    STYPE = meter.aggregate_state,
    SSPACE = 8192,
    COMBINEFUNC = meter.groups_combine,
    FINALFUNC = meter.groups_final,
    FINALFUNC_MODIFY = READ_ONLY,
    PARALLEL = SAFE
);
COMMENT ON AGGREGATE meter.count_by(pg_catalog.jsonb, pg_catalog.text[])
    IS 'the number of rows for each combination of the dimensions named by keys';

CREATE AGGREGATE meter.last_by(value pg_catalog.numeric, event_time pg_catalog.timestamptz,
                               dimensions pg_catalog.jsonb, keys pg_catalog.text[]) (
    SFUNC = meter.last_by_add,
    STYPE = meter.aggregate_state,
    SSPACE = 8192,
    COMBINEFUNC = meter.groups_combine,
    FINALFUNC = meter.groups_final,
    FINALFUNC_MODIFY = READ_ONLY,
    PARALLEL = SAFE
);
COMMENT ON AGGREGATE meter.last_by(pg_catalog.numeric, pg_catalog.timestamptz, pg_catalog.jsonb, pg_catalog.text[])
    IS 'the latest value for each combination of the dimensions named by keys; of equal times the greater value';

CREATE AGGREGATE meter.first_by(value pg_catalog.numeric, event_time pg_catalog.timestamptz,
                               dimensions pg_catalog.jsonb, keys pg_catalog.text[]) (
    SFUNC = meter.first_by_add,
    STYPE = meter.aggregate_state,
    SSPACE = 8192,
    COMBINEFUNC = meter.groups_combine,
    FINALFUNC = meter.groups_final,
    FINALFUNC_MODIFY = READ_ONLY,
    PARALLEL = SAFE
);
COMMENT ON AGGREGATE meter.first_by(pg_catalog.numeric, pg_catalog.timestamptz, pg_catalog.jsonb, pg_catalog.text[])
    IS 'the earliest value for each combination of the dimensions named by keys; of equal times the lesser value';

CREATE AGGREGATE meter.last(value pg_catalog.numeric, event_time pg_catalog.timestamptz) (
    SFUNC = meter.last_add,
    STYPE = meter.aggregate_state,
    SSPACE = 64,
    COMBINEFUNC = meter.last_combine,
    FINALFUNC = meter.last_final,
    FINALFUNC_MODIFY = READ_ONLY,
    PARALLEL = SAFE
);
COMMENT ON AGGREGATE meter.last(pg_catalog.numeric, pg_catalog.timestamptz)
    IS 'the value with the greatest event_time; of equal times the greater value';

CREATE AGGREGATE meter.last(value pg_catalog.numeric, event_time pg_catalog.timestamptz, tiebreak pg_catalog.int8) (
    SFUNC = meter.last_add,
    STYPE = meter.aggregate_state,
    SSPACE = 64,
    COMBINEFUNC = meter.last_combine,
    FINALFUNC = meter.last_final,
    FINALFUNC_MODIFY = READ_ONLY,
    PARALLEL = SAFE
);
COMMENT ON AGGREGATE meter.last(pg_catalog.numeric, pg_catalog.timestamptz, pg_catalog.int8)
    IS 'the value with the greatest event_time and, of equal times, the greatest tiebreak; then the greater value';

CREATE AGGREGATE meter.first(value pg_catalog.numeric, event_time pg_catalog.timestamptz) (
    SFUNC = meter.first_add,
    STYPE = meter.aggregate_state,
    SSPACE = 64,
    COMBINEFUNC = meter.last_combine,
    FINALFUNC = meter.last_final,
    FINALFUNC_MODIFY = READ_ONLY,
    PARALLEL = SAFE
);
COMMENT ON AGGREGATE meter.first(pg_catalog.numeric, pg_catalog.timestamptz)
    IS 'the value with the least event_time; of equal times the lesser value';

CREATE AGGREGATE meter.first(value pg_catalog.numeric, event_time pg_catalog.timestamptz, tiebreak pg_catalog.int8) (
    SFUNC = meter.first_add,
    STYPE = meter.aggregate_state,
    SSPACE = 64,
    COMBINEFUNC = meter.last_combine,
    FINALFUNC = meter.last_final,
    FINALFUNC_MODIFY = READ_ONLY,
    PARALLEL = SAFE
);
COMMENT ON AGGREGATE meter.first(pg_catalog.numeric, pg_catalog.timestamptz, pg_catalog.int8)
    IS 'the value with the least event_time and, of equal times, the least tiebreak; then the lesser value';
