-- What meter is for, from the first meter to the invoice and what comes after. `./meter demo` runs
-- this on a throw-away server; in an empty database of your own: psql -X -q <demo/demo.sql
\set ON_ERROR_STOP on
\pset border 1
\pset null '(null)'
\pset format wrapped
\pset columns 100
\pset pager off
SET client_min_messages = warning;
SET timezone = 'UTC';
\timing off

\echo
\echo '1. One extension, and nothing besides PostgreSQL. A partition for each month of events, and two'
\echo '   meters: tokens by model and kind, and the cost of requests, a fraction.'
\echo
\set ECHO queries

CREATE EXTENSION meter;

SELECT count(*) > 0 AS partitions_made FROM meter.create_partitions(since => '2025-03-01');

SELECT event_name, aggregation, dimensions
FROM meter.create_meter('llm.tokens', 'sum', '{model,kind}', name => 'Tokens');

SELECT event_name, aggregation, dimensions
FROM meter.create_meter('api.cost', 'sum', '{model}', name => 'Cost of requests');

\set ECHO none
\echo
\echo '2. One event. The key makes it safe to send again: the retry returns the same id, and writes'
\echo '   nothing.'
\echo
\set ECHO queries

SELECT meter.record_event('llm.tokens', 'alice', 1200, '{"model": "large", "kind": "input"}',
                          idempotency => 'request-1', event_time => '2025-03-06 09:00Z') AS id;

SELECT meter.record_event('llm.tokens', 'alice', 1200, '{"model": "large", "kind": "input"}',
                          idempotency => 'request-1', event_time => '2025-03-06 09:00Z') AS id;

\set ECHO none
\echo
\echo '3. The same key with another value is neither dropped nor counted twice: it is refused.'
\echo
\set ECHO queries
\set ON_ERROR_STOP off

SELECT meter.record_event('llm.tokens', 'alice', 9999, '{"model": "large", "kind": "input"}',
                          idempotency => 'request-1', event_time => '2025-03-06 09:00Z') AS id;

\set ON_ERROR_STOP on
\set ECHO none
\echo
\echo '4. Four thousand events of five days, four users and three models, in one statement.'
\echo
\set ECHO queries

CREATE TEMPORARY TABLE batch AS
SELECT n, jsonb_build_object(
    'event_name', 'llm.tokens',
    'user_id', ('{alice,bob,carol,dave}'::text[])[1 + n % 4],
    'value', 100 + n % 900,
    'dimensions', jsonb_build_object('model', ('{small,medium,large}'::text[])[1 + n % 3],
                                     'kind', ('{input,output}'::text[])[1 + n / 2 % 2]),
    'idempotency', 'batch-' || n,
    'timestamp', timestamptz '2025-03-06 00:00Z' + n * interval '108 seconds') AS event
FROM generate_series(0, 3999) AS n;

SELECT status, count(*)
FROM meter.record_events((SELECT jsonb_agg(event) FROM batch)) GROUP BY status;

\set ECHO none
\echo
\echo '5. The driver lost the answer and sends half of it again: each event is known, none counts'
\echo '   twice.'
\echo
\set ECHO queries

SELECT status, count(*)
FROM meter.record_events((SELECT jsonb_agg(event) FROM batch WHERE n >= 2000)) GROUP BY status;

\set ECHO none
\echo
\echo '6. Events as text, as they come from a queue: a JSON array, or an object a line, or CloudEvents.'
\echo '   Each is judged by itself: a retry, a conflict, an unknown dimension, a value out of bounds.'
\echo
\set ECHO queries

SELECT ordinal, status, split_part(error, '. ', 1) AS error
FROM meter.ingest('[
    {"event_name": "llm.tokens", "user_id": "erin", "value": 300, "idempotency": "q-1",
     "dimensions": {"model": "small", "kind": "input"}, "timestamp": "2025-03-07T10:00:00Z"},
    {"event_name": "llm.tokens", "user_id": "erin", "value": 300, "idempotency": "q-1",
     "dimensions": {"model": "small", "kind": "input"}, "timestamp": "2025-03-07T10:00:00Z"},
    {"event_name": "llm.tokens", "user_id": "erin", "value": 301, "idempotency": "q-1",
     "dimensions": {"model": "small", "kind": "input"}, "timestamp": "2025-03-07T10:00:00Z"},
    {"event_name": "llm.tokens", "user_id": "erin", "value": 10, "dimensions": {"colour": "red"}},
    {"event_name": "llm.tokens", "user_id": "erin", "value": 1e40},
    {"event_name": "llm.tokens", "user_id": "erin", "value": 200, "idempotency": "q-2",
     "timestamp": "2025-03-07T10:00:03Z"}]');

\set ECHO none
\echo
\echo '7. Usage by model, over any period, [start, end). Events without a model are a group of their'
\echo '   own. Then by model and day.'
\echo
\set ECHO queries

SELECT dimensions, value, event_count
FROM meter.usage('llm.tokens', '2025-03-01', '2025-04-01', group_by => '{model}');

