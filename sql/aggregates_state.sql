-- The type meter.aggregate_state: text and binary forms, stored states, malformed states.
SET bytea_output = hex;
-- Aggregates that give their states away, as an extension that distributes queries would.
CREATE AGGREGATE sum_by_state(numeric, jsonb, text[]) (
    SFUNC = meter.sum_by_add, STYPE = meter.aggregate_state, COMBINEFUNC = meter.groups_combine, PARALLEL = SAFE);
CREATE AGGREGATE count_by_state(jsonb, text[]) (
    SFUNC = meter.count_by_add, STYPE = meter.aggregate_state, COMBINEFUNC = meter.groups_combine, PARALLEL = SAFE);
CREATE AGGREGATE last_by_state(numeric, timestamptz, jsonb, text[]) (
    SFUNC = meter.last_by_add, STYPE = meter.aggregate_state, COMBINEFUNC = meter.groups_combine, PARALLEL = SAFE);
CREATE AGGREGATE last_state(numeric, timestamptz) (
    SFUNC = meter.last_add, STYPE = meter.aggregate_state, COMBINEFUNC = meter.last_combine, PARALLEL = SAFE);
CREATE AGGREGATE last_state(numeric, timestamptz, bigint) (
    SFUNC = meter.last_add, STYPE = meter.aggregate_state, COMBINEFUNC = meter.last_combine, PARALLEL = SAFE);
CREATE AGGREGATE groups_merge(meter.aggregate_state) (
    SFUNC = meter.groups_combine, STYPE = meter.aggregate_state, FINALFUNC = meter.groups_final);
CREATE AGGREGATE last_merge(meter.aggregate_state) (
    SFUNC = meter.last_combine, STYPE = meter.aggregate_state, FINALFUNC = meter.last_final);

CREATE TABLE state_rows AS
SELECT i, (hashint4(i) % 100000) / 100.0 AS v, timestamptz '2026-01-01 00:00+00' + (i % 7) * interval '1s' AS t,
       jsonb_build_object('a', i % 4, 'b', jsonb_build_array(i % 2, 1.50, 'ä')) || CASE WHEN i % 3 = 0 THEN jsonb '{}' ELSE '{"c":true}' END AS d
FROM generate_series(1, 200) AS i;
INSERT INTO state_rows VALUES (201, 'NaN', now(), '{}'), (202, 1e50, '2026-01-01', '{"a":"x"}'), (203, -0.5, '2026-01-01', '{"a":-1.5}'), (204, NULL, now(), '{"a":false}');

-- Stored, and flattened on the way.
CREATE TABLE states AS
SELECT i % 5 AS part, sum_by_state(v, d, '{a,b,c}') AS sums, count_by_state(d, '{a,b,c}') AS counts, last_by_state(v, t, d, '{a,b,c}') AS lasts,
       last_state(v, t) AS last, last_state(v, t, i) AS last3 FROM state_rows GROUP BY 1;
SELECT attname, atttypid::regtype FROM pg_attribute WHERE attrelid = 'states'::regclass AND attnum > 1;
SELECT groups_merge(sums) = (SELECT meter.sum_by(v, d, '{a,b,c}') FROM state_rows) AS sums,
       groups_merge(counts) = (SELECT meter.count_by(d, '{a,b,c}') FROM state_rows) AS counts,
       groups_merge(lasts) = (SELECT meter.last_by(v, t, d, '{a,b,c}') FROM state_rows) AS lasts,
       last_merge(last) = (SELECT meter.last(v, t) FROM state_rows) AS last,
       last_merge(last3) = (SELECT meter.last(v, t, i) FROM state_rows) AS last3 FROM states;
SELECT meter.groups_final(counts)->0 AS first, meter.last_final(last) AS last FROM states WHERE part = 2;
-- NULL states count for nothing.
SELECT groups_merge(s) FROM (VALUES (NULL::meter.aggregate_state), (NULL)) AS s(s);
SELECT groups_merge(CASE WHEN part = 2 THEN counts END ORDER BY part) = meter.groups_final((SELECT counts FROM states WHERE part = 2)) AS one FROM states;
SELECT groups_merge(sums) OVER (ORDER BY part) IS NOT NULL AS windowed, last_merge(last) OVER (ORDER BY part) IS NOT NULL FROM states;

