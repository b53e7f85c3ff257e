-- The aggregates over dimension JSONB: results, null handling, order, errors.
\pset null '(null)'
-- What a statement fails with.
CREATE FUNCTION pg_temp.error_of(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    hint text;
    detail text;
BEGIN
    EXECUTE statement;
    RETURN 'none';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(' | ', SQLSTATE, SQLERRM, nullif(detail, ''), nullif(hint, ''));
END
$$;

-- No rows, and rows without anything.
SELECT meter.sum_by(v, d, '{model}') AS sums, meter.count_by(d, '{model}') AS counts,
       meter.last_by(v, t, d, '{model}') AS lasts, meter.last(v, t) AS last, meter.last(v, t, 1) AS last3
FROM (SELECT 1.0 AS v, '{}'::jsonb AS d, now() AS t) AS none WHERE false;
SELECT meter.sum_by(NULL, NULL, '{model}') AS sums, meter.count_by(NULL, '{model}') AS counts,
       meter.last_by(1, NULL, NULL, '{model}') AS lasts, meter.last(1, NULL) AS last,
       meter.last(NULL, now(), 1) AS last3;

CREATE TEMP TABLE usage (v numeric, t timestamptz, d jsonb);
INSERT INTO usage VALUES
    (1.50,   '2026-01-01 00:00+00', '{"model":"gpt-4","region":"us"}'),
    (2.25,   '2026-01-01 00:01+00', '{"model":"gpt-4","region":"us","tier":"x"}'),
    (0.25,   '2026-01-01 00:02+00', '{"model":"gpt-4","region":"eu"}'),
    (10.00,  '2026-01-01 00:00+00', '{"model":"gpt-4"}'),
    (20,     '2026-01-01 00:00+00', '{"model":"gpt-4","region":null}'),
    (NULL,   '2026-01-01 00:09+00', '{"model":"gpt-5","region":"us"}'),
    (7,      NULL,                  '{"model":"gpt-6"}'),
    (-3.000, '2026-01-01 00:00+00', NULL);
SELECT jsonb_pretty(meter.sum_by(v, d, '{model,region}')) FROM usage;
SELECT jsonb_array_elements(meter.count_by(d, '{model,region}')) FROM usage;
SELECT jsonb_array_elements(meter.last_by(v, t, d, '{model,region}')) FROM usage;
SELECT meter.last(v, t), meter.last(v, t, 1) FROM usage;
-- The first key sorts first, whatever jsonb makes of the order of members.
SELECT jsonb_array_elements(meter.count_by(d, '{region,model}')) FROM usage;
-- No keys: one group.
SELECT meter.sum_by(v, d, '{}'), meter.count_by(d, '{}'), meter.last_by(v, t, d, '{}') FROM usage;
-- Keys that need escapes, and an empty one.
SELECT meter.count_by(x, ARRAY['', 'a"\', 'ä']) FROM (VALUES ('{"":1,"a\"\\":"\n","ä":"日本"}'::jsonb)) AS s(x);

-- Groups are equal as JSON is, and sort by type, then value.
CREATE TEMP TABLE json_values (j jsonb);
INSERT INTO json_values VALUES
    ('1'), ('1.0'), ('1.00e0'), ('"1"'), ('10'), ('9'), ('-1'), ('-10'), ('0'), ('-0.0'), ('0.5'), ('1e30'), ('1e-30'),
    ('-1e30'), ('12345678901234567890.123456789'), ('"a"'), ('"B"'), ('"aa"'), ('""'), ('"ä"'), ('true'), ('false'),
    ('null'), ('[1.0,2]'), ('[1,2.00]'), ('[2,1]'), ('[]'), ('{"x":{"y":1.0}}'), ('{"x":{"y":1}}'), ('{}'),
    ('[[1.50,{"b":"q\"","a":[true,null]}]]'), ('[[1.5,{"a":[true,null],"b":"q\""}]]');
SELECT e->'dimensions'->'k' AS k, e->'value' AS n
FROM jsonb_array_elements((SELECT meter.count_by(jsonb_build_object('k', j), '{k}') FROM json_values)) AS e;

-- The result is a well-formed jsonb: the one that its text says.
CREATE FUNCTION pg_temp.well_formed(result jsonb) RETURNS boolean LANGUAGE sql
    AS 'SELECT result = result::text::jsonb AND pg_column_size(result) = pg_column_size(result::text::jsonb)
               AND jsonb_hash(result) = jsonb_hash(result::text::jsonb)';
SELECT pg_temp.well_formed(meter.count_by(jsonb_build_object('k', j, 'longer', j), '{longer,k,none}')) FROM json_values;
SELECT pg_temp.well_formed(meter.sum_by(i, jsonb_build_object('k', i % n, 's', repeat('x', i % 7)), '{s,k}'))
FROM generate_series(1, 1000) AS i, unnest(ARRAY[1, 31, 32, 33, 100]) AS n GROUP BY n;
-- More members than an object has offsets for.
SELECT pg_temp.well_formed(r), jsonb_array_length(r), r->0->'dimensions'->'k57' AS k57
FROM (SELECT meter.count_by(d, k) AS r
      FROM (SELECT jsonb_object_agg('k' || i, i) AS d, array_agg('k' || i ORDER BY i DESC) AS k
            FROM generate_series(1, 100) AS i) AS s) AS s;

-- Sums are numeric's sums, for any numeric.
CREATE TEMP TABLE numbers (g int, v numeric);
INSERT INTO numbers VALUES
    (1, 'NaN'), (1, 1), (2, 'Infinity'), (2, 1), (3, '-Infinity'), (3, '-Infinity'), (4, 'Infinity'), (4, '-Infinity'),
    (5, 'NaN'), (5, 'Infinity'), (6, 9223372036854775807), (6, 1), (7, -9223372036854775808), (7, -1),
    (8, '1e131071'), (8, 1), (8, '-1e131071'), (9, '1e-16383'), (9, 1), (10, '1e-18'), (10, -1), (11, '1e-19'), (11, -1),
    (12, 0), (12, 0.000), (13, NULL), (14, 1.50), (14, -1.5), (15, '9e131071'), (15, '-8e131071'), (15, '1e-16383'),
    (16, 8e18), (16, 8e18), (17, -8e18), (17, -8e18), (17, 0.5);
INSERT INTO numbers
SELECT 100 + i % 50,
       (hashint4(i)::numeric * hashint4(-i) * CASE WHEN i % 50 < 10 THEN 1 ELSE 10::numeric ^ (i % 11) END)
           / (10::numeric ^ (i % 23))
FROM generate_series(1, 20000) AS i;
INSERT INTO numbers SELECT 200 + i % 20, (hashint4(i) % 1000000) / 100.0 FROM generate_series(1, 20000) AS i;
CREATE FUNCTION pg_temp.groups(result jsonb) RETURNS TABLE (g int, v numeric) LANGUAGE sql
    AS 'SELECT (e->''dimensions''->>''g'')::int, (e->>''value'')::numeric FROM jsonb_array_elements(result) AS e';
CREATE TEMP VIEW sums AS
    SELECT s.* FROM (SELECT meter.sum_by(v, jsonb_build_object('g', g), '{g}') AS r FROM numbers) AS a, pg_temp.groups(r) AS s;
SELECT count(*), count(v) FROM sums;
SELECT * FROM (SELECT g, trim_scale(sum(v)) AS v FROM numbers GROUP BY g) AS expected EXCEPT SELECT * FROM sums;
SELECT g, v FROM sums WHERE g < 8 OR g IN (10, 11, 12, 13, 14, 16, 17) ORDER BY g;
-- Trailing zeros are trimmed: their text is trim_scale's.
SELECT count(*) FROM sums WHERE v::text <> trim_scale(v)::text;
-- What is not finite is a string, as to_jsonb makes it.
SELECT meter.sum_by('NaN', '{}', '{}'), meter.sum_by('-Infinity', '{}', '{}'), to_jsonb('NaN'::numeric);
SELECT pg_temp.error_of($$SELECT meter.sum_by(v, '{}', '{}') FROM (VALUES ('9e131071'::numeric), ('9e131071')) AS s(v)$$);
SELECT meter.last('1e131071'::numeric, now()) = '1e131071', meter.last('-1e-16383'::numeric, now()) = '-1e-16383';
-- Packed, long-headed, compressed and external numerics are read alike.
CREATE TEMP TABLE stored (v numeric, d jsonb);
INSERT INTO stored SELECT x, jsonb_build_object('g', 1, 'pad', repeat('x', 3000)) FROM numbers, LATERAL (SELECT v) AS s(x) WHERE g IN (6, 8, 9, 10, 14);
ALTER TABLE stored ALTER v SET STORAGE EXTERNAL;
INSERT INTO stored SELECT * FROM stored;
INSERT INTO stored SELECT sum(v), '{"g":1}' FROM numbers WHERE g IN (8, 9);
INSERT INTO stored SELECT ('3' || repeat('1234567', 5000))::numeric, jsonb_build_object('g', 1, 'pad', string_agg(md5(i::text), '')) FROM generate_series(1, 300) AS i;
SELECT ((meter.sum_by(v, d, '{g}'))->0->>'value')::numeric = sum(v) FROM stored;
SELECT meter.last(v, now()) = max(v), (meter.last_by(v, now(), d, '{g}')->0->>'value')::numeric = max(v) FROM stored;

-- Many dimensions: against GROUP BY, with values that come as every JSON type.
CREATE TEMP TABLE many AS
SELECT i, CASE WHEN i % 17 > 0 THEN (hashint4(i) % 100000) / 1000.0 END AS v,
       timestamptz '2026-01-01 00:00+00' + (hashint4(i) % 500) * interval '1 second' AS t,
       CASE WHEN i % 97 > 0 THEN jsonb_strip_nulls(jsonb_build_object(
           'a', CASE i % 7 WHEN 0 THEN to_jsonb(i % 5) WHEN 1 THEN to_jsonb((i % 5)::text) WHEN 2 THEN to_jsonb((i % 5)::numeric(10, 2))
                           WHEN 3 THEN to_jsonb(i % 2 = 0) WHEN 4 THEN jsonb_build_array((i % 3)::numeric(10, 1)) WHEN 5 THEN jsonb_build_array(i % 3) END,
           'b', 'b' || i % 11)) || jsonb_build_object('noise', i % 3000) END AS d
FROM generate_series(1, 30000) AS i;
CREATE TEMP VIEW many_expected AS
SELECT coalesce(d->'a', 'null') AS a, coalesce(d->'b', 'null') AS b, trim_scale(sum(v)) AS total, count(*) AS n,
       trim_scale((array_agg(v ORDER BY t DESC, v DESC) FILTER (WHERE v IS NOT NULL AND t IS NOT NULL))[1]) AS latest
FROM many GROUP BY 1, 2;
CREATE TEMP VIEW many_got AS
SELECT es->'dimensions'->'a' AS a, es->'dimensions'->'b' AS b, (es->>'value')::numeric AS total, (ec->>'value')::bigint AS n,
       (el->>'value')::numeric AS latest, es->'dimensions' = ec->'dimensions' AND es->'dimensions' = el->'dimensions' AS same_order
FROM (SELECT meter.sum_by(v, d, '{a,b}') AS s, meter.count_by(d, '{a,b}') AS c, meter.last_by(v, t, d, '{a,b}') AS l FROM many) AS r,
     ROWS FROM (jsonb_array_elements(s), jsonb_array_elements(c), jsonb_array_elements(l)) AS x(es, ec, el);
SELECT count(*) FROM many_got;
SELECT * FROM many_expected EXCEPT SELECT a, b, total, n, latest FROM many_got WHERE same_order;
SELECT a, b, total, n, latest FROM many_got EXCEPT SELECT * FROM many_expected;
-- Sorted by a, then b.
SELECT bool_and(ordered) FROM (
    SELECT (lag(r) OVER w, lag(s) OVER w COLLATE "C", lag(b) OVER w COLLATE "C") < (r, s COLLATE "C", b COLLATE "C") AS ordered
    FROM (SELECT ordinality, b#>>'{}' AS b,
                 CASE jsonb_typeof(a) WHEN 'null' THEN 0 WHEN 'string' THEN 1 WHEN 'number' THEN 2 WHEN 'boolean' THEN 3 ELSE 4 END AS r,
                 coalesce(a#>>'{}', '') AS s
          FROM (SELECT e->'dimensions'->'a' AS a, coalesce(nullif(e->'dimensions'->'b', 'null'), '""') AS b, ordinality
                FROM jsonb_array_elements((SELECT meter.count_by(d, '{a,b}') FROM many)) WITH ORDINALITY AS x(e, ordinality)) AS y) AS z
    WINDOW w AS (ORDER BY ordinality)) AS o;
SELECT pg_temp.well_formed(meter.last_by(v, t, d, '{a,b,noise}')) FROM many;

-- Last: ties go to the greater tiebreak, then the greater value, in whatever order rows come.
SELECT meter.last(v, t ORDER BY o), meter.last(v, t ORDER BY o DESC), meter.last(v, t, b ORDER BY o), meter.last(v, t, b ORDER BY o DESC)
FROM (VALUES (1, 5.0, 'infinity'::timestamptz, 1::bigint), (2, 7.50, 'infinity', 2), (3, 9, 'infinity', NULL), (4, 6, 'infinity', 2),
             (5, 99, '-infinity', 100), (6, NULL, 'infinity', 9), (7, 1000, NULL, 1000)) AS s(o, v, t, b);
SELECT meter.last(v, '2026-01-01'), meter.last_by(v, '2026-01-01', '{}', '{}')
FROM (VALUES ('Infinity'::numeric), ('-Infinity'), ('NaN'), (1)) AS s(v);
SELECT meter.last(v, t) AS last,
       meter.last(v, t) = (SELECT trim_scale(v) FROM many WHERE v IS NOT NULL ORDER BY t DESC, v DESC LIMIT 1) AS agrees,
       meter.last(v, t, -i) = (SELECT trim_scale(v) FROM many WHERE v IS NOT NULL ORDER BY t DESC, i LIMIT 1) AS agrees3 FROM many;

-- FILTER, DISTINCT, ORDER BY, GROUP BY, grouping sets, subqueries.
SELECT meter.sum_by(v, d, '{model}') FILTER (WHERE v > 1) AS filtered, meter.sum_by(DISTINCT v, '{}', '{}') AS once,
       meter.count_by(d, '{model}' ORDER BY v) AS ordered FROM (TABLE usage UNION ALL TABLE usage) AS twice;
SELECT d->>'region' AS region, meter.sum_by(v, d, '{model}') FROM usage GROUP BY 1 ORDER BY 1;
SELECT grouping(m) AS grouping, m, meter.count_by(d, '{region}') FROM (SELECT d->>'model' AS m, d FROM usage) AS u GROUP BY ROLLUP (m) ORDER BY 1, 2;
SELECT jsonb_array_length(s) AS groups, (SELECT meter.sum_by(x, '{}', '{}') FROM generate_series(1, n) AS x) AS inner_sum
FROM (SELECT meter.sum_by(v, d, '{model}') AS s, count(*) AS n FROM usage) AS u;
SELECT meter.sum_by(total, d, '{a}') FROM (
    SELECT (e->>'value')::numeric AS total, e->'dimensions' AS d
    FROM jsonb_array_elements((SELECT meter.sum_by(v, d, '{a,b}') FROM many WHERE d->'a' ? '1')) AS e) AS again;

-- As window functions: the final function runs for each row and leaves the state alone.
SELECT meter.sum_by(i, jsonb_build_object('k', i % 2), '{k}') OVER w AS sums, meter.count_by('{}', '{}') OVER w AS counts,
       meter.last(i, t) OVER w AS last, meter.last_by(-i, t, jsonb_build_object('k', i % 2), '{k}') OVER w AS lasts
FROM (SELECT i, timestamptz '2026-01-01' + i * interval '1s' AS t FROM generate_series(1, 6) AS i) AS s WINDOW w AS (ORDER BY i);
SELECT count(*) FILTER (WHERE got IS DISTINCT FROM wanted) AS wrong
FROM (SELECT (meter.sum_by(v, '{}', '{}') OVER w)->0->'value' AS got, coalesce(to_jsonb(trim_scale(sum(v) OVER w)), 'null') AS wanted
      FROM many WHERE i <= 2000 WINDOW w AS (ORDER BY i ROWS BETWEEN 10 PRECEDING AND 3 FOLLOWING)) AS s;
SELECT count(*) FILTER (WHERE got IS DISTINCT FROM wanted) AS wrong
FROM (SELECT meter.last(v, t) OVER w AS got, (SELECT meter.last(v, t) FROM many AS n WHERE n.i <= m.i AND n.i % 5 = m.i % 5) AS wanted
      FROM many AS m WHERE i <= 300 WINDOW w AS (PARTITION BY i % 5 ORDER BY i)) AS s;

-- Keys may be written in several ways, as long as they say the same.
SELECT meter.count_by('{"a":1}', k) FROM (VALUES ('{a}'::text[]), ('[5:5]={a}'), (array_remove('{a,NULL}', NULL)), (array_append(NULL, 'a'))) AS s(k);
-- Errors.
SELECT pg_temp.error_of($$SELECT meter.sum_by(1, '{}', NULL)$$);
SELECT pg_temp.error_of($$SELECT meter.count_by('{}', '{a,NULL}')$$);
SELECT pg_temp.error_of($$SELECT meter.count_by('{}', '{a,b,a}')$$);
SELECT pg_temp.error_of($$SELECT meter.count_by('{}', '{{a},{b}}')$$);
SELECT pg_temp.error_of($$SELECT meter.count_by('{}', k) FROM (VALUES ('{a}'::text[]), ('{b}')) AS s(k)$$);
SELECT pg_temp.error_of($$SELECT meter.count_by('{}', k) FROM (VALUES ('{a}'::text[]), ('{a,b}')) AS s(k)$$);
SELECT pg_temp.error_of($$SELECT meter.count_by('{}', k) FROM (VALUES ('{}'::text[]), ('{a}')) AS s(k)$$);
SELECT pg_temp.error_of($$SELECT meter.last_by(1, now(), '{}', k) FROM (VALUES ('{a}'::text[]), (NULL)) AS s(k)$$);
SELECT pg_temp.error_of($$SELECT meter.count_by('{}', (SELECT array_agg(i::text) FROM generate_series(1, 1001) AS i))$$);
SELECT pg_temp.error_of($$SELECT meter.sum_by(1, '[]', '{a}')$$);
SELECT pg_temp.error_of($$SELECT meter.sum_by(1, '"x"', '{a}')$$);
SELECT pg_temp.error_of($$SELECT meter.sum_by(1, 'null', '{}')$$);
-- Outside an aggregate.
SELECT pg_temp.error_of($$SELECT meter.sum_by_add(NULL, 1, '{}', '{}')$$);
SELECT pg_temp.error_of($$SELECT meter.count_by_add(NULL, '{}', '{}')$$);
SELECT pg_temp.error_of($$SELECT meter.last_by_add(NULL, 1, now(), '{}', '{}')$$);
SELECT pg_temp.error_of($$SELECT meter.last_add(NULL, 1, now())$$);
SELECT pg_temp.error_of($$SELECT meter.groups_combine(NULL, NULL)$$);
SELECT pg_temp.error_of($$SELECT meter.last_combine(NULL, NULL)$$);
SELECT meter.groups_final(NULL), meter.last_final(NULL);
