// The monthly partitions of meter.meter_event: meter.create_partitions, which the worker does too,
// and meter.empty_default_partition.
#include "pg/partitions.hpp"

#include <algorithm>
#include <chrono>

#include "core/error.hpp"
#include "core/timestamp.hpp"
#include "pg/caller.hpp"
#include "pg/catalog.hpp"
#include "pg/fold.hpp"
#include "pg/guard.hpp"
#include "pg/memory.hpp"
#include "pg/retention.hpp"
#include "pg/set_result.hpp"
#include "pg/spi.hpp"
#include "pg/values.hpp"

extern "C" {
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
}

namespace meter::pg {

namespace {

using std::chrono::sys_days;
using std::chrono::year_month;
using std::chrono::year_month_day;

// Months that one call looks after at the most: a century.
constexpr int kMaxMonths = 1200;

// How long a call of a user waits for a lock, and recorders behind it.
constexpr const char* kManualLockTimeout = "3s";

year_month month_of(int64 unix_micros) {
    const auto day = std::chrono::floor<std::chrono::days>(
        std::chrono::sys_time<std::chrono::microseconds>(std::chrono::microseconds(unix_micros)));
    const year_month_day date{day};
    return date.year() / date.month();
}

// The first instant of a month in UTC.
TimestampTz time_of(year_month month) {
    return to_timestamptz(std::chrono::duration_cast<std::chrono::microseconds>(
                              sys_days{month / 1}.time_since_epoch())
                              .count());
}

// The name of a month's partition.
const char* name_of(year_month month) {
    return psprintf("meter_event_%04d_%02u", static_cast<int>(month.year()),
                    static_cast<unsigned>(month.month()));
}

Oid default_partition() {
    return get_relname_relid("meter_event_default", relations().schema);
}

// The first instant of a month in UTC, as text that reads the same under every setting.
const char* start_of(year_month month) {
    return psprintf("%04d-%02u-01 00:00:00+00", static_cast<int>(month.year()),
                    static_cast<unsigned>(month.month()));
}

// Takes back what ALTER DEFAULT PRIVILEGES granted on a new table: whoever may read a partition
// itself reads the events of every org.
void revoke_default_grants(const char* name) {
    static Statement select = {
        "SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END "
        "FROM pg_class c, aclexplode(c.relacl) a "
        "WHERE c.relnamespace = $1 AND c.relname = $2 AND a.grantee <> c.relowner",
        {OIDOID, NAMEOID}};
    NameData table;
    namestrcpy(&table, name);
    const Datum values[] = {ObjectIdGetDatum(relations().schema), NameGetDatum(&table)};
    const uint64 count = run(select, values, nullptr, Run::kWrite);
    SPITupleTable* const found = SPI_tuptable;
    for (uint64 row = 0; row < count; ++row)
        execute(psprintf("REVOKE ALL ON meter.%s FROM %s", name,
                         SPI_getvalue(found->vals[row], found->tupdesc, 1)));
}

// What vacuums of events are told, as by the install script for the default partition.
constexpr const char* kVacuumOptions =
    "autovacuum_vacuum_insert_threshold = 100000, autovacuum_vacuum_insert_scale_factor = 0, "
    "autovacuum_freeze_min_age = 0";

// Makes the table for a month beside the parent. Made by LIKE and attached, it blocks writers for a
// moment only, where PARTITION OF would wait for every reader and let every writer wait behind it.
void make_table(year_month month, const char* name) {
    execute(psprintf(
        "CREATE TABLE meter.%s (LIKE meter.meter_event INCLUDING DEFAULTS "
        "INCLUDING CONSTRAINTS INCLUDING STORAGE INCLUDING COMMENTS, "
        "CONSTRAINT %s_bounds CHECK (\"timestamp\" >= '%s' AND \"timestamp\" < '%s')) "
        "WITH (%s)",
        name, name, start_of(month), start_of(month + std::chrono::months{1}), kVacuumOptions));
    revoke_default_grants(name);
    // Events are deleted, at the latest by drop_events(): without a key the table could not be in a
    // publication that publishes deletes.
    execute(psprintf("ALTER TABLE meter.%s REPLICA IDENTITY FULL", name));
}

void make_indexes(const char* name) {
    execute(psprintf("CREATE INDEX %s_user_idx ON meter.%s (user_id, meter_id, \"timestamp\")",
                     name, name));
    execute(
        psprintf("CREATE INDEX %s_meter_idx ON meter.%s (meter_id, \"timestamp\")", name, name));
}

// Makes a month's table a partition. The CHECK spares it the scan of the table, though not that of
// the default partition.
Oid attach(year_month month, const char* name) {
    execute(
        psprintf("ALTER TABLE meter.meter_event ATTACH PARTITION meter.%s "
                 "FOR VALUES FROM ('%s') TO ('%s')",
                 name, start_of(month), start_of(month + std::chrono::months{1})));
    execute(psprintf("ALTER TABLE meter.%s DROP CONSTRAINT %s_bounds", name, name));
    execute(psprintf("COMMENT ON TABLE meter.%s IS 'the events of %04d-%02u (UTC)'", name,
                     static_cast<int>(month.year()), static_cast<unsigned>(month.month())));
    return get_relname_relid(name, relations().schema);
}

// A month by its number, since 1970.
year_month nth_month(int number) {
    return std::chrono::year{1970} / std::chrono::January + std::chrono::months{number};
}

// Months by number, with their events in the default partition.
struct MonthCounts {
    int count;
    int* months;
    int64* events;
};

// The months from `first` to `last`, excluded, that have events in the default partition,
// ascending.
MonthCounts months_in_default(year_month first, year_month last) {
    static Statement select = {
        "SELECT (12 * (extract(year FROM m.start AT TIME ZONE 'UTC') - 1970) "
        "+ extract(month FROM m.start AT TIME ZONE 'UTC') - 1)::int, m.events "
        "FROM (SELECT date_trunc('month', \"timestamp\", 'UTC') AS start, count(*) AS events "
        "FROM meter.meter_event_default WHERE \"timestamp\" >= $1 AND \"timestamp\" < $2 "
        "GROUP BY 1) AS m ORDER BY 1",
        {TIMESTAMPTZOID, TIMESTAMPTZOID}};
    MonthCounts found{0, nullptr, nullptr};
    if (!OidIsValid(default_partition()))
        return found;
    const Datum values[] = {TimestampTzGetDatum(time_of(first)),
                            TimestampTzGetDatum(time_of(last))};
    const auto rows = static_cast<Size>(run(select, values, nullptr, Run::kLatest));
    found.months = static_cast<int*>(palloc(sizeof(int) * Max(rows, 1)));
    found.events = static_cast<int64*>(palloc(sizeof(int64) * Max(rows, 1)));
    for (Size row = 0; row < rows; ++row) {
        bool null;
        found.months[row] = DatumGetInt32(result(row, 1, &null));
        found.events[row] = DatumGetInt64(result(row, 2, &null));
    }
    found.count = static_cast<int>(rows);
    SPI_freetuptable(SPI_tuptable);
    return found;
}

bool contains(const MonthCounts& months, int number) {
    return std::find(months.months, months.months + months.count, number) !=
           months.months + months.count;
}

int number_of(year_month month) {
    return static_cast<int>((month - nth_month(0)).count());
}

}  // namespace

void hold_partitions() {
    const Oid partition = default_partition();
    if (OidIsValid(partition))
        LockRelationOid(partition, AccessShareLock);
}

void hold_default_partition(TimestampTz time) {
    // The last month that was found to have a partition, true as long as the generation lasts:
    // attaching and detaching change the parent.
    static TimestampTz known_from = 0;
    static TimestampTz known_to = 0;
    static uint64 known_generation = 0;
    if (time >= known_from && time < known_to && known_generation == catalog_generation())
        return;
    const uint64 generation = catalog_generation();
    const year_month month = month_of(to_unix_micros(time));
    if (OidIsValid(get_relname_relid(name_of(month), relations().schema))) {
        known_from = time_of(month);
        known_to = time_of(month + std::chrono::months{1});
        known_generation = generation;
    } else if (const Oid partition = default_partition(); OidIsValid(partition)) {
        LockRelationOid(partition, RowExclusiveLock);
    }
}

List* make_partitions(TimestampTz since, int ahead, const char* lock_timeout, int default_level) {
    const int64 start = to_unix_micros(since);
    if (start < kMinEventTime || start >= kMaxEventTime)
        throw Error(ErrorKind::kInvalidParameter, "since is out of range",
                    "Events lie between the years 1970 and 9999.");
    const year_month now = month_of(to_unix_micros(GetCurrentTransactionStartTimestamp()));
    const int64 months = static_cast<int64>((now - month_of(start)).count()) + 1 + ahead;
    if (ahead < 0)
        throw Error(ErrorKind::kInvalidParameter,
                    "months_ahead must not be negative, and is " + std::to_string(ahead));
    if (months > kMaxMonths)
        throw Error(ErrorKind::kInvalidParameter,
                    "cannot make partitions for " + std::to_string(months) + " months, " +
                        std::to_string(ahead) + " of them ahead",
                    "One call makes at most " + std::to_string(kMaxMonths) + ".");
    const year_month end = now + std::chrono::months{ahead + 1};
    // Before the horizon there are no events, nor will there be any.
    const year_month first = month_of(Max(start, horizon()));

    // Whoever else makes partitions waits here, and then finds them made.
    const Oid parent = relations().meter_event;
    if (!lock_within(parent, ShareUpdateExclusiveLock, lock_timeout))
        raise_lock_timeout(parent, lock_timeout);
    auto* missing = static_cast<int*>(palloc(sizeof(int) * kMaxMonths));
    int count = 0;
    for (year_month month = first; month < end; month += std::chrono::months{1})
        if (!OidIsValid(get_relname_relid(name_of(month), relations().schema)))
            missing[count++] = number_of(month);
    if (count == 0)
        return NIL;

    // All that takes time comes before recorders and readers are kept out.
    const MonthCounts before = months_in_default(first, end);
    for (int i = 0; i < count; ++i) {
        CHECK_FOR_INTERRUPTS();
        if (contains(before, missing[i]))
            continue;
        make_table(nth_month(missing[i]), name_of(nth_month(missing[i])));
        make_indexes(name_of(nth_month(missing[i])));
    }
    MonthCounts after = before;
    if (const Oid partition = default_partition(); OidIsValid(partition) && before.count < count) {
        // Attaching takes this lock anyway. Recorders may have committed events meanwhile.
        if (!lock_within(partition, AccessExclusiveLock, lock_timeout))
            raise_lock_timeout(partition, lock_timeout);
        after = months_in_default(first, end);
    }
    List* made = NIL;
    for (int i = 0; i < count; ++i) {
        CHECK_FOR_INTERRUPTS();
        const year_month month = nth_month(missing[i]);
        if (!contains(after, missing[i])) {
            made = lappend_oid(made, attach(month, name_of(month)));
            continue;
        }
        if (!contains(before, missing[i]))
            execute(psprintf("DROP TABLE meter.%s", name_of(month)));
        ereport(default_level,
                (errmsg("no partition is made for %04d-%02u: its events are in the default "
                        "partition",
                        static_cast<int>(month.year()), static_cast<unsigned>(month.month())),
                 errhint("They are read and counted as all others. CALL "
                         "meter.empty_default_partition() moves them.")));
    }
    return made;
}

namespace {

// The columns of events, in the order of the parent, to be named where rows are copied: a partition
// that was attached may have another order.
const char* event_columns() {
    static Statement select = {
        "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute "
        "WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped AND attgenerated = ''",
        {OIDOID}};
    const Datum values[] = {ObjectIdGetDatum(relations().meter_event)};
    run(select, values, nullptr, Run::kLatest);
    return SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
}

// Moves the events of a month that are committed now from the default partition into the month's
// table, and returns how many there were. One statement, so what is deleted is what is inserted.
uint64 move_events(year_month month, const char* name, const char* columns) {
    const char* sql = psprintf(
        "WITH moved AS (DELETE FROM meter.meter_event_default WHERE \"timestamp\" >= '%s' "
        "AND \"timestamp\" < '%s' RETURNING %s) INSERT INTO meter.%s (%s) SELECT * FROM moved",
        start_of(month), start_of(month + std::chrono::months{1}), columns, name, columns);
    execute(sql);
    return SPI_processed;
}

// Gives a month a partition of its own, and moves its events there from the default one, in this
// transaction: whatever its snapshot, a reader sees each event in one of the two. Recorders and
// readers of the default partition are kept out only for the end of it, when nearly all is moved.
// Returns how many events were moved; -1 where the month has a table meanwhile.
int64 move_month(year_month month) {
    // Of passes beside recorders, each shorter than the one before; and of waits for the lock.
    constexpr int kMostPasses = 8;
    constexpr uint64 kFewEvents = 2'000;
    constexpr int kMostWaits = 300;
    constexpr const char* kTimeout = "100ms";
    constexpr long kPauseMs = 100;
    const char* name = name_of(month);
    // Against others who make partitions; recorders and readers pass.
    LockRelationOid(relations().meter_event, ShareUpdateExclusiveLock);
    if (OidIsValid(get_relname_relid(name, relations().schema)))
        return -1;

    // Nothing changes but where the events are: triggers of users have no part in it.
    const int guc_level = NewGUCNestLevel();
    (void)set_config_option("session_replication_role", "replica", PGC_SUSET, PGC_S_SESSION,
                            GUC_ACTION_SAVE, true, 0, false);
    const char* columns = event_columns();
    make_table(month, name);
    uint64 moved = move_events(month, name, columns);
    make_indexes(name);
    uint64 last = moved;
    for (int pass = 0; pass < kMostPasses && last > kFewEvents; ++pass)
        moved += last = move_events(month, name, columns);
    const Oid partition = default_partition();
    for (int wait = 1; !lock_within(partition, AccessExclusiveLock, kTimeout); ++wait) {
        if (wait == kMostWaits)
            raise_lock_timeout(partition, psprintf("%d attempts of %s", wait, kTimeout));
        sleep_for(kPauseMs);
    }
    moved += move_events(month, name, columns);
    attach(month, name);
    AtEOXact_GUC(true, guc_level);
    return static_cast<int64>(moved);
}

}  // namespace

}  // namespace meter::pg

