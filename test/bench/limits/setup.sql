-- A million events of this month into each of four meters, by 1,000 users: those that are compared are as large.
SELECT count(*) FROM meter.create_partitions();
SELECT FROM meter.create_meter('free'), meter.create_meter('limited') AS a, meter.create_meter('twice') AS b, meter.create_meter('soft') AS c;
DO $$
BEGIN
    FOR i IN 1 .. 100 / current_setting('bench.scale')::int LOOP
        PERFORM count(*) FROM unnest('{free,limited,twice,soft}'::text[]) name, LATERAL meter.record_events(array_fill(name, '{10000}'),
            (SELECT array_agg('user-' || 1 + (hashint4(i * 10000 + j) & 16777215) % 1000) FROM generate_series(1, 10000) j),
            (SELECT array_agg((j % 5000)::numeric) FROM generate_series(1, 10000) j),
            (SELECT array_agg('{"model":"gpt-4","region":"us"}'::jsonb || jsonb_build_object('status', j % 4)) FROM generate_series(1, 10000) j), NULL, NULL);
        COMMIT;
        PERFORM meter.fold();
        COMMIT;
    END LOOP;
END $$;
SELECT FROM meter.set_limit('limited', NULL, 1e20);
SELECT FROM meter.set_limit('twice', NULL, 1e20);
SELECT FROM meter.set_limit('twice', NULL, 1e19, 'day');
SELECT FROM meter.set_limit('soft', NULL, 1e20, kind => 'soft');
VACUUM ANALYZE;
