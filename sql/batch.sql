-- record_events and ingest: many events, each judged by itself.
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
SELECT count(*) FROM meter.create_meter('tokens', 'sum', '{model,region}');
SELECT count(*) FROM meter.create_meter('calls', 'count');
SELECT count(*) FROM meter.create_meter('old', 'count');
SELECT count(*) FROM meter.archive_meter('old');
SET meter.org = 'acme';
SELECT id AS acme_id FROM meter.create_meter('secret') \gset
RESET meter.org;
-- Ids differ from run to run of this file: show which items share one.
CREATE FUNCTION pg_temp.rank_ids(ids bigint[]) RETURNS integer[] LANGUAGE sql AS $$
    SELECT array_agg(r ORDER BY n) FROM (SELECT n, CASE WHEN id IS NOT NULL THEN dense_rank() OVER (ORDER BY id NULLS LAST) END AS r
                                         FROM unnest(ids) WITH ORDINALITY AS u (id, n)) AS ranked
$$;

-- One row for each item, in order.
SELECT ordinal, status, error FROM meter.record_events('[
    {"event_name": "tokens", "user_id": "alice", "value": 10.50, "dimensions": {"model": "gpt-4", "region": null}, "idempotency": "k1",
     "timestamp": "2026-01-31T23:59:59.9999999Z", "metadata": {"a": [1.50, {}]}},
    {"eventName": "calls", "userId": "bob"},
    {"meter_id": 2, "user_id": "bob", "value": null, "dimensions": null, "idempotency": null, "timestamp": null, "metadata": null},
    {"event_name": "nothing", "user_id": "bob"},
    {"event_name": "old", "user_id": "bob"},
    {"event_name": "tokens", "user_id": "bob", "dimensions": {"modle": "x"}},
    {"event_name": "tokens", "user_id": "bob", "value": "12.25"},
    {"event_name": "tokens", "user_id": "bob", "value": "many"},
    {"event_name": "tokens", "user_id": "bob", "value": 1e30},
    {"event_name": "tokens", "user_id": "bob", "value": 1e400},
    {"event_name": "tokens", "user_id": "bob", "value": 123456789012345678901234567890.123456789012345678},
    {"event_name": "tokens", "user_id": "", "value": 1},
    {"event_name": "tokens", "value": 1},
    {"event_name": "tokens", "user_id": 7},
    {"user_id": "bob"},
    {"event_name": "tokens", "meter_id": 1, "user_id": "bob"},
    {"meter_id": 999999, "user_id": "bob"},
    {"meter_id": 99999999999, "user_id": "bob"},
    {"event_name": "tokens", "user_id": "bob", "quantity": 1},
    {"event_name": "tokens", "user_id": "bob", "timestamp": 1769904000},
    {"event_name": "tokens", "user_id": "bob", "timestamp": "2026-01-31 12:00"},
    {"event_name": "tokens", "user_id": "bob", "timestamp": "1969-12-31T23:59:59Z"},
    {"event_name": "tokens", "user_id": "bob", "dimensions": {"model": {"a": 1}}},
    {"event_name": "tokens", "user_id": "bob", "metadata": []},
    7, null, "x", []]');
SELECT m.event_name, user_id, value, CASE WHEN "timestamp" = recorded_at THEN 'now' ELSE "timestamp"::text END AS "timestamp",
       idempotency, e.dimensions, e.metadata
FROM meter.meter_event e JOIN meter.meter m ON m.id = e.meter_id ORDER BY e.id;
-- A meter of another org is unknown, by number too.
SELECT status, error = 'meter ' || :acme_id || ' does not exist in org "default". Define it with meter.create_meter, or see meter.list_meters() for those that there are.' AS unknown
FROM meter.record_events(jsonb_build_array(jsonb_build_object('meter_id', :acme_id, 'user_id', 'bob')));

