-- meter.usage: what it promises, on events few enough to add up by hand.
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET meter.org = 'usage';
\pset null '(null)'

SELECT event_name FROM meter.create_meter('tokens', 'sum', '{model,region}');
SELECT event_name FROM meter.create_meter('calls', 'count');
SELECT event_name FROM meter.create_meter('seats', 'last');
SELECT event_name FROM meter.create_meter('idle', 'last');

SELECT count(meter.record_event('tokens', u, v, d::jsonb, event_time => t::timestamptz)) FROM (VALUES
    ('ann', 0.5, '{"model": "gpt-4", "region": "us"}', '2026-01-31 23:59:59.999999+00'),
    ('ann', 0.5, '{"model": "gpt-4", "region": "us"}', '2026-02-01 00:00:00+00'),
    ('ann', 2,   '{"model": "gpt-4"}',                 '2026-02-01 00:00:00.000001+00'),
    ('bob', 40,  '{"model": "gpt-3", "region": "eu"}', '2026-02-14 12:00:00+00'),
    ('bob', -3,  '{"region": "eu"}',                   '2026-02-28 23:59:59.999999+00'),
    ('bob', 100, '{}',                                 '2026-03-01 00:00:00+00')
) AS e (u, v, d, t);

-- Half-open at the microsecond.
SELECT * FROM meter.usage('tokens', '2026-02-01', '2026-03-01');
SELECT * FROM meter.usage('tokens', '2026-01-31 23:59:59.999999', '2026-02-01 00:00:00.000001');
SELECT * FROM meter.usage('tokens', '2026-02-01 00:00:00.000001', '2026-02-01 00:00:00.000002');
-- One row without events, and for an empty period.
SELECT * FROM meter.usage('tokens', '2025-01-01', '2025-02-01');
SELECT * FROM meter.usage('tokens', '2026-02-01', '2026-02-01');
SELECT * FROM meter.usage('tokens', '2026-02-01', '2026-02-01', bucket => 'day');
SELECT * FROM meter.usage('tokens', '2026-02-01', '2026-02-01', bucket => 'day', fill => true);
SELECT a, value, event_count
FROM unnest('{sum,count,last,min,max,avg}'::text[]) AS a,
    meter.usage('tokens', '2025-01-01', '2025-02-01', aggregation => a);
-- Every aggregation, the meter's own by default; without trailing zeros.
SELECT a, value, event_count
FROM unnest('{sum,count,last,min,max,avg,NULL}'::text[]) AS a,
    meter.usage('tokens', '2026-01-01', '2026-03-01', aggregation => a);
SELECT value FROM meter.usage('tokens', '2026-01-31', '2026-02-01 00:00:00.000001');

-- By user, by dimension, by both; the order of the names is no matter. Missing is JSON null.
SELECT user_id, dimensions, value, event_count
FROM meter.usage('tokens', '2026-01-01', '2027-01-01', group_by => '{user_id}');
SELECT user_id, dimensions, value, event_count
FROM meter.usage('tokens', '2026-01-01', '2027-01-01', group_by => '{model}');
SELECT user_id, dimensions, value, event_count
FROM meter.usage('tokens', '2026-01-01', '2027-01-01', group_by => '{region,user_id,model}');
-- No rows without events where it groups.
SELECT * FROM meter.usage('tokens', '2025-01-01', '2025-02-01', group_by => '{user_id}');
-- One user's, and the user said in each row.
SELECT user_id, dimensions, value, event_count
FROM meter.usage('tokens', '2026-01-01', '2027-01-01', 'ann', '{model}');
SELECT user_id, dimensions, value, event_count FROM meter.usage('tokens', '2026-01-01', '2027-01-01', 'eve');
SELECT user_id, dimensions, value, event_count FROM meter.usage('tokens', '2026-01-01', '2027-01-01', '');

-- Filters: a scalar, several, null for a missing one, none.
SELECT f, value, event_count
FROM unnest(ARRAY['{}', '{"model": "gpt-4"}', '{"model": ["gpt-4", "gpt-3"]}', '{"region": null}',
                  '{"region": [null, "eu"]}', '{"model": "gpt-4", "region": [null]}',
                  '{"region": []}', '{"model": "gpt"}', NULL]::jsonb[]) AS f,
    meter.usage('tokens', '2026-01-01', '2027-01-01', filter => f);

