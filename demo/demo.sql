-- What meter is for, from the first meter to the invoice. `./meter demo` runs this on a throw-away
-- server; on a database of your own: psql -X -q -f demo/demo.sql
\set ON_ERROR_STOP on
\pset border 1
\pset null '(null)'
\pset format wrapped
\pset columns 110
SET client_min_messages = warning;
SET timezone = 'UTC';
\timing off

\echo
\echo '1. One extension, and nothing besides PostgreSQL. A partition for each month of events, and two'
\echo '   meters: tokens by model and kind, and the cost of requests, a fraction.'
\echo
\set ECHO queries

CREATE EXTENSION meter;

SELECT count(*) AS partitions FROM meter.create_partitions(since => '2025-03-01');

SELECT event_name, aggregation, dimensions
FROM meter.create_meter('llm.tokens', 'sum', ARRAY['model', 'kind'], name => 'Tokens');

SELECT event_name, aggregation, dimensions
FROM meter.create_meter('api.cost', 'sum', ARRAY['model'], name => 'Cost of requests');

\set ECHO none
\echo
\echo '2. One event. The key makes it safe to send again: the retry returns the same id, and writes nothing.'
\echo
\set ECHO queries

SELECT meter.record_event('llm.tokens', 'alice', 1200, '{"model": "large", "kind": "input"}',
                          idempotency => 'request-1', event_time => '2025-03-06 09:00Z') AS event_id;

SELECT meter.record_event('llm.tokens', 'alice', 1200, '{"model": "large", "kind": "input"}',
                          idempotency => 'request-1', event_time => '2025-03-06 09:00Z') AS event_id;

\set ECHO none
\echo
\echo '3. The same key with another value is neither dropped nor counted twice: it is refused.'
\echo
\set ECHO queries
\set ON_ERROR_STOP off

SELECT meter.record_event('llm.tokens', 'alice', 9999, '{"model": "large", "kind": "input"}',
                          idempotency => 'request-1', event_time => '2025-03-06 09:00Z') AS event_id;

\set ON_ERROR_STOP on
\set ECHO none
\echo
\echo '4. Four thousand events of five days, four users and three models, in one statement.'
\echo
\set ECHO queries

SELECT status, count(*)
FROM meter.record_events((
    SELECT jsonb_agg(jsonb_build_object(
        'event_name', 'llm.tokens',
        'user_id', (ARRAY['alice', 'bob', 'carol', 'dave'])[1 + n % 4],
        'value', 100 + n % 900,
        'dimensions', jsonb_build_object('model', (ARRAY['small', 'medium', 'large'])[1 + n % 3],
                                         'kind', (ARRAY['input', 'output'])[1 + n / 2 % 2]),
        'idempotency', 'batch-' || n,
        'timestamp', to_char(timestamp '2025-03-06' + n * interval '108 seconds',
                             'YYYY-MM-DD"T"HH24:MI:SS"Z"')))
    FROM generate_series(0, 3999) AS n))
GROUP BY status;

\set ECHO none
\echo
\echo '5. The driver lost the answer and sends half of it again: each row is known, none counts twice.'
\echo
\set ECHO queries

SELECT status, count(*), count(DISTINCT event_id) AS events
FROM meter.record_events((
    SELECT jsonb_agg(jsonb_build_object(
        'event_name', 'llm.tokens',
        'user_id', (ARRAY['alice', 'bob', 'carol', 'dave'])[1 + n % 4],
        'value', 100 + n % 900,
        'dimensions', jsonb_build_object('model', (ARRAY['small', 'medium', 'large'])[1 + n % 3],
                                         'kind', (ARRAY['input', 'output'])[1 + n / 2 % 2]),
        'idempotency', 'batch-' || n,
        'timestamp', to_char(timestamp '2025-03-06' + n * interval '108 seconds',
                             'YYYY-MM-DD"T"HH24:MI:SS"Z"')))
    FROM generate_series(2000, 3999) AS n))
GROUP BY status;

\set ECHO none
\echo
\echo '6. Events as they come from a queue, one JSON object a line. What is wrong with one line is told'
\echo '   of that line: a retry, a conflict, a dimension that is not declared, a value that is none.'
\echo
\set ECHO queries

SELECT ordinal, status, error
FROM meter.ingest($$
{"eventName":"llm.tokens","userId":"erin","value":300,"dimensions":{"model":"small","kind":"input"},"idempotency":"q-1","timestamp":"2025-03-07T10:00:00Z"}
{"eventName":"llm.tokens","userId":"erin","value":300,"dimensions":{"model":"small","kind":"input"},"idempotency":"q-1","timestamp":"2025-03-07T10:00:00Z"}
{"eventName":"llm.tokens","userId":"erin","value":301,"dimensions":{"model":"small","kind":"input"},"idempotency":"q-1","timestamp":"2025-03-07T10:00:00Z"}
{"eventName":"llm.tokens","userId":"erin","value":10,"dimensions":{"colour":"red"},"timestamp":"2025-03-07T10:00:01Z"}
{"eventName":"llm.tokens","userId":"erin","value":1e40,"timestamp":"2025-03-07T10:00:02Z"}
{"eventName":"llm.tokens","userId":"erin","value":200,"dimensions":{"model":"medium"},"idempotency":"q-2","timestamp":"2025-03-07T10:00:03Z"}
$$);

\set ECHO none
\echo
\echo '7. Usage by model, over any period, [start, end). A dimension that an event lacks is a group of its own.'
\echo
\set ECHO queries

SELECT dimensions, value, event_count
FROM meter.usage('llm.tokens', '2025-03-01', '2025-04-01', group_by => ARRAY['model', 'kind'])
ORDER BY dimensions;

\set ECHO none
\echo
\echo '8. Usage by day, where the user lives: in New York a day begins at four or five in the morning UTC,'
\echo '   and the ninth of March has 23 hours.'
\echo
\set ECHO queries

SELECT bucket_start, bucket_end - bucket_start AS length, value, event_count
FROM meter.usage('llm.tokens', '2025-03-05', '2025-03-13', user_id => 'alice',
                 bucket => 'day', time_zone => 'America/New_York', fill => true);

\set ECHO none
\echo
\echo '9. A thousand requests at 0.1 and one with a price of 18 decimals. A floating-point sum shows what'
\echo '   others would bill; the sum of the meter is exact.'
\echo
\set ECHO queries

SELECT status, count(*)
FROM meter.record_events(
    array_fill('api.cost'::text, ARRAY[1001]), array_fill('alice'::text, ARRAY[1001]),
    array_fill(0.1, ARRAY[1000]) || 0.000000000000000001,
    array_fill('{"model": "large"}'::jsonb, ARRAY[1001]),
    ARRAY(SELECT 'price-' || n FROM generate_series(1, 1001) AS n),
    array_fill('2025-03-08 12:00Z'::timestamptz, ARRAY[1001]))
GROUP BY status;

SELECT u.value AS exact,
       (SELECT sum(e.value::float8) FROM meter.meter_event AS e JOIN meter.meter AS m ON m.id = e.meter_id
        WHERE m.event_name = 'api.cost') AS floating
FROM meter.usage('api.cost', '2025-03-01', '2025-04-01') AS u;

\set ECHO none
\echo
\echo '10. What the invoice of March needs: every meter, every user.'
\echo
\set ECHO queries

SELECT user_id, event_name, value, event_count
FROM meter.usage_report('2025-03-01', '2025-04-01')
ORDER BY user_id, event_name;

\set ECHO none
\echo
\echo 'That is all. README.md says how to install meter into a PostgreSQL of your own, and shows more.'
\echo