-- Text: there and back.
SELECT count_by_state('{"a":1.50}', '{a,b}'), last_state(12345.5, '2000-01-01 00:00:01+00', 2) FROM (SELECT) AS one;
SELECT bool_and(x::text::meter.aggregate_state::text = x::text) AS round_trip, count(*)
FROM states, unnest(ARRAY[sums, counts, lasts, last, last3]) AS x;
SELECT upper(substr(x::text, 3)) <> substr(x::text, 3) AND ('\x' || upper(substr(x::text, 3)))::meter.aggregate_state::text = x::text AS upper_case
FROM (SELECT counts AS x FROM states LIMIT 1) AS s;
-- Binary: there and back.
SELECT bool_and('\x' || encode(meter.aggregate_state_send(x), 'hex') = x::text) AS sent FROM states, unnest(ARRAY[sums, counts, lasts, last, last3]) AS x;
CREATE FUNCTION copy_through_file() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    file text := format('%s/%s', current_setting('data_directory'), 'aggregate_states.copy');
BEGIN
    EXECUTE format('COPY states TO %L (FORMAT binary)', file);
    CREATE TABLE states_copied (LIKE states);
    EXECUTE format('COPY states_copied FROM %L (FORMAT binary)', file);
    EXECUTE format('COPY (SELECT) TO %L', file);
END
$$;
SELECT copy_through_file();
SELECT count(*) AS received FROM states AS s JOIN states_copied AS c USING (part)
WHERE (s.sums, s.counts, s.lasts, s.last, s.last3)::text = (c.sums, c.counts, c.lasts, c.last, c.last3)::text;

-- States of other kinds and keys do not mix.
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
SELECT error_of('SELECT groups_merge(x) FROM states, unnest(ARRAY[sums, counts]) AS x');
SELECT error_of('SELECT groups_merge(x) FROM states, unnest(ARRAY[lasts, last]) AS x');
SELECT error_of('SELECT groups_merge(last) FROM states');
SELECT error_of('SELECT last_merge(sums) FROM states');
SELECT error_of('SELECT last_merge(x) FROM states, unnest(ARRAY[last, last3]) AS x');
SELECT error_of('SELECT meter.groups_final(last) FROM states');
SELECT error_of('SELECT meter.last_final(counts) FROM states');
SELECT error_of($$SELECT groups_merge(x) FROM (SELECT count_by_state('{}', '{a}') AS x UNION ALL SELECT count_by_state('{}', '{b}')) AS s$$);
SELECT error_of($$SELECT groups_merge(x) FROM (SELECT count_by_state('{}', '{a,b}') AS x UNION ALL SELECT count_by_state('{}', '{b,a}')) AS s$$);

-- Malformed text.
SELECT x, error_of(format('SELECT %L::meter.aggregate_state', x))
FROM unnest(ARRAY['', 'x', '\x', '\xa', '\xzz', 'a701', '\xa7', '\xa701', '\xa70100', '\xa70109', '\xa70201', '\xa60101', '\xa70101',
    '\xa7010200000000', '\xa7010200000000ffffffff', '\xa70102ffffffff', '\xa701020000000100000001', '\xa701020000000100000001ff00000000',
    '\xa70102000000020000000161000000016100000000',
    '\xa7010200000000000000020000000000000000000000010000000000000000000000 01',
    '\xa701020000000000000002000000000000000000000001000000000000000000000001',
    '\xa701020000000000000001000000008000000000000000', '\xa7010200000000000000010000000110' || '0000000000000001',
    '\xa70102000000010000000161000000010000000150' || '0000000000000001']) AS x;
