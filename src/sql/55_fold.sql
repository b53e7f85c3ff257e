-- Keeping the rollups.

CREATE FUNCTION meter.fold() RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'meter_fold';
REVOKE ALL ON FUNCTION meter.fold() FROM PUBLIC;
COMMENT ON FUNCTION meter.fold() IS
'moves what was recorded into the rollups, which keeps usage queries fast, and returns how many deltas it moved; 0 at once where another session is at it';
