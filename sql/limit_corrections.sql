-- Voids and amendments change what is left of a hard limit.
\set VERBOSITY terse
TRUNCATE meter.meter, meter.meter_event, meter.event_key, meter.rollup_pending, meter.rollup_generation, meter.rollup_state, meter.rollup, meter.rollup_total, meter.rollup_days, meter.rollup_month, meter.rollup_meter, meter.usage_limit, meter.limit_usage, meter.alert_rule, meter.alert, meter.event_void RESTART IDENTITY;
SET timezone = 'UTC';
SELECT event_name FROM meter.create_meter('tokens', dimensions => '{model}');
SELECT amount FROM meter.set_limit('tokens', NULL, 10, 'month');
SELECT amount FROM meter.set_limit('tokens', 'ann', 8, 'day');
SELECT meter.record_event('tokens', 'ann', 6, '{}', 'one', '2026-03-05Z') > 0 AS recorded;
SELECT meter.record_event('tokens', 'ann', 3, '{}', 'two', '2026-03-05Z');
-- A void makes room, at once and no more than it took; again it does not.
SELECT meter.void_event('tokens', 'ann', 'one', 'twice') > 0 AS voided;
SELECT meter.void_event('tokens', 'ann', 'one', 'twice') > 0 AS voided;
SELECT meter.record_event('tokens', 'ann', 8.1, '{}', 'three', '2026-03-05Z');
SELECT meter.record_event('tokens', 'ann', 8, '{}', 'three', '2026-03-05Z') > 0 AS recorded;
-- A void that is rolled back makes none.
BEGIN;
SELECT meter.void_event('tokens', 'ann', 'three', 'test') > 0 AS voided;
ROLLBACK;
SELECT meter.record_event('tokens', 'ann', 0.1, '{}', 'four', '2026-03-05Z');
-- A retry of what is voided is a duplicate, and takes none.
SELECT meter.record_event('tokens', 'ann', 6, '{}', 'one', '2026-03-05Z') > 0 AS duplicate;
-- An amendment is not refused, to another day neither.
SELECT meter.amend_event('tokens', 'ann', 'three', value => 20, reason => 'wrong') > 0 AS amended;
SELECT c.period, c.period_start, trim_scale(c.usage) AS usage, trim_scale(c.usage) = u.value AS exact FROM meter.limit_usage c,
    LATERAL meter.usage('tokens', c.period_start, c.period_start + CASE c.period WHEN 'd' THEN interval '1 day' ELSE interval '1 month' END, c.user_id) u ORDER BY 1, 2;
SELECT meter.record_event('tokens', 'ann', 1, '{}', 'five', '2026-03-05Z');
SELECT meter.amend_event('tokens', 'ann', 'three', value => 2, event_time => '2026-03-06Z', reason => 'wrong day') > 0 AS amended;
SELECT c.period, c.period_start, trim_scale(c.usage) AS usage, trim_scale(c.usage) = u.value AS exact FROM meter.limit_usage c,
    LATERAL meter.usage('tokens', c.period_start, c.period_start + CASE c.period WHEN 'd' THEN interval '1 day' ELSE interval '1 month' END, c.user_id) u ORDER BY 1, 2;
SELECT meter.record_event('tokens', 'ann', 8, '{}', 'five', '2026-03-05Z') > 0 AS recorded;
SELECT meter.record_event('tokens', 'ann', 1, '{}', 'six', '2026-03-06Z');
-- Of a user without a counter yet, too: none is made until somebody needs it, of what there is then.
DELETE FROM meter.limit_usage;
SELECT meter.void_event('tokens', 'ann', 'five', 'test') > 0 AS voided;
SELECT count(*) FROM meter.limit_usage;
SELECT meter.record_event('tokens', 'ann', 0, '{}', 'seven', '2026-03-05Z') > 0 AS recorded;
SELECT c.period, c.period_start, trim_scale(c.usage) AS usage, trim_scale(c.usage) = u.value AS exact FROM meter.limit_usage c,
    LATERAL meter.usage('tokens', c.period_start, c.period_start + CASE c.period WHEN 'd' THEN interval '1 day' ELSE interval '1 month' END, c.user_id) u ORDER BY 1, 2;
-- What is left is what meter.usage says under the same snapshot, whatever is folded, voided, amended, late or this transaction's own; by every period, in UTC and elsewhere,
-- with a counter or without.
SELECT count(meter.create_meter(n, CASE WHEN n LIKE 'number%' THEN 'count' ELSE 'sum' END, dimensions => '{model}')) FROM unnest('{amount-soft,number-soft,amount-hard,number-hard}'::text[]) n;
SELECT count(meter.set_limit(n, NULL, 1000000, p, kind => split_part(n, '-', 2), time_zone => z)) FROM unnest('{amount-soft,number-soft,amount-hard,number-hard}'::text[]) n,
    (VALUES ('hour', 'UTC'), ('day', 'Asia/Kathmandu'), ('week', 'UTC'), ('month', 'UTC'), ('year', 'UTC'), ('total', 'UTC')) z (p, z);
