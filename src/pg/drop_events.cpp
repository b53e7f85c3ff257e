// meter.drop_events(): commits the horizon, and then deletes what lies before it in many
// transactions: keys, whole partitions, and rows of the partitions that the horizon cuts. It can be
// ended anywhere; run again, it does what is left. The rollups stay.
#include "pg/compat.hpp"

#include "core/error.hpp"
#include "core/timestamp.hpp"
#include "pg/caller.hpp"
#include "pg/catalog.hpp"
#include "pg/fold.hpp"
#include "pg/guard.hpp"
#include "pg/period_close.hpp"
#include "pg/readiness.hpp"
#include "pg/rebuild.hpp"
#include "pg/retention.hpp"
#include "pg/spi.hpp"
#include "pg/values.hpp"

extern "C" {
#include "access/table.h"
#include "access/xact.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "storage/bufmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
}

namespace meter::pg {

namespace {

// One transaction of the procedure: acting as the owner, with a snapshot.
template <typename Body>
void transaction(Body&& body) {
    PushActiveSnapshot(GetTransactionSnapshot());
    const Call call = begin_owner_call("drop events");
    require_read_committed("drop events");
    body();
    end_call(call);
    PopActiveSnapshot();
    SPI_commit();
}

// Moves the horizon to `before`, unless it lies later already, and returns where it is now.
int64 move_horizon(TimestampTz before) {
    static Statement upsert = {
        "INSERT INTO meter.retention AS r (horizon) VALUES ($1) ON CONFLICT (one) DO UPDATE "
        "SET horizon = excluded.horizon WHERE r.horizon < excluded.horizon",
        {TIMESTAMPTZOID}};
    const Datum values[] = {TimestampTzGetDatum(before)};
    run(upsert, values, nullptr, Run::kWrite);
    CommandCounterIncrement();
    return horizon();
}

// Whether cells before `before` are dirty, or will be once they are folded. Where a subscription
// writes the rollups, nobody else does anything about it.
bool has_dirty_cells(TimestampTz before) {
    static Statement select = {
        "SELECT FROM meter.rollup_month WHERE dirty AND month < $1 UNION ALL "
        "SELECT FROM meter.rollup_pending WHERE voided AND first_timestamp < $1 LIMIT 1",
        {TIMESTAMPTZOID}};
    const Datum values[] = {TimestampTzGetDatum(before)};
    return !is_subscriber() && run(select, values, nullptr, Run::kWrite) > 0;
}

// Folds, and makes the cells of the next dirty month before `before` anew; with the fold lock.
// False: there is none. `passed` counts the months that cannot be made any more, and is 0 at first.
bool clean_next_month(TimestampTz before, int64* passed) {
    static Statement dirty = {
        "SELECT array_agg(meter_id), month FROM meter.rollup_month WHERE dirty AND month < $1 "
        "GROUP BY month ORDER BY month LIMIT 1 OFFSET $2",
        {TIMESTAMPTZOID, INT8OID}};
    CHECK_FOR_INTERRUPTS();
    fold_pending(PG_INT64_MAX, Fold::kIntoCells);
    const Datum values[] = {TimestampTzGetDatum(before), Int64GetDatum(*passed)};
    if (run(dirty, values, nullptr, Run::kWrite) == 0)
        return false;
    bool null;
    const Datum meters = result(0, 1, &null);
    const int64 month = to_unix_micros(DatumGetTimestampTz(result(0, 2, &null)));
    // Of a month that was dropped from before nothing can be made any more.
    if (month < hold_horizon())
        ++*passed;
    else
        (void)rebuild_months(meters, month, month + 1, "rebuild");
    return true;
}

// Makes cells anew of which minimum, maximum and last are to be read from the events, since one was
// voided: as long as these are there.
void clean_cells(TimestampTz before) {
    int64 passed = 0;
    bool any = false;
    // Most of the time nothing was voided.
    transaction([&] { any = has_dirty_cells(before); });
    while (any)
        transaction([&] {
            take_fold_lock(true);
            any = clean_next_month(before, &passed);
        });
}

// Looks, while all events are there and nobody records before `until` any more, whether statements
// have all usage of closed periods that could not be told without them, and moves the horizon back
// where they have not, or that cannot be found out: then `raised` is why, in `context`, and false
// is returned. Done once for each horizon: once events are deleted it would be too late.
bool settle(int64 until, MemoryContext context, Raised* raised) {
    static Statement look = {
        "UPDATE meter.retention SET horizon = COALESCE(dropped, timestamptz '1970-01-01 00:00+00') "
        "WHERE dropped IS DISTINCT FROM horizon",
        {}};
    static Statement go_on = {"UPDATE meter.retention SET horizon = $1, dropped = $1",
                              {TIMESTAMPTZOID}};
    static Statement go_back = {"DELETE FROM meter.retention WHERE dropped IS NULL", {}};
    // Usage of before `until` is told as long as this transaction says that nothing is dropped.
    if (run(look, nullptr, nullptr, Run::kWrite) == 0)
        return true;
    CommandCounterIncrement();
    const TimestampTz before = to_timestamptz(until);
    const Datum values[] = {TimestampTzGetDatum(before)};
    // What is raised outlives this transaction.
    const MemoryContext caller_context = MemoryContextSwitchTo(context);
    const bool settled = try_in_subtransaction(
        [&] {
            MemoryContextSwitchTo(caller_context);
            // Voided since clean_cells().
            if (has_dirty_cells(before)) {
                take_fold_lock(true);
                int64 passed = 0;
                while (clean_next_month(before, &passed)) {
                }
            }
            settle_closed_periods(before);
        },
        raised);
    MemoryContextSwitchTo(caller_context);
    if (settled)
        run(go_on, values, nullptr, Run::kWrite);
    else
        run(go_back, nullptr, nullptr, Run::kWrite);
    return settled;
}

// What the horizon does to the partitions.
struct Partitions {
    int whole_count;
    Oid* whole;  // all of their events lie before it
    int cut_count;
    Oid* cut;  // some may: the default partition is one of them
};

// A partition's bound as a time.
TimestampTz bound_time(PartitionBoundInfo bounds, int index) {
    switch (bounds->kind[index][0]) {
        case PARTITION_RANGE_DATUM_MINVALUE:
            return DT_NOBEGIN;
        case PARTITION_RANGE_DATUM_MAXVALUE:
            return DT_NOEND;
        default:
            return DatumGetTimestampTz(bounds->datums[index][0]);
    }
}

Partitions find_partitions(TimestampTz horizon) {
    const Relation parent = table_open(relations().meter_event, AccessShareLock);
    const PartitionDescData* partitions = RelationGetPartitionDesc(parent, true);
    const auto most = static_cast<Size>(partitions->nparts) + 1;
    Partitions found{0, static_cast<Oid*>(palloc(sizeof(Oid) * most)), 0,
                     static_cast<Oid*>(palloc(sizeof(Oid) * most))};
    const PartitionBoundInfo bounds = partitions->boundinfo;
    for (int i = 0; bounds != nullptr && i < bounds->ndatums; ++i) {
        const int index = bounds->indexes[i];
        if (index < 0)
            continue;
        if (bound_time(bounds, i) <= horizon)
            found.whole[found.whole_count++] = partitions->oids[index];
        else if (i == 0 || bound_time(bounds, i - 1) < horizon)
            found.cut[found.cut_count++] = partitions->oids[index];
    }
    if (bounds != nullptr && bounds->default_index >= 0)
        found.cut[found.cut_count++] = partitions->oids[bounds->default_index];
    table_close(parent, AccessShareLock);
    return found;
}

const char* qualified_name(Oid relation) {
    const char* name = get_rel_name(relation);
    return name == nullptr
               ? nullptr
               : quote_qualified_identifier(get_namespace_name(get_rel_namespace(relation)), name);
}

// Deletes the rows of a table whose `column` lies before the horizon, blocks by blocks, and returns
// how many there were. Nobody adds such rows.
uint64 delete_rows(Oid table, const char* column, TimestampTz horizon) {
    constexpr BlockNumber kBlocks = 1024;
    uint64 deleted = 0;
    BlockNumber at = 0;
    BlockNumber end = 1;
    while (at < end) {
        CHECK_FOR_INTERRUPTS();
        transaction([&] {
            const char* name = qualified_name(table);
            if (name == nullptr) {
                end = at;
                return;
            }
            Oid types[] = {TIMESTAMPTZOID};
            Datum values[] = {TimestampTzGetDatum(horizon)};
            const char* sql = psprintf("DELETE FROM %s WHERE \"%s\" < $1", name, column);
            if (get_rel_relkind(table) == RELKIND_RELATION) {
                const Relation relation = table_open(table, RowExclusiveLock);
                if (at == 0)
                    end = RelationGetNumberOfBlocks(relation);
                table_close(relation, NoLock);
                sql =
                    psprintf("%s AND ctid >= '(%u,0)' AND ctid < '(%u,0)'", sql, at, at + kBlocks);
            }
            if (SPI_execute_with_args(sql, 1, types, values, nullptr, false, 0) != SPI_OK_DELETE)
                elog(ERROR, "cannot delete from %s", name);
            deleted += SPI_processed;
        });
        at += kBlocks;
    }
    return deleted;
}

// Drops a partition. Readers and recorders are kept out for a moment: whoever is at work is waited
// for no longer than that, and then again.
bool drop_partition(Oid partition) {
    constexpr int kMostWaits = 300;
    constexpr const char* kTimeout = "100ms";
    constexpr long kPauseMs = 200;
    bool done = false;
    bool dropped = false;
    for (int wait = 1; !done; ++wait) {
        transaction([&] {
            const Oid parent = relations().meter_event;
            const char* name = qualified_name(partition);
            done = name == nullptr;
            if (done || !lock_within(parent, AccessExclusiveLock, kTimeout) ||
                !lock_within(partition, AccessExclusiveLock, kTimeout)) {
                if (!done && wait == kMostWaits)
                    raise_lock_timeout(parent, psprintf("%d attempts of %s", wait, kTimeout));
                return;
            }
            execute(psprintf("DROP TABLE %s", name));
            done = dropped = true;
        });
        if (!done)
            sleep_for(kPauseMs);
    }
    return dropped;
}

}  // namespace

}  // namespace meter::pg

