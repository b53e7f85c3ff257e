-- The aggregates first and first_by: the mirror images of last and last_by.
\pset null '(null)'
SET TIME ZONE 'UTC';

-- No rows, and rows without anything.
SELECT meter.first(v, t) AS first, meter.first(v, t, 1) AS first3, meter.first_by(v, t, '{}', '{a}') AS firsts
FROM (SELECT 1.0 AS v, now() AS t) AS none WHERE false;
SELECT meter.first(1, NULL) AS first, meter.first(NULL, now(), 1) AS first3, meter.first_by(1, NULL, NULL, '{a}') AS firsts;

-- Ties go to the lesser tiebreak, then the lesser value, in whatever order rows come. A row without a
-- tiebreak comes before those that have one.
SELECT meter.first(v, t ORDER BY o), meter.first(v, t ORDER BY o DESC), meter.first(v, t, b ORDER BY o), meter.first(v, t, b ORDER BY o DESC)
FROM (VALUES (1, 5.0, '-infinity'::timestamptz, 3::bigint), (2, 7.50, '-infinity', 2), (3, 8, '-infinity', 2), (4, 6, '-infinity', 4),
             (5, 1, 'infinity', 1), (6, NULL, '-infinity', 0), (7, 1000, NULL, 0)) AS s(o, v, t, b);
SELECT meter.first(v, t, b ORDER BY o), meter.first(v, t, b ORDER BY o DESC)
FROM (VALUES (1, 5.0, '-infinity'::timestamptz, -9223372036854775808), (2, 7.50, '-infinity', NULL)) AS s(o, v, t, b);
SELECT meter.first(v, '2026-01-01'), meter.first_by(v, '2026-01-01', '{}', '{}')
FROM (VALUES ('Infinity'::numeric), ('-Infinity'), ('NaN'), (1)) AS s(v);

CREATE TABLE first_rows AS
SELECT i, i % 7 AS g, CASE WHEN i % 11 > 0 THEN (i * 7919 % 1000) / 8.0 END AS v, '2026-01-01'::timestamptz + (i * 104729 % 97) * interval '1 minute' AS t,
    jsonb_build_object('model', 'm' || i % 3, 'region', CASE i % 4 WHEN 0 THEN NULL ELSE 'r' || i % 4 END) AS d
FROM generate_series(1, 20000) AS i;
ANALYZE first_rows;
CREATE VIEW first_answer AS SELECT g, meter.first(v, t) AS first, meter.first(v, t, i) AS first3, meter.first_by(v, t, d, '{model,region}') AS firsts FROM first_rows GROUP BY g;
CREATE VIEW first_plain AS
SELECT g, (array_agg(trim_scale(v) ORDER BY t, v) FILTER (WHERE v IS NOT NULL))[1] AS first, (array_agg(trim_scale(v) ORDER BY t, i) FILTER (WHERE v IS NOT NULL))[1] AS first3,
    (SELECT jsonb_agg(jsonb_build_object('dimensions', k, 'value', w) ORDER BY k -> 'model', k -> 'region') FROM (
        SELECT d AS k, (array_agg(trim_scale(v) ORDER BY t, v) FILTER (WHERE v IS NOT NULL))[1] AS w FROM first_rows AS r WHERE r.g = f.g GROUP BY d) AS x) AS firsts
FROM first_rows AS f GROUP BY g;
SELECT count(*), count(DISTINCT first) > 1 AS differ FROM first_answer;
SELECT g, first, first3 FROM first_answer EXCEPT SELECT g, first, first3 FROM first_plain;
SELECT count(*) FROM (SELECT g, e FROM first_answer, jsonb_array_elements(firsts) AS e EXCEPT SELECT g, e FROM first_plain, jsonb_array_elements(firsts) AS e) AS differing;
SELECT sum(jsonb_array_length(firsts)) AS groups FROM first_answer;
-- In parallel, the states travelling between processes.
CREATE TABLE first_serial AS TABLE first_answer;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET max_parallel_workers_per_gather = 2;
ALTER TABLE first_rows SET (parallel_workers = 2);
EXPLAIN (COSTS OFF) SELECT meter.first(v, t), meter.first(v, t, i), meter.first_by(v, t, d, '{model}') FROM first_rows;
TABLE first_answer EXCEPT TABLE first_serial;
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;
RESET max_parallel_workers_per_gather;
-- As a window, and per group.
SELECT i, meter.first(v, t) OVER w AS first, meter.first_by(v, t, d, '{model}') OVER w AS firsts FROM first_rows WHERE i < 6 WINDOW w AS (ORDER BY i);

-- States written out, read back, and combined; a state of last is none of first.
CREATE AGGREGATE first_state(numeric, timestamptz, bigint) (SFUNC = meter.first_add, STYPE = meter.aggregate_state);
CREATE AGGREGATE first_by_state(numeric, timestamptz, jsonb, text[]) (SFUNC = meter.first_by_add, STYPE = meter.aggregate_state);
CREATE AGGREGATE last_state(numeric, timestamptz, bigint) (SFUNC = meter.last_add, STYPE = meter.aggregate_state);
CREATE AGGREGATE merge_rows(meter.aggregate_state) (SFUNC = meter.last_combine, STYPE = meter.aggregate_state, FINALFUNC = meter.last_final);
CREATE AGGREGATE merge_groups(meter.aggregate_state) (SFUNC = meter.groups_combine, STYPE = meter.aggregate_state, FINALFUNC = meter.groups_final);
CREATE TABLE first_states AS SELECT g, first_state(v, t, i)::text AS one, first_by_state(v, t, d, '{model}')::text AS many, last_state(v, t, i)::text AS other FROM first_rows GROUP BY g;
SELECT merge_rows(one::meter.aggregate_state) = (SELECT meter.first(v, t, i) FROM first_rows) AS rows, merge_groups(many::meter.aggregate_state) = (SELECT meter.first_by(v, t, d, '{model}') FROM first_rows) AS groups,
    merge_rows(other::meter.aggregate_state) = (SELECT meter.last(v, t, i) FROM first_rows) AS last FROM first_states;
SELECT first_state(12345.5, '2000-01-01 00:00:01+00', 2), first_by_state(1, '2000-01-01', '{}', '{}') FROM (SELECT) AS one;
SELECT merge_rows(s::meter.aggregate_state) FROM first_states, unnest(ARRAY[one, other]) AS s;
SELECT merge_rows(s::meter.aggregate_state) FROM first_states, unnest(ARRAY[other, one]) AS s;
SELECT merge_rows(many::meter.aggregate_state) FROM first_states;
SELECT merge_groups(one::meter.aggregate_state) FROM first_states;
SELECT '\xa70109'::meter.aggregate_state;
SELECT meter.first_add(NULL, 1, now());
SELECT meter.first_by_add(NULL, 1, now(), '{}', '{}');

DROP VIEW first_answer, first_plain;
DROP TABLE first_rows, first_serial, first_states;
DROP AGGREGATE first_state(numeric, timestamptz, bigint), first_by_state(numeric, timestamptz, jsonb, text[]), last_state(numeric, timestamptz, bigint),
    merge_rows(meter.aggregate_state), merge_groups(meter.aggregate_state);
