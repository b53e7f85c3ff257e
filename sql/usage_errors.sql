-- meter.usage: what it refuses, and how it says so.
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET meter.org = 'usage_errors';
\set VERBOSITY default
SELECT event_name FROM meter.create_meter('tokens', 'sum', '{model,region}');
SELECT event_name FROM meter.create_meter('any', 'sum');
SELECT count(meter.record_event('tokens', 'u' || i, i, event_time => '2026-02-01')) FROM generate_series(1, 10) AS i;

-- The period.
SELECT * FROM meter.usage('tokens', NULL, '2026-02-01');
SELECT * FROM meter.usage('tokens', '2026-02-01', NULL);
SELECT * FROM meter.usage('tokens', '-infinity', '2026-02-01');
SELECT * FROM meter.usage('tokens', '2026-02-01', 'infinity');
SELECT * FROM meter.usage('tokens', '2026-02-01', '2026-01-31 23:59:59.999999');
SELECT * FROM meter.usage('tokens', '0001-01-01 BC', '2026-01-01');
SELECT * FROM meter.usage('tokens', '2026-02-01', '20000-01-01');
SELECT value FROM meter.usage('tokens', '0001-01-01', '10000-01-01');
SELECT * FROM meter.usage_report(NULL, '2026-02-01');
SELECT * FROM meter.usage_report('2026-02-02', '2026-02-01');

-- The meter.
SELECT * FROM meter.usage(NULL, '2026-01-01', '2026-02-01');
SELECT * FROM meter.usage('token', '2026-01-01', '2026-02-01');
SELECT * FROM meter.usage('', '2026-01-01', '2026-02-01');

-- Names of things.
SELECT * FROM meter.usage('tokens', '2026-01-01', '2026-02-01', bucket => 'quarter');
SELECT * FROM meter.usage('tokens', '2026-01-01', '2026-02-01', bucket => 'Day');
SELECT * FROM meter.usage('tokens', '2026-01-01', '2026-02-01', bucket => '');
SELECT * FROM meter.usage('tokens', '2026-01-01', '2026-02-01', aggregation => 'median');
SELECT * FROM meter.usage('tokens', '2026-01-01', '2026-02-01', time_zone => 'Mars/Base');
SELECT * FROM meter.usage('tokens', '2026-01-01', '2026-02-01', time_zone => '');
-- PostgreSQL would take these, and read the sign the other way round.
SELECT * FROM meter.usage('tokens', '2026-01-01', '2026-02-01', bucket => 'day', time_zone => '+05:30');
SELECT * FROM meter.usage('tokens', '2026-01-01', '2026-02-01', bucket => 'day', time_zone => 'UTC+3');
SELECT * FROM meter.usage('tokens', '2026-01-01', '2026-02-01', bucket => 'day', time_zone => 'Etc/GMT+99');
SELECT z, bucket_start
FROM unnest('{Etc/GMT-3,etc/gmt+3,EST5EDT,europe/berlin,UTC,GMT,Asia/Kolkata}'::text[]) AS z,
    meter.usage('tokens', '2026-02-01', '2026-02-02', bucket => 'day', time_zone => z);

-- group_by.
SELECT * FROM meter.usage('tokens', '2026-01-01', '2026-02-01', group_by => '{model,colour}');
SELECT * FROM meter.usage('tokens', '2026-01-01', '2026-02-01', group_by => '{model,model}');
SELECT * FROM meter.usage('tokens', '2026-01-01', '2026-02-01', group_by => '{user_id,user_id}');
SELECT * FROM meter.usage('tokens', '2026-01-01', '2026-02-01', group_by => '{model,NULL}');
SELECT * FROM meter.usage('tokens', '2026-01-01', '2026-02-01', group_by => '{{model},{region}}');
SELECT * FROM meter.usage('any', '2026-01-01', '2026-02-01', group_by => '{""}');
SELECT * FROM meter.usage('any', '2026-01-01', '2026-02-01', group_by => ARRAY[repeat('x', 256)]);
SELECT * FROM meter.usage('any', '2026-01-01', '2026-02-01',
    group_by => (SELECT array_agg('d' || i) FROM generate_series(1, 33) AS i));
