SELECT dimensions->>'model', dimensions->>'region', pg_catalog.sum(value) FROM {{table}} GROUP BY 1, 2;