-- Keys: against the ledger, and within the batch the lowest ordinal wins.
SELECT ordinal, status, pg_temp.rank_ids(array_agg(event_id) OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)) AS same_ids, error
FROM meter.record_events('[
    {"event_name": "tokens", "user_id": "alice", "value": 10.5, "dimensions": {"model": "gpt-4"}, "idempotency": "k1"},
    {"event_name": "tokens", "user_id": "alice", "value": 11, "dimensions": {"model": "gpt-4"}, "idempotency": "k1"},
    {"event_name": "tokens", "user_id": "alice", "value": 2, "idempotency": "k2"},
    {"event_name": "tokens", "user_id": "alice", "value": 2.0, "idempotency": "k2", "timestamp": "2026-01-01T00:00:00Z"},
    {"event_name": "tokens", "user_id": "alice", "value": 3, "idempotency": "k2"},
    {"event_name": "calls", "user_id": "alice", "value": 3, "idempotency": "k2"},
    {"event_name": "tokens", "user_id": "bob", "value": 3, "idempotency": "k2"},
    {"event_name": "tokens", "user_id": "bob", "value": 3},
    {"event_name": "tokens", "user_id": "bob", "value": 3}]');
-- A first item that is invalid does not claim the key.
SELECT ordinal, status FROM meter.record_events('[
    {"event_name": "tokens", "user_id": "carol", "value": "x", "idempotency": "c1"},
    {"event_name": "tokens", "user_id": "carol", "value": 5, "idempotency": "c1"}]');
SELECT user_id, value, idempotency FROM meter.meter_event WHERE idempotency IN ('k2', 'c1') ORDER BY id;

-- strict: all of them, or none and an error that names the first.
SELECT count(*) AS before FROM meter.meter_event \gset
SELECT pg_temp.sqlstate_of($$SELECT * FROM meter.record_events('[{"event_name": "calls", "user_id": "s", "idempotency": "s1"}, {"event_name": "calls", "user_id": ""}]', true)$$);
SELECT pg_temp.sqlstate_of($$SELECT * FROM meter.record_events('[{"event_name": "calls", "user_id": "s", "idempotency": "s1"}, {"event_name": "tokens", "user_id": "alice", "value": 99, "idempotency": "k1"}]', strict => true)$$);
SELECT pg_temp.sqlstate_of($$SELECT * FROM meter.record_events('[{"event_name": "calls", "user_id": "s"}, {"event_name": "nothing", "user_id": "s"}]', true)$$);
SELECT count(*) - :before AS written, (SELECT count(*) FROM meter.event_key WHERE event_id NOT IN (SELECT id FROM meter.meter_event)) AS orphans FROM meter.meter_event;
SELECT ordinal, status FROM meter.record_events('[{"event_name": "calls", "user_id": "s", "idempotency": "s1"}, {"event_name": "tokens", "user_id": "alice", "value": 10.5, "dimensions": {"model": "gpt-4"}, "idempotency": "k1"}]', true);
SELECT ordinal, status FROM meter.record_events('[{"event_name": "calls", "user_id": "s"}]', NULL);

-- The array form.
SELECT ordinal, status, error FROM meter.record_events(
    '{tokens,tokens,calls,nothing,NULL,tokens,tokens,tokens,tokens,calls}', '{dora,dora,dora,dora,dora,NULL,dora,dora,dora,""}',
    '{1.5,1.50,NULL,1,1,1,NaN,1,1,1}',
    ARRAY['{"model": "a"}', '{"model": "a", "region": null}', NULL, '{}', '{}', '{}', '{}', '{"x": 1}', '{"model": []}', '{}']::jsonb[],
    '{d1,d1,NULL,d2,d3,d4,d5,d6,d7,d8}', ARRAY['2026-01-01', '2026-01-02', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL]::timestamptz[]);
