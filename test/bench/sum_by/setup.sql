-- Two million events: values of a few decimals, dimensions of three or four members, some of which
-- the query does not group by. 36 groups by (model, region), 1,296 distinct objects; and once more with a
-- member that makes nearly every object another.
CREATE TABLE sum_by_bench AS
SELECT (i % 100000) / 100.0 AS value,
       pg_catalog.jsonb_build_object(
           'model', 'gpt-' || (i % 12),
           'region', (ARRAY['us', 'eu', 'ap'])[1 + i / 12 % 3],
           'status', 200 + i / 36 % 6)
       || CASE WHEN i / 216 % 6 = 0 THEN '{}'
               ELSE pg_catalog.jsonb_build_object('tier', 'tier-' || (i / 216 % 6)) END AS dimensions
FROM (SELECT (pg_catalog.hashint4(i) & 16777215) AS i
      FROM pg_catalog.generate_series(1, 2000000) AS i) AS r;
CREATE TABLE sum_by_distinct AS
SELECT value, dimensions || pg_catalog.jsonb_build_object('tier', 'tier-' || pg_catalog.hashint8(row_number() OVER ())) AS dimensions
FROM sum_by_bench;
VACUUM (FREEZE, ANALYZE);
