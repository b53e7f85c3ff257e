-- A million groups, against GROUP BY.
SET work_mem = '256MB';
SET max_parallel_workers_per_gather = 0;
CREATE TEMP TABLE large AS
SELECT jsonb_build_object('user', 'user-' || i % 1000000, 'n', i % 1000) AS d, (i % 1000000) / 100.0 AS v FROM generate_series(1, 1000000) AS i;
CREATE TEMP TABLE large_groups AS
SELECT e->'dimensions'->>'user' AS u, (e->'dimensions'->>'n')::int AS n, (e->>'value')::numeric AS v, ordinality
FROM jsonb_array_elements((SELECT meter.sum_by(v, d, '{user,n}') FROM large)) WITH ORDINALITY AS x(e, ordinality);
SELECT count(*) FROM large_groups;
SELECT count(*) FROM large_groups AS g FULL JOIN (SELECT d->>'user' AS u, (d->>'n')::int AS n, sum(v) AS v FROM large GROUP BY 1, 2) AS e
    ON (g.u, g.n, g.v) = (e.u, e.n, e.v) WHERE g.u IS NULL OR e.u IS NULL;
SELECT count(*) AS out_of_order FROM (SELECT u COLLATE "C" < lag(u) OVER (ORDER BY ordinality) COLLATE "C" AS wrong FROM large_groups) AS o WHERE wrong;
-- What the result has no room for is an error, not a crash.
SELECT meter.count_by(jsonb_build_object('x', repeat('x', 300000) || i), '{x}') FROM generate_series(1, 900) AS i;
