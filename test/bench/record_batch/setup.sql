-- The tables by hand, Lago's, and where the batches lie ready, as arrays and as a text.
SELECT count(*) FROM meter.create_partitions();
SELECT FROM unnest('{tokens,calls,seconds,bytes}'::text[]) AS e, meter.create_meter(e, dimensions => '{model,region}');
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
    UNIQUE (meter_id, user_id, idempotency)
);
CREATE INDEX ON hand.usage_event (user_id, meter_id, "timestamp");

CREATE SCHEMA lago;
CREATE TABLE lago.events (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id uuid NOT NULL,
    transaction_id varchar NOT NULL,
    code varchar NOT NULL,
    properties jsonb NOT NULL DEFAULT '{}',
    created_at timestamp NOT NULL,
    updated_at timestamp NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    "timestamp" timestamp,
    external_subscription_id varchar,
    precise_total_amount_cents numeric,
    UNIQUE (organization_id, external_subscription_id, transaction_id)
);
CREATE INDEX ON lago.events (external_subscription_id, organization_id, code, "timestamp") INCLUDE (properties);
CREATE INDEX ON lago.events (external_subscription_id, organization_id, "timestamp") INCLUDE (code);
CREATE INDEX ON lago.events (created_at);
CREATE INDEX ON lago.events (organization_id, created_at DESC);
CREATE INDEX ON lago.events (organization_id, "timestamp" DESC);
CREATE INDEX ON lago.events (organization_id, transaction_id);
CREATE INDEX ON lago.events (organization_id, code);

CREATE SCHEMA batches;
-- The time-ordered key is a UUID of version 7; both kinds of key come from the event's number.
CREATE FUNCTION batches.events(first bigint, amount bigint, ordered boolean,
    OUT i bigint, OUT event_name text, OUT meter_id bigint, OUT user_id text, OUT value numeric, OUT dimensions jsonb, OUT key text, OUT at timestamptz)
RETURNS SETOF record LANGUAGE sql STABLE AS $$
SELECT i, (ARRAY['tokens', 'calls', 'seconds', 'bytes'])[1 + h % 4], 1 + h % 4, 'user-' || floor(2000 ^ ((h / 4 % 100000) / 100000.0))::int, (h % 5000)::numeric / 100,
    jsonb_build_object('model', 'gpt-' || h / 64 % 5, 'region', 'r' || h / 1024 % 3),
    CASE WHEN ordered THEN overlay(overlay(u PLACING t FROM 1 FOR 13) PLACING '7' FROM 15 FOR 1) ELSE u END, s
FROM (SELECT i, hashint8(i) & 2147483647 AS h, uuid_in(md5(ordered::text || i)::cstring)::text AS u, s, overlay(lpad(to_hex((extract(epoch FROM s) * 1000)::bigint), 12, '0') PLACING '-' FROM 9 FOR 0) AS t
      FROM generate_series(first, first + amount - 1) AS i, LATERAL (SELECT date_trunc('month', now()) + i * interval '1 ms' AS s) AS x) AS numbered
$$;
CREATE TABLE batches.batch (number bigint, event_names text[], meter_ids bigint[], user_ids text[], quantities numeric[], dimensions jsonb[], keys text[], times timestamptz[], metadata jsonb[], payload text);
-- Not compressed: what is measured begins with the values in memory.
ALTER TABLE batches.batch ALTER event_names SET STORAGE EXTERNAL, ALTER meter_ids SET STORAGE EXTERNAL, ALTER user_ids SET STORAGE EXTERNAL, ALTER quantities SET STORAGE EXTERNAL,
    ALTER dimensions SET STORAGE EXTERNAL, ALTER keys SET STORAGE EXTERNAL, ALTER times SET STORAGE EXTERNAL, ALTER metadata SET STORAGE EXTERNAL, ALTER payload SET STORAGE EXTERNAL;
