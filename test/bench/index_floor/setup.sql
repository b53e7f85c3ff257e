-- Tables with one index each, and for each kind of row one with none, so that the difference is the index.
CREATE SCHEMA floor;
CREATE TABLE floor.key_heap (digest uuid, fingerprint bigint, event_id bigint, at timestamptz);
CREATE TABLE floor.key (LIKE floor.key_heap, PRIMARY KEY (digest));
CREATE TABLE floor.event_heap (id bigint, at timestamptz, meter_id integer, generation integer, user_id text COLLATE "C", key text);
CREATE TABLE floor.event_user (LIKE floor.event_heap);
CREATE INDEX ON floor.event_user (user_id, meter_id, at);
CREATE TABLE floor.event_time (LIKE floor.event_heap);
CREATE INDEX ON floor.event_time (meter_id, at);
CREATE TABLE floor.event_delta (LIKE floor.event_heap);
CREATE INDEX ON floor.event_delta (generation, user_id, meter_id);
CREATE TABLE floor.event_id (LIKE floor.event_heap, PRIMARY KEY (id));
CREATE TABLE floor.event_unique (LIKE floor.event_heap, UNIQUE (meter_id, user_id, key));
-- The same events as those of record_batch, to which they belong.
CREATE TABLE floor.event (LIKE floor.event_heap, batch integer, cell bigint);
CREATE FUNCTION floor.cpu() RETURNS double precision LANGUAGE sql VOLATILE AS $$ SELECT split_part(pg_read_file('/proc/self/schedstat'), ' ', 1)::bigint / 1e9 $$;
CREATE PROCEDURE floor.make(first bigint, amount bigint, size bigint, ordered boolean) LANGUAGE sql AS $$
TRUNCATE floor.event;
INSERT INTO floor.event
SELECT i, s, 1 + h % 4, 0, 'user-' || floor(2000 ^ ((h / 4 % 100000) / 100000.0))::int,
    CASE WHEN ordered THEN overlay(overlay(u PLACING t FROM 1 FOR 13) PLACING '7' FROM 15 FOR 1) ELSE u END, (i - first) / size, h / 64 % 5 * 3 + h / 1024 % 3
FROM (SELECT i, hashint8(i) & 2147483647 AS h, uuid_in(md5(ordered::text || i)::cstring)::text AS u, s, overlay(lpad(to_hex((extract(epoch FROM s) * 1000)::bigint), 12, '0') PLACING '-' FROM 9 FOR 0) AS t
      FROM generate_series(first, first + amount - 1) AS i, LATERAL (SELECT date_trunc('month', now()) + i * interval '1 ms' AS s) AS x) AS numbered
$$;
CREATE TABLE floor.result (name text, cpu double precision);
-- Inserts each batch into a table, in the order of its index, a transaction each.
CREATE PROCEDURE floor.enter(name text, ordered_by text, columns text) LANGUAGE plpgsql AS $$
DECLARE
    cpu double precision := 0;
    used double precision;
BEGIN
    FOR n IN 0 .. (SELECT max(batch) FROM floor.event) LOOP
        used := floor.cpu();
        EXECUTE format('INSERT INTO floor.%s SELECT %s FROM floor.event WHERE batch = $1 ORDER BY %s', name, columns, ordered_by) USING n;
        COMMIT;
        cpu := cpu + floor.cpu() - used;
    END LOOP;
    INSERT INTO floor.result VALUES (name, cpu);
END
$$;
CREATE INDEX ON floor.event (batch);
