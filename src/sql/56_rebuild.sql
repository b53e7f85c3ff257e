-- Checking the rollups against the events, and making them anew.

CREATE FUNCTION meter.dimensions_digest(dimensions jsonb) RETURNS uuid
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'meter_dimensions_digest';
REVOKE ALL ON FUNCTION meter.dimensions_digest(jsonb) FROM PUBLIC;
COMMENT ON FUNCTION meter.dimensions_digest(jsonb) IS
'the first 16 bytes of SHA-256 of an event''s dimensions in canonical form: what cells are keyed by';

CREATE FUNCTION meter.rebuild(
    period_start timestamptz,
    period_end timestamptz,
    event_name text DEFAULT NULL
) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'meter_rebuild';
REVOKE ALL ON FUNCTION meter.rebuild(timestamptz, timestamptz, text) FROM PUBLIC;
COMMENT ON FUNCTION meter.rebuild(timestamptz, timestamptz, text) IS
'makes the rollups of the UTC months that a period touches anew from the events, for one meter or for all of the org, while events are recorded and queried; returns how many events there are';

CREATE FUNCTION meter.leave_out(event_name text, dimension text DEFAULT NULL) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'meter_leave_out';
REVOKE ALL ON FUNCTION meter.leave_out(text, text) FROM PUBLIC;
COMMENT ON FUNCTION meter.leave_out(text, text) IS
'keeps a dimension, or all, out of a meter''s rollups from now on: there are fewer cells, and questions about it are answered from the events';

CREATE FUNCTION meter.take_in(event_name text, dimension text DEFAULT NULL) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'meter_take_in';
REVOKE ALL ON FUNCTION meter.take_in(text, text) FROM PUBLIC;
COMMENT ON FUNCTION meter.take_in(text, text) IS
'takes a dimension, or all, into a meter''s rollups for good; where it was left out, makes all of the meter''s rollups anew from the events, and returns how many there are';

CREATE FUNCTION meter.open_generations() RETURNS integer[]
LANGUAGE c STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'meter_open_generations';
REVOKE ALL ON FUNCTION meter.open_generations() FROM PUBLIC;
COMMENT ON FUNCTION meter.open_generations() IS
'the generations of meter.rollup_pending that queries look at';

CREATE FUNCTION meter.may_verify(period_start timestamptz, period_end timestamptz, event_name text)
RETURNS boolean
LANGUAGE c VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'meter_may_verify';
REVOKE ALL ON FUNCTION meter.may_verify(timestamptz, timestamptz, text) FROM PUBLIC;
COMMENT ON FUNCTION meter.may_verify(timestamptz, timestamptz, text) IS
'true, or an error: meter.verify checks its arguments by it, and that the events are all there';