CREATE PROCEDURE batches.make(first bigint, amount bigint, size bigint, ordered boolean) LANGUAGE sql AS $$
TRUNCATE batches.batch;
INSERT INTO batches.batch
SELECT (i - first) / size, array_agg(event_name ORDER BY i), array_agg(meter_id ORDER BY i), array_agg(user_id ORDER BY i), array_agg(value ORDER BY i), array_agg(dimensions ORDER BY i),
    array_agg(key ORDER BY i), array_agg(at ORDER BY i), array_agg('{}'::jsonb ORDER BY i),
    string_agg(jsonb_build_object('event_name', event_name, 'user_id', user_id, 'value', value, 'dimensions', dimensions, 'idempotency', key,
                                  'timestamp', to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))::text, E'\n' ORDER BY i)
FROM batches.events(first, amount, ordered) GROUP BY 1
$$;

CREATE TABLE batches.result (statements bigint, wall double precision, cpu double precision);
-- CPU seconds of this session.
CREATE FUNCTION batches.cpu() RETURNS double precision LANGUAGE sql VOLATILE AS $$ SELECT split_part(pg_read_file('/proc/self/schedstat'), ' ', 1)::bigint / 1e9 $$;
-- Sends every batch, a transaction each; the seconds in statements and commits are the row of batches.result.
CREATE PROCEDURE batches.send(side text) LANGUAGE plpgsql AS $$
DECLARE
    b batches.batch;
    wall double precision := 0;
    cpu double precision := 0;
    started timestamptz;
    used double precision;
    numbers bigint[] := (SELECT array_agg(number ORDER BY number) FROM batches.batch);
    n bigint;
BEGIN
    FOREACH n IN ARRAY numbers LOOP
        SELECT event_names || '{}', meter_ids || '{}', user_ids || '{}', quantities || '{}', dimensions || '{}', keys || '{}', times || '{}', metadata || '{}', payload || ''
        INTO b.event_names, b.meter_ids, b.user_ids, b.quantities, b.dimensions, b.keys, b.times, b.metadata, b.payload FROM batches.batch WHERE number = n;
        COMMIT;
        used := batches.cpu();
        started := clock_timestamp();
        CASE side
        WHEN 'ours' THEN
            PERFORM count(*) FROM meter.record_events(b.event_names, b.user_ids, b.quantities, b.dimensions, b.keys, b.times, b.metadata);
        WHEN 'text' THEN
            PERFORM count(*) FROM meter.ingest(b.payload);
        WHEN 'hand' THEN
            INSERT INTO hand.usage_event (meter_id, user_id, value, "timestamp", idempotency, dimensions, metadata, recorded_at)
            SELECT m, u, v, t, k, d, e, now() FROM unnest(b.meter_ids, b.user_ids, b.quantities, b.times, b.keys, b.dimensions, b.metadata) AS x (m, u, v, t, k, d, e)
            ON CONFLICT DO NOTHING;
        WHEN 'lago' THEN
            INSERT INTO lago.events (organization_id, transaction_id, code, properties, created_at, updated_at, metadata, "timestamp", external_subscription_id)
            SELECT '1a901a90-1a90-1a90-1a90-1a901a901a90', k, c, d || jsonb_build_object('value', v), now(), now(), e, t, u
            FROM unnest(b.event_names, b.user_ids, b.quantities, b.times, b.keys, b.dimensions, b.metadata) AS x (c, u, v, t, k, d, e)
            ON CONFLICT DO NOTHING;
        END CASE;
        COMMIT;
        wall := wall + extract(epoch FROM clock_timestamp() - started);
        cpu := cpu + batches.cpu() - used;
    END LOOP;
    INSERT INTO batches.result VALUES (cardinality(numbers), wall, cpu);
END
$$;
CREATE PROCEDURE batches.fold() LANGUAGE plpgsql AS $$
DECLARE
    used double precision := batches.cpu();
    started timestamptz := clock_timestamp();
BEGIN
    PERFORM meter.fold();
    COMMIT;
    INSERT INTO batches.result VALUES (1, extract(epoch FROM clock_timestamp() - started), batches.cpu() - used);
END
$$;
