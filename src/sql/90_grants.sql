-- Nothing is granted to PUBLIC; meter.grant_access grants what a role needs.
REVOKE ALL ON ALL TABLES IN SCHEMA meter FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA meter FROM PUBLIC;
REVOKE ALL ON SCHEMA meter FROM PUBLIC;