-- JSON equality: 1 is 1.0, and neither is "1" nor true.
SELECT count(meter.record_event('calls', 'ann', 1, d, event_time => '2026-02-02 00:00:00+00'))
FROM unnest(ARRAY['{"k": 1}', '{"k": 1.0}', '{"k": "1"}', '{"k": true}', '{"k": null}', '{}',
                  '{"k": false}', '{"k": ""}', '{"k": "null"}', '{"k": 1.50}']::jsonb[]) AS d;
SELECT dimensions, value FROM meter.usage('calls', '2026-01-01', '2027-01-01', group_by => '{k}');
SELECT f, value
FROM unnest(ARRAY['{"k": 1}', '{"k": 1.000}', '{"k": "1"}', '{"k": true}', '{"k": null}', '{"k": ""}',
                  '{"k": [1.5, "null"]}', '{"other": null}', '{"other": 1}']::jsonb[]) AS f,
    meter.usage('calls', '2026-01-01', '2027-01-01', filter => f);
-- A meter that declares no dimensions is grouped by any.
SELECT dimensions, value
FROM meter.usage('calls', '2026-01-01', '2027-01-01', group_by => '{other,another}');
-- A long list of values.
SELECT value FROM meter.usage('calls', '2026-01-01', '2027-01-01',
    filter => (SELECT jsonb_build_object('k', jsonb_agg(i)) FROM generate_series(1, 10000) AS i));
SELECT value FROM meter.usage('calls', '2026-01-01', '2027-01-01',
    filter => (SELECT jsonb_build_object('k', jsonb_agg(i)) FROM generate_series(1, 10001) AS i));

-- last: the greatest (timestamp, id), whatever the order of recording.
SELECT count(meter.record_event('seats', 'ann', v, event_time => t::timestamptz)) FROM (VALUES
    (5, '2026-02-03'), (9, '2026-02-02'), (7, '2026-02-03'), (6.500, '2026-02-03'), (8, '2026-02-01')
) AS e (v, t);
SELECT value, event_count FROM meter.usage('seats', '2026-01-01', '2027-01-01');
SELECT value FROM meter.usage('seats', '2026-01-01', '2026-02-03');
SELECT bucket_start, value FROM meter.usage('seats', '2026-01-01', '2027-01-01', bucket => 'day');

-- Buckets report their full bounds, and the usage inside the period alone.
SELECT * FROM meter.usage('tokens', '2026-02-01 00:00:00.000001', '2026-03-15', bucket => 'month');
SELECT * FROM meter.usage('tokens', '2026-02-14 11:59', '2026-03-01', bucket => 'week');
SELECT b, u.bucket_start, u.bucket_end, u.value
FROM unnest('{minute,hour,day,week,month,year}'::text[]) AS b,
    meter.usage('tokens', '2026-02-14', '2026-02-15', bucket => b) AS u;
-- In a time zone, some of it is of another day.
SELECT * FROM meter.usage('tokens', '2026-01-01', '2027-01-01', bucket => 'month', time_zone => 'America/New_York');
-- Order: bucket, user, dimensions.
SELECT bucket_start, user_id, dimensions, value
FROM meter.usage('tokens', '2026-01-01', '2027-01-01', group_by => '{user_id,model}', bucket => 'month');

-- fill: every bucket; every group that the period has, in every bucket.
SELECT bucket_start, bucket_end, value, event_count
FROM meter.usage('tokens', '2026-01-31 12:00', '2026-02-03', bucket => 'day', fill => true);
SELECT bucket_start, user_id, dimensions, value, event_count
FROM meter.usage('tokens', '2026-01-15', '2026-04-15', group_by => '{user_id,region}', bucket => 'month', fill => true);
SELECT bucket_start, user_id, value, event_count
FROM meter.usage('tokens', '2026-01-15', '2026-03-15', 'ann', bucket => 'month', fill => true);
SELECT a, array_agg(value ORDER BY bucket_start) AS values, array_agg(event_count ORDER BY bucket_start) AS counts
FROM unnest('{sum,count,last,min,max,avg}'::text[]) WITH ORDINALITY AS o (a, n),
    meter.usage('tokens', '2026-01-01', '2026-05-01', bucket => 'month', aggregation => a, fill => true)
