-- Corrections: events that count no more, and what makes events and sets of them comparable.

-- All that is needed to take the event back, since nothing is ever changed in the event itself. The
-- key makes a second void of an event impossible, and finds one user's voids of a period. No check:
-- PostgreSQL would read its text anew for each void.
CREATE TABLE meter.event_void (
    event_timestamp timestamptz NOT NULL,
    event_id bigint NOT NULL,
    voided_at timestamptz NOT NULL,
    replaced_by bigint,
    replaced_timestamp timestamptz,
    meter_id integer NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    value numeric NOT NULL,
    dimensions jsonb NOT NULL,
    idempotency text,
    reason text NOT NULL,
    voided_by text NOT NULL,
    last_amended bigint,
    last_amended_timestamp timestamptz,
    CONSTRAINT event_void_pkey PRIMARY KEY (user_id, meter_id, event_timestamp, event_id)
);
CREATE INDEX event_void_meter_idx ON meter.event_void (meter_id, event_timestamp);
COMMENT ON TABLE meter.event_void IS 'the events that were voided or amended, and count no more: one row for each';
COMMENT ON COLUMN meter.event_void.event_timestamp IS 'the event''s timestamp';
COMMENT ON COLUMN meter.event_void.event_id IS 'the event, meter.meter_event.id';
COMMENT ON COLUMN meter.event_void.voided_at IS 'when: the start of that transaction';
COMMENT ON COLUMN meter.event_void.replaced_by IS 'the event that an amendment recorded in its place; null: it was voided';
COMMENT ON COLUMN meter.event_void.replaced_timestamp IS 'that event''s timestamp';
COMMENT ON COLUMN meter.event_void.meter_id IS 'the event''s meter';
COMMENT ON COLUMN meter.event_void.user_id IS 'the event''s user';
COMMENT ON COLUMN meter.event_void.value IS 'the event''s value';
COMMENT ON COLUMN meter.event_void.dimensions IS 'the event''s dimensions';
COMMENT ON COLUMN meter.event_void.idempotency IS 'the event''s key; null: it has none';
COMMENT ON COLUMN meter.event_void.reason IS 'why';
COMMENT ON COLUMN meter.event_void.voided_by IS 'the role that called';
COMMENT ON COLUMN meter.event_void.last_amended IS 'of a first version that was amended more than once: the version that was amended last, whose row says what replaced it. A short cut, so that a chain of versions need not be followed; null: there is none';
COMMENT ON COLUMN meter.event_void.last_amended_timestamp IS 'that version''s timestamp';
COMMENT ON CONSTRAINT event_void_pkey ON meter.event_void IS 'an event is voided once; one user''s voids of a period';
COMMENT ON INDEX meter.event_void_meter_idx IS 'a meter''s voids of a period';
SELECT pg_catalog.pg_extension_config_dump('meter.event_void', '');

CREATE FUNCTION meter.event_digest(id bigint, "timestamp" timestamptz, value numeric, dimensions jsonb)
RETURNS uuid
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'meter_event_digest';
REVOKE ALL ON FUNCTION meter.event_digest(bigint, timestamptz, numeric, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION meter.event_digest(bigint, timestamptz, numeric, jsonb) IS
'the first 16 bytes of SHA-256 over an event''s id, timestamp, value and the digest of its dimensions: what cells and statements carry the sum of';

CREATE FUNCTION meter.add_digests(a uuid, b uuid) RETURNS uuid
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'meter_add_digests';
REVOKE ALL ON FUNCTION meter.add_digests(uuid, uuid) FROM PUBLIC;
COMMENT ON FUNCTION meter.add_digests(uuid, uuid) IS 'the sum of two digests modulo 2^128';

CREATE FUNCTION meter.negate_digest(digest uuid) RETURNS uuid
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'meter_negate_digest';
REVOKE ALL ON FUNCTION meter.negate_digest(uuid) FROM PUBLIC;
COMMENT ON FUNCTION meter.negate_digest(uuid) IS 'what has to be added to a digest to make it zero';

CREATE AGGREGATE meter.sum_digests(digest uuid) (
    SFUNC = meter.add_digests,
    STYPE = uuid,
    COMBINEFUNC = meter.add_digests,
    PARALLEL = SAFE
);
REVOKE ALL ON FUNCTION meter.sum_digests(uuid) FROM PUBLIC;
COMMENT ON AGGREGATE meter.sum_digests(uuid) IS
'the sum of digests modulo 2^128; of none: null';