SELECT bucket_start::date AS day,
       sum(value) FILTER (WHERE dimensions @> '{"model": "small"}') AS small,
       sum(value) FILTER (WHERE dimensions @> '{"model": "medium"}') AS medium,
       sum(value) FILTER (WHERE dimensions @> '{"model": "large"}') AS large
FROM meter.usage('llm.tokens', '2025-03-01', '2025-04-01', group_by => '{model}', bucket => 'day')
GROUP BY day ORDER BY day;

\set ECHO none
\echo
\echo '8. By day where the user lives. In New York the clock goes ahead on the ninth of March: that day'
\echo '   has 23 hours.'
\echo
\set ECHO queries

SELECT to_char(bucket_start AT TIME ZONE 'America/New_York', 'Dy DD Mon HH24:MI') AS new_york,
       to_char(bucket_start, 'Dy DD Mon HH24:MI') AS utc,
       bucket_end - bucket_start AS length, value, event_count
FROM meter.usage('llm.tokens', '2025-03-06 America/New_York', '2025-03-12 America/New_York',
                 user_id => 'alice', bucket => 'day', fill => true,
                 time_zone => 'America/New_York');

\set ECHO none
\echo
\echo '9. How many users there were: each counts once in a day, and once in the month.'
\echo
\set ECHO queries

SELECT bucket_start::date AS day, value AS users, event_count
FROM meter.usage('llm.tokens', '2025-03-01', '2025-04-01', bucket => 'day',
                 aggregation => 'unique_count', property => 'user_id');

SELECT value AS users
FROM meter.usage('llm.tokens', '2025-03-01', '2025-04-01',
                 aggregation => 'unique_count', property => 'user_id');

\set ECHO none
\echo
\echo '10. A thousand requests at 0.1 and one with a price of 18 decimals: the sum is exact. Below it'
\echo '    is what a sum in floating point would bill.'
\echo
\set ECHO queries

SELECT count(meter.record_event('api.cost', 'alice', price, event_time => '2025-03-08 12:00Z'))
FROM (SELECT 0.1 FROM generate_series(1, 1000) UNION ALL SELECT 1e-18) AS request (price);

SELECT value AS exact FROM meter.usage('api.cost', '2025-03-01', '2025-04-01');

SELECT sum(value::float8) AS floating FROM meter.list_events('api.cost', max_rows => 2000);

\set ECHO none
\echo
\echo '11. An event that was wrong is amended, or voided. It stays, with when, by whom and why; every'
\echo '    number follows at once.'
\echo
\set ECHO queries

SELECT meter.amend_event('llm.tokens', 'erin', 'q-1', value => 250, reason => '50 were ours') > 0
       AS amended;

SELECT meter.void_event('llm.tokens', 'erin', 'q-2', reason => 'an outage') > 0 AS voided;

SELECT version, value, status, reason FROM meter.event_history('llm.tokens', 'erin', 'q-1');

SELECT value, event_count
FROM meter.usage('llm.tokens', '2025-03-01', '2025-04-01', user_id => 'erin');

\set ECHO none
\echo
\echo '12. What the invoice of March needs: every meter, every user.'
\echo
\set ECHO queries

SELECT * FROM meter.usage_report('2025-03-01', '2025-04-01');

\set ECHO none
\echo
\echo '13. The month is closed: what was billed is frozen into statements. An event that arrives later'
\echo '    is counted, and is late: the next close bills it as an adjustment, once.'
\echo
\set ECHO queries

SELECT meter.close_period('2025-04-01Z') AS rows_written;

SELECT meter.record_event('llm.tokens', 'erin', 40, '{"model": "small", "kind": "output"}',
                          event_time => '2025-03-31 23:59Z') > 0 AS recorded;

SELECT user_id, dimensions, quantity, event_count FROM meter.late_usage();

SELECT meter.close_period('2025-05-01Z') AS rows_written;

SELECT kind, for_end::date, dimensions, quantity FROM meter.list_statements('llm.tokens', 'erin');

\set ECHO none
\echo
\echo '14. A hard limit: what would exceed it is refused, exactly, whatever else is recorded meanwhile.'
\echo
\set ECHO queries

SELECT amount, period, kind FROM meter.set_limit('llm.tokens', 'frank', 1000, 'total');

SELECT meter.record_event('llm.tokens', 'frank', 900) > 0 AS recorded;

\set ON_ERROR_STOP off

SELECT meter.record_event('llm.tokens', 'frank', 200) > 0 AS recorded;

\set ON_ERROR_STOP on

SELECT meter.remaining('llm.tokens', 'frank');

\set ECHO none
\echo
\echo '15. An alert at 80 per cent of the limit. The worker folds, or you do: alerts fire then, once'
\echo '    each, into a table and by NOTIFY.'
\echo
\set ECHO queries

SELECT name, percents, period
FROM meter.set_alert('llm.tokens', NULL, 'budget', percents => '{80,100}', period => 'total');

SELECT meter.fold() > 0 AS folded;

SELECT user_id, name, kind, threshold, amount, usage FROM meter.list_alerts('llm.tokens');

\set ECHO none
\echo
\echo 'That is all. ./meter psql has a prompt to try it at; README.md says how to install meter into a'
\echo 'PostgreSQL of your own, and shows more.'
\echo
