-- Period close: what was billed is frozen, and what arrives late is carried into the next statement.

CREATE TABLE meter.period_close (
    period_start timestamptz NOT NULL,
    period_end timestamptz NOT NULL,
    closed_at timestamptz NOT NULL,
    event_count bigint NOT NULL,
    digest uuid NOT NULL,
    meter_id integer NOT NULL,
    settled boolean NOT NULL DEFAULT false,
    aggregation text NOT NULL,
    dimensions text[] NOT NULL,
    closed_by text NOT NULL,
    property text,
    CONSTRAINT period_close_pkey PRIMARY KEY (meter_id, period_start)
);
COMMENT ON TABLE meter.period_close IS 'the closed periods of meters: they follow each other without a gap, from 1970 on; or from the retention horizon, where the aggregation needs events';
COMMENT ON COLUMN meter.period_close.period_start IS 'the start: the end of the period before';
COMMENT ON COLUMN meter.period_close.period_end IS 'the end, excluded';
COMMENT ON COLUMN meter.period_close.closed_at IS 'when it was closed: the start of that transaction';
COMMENT ON COLUMN meter.period_close.event_count IS 'how many events of the period there are in statements, adjustments included';
COMMENT ON COLUMN meter.period_close.digest IS 'the sum of their digests: where count and digest are those of the usage, nothing has arrived late';
COMMENT ON COLUMN meter.period_close.meter_id IS 'the meter, meter.meter.id';
COMMENT ON COLUMN meter.period_close.settled IS 'whether nothing can change any more, since the events have been dropped, and all is in statements';
COMMENT ON COLUMN meter.period_close.aggregation IS 'how usage of the period adds up: the meter''s aggregation at that time';
COMMENT ON COLUMN meter.period_close.dimensions IS 'the dimensions by which the period is billed: those that the meter declared then, without its property and what its rollups left out';
COMMENT ON COLUMN meter.period_close.closed_by IS 'the role that called';
COMMENT ON COLUMN meter.period_close.property IS 'what the aggregation counts: the meter''s property at that time';
COMMENT ON CONSTRAINT period_close_pkey ON meter.period_close IS 'a period is closed once';

CREATE TABLE meter.statement (
    period_start timestamptz NOT NULL,
    period_end timestamptz NOT NULL,
    for_start timestamptz NOT NULL,
    for_end timestamptz NOT NULL,
    closed_at timestamptz NOT NULL,
    event_count bigint NOT NULL,
    digest uuid NOT NULL,
    dimensions_digest uuid NOT NULL,
    meter_id integer NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    kind text NOT NULL,
    aggregation text NOT NULL,
    quantity numeric NOT NULL,
    dimensions jsonb NOT NULL,
    CONSTRAINT statement_pkey PRIMARY KEY (meter_id, for_start, user_id, dimensions_digest, period_start),
    CONSTRAINT statement_kind_check CHECK
        (kind = CASE WHEN for_start = period_start THEN 'usage' ELSE 'adjustment' END)
);
CREATE INDEX statement_period_idx ON meter.statement (meter_id, period_start, user_id);
COMMENT ON TABLE meter.statement IS 'what was billed: one row for each user and set of dimensions of a closed period, and for what changed in those before; never changed';
COMMENT ON COLUMN meter.statement.period_start IS 'the start of the period that the statement is of';
COMMENT ON COLUMN meter.statement.period_end IS 'its end, excluded';
COMMENT ON COLUMN meter.statement.for_start IS 'the start of the period in which the events lie: an earlier one for an adjustment';
COMMENT ON COLUMN meter.statement.for_end IS 'its end, excluded';
COMMENT ON COLUMN meter.statement.closed_at IS 'when it was made: the start of that transaction';
COMMENT ON COLUMN meter.statement.event_count IS 'how many events there are; of an adjustment, more than before';
COMMENT ON COLUMN meter.statement.digest IS 'the sum of the events'' digests, see meter.event_digest; of an adjustment, the difference';
COMMENT ON COLUMN meter.statement.dimensions_digest IS 'the digest of dimensions';
COMMENT ON COLUMN meter.statement.meter_id IS 'the meter, meter.meter.id';
COMMENT ON COLUMN meter.statement.user_id IS 'who used';
COMMENT ON COLUMN meter.statement.kind IS 'usage, or adjustment: what an earlier period''s usage is now, less what was billed for it';
COMMENT ON COLUMN meter.statement.aggregation IS 'how the quantity adds up';
COMMENT ON COLUMN meter.statement.quantity IS 'how much; of an adjustment, how much more';
COMMENT ON COLUMN meter.statement.dimensions IS 'the dimensions that the row is of; null: the events have none';
COMMENT ON CONSTRAINT statement_pkey ON meter.statement IS 'a statement has one row for each user, set of dimensions and period of events';
COMMENT ON INDEX meter.statement_period_idx IS 'the rows of a statement';