-- One statement, so that cells, deltas and events are those of one snapshot.
CREATE FUNCTION meter.verify(
    period_start timestamptz,
    period_end timestamptz,
    event_name text DEFAULT NULL
) RETURNS TABLE (
    event_name text,
    grain "char",
    start timestamptz,
    user_id text,
    dimensions jsonb,
    expected jsonb,
    actual jsonb
)
LANGUAGE sql STABLE PARALLEL UNSAFE ROWS 10
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
-- To compile a statement of this length takes longer than it saves, and cannot be cancelled.
SET jit = off
AS $$
WITH meters AS MATERIALIZED (
    SELECT m.id, m.event_name, COALESCE(l.left_out, '{}') AS left_out, COALESCE(l.kept, '{}') AS kept
    FROM meter.meter m LEFT JOIN meter.rollup_meter l ON l.meter_id = m.id
    WHERE m.org = COALESCE(current_setting('meter.org', true), 'default')
      AND (verify.event_name IS NULL OR m.event_name = verify.event_name)
), months AS MATERIALIZED (
    SELECT date_trunc('month', period_start) AS start,
           CASE WHEN date_trunc('month', period_end) = period_end THEN period_end
                ELSE date_trunc('month', period_end) + interval '1 month' END AS stop
), events AS MATERIALIZED (
    -- Without what the rollups leave out, like all that follows: cells from before it was left out
    -- have it still, and are right all the same.
    SELECT e.meter_id, e.user_id, meter.dimensions_digest(k.dimensions) AS digest, k.dimensions,
           e."timestamp" AS at, e.id, e.value, d.days_from,
           meter.event_digest(e.id, e."timestamp", e.value, e.dimensions) AS g
    FROM months, meters m JOIN meter.meter_event e ON e.meter_id = m.id LEFT JOIN meter.rollup_days d
        ON d.meter_id = e.meter_id AND d.month = date_trunc('month', e."timestamp") AND d.user_id = e.user_id,
        LATERAL (SELECT
        CASE WHEN m.left_out = '{}' THEN e.dimensions WHEN '' = ANY (m.left_out)
        THEN (SELECT COALESCE(jsonb_object_agg(d.key, d.value), '{}') FROM jsonb_each(e.dimensions) AS d
              WHERE d.key = ANY (m.kept)) ELSE e.dimensions - m.left_out END AS dimensions) AS k
    WHERE e."timestamp" >= months.start AND e."timestamp" < months.stop AND period_start < period_end
      AND NOT EXISTS (SELECT FROM meter.event_void v WHERE v.user_id = e.user_id AND v.meter_id = e.meter_id
                      AND v.event_timestamp = e."timestamp" AND v.event_id = e.id)
), pending AS MATERIALIZED (
    SELECT p.meter_id, p.user_id, CASE WHEN m.left_out = '{}' THEN p.digest
           ELSE meter.dimensions_digest(k.dimensions) END AS digest, k.dimensions, p.event_count AS n, p.value_sum AS s,
           COALESCE(p.value_min, p.value_sum) AS lo, COALESCE(p.value_max, p.value_sum) AS hi,
           COALESCE(p.last_value, p.value_sum) AS v, p.first_timestamp AS first,
           COALESCE(p.last_timestamp, p.first_timestamp) AS last, p.last_id AS id,
           date_trunc('hour', p.first_timestamp) AS hour,
           COALESCE(p.value_time, p.value_sum * (1000000 *
               extract(epoch FROM p.first_timestamp - date_trunc('hour', p.first_timestamp)))) AS t,
           d.days_from,
           COALESCE(p.event_digest, meter.event_digest(p.last_id, p.first_timestamp, p.value_sum, p.dimensions)) AS g,
           p.dirty IS TRUE OR p.voided IS TRUE AS dirty
    FROM months, meters m JOIN meter.rollup_pending p ON p.meter_id = m.id LEFT JOIN meter.rollup_days d
        ON d.meter_id = p.meter_id AND d.month = date_trunc('month', p.first_timestamp) AND d.user_id = p.user_id,
        LATERAL (SELECT
        CASE WHEN m.left_out = '{}' THEN p.dimensions WHEN '' = ANY (m.left_out)
        THEN (SELECT COALESCE(jsonb_object_agg(d.key, d.value), '{}') FROM jsonb_each(p.dimensions) AS d
              WHERE d.key = ANY (m.kept)) ELSE p.dimensions - m.left_out END AS dimensions) AS k
    WHERE p.first_timestamp >= months.start AND p.first_timestamp < months.stop
      AND period_start < period_end
      -- No query looks at a closed generation: what is left there is missing.
      AND p.generation = ANY ((SELECT meter.open_generations())::integer[])
), wanted AS (
    -- What the cells have to be, by each grain.
    SELECT g.grain, g.total, e.meter_id, CASE WHEN NOT g.total THEN e.user_id END AS user_id, e.digest,
           date_trunc(g.unit, e.at) AS start, e.dimensions, count(*) AS n, sum(e.value) AS s,
           min(e.value) AS lo, max(e.value) AS hi, meter.last(e.value, e.at, e.id) AS v,
           min(e.at) AS first, max(e.at) AS last,
           sum(e.value * (1000000 * extract(epoch FROM e.at - date_trunc(g.unit, e.at)))) AS t,
           meter.sum_digests(e.g) AS g
    FROM events e, (VALUES ('m'::"char", 'month', false), ('m', 'month', true), ('d', 'day', false),
                           ('d', 'day', true), ('h', 'hour', false), ('h', 'hour', true))
                   AS g (grain, unit, total)
    WHERE g.grain = 'm' OR g.total OR e.days_from <= e.at
    GROUP BY 1, 2, 3, 4, 5, 6, 7
), cells AS (
    SELECT false AS total, r.meter_id, r.user_id, r.grain, r.start, r.digest, r.dimensions, r.event_count,
           r.value_sum, r.value_min, r.value_max, r.last_value, r.first_timestamp, r.last_timestamp,
           r.last_id, r.value_time, r.hours, r.event_digest, r.dirty FROM meter.rollup r
    UNION ALL
    SELECT true, r.meter_id, NULL, r.grain, r.start, r.digest, r.dimensions, r.event_count,
           r.value_sum, r.value_min, r.value_max, r.last_value, r.first_timestamp, r.last_timestamp,
           r.last_id, r.value_time, r.hours, r.event_digest, r.dirty FROM meter.rollup_total r
), stored AS (
    SELECT r.total, r.meter_id, r.user_id, r.grain, r.start, r.event_count, r.value_sum, r.value_min,
           r.value_max, r.last_value, r.first_timestamp, r.last_timestamp, r.last_id, r.value_time,
           r.hours, r.event_digest, r.dirty, k.dimensions,
           -- A digest that is not that of the cell's dimensions is to be seen.
           CASE WHEN m.left_out = '{}' OR r.digest <> meter.dimensions_digest(r.dimensions)
               THEN r.digest ELSE meter.dimensions_digest(k.dimensions) END AS digest
    FROM months, meters m JOIN cells r ON r.meter_id = m.id, LATERAL (SELECT
        CASE WHEN m.left_out = '{}' THEN r.dimensions WHEN '' = ANY (m.left_out)
        THEN (SELECT COALESCE(jsonb_object_agg(d.key, d.value), '{}') FROM jsonb_each(r.dimensions) AS d
              WHERE d.key = ANY (m.kept)) ELSE r.dimensions - m.left_out END AS dimensions) AS k
    WHERE r.start >= months.start AND r.start < months.stop AND period_start < period_end
), parts AS (
    -- Cells, their hours, and the deltas that belong to each.
    SELECT r.grain, r.total, r.meter_id, r.user_id, r.digest, r.start, r.dimensions, r.event_count AS n,
           r.value_sum AS s, r.value_min AS lo, r.value_max AS hi, r.last_value AS v,
           r.first_timestamp AS first, r.last_timestamp AS last, r.last_id AS id, r.value_time AS t,
           r.event_digest AS g, r.dirty
    FROM stored r
    UNION ALL
    SELECT 'h', r.total, r.meter_id, r.user_id, r.digest, h.start, r.dimensions, h.event_count,
           h.value_sum, h.value_min, h.value_max, h.last_value, NULL, h.last_timestamp, h.last_id, NULL,
           NULL, r.dirty
    FROM stored r, meter.cell_hours(r.start, r.first_timestamp, r.last_timestamp, r.event_count,
         r.last_id, r.value_sum, r.value_min, r.value_max, r.last_value, r.hours) AS h
    WHERE r.grain = 'd'
    UNION ALL
    SELECT g.grain, g.total, p.meter_id, CASE WHEN NOT g.total THEN p.user_id END, p.digest,
           date_trunc(g.unit, p.hour), p.dimensions, p.n, p.s, p.lo, p.hi, p.v, p.first, p.last, p.id,
           p.t + p.s * (1000000 * extract(epoch FROM p.hour - date_trunc(g.unit, p.hour))), p.g, p.dirty
    FROM pending p, (VALUES ('m'::"char", 'month', false), ('m', 'month', true), ('d', 'day', false),
                            ('d', 'day', true), ('h', 'hour', false), ('h', 'hour', true))
                    AS g (grain, unit, total)
    WHERE g.grain = 'm' OR g.total OR p.days_from <= p.hour
), found AS (
    SELECT p.grain, p.total, p.meter_id, p.user_id, p.digest, p.start, p.dimensions, sum(p.n)::bigint AS n,
           sum(p.s) AS s, min(p.lo) AS lo, max(p.hi) AS hi, meter.last(p.v, p.last, p.id) AS v,
           min(p.first) AS first, max(p.last) AS last, sum(p.t) AS t, meter.sum_digests(p.g) AS g,
           bool_or(p.dirty) AS dirty
    FROM parts p GROUP BY 1, 2, 3, 4, 5, 6, 7
    -- Of a cell all of whose events are voided nothing is left but a row.
    HAVING sum(p.n) <> 0 OR sum(p.s) <> 0 OR (p.grain <> 'h' AND (sum(p.t) <> 0
        OR meter.sum_digests(p.g) <> '00000000-0000-0000-0000-000000000000'))
), summary AS (
    SELECT s.meter_id, s.month AS start, sum(s.n)::bigint AS n, min(s.first) AS first, max(s.last) AS last,
           bool_or(s.dirty) AS dirty
    FROM (SELECT r.meter_id, r.month, r.event_count AS n, r.first_timestamp AS first, r.last_timestamp AS last, r.dirty
          FROM months, meter.rollup_month r WHERE r.month >= months.start AND r.month < months.stop
           AND period_start < period_end
          UNION ALL
          SELECT p.meter_id, date_trunc('month', p.hour), p.n, p.first, p.last, p.dirty FROM pending p) AS s
    GROUP BY 1, 2
    HAVING sum(s.n) <> 0
)
SELECT NULL, NULL::"char", NULL, NULL, NULL::jsonb, NULL::jsonb, NULL::jsonb
WHERE NOT meter.may_verify(period_start, period_end, verify.event_name)
UNION ALL
SELECT m.event_name, grain, start, COALESCE(w.user_id, f.user_id), COALESCE(w.dimensions, f.dimensions),
       CASE WHEN w.n IS NOT NULL THEN jsonb_build_object('count', w.n, 'sum', w.s, 'min', w.lo, 'max', w.hi,
           'last', w.v, 'first_timestamp', w.first, 'last_timestamp', w.last, 'value_time', w.t, 'digest', w.g) END,
       CASE WHEN f.n IS NOT NULL THEN jsonb_build_object('count', f.n, 'sum', f.s, 'min', f.lo, 'max', f.hi,
           'last', f.v, 'first_timestamp', f.first, 'last_timestamp', f.last, 'value_time', f.t, 'digest', f.g) END
