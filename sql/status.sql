-- How meters and the database stand.
SET client_min_messages = warning;
SET timezone = 'UTC';
TRUNCATE meter.meter, meter.meter_event, meter.event_key, meter.rollup_pending, meter.rollup_generation, meter.rollup_state, meter.rollup, meter.rollup_total, meter.rollup_days, meter.rollup_month, meter.rollup_meter, meter.usage_limit, meter.limit_usage, meter.alert_rule, meter.alert, meter.event_void RESTART IDENTITY;
-- Without meters.
SELECT count(*) FROM meter.status;
SELECT pending_rows, pending_exact, lag, set_aside, open_generations, horizon, worker_pid, worker FROM meter.system_status;
SELECT event_name FROM meter.create_meter('tokens', dimensions => '{model}');
SELECT event_name FROM meter.create_meter('idle');
SET meter.org = 'elsewhere';
SELECT event_name FROM meter.create_meter('theirs');
SELECT count(meter.record_event('theirs', 'ann')) FROM generate_series(1, 3);
RESET meter.org;
-- Deltas wait: two old ones, one of a month ago that was recorded just now.
BEGIN;
SELECT count(meter.record_event('tokens', 'ann', event_time => now() - interval '1 month')) AS late, count(meter.record_event('tokens', 'ann')) FROM generate_series(1, 2);
UPDATE meter.meter_event SET recorded_at = recorded_at - interval '90 seconds' WHERE id = (SELECT min(id) FROM meter.meter_event WHERE meter_id = 1);
COMMIT;
SELECT event_name, pending_rows, pending_exact, lag BETWEEN '90 seconds' AND '10 minutes' AS lags, lag = '0' AS none, set_aside, month, cells, left_out FROM meter.status;
SELECT pending_rows, pending_exact, lag BETWEEN '90 seconds' AND '10 minutes' AS lags FROM meter.system_status;
SELECT meter.fold();
SELECT event_name, pending_rows, lag, set_aside, month = date_trunc('month', now(), 'UTC') AS this_month, cells, events_per_cell, users_by_day FROM meter.status;
-- Cells, the latest month's; and users with days.
SELECT count(*) FROM meter.record_events(array_fill('tokens'::text, ARRAY[600]),
    (SELECT array_agg(CASE WHEN i % 100 = 0 THEN 'sparse ' || i ELSE 'dense' END) FROM generate_series(1, 600) AS i), NULL,
    (SELECT array_agg(jsonb_build_object('model', 'm' || i % 3)) FROM generate_series(1, 600) AS i), NULL,
    (SELECT array_agg(date_trunc('month', now(), 'UTC') + i * interval '1 minute') FROM generate_series(1, 600) AS i), NULL)
WHERE status = 'recorded' AND date_trunc('month', now(), 'UTC') + interval '600 minutes' < now() + interval '1 day';
SELECT meter.fold() > 0 AS folded;
SELECT event_name, cells, events_per_cell, users_by_day FROM meter.status;
-- What is set aside is shown with its error.
ALTER TABLE meter.rollup ADD CONSTRAINT refuse CHECK (user_id <> 'poison');
SELECT count(meter.record_event('tokens', 'poison')) FROM generate_series(1, 2);
SELECT meter.fold();
SELECT event_name, pending_rows, lag, set_aside, set_aside_error FROM meter.status;
SELECT pending_rows, set_aside FROM meter.system_status;
ALTER TABLE meter.rollup DROP CONSTRAINT refuse;
SELECT meter.rebuild(now(), now()) = 0 AS nothing, meter.rebuild(now() - interval '1 second', now() + interval '1 second') > 600 AS repaired;
SELECT event_name, set_aside, set_aside_error FROM meter.status;
-- More deltas than are counted.
BEGIN;
INSERT INTO meter.rollup_pending (first_timestamp, last_id, event_count, meter_id, generation, digest, event_digest, user_id, value_sum, dimensions)
SELECT now(), i, 1, 1, (SELECT COALESCE(max(generation), 0) FROM meter.rollup_generation), meter.dimensions_digest('{}'), meter.event_digest(1, now(), 1, '{}'), 'ann', 1, '{}' FROM generate_series(1, 20001) AS i;
SELECT pending_rows, pending_exact FROM meter.status WHERE event_name = 'tokens';
SELECT pending_rows >= 20000 AS many, pending_exact FROM meter.system_status;
ROLLBACK;
-- Generations.
SELECT setval('meter.rollup_folded_seq', 100000) > 0 AS set;
SELECT meter.record_event('tokens', 'ann') > 0 AS recorded;
SELECT meter.fold();
SELECT open_generations FROM meter.system_status;
-- Partitions.
SELECT meter.record_event('tokens', 'ann', event_time => '1975-01-01') > 0 AS recorded;
SELECT default_partition_used FROM meter.system_status;
BEGIN;
DELETE FROM meter.meter_event;
SELECT count(*) >= 0 AS made FROM meter.create_partitions(2);
SELECT partitions >= 3 AS some, first_partition <= now() AS begun, partitions_until >= date_trunc('month', now(), 'UTC') + interval '3 months' AS ahead,
    partitions_ahead = partitions_until - now() AS difference, default_partition_used FROM meter.system_status;
SELECT DISTINCT partitions_until = (SELECT partitions_until FROM meter.system_status) AS same FROM meter.status;
SET LOCAL datestyle = 'German';
SET LOCAL timezone = 'Asia/Kolkata';
SELECT partitions_until > now() AS ahead FROM meter.system_status;
ROLLBACK;
-- Sizes and dead rows are numbers of the server's; the two are there.
SELECT pending_bytes > 0 AS pending, rollup_bytes > 0 AS rollups, dead_pending_rows >= 0 AS dead FROM meter.system_status;

-- Who sees what.
CREATE ROLE status_theirs;
CREATE ROLE status_any;
CREATE ROLE status_writer;
SELECT meter.grant_access('status_theirs', 'reader', 'elsewhere'), meter.grant_access('status_any', 'reader'), meter.grant_access('status_writer', 'writer', 'elsewhere');
SET ROLE status_theirs;
SELECT event_name, pending_rows, lag FROM meter.status;
SET meter.org = 'default';
SELECT event_name FROM meter.status;
SELECT * FROM meter.system_status;
SELECT * FROM meter.system_status();
-- Not even where somebody granted it by hand.
RESET ROLE;
GRANT SELECT ON meter.system_status TO status_theirs;
GRANT EXECUTE ON FUNCTION meter.system_status() TO status_theirs;
SET ROLE status_theirs;
SELECT * FROM meter.system_status;
RESET ROLE;
REVOKE SELECT ON meter.system_status FROM status_theirs;
SET ROLE status_any;
SELECT event_name, pending_rows FROM meter.status;
SELECT pending_rows FROM meter.system_status;
SET ROLE status_writer;
SELECT * FROM meter.status;
SELECT * FROM meter.status();
RESET ROLE;
RESET meter.org;
SELECT meter.revoke_access('status_theirs'), meter.revoke_access('status_any'), meter.revoke_access('status_writer');
DROP ROLE status_theirs, status_any, status_writer;
TRUNCATE meter.meter, meter.meter_event, meter.event_key, meter.rollup_pending, meter.rollup_generation, meter.rollup_state, meter.rollup, meter.rollup_total, meter.rollup_days, meter.rollup_month, meter.rollup_meter, meter.usage_limit, meter.limit_usage, meter.alert_rule, meter.alert, meter.event_void RESTART IDENTITY;
