-- meter: usage metering. Run by CREATE EXTENSION; the schema exists, and is meter.
\echo Use "CREATE EXTENSION meter" to load this file. \quit

-- Text is UTF-8 throughout: digests, fingerprints and lengths in bytes mean nothing otherwise.
DO $$
BEGIN
    IF pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.<>) 'UTF8' THEN
        RAISE EXCEPTION 'meter needs a database with the encoding UTF8, not %',
            pg_catalog.getdatabaseencoding()
            USING ERRCODE = 'feature_not_supported';
    END IF;
END
$$;

COMMENT ON SCHEMA meter IS 'usage metering: meters, events and exact usage queries';
