// meter.create_partitions, and the worker: the monthly partitions of meter.meter_event.
#include "pg/partitions.hpp"

#include <chrono>

#include "core/error.hpp"
#include "core/timestamp.hpp"
#include "pg/caller.hpp"
#include "pg/catalog.hpp"
#include "pg/guard.hpp"
#include "pg/memory.hpp"
#include "pg/set_result.hpp"
#include "pg/spi.hpp"
#include "pg/values.hpp"

extern "C" {
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
}

namespace meter::pg {

namespace {

using std::chrono::sys_days;
using std::chrono::year_month;
using std::chrono::year_month_day;

// Months that one call looks after at the most: a century.
constexpr int kMaxMonths = 1200;

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

// Makes the partition for `month` beside the parent, then attaches it. Made by LIKE and attached,
// it blocks writers for a moment only, where PARTITION OF would wait for every reader and let every
// writer wait behind it. The CHECK spares the attaching its scan.
Oid create_partition(year_month month, const char* name) {
    const char* from = start_of(month);
    const char* to = start_of(month + std::chrono::months{1});
    execute(
        psprintf("CREATE TABLE meter.%s (LIKE meter.meter_event INCLUDING DEFAULTS "
                 "INCLUDING CONSTRAINTS INCLUDING STORAGE INCLUDING COMMENTS, "
                 "CONSTRAINT %s_bounds CHECK (\"timestamp\" >= '%s' AND \"timestamp\" < '%s'))",
                 name, name, from, to));
    revoke_default_grants(name);
    execute(psprintf("CREATE INDEX %s_user_idx ON meter.%s (user_id, meter_id, \"timestamp\")",
                     name, name));
    execute(
        psprintf("CREATE INDEX %s_meter_idx ON meter.%s (meter_id, \"timestamp\")", name, name));
    execute(
        psprintf("ALTER TABLE meter.meter_event ATTACH PARTITION meter.%s "
                 "FOR VALUES FROM ('%s') TO ('%s')",
                 name, from, to));
    execute(psprintf("ALTER TABLE meter.%s DROP CONSTRAINT %s_bounds", name, name));
    execute(psprintf("COMMENT ON TABLE meter.%s IS 'the events of %04d-%02u (UTC)'", name,
                     static_cast<int>(month.year()), static_cast<unsigned>(month.month())));
    return get_relname_relid(name, relations().schema);
}

// Waits for those who record into the default partition, and keeps others out. Attaching a
// partition takes this lock anyway.
void lock_default_partition() {
    if (const Oid partition = default_partition(); OidIsValid(partition))
        LockRelationOid(partition, AccessExclusiveLock);
}

// Whether events of the month lie in the default partition, which keeps a partition from being
// made.
bool default_has_events(year_month month) {
    static Statement select = {
        "SELECT FROM meter.meter_event_default WHERE \"timestamp\" >= $1 AND \"timestamp\" < $2 "
        "LIMIT 1",
        {TIMESTAMPTZOID, TIMESTAMPTZOID}};
    const Datum values[] = {TimestampTzGetDatum(time_of(month)),
                            TimestampTzGetDatum(time_of(month + std::chrono::months{1}))};
    return run(select, values, nullptr, Run::kLatest, 1) > 0;
}

}  // namespace

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
    const year_month first = month_of(start);
    const int64 now = to_unix_micros(GetCurrentTransactionStartTimestamp());
    const int64 months = static_cast<int64>((month_of(now) - first).count()) + 1 + ahead;
    if (ahead < 0)
        throw Error(ErrorKind::kInvalidParameter,
                    "months_ahead must not be negative, and is " + std::to_string(ahead));
    if (months > kMaxMonths)
        throw Error(ErrorKind::kInvalidParameter,
                    "cannot make partitions for " + std::to_string(months) + " months, " +
                        std::to_string(ahead) + " of them ahead",
                    "One call makes at most " + std::to_string(kMaxMonths) + ".");

    // Whoever else makes partitions waits here, and then finds them made. The lock timeout bounds
    // how long writers can wait behind us while we wait for a long reader.
    const int guc_level = NewGUCNestLevel();
    (void)set_config_option("lock_timeout", lock_timeout, PGC_USERSET, PGC_S_SESSION,
                            GUC_ACTION_SAVE, true, 0, false);
    LockRelationOid(relations().meter_event, ShareUpdateExclusiveLock);
    List* made = NIL;
    for (int i = 0; i < static_cast<int>(months); ++i) {
        CHECK_FOR_INTERRUPTS();
        const year_month month = first + std::chrono::months{i};
        const char* name = name_of(month);
        if (OidIsValid(get_relname_relid(name, relations().schema)))
            continue;
        // Once more with recorders kept out, who may have committed such an event meanwhile.
        if (default_has_events(month) || (lock_default_partition(), default_has_events(month))) {
            ereport(default_level,
                    (errmsg("no partition is made for %04d-%02u: its events are in the default "
                            "partition",
                            static_cast<int>(month.year()), static_cast<unsigned>(month.month())),
                     errhint("They are read and counted as all others. To move them, see "
                             "\"Partitions\" in the reference.")));
            continue;
        }
        made = lappend_oid(made, create_partition(month, name));
    }
    AtEOXact_GUC(true, guc_level);
    return made;
}

}  // namespace meter::pg

using namespace meter::pg;

METER_FUNCTION(meter_create_partitions) {
    const SetResult set = begin_set(fcinfo);
    const int ahead = PG_ARGISNULL(0) ? kMonthsAhead : PG_GETARG_INT32(0);
    const TimestampTz since =
        PG_ARGISNULL(1) ? GetCurrentTransactionStartTimestamp() : PG_GETARG_TIMESTAMPTZ(1);
    const Call call = begin_owner_call("create partitions");
    const List* made = make_partitions(since, ahead, "3s", WARNING);
    const ListCell* cell;
    foreach (cell, made) {
        const Datum values[] = {ObjectIdGetDatum(lfirst_oid(cell))};
        const bool nulls[] = {false};
        put_row(set, values, nulls);
    }
    end_call(call);
    return static_cast<Datum>(0);
}