FROM (SELECT w.*, COALESCE(w.user_id, '') AS u FROM wanted w) AS w
FULL JOIN (SELECT f.*, COALESCE(f.user_id, '') AS u FROM found f) AS f
    USING (grain, total, meter_id, digest, start, u)
JOIN meters m ON m.id = meter_id
WHERE w.dimensions IS DISTINCT FROM f.dimensions OR w.n IS DISTINCT FROM f.n OR w.s IS DISTINCT FROM f.s
   OR (grain <> 'h' AND (w.t IS DISTINCT FROM f.t OR w.g IS DISTINCT FROM f.g))
   -- A dirty cell does not claim to know the rest, but for bounds of the times.
   OR (f.dirty IS NOT TRUE AND (w.lo IS DISTINCT FROM f.lo OR w.hi IS DISTINCT FROM f.hi OR w.v IS DISTINCT FROM f.v
       OR w.last IS DISTINCT FROM f.last OR (grain <> 'h' AND w.first IS DISTINCT FROM f.first)))
   OR w.last > f.last OR (grain <> 'h' AND w.first < f.first)
UNION ALL
SELECT m.event_name, 's', start, NULL, NULL,
       CASE WHEN w.n IS NOT NULL THEN jsonb_build_object('count', w.n, 'first_timestamp', w.first, 'last_timestamp', w.last) END,
       CASE WHEN f.n IS NOT NULL THEN jsonb_build_object('count', f.n, 'first_timestamp', f.first, 'last_timestamp', f.last) END
FROM (SELECT e.meter_id, date_trunc('month', e.at) AS start, count(*) AS n, min(e.at) AS first, max(e.at) AS last
      FROM events e GROUP BY 1, 2) AS w
FULL JOIN summary f USING (meter_id, start)
JOIN meters m ON m.id = meter_id
WHERE w.n IS DISTINCT FROM f.n OR w.last > f.last OR w.first < f.first
   OR (f.dirty IS NOT TRUE AND (w.first IS DISTINCT FROM f.first OR w.last IS DISTINCT FROM f.last))
ORDER BY 1, 2, 3, 4, 5, 6
$$;
REVOKE ALL ON FUNCTION meter.verify(timestamptz, timestamptz, text) FROM PUBLIC;
COMMENT ON FUNCTION meter.verify(timestamptz, timestamptz, text) IS
'every cell, of the UTC months that a period touches, that differs from what the events add up to: no row is exact; grain h is an hour within a day''s cell, s a row of meter.rollup_month, and a null user_id a total';
