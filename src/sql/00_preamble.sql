-- meter: usage metering. Run by CREATE EXTENSION; the schema exists, and is meter.
\echo Use "CREATE EXTENSION meter" to load this file. \quit

-- Text is UTF-8 throughout: digests, fingerprints and lengths in bytes mean nothing otherwise.
DO $$
BEGIN
    IF pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.<>) 'UTF8' THEN
        RAISE EXCEPTION 'meter needs a database with the encoding UTF8, not %',
            pg_catalog.getdatabaseencoding()
            USING ERRCODE = 'feature_not_supported',
                  HINT = 'CREATE DATABASE ... ENCODING ''UTF8'' TEMPLATE template0 makes one.';
    END IF;
END
$$;

-- Whoever made the schema beforehand could own functions in it that look like ours to a caller, and
-- could make more. CREATE EXTENSION makes it as the installing role; a restore may make it as
-- another superuser.
DO $$
DECLARE
    schema_oid CONSTANT pg_catalog.oid := 'meter'::pg_catalog.regnamespace;
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r
            ON r.oid OPERATOR(pg_catalog.=) n.nspowner
        WHERE n.oid OPERATOR(pg_catalog.=) schema_oid
          AND (r.rolsuper OR r.rolname OPERATOR(pg_catalog.=) current_user))
       OR EXISTS (
        SELECT FROM pg_catalog.pg_namespace n, pg_catalog.aclexplode(n.nspacl) a
        WHERE n.oid OPERATOR(pg_catalog.=) schema_oid
          AND a.privilege_type OPERATOR(pg_catalog.=) 'CREATE'
          AND a.grantee OPERATOR(pg_catalog.<>) n.nspowner) THEN
        RAISE EXCEPTION 'schema meter is there already, and a role other than a superuser can create objects in it'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Drop the schema, or rename it; CREATE EXTENSION makes its own.';
    END IF;
    IF EXISTS (SELECT FROM pg_catalog.pg_depend d
               WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass
                 AND d.refobjid OPERATOR(pg_catalog.=) schema_oid
                 AND d.classid OPERATOR(pg_catalog.<>) 'pg_catalog.pg_extension'::pg_catalog.regclass) THEN
        RAISE EXCEPTION 'schema meter is there already, and holds objects that are not of this extension'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Drop them, or rename the schema; CREATE EXTENSION makes its own.';
    END IF;
END
$$;

COMMENT ON SCHEMA meter IS 'usage metering: meters, events and exact usage queries';
