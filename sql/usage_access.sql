-- meter.usage: who may, and what of.
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
CREATE ROLE usage_reader;
CREATE ROLE usage_writer;
CREATE ROLE usage_nobody;
SET meter.org = 'usage_a';
SELECT event_name FROM meter.create_meter('tokens');
SELECT meter.record_event('tokens', 'ann', 1, event_time => '2026-02-01') IS NOT NULL AS recorded;
SET meter.org = 'usage_b';
SELECT event_name FROM meter.create_meter('tokens');
SELECT meter.record_event('tokens', 'ann', 20, event_time => '2026-02-01') IS NOT NULL AS recorded;
SELECT meter.grant_access('usage_reader', 'reader', 'usage_a');
SELECT meter.grant_access('usage_writer', 'writer', 'usage_a');

-- A role bound to an org reads that one, whatever meter.org says, and not the tables.
SET ROLE usage_reader;
SELECT value FROM meter.usage('tokens', '2026-01-01', '2027-01-01', bucket => 'month', time_zone => 'Europe/Berlin');
SELECT bucket_start, value FROM meter.usage('tokens', '2026-01-31', '2026-02-02', bucket => 'day', fill => true);
SELECT * FROM meter.usage_report('2026-01-01', '2027-01-01');
SELECT count(*) FROM meter.meter_event;
SELECT current_user;
-- After an error the caller is still the caller.
SELECT * FROM meter.usage('tokens', '2026-01-01', '2027-01-01', bucket => 'eon');
SELECT current_user;
SELECT count(*) FROM meter.meter_event;
-- Operators of the caller's own are not what the query means.
RESET ROLE;
CREATE SCHEMA usage_trap;
GRANT USAGE, CREATE ON SCHEMA usage_trap TO usage_reader;
SET ROLE usage_reader;
CREATE FUNCTION usage_trap.never(timestamptz, timestamptz) RETURNS boolean LANGUAGE sql AS 'SELECT false';
CREATE OPERATOR usage_trap.>= (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = usage_trap.never);
SET search_path = usage_trap, pg_catalog;
SELECT value FROM meter.usage('tokens', '2026-01-01', '2027-01-01');
RESET search_path;
RESET ROLE;

SET ROLE usage_writer;
SELECT * FROM meter.usage('tokens', '2026-01-01', '2027-01-01');
SELECT * FROM meter.usage_report('2026-01-01', '2027-01-01');
SET ROLE usage_nobody;
SELECT * FROM meter.usage('tokens', '2026-01-01', '2027-01-01');
RESET ROLE;
SET meter.org = 'usage_b';
SELECT value FROM meter.usage('tokens', '2026-01-01', '2027-01-01');

DROP SCHEMA usage_trap CASCADE;
SELECT meter.revoke_access('usage_reader');
SELECT meter.revoke_access('usage_writer');
DROP ROLE usage_reader, usage_writer, usage_nobody;
