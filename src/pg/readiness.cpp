// Why it is not enough that there are deltas: a restore loads one table after another, or several
// at a time, each in a transaction of its own. A fold between them would write cells that the dump
// has too, and the restore would fail on a primary key; a partition made between them could take
// the place of one that is to come, or refuse the default partition its rows. No one thing tells a
// database that is being restored from one that is new, but these together do:
//
//  * There is no meter. The tables are made, the data are yet to come. (In a new database: there is
//    nothing to do either.)
//  * meter.meter_id_seq is behind meter.meter. pg_dump sets sequences after it has loaded tables.
//  * Others write the rollups, which in a settled database only fold and rebuild do; or someone has
//    been writing any of meter's tables in one transaction for long, as the load of a table does.
//
// Where none of it has been so for five seconds the database counts as settled. It does for this
// process until the tables are others, or have been truncated.
#include "pg/readiness.hpp"

#include <iterator>

#include "pg/caller.hpp"
#include "pg/spi.hpp"

extern "C" {
#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "commands/extension.h"
#include "storage/lmgr.h"
#include "utils/catcache.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
}

namespace meter::pg {

namespace {

// How long nothing must have spoken against it, in seconds.
constexpr int kSettleSeconds = 5;

// The tables that a fold writes.
constexpr const char* kRollups[] = {"rollup_pending", "rollup_generation", "rollup_state",
                                    "rollup",         "rollup_total",      "rollup_days",
                                    "rollup_month",   "rollup_meter"};
constexpr int kRollupCount = std::size(kRollups);

// Which tables there are, and which files hold them: TRUNCATE gives a table another.
struct Incarnation {
    Oid rollups[kRollupCount];
    Oid files[kRollupCount + 1];  // and that of meter.meter

    bool operator==(const Incarnation&) const = default;
};

// What was found settled, or is being watched.
Incarnation watched{};
bool settled = false;
TimestampTz quiet_since = 0;  // 0: it is not quiet

// The file of a table, InvalidOid where there is no such table.
Oid file_of(Oid relation) {
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
    if (!HeapTupleIsValid(tuple))
        return InvalidOid;
    const Oid file = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple))->relfilenode;
    ReleaseSysCache(tuple);
    return file;
}

// False where one of the tables is missing.
bool find_incarnation(Incarnation& found) {
    const Oid schema = get_namespace_oid("meter", true);
    if (!OidIsValid(schema) || !OidIsValid(get_extension_oid("meter", true)))
        return false;
    for (int i = 0; i < kRollupCount; ++i) {
        found.rollups[i] = get_relname_relid(kRollups[i], schema);
        found.files[i] = file_of(found.rollups[i]);
        if (!OidIsValid(found.files[i]))
            return false;
    }
    found.files[kRollupCount] = file_of(get_relname_relid("meter", schema));
    return OidIsValid(found.files[kRollupCount]);
}

// False where one of them cannot be locked at once.
bool lock_without_waiting(const Incarnation& tables, LOCKMODE mode) {
    for (const Oid relation : tables.rollups)
        if (!ConditionalLockRelationOid(relation, mode))
            return false;
    return true;
}

// Whether a subscription, enabled or not, writes the table.
bool is_subscribed(Oid relation) {
    CatCList* list = SearchSysCacheList1(SUBSCRIPTIONRELMAP, ObjectIdGetDatum(relation));
    const bool subscribed = list->n_members > 0;
    ReleaseSysCacheList(list);
    return subscribed;
}

// What the meters say.
Readiness look_at_meters() {
    static Statement select = {
        "SELECT max(id), (SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END "
        "FROM meter.meter_id_seq) FROM meter.meter",
        {}};
    const Call call = begin_owner_call("fold");
    run(select, nullptr, nullptr, Run::kLatest);
    bool no_meters;
    bool null;
    const int32 greatest = DatumGetInt32(result(0, 1, &no_meters));
    const int64 sequence = DatumGetInt64(result(0, 2, &null));
    end_call(call);
    if (no_meters)
        return Readiness::kNoMeters;
    return greatest > sequence ? Readiness::kRestoring : Readiness::kReady;
}