METER_FUNCTION(meter_drop_events) {
    using namespace meter::pg;
    require_argument(fcinfo, 0, "before");
    const TimestampTz before = PG_GETARG_TIMESTAMPTZ(0);
    PreventCommandIfReadOnly("meter.drop_events()");
    if (TIMESTAMP_NOT_FINITE(before) || to_unix_micros(before) < meter::kMinEventTime ||
        before > GetCurrentTransactionStartTimestamp())
        throw meter::Error(
            meter::ErrorKind::kInvalidParameter, "before must lie between 1970 and now", {},
            "Events before it are dropped, and none is recorded any more: before a time to come, "
            "that would be those of today.");
    begin_procedure(fcinfo, "meter.drop_events()", "drop events");
    clean_cells(before);
    TimestampTz until = 0;
    Oid keys = InvalidOid;
    Oid voids = InvalidOid;
    transaction([&] {
        take_retention_lock(true);
        check_closed_periods(before);
        keys = get_relname_relid("event_key", relations().schema);
        voids = relations().event_void;
        until = to_timestamptz(move_horizon(before));
    });
    // Whoever did not know of it has ended then.
    transaction([] { wait_for_recorders(); });
    const MemoryContext context = CurrentMemoryContext;
    Raised raised{};
    bool settled = false;
    transaction([&] { settled = settle(to_unix_micros(until), context, &raised); });
    if (!settled) {
        release_retention_lock();
        raise(raised);
    }

    const uint64 key_count = delete_rows(keys, "event_timestamp", until);
    (void)delete_rows(voids, "event_timestamp", until);
    Partitions partitions{};
    transaction([&] {
        const MemoryContext own = MemoryContextSwitchTo(context);
        partitions = find_partitions(until);
        MemoryContextSwitchTo(own);
    });
    int dropped = 0;
    for (int i = 0; i < partitions.whole_count; ++i)
        dropped += drop_partition(partitions.whole[i]) ? 1 : 0;
    uint64 event_count = 0;
    for (int i = 0; i < partitions.cut_count; ++i)
        event_count += delete_rows(partitions.cut[i], "timestamp", until);
    release_retention_lock();
    ereport(NOTICE, (errmsg("dropped all events before %s", timestamptz_to_str(until)),
                     errdetail("%d %s, %llu %s of others, %llu %s.", dropped,
                               dropped == 1 ? "partition" : "partitions",
                               static_cast<unsigned long long>(event_count),
                               event_count == 1 ? "event" : "events",
                               static_cast<unsigned long long>(key_count),
                               key_count == 1 ? "key" : "keys")));
    SPI_finish();
    PG_RETURN_VOID();
}
