-- Malformed input where only bytes stand between it and a crash: packed hours, aggregate states.
TRUNCATE meter.meter, meter.meter_event, meter.event_key, meter.rollup_pending, meter.rollup_generation, meter.rollup_state, meter.rollup, meter.rollup_total, meter.rollup_days, meter.rollup_month, meter.rollup_meter, meter.usage_limit, meter.limit_usage, meter.alert_rule, meter.alert, meter.event_void RESTART IDENTITY;
SET TIME ZONE 'UTC';
SET bytea_output = hex;
CREATE FUNCTION error_of(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    detail text;
BEGIN
    EXECUTE statement;
    RETURN 'none';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
    RETURN concat_ws(' | ', SQLSTATE, SQLERRM, nullif(detail, ''));
END
$$;

-- A day's cell with packed hours, as fold writes it: hours of one event and of many, numbers short and long.
SELECT FROM meter.create_meter('tokens');
SELECT count(*) FROM meter.record_events((SELECT jsonb_agg(jsonb_build_object('event_name', 'tokens', 'user_id', 'ann', 'timestamp', '2026-03-01T00:00:00Z'::timestamptz + i * interval '37 minutes',
    'value', CASE i % 3 WHEN 0 THEN 1 WHEN 1 THEN -0.000001 * i ELSE 123456789012345678901234567890.5 END)) FROM generate_series(0, 30) AS i)) WHERE status = 'recorded';
SELECT meter.fold();
CREATE TABLE day AS SELECT * FROM meter.rollup WHERE grain = 'd' AND hours IS NOT NULL;
SELECT count(*), bool_and(length(hours) > 100) AS large FROM day;

-- What the two readers say of such bytes, in one word and the error's code.
CREATE FUNCTION read_hours(bytes bytea, pieces timestamptz[], day timestamptz DEFAULT '2026-03-01') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    ordered boolean;
BEGIN
    FOREACH ordered IN ARRAY ARRAY[true, false] LOOP
        PERFORM s.* FROM (SELECT meter.sum_hours(day, r.first_timestamp, r.last_timestamp, r.event_count, r.last_id, r.value_sum, r.value_min, r.value_max, r.last_value, r.value_time, bytes,
                              pieces, ARRAY(SELECT p + interval '5 hours' FROM unnest(pieces) AS p), pieces, ordered, true) AS sums FROM day AS r, generate_series(1, 2)) AS q, unnest(sums) AS s;
    END LOOP;
    PERFORM h.* FROM day AS r, meter.cell_hours(day, r.first_timestamp, r.last_timestamp, r.event_count, r.last_id, r.value_sum, r.value_min, r.value_max, r.last_value, bytes) AS h;
    RETURN 'taken';
EXCEPTION
    WHEN data_corrupted OR numeric_value_out_of_range THEN
        IF day <> '2026-03-01' THEN
            RAISE;
        END IF;
        RETURN 'refused';
END
$$;
CREATE VIEW all_pieces AS SELECT ARRAY['2026-03-01 00:00', '2026-03-01 06:00', '2026-03-01 12:00', '2026-03-01 18:00']::timestamptz[] AS pieces;
SELECT read_hours(hours, pieces) FROM day, all_pieces;
-- Cut anywhere but between two hours, a byte more, another version.
SELECT outcome, count(*) > 10 AS many FROM (SELECT read_hours(substr(hours, 1, cut), pieces) AS outcome FROM day, all_pieces, generate_series(0, length(hours) - 1) AS cut) AS o GROUP BY 1 ORDER BY 1;
SELECT read_hours(hours || extra, pieces) FROM day, all_pieces, unnest(ARRAY['\x00', '\x17', '\x18', '\xff']::bytea[]) AS extra;
SELECT DISTINCT read_hours(set_byte(hours, 0, version), pieces) FROM day, all_pieces, generate_series(2, 255) AS version;
-- Any one byte made anything, and random bytes: taken or refused.
SELECT setseed(0.5);
SELECT outcome, count(*) > 50 AS many FROM (
    SELECT read_hours(set_byte(set_byte(hours, at1, floor(random() * 256)::int), at2, floor(random() * 256)::int), pieces) AS outcome
    FROM (SELECT hours, pieces, floor(random() * length(hours))::int AS at1, floor(random() * length(hours))::int AS at2 FROM day, all_pieces, generate_series(1, 3000)) AS r) AS o GROUP BY 1 ORDER BY 1;
SELECT count(*) FILTER (WHERE outcome IN ('taken', 'refused')) AS random FROM (
    SELECT read_hours('\x01'::bytea || decode(md5(i::text) || md5((i + 5000)::text), 'hex'), pieces) AS outcome FROM all_pieces, generate_series(1, 2000) AS i) AS o;
-- Counts, lengths and numbers at the edges, each in an hour of its own kind.
SELECT what, error_of(format('SELECT h.* FROM day AS r, meter.cell_hours(r.start, r.first_timestamp, r.last_timestamp, r.event_count, r.last_id, r.value_sum, r.value_min, r.value_max, r.last_value, %L) AS h', bytes)) AS cell_hours,
    error_of(format('SELECT meter.sum_hours(r.start, r.first_timestamp, r.last_timestamp, r.event_count, r.last_id, r.value_sum, r.value_min, r.value_max, r.last_value, r.value_time, %L, ARRAY[start], ARRAY[start + interval ''1 day''], ARRAY[start], true, true) FROM day AS r', bytes)) AS sum_hours
FROM (VALUES ('no version', '\x'), ('version only', '\x01'), ('hour 24', '\x0118'), ('no flags', '\x0100'), ('unknown flag', '\x010004'), ('hours descend', '\x0105010000000400010000'),
    ('integer of eleven bytes', '\x010000' || repeat('ff', 10) || '01'), ('integer with a spare byte', '\x010001' || '8000'), ('past its hour', '\x010001' || '80a8d6b90d' || '00' || '021001'),
    ('digits to come: 2^63', '\x0100010000' || '0e' || repeat('ff', 8) || '7f'), ('digit of 10000', '\x0100010000' || '02' || '904e'), ('weight of 2^59', '\x0100010000' || repeat('ff', 9) || '01'),
    ('negative zero', '\x0100010000' || '01'), ('digit 0 in front', '\x0100010000' || '040001'), ('one as many', '\x010000' || '02' || '00' || '00' || '00' || '0201' || '0201' || '0201' || '0201' || '00')) AS v (what, bytes);

-- The other arguments: times beyond all, numbers that are none, pieces that do not match.
CREATE FUNCTION sum_of(day text, sum text DEFAULT '1', starts text DEFAULT '{2026-03-01}', ends text DEFAULT '{2026-03-02}', buckets text DEFAULT '{2026-03-01}', hours text DEFAULT NULL, first text DEFAULT '2026-03-01 01:00', n text DEFAULT '1') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    SELECT meter.sum_hours(day::timestamptz, first::timestamptz, first::timestamptz, n::bigint, 1, sum::numeric, sum::numeric, sum::numeric, sum::numeric, sum::numeric, hours::bytea, starts::timestamptz[], ends::timestamptz[], buckets::timestamptz[], true, true)::text
    INTO result FROM generate_series(1, 2);
    RETURN result;
EXCEPTION WHEN OTHERS THEN
    RETURN concat_ws(' | ', SQLSTATE, SQLERRM);
END
$$;
SELECT x, left(sum_of('2026-03-01', x), 120) FROM unnest(ARRAY['1', '-0', 'NaN', 'Infinity', '-Infinity', '1e131071', '1e-1000', NULL]) AS x;
SELECT sum_of('2026-03-01', n => '9223372036854775807');
SELECT x, sum_of('2026-03-01', starts => x), sum_of('2026-03-01', ends => x), sum_of('2026-03-01', buckets => x) FROM unnest(ARRAY['{}', '{NULL}', '{2026-03-01,2026-03-01}', '{{2026-03-01}}', NULL]) AS x;
SELECT sum_of('2026-03-01', starts => '{}', ends => '{}', buckets => '{}');
SELECT x, sum_of('2026-03-01', starts => '{' || x || '}') AS starts, sum_of('2026-03-01', first => x) AS first, error_of(format('SELECT read_hours(hours, pieces, %L) FROM day, all_pieces', x)) AS day
FROM unnest(ARRAY['infinity', '-infinity', '294276-12-31 23:00', '4714-11-24 00:00 BC', '9999-12-31 23:59:59.999999', '10000-01-01', '1970-01-01', '1969-12-31']) AS x;
SELECT x, error_of(format('SELECT h.* FROM meter.cell_hours(%L, %1$L, %1$L, 1, 1, 1, 1, 1, 1, NULL) AS h', x)) AS single, error_of(format('SELECT h.* FROM meter.cell_hours(%L, %1$L, %1$L, 1, 1, 1, 1, 1, 1, (SELECT hours FROM day)) AS h', x)) AS packed
FROM unnest(ARRAY['infinity', '-infinity', '294276-12-31 23:00', '4714-11-24 00:00 BC', '9999-12-31', '10000-01-01', '1970-01-01', '1960-05-05 00:00:00.000001']) AS x;
-- Parts of an aggregate are not to be called by themselves.
SELECT error_of('SELECT meter.groups_combine(NULL, NULL)'), error_of('SELECT meter.last_combine(NULL, NULL)'), error_of('SELECT meter.count_by_add(NULL, NULL, NULL)');
-- As a window function, and over no rows.
SELECT DISTINCT sums::text IS NOT NULL AS some FROM (SELECT meter.sum_hours(start, first_timestamp, last_timestamp, event_count, last_id, value_sum, value_min, value_max, last_value, value_time, hours, pieces, pieces[2:] || '2026-03-02'::timestamptz, pieces, true, true) OVER (ORDER BY n) AS sums
    FROM day, all_pieces, generate_series(1, 5) AS n) AS s;
SELECT meter.sum_hours(start, first_timestamp, last_timestamp, event_count, last_id, value_sum, value_min, value_max, last_value, value_time, hours, '{}', '{}', '{}', true, true) FROM day WHERE false;

-- A stored cell whose bytes have gone bad: whoever reads it says so, and a rebuild mends it.
SELECT value FROM meter.usage('tokens', '2026-03-01 02:00', '2026-03-01 09:00');
UPDATE meter.rollup SET hours = set_byte(hours, 2, 255) WHERE hours IS NOT NULL;
UPDATE meter.rollup_total SET hours = set_byte(hours, 2, 255) WHERE hours IS NOT NULL;
SELECT error_of($$SELECT FROM meter.usage('tokens', '2026-03-01 02:00', '2026-03-01 09:00')$$), error_of($$SELECT FROM meter.usage('tokens', '2026-03-01 02:00', '2026-03-01 09:00', 'ann')$$);
SELECT error_of($$SELECT FROM meter.verify('2026-03-01', '2026-04-01')$$);
SELECT count(*) FROM meter.record_events('[{"event_name": "tokens", "user_id": "ann", "timestamp": "2026-03-01T05:00:00Z"}]') WHERE status = 'recorded';
SELECT error_of('SELECT meter.fold()');
SELECT meter.rebuild('2026-03-01', '2026-04-01') > 0 AS rebuilt;
SELECT count(*) AS wrong FROM meter.verify('2026-03-01', '2026-04-01');
SELECT value FROM meter.usage('tokens', '2026-03-01 02:00', '2026-03-01 09:00');

-- States received in binary: a bytea is sent as its bytes, and so is a state.
CREATE AGGREGATE sum_by_state(numeric, jsonb, text[]) (SFUNC = meter.sum_by_add, STYPE = meter.aggregate_state, COMBINEFUNC = meter.groups_combine, PARALLEL = SAFE);
CREATE AGGREGATE last_by_state(numeric, timestamptz, jsonb, text[]) (SFUNC = meter.last_by_add, STYPE = meter.aggregate_state, COMBINEFUNC = meter.groups_combine, PARALLEL = SAFE);
CREATE AGGREGATE last_state(numeric, timestamptz, bigint) (SFUNC = meter.last_add, STYPE = meter.aggregate_state, COMBINEFUNC = meter.last_combine, PARALLEL = SAFE);
CREATE AGGREGATE groups_merge(meter.aggregate_state) (SFUNC = meter.groups_combine, STYPE = meter.aggregate_state, FINALFUNC = meter.groups_final);
CREATE AGGREGATE last_merge(meter.aggregate_state) (SFUNC = meter.last_combine, STYPE = meter.aggregate_state, FINALFUNC = meter.last_final);
CREATE TABLE sent (bytes bytea);
CREATE TABLE received (state meter.aggregate_state);
CREATE FUNCTION receive(what bytea) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    file text := format('%s/%s', current_setting('data_directory'), 'malformed_states.copy');
BEGIN
    DELETE FROM sent;
    DELETE FROM received;
    INSERT INTO sent VALUES (what);
    EXECUTE format('COPY sent TO %L (FORMAT binary)', file);
    EXECUTE format('COPY received FROM %L (FORMAT binary)', file);
    IF get_byte(what, 2) < 4 THEN
        PERFORM groups_merge(state) FROM (SELECT state FROM received UNION ALL SELECT state FROM received) AS s;
    ELSE
        PERFORM last_merge(state) FROM (SELECT state FROM received UNION ALL SELECT state FROM received) AS s;
    END IF;
    RETURN 'taken';
EXCEPTION
    WHEN invalid_binary_representation OR invalid_text_representation OR invalid_parameter_value OR numeric_value_out_of_range OR untranslatable_character THEN
        RETURN 'refused';
END
$$;
CREATE TABLE state AS SELECT kind, meter.aggregate_state_send(s) AS bytes FROM (SELECT sum_by_state(v, d, '{a,b}') AS sums, last_by_state(v, '2026-01-01', d, '{a,b}') AS lasts, last_state(v, '2026-01-01', i) AS last
    FROM generate_series(1, 6) AS i, LATERAL (SELECT i * 1000.25 AS v, jsonb_build_object('a', i % 3, 'b', jsonb_build_array('x', i % 2)) AS d) AS r) AS s, unnest(ARRAY[sums, lasts, last]) WITH ORDINALITY AS u (s, kind);
SELECT kind, receive(bytes) FROM state ORDER BY 1;
SELECT kind, receive(substr(bytes, 1, cut)) AS outcome, count(*) > 10 AS many FROM state, generate_series(0, length(bytes) - 1) AS cut GROUP BY 1, 2 ORDER BY 1, 2;
SELECT setseed(0.75);
SELECT kind, count(*) FILTER (WHERE outcome IN ('taken', 'refused')) AS all, count(*) FILTER (WHERE outcome = 'refused') > 50 AS many FROM (
    SELECT kind, receive(set_byte(bytes, at, byte)) AS outcome FROM (SELECT kind, bytes, floor(random() * length(bytes))::int AS at, floor(random() * 256)::int AS byte FROM state, generate_series(1, 150)) AS r) AS o GROUP BY 1 ORDER BY 1;
SELECT receive(bytes || '\x00'), receive('\x'), receive('\xa7'), receive(decode(repeat('a7', 1000), 'hex')) FROM state WHERE kind = 1;

-- Lengths and counts that promise far more than there is.
SELECT x, error_of(format('SELECT %L::meter.aggregate_state', x)) FROM unnest(ARRAY['\xa70101000003e9', '\xa70101000003e8', '\xa701010000000000ffffffff', '\xa70101000000000000000100000000' || '0100' || '00000000' || 'ffffffff',
    '\xa70101000000000000000100000000' || '0100' || '7fffffff' || '00000001' || '0001', '\xa70101000000000000000100000000' || '1000', '\xa70101000000000000000100000000' || '0102', '\xa70104' || '7fffffffffffffff' || '06',
    '\xa70104' || '8000000000000000' || '00' || '00008007' || '00000001' || '0001']) AS x;
-- Numbers that are large enough to overflow numeric are added up, and said to be out of range at the end.
SELECT error_of(format('SELECT groups_merge(x) FROM unnest(ARRAY[%1$L, %1$L]::meter.aggregate_state[]) AS x', '\xa70101000000000000000100000000' || '0100' || '00008007' || '00000001' || '270f')),
    error_of(format('SELECT last_merge(x) FROM unnest(ARRAY[%1$L, %1$L]::meter.aggregate_state[]) AS x', '\xa70104' || '8000000000000000' || '00' || '00008007' || '00000001' || '0001'));
-- States of a megabyte, compressed and moved out of line, read where they lie.
CREATE TABLE large AS SELECT n, sum_by_state(i, jsonb_build_object('a', i, 'b', repeat('x', 50)), '{a,b}') AS state FROM generate_series(1, 8000) AS i, generate_series(1, 2) AS n GROUP BY 1;
SELECT pg_column_size(state) < octet_length(state::text) / 4 AS compressed, jsonb_array_length(meter.groups_final(state)) FROM large ORDER BY n;
SELECT jsonb_array_length(groups_merge(state)), (groups_merge(state)->-1->>'value')::int FROM large;

DROP AGGREGATE sum_by_state(numeric, jsonb, text[]), last_by_state(numeric, timestamptz, jsonb, text[]), last_state(numeric, timestamptz, bigint), groups_merge(meter.aggregate_state), last_merge(meter.aggregate_state);
DROP VIEW all_pieces;
DROP TABLE day, sent, received, state, large;
DROP FUNCTION error_of(text), read_hours(bytea, timestamptz[], timestamptz), sum_of(text, text, text, text, text, text, text, text), receive(bytea);
