-- The aggregates in plans that combine partial states: the same results as in one process.
SET max_parallel_workers_per_gather = 2;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET enable_partitionwise_aggregate = on;
SET jit = off;
-- Which of the nodes that matter here a plan has.
CREATE FUNCTION agg_plan(query text) RETURNS TABLE (partial boolean, finalize boolean, parallel boolean) LANGUAGE plpgsql AS $$
DECLARE
    line text;
BEGIN
    partial := false;
    finalize := false;
    parallel := false;
    FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
        partial := partial OR line ~ 'Partial \w*Aggregate';
        finalize := finalize OR line ~ 'Finalize \w*Aggregate';
        parallel := parallel OR line ~ 'Parallel Seq Scan';
    END LOOP;
    RETURN NEXT;
END
$$;

CREATE TABLE agg_rows AS
SELECT i, CASE WHEN i % 13 > 0 THEN (hashint4(i) % 1000000) * CASE WHEN i % 5 = 0 THEN 1e25 ELSE 0.001 END END AS v,
       timestamptz '2026-01-01 00:00+00' + (i % 3) * interval '1 hour' AS t,  -- many ties
       CASE WHEN i % 41 > 0 THEN jsonb_strip_nulls(jsonb_build_object(
           'model', 'm' || i % 5, 'region', CASE i % 3 WHEN 0 THEN to_jsonb(1) WHEN 1 THEN to_jsonb(1.0) END,
           'nested', jsonb_build_array(i % 2, 1.50), 'noise', i % 1000)) END AS d, i % 10 AS g
FROM generate_series(1, 40000) AS i;
INSERT INTO agg_rows VALUES (0, 'NaN', '2026-01-01', '{"model":"nan"}', 3), (0, 'Infinity', '2026-01-01', '{"model":"inf"}', 3),
    (0, '-Infinity', '2026-01-01', '{"model":"nan2"}', 3), (0, 'Infinity', '2026-01-01', '{"model":"nan2"}', 4);
ANALYZE agg_rows;

CREATE VIEW agg_results AS
SELECT meter.sum_by(v, d, '{model,region,nested}') AS sums, meter.count_by(d, '{model,region,nested}') AS counts,
       meter.last_by(v, t, d, '{model,region,nested}') AS lasts, meter.last(v, t) AS last, meter.last(v, t, i) AS last3 FROM agg_rows;
SELECT * FROM agg_plan($$SELECT * FROM agg_results$$);
CREATE TABLE agg_parallel AS SELECT * FROM agg_results;
SET max_parallel_workers_per_gather = 0;
SELECT * FROM agg_plan($$SELECT * FROM agg_results$$);
CREATE TABLE agg_serial AS SELECT * FROM agg_results;
SELECT p = s AS same, jsonb_array_length(p.sums) AS groups FROM agg_parallel AS p, agg_serial AS s;
SET max_parallel_workers_per_gather = 2;

-- Against plain SQL.
SELECT e->'dimensions', e->'value' FROM agg_parallel, jsonb_array_elements(sums) AS e
EXCEPT
SELECT jsonb_build_object('model', d->'model', 'region', d->'region', 'nested', d->'nested'), to_jsonb(trim_scale(sum(v)))
FROM agg_rows GROUP BY d->'model', d->'region', d->'nested';
SELECT last = (SELECT trim_scale(v) FROM agg_rows WHERE v IS NOT NULL ORDER BY t DESC, v DESC LIMIT 1) AS last,
       last3 = (SELECT trim_scale(v) FROM agg_rows WHERE v IS NOT NULL ORDER BY t DESC, i DESC LIMIT 1) AS last3 FROM agg_parallel;

-- Ties: each plan, each time, the same row.
SELECT count(DISTINCT r) FROM generate_series(1, 10) AS n,
    LATERAL (SELECT ROW(meter.last(v, t), meter.last(v, t, 7), meter.last_by(v, t, d, '{region}'))::text AS r FROM agg_rows WHERE n > 0) AS s;
DO $$
DECLARE
    wanted jsonb;
    got jsonb;
BEGIN
    FOR workers IN 0..2 LOOP
        PERFORM set_config('max_parallel_workers_per_gather', workers::text, true);
        FOR n IN 1..5 LOOP
            SELECT meter.last_by(v, t, d, '{region}') INTO got FROM agg_rows;
            IF got IS DISTINCT FROM coalesce(wanted, got) THEN
                RAISE EXCEPTION 'workers %: % is not %', workers, got, wanted;
            END IF;
            wanted := got;
        END LOOP;
    END LOOP;