SELECT * FROM meter.usage('any', '2026-01-01', '2026-02-01',
    group_by => (SELECT array_agg('d' || i) FROM generate_series(1, 34) AS i));
SELECT count(*) FROM meter.usage('any', '2026-01-01', '2026-02-01',
    group_by => (SELECT array_agg('d' || i) || '{user_id}' FROM generate_series(1, 32) AS i), bucket => 'day',
    filter => (SELECT jsonb_object_agg('d' || i, i) FROM generate_series(1, 32) AS i), user_id => 'u');

-- filter.
SELECT * FROM meter.usage('tokens', '2026-01-01', '2026-02-01', filter => '[]');
SELECT * FROM meter.usage('tokens', '2026-01-01', '2026-02-01', filter => '"model"');
SELECT * FROM meter.usage('tokens', '2026-01-01', '2026-02-01', filter => 'null');
SELECT * FROM meter.usage('tokens', '2026-01-01', '2026-02-01', filter => '{"colour": "red"}');
SELECT * FROM meter.usage('tokens', '2026-01-01', '2026-02-01', filter => '{"user_id": "ann"}');
SELECT * FROM meter.usage('any', '2026-01-01', '2026-02-01', filter => '{"": "ann"}');
SELECT * FROM meter.usage('tokens', '2026-01-01', '2026-02-01', filter => '{"model": {"a": 1}}');
SELECT * FROM meter.usage('tokens', '2026-01-01', '2026-02-01', filter => '{"model": ["a", ["b"]]}');
SELECT * FROM meter.usage('tokens', '2026-01-01', '2026-02-01', filter => '{"model": ["a", {}]}');
SELECT * FROM meter.usage('any', '2026-01-01', '2026-02-01',
    filter => (SELECT jsonb_object_agg('d' || i, i) FROM generate_series(1, 33) AS i));
-- Names and values are parameters, never text of the query.
SELECT count(*) FROM meter.usage('any', '2026-01-01', '2026-02-01', '''; DROP TABLE x; --',
    ARRAY['''; SELECT 1; --', '$1', '"', '\'], '{"''": "\" OR true"}');

-- fill's limit: refused before anything is counted.
SELECT * FROM meter.usage('tokens', '0001-01-01', '10000-01-01', bucket => 'minute', fill => true);
SET meter.max_usage_rows = 280;
SELECT count(*) FROM meter.usage('tokens', '2026-02-01', '2026-03-01', bucket => 'day', fill => true);
SELECT count(*) FROM meter.usage('tokens', '2026-02-01', '2026-03-01', bucket => 'day', group_by => '{user_id}', fill => true);
SET meter.max_usage_rows = 279;
SELECT count(*) FROM meter.usage('tokens', '2026-02-01', '2026-03-01', bucket => 'day', group_by => '{user_id}', fill => true);
SET meter.max_usage_rows = 28;
SELECT count(*) FROM meter.usage('tokens', '2026-02-01', '2026-03-01', bucket => 'day', fill => true);
SET meter.max_usage_rows = 27;
SELECT count(*) FROM meter.usage('tokens', '2026-02-01', '2026-03-01', bucket => 'day', fill => true);
SET meter.max_usage_rows = 5;
SELECT count(*) FROM meter.usage('tokens', '2026-02-01', '2026-02-02', bucket => 'day', group_by => '{user_id}', fill => true);
-- It is about filling alone.
SELECT count(*) FROM meter.usage('tokens', '2026-01-01', '2026-03-01', bucket => 'minute', group_by => '{user_id}');
RESET meter.max_usage_rows;

-- Long work is cancelled.
SET meter.max_usage_rows = 100000000;
SET statement_timeout = '200ms';
SELECT count(*) FROM meter.usage('tokens', '1970-01-01', '2150-01-01', bucket => 'minute', fill => true);
RESET statement_timeout;
RESET meter.max_usage_rows;

-- In a select list it works as well.
SELECT (meter.usage('tokens', '2026-02-01', '2026-02-02')).value;
