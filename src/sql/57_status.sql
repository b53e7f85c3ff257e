-- How the rollups stand. The functions look the caller up, as others do; the views are for reading.

CREATE FUNCTION meter.status() RETURNS TABLE (
    event_name text,
    pending_rows bigint,
    pending_exact boolean,
    lag interval,
    set_aside bigint,
    set_aside_error text,
    month timestamptz,
    cells bigint,
    events_per_cell numeric,
    left_out text[],
    kept text[],
    users_by_day bigint,
    partitions_until timestamptz,
    horizon timestamptz,
    worker text
)
LANGUAGE c STABLE PARALLEL UNSAFE ROWS 20 COST 10000
AS 'MODULE_PATHNAME', 'meter_status';
REVOKE ALL ON FUNCTION meter.status() FROM PUBLIC;
COMMENT ON FUNCTION meter.status() IS 'the rows of the view meter.status';

CREATE FUNCTION meter.system_status() RETURNS TABLE (
    pending_rows bigint,
    pending_exact boolean,
    lag interval,
    set_aside bigint,
    dead_pending_rows bigint,
    pending_bytes bigint,
    rollup_bytes bigint,
    open_generations integer,
    oldest_snapshot text,
    oldest_snapshot_age interval,
    partitions integer,
    first_partition timestamptz,
    partitions_until timestamptz,
    partitions_ahead interval,
    default_partition_used boolean,
    horizon timestamptz,
    worker_pid integer,
    worker text
)
LANGUAGE c STABLE PARALLEL UNSAFE ROWS 1 COST 10000
AS 'MODULE_PATHNAME', 'meter_system_status';
REVOKE ALL ON FUNCTION meter.system_status() FROM PUBLIC;
COMMENT ON FUNCTION meter.system_status() IS 'the row of the view meter.system_status';

CREATE VIEW meter.status AS
    SELECT s.event_name, s.pending_rows, s.pending_exact, s.lag, s.set_aside, s.set_aside_error, s.month,
           s.cells, s.events_per_cell, s.left_out, s.kept, s.users_by_day, s.partitions_until, s.horizon,
           s.worker
    FROM meter.status() AS s;
COMMENT ON VIEW meter.status IS 'how each meter of the org stands: what is not folded yet, and what its rollups are like';
COMMENT ON COLUMN meter.status.event_name IS 'the meter';
COMMENT ON COLUMN meter.status.pending_rows IS 'deltas that wait to be folded';
COMMENT ON COLUMN meter.status.pending_exact IS 'whether all were counted; otherwise there are more deltas than the 20,000 that were looked at, and pending_rows and lag are at least what they say';
COMMENT ON COLUMN meter.status.lag IS 'how long ago the oldest of them was recorded; 0: there is none; null: its event is gone';
COMMENT ON COLUMN meter.status.set_aside IS 'deltas that could not be folded; they are counted by every query all the same';
COMMENT ON COLUMN meter.status.set_aside_error IS 'why one of them could not';
COMMENT ON COLUMN meter.status.month IS 'the latest month, UTC, that has cells; the next four columns are about it';
COMMENT ON COLUMN meter.status.cells IS 'how many cells there are over all users: how many sets of dimensions';
COMMENT ON COLUMN meter.status.events_per_cell IS 'how many events a cell stands for: cells pay where these are many';
COMMENT ON COLUMN meter.status.left_out IS 'the dimensions that cells are without, since they have too many values; an empty name: all but those in kept';
COMMENT ON COLUMN meter.status.kept IS 'the dimensions that meter.take_in took in for good; an empty name: all';
COMMENT ON COLUMN meter.status.users_by_day IS 'how many users have cells by day, counted to 10,000';
COMMENT ON COLUMN meter.status.partitions_until IS 'the end of the last monthly partition; later events go to the default partition';
COMMENT ON COLUMN meter.status.horizon IS 'before this there are no events any more; null: none were dropped';
COMMENT ON COLUMN meter.status.worker IS 'what the database''s worker is doing; null: none is running';

CREATE VIEW meter.system_status AS
    SELECT s.pending_rows, s.pending_exact, s.lag, s.set_aside, s.dead_pending_rows, s.pending_bytes,
           s.rollup_bytes, s.open_generations, s.oldest_snapshot, s.oldest_snapshot_age, s.partitions,
           s.first_partition, s.partitions_until, s.partitions_ahead, s.default_partition_used, s.horizon,
           s.worker_pid, s.worker
    FROM meter.system_status() AS s;
COMMENT ON VIEW meter.system_status IS 'how the database stands, over all orgs: one row; for who is not bound to an org';
COMMENT ON COLUMN meter.system_status.pending_rows IS 'deltas that wait to be folded';
COMMENT ON COLUMN meter.system_status.pending_exact IS 'whether all were counted; otherwise there are more than 20,000, pending_rows is an estimate, and lag at least what it says';
COMMENT ON COLUMN meter.system_status.lag IS 'how long ago the oldest of them was recorded; 0: there is none; null: its event is gone';
COMMENT ON COLUMN meter.system_status.set_aside IS 'deltas that could not be folded; see meter.status';
COMMENT ON COLUMN meter.system_status.dead_pending_rows IS 'folded deltas that are still in the table, by the statistics: a vacuum removes them, unless an old snapshot might see them';
COMMENT ON COLUMN meter.system_status.pending_bytes IS 'the size of meter.rollup_pending with its index';
COMMENT ON COLUMN meter.system_status.rollup_bytes IS 'the size of the other tables of the rollups with their indexes';
COMMENT ON COLUMN meter.system_status.open_generations IS 'the generations of deltas that queries look at; many: something keeps them from being closed';
COMMENT ON COLUMN meter.system_status.oldest_snapshot IS 'what holds the oldest snapshot or transaction, which keeps dead rows from being removed; null: nothing but this query';
COMMENT ON COLUMN meter.system_status.oldest_snapshot_age IS 'since when its transaction has been running; null: not known';
COMMENT ON COLUMN meter.system_status.partitions IS 'how many monthly partitions there are';
COMMENT ON COLUMN meter.system_status.first_partition IS 'the start of the first';
COMMENT ON COLUMN meter.system_status.partitions_until IS 'the end of the last';
COMMENT ON COLUMN meter.system_status.partitions_ahead IS 'how far ahead that is; negative: the current month has none';
COMMENT ON COLUMN meter.system_status.default_partition_used IS 'whether the default partition has events: those of months that had no partition';
COMMENT ON COLUMN meter.system_status.horizon IS 'before this there are no events any more; null: none were dropped';
COMMENT ON COLUMN meter.system_status.worker_pid IS 'the process of the database''s worker; null: none is running';
COMMENT ON COLUMN meter.system_status.worker IS 'what it is doing';
