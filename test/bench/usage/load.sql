-- What one would write by hand, and how both sides are loaded with the same events.
CREATE SCHEMA hand;
CREATE TABLE hand.usage_event (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    "timestamp" timestamptz NOT NULL,
    meter_id integer NOT NULL,
    user_id text NOT NULL,
    value numeric NOT NULL,
    idempotency text,
    dimensions jsonb NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    UNIQUE (meter_id, user_id, idempotency)
);
CREATE INDEX ON hand.usage_event (user_id, meter_id, "timestamp");
CREATE INDEX ON hand.usage_event (meter_id, "timestamp");
CREATE TABLE hand.meter (id integer PRIMARY KEY, event_name text NOT NULL UNIQUE);

-- What is loaded: so many events of so many users from an instant on, over so many days.
CREATE TABLE hand.shape (
    events bigint NOT NULL,
    users int NOT NULL,
    period_start timestamptz NOT NULL,
    days float8 NOT NULL
);

-- A number in [0, 1) for an event; `salt` tells what of the event it is for.
CREATE FUNCTION hand.chance(i bigint, salt bigint) RETURNS float8 LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT (hashint8extended(i, salt) & 9007199254740991) / 9007199254740992::float8 $$;

-- A user: the one of rank r has 1/r of the first one's events.
CREATE FUNCTION hand.pick_user(chance float8, users int) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT 'user-' || floor(exp(chance * ln(users + 1)))::int $$;

CREATE FUNCTION hand.pick_meter(chance float8) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT ('{tokens,calls,seconds,bytes}'::text[])[1 + floor(chance * 4)::int] $$;

CREATE FUNCTION hand.pick_dimensions(chance float8) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT (ARRAY['{"model":"small","region":"us"}', '{"model":"small","region":"eu"}', '{"model":"small","region":"ap"}',
    '{"model":"large","region":"us"}', '{"model":"large","region":"eu"}', '{"model":"large","region":"ap"}',
    '{"model":"vision","region":"us"}', '{"model":"vision","region":"eu"}', '{"model":"vision","region":"ap"}',
    '{"model":"speech","region":"us"}', '{"model":"speech","region":"eu"}', '{"model":"speech","region":"ap"}',
    '{"model":"embed","region":"us"}', '{"model":"embed","region":"eu"}', '{"model":"embed","region":"ap"}'
    ]::jsonb[])[1 + floor(chance * 15)::int] $$;

-- The columns of the events from number `first` to `last` as arrays. They are in the order of time; a day's events crowd
-- round its noon, 5.7 times as many an hour there as at midnight.
CREATE FUNCTION hand.batch(first bigint, last bigint, OUT names text[], OUT users text[], OUT quantities numeric[],
                           OUT dimensions jsonb[], OUT keys text[], OUT times timestamptz[])
LANGUAGE sql STABLE AS $$
    SELECT array_agg(hand.pick_meter(hand.chance(i, 1))), array_agg(hand.pick_user(hand.chance(i, 2), s.users)),
           array_agg(round((hand.chance(i, 3) * 5000)::numeric, 2)), array_agg(hand.pick_dimensions(hand.chance(i, 4))),
           array_agg(md5(i::text)::uuid::text),
           array_agg(s.period_start + (day + 0.7 * sin(2 * pi() * day) / (2 * pi())) * interval '1 day')
    FROM hand.shape AS s, generate_series(first, last) AS i, LATERAL (SELECT (i - 1) * s.days / s.events AS day) AS d
$$;

-- The same of `count` events of now, at random; one in ten is up to 27 days late.
CREATE FUNCTION hand.random_time() RETURNS timestamptz LANGUAGE sql VOLATILE
AS $$ SELECT now() - CASE WHEN random() < 0.1 THEN random() * interval '27 days' ELSE interval '0' END $$;
CREATE FUNCTION hand.random_batch(count int, OUT names text[], OUT users text[], OUT quantities numeric[],
                                  OUT dimensions jsonb[], OUT keys text[], OUT times timestamptz[])