-- Containers have to be as jsonb would write them: [1] is, [1 ], [1.0], 1 and [ are not.
SELECT x, error_of(format('SELECT %L::meter.aggregate_state',
    '\xa701020000000100000001610000000100000' || lpad(to_hex(length(x) + 2), 3, '0') || '50' || encode(x::bytea, 'hex') || '00' || '0000000000000001'))
FROM unnest(ARRAY['[1]', '[1 ]', '[1.0]', '1', '[', '{"b": 1, "aa": 2}', '{"aa": 2, "b": 1}', '']) AS x;

-- Every truncation is refused, every flipped byte is refused or harmless: no crash, and what is taken can be used.
CREATE FUNCTION outcome(state bytea) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    taken meter.aggregate_state;
BEGIN
    taken := ('\x' || encode(state, 'hex'))::meter.aggregate_state;
    IF get_byte(state, 2) < 4 THEN
        PERFORM meter.groups_final(taken), groups_merge(x) FROM unnest(ARRAY[taken, taken]) AS x GROUP BY 1;
    ELSE
        PERFORM meter.last_final(taken), last_merge(x) FROM unnest(ARRAY[taken, taken]) AS x GROUP BY 1;
    END IF;
    RETURN 'taken';
EXCEPTION
    WHEN invalid_binary_representation OR invalid_text_representation OR invalid_parameter_value OR numeric_value_out_of_range
         OR program_limit_exceeded OR untranslatable_character THEN
        RETURN 'refused';
END
$$;
CREATE TABLE flat AS SELECT part, kind, meter.aggregate_state_send(x) AS bytes
    FROM states, unnest(ARRAY[sums, counts, lasts, last, last3]) WITH ORDINALITY AS u(x, kind) WHERE part IN (1, 2);
SELECT kind, outcome, count(*) > 0 AS some FROM flat, generate_series(0, length(bytes) - 1) AS cut, outcome(substr(bytes, 1, cut)) GROUP BY 1, 2 ORDER BY 1, 2;
SELECT outcome, count(*) AS complete FROM flat, outcome(bytes) GROUP BY 1;
SELECT setseed(0.25);
SELECT kind, sum(n) FROM (
    SELECT kind, outcome, count(*) AS n
    FROM (SELECT kind, outcome(set_byte(set_byte(bytes, at1, byte1), at2, byte2)) AS outcome
          FROM (SELECT kind, bytes, floor(random() * length(bytes))::int AS at1, floor(random() * 256)::int AS byte1,
                       floor(random() * length(bytes))::int AS at2, floor(random() * 256)::int AS byte2
                FROM flat, generate_series(1, 500) OFFSET 0) AS r) AS o GROUP BY 1, 2) AS s WHERE outcome IN ('taken', 'refused') GROUP BY 1 ORDER BY 1;

-- Combine, final and transition trust no bytes either: a cast without a check hands them anything.
CREATE CAST (bytea AS meter.aggregate_state) WITHOUT FUNCTION;
CREATE FUNCTION unchecked(state bytea) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF length(state) > 2 AND get_byte(state, 2) < 4 THEN
        PERFORM meter.groups_final(state::meter.aggregate_state);
        PERFORM groups_merge(x) FROM unnest(ARRAY[NULL, state, state]::meter.aggregate_state[]) AS x;
    ELSE
        PERFORM meter.last_final(state::meter.aggregate_state);
        PERFORM last_merge(x) FROM unnest(ARRAY[NULL, state, state]::meter.aggregate_state[]) AS x;
    END IF;
    RETURN 'taken';
EXCEPTION
    WHEN invalid_binary_representation OR invalid_text_representation OR invalid_parameter_value OR numeric_value_out_of_range
         OR program_limit_exceeded OR untranslatable_character THEN
        RETURN 'refused';
END
$$;
SELECT outcome, count(*) > 0 AS some FROM flat, generate_series(0, length(bytes) - 1) AS cut, unchecked(substr(bytes, 1, cut)) AS outcome GROUP BY 1;
SELECT kind, sum(n) FROM (
    SELECT kind, outcome, count(*) AS n
    FROM (SELECT kind, unchecked(set_byte(set_byte(bytes, at1, byte1), at2, byte2)) AS outcome
          FROM (SELECT kind, bytes, floor(random() * length(bytes))::int AS at1, floor(random() * 256)::int AS byte1,
                       floor(random() * length(bytes))::int AS at2, floor(random() * 256)::int AS byte2
                FROM flat, generate_series(1, 500) OFFSET 0) AS r) AS o GROUP BY 1, 2) AS s WHERE outcome IN ('taken', 'refused') GROUP BY 1 ORDER BY 1;
-- A transition goes on from a flat state, and checks it.
CREATE AGGREGATE count_by_on(jsonb, text[]) (
    SFUNC = meter.count_by_add, STYPE = meter.aggregate_state, FINALFUNC = meter.groups_final,
    INITCOND = '\xa701020000000100000001610000000100000001100000000000000009');
SELECT count_by_on('{"a":null,"b":1}', '{a}'), count_by_on('{"a":1}', '{a}') OVER () FROM generate_series(1, 2) AS i GROUP BY i;
SELECT error_of($$SELECT count_by_on('{}', '{b}')$$);
-- Counts do not wrap around.
SELECT error_of($$SELECT groups_merge(x) FROM unnest(ARRAY['\xa70102000000000000000100000000' || '7fffffffffffffff', '\xa70102000000000000000100000000' || '0000000000000001']::meter.aggregate_state[]) AS x$$);

DROP CAST (bytea AS meter.aggregate_state);
DROP AGGREGATE sum_by_state(numeric, jsonb, text[]), count_by_state(jsonb, text[]), last_by_state(numeric, timestamptz, jsonb, text[]),
    last_state(numeric, timestamptz), last_state(numeric, timestamptz, bigint), groups_merge(meter.aggregate_state),
    last_merge(meter.aggregate_state), count_by_on(jsonb, text[]);
DROP TABLE state_rows, states, states_copied, flat;
DROP FUNCTION copy_through_file(), error_of(text), outcome(bytea), unchecked(bytea);
