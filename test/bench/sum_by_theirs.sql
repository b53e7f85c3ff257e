SELECT dimensions->>'model', dimensions->>'region', pg_catalog.sum(value) FROM sum_by_bench GROUP BY 1, 2;
