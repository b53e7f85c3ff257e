SELECT count(*) FROM meter.create_partitions(1, now() - interval '2 months');
SELECT id, event_name FROM unnest('{visits,requests}'::text[]) AS e, meter.create_meter(e);
CREATE FUNCTION chance(i bigint, salt bigint) RETURNS float8 LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT (hashint8extended(i, salt) & 9007199254740991) / 9007199254740992::float8 $$;
CREATE PROCEDURE load(meter text, events bigint) LANGUAGE plpgsql AS $$
DECLARE
    month timestamptz := date_trunc('month', now(), 'UTC') - interval '1 month';
    failed bigint;
BEGIN
    FOR at IN 1..events BY 10000 LOOP
        SELECT count(*) FILTER (WHERE status <> 'recorded') INTO failed FROM (
            SELECT array_agg(meter) AS names, array_agg('user-' || floor(exp(chance(i, 1) * ln(2001)))::int) AS users, array_agg(1.5::numeric) AS quantities,
                array_agg(jsonb_build_object('model', 'm' || i % 5)
                    || CASE meter WHEN 'visits' THEN jsonb_build_object('project', 'p' || floor(chance(i, 2) * 1000)::int)
                                  ELSE jsonb_build_object('request', floor(chance(i, 2) * events / 5)::bigint) END) AS dimensions,
                array_agg(month + i * interval '28 days' / events) AS times,
                array_agg(jsonb_build_object('session', floor(chance(i, 3) * events / 20)::bigint, 'ip', '10.0.0.1')) AS metadata
            FROM generate_series(at, least(at + 9999, events)) AS i) AS b,
            meter.record_events(b.names, b.users, b.quantities, b.dimensions, NULL, b.times, b.metadata);
        COMMIT;
        IF failed > 0 THEN
            RAISE EXCEPTION '% events were not recorded', failed;
        END IF;
        IF at % 100000 = 1 THEN
            PERFORM meter.fold();
            COMMIT;
        END IF;
    END LOOP;
    PERFORM meter.fold();
    COMMIT;
END $$;
CALL load('visits', current_setting('bench.events')::bigint);
CALL load('requests', current_setting('bench.events')::bigint);
CREATE SCHEMA hand;
CREATE TABLE hand.usage_event (LIKE meter.meter_event);
INSERT INTO hand.usage_event SELECT * FROM meter.meter_event ORDER BY "timestamp";
ALTER TABLE hand.usage_event ADD PRIMARY KEY (id);
CREATE INDEX ON hand.usage_event (meter_id, "timestamp");
CREATE INDEX ON hand.usage_event (user_id, meter_id, "timestamp");
VACUUM (FREEZE, ANALYZE);