// Whether another session writes the rollups (meter.rollup_pending aside, which recorders write),
// or has been writing other tables for longer than the time to settle. Not a recorder, however long
// its transaction: it writes events and deltas, where a restore loads one table at a time. Nor a
// login that may not insert into the table itself, which no restore could do with: whoever can
// create a meter could keep the worker from settling by a transaction left open.
bool is_written() {
    static Statement select = {
        "SELECT FROM (SELECT bool_or(c.relname LIKE 'rollup%' AND c.relname <> 'rollup_pending') "
        "AS rollups, bool_or(c.relname = 'rollup_pending') AS deltas, "
        "bool_or(c.relname LIKE 'meter_event%') AS events, "
        "min(a.xact_start) FILTER (WHERE has_table_privilege(a.usesysid, c.oid, 'INSERT')) "
        "< clock_timestamp() - make_interval(secs => $3) AS long "
        "FROM pg_locks l JOIN pg_class c ON c.oid = l.relation "
        "LEFT JOIN pg_stat_activity a ON a.pid = l.pid "
        "WHERE l.locktype = 'relation' AND l.database = $1 AND c.relnamespace = $2 "
        "AND c.relkind IN ('r', 'p') AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', "
        "'ExclusiveLock', 'AccessExclusiveLock') AND l.pid IS DISTINCT FROM pg_backend_pid() "
        "GROUP BY l.virtualtransaction) AS t "
        "WHERE rollups OR (long AND NOT (deltas AND events)) LIMIT 1",
        {OIDOID, OIDOID, FLOAT8OID}};
    const int search_path = push_search_path();
    SPI_connect();
    const Datum values[] = {ObjectIdGetDatum(MyDatabaseId),
                            ObjectIdGetDatum(get_namespace_oid("meter", false)),
                            Float8GetDatum(kSettleSeconds)};
    const bool written = run(select, values, nullptr, Run::kLatest, 1) > 0;
    SPI_finish();
    pop_search_path(search_path);
    return written;
}

// Watches until nothing has spoken against folding for long enough.
Readiness watch() {
    Readiness found = look_at_meters();
    if (found == Readiness::kReady && is_written())
        found = Readiness::kWritten;
    if (found != Readiness::kReady) {
        quiet_since = 0;
        return found;
    }
    const TimestampTz now = GetCurrentTimestamp();
    if (quiet_since == 0)
        quiet_since = now;
    if (!TimestampDifferenceExceeds(quiet_since, now, kSettleSeconds * 1000))
        return Readiness::kSettling;
    settled = true;
    return Readiness::kReady;
}

}  // namespace

bool is_subscriber() {
    Incarnation found{};
    if (!find_incarnation(found))
        return false;
    for (const Oid relation : found.rollups)
        if (is_subscribed(relation))
            return true;
    return false;
}

Readiness readiness() {
    Incarnation found{};
    if (!find_incarnation(found))
        return Readiness::kNotInstalled;
    if (is_subscriber()) {
        settled = false;
        return Readiness::kSubscriber;
    }
    if (XactReadOnly)
        return Readiness::kReadOnly;
    if (!(found == watched)) {
        watched = found;
        settled = false;
        quiet_since = 0;
    }
    // Held to the end of the transaction, so that nobody drops the extension under us; DROP takes
    // all of its locks first. It may just have done so.
    Incarnation still{};
    if (!lock_without_waiting(found, AccessShareLock) || !find_incarnation(still) ||
        !(still == found))
        return Readiness::kLocked;
    return settled ? Readiness::kReady : watch();
}

bool lock_rollups() {
    return lock_without_waiting(watched, RowExclusiveLock);
}

const char* describe(Readiness readiness) {
    switch (readiness) {
        case Readiness::kReady:
            return "idle";
        case Readiness::kNotInstalled:
            return "idle: the extension is not installed in this database";
        case Readiness::kNoMeters:
            return "idle: there are no meters";
        case Readiness::kReadOnly:
            return "idle: default_transaction_read_only is on";
        case Readiness::kSubscriber:
            return "idle: a subscription writes the rollups";
        case Readiness::kRestoring:
            return "idle: meter.meter_id_seq is behind meter.meter, as in a restore";
        case Readiness::kWritten:
            return "idle: other sessions write the tables, as in a restore";
        case Readiness::kSettling:
            return "idle: waiting until the tables have settled";
        case Readiness::kLocked:
            return "idle: another session has locked a table";
    }
    return "idle";
}

}  // namespace meter::pg
