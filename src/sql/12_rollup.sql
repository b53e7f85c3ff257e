-- Rollups: what the events add up to, kept so that a usage query need not read them. An event's
-- transaction writes a delta too; meter.fold() moves deltas into cells. Except for new deltas, one
-- transaction at a time changes these tables: it holds the lock that fold and rebuild take.

-- Fixed-width columns first. Null are what a delta of one event does not need: its value is all of
-- sum, minimum, maximum and last.
CREATE TABLE meter.rollup_pending (
    first_timestamp timestamptz NOT NULL,
    last_id bigint NOT NULL,
    event_count bigint NOT NULL,
    last_timestamp timestamptz,
    meter_id integer NOT NULL,
    generation integer NOT NULL,
    digest uuid NOT NULL,
    event_digest uuid,
    user_id text COLLATE "C" NOT NULL,
    value_sum numeric NOT NULL,
    dimensions jsonb NOT NULL,
    value_min numeric,
    value_max numeric,
    last_value numeric,
    value_time numeric,
    dirty boolean,
    voided boolean,
    fold_error text
) WITH (
    -- Vacuumed after as many folded deltas as the worker does it, however many there are: they are
    -- in every reader's way. Not for those that came: they go soon.
    autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = -1,
    -- To give pages back takes a lock that stops recorders and readers, and they are needed again.
    vacuum_truncate = off
);
-- By generation first: a reader then looks at open generations alone, and not at the deltas folded
-- long ago that an old snapshot keeps from being removed.
CREATE INDEX rollup_pending_idx ON meter.rollup_pending (generation, user_id, meter_id);
-- Deltas are deleted: without a key the table could not be in a publication that publishes deletes.
ALTER TABLE meter.rollup_pending REPLICA IDENTITY FULL;
COMMENT ON TABLE meter.rollup_pending IS
'deltas not folded yet: what the events of one statement with one meter, user, dimensions and UTC hour add up to';
COMMENT ON COLUMN meter.rollup_pending.first_timestamp IS 'the earliest timestamp of the events';
COMMENT ON COLUMN meter.rollup_pending.last_id IS 'the id of the last event by (timestamp, id)';
COMMENT ON COLUMN meter.rollup_pending.event_count IS 'how many events there are';
COMMENT ON COLUMN meter.rollup_pending.last_timestamp IS 'the latest timestamp; null: the earliest one';
COMMENT ON COLUMN meter.rollup_pending.meter_id IS 'the meter, meter.meter.id';
COMMENT ON COLUMN meter.rollup_pending.generation IS 'when the delta was written, coarsely: see meter.rollup_generation; -1: it was set aside; -2 and below: a fold added it up, see meter.rollup_state';
COMMENT ON COLUMN meter.rollup_pending.digest IS 'the first 16 bytes of SHA-256 of the canonical dimensions';
COMMENT ON COLUMN meter.rollup_pending.event_digest IS 'the sum of the events'' digests, see meter.event_digest; null: it follows from id, timestamp, value and dimensions';
COMMENT ON COLUMN meter.rollup_pending.user_id IS 'who used';
COMMENT ON COLUMN meter.rollup_pending.value_sum IS 'the sum of the values';
COMMENT ON COLUMN meter.rollup_pending.dimensions IS 'the events'' dimensions';
COMMENT ON COLUMN meter.rollup_pending.value_min IS 'the least value; null: the sum';
COMMENT ON COLUMN meter.rollup_pending.value_max IS 'the greatest value; null: the sum';
COMMENT ON COLUMN meter.rollup_pending.last_value IS 'the value of the last event; null: the sum';
COMMENT ON COLUMN meter.rollup_pending.value_time IS 'the sum of value times microseconds since the start of the hour; null: it follows from sum and timestamp';
COMMENT ON COLUMN meter.rollup_pending.dirty IS 'true: minimum, maximum and last of the cells that take this are to be read from the events; null: no';
COMMENT ON COLUMN meter.rollup_pending.voided IS 'true: the delta takes back voided events: count, sums and event_digest are negative, minimum, maximum and times those of what was voided; null: no';
COMMENT ON COLUMN meter.rollup_pending.fold_error IS 'why the delta could not be folded; it is set aside, counted by every query as before, and not tried again';
COMMENT ON INDEX meter.rollup_pending_idx IS 'one user''s deltas, or all, of the open generations';

