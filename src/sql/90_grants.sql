-- Nothing is granted to PUBLIC; meter.grant_access grants what a role needs.
REVOKE ALL ON ALL TABLES IN SCHEMA meter FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA meter FROM PUBLIC;
REVOKE ALL ON SCHEMA meter FROM PUBLIC;

-- Nor to anyone else: what ALTER DEFAULT PRIVILEGES grants on new tables would let a role that is
-- bound to an org read all of them.
DO $$
DECLARE
    granted pg_catalog.record;
BEGIN
    FOR granted IN
        SELECT DISTINCT c.relname, a.grantee::pg_catalog.regrole AS grantee
        FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a
        WHERE c.relnamespace OPERATOR(pg_catalog.=) 'meter'::pg_catalog.regnamespace
          AND a.grantee OPERATOR(pg_catalog.<>) c.relowner
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON meter.%I FROM %s', granted.relname, granted.grantee);
    END LOOP;
END
$$;
