-- meter.bucket_start and meter.bucket_end against a definition in plain SQL.
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SELECT meter.bucket_start('2026-11-23 21:25:22.5+00', b), meter.bucket_end('2026-11-23 21:25:22.5+00', b, 'UTC')
FROM unnest('{minute,hour,day,week,month,year}'::text[]) AS b;
SELECT meter.bucket_start(NULL, 'day') IS NULL AND meter.bucket_end('2026-11-23', NULL) IS NULL AS strict;
-- Midnight twice: the first one, whichever this version's date_trunc takes.
SELECT meter.bucket_start('2026-11-01 12:00+00', 'day', 'America/Havana');
-- Rules go on for ever, and before the first there was local mean time.
SELECT meter.bucket_start('9999-07-15 12:00+00', 'month', 'America/New_York'),
       meter.bucket_end('9999-07-15 12:00+00', 'year', 'America/New_York'),
       meter.bucket_start('1800-07-15 12:00+00', 'day', 'America/New_York'),
       meter.bucket_start('2437-07-15 12:00+00', 'day', 'Europe/Berlin'),
       meter.bucket_start('2438-01-15 12:00+00', 'day', 'Europe/Berlin');
SELECT meter.bucket_start('infinity', 'day');
SELECT meter.bucket_start('10002-01-01', 'day');
SELECT meter.bucket_start('2026-01-01', 'days');
SELECT meter.bucket_start('2026-01-01', 'day', 'Nowhere');

-- The bucket an instant lies in, told by local time. A minute or hour: its local time and its offset.
-- A day or longer: the least that the clock will yet show, since a later fall back over midnight
-- makes the minutes before it yesterday's. The clock is read each minute of four hours.
CREATE FUNCTION pg_temp.label(t timestamptz, bucket text, zone text) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN bucket IN ('minute', 'hour')
        THEN date_trunc(bucket, t AT TIME ZONE zone) || ' ' || ((t AT TIME ZONE zone) - (t AT TIME ZONE 'UTC'))
        ELSE LEAST(date_trunc(bucket, t AT TIME ZONE zone),
                   (SELECT min(date_trunc(bucket, later AT TIME ZONE zone))
                    FROM generate_series(date_trunc('minute', t), t + '4 hours', '1 minute') AS later
                    WHERE later > t))::text
        END
$$;

-- Instants around the changes of offset of nasty zones, and any.
SELECT setseed(0.5);
CREATE TEMP TABLE instant AS
SELECT zone, change + around AS t
FROM (VALUES
    ('America/New_York', timestamptz '2026-03-08 07:00+00'), ('America/New_York', '2026-11-01 06:00+00'),
    ('Europe/Berlin', '2026-03-29 01:00+00'), ('Europe/Berlin', '2026-10-25 01:00+00'),
    ('Australia/Lord_Howe', '2026-04-04 15:00+00'), ('Australia/Lord_Howe', '2026-10-03 15:30+00'),
    ('America/Havana', '2026-03-08 05:00+00'), ('America/Havana', '2026-11-01 05:00+00'),
    ('America/Sao_Paulo', '2018-02-18 02:00+00'), ('America/Sao_Paulo', '2018-11-04 03:00+00'),
    ('America/St_Johns', '2010-03-14 03:31+00'), ('America/St_Johns', '2010-11-07 02:31+00'),
    ('Pacific/Apia', '2011-12-30 10:00+00'), ('Asia/Kathmandu', '1985-12-31 18:30+00'),
    ('Pacific/Chatham', '2026-04-04 14:00+00'), ('Africa/Casablanca', '2026-02-15 02:00+00'),
    ('America/Nuuk', '2023-03-26 01:00+00'), ('Asia/Gaza', '2011-08-01 00:00+00'),
    ('Antarctica/Troll', '2026-03-29 01:00+00'), ('Asia/Kolkata', '2026-01-01 18:30+00'), ('UTC', '2026-01-01 00:00+00')
) AS c (zone, change),
LATERAL (
    SELECT '1 microsecond'::interval * (CASE i % 4 WHEN 0 THEN 60e6 * floor(random() * 300 - 150)
                WHEN 1 THEN 60e6 * floor(random() * 300 - 150) - 1
                WHEN 2 THEN random() * 3e11 - 15e10 ELSE random() * 6e13 - 3e13 END + extract(epoch FROM change) * 0) AS around
    FROM generate_series(1, 40) AS i
) AS a;

-- start <= t < end; the same label from start to end, another beyond; the next bucket starts there.
SELECT zone, bucket, t, s, e
FROM (SELECT zone, bucket, t, meter.bucket_start(t, bucket, zone) AS s, meter.bucket_end(t, bucket, zone) AS e
      FROM instant, unnest('{minute,hour,day,week,month,year}'::text[]) AS bucket) AS b
WHERE (s <= t AND t < e
       AND pg_temp.label(s, bucket, zone) = pg_temp.label(t, bucket, zone)
       AND pg_temp.label(e - '1 microsecond'::interval, bucket, zone) = pg_temp.label(t, bucket, zone)
       AND pg_temp.label(s - '1 microsecond'::interval, bucket, zone) <> pg_temp.label(t, bucket, zone)
       AND pg_temp.label(e, bucket, zone) <> pg_temp.label(t, bucket, zone)
       AND meter.bucket_start(e, bucket, zone) = e) IS NOT TRUE
LIMIT 10;
-- A call site that sees other zones and buckets each time, and instants far apart.
SELECT count(*) FROM (
    SELECT t, zone, bucket FROM instant, unnest('{day,month,hour}'::text[]) AS bucket ORDER BY md5(t::text || bucket)
) AS o WHERE meter.bucket_start(o.t, o.bucket, o.zone) > o.t OR meter.bucket_end(o.t, o.bucket, o.zone) <= o.t;
SELECT count(*) FROM generate_series(timestamptz '1970-01-01', '9999-01-01', '97 days') AS t
WHERE meter.bucket_start(t, 'day', 'Europe/Berlin') <> date_trunc('day', t, 'Europe/Berlin');