using namespace meter::pg;

METER_FUNCTION(meter_create_partitions) {
    const SetResult set = begin_set(fcinfo);
    const int ahead = PG_ARGISNULL(0) ? kMonthsAhead : PG_GETARG_INT32(0);
    const TimestampTz since =
        PG_ARGISNULL(1) ? GetCurrentTransactionStartTimestamp() : PG_GETARG_TIMESTAMPTZ(1);
    const Call call = begin_owner_call("create partitions");
    const List* made = make_partitions(since, ahead, kManualLockTimeout, WARNING);
    const ListCell* cell;
    foreach (cell, made) {
        const Datum values[] = {ObjectIdGetDatum(lfirst_oid(cell))};
        const bool nulls[] = {false};
        put_row(set, values, nulls);
    }
    end_call(call);
    return static_cast<Datum>(0);
}

METER_FUNCTION(meter_empty_default_partition) {
    const int64 min_events = PG_ARGISNULL(0) ? 1 : PG_GETARG_INT64(0);
    PreventCommandIfReadOnly("meter.empty_default_partition()");
    if (min_events < 1)
        throw meter::Error(meter::ErrorKind::kInvalidParameter,
                           "min_events must be at least 1, and is " + std::to_string(min_events));
    begin_procedure(fcinfo, "meter.empty_default_partition()", "empty the default partition");
    MonthCounts months{0, nullptr, nullptr};
    for (int i = -1; i < months.count; ++i) {
        const MemoryContext context = CurrentMemoryContext;
        PushActiveSnapshot(GetTransactionSnapshot());
        const Call call = begin_owner_call("empty the default partition");
        require_read_committed("move events");
        take_retention_lock(false);
        if (i < 0) {
            const year_month first = month_of(Max(horizon(), INT64CONST(0)));
            const MemoryContext own = MemoryContextSwitchTo(context);
            months = months_in_default(first, month_of(meter::kMaxEventTime));
            MemoryContextSwitchTo(own);
        } else if (months.events[i] >= min_events) {
            const year_month month = nth_month(months.months[i]);
            const int64 moved = move_month(month);
            if (moved >= 0)
                ereport(NOTICE, (errmsg("moved %lld %s to meter.%s", static_cast<long long>(moved),
                                        moved == 1 ? "event" : "events", name_of(month))));
        }
        end_call(call);
        PopActiveSnapshot();
        SPI_commit();
    }
    SPI_finish();
    PG_RETURN_VOID();
}