SELECT m.event_name, value, "timestamp" = '2026-01-01' AS given_time, idempotency, e.dimensions, e.metadata
FROM meter.meter_event e JOIN meter.meter m ON m.id = e.meter_id WHERE user_id = 'dora' ORDER BY e.id;
SELECT ordinal, status FROM meter.record_events('{calls,calls}', '{erin,erin}', NULL, NULL, NULL, NULL);
SELECT ordinal, status, error FROM meter.record_events('{calls,calls,calls}', '{erin,erin,erin}', '{1,2,3}', NULL, NULL,
    ARRAY['infinity', '1969-01-01', '2026-01-01']::timestamptz[], ARRAY['{"a": 1}', '{}', '[]']::jsonb[]);
SELECT count(*) FROM meter.record_events('{}', '{}', '{}', '{}', '{}', '{}');
SELECT pg_temp.sqlstate_of('SELECT * FROM meter.record_events(' || arguments || ')')
FROM (VALUES ($$NULL, '{a}', NULL, NULL, NULL, NULL$$), ($$'{calls}', NULL, NULL, NULL, NULL, NULL$$),
             ($$'{calls}', '{a,b}', NULL, NULL, NULL, NULL$$), ($$'{calls}', '{a}', '{1,2}', NULL, NULL, NULL$$),
             ($$'{{calls}}', '{{a}}', NULL, NULL, NULL, NULL$$), ($$'{calls}', '{a}', '{NaN}', NULL, NULL, NULL, NULL, true$$)) AS t (arguments);

-- ingest: JSON array, NDJSON, one object, CloudEvents one and many.
SELECT ordinal, status, error FROM meter.ingest(' [{"event_name": "calls", "user_id": "fay", "idempotency": "1"}, {"event_name": "calls", "user_id": "fay", "idempotency": "1", "value": 2}]');
SELECT ordinal, status, error FROM meter.ingest(E'{"event_name": "calls", "user_id": "fay"}\n\n{"event_name": "calls"\r\n{"event_name": "calls", "user_id": "fay", "idempotency": "1"}');
SELECT ordinal, status, error FROM meter.ingest(E'{\n  "event_name": "calls",\n  "user_id": "fay"\n}\n');
SELECT ordinal, status, error FROM meter.ingest('{"specversion": "1.0", "type": "tokens", "source": "/api/eu", "id": "A-1", "subject": "gina", "time": "2026-01-05T10:00:00+01:00", "data": {"value": 42, "dimensions": {"model": "gpt-4"}}}');
SELECT ordinal, status, error FROM meter.ingest('[{"specversion": "1.0", "type": "tokens", "source": "/api/eu", "id": "A-1", "subject": "gina", "data": {"value": 42, "dimensions": {"model": "gpt-4"}}},
    {"type": "calls", "source": "/api/eu", "id": "A-2", "subject": "gina", "traceparent": "00-x", "specversion": "1.0"},
    {"specversion": "1.0", "type": "tokens", "source": "/api/eu", "id": "A-1", "subject": "gina", "data": {"value": 43}},
    {"specversion": "0.3", "type": "tokens", "source": "/api/eu", "id": "A-3", "subject": "gina"},
    {"specversion": "1.0", "type": "tokens", "source": "/api/eu", "subject": "gina"},
    {"specversion": "1.0", "type": "tokens", "source": "/api eu", "id": "A-4", "subject": "gina"},
    {"specversion": "1.0", "type": "tokens", "source": "/api/eu", "id": "A-5"}]');
SELECT m.event_name, user_id, value, "timestamp" = '2026-01-05 09:00+00' AS given_time, idempotency, e.dimensions
FROM meter.meter_event e JOIN meter.meter m ON m.id = e.meter_id WHERE user_id = 'gina' ORDER BY e.id;
SELECT count(*) FROM meter.ingest('');
SELECT count(*) FROM meter.ingest('[]');
SELECT ordinal, status, error FROM meter.ingest('[{"event_name": "calls", "user_id": "hal", "user_id": "joe"}, {"event_name": "calls", "userId": "hal", "user_id": "joe"},
    {"event_name": "calls", "user_id": "hal", "dimensions": {"a": 1, "a": 2}}, {"event_name": "calls", "user_id": "hal", "metadata": {"a": {"b": 1, "b": 2}}},
    {"event_name": "calls", "user_id": "hal\u0000"}]');
