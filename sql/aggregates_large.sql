-- slow
-- A million groups, against GROUP BY.
SET work_mem = '256MB';
SET max_parallel_workers_per_gather = 0;
SET jit = off;
CREATE TEMP TABLE large AS
SELECT jsonb_build_object('u', 'user-' || i % 1000000) AS d, i / 100.0 AS v FROM generate_series(1, 1000000) AS i;
CREATE TEMP TABLE large_groups AS
SELECT e->'dimensions'->>'u' AS u, (e->>'value')::numeric AS v, ordinality
FROM jsonb_array_elements((SELECT meter.sum_by(v, d, '{u}') FROM large)) WITH ORDINALITY AS x(e, ordinality);
SELECT count(*) AS groups, count(*) FILTER (WHERE g.v = e.v) AS right_sums
FROM large_groups AS g JOIN (SELECT d->>'u' AS u, sum(v) AS v FROM large GROUP BY 1) AS e USING (u);
SELECT count(*) AS out_of_order
FROM (SELECT u COLLATE "C" < lag(u) OVER (ORDER BY ordinality) COLLATE "C" AS wrong FROM large_groups) AS o WHERE wrong;
-- What the result has no room for is an error, not a crash.
SELECT meter.count_by(jsonb_build_object('x', repeat('x', 3000000) || i), '{x}') FROM generate_series(1, 90) AS i;
