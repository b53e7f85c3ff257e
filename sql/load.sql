-- Bulk loading through COPY and INSERT ... SELECT.
SET timezone = 'UTC';
TRUNCATE meter.meter, meter.meter_event, meter.event_key, meter.rollup_pending, meter.rollup_generation, meter.rollup_state, meter.rollup, meter.rollup_total, meter.rollup_days, meter.rollup_month, meter.rollup_meter, meter.usage_limit, meter.limit_usage, meter.alert_rule, meter.alert, meter.event_void RESTART IDENTITY;
CREATE FUNCTION sqlstate_of(command text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE command;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ': ' || SQLERRM;
END $$;

SELECT event_name FROM meter.create_meter('tokens', dimensions => '{model}');

-- CSV, with what columns there are, in any order.
COPY meter.event_load (idempotency, user_id, value, event_name, "timestamp", dimensions) FROM STDIN (FORMAT csv);
k1,ann,10,tokens,2024-03-01 10:00:00+00,"{""model"": ""a""}"
k2,ann,20.50,tokens,2024-03-01 11:00:00+00,"{""model"": ""b""}"
k3,bob,,tokens,2024-03-02 11:00:00+00,
\.
SELECT user_id, value, dimensions, idempotency, "timestamp" FROM meter.list_events('tokens') ORDER BY idempotency;
SELECT dimensions, value FROM meter.usage('tokens', '2024-03-01', '2024-04-01', group_by => '{model}');

-- Again: nothing is counted twice, and what is new is recorded.
COPY meter.event_load (idempotency, user_id, value, event_name, "timestamp", dimensions) FROM STDIN (FORMAT csv);
k1,ann,10,tokens,2024-03-01 10:00:00+00,"{""model"": ""a""}"
k2,ann,20.5,tokens,2024-03-01 11:00:00+00,"{""model"": ""b""}"
k3,bob,,tokens,2024-03-02 11:00:00+00,
k4,bob,7,tokens,2024-03-02 11:00:00+00,
k4,bob,7,tokens,2024-03-02 11:00:00+00,
\.
SELECT value, event_count FROM meter.usage('tokens', '2024-03-01', '2024-04-01');

-- Lines of JSON: the control characters keep COPY from looking into them.
COPY meter.event_load_json FROM STDIN (FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02');
{"event_name": "tokens", "user_id": "c\u00e4t \"x\" \\", "value": 5, "idempotency": "j1", "timestamp": "2024-03-03T00:00:00Z"}
[{"eventName": "tokens", "userId": "dan", "value": 6, "idempotency": "j2", "timestamp": "2024-03-03T00:00:00Z"}, {"eventName": "tokens", "userId": "dan", "value": 6, "idempotency": "j3", "timestamp": "2024-03-03T00:00:00Z"}]

{"event_name": "tokens", "user_id": "dan", "value": 6, "idempotency": "j2", "timestamp": "2024-03-03T00:00:00Z"}
\.
SELECT user_id, value, event_count FROM meter.usage('tokens', '2024-03-03', '2024-04-01', group_by => '{user_id}') ORDER BY 1;

-- From another table, in more than one batch.
INSERT INTO meter.event_load (event_name, user_id, value, idempotency, "timestamp")
SELECT 'tokens', 'u' || i % 7, i, 'i' || i, '2024-05-01'::timestamptz + i * interval '1 minute' FROM generate_series(1, 25000) i;
SELECT value, event_count FROM meter.usage('tokens', '2024-05-01', '2024-06-01');
INSERT INTO meter.event_load (event_name, user_id, value, idempotency, "timestamp")
SELECT 'tokens', 'u' || i % 7, i, 'i' || i, '2024-05-01'::timestamptz + i * interval '1 minute' FROM generate_series(1, 25001) i;
SELECT value, event_count FROM meter.usage('tokens', '2024-05-01', '2024-06-01');

-- However much is copied, no memory is kept for each event. The default value tells.
CREATE SEQUENCE loaded;
CREATE FUNCTION memory_now_and_then() RETURNS numeric LANGUAGE plpgsql AS $$
BEGIN
    RETURN CASE WHEN nextval('loaded') IN (10100, 40100) THEN (SELECT sum(total_bytes) FROM pg_backend_memory_contexts) ELSE 0 END;
END $$;
ALTER VIEW meter.event_load ALTER COLUMN value SET DEFAULT memory_now_and_then();
COPY meter.event_load (event_name, user_id, idempotency, "timestamp") FROM PROGRAM 'seq -f "tokens,memory,m%.0f,2024-06-01" 41000' (FORMAT csv);
ALTER VIEW meter.event_load ALTER COLUMN value DROP DEFAULT;
SELECT max(value) - min(value) < 2000000 AS constant, count(*) FROM meter.meter_event WHERE user_id = 'memory' AND value > 0;

-- All or none; an error names the event, and what is wrong with it.
SELECT sqlstate_of($$INSERT INTO meter.event_load (event_name, user_id, value, idempotency, "timestamp")
    SELECT 'tokens', 'e', CASE i WHEN 15003 THEN 'NaN'::numeric ELSE 1 END, 'e' || i, '2024-07-01' FROM generate_series(1, 20000) i$$);
SELECT sqlstate_of($$INSERT INTO meter.event_load (event_name, user_id, value, idempotency, "timestamp")
    SELECT CASE i WHEN 15004 THEN 'tokns' ELSE 'tokens' END, 'e', 1, 'e' || i, '2024-07-01' FROM generate_series(1, 20000) i$$);
SELECT sqlstate_of($$INSERT INTO meter.event_load (event_name, user_id, value, idempotency, "timestamp")
    SELECT 'tokens', 'e', i, 'e' || i % 15004, '2024-07-01' FROM generate_series(1, 20000) i$$);
SELECT sqlstate_of($$INSERT INTO meter.event_load (event_name, user_id) VALUES ('tokens', 'e')$$);
SELECT sqlstate_of($$INSERT INTO meter.event_load (user_id, idempotency) VALUES ('e', 'k')$$);
SELECT sqlstate_of($$INSERT INTO meter.event_load_json VALUES ('{"event_name": "tokens", "user_id": "e", "idempotency": "k", "foo": 1}')$$);
SELECT sqlstate_of($$INSERT INTO meter.event_load_json VALUES ('{')$$);
SELECT value, event_count FROM meter.usage('tokens', '2024-07-01', '2024-08-01');

-- A load within a load, one that fails in between, and two in one statement.
CREATE FUNCTION load_one(key text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO meter.event_load (event_name, user_id, value, idempotency, "timestamp")
    VALUES ('tokens', 'inner', 1, key, '2024-09-01');
    BEGIN
        INSERT INTO meter.event_load (event_name, user_id, value, idempotency, "timestamp")
        VALUES ('tokens', 'inner', 1, 'x' || key, '2024-09-01'), ('tokens', 'inner', 1, NULL, '2024-09-01');
    EXCEPTION WHEN invalid_parameter_value THEN
    END;
    RETURN key;
END $$;
INSERT INTO meter.event_load (event_name, user_id, value, idempotency, "timestamp")
SELECT 'tokens', 'outer', 2, load_one('n' || i), '2024-09-01' FROM generate_series(1, 5) i;
WITH a AS (
    INSERT INTO meter.event_load (event_name, user_id, value, idempotency, "timestamp")
    SELECT 'tokens', 'a', 1, 'a' || i, '2024-09-01' FROM generate_series(1, 3) i RETURNING 1
), b AS (
    INSERT INTO meter.event_load (event_name, user_id, value, idempotency, "timestamp")
    SELECT 'tokens', 'b', 1, 'b' || i, '2024-09-01' FROM generate_series(1, 3) i RETURNING 1
)
SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b);
SELECT user_id, value, event_count FROM meter.usage('tokens', '2024-09-01', '2024-10-01', group_by => '{user_id}') ORDER BY 1;

-- Who may: writers, each in its org. The views show nothing to anybody.
CREATE ROLE load_writer;
CREATE ROLE load_reader;
SELECT meter.grant_access('load_writer', 'writer', 'acme'), meter.grant_access('load_reader', 'reader', 'acme');
SET meter.org = 'acme';
SELECT event_name FROM meter.create_meter('calls', 'count');
RESET meter.org;
SET ROLE load_writer;
INSERT INTO meter.event_load (event_name, user_id, idempotency, "timestamp") VALUES ('calls', 'ann', 'k1', '2024-09-01');
SELECT sqlstate_of($$INSERT INTO meter.event_load (event_name, user_id, idempotency) VALUES ('tokens', 'ann', 'k2')$$);
SELECT sqlstate_of($$SELECT * FROM meter.event_load$$);
SELECT sqlstate_of($$UPDATE meter.event_load SET value = 1$$);
SET ROLE load_reader;
SELECT sqlstate_of($$INSERT INTO meter.event_load (event_name, user_id, idempotency) VALUES ('calls', 'ann', 'k2')$$);
RESET ROLE;
SELECT org, user_id, idempotency FROM meter.meter_event e JOIN meter.meter m ON m.id = e.meter_id WHERE org = 'acme';
SELECT sqlstate_of($$SELECT meter.load_events()$$);
SELECT count(*) FROM meter.verify('2024-01-01', '2025-01-01');
SELECT meter.revoke_access('load_writer');
SET ROLE load_writer;
SELECT sqlstate_of($$INSERT INTO meter.event_load (event_name, user_id, idempotency) VALUES ('calls', 'ann', 'k2')$$);
RESET ROLE;
SELECT meter.revoke_access('load_reader');
DROP ROLE load_writer, load_reader;

-- Where triggers do not fire, the views refuse what they would lose.
SET session_replication_role = replica;
SELECT sqlstate_of($$INSERT INTO meter.event_load (event_name, user_id, idempotency) VALUES ('tokens', 'lost', 'r1')$$);
SELECT sqlstate_of($$INSERT INTO meter.event_load_json VALUES ('{"event_name": "tokens", "user_id": "lost", "idempotency": "r1"}')$$);
COPY meter.event_load (event_name, user_id, idempotency) FROM STDIN (FORMAT csv);
tokens,lost,r1
\.
RESET session_replication_role;
SELECT count(*) FROM meter.meter_event WHERE user_id = 'lost';
