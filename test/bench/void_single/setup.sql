-- Events of this month with keys k1, k2, ...; each void takes the next.
SELECT count(*) FROM meter.create_partitions();
SELECT FROM meter.create_meter('tokens', dimensions => '{model,region,status}');
CREATE SEQUENCE next_ours;
CREATE SEQUENCE next_theirs;
CREATE SCHEMA hand;
CREATE TABLE hand.usage_event (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    meter_id bigint NOT NULL,
    user_id text NOT NULL,
    value numeric NOT NULL,
    "timestamp" timestamptz NOT NULL,
    idempotency text,
    dimensions jsonb NOT NULL,
    metadata jsonb NOT NULL,
    recorded_at timestamptz NOT NULL,
    voided_at timestamptz,
    reason text,
    UNIQUE (meter_id, user_id, idempotency)
);
CREATE INDEX ON hand.usage_event (user_id, meter_id, "timestamp");
CREATE TEMPORARY TABLE earlier AS
SELECT 'user-' || i % 1000 AS user_id, (hashint4(i) & 4095)::numeric AS value, 'k' || i AS key, now() - (i % 40000) * interval '1 second' AS at,
       jsonb_build_object('model', 'gpt-' || i % 5, 'region', 'r' || i % 3, 'status', 200 + i % 4) AS dimensions
FROM generate_series(1, 400000 / current_setting('bench.scale')::int) AS i;
INSERT INTO hand.usage_event (meter_id, user_id, value, "timestamp", idempotency, dimensions, metadata, recorded_at)
SELECT 1, user_id, value, at, key, dimensions, '{}', now() FROM earlier;
SELECT count(*) FROM (SELECT array_agg(user_id) AS user_id, array_agg(value) AS value, array_agg(dimensions) AS dimensions,
                             array_agg(key) AS key, array_agg(at) AS at FROM (SELECT *, row_number() OVER () / 10000 AS batch FROM earlier) AS e
                      GROUP BY batch) AS b,
    meter.record_events(array_fill('tokens'::text, ARRAY[cardinality(user_id)]), user_id, value, dimensions, key, at) AS r;
SELECT meter.fold();
VACUUM ANALYZE;