CREATE TABLE meter.rollup_generation (
    generation integer NOT NULL,
    CONSTRAINT rollup_generation_pkey PRIMARY KEY (generation)
);
COMMENT ON TABLE meter.rollup_generation IS
'the generation of deltas that is being written; empty: generation 0. In a row of its own, since sessions remember it and have to be told of changes';
COMMENT ON COLUMN meter.rollup_generation.generation IS 'the generation, meter.rollup_pending.generation';

CREATE SEQUENCE meter.rollup_folded_seq AS bigint;
COMMENT ON SEQUENCE meter.rollup_folded_seq IS
'how many deltas have been folded since the last generation was begun, plus one; roughly';

-- One row, replaced by each fold: the latest counts. Updated in place it would leave versions in
-- every reader's way while an old snapshot is held; from the end of its index no reader sees them.
CREATE TABLE meter.rollup_state (
    version bigint NOT NULL,
    last_generation integer NOT NULL,
    recorded integer[] NOT NULL,
    generations integer[] NOT NULL,
    deltas bigint[] NOT NULL,
    fold_xids xid8[] NOT NULL,
    fold_times timestamptz[] NOT NULL,
    CONSTRAINT rollup_state_pkey PRIMARY KEY (version)
);
COMMENT ON TABLE meter.rollup_state IS
'what a fold leaves for readers and the next fold: the row with the greatest version. Empty: there was no fold yet, and generation 0 is open';
COMMENT ON COLUMN meter.rollup_state.version IS 'counts the changes';
COMMENT ON COLUMN meter.rollup_state.recorded IS 'the open generations of deltas that recorders wrote: all deltas of a closed one have been folded';
COMMENT ON COLUMN meter.rollup_state.last_generation IS 'the last generation, counted downwards, that a fold wrote deltas into';
COMMENT ON COLUMN meter.rollup_state.generations IS 'the open generations of deltas that folds have added up and not put into cells yet, because an old snapshot would keep the cells'' versions; the oldest first';
COMMENT ON COLUMN meter.rollup_state.deltas IS 'how many deltas each of them has, roughly';
COMMENT ON COLUMN meter.rollup_state.fold_xids IS 'the folds into cells whose old versions some snapshot keeps: for each the next transaction after it. Only a guess hangs on it';
COMMENT ON COLUMN meter.rollup_state.fold_times IS 'when each of them was';
COMMENT ON CONSTRAINT rollup_state_pkey ON meter.rollup_state IS 'the latest row';

CREATE TABLE meter.rollup (
    first_timestamp timestamptz NOT NULL,
    last_timestamp timestamptz NOT NULL,
    start timestamptz NOT NULL,
    event_count bigint NOT NULL,
    last_id bigint NOT NULL,
    digest uuid NOT NULL,
    event_digest uuid NOT NULL,
    meter_id integer NOT NULL,
    grain "char" NOT NULL,
    dirty boolean NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    value_sum numeric NOT NULL,
    value_min numeric NOT NULL,
    value_max numeric NOT NULL,
    last_value numeric NOT NULL,
    value_time numeric NOT NULL,
    dimensions jsonb NOT NULL,
    hours bytea,
    CONSTRAINT rollup_pkey PRIMARY KEY (meter_id, grain, start, user_id, digest)
) WITH (
    -- Room for a changed cell on its own page: then the index needs no new entry for it.
    fillfactor = 85,
    -- A page that fills up is tidied when it is changed again; the index only by a vacuum.
    autovacuum_vacuum_scale_factor = 0.05
);
COMMENT ON TABLE meter.rollup IS 'cells: what a user''s events with the same dimensions add up to by UTC month, and by day where that pays';
COMMENT ON COLUMN meter.rollup.first_timestamp IS 'the earliest timestamp of the events';
COMMENT ON COLUMN meter.rollup.last_timestamp IS 'the latest timestamp';
COMMENT ON COLUMN meter.rollup.start IS 'the start of the month or day';
COMMENT ON COLUMN meter.rollup.event_count IS 'how many events there are';
COMMENT ON COLUMN meter.rollup.last_id IS 'the id of the last event by (timestamp, id)';
COMMENT ON COLUMN meter.rollup.digest IS 'the first 16 bytes of SHA-256 of the canonical dimensions';
COMMENT ON COLUMN meter.rollup.event_digest IS 'the sum of the events'' digests, see meter.event_digest';
COMMENT ON COLUMN meter.rollup.meter_id IS 'the meter, meter.meter.id';
COMMENT ON COLUMN meter.rollup.grain IS 'm: a month, d: a day, in UTC';
COMMENT ON COLUMN meter.rollup.dirty IS 'whether minimum, maximum and last are to be read from the events, of the cell or of an hour of it: a voided event may have been one of them';
COMMENT ON COLUMN meter.rollup.user_id IS 'who used';
COMMENT ON COLUMN meter.rollup.value_sum IS 'the sum of the values';
COMMENT ON COLUMN meter.rollup.value_min IS 'the least value';
COMMENT ON COLUMN meter.rollup.value_max IS 'the greatest value';
COMMENT ON COLUMN meter.rollup.last_value IS 'the value of the last event';
COMMENT ON COLUMN meter.rollup.value_time IS 'the sum of value times microseconds since start';
COMMENT ON COLUMN meter.rollup.dimensions IS 'the events'' dimensions, without those that meter.rollup_meter leaves out';
COMMENT ON COLUMN meter.rollup.hours IS 'a day''s hours, packed; null: all events lie in the hour of first_timestamp, or this is a month';
COMMENT ON CONSTRAINT rollup_pkey ON meter.rollup IS 'a meter''s month or day, by user';