END
$$;

-- With GROUP BY, FILTER, and no row in some or all of the workers.
SELECT * FROM agg_plan($$SELECT g, meter.sum_by(v, d, '{model}') FILTER (WHERE v > 0), meter.last(v, t) FROM agg_rows GROUP BY g$$);
CREATE TEMP TABLE grouped AS SELECT g, meter.sum_by(v, d, '{model}') FILTER (WHERE v > 0) AS s, meter.last(v, t) AS l FROM agg_rows GROUP BY g;
SET max_parallel_workers_per_gather = 0;
SELECT count(*) FROM (SELECT g, meter.sum_by(v, d, '{model}') FILTER (WHERE v > 0), meter.last(v, t) FROM agg_rows GROUP BY g INTERSECT TABLE grouped) AS same;
SET max_parallel_workers_per_gather = 2;
SELECT meter.sum_by(v, d, '{model}') AS one, meter.last(v, t, i) AS last FROM agg_rows WHERE i = 20000;
SELECT meter.sum_by(v, d, '{model}') AS none, meter.last(v, t, i) AS last FROM agg_rows WHERE i < 0;
SELECT meter.sum_by(v, d, '{}') = jsonb_build_array(jsonb_build_object('dimensions', '{}'::jsonb, 'value', trim_scale(sum(v)))) AS empty_key FROM agg_rows WHERE i > 0;

-- An error in a worker, and keys that differ only between workers.
DO $$
BEGIN
    PERFORM meter.sum_by(v, to_jsonb(i), '{a}') FROM agg_rows;
    RAISE EXCEPTION 'no error';
EXCEPTION WHEN invalid_parameter_value THEN
    RAISE NOTICE '%', SQLERRM;
END
$$;
DO $$
BEGIN
    PERFORM meter.count_by(d, CASE WHEN i <= 20000 THEN '{model}'::text[] ELSE '{region}' END) FROM agg_rows;
    RAISE EXCEPTION 'no error';
EXCEPTION WHEN invalid_parameter_value THEN
    RAISE NOTICE 'keys that differ are refused';
END
$$;

-- By partition.
CREATE TABLE agg_parts (LIKE agg_rows) PARTITION BY RANGE (i);
CREATE TABLE agg_parts_1 PARTITION OF agg_parts FOR VALUES FROM (MINVALUE) TO (10000);
CREATE TABLE agg_parts_2 PARTITION OF agg_parts FOR VALUES FROM (10000) TO (30000);
CREATE TABLE agg_parts_3 PARTITION OF agg_parts FOR VALUES FROM (30000) TO (MAXVALUE);
INSERT INTO agg_parts TABLE agg_rows;
ANALYZE agg_parts;
SET max_parallel_workers_per_gather = 0;
SELECT * FROM agg_plan($$SELECT g, meter.sum_by(v, d, '{model,region}'), meter.last_by(v, t, d, '{model}'), meter.last(v, t) FROM agg_parts GROUP BY g$$);
SELECT count(*) FROM (
    SELECT g, meter.sum_by(v, d, '{model,region}'), meter.last_by(v, t, d, '{model}'), meter.count_by(d, '{nested}'), meter.last(v, t), meter.last(v, t, i) FROM agg_parts GROUP BY g
    INTERSECT
    SELECT g, meter.sum_by(v, d, '{model,region}'), meter.last_by(v, t, d, '{model}'), meter.count_by(d, '{nested}'), meter.last(v, t), meter.last(v, t, i) FROM agg_rows GROUP BY g) AS same;
-- Hashed and sorted groups, and groups that spill.
SET work_mem = '64kB';
SET enable_sort = off;
CREATE TEMP TABLE spilled AS SELECT i % 3000 AS k, meter.sum_by(v, d, '{model}') AS s, meter.last(v, t) AS l FROM agg_rows GROUP BY 1;
RESET work_mem;
SET enable_sort = on;
SET enable_hashagg = off;
SELECT count(*) FROM (TABLE spilled INTERSECT SELECT i % 3000 AS k, meter.sum_by(v, d, '{model}') AS s, meter.last(v, t) AS l FROM agg_rows GROUP BY 1) AS same;

DROP VIEW agg_results;
DROP TABLE agg_parallel, agg_serial, agg_parts, agg_rows;
DROP FUNCTION agg_plan(text);