CREATE FUNCTION meter.refuse_change() RETURNS trigger
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'meter_refuse_change';
REVOKE ALL ON FUNCTION meter.refuse_change() FROM PUBLIC;
COMMENT ON FUNCTION meter.refuse_change() IS
'refuses to change what was billed; for the triggers of meter.statement. Only meter.erase_user may';
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON meter.statement
    FOR EACH ROW EXECUTE FUNCTION meter.refuse_change();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON meter.statement
    FOR EACH STATEMENT EXECUTE FUNCTION meter.refuse_change();
COMMENT ON TRIGGER refuse_change ON meter.statement IS 'statements never change';
COMMENT ON TRIGGER refuse_truncate ON meter.statement IS 'statements never change';
SELECT pg_catalog.pg_extension_config_dump('meter.period_close', '');
SELECT pg_catalog.pg_extension_config_dump('meter.statement', '');

CREATE FUNCTION meter.usage_digest(
    event_name text,
    period_start timestamptz,
    period_end timestamptz,
    user_id text DEFAULT NULL,
    group_by text[] DEFAULT '{}',
    filter jsonb DEFAULT '{}',
    bucket text DEFAULT NULL,
    time_zone text DEFAULT 'UTC',
    aggregation text DEFAULT NULL,
    fill boolean DEFAULT false
) RETURNS TABLE (
    bucket_start timestamptz,
    bucket_end timestamptz,
    user_id text,
    dimensions jsonb,
    value numeric,
    event_count bigint,
    digest uuid
)
LANGUAGE c STABLE PARALLEL UNSAFE ROWS 100 COST 10000
AS 'MODULE_PATHNAME', 'meter_usage_digest';
REVOKE ALL ON FUNCTION
    meter.usage_digest(text, timestamptz, timestamptz, text, text[], jsonb, text, text, text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION
    meter.usage_digest(text, timestamptz, timestamptz, text, text[], jsonb, text, text, text, boolean) IS
'the same as meter.usage, which see, with the sum of the events'' digests; not with fill, nor for first, unique_count and weighted_sum. Values are not rounded';

CREATE FUNCTION meter.close_period(period_end timestamptz, event_name text DEFAULT NULL) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'meter_close_period';
REVOKE ALL ON FUNCTION meter.close_period(timestamptz, text) FROM PUBLIC;
COMMENT ON FUNCTION meter.close_period(timestamptz, text) IS
'freezes the usage from the last close to period_end, of one meter or all of the org, into meter.statement, with adjustments for what changed in closed periods meanwhile; returns how many rows it wrote. A period closed already is left alone';

CREATE FUNCTION meter.late_usage(event_name text DEFAULT NULL) RETURNS TABLE (
    event_name text,
    period_start timestamptz,
    period_end timestamptz,
    user_id text,
    dimensions jsonb,
    quantity numeric,
    event_count bigint,
    digest uuid
)
LANGUAGE c STABLE PARALLEL UNSAFE ROWS 100 COST 10000
AS 'MODULE_PATHNAME', 'meter_late_usage';
REVOKE ALL ON FUNCTION meter.late_usage(text) FROM PUBLIC;
COMMENT ON FUNCTION meter.late_usage(text) IS
'what the next statement will adjust: for each closed period, user and set of dimensions, the usage now less what was billed; nothing where nothing has changed';

CREATE FUNCTION meter.list_statements(
    event_name text DEFAULT NULL,
    user_id text DEFAULT NULL,
    period_start timestamptz DEFAULT NULL,
    period_end timestamptz DEFAULT NULL
) RETURNS TABLE (
    event_name text,
    user_id text,
    dimensions jsonb,
    period_start timestamptz,
    period_end timestamptz,
    kind text,
    for_start timestamptz,
    for_end timestamptz,
    aggregation text,
    quantity numeric,
    event_count bigint,
    digest uuid,
    closed_at timestamptz
)
LANGUAGE c STABLE PARALLEL UNSAFE ROWS 1000
AS 'MODULE_PATHNAME', 'meter_list_statements';
REVOKE ALL ON FUNCTION meter.list_statements(text, text, timestamptz, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION meter.list_statements(text, text, timestamptz, timestamptz) IS
'the rows of statements whose period lies within the one given, of one meter or all of the org';