SELECT count(meter.set_limit('amount-soft', 'user-1', 500, p, kind => 'soft', time_zone => 'Asia/Kathmandu')) FROM unnest('{month,day}'::text[]) p;
CREATE FUNCTION pg_temp.differences() RETURNS text LANGUAGE sql AS $$
    SELECT format('%s compared, %s differ', count(*), count(*) FILTER (WHERE told IS DISTINCT FROM expected)) FROM (
        SELECT meter.remaining(m.event_name, u, l.period) AS told, l.amount - (SELECT value FROM meter.usage(m.event_name, s.start, s.stop, u)) AS expected
        FROM meter.meter m, (SELECT 'user-' || i AS u FROM generate_series(1, 5) i) users, LATERAL (SELECT DISTINCT ON (period) period, amount, time_zone FROM meter.usage_limit l
            WHERE l.meter_id = m.id AND (l.user_id = u OR l.user_id IS NULL) ORDER BY period, user_id NULLS LAST) l,
            LATERAL (SELECT CASE l.period WHEN 'total' THEN '1970-01-01Z' ELSE date_trunc(l.period, now(), l.time_zone) END AS start,
                CASE l.period WHEN 'total' THEN '9999-01-01Z' ELSE (date_trunc(l.period, now(), l.time_zone) AT TIME ZONE l.time_zone + ('1 ' || l.period)::interval) AT TIME ZONE l.time_zone END AS stop) s
        WHERE m.event_name <> 'tokens') x
$$;
-- One round of events of the last 40 days, some of them voided and amended.
CREATE FUNCTION pg_temp.more(round int) RETURNS bigint LANGUAGE sql AS $$
    SELECT count(meter.record_event(n, 'user-' || 1 + abs(hashint4(i * 7)) % 5, (hashint4(i) & 4095) / 16.0, jsonb_build_object('model', i % 3), 'k' || i,
        now() - (abs(hashint4(i * 3)::bigint) % CASE WHEN i % 3 = 0 THEN 3600 WHEN i % 3 = 1 THEN 86400 ELSE 40 * 86400 END) * interval '1 second'))
    FROM unnest('{amount-soft,number-soft,amount-hard,number-hard}'::text[]) n, generate_series(round * 100, round * 100 + 99) i;
    SELECT count(meter.void_event(n, 'user-' || 1 + abs(hashint4(i * 7)) % 5, 'k' || i, 'test'))
    FROM unnest('{amount-soft,number-soft,amount-hard,number-hard}'::text[]) n, generate_series(round * 50, round * 100 + 99, 17) i WHERE i >= 100;
    SELECT count(meter.amend_event(n, 'user-' || 1 + abs(hashint4(i * 7)) % 5, 'k' || i, value => 10000 + i, reason => 'test'))
    FROM unnest('{amount-soft,number-soft,amount-hard,number-hard}'::text[]) n, generate_series(round * 100 + 5, round * 100 + 99, 17) i WHERE i >= 100 AND (i - round * 50) % 17 <> 0;
$$;
SELECT pg_temp.more(1) > 0 AS more;
SELECT pg_temp.differences();
SELECT meter.fold() > 0 AS folded;
SELECT pg_temp.differences();
SELECT pg_temp.more(2) > 0 AS more;
SELECT pg_temp.differences();
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT pg_temp.more(3) > 0 AS more;
SELECT pg_temp.differences();
COMMIT;
DELETE FROM meter.limit_usage;
SELECT pg_temp.differences();
SELECT meter.fold() > 0 AS folded;
SELECT pg_temp.more(4) > 0 AS more;
SELECT pg_temp.differences();
-- A month's takes no look at the events, however many there are.
BEGIN;
SELECT sum(pg_stat_get_xact_numscans(i.indexrelid)) AS scans FROM pg_inherits p JOIN pg_index i ON i.indrelid = p.inhrelid
    WHERE p.inhparent = 'meter.meter_event'::regclass \gset
SELECT count(meter.remaining(n, 'user-' || i, p)) FROM unnest('{amount-soft,number-soft}'::text[]) n, unnest('{year,total}'::text[]) p, generate_series(1, 5) i;
SELECT count(meter.remaining('number-soft', 'user-' || i, 'month')) FROM generate_series(1, 5) i;
SELECT sum(pg_stat_get_xact_numscans(i.indexrelid)) - :scans AS scans FROM pg_inherits p JOIN pg_index i ON i.indrelid = p.inhrelid WHERE p.inhparent = 'meter.meter_event'::regclass;
COMMIT;
TRUNCATE meter.meter, meter.meter_event, meter.event_key, meter.rollup_pending, meter.rollup_generation, meter.rollup_state, meter.rollup, meter.rollup_total, meter.rollup_days, meter.rollup_month, meter.rollup_meter, meter.usage_limit, meter.limit_usage, meter.alert_rule, meter.alert, meter.event_void RESTART IDENTITY;