CREATE TABLE meter.rollup_total (
    first_timestamp timestamptz NOT NULL,
    last_timestamp timestamptz NOT NULL,
    start timestamptz NOT NULL,
    event_count bigint NOT NULL,
    last_id bigint NOT NULL,
    digest uuid NOT NULL,
    event_digest uuid NOT NULL,
    meter_id integer NOT NULL,
    grain "char" NOT NULL,
    dirty boolean NOT NULL,
    value_sum numeric NOT NULL,
    value_min numeric NOT NULL,
    value_max numeric NOT NULL,
    last_value numeric NOT NULL,
    value_time numeric NOT NULL,
    dimensions jsonb NOT NULL,
    hours bytea,
    CONSTRAINT rollup_total_pkey PRIMARY KEY (meter_id, grain, start, digest)
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.05);
COMMENT ON TABLE meter.rollup_total IS 'the same as meter.rollup over all users, always by month and by day';
COMMENT ON COLUMN meter.rollup_total.first_timestamp IS 'the earliest timestamp of the events';
COMMENT ON COLUMN meter.rollup_total.last_timestamp IS 'the latest timestamp';
COMMENT ON COLUMN meter.rollup_total.start IS 'the start of the month or day';
COMMENT ON COLUMN meter.rollup_total.event_count IS 'how many events there are';
COMMENT ON COLUMN meter.rollup_total.last_id IS 'the id of the last event by (timestamp, id)';
COMMENT ON COLUMN meter.rollup_total.digest IS 'the first 16 bytes of SHA-256 of the canonical dimensions';
COMMENT ON COLUMN meter.rollup_total.event_digest IS 'the sum of the events'' digests, see meter.event_digest';
COMMENT ON COLUMN meter.rollup_total.meter_id IS 'the meter, meter.meter.id';
COMMENT ON COLUMN meter.rollup_total.grain IS 'm: a month, d: a day, in UTC';
COMMENT ON COLUMN meter.rollup_total.dirty IS 'whether minimum, maximum and last are to be read from the events, of the cell or of an hour of it: a voided event may have been one of them';
COMMENT ON COLUMN meter.rollup_total.value_sum IS 'the sum of the values';
COMMENT ON COLUMN meter.rollup_total.value_min IS 'the least value';
COMMENT ON COLUMN meter.rollup_total.value_max IS 'the greatest value';
COMMENT ON COLUMN meter.rollup_total.last_value IS 'the value of the last event';
COMMENT ON COLUMN meter.rollup_total.value_time IS 'the sum of value times microseconds since start';
COMMENT ON COLUMN meter.rollup_total.dimensions IS 'the events'' dimensions, without those that meter.rollup_meter leaves out';
COMMENT ON COLUMN meter.rollup_total.hours IS 'a day''s hours, packed; null: all events lie in the hour of first_timestamp, or this is a month';
COMMENT ON CONSTRAINT rollup_total_pkey ON meter.rollup_total IS 'a meter''s month or day';