LANGUAGE sql VOLATILE AS $$
    SELECT array_agg(hand.pick_meter(random())), array_agg(hand.pick_user(random(), s.users)),
           array_agg(round((random() * 5000)::numeric, 2)), array_agg(hand.pick_dimensions(random())),
           array_agg(gen_random_uuid()::text), array_agg(hand.random_time())
    FROM hand.shape AS s, generate_series(1, count) AS i
$$;

CREATE FUNCTION hand.insert_events(names text[], users text[], quantities numeric[], dimensions jsonb[], keys text[],
                                   times timestamptz[]) RETURNS void LANGUAGE sql VOLATILE AS $$
    INSERT INTO hand.usage_event ("timestamp", meter_id, user_id, value, idempotency, dimensions)
    SELECT e.at, m.id, e.user_id, e.value, e.key, e.dimensions
    FROM unnest(names, users, quantities, dimensions, keys, times) AS e(name, user_id, value, dimensions, key, at)
    JOIN hand.meter AS m ON m.event_name = e.name
    ON CONFLICT DO NOTHING
$$;

-- What it cost: in all, nanoseconds of processor time and seconds from start to end, for so many events.
CREATE TABLE hand.cost (
    what text PRIMARY KEY,
    events bigint NOT NULL,
    calls int NOT NULL,
    cpu bigint NOT NULL,
    wall float8 NOT NULL
);
-- The processor time of this session's process so far, in nanoseconds.
CREATE FUNCTION hand.cpu() RETURNS bigint LANGUAGE sql VOLATILE
AS $$ SELECT split_part(pg_read_file('/proc/self/schedstat'), ' ', 1)::bigint $$;
CREATE PROCEDURE hand.add_cost(what text, events bigint, cpu bigint, started timestamptz) LANGUAGE sql
AS $$ INSERT INTO hand.cost VALUES (what, events, 1, hand.cpu() - cpu, extract(epoch FROM clock_timestamp() - started))
      ON CONFLICT ON CONSTRAINT cost_pkey DO UPDATE SET events = cost.events + excluded.events, calls = cost.calls + 1,
          cpu = cost.cpu + excluded.cpu, wall = cost.wall + excluded.wall $$;

-- Loads the events from number `first` to `last` in batches, a transaction each, into both sides.
CREATE PROCEDURE hand.load(first bigint, last bigint, batch_size int) LANGUAGE plpgsql AS $$
DECLARE
    b record;
    failed bigint;
    cpu bigint;
    started timestamptz;
BEGIN
    FOR at IN first..last BY batch_size LOOP
        SELECT * INTO b FROM hand.batch(at, least(at + batch_size - 1, last));
        cpu := hand.cpu();
        started := clock_timestamp();
        SELECT count(*) FILTER (WHERE status <> 'recorded') INTO failed
        FROM meter.record_events(b.names, b.users, b.quantities, b.dimensions, b.keys, b.times);
        COMMIT;
        IF failed > 0 THEN
            RAISE EXCEPTION '% events were not recorded', failed;
        END IF;
        CALL hand.add_cost('record', cardinality(b.keys), cpu, started);
        cpu := hand.cpu();
        started := clock_timestamp();
        PERFORM hand.insert_events(b.names, b.users, b.quantities, b.dimensions, b.keys, b.times);
        COMMIT;
        CALL hand.add_cost('insert', cardinality(b.keys), cpu, started);
        COMMIT;
    END LOOP;
END $$;

-- Folds all deltas; the cost is counted as that of `events`.
CREATE PROCEDURE hand.fold(what text, events bigint) LANGUAGE plpgsql AS $$
DECLARE
    cpu bigint := hand.cpu();
    started timestamptz := clock_timestamp();
BEGIN
    WHILE meter.fold() > 0 LOOP
        COMMIT;
    END LOOP;
    COMMIT;
    CALL hand.add_cost(what, events, cpu, started);
END $$;
