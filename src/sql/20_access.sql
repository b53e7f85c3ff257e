-- Who may do what.

CREATE FUNCTION meter.grant_access(role name, privilege text, org text DEFAULT NULL) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'meter_grant_access';
REVOKE ALL ON FUNCTION meter.grant_access(name, text, text) FROM PUBLIC;
COMMENT ON FUNCTION meter.grant_access(name, text, text) IS
'lets a role read (reader), record (writer), or do both and define meters (admin), in one org, which it then cannot leave, or in any';

CREATE FUNCTION meter.revoke_access(role name, privilege text DEFAULT NULL) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'meter_revoke_access';
REVOKE ALL ON FUNCTION meter.revoke_access(name, text) FROM PUBLIC;
COMMENT ON FUNCTION meter.revoke_access(name, text) IS
'takes back what meter.grant_access granted: one privilege, or all of them';
