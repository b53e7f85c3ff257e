-- The monthly partitions of meter.meter_event.
TRUNCATE meter.meter, meter.meter_event, meter.event_key, meter.rollup_pending, meter.rollup_generation, meter.rollup_state, meter.rollup, meter.rollup_total, meter.rollup_days, meter.rollup_month, meter.rollup_meter, meter.usage_limit, meter.limit_usage, meter.alert_rule, meter.alert, meter.event_void RESTART IDENTITY;
CREATE FUNCTION pg_temp.sqlstate_of(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text; message text; detail text; hint text;
BEGIN
    EXECUTE query;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
        detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(' | ', state, message, nullif(detail, ''), nullif(hint, ''));
END
$$;

SET TIME ZONE 'UTC';
SELECT count(*) FROM meter.create_meter('calls', 'count');
-- Other tests may have made some.
DO $$
DECLARE
    partition regclass;
BEGIN
    FOR partition IN SELECT inhrelid::regclass FROM pg_inherits
                     WHERE inhparent = 'meter.meter_event'::regclass AND inhrelid <> 'meter.meter_event_default'::regclass LOOP
        EXECUTE format('DROP TABLE %s', partition);
    END LOOP;
END
$$;
-- How many months a partition lies ahead of this one.
CREATE FUNCTION pg_temp.months_ahead(partition text) RETURNS integer LANGUAGE sql AS $$
    SELECT (12 * y[1]::integer + y[2]::integer)
         - (12 * extract(year FROM now()) + extract(month FROM now()))::integer
    FROM regexp_match(partition, '_(\d{4})_(\d\d)$') AS y
$$;

-- This month and three ahead by default; again makes none; more ahead makes the missing ones.
SELECT pg_temp.months_ahead(p::text) FROM meter.create_partitions() AS p;
SELECT count(*) FROM meter.create_partitions();
SELECT pg_temp.months_ahead(p::text) FROM meter.create_partitions(5) AS p;
SELECT pg_temp.months_ahead(p::text) FROM meter.create_partitions(0, now() - interval '2 months') AS p;

-- Events go into the partition of their month in UTC, or into the default one.
SELECT meter.record_event('calls', 'judy', event_time => t) > 0 AS recorded
FROM (VALUES (date_trunc('month', now()) - interval '1 microsecond'), (date_trunc('month', now())), ('2001-01-01')) AS t (t);
SELECT coalesce(pg_temp.months_ahead(tableoid::regclass::text)::text, tableoid::regclass::text) AS partition, idempotency
FROM meter.meter_event WHERE user_id = 'judy' ORDER BY "timestamp";

-- A month whose events are in the default partition keeps them there, with a warning; the others are made.
SELECT meter.record_event('calls', 'judy', event_time => date_trunc('month', now()) - interval '3 months') > 0 AS recorded;
SET client_min_messages = error;
SELECT pg_temp.months_ahead(p::text) FROM meter.create_partitions(0, now() - interval '5 months') AS p;
RESET client_min_messages;
SELECT meter.record_event('calls', 'judy', event_time => date_trunc('month', now()) - interval '3 months') > 0 AS recorded;
SELECT count(*) FROM meter.meter_event WHERE user_id = 'judy';

-- What cannot be made.
SELECT pg_temp.sqlstate_of($$SELECT meter.create_partitions(-1)$$);
SELECT pg_temp.sqlstate_of($$SELECT meter.create_partitions(1, 'infinity')$$);
SELECT left(pg_temp.sqlstate_of($$SELECT meter.create_partitions(1200)$$), 5);
SELECT pg_temp.sqlstate_of($$SELECT meter.create_partitions(0, '1969-12-31 00:00:00+00')$$);

-- Every partition has the parent's constraints, and the same two indexes as the default one; the parent has no index
-- and no foreign key.
SELECT count(*) AS partitions, count(*) FILTER (WHERE indexes <> 2) AS wrong_indexes, count(*) FILTER (WHERE checks <> 1) AS wrong_checks
FROM (SELECT (SELECT count(*) FROM pg_index WHERE indrelid = inhrelid) AS indexes,
             (SELECT count(*) FROM pg_constraint WHERE conrelid = inhrelid AND contype = 'c') AS checks
      FROM pg_inherits WHERE inhparent = 'meter.meter_event'::regclass) AS p;
SELECT DISTINCT regexp_replace(pg_get_indexdef(indexrelid), '.* USING', '') AS index
FROM pg_index WHERE indrelid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'meter.meter_event'::regclass) ORDER BY 1;
SELECT (SELECT count(*) FROM pg_index WHERE indrelid = 'meter.meter_event'::regclass) AS parent_indexes,
       (SELECT count(*) FROM pg_constraint WHERE conrelid = 'meter.meter_event'::regclass AND contype = 'f') AS parent_foreign_keys;

-- And the same settings of vacuum, which the ledger has too.
SELECT reloptions, count(*) > 1 AS several FROM pg_class
WHERE oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'meter.meter_event'::regclass) GROUP BY 1;
SELECT reloptions FROM pg_class WHERE oid = 'meter.event_key'::regclass;

-- The lock timeout that it sets for itself is the session's own again.
SHOW lock_timeout;