CREATE TABLE meter.rollup_days (
    month timestamptz NOT NULL,
    days_from timestamptz NOT NULL,
    meter_id integer NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    CONSTRAINT rollup_days_pkey PRIMARY KEY (meter_id, month, user_id)
);
COMMENT ON TABLE meter.rollup_days IS
'the months of users that have day cells: those with usage dense enough for them to pay; all other usage is read from the events where a question cuts its month';
COMMENT ON COLUMN meter.rollup_days.month IS 'the start of the month, UTC';
COMMENT ON COLUMN meter.rollup_days.days_from IS 'the first day of the month that has day cells';
COMMENT ON COLUMN meter.rollup_days.meter_id IS 'the meter, meter.meter.id';
COMMENT ON COLUMN meter.rollup_days.user_id IS 'the user';

CREATE TABLE meter.rollup_month (
    month timestamptz NOT NULL,
    first_timestamp timestamptz NOT NULL,
    last_timestamp timestamptz NOT NULL,
    event_count bigint NOT NULL,
    cells bigint NOT NULL,
    meter_id integer NOT NULL,
    dirty boolean NOT NULL,
    CONSTRAINT rollup_month_pkey PRIMARY KEY (meter_id, month)
);
COMMENT ON TABLE meter.rollup_month IS 'the months of a meter that have cells';
COMMENT ON COLUMN meter.rollup_month.month IS 'the start of the month, UTC';
COMMENT ON COLUMN meter.rollup_month.first_timestamp IS 'the earliest timestamp of the events';
COMMENT ON COLUMN meter.rollup_month.last_timestamp IS 'the latest timestamp';
COMMENT ON COLUMN meter.rollup_month.event_count IS 'how many events there are';
COMMENT ON COLUMN meter.rollup_month.cells IS 'how many cells meter.rollup_total has for the month: how many sets of dimensions there are';
COMMENT ON COLUMN meter.rollup_month.meter_id IS 'the meter, meter.meter.id';
COMMENT ON COLUMN meter.rollup_month.dirty IS 'whether a cell of the month, or of a day of it, is dirty';
COMMENT ON CONSTRAINT rollup_month_pkey ON meter.rollup_month IS 'a meter''s months';

CREATE TABLE meter.rollup_meter (
    meter_id integer NOT NULL,
    left_out text[] NOT NULL,
    kept text[] NOT NULL DEFAULT '{}',
    CONSTRAINT rollup_meter_pkey PRIMARY KEY (meter_id)
);
COMMENT ON TABLE meter.rollup_meter IS
'meters with dimensions that have too many values to keep a cell for each; questions about those are answered from the events';
COMMENT ON COLUMN meter.rollup_meter.meter_id IS 'the meter, meter.meter.id';
COMMENT ON COLUMN meter.rollup_meter.left_out IS 'the dimensions that cells are without; an empty name: all but those in kept';
COMMENT ON COLUMN meter.rollup_meter.kept IS 'the dimensions that meter.take_in took in, which a fold does not leave out; an empty name: all';

-- Sessions cache which generation of deltas is being written.
CREATE TRIGGER forget_cached AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON meter.rollup_generation
    FOR EACH STATEMENT EXECUTE FUNCTION meter.forget_cached();
CREATE TRIGGER forget_cached_row AFTER INSERT OR UPDATE OR DELETE ON meter.rollup_generation
    FOR EACH ROW EXECUTE FUNCTION meter.forget_cached();
ALTER TABLE meter.rollup_generation ENABLE ALWAYS TRIGGER forget_cached_row;
COMMENT ON TRIGGER forget_cached ON meter.rollup_generation IS 'sessions forget the generation they cached';
COMMENT ON TRIGGER forget_cached_row ON meter.rollup_generation IS 'the same for changes that a subscription applies';

SELECT pg_catalog.pg_extension_config_dump('meter.rollup_pending', '');
SELECT pg_catalog.pg_extension_config_dump('meter.rollup_generation', '');
SELECT pg_catalog.pg_extension_config_dump('meter.rollup_folded_seq', '');
SELECT pg_catalog.pg_extension_config_dump('meter.rollup_state', '');
SELECT pg_catalog.pg_extension_config_dump('meter.rollup', '');
SELECT pg_catalog.pg_extension_config_dump('meter.rollup_total', '');
SELECT pg_catalog.pg_extension_config_dump('meter.rollup_days', '');
SELECT pg_catalog.pg_extension_config_dump('meter.rollup_month', '');
SELECT pg_catalog.pg_extension_config_dump('meter.rollup_meter', '');
