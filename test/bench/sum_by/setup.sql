-- Two million events: values of a few decimals, dimensions of three or four members, some of which
-- the query does not group by. 36 groups by (model, region), 1,296 distinct objects.
DROP TABLE IF EXISTS sum_by_bench;
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
VACUUM (FREEZE, ANALYZE) sum_by_bench;
