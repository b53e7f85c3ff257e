-- Meters: define, change, archive, drop, list.
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

-- The defaults, and every field.
SELECT org, name, event_name, aggregation, currency, dimensions, metadata,
       created_at = now() AS created, updated_at = now() AS updated, archived_at
FROM meter.create_meter('calls');
SELECT org, name, event_name, aggregation, currency, dimensions, metadata
FROM meter.create_meter('tokens', 'sum', '{model,region}', 'Tokens', 'eur', '{"team": "ml"}');

-- An explicit NULL means the default.
SELECT name, aggregation, currency, dimensions, metadata
FROM meter.create_meter('seats', NULL, NULL, NULL, NULL, NULL, NULL);

-- (org, event_name) is unique; another org is another name space.
SELECT pg_temp.sqlstate_of($$SELECT meter.create_meter('calls')$$);
SET meter.org = 'acme';
SELECT org, event_name FROM meter.create_meter('calls', 'count');
SELECT event_name, aggregation FROM meter.list_meters();
RESET meter.org;
SELECT event_name, aggregation FROM meter.list_meters();

-- if_not_exists returns the one there is, unless it differs.
SELECT id = (SELECT id FROM meter.meter WHERE org = 'default' AND event_name = 'tokens') AS same
FROM meter.create_meter('tokens', dimensions => '{region,model}', if_not_exists => true);
SELECT pg_temp.sqlstate_of($$SELECT meter.create_meter('tokens', 'count', '{region,model}', if_not_exists => true)$$);
SELECT pg_temp.sqlstate_of($$SELECT meter.create_meter('tokens', 'sum', '{model}', if_not_exists => true)$$);

-- What no meter can be.
SELECT what, pg_temp.sqlstate_of('SELECT meter.create_meter(' || arguments || ')')
FROM (VALUES
    ('null name', 'NULL'),
    ('empty name', $$''$$),
    ('255 bytes', $$repeat('x', 255)$$),
    ('256 bytes', $$repeat('x', 256)$$),
    ('128 characters of 2 bytes', $$repeat('ä', 128)$$),
    ('aggregation', $$'m1', 'median'$$),
    ('unique_count of what', $$'m1', 'unique_count'$$),
    ('user_id as a dimension', $$'m1', 'sum', '{model,user_id}'$$),
    ('empty dimension', $$'m1', 'sum', '{""}'$$),
    ('null dimension', $$'m1', 'sum', '{model,NULL}'$$),
    ('the same twice', $$'m1', 'sum', '{model,model}'$$),
    ('two-dimensional', $$'m1', 'sum', '{{a,b},{c,d}}'$$),
    ('33 dimensions', $$'m1', 'sum', (SELECT array_agg('d' || i) FROM generate_series(1, 33) i)$$),
    ('empty display name', $$'m1', name => ''$$),
    ('empty currency', $$'m1', currency => ''$$),
    ('metadata array', $$'m1', metadata => '[]'$$)) AS t (what, arguments);
SELECT pg_temp.sqlstate_of($$SET meter.org = ''$$);
SELECT pg_temp.sqlstate_of($$SELECT set_config('meter.org', repeat('x', 256), false)$$);
SELECT count(*) FROM meter.create_meter('m32', 'sum', (SELECT array_agg('d' || i) FROM generate_series(1, 32) i));

-- update_meter changes what it is given, and nothing else.
SELECT name, aggregation, currency, metadata, dimensions, updated_at > created_at AS touched
FROM meter.update_meter('tokens', name => 'LLM tokens');
SELECT name, aggregation, currency, metadata
FROM meter.update_meter('tokens', aggregation => 'last', currency => 'usd', metadata => '{}');
SELECT aggregation FROM meter.update_meter('tokens', aggregation => 'sum');
SELECT pg_temp.sqlstate_of($$SELECT meter.update_meter('tokens', aggregation => 'median')$$);
SELECT pg_temp.sqlstate_of($$SELECT meter.update_meter('tokens', name => '')$$);
SELECT pg_temp.sqlstate_of($$SELECT meter.update_meter('tokens', metadata => '1')$$);
SELECT pg_temp.sqlstate_of($$SELECT meter.update_meter('nothing')$$);

-- add_dimension declares a further one.
SELECT dimensions FROM meter.add_dimension('tokens', 'tier');
SELECT pg_temp.sqlstate_of($$SELECT meter.add_dimension('tokens', 'tier')$$);
SELECT pg_temp.sqlstate_of($$SELECT meter.add_dimension('tokens', 'user_id')$$);
SELECT pg_temp.sqlstate_of($$SELECT meter.add_dimension('tokens', '')$$);
SELECT pg_temp.sqlstate_of($$SELECT meter.add_dimension('calls', 'model')$$);
SELECT pg_temp.sqlstate_of($$SELECT meter.add_dimension('m32', 'one_more')$$);
SELECT pg_temp.sqlstate_of($$SELECT meter.add_dimension('nothing', 'model')$$);

