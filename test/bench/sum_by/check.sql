-- Two million rows, and the same groups with the same sums.
SELECT (SELECT count(*) = 2000000 FROM {{table}})
    AND (SELECT jsonb_object_agg(concat_ws('/', g->'dimensions'->>'model', g->'dimensions'->>'region'), g->'value')
         FROM jsonb_array_elements((SELECT meter.sum_by(value, dimensions, '{model,region}') FROM {{table}})) AS g)
      = (SELECT jsonb_object_agg(concat_ws('/', model, region), total)
         FROM (SELECT dimensions->>'model' AS model, dimensions->>'region' AS region, sum(value) AS total
               FROM {{table}} GROUP BY 1, 2) AS t);
