SELECT count(*) FROM meter.create_partitions(1, now() - interval '23 months');
SELECT count(*) FROM unnest('{calls,tokens,bytes}'::text[]) AS e, meter.create_meter(e);
INSERT INTO meter.meter_event (id, "timestamp", recorded_at, meter_id, user_id, value, idempotency, dimensions)
SELECT nextval('meter.meter_event_id_seq'), at, at, (ARRAY[1, 1, 2, 3])[1 + (hashint4(i + 1) & 3)],
       'user-' || (hashint4(i) & 16777215) % 1000, i % 5000, NULL,
       jsonb_build_object('model', 'gpt-' || i % 5, 'region', 'r' || i % 3)
FROM (SELECT i, date_trunc('month', now(), 'UTC') - interval '23 months'
             + i * (now() - date_trunc('month', now(), 'UTC') + interval '23 months')
               / (1000000 / current_setting('bench.scale')::int) AS at
      FROM generate_series(1, 1000000 / current_setting('bench.scale')::int) AS i) AS e;
CREATE SCHEMA hand;
CREATE TABLE hand.usage_event (LIKE meter.meter_event);
INSERT INTO hand.usage_event SELECT * FROM meter.meter_event;
ALTER TABLE hand.usage_event ADD PRIMARY KEY (id);
CREATE INDEX ON hand.usage_event (meter_id, "timestamp", id);
CREATE INDEX ON hand.usage_event (user_id, meter_id, "timestamp");
VACUUM (FREEZE, ANALYZE);
