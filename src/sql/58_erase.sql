-- Erasing a person.

CREATE FUNCTION meter.key_digest(meter_id integer, user_id text, idempotency text) RETURNS uuid
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'meter_key_digest';
REVOKE ALL ON FUNCTION meter.key_digest(integer, text, text) FROM PUBLIC;
COMMENT ON FUNCTION meter.key_digest(integer, text, text) IS
'the digest of an event''s meter, user and idempotency key: what meter.event_key is keyed by';

CREATE FUNCTION meter.erase_user(
    user_id text,
    replacement text DEFAULT NULL,
    remove boolean DEFAULT false
) RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'meter_erase_user';
REVOKE ALL ON FUNCTION meter.erase_user(text, text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION meter.erase_user(text, text, boolean) IS
'erases a person from the org: usage stays, under the replacement (by default a random pseudonym), which is returned, without keys and metadata; or is removed as far as its events are there. Null: nothing is left of it';