GROUP BY a, n ORDER BY n;
SELECT * FROM meter.usage('tokens', '2025-01-01', '2025-03-01', group_by => '{model}', bucket => 'month', fill => true);
-- The days of a month that has 31, of which the one is 23 hours long; and Apia's that was skipped.
SELECT count(*), min(bucket_end - bucket_start), max(bucket_end - bucket_start)
FROM meter.usage('tokens', '2026-03-01 00:00 America/New_York', '2026-04-01 00:00 America/New_York',
                 bucket => 'day', time_zone => 'America/New_York', fill => true);
SELECT bucket_start AT TIME ZONE 'Pacific/Apia' AS local_start, bucket_end - bucket_start AS length
FROM meter.usage('tokens', '2011-12-29 12:00+00', '2011-12-31 12:00+00', bucket => 'day',
                 time_zone => 'Pacific/Apia', fill => true);
-- Without a bucket there is nothing to fill.
SELECT user_id, value FROM meter.usage('tokens', '2026-01-01', '2027-01-01', group_by => '{user_id}', fill => true);

-- An explicit null is the default.
SELECT * FROM meter.usage('tokens', '2026-01-01', '2027-01-01', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT bucket_start, value FROM meter.usage('tokens', '2026-01-01', '2027-01-01', bucket => 'year', time_zone => NULL);

-- An archived meter stays readable, another org's is none, and neither are its events.
SELECT archived_at IS NOT NULL AS archived FROM meter.archive_meter('seats');
SELECT value FROM meter.usage('seats', '2026-01-01', '2027-01-01');
SET meter.org = 'usage-other';
SELECT * FROM meter.usage('seats', '2026-01-01', '2027-01-01');
SELECT event_name FROM meter.create_meter('tokens', 'sum');
SELECT meter.record_event('tokens', 'ann', 7, event_time => '2026-02-01') IS NOT NULL;
SELECT value FROM meter.usage('tokens', '2026-01-01', '2027-01-01');
SELECT * FROM meter.usage_report('2026-01-01', '2027-01-01');
SET meter.org = 'usage';

-- The report: every meter, archived ones too, by its own aggregation; no row without events.
SELECT * FROM meter.usage_report('2026-01-01', '2027-01-01');
SELECT * FROM meter.usage_report('2026-02-01', '2026-02-28 23:59:59.999999');
SELECT * FROM meter.usage_report('2026-01-01', '2027-01-01', 'bob');
SELECT * FROM meter.usage_report('2026-01-01', '2026-01-01');
SELECT * FROM meter.usage_report('2026-01-01', '2027-01-01', 'eve');

-- Exact where a double is not.
SELECT event_name FROM meter.create_meter('exact', 'sum');
SELECT count(meter.record_event('exact', 'ann', v, event_time => '2026-02-02'))
FROM unnest('{9007199254740993,0.1,0.2,999999999999999999999999999999,0.000000000000000001}'::numeric[]) AS v;
SELECT value FROM meter.usage('exact', '2026-01-01', '2027-01-01');
SELECT value FROM meter.usage('exact', '2026-01-01', '2027-01-01', aggregation => 'avg');

-- One snapshot: what a cursor reads is of when it was opened, what the transaction did included.
BEGIN;
SELECT meter.record_event('exact', 'bob', 1, event_time => '2026-05-05') IS NOT NULL;
DECLARE c CURSOR FOR SELECT value FROM meter.usage('exact', '2026-05-01', '2026-06-01');
SELECT meter.record_event('exact', 'bob', 2, event_time => '2026-05-05') IS NOT NULL;
FETCH c;
SELECT value FROM meter.usage('exact', '2026-05-01', '2026-06-01');
ROLLBACK;