-- What is wrong with the whole payload is an error, and nothing of it is written.
SELECT pg_temp.sqlstate_of($$SELECT * FROM meter.ingest('[{"event_name": "calls", "user_id": "ian"},' || chr(10) || ' {"event_name": "calls", "user_id": "ian"')$$);
SELECT pg_temp.sqlstate_of($$SELECT * FROM meter.ingest('[{"event_name": "calls", "user_id": "ian"}, nul]')$$);
SELECT pg_temp.sqlstate_of($$SELECT * FROM meter.ingest('[1] [2]')$$);
SELECT pg_temp.sqlstate_of($$SELECT * FROM meter.ingest(NULL)$$);
SELECT pg_temp.sqlstate_of($$SELECT * FROM meter.record_events(NULL)$$);
SELECT pg_temp.sqlstate_of($$SELECT * FROM meter.record_events('{"event_name": "calls", "user_id": "ian"}')$$);
SELECT pg_temp.sqlstate_of($$SELECT * FROM meter.record_events('7')$$);
SELECT count(*) FROM meter.meter_event WHERE user_id = 'ian';

-- The limits are settings.
SET meter.max_batch_events = 2;
SELECT pg_temp.sqlstate_of($$SELECT * FROM meter.ingest('[1,2,3]')$$);
SELECT pg_temp.sqlstate_of($$SELECT * FROM meter.record_events('{calls,calls,calls}', '{a,a,a}', NULL, NULL, NULL, NULL)$$);
RESET meter.max_batch_events;
SET meter.max_payload_size = '1kB';
SELECT pg_temp.sqlstate_of($$SELECT * FROM meter.ingest('[' || repeat(' ', 1024) || ']')$$);
RESET meter.max_payload_size;
-- By default a payload has at most 256 MB.
SELECT pg_temp.sqlstate_of($$SELECT * FROM meter.ingest(repeat(' ', 300000000))$$);
SELECT left(error, 60) FROM meter.ingest('[{"event_name": "calls", "user_id": "ian", "metadata": ' || repeat('{"a":', 64) || '1' || repeat('}', 64) || '}]');
SELECT left(status, 60) FROM meter.ingest('[{"event_name": "calls", "user_id": "ian", "metadata": ' || repeat('{"a":', 63) || '1' || repeat('}', 63) || '}]');
-- A million-deep nesting is refused.
SELECT left(pg_temp.sqlstate_of($$SELECT * FROM meter.ingest(repeat('[', 1000000))$$), 5);
SELECT status, left(error, 60) FROM meter.ingest('[' || repeat('[', 1000000) || repeat(']', 1000000) || ']');
SELECT status, left(error, 60) FROM meter.ingest('[{"event_name": "calls", "user_id": "ian", "metadata": ' || repeat('{"a":', 1000000) || '1' || repeat('}', 1000000) || '}]');

-- More than one chunk, its second half a retry of the first; all forms answer the same.
WITH payload AS MATERIALIZED (
    SELECT jsonb_agg(jsonb_build_object('event_name', 'calls', 'user_id', 'k' || i % 12345 % 100, 'value', i % 12345, 'idempotency', 'many-' || i % 12345)) AS j
    FROM generate_series(0, 24689) i)
SELECT status, count(*), count(DISTINCT event_id), min(ordinal), max(ordinal) FROM payload, meter.record_events(j) GROUP BY status ORDER BY 1;
SELECT status, count(*) FROM meter.record_events(
    (SELECT array_agg('calls'::text) FROM generate_series(0, 24689) i), (SELECT array_agg('k' || i % 12345 % 100) FROM generate_series(0, 24689) i),
    (SELECT array_agg(i % 12345) FROM generate_series(0, 24689) i), NULL, (SELECT array_agg('many-' || i % 12345) FROM generate_series(0, 24689) i), NULL) GROUP BY status;
SELECT count(*), sum(value) FROM meter.meter_event WHERE idempotency LIKE 'many-%';