-- An archived meter takes no more events; its history stays, and it cannot be archived twice.
SELECT meter.record_event('seats', 'alice', 3) > 0 AS recorded;
SELECT archived_at = now() AS archived FROM meter.archive_meter('seats');
SELECT pg_temp.sqlstate_of($$SELECT meter.record_event('seats', 'alice')$$);
SELECT pg_temp.sqlstate_of($$SELECT meter.archive_meter('seats')$$);
SELECT pg_temp.sqlstate_of($$SELECT meter.archive_meter('nothing')$$);
SELECT pg_temp.sqlstate_of($$SELECT meter.create_meter('seats')$$);
SELECT pg_temp.sqlstate_of($$SELECT meter.create_meter('seats', if_not_exists => true)$$);
SELECT value FROM meter.usage('seats', now() - interval '1 day', now() + interval '1 day');
SELECT event_name FROM meter.list_meters() ORDER BY 1;
SELECT event_name, archived_at IS NOT NULL AS archived FROM meter.list_meters(true) ORDER BY 1;

-- drop_meter refuses while there are events.
SELECT pg_temp.sqlstate_of($$SELECT meter.drop_meter('seats')$$);
SELECT meter.drop_meter('m32');
SELECT pg_temp.sqlstate_of($$SELECT meter.drop_meter('m32')$$);
SELECT pg_temp.sqlstate_of($$SELECT meter.record_event('m32', 'alice')$$);

-- A session that has a meter cached sees every change to it at once, by whatever means.
SELECT meter.record_event('calls', 'alice') > 0 AS recorded;
UPDATE meter.meter SET dimensions = '{model}' WHERE org = 'default' AND event_name = 'calls';
SELECT pg_temp.sqlstate_of($$SELECT meter.record_event('calls', 'alice', 1, '{"region": "us"}')$$);
BEGIN;
SELECT count(*) FROM meter.add_dimension('calls', 'region');
SELECT meter.record_event('calls', 'alice', 1, '{"region": "us"}') > 0 AS recorded;
ROLLBACK;
SELECT pg_temp.sqlstate_of($$SELECT meter.record_event('calls', 'alice', 1, '{"region": "us"}')$$);
BEGIN;
SELECT count(*) FROM meter.create_meter('fleeting');
SELECT meter.record_event('fleeting', 'alice') > 0 AS recorded;
SAVEPOINT s;
SELECT count(*) FROM meter.archive_meter('fleeting');
SELECT pg_temp.sqlstate_of($$SELECT meter.record_event('fleeting', 'alice')$$);
ROLLBACK TO s;
SELECT meter.record_event('fleeting', 'alice') > 0 AS recorded;
ROLLBACK;
SELECT pg_temp.sqlstate_of($$SELECT meter.record_event('fleeting', 'alice')$$);

-- The tables refuse what the functions would.
SELECT what, regexp_replace(pg_temp.sqlstate_of(
    'INSERT INTO meter.meter (org, name, event_name, aggregation, currency, dimensions, metadata, created_at, updated_at) VALUES ('
    || row_values || ', now(), now())'), ' \| Failing row.*', '')
FROM (VALUES
    ('taken', $$'default', 'n', 'tokens', 'sum', 'usd', '{}', '{}'$$),
    ('empty org', $$'', 'n', 'e', 'sum', 'usd', '{}', '{}'$$),
    ('empty name', $$'o', '', 'e', 'sum', 'usd', '{}', '{}'$$),
    ('long event_name', $$'o', 'n', repeat('x', 256), 'sum', 'usd', '{}', '{}'$$),
    ('aggregation', $$'o', 'n', 'e', 'median', 'usd', '{}', '{}'$$),
    ('currency', $$'o', 'n', 'e', 'sum', '', '{}', '{}'$$),
    ('dimension user_id', $$'o', 'n', 'e', 'sum', 'usd', '{user_id}', '{}'$$),
    ('dimension twice', $$'o', 'n', 'e', 'sum', 'usd', '{a,a}', '{}'$$),
    ('null dimension', $$'o', 'n', 'e', 'sum', 'usd', '{NULL}', '{}'$$),
    ('33 dimensions', $$'o', 'n', 'e', 'sum', 'usd', (SELECT array_agg('d' || i) FROM generate_series(1, 33) i), '{}'$$),
    ('metadata', $$'o', 'n', 'e', 'sum', 'usd', '{}', '[]'$$)) AS t (what, row_values);

-- Every object says what it is.
SELECT pg_describe_object(classid, objid, objsubid) AS without_comment
FROM pg_depend d
WHERE refclassid = 'pg_extension'::regclass
  AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'meter')
  AND deptype = 'e'
  AND obj_description(objid, classid::regclass::name) IS NULL
  -- The row type of a table, and the array of any type, come with it; members since PostgreSQL 17.
  AND NOT (classid = 'pg_type'::regclass AND EXISTS (SELECT FROM pg_type t WHERE t.oid = objid AND (
      EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind <> 'c')
      OR EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid))))
  AND pg_describe_object(classid, objid, objsubid) !~ '_id_seq$'
ORDER BY 1;
SELECT attrelid::regclass, attname AS column_without_comment
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = 'meter'::regnamespace AND c.relname IN ('meter', 'meter_event', 'event_key', 'access')
  AND attnum > 0 AND col_description(attrelid, attnum) IS NULL;
