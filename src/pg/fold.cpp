// meter.fold(): moves deltas into the rollups.
#include "pg/fold.hpp"

#include "core/cell_table.hpp"
#include "core/error.hpp"
#include "pg/caller.hpp"
#include "pg/catalog.hpp"
#include "pg/cells.hpp"
#include "pg/generation.hpp"
#include "pg/guard.hpp"
#include "pg/left_out.hpp"
#include "pg/memory.hpp"
#include "pg/numeric.hpp"
#include "pg/readiness.hpp"
#include "pg/rollup_store.hpp"
#include "pg/spi.hpp"
#include "pg/values.hpp"

extern "C" {
#include "access/xlog.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/array.h"
#include "utils/datum.h"
#include "utils/resowner.h"
}

namespace meter::pg {

namespace {

using ErrorText = const char*;

// Deltas that are folded at a time. More of them share more cells; memory is what bounds it.
constexpr int64 kChunk = 100'000;

// What adds up the deltas of a chunk. It lives in a memory context.
struct Chunk {
    explicit Chunk(MemoryContext context) : resource(context) {}

    ContextArena resource;
    RollupTables tables{&resource};
};

#define METER_DELTA_COLUMNS                                                             \
    "meter_id, user_id, digest, dimensions, first_timestamp, last_timestamp, last_id, " \
    "event_count, dirty, value_sum, value_min, value_max, last_value, value_time"

// Adds the deltas of the last result, which has METER_DELTA_COLUMNS, to the tables, without the
// dimensions that are left out.
void add_deltas(Chunk* chunk, LeftOut* left_out) {
    std::pmr::memory_resource* resource = &chunk->resource;
    for (uint64 row = 0; row < SPI_processed; ++row) {
        if (row % 1024 == 0)
            CHECK_FOR_INTERRUPTS();
        bool null;
        const auto column = [&](int number) { return result(row, number, &null); };
        RollupCell cell;
        cell.first_time = to_unix_micros(DatumGetTimestampTz(column(5)));
        const Datum last = column(6);
        cell.last_time = null ? cell.first_time : to_unix_micros(DatumGetTimestampTz(last));
        cell.last_id = DatumGetInt64(column(7));
        cell.event_count = DatumGetInt64(column(8));
        const Datum dirty = column(9);
        cell.dirty = !null && DatumGetBool(dirty);
        const NumberView sum = view_numeric(column(10));
        const int64 hour = hour_start(cell.first_time);
        CellKey key{DatumGetInt32(column(1)), hour, text_view(column(2)), digest_of(column(3))};
        Datum kept = column(4);
        if (left_out != nullptr)
            strip_dimensions(left_out, key.meter_id, &kept, &key.digest);
        const auto dimensions = static_cast<std::uintptr_t>(kept);
        (void)column(14);
        if (null) {
            // Of a correction, whose count is not 1, all columns are there.
            if (cell.event_count != 1)
                throw Error(ErrorKind::kCorrupt, "a delta of several events lacks columns");
            const int64 time = cell.first_time;
            const int64 id = cell.last_id;
            const bool is_dirty = cell.dirty;
            cell = RollupCell{};
            cell.add_event(sum, time, id, hour, resource);
            cell.dirty = is_dirty;
            chunk->tables.add_hour(key, cell, dimensions);
            continue;
        }
        cell.value_sum.add(sum, resource);
        const auto number_or_sum = [&](int number) {
            const Datum value = column(number);
            return null ? sum : view_numeric(value);
        };
        cell.value_min.assign(number_or_sum(11), resource);
        cell.value_max.assign(number_or_sum(12), resource);
        cell.last_value.assign(number_or_sum(13), resource);
        cell.value_time.add(view_numeric(column(14)), resource);
        chunk->tables.add_hour(key, cell, dimensions);
    }
}

// Folds the deltas that the statement deletes and returns.
uint64 fold_chunk(Statement& take, const Datum* values) {
    const MemoryContext chunk_context =
        AllocSetContextCreate(CurrentMemoryContext, "fold", ALLOCSET_DEFAULT_SIZES);
    const MemoryContext caller_context = MemoryContextSwitchTo(chunk_context);
    Chunk* chunk = make_in<Chunk>(chunk_context, chunk_context);
    LeftOut* left_out = load_left_out();
    const uint64 taken = run(take, values, nullptr, Run::kWrite);
    SPITupleTable* const deltas = SPI_tuptable;
    if (taken > 0) {
        add_deltas(chunk, left_out);
        chunk->tables.finish();
        if (judge_dimensions(&chunk->tables)) {
            chunk = make_in<Chunk>(chunk_context, chunk_context);
            left_out = load_left_out();
            SPI_tuptable = deltas;
            SPI_processed = taken;
            add_deltas(chunk, left_out);
            chunk->tables.finish();
        }
        decide_days(&chunk->tables);
        store_rollups(&chunk->tables);
    }
    SPI_freetuptable(deltas);
    MemoryContextSwitchTo(caller_context);
    MemoryContextDelete(chunk_context);
    return taken;
}

// Whether an error says something about the delta, and not about the circumstances.
bool is_about_data(int sqlstate) {
    return ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_TO_CATEGORY(ERRCODE_DATA_EXCEPTION) ||
           ERRCODE_TO_CATEGORY(sqlstate) ==
               ERRCODE_TO_CATEGORY(ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION) ||
           sqlstate == ERRCODE_DATA_CORRUPTED;
}

// Folds the deltas that the statement deletes and returns, in a subtransaction. Where that fails
// for what the deltas are, nothing is changed, `error` says why, and it returns false; other errors
// go on.
bool try_fold(Statement& take, const Datum* values, int64* folded, ErrorText* error) {
    const MemoryContext context = CurrentMemoryContext;
    const ResourceOwner owner = CurrentResourceOwner;
    BeginInternalSubTransaction(nullptr);
    MemoryContextSwitchTo(context);
    Raised raised{};
    bool failed = false;
    try {
        *folded = call([&] { return static_cast<int64>(fold_chunk(take, values)); });
    } catch (...) {
        raised = capture_exception();
        failed = true;
    }
    MemoryContextSwitchTo(context);
    if (!failed)
        ReleaseCurrentSubTransaction();
    else
        RollbackAndReleaseCurrentSubTransaction();
    MemoryContextSwitchTo(context);
    CurrentResourceOwner = owner;
    if (failed) {
        const int sqlstate = raised.error != nullptr ? raised.error->sqlerrcode : raised.sqlstate;
        if (!is_about_data(sqlstate))
            raise(raised);
        *error = raised.error != nullptr ? raised.error->message : raised.message;
    }
    return !failed;
}

// Folds the deltas at tids[first..last), and where that fails each half, down to the one that is
// to blame, which is set aside.
void fold_or_set_aside(Datum* tids, int first, int last) {
    static Statement take = {
        "DELETE FROM meter.rollup_pending WHERE ctid = ANY ($1) RETURNING " METER_DELTA_COLUMNS,
        {TIDARRAYOID}};
    static Statement set_aside = {
        "UPDATE meter.rollup_pending SET generation = -1, fold_error = $2 WHERE ctid = $1",
        {TIDOID, TEXTOID}};
    if (first == last)
        return;
    CHECK_FOR_INTERRUPTS();
    const Datum values[] = {PointerGetDatum(construct_array(
        tids + first, last - first, TIDOID, sizeof(ItemPointerData), false, TYPALIGN_SHORT))};
    int64 folded = 0;
    ErrorText error = nullptr;
    if (try_fold(take, values, &folded, &error))
        return;
    if (last - first > 1) {
        const int middle = first + (last - first) / 2;
        fold_or_set_aside(tids, first, middle);
        fold_or_set_aside(tids, middle, last);
        return;
    }
    ereport(WARNING, (errmsg("a delta cannot be folded, and is set aside: %s", error),
                      errhint("It is counted as before. See meter.rollup_pending.fold_error.")));
    const Datum aside[] = {tids[first], CStringGetTextDatum(error)};
    run(set_aside, aside, nullptr, Run::kWrite);
}

// Folds up to `limit` deltas of the generations, of which some cannot be folded. Returns how many
// are settled, one way or the other.
int64 fold_around_errors(Datum generations, int64 limit) {
    static Statement list = {
        "SELECT ctid FROM meter.rollup_pending WHERE generation = ANY ($1) AND generation >= 0 "
        "LIMIT $2",
        {INT4ARRAYOID, INT8OID},
        true};
    const Datum values[] = {generations, Int64GetDatum(limit)};
    const auto count = static_cast<int>(run(list, values, nullptr, Run::kWrite));
    SPITupleTable* const found = SPI_tuptable;
    auto* tids = static_cast<Datum*>(palloc(sizeof(Datum) * static_cast<Size>(Max(count, 1))));
    for (int i = 0; i < count; ++i) {
        bool null;
        tids[i] = datumCopy(SPI_getbinval(found->vals[i], found->tupdesc, 1, &null), false,
                            sizeof(ItemPointerData));
    }
    SPI_freetuptable(found);
    fold_or_set_aside(tids, 0, count);
    return count;
}

}  // namespace

bool take_fold_lock(bool wait) {
    LOCKTAG tag;
    SET_LOCKTAG_OBJECT(tag, MyDatabaseId, relations().rollup, 0, 0);
    return LockAcquire(&tag, ExclusiveLock, false, !wait) != LOCKACQUIRE_NOT_AVAIL;
}

void require_read_committed(const char* action) {
    if (IsolationUsesXactSnapshot())
        ereport(ERROR,
                (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                 errmsg("cannot %s in a transaction at isolation level %s", action,
                        XactIsoLevel == XACT_SERIALIZABLE ? "serializable" : "repeatable read"),
                 errhint("Its snapshot may be older than the last fold. Use READ COMMITTED.")));
}

void require_no_subscription(const char* action) {
    if (is_subscriber())
        ereport(ERROR,
                (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                 errmsg("cannot %s: a subscription writes the rollups", action),
                 errhint("The publisher's rollups come with its events. Drop the subscription "
                         "first.")));
}

uint64 fold_pending(int64 max_deltas) {
    static Statement count = {
        "SELECT count(*) FROM meter.rollup_pending WHERE generation = ANY ($1) AND generation >= 0",
        {INT4ARRAYOID},
        true};
    static Statement take = {
        "DELETE FROM meter.rollup_pending WHERE ctid = ANY (ARRAY (SELECT ctid FROM "
        "meter.rollup_pending WHERE generation = ANY ($1) AND generation >= 0 LIMIT $2)) "
        "RETURNING " METER_DELTA_COLUMNS,
        {INT4ARRAYOID, INT8OID}};
    if (!take_fold_lock(false))
        return 0;
    // What comes while we fold is for the next time.
    if (max_deltas > kChunk) {
        const Datum values[] = {open_generations(Run::kWrite)};
        run(count, values, nullptr, Run::kWrite);
        bool null;
        max_deltas = Min(max_deltas, DatumGetInt64(result(0, 1, &null)));
    }
    int64 folded = 0;
    while (folded < max_deltas) {
        CHECK_FOR_INTERRUPTS();
        const int64 limit = Min(kChunk, max_deltas - folded);
        const Datum values[] = {open_generations(Run::kWrite), Int64GetDatum(limit)};
        int64 settled = 0;
        ErrorText error = nullptr;
        if (!try_fold(take, values, &settled, &error))
            settled = fold_around_errors(values[0], limit);
        folded += settled;
        if (settled < limit)
            break;
    }
    // Before a new one is begun: until we commit, the others still write into the latest.
    close_generations();
    if (folded > 0)
        count_folded(folded);
    return static_cast<uint64>(folded);
}

}  // namespace meter::pg

METER_FUNCTION(meter_fold) {
    using namespace meter::pg;
    PreventCommandIfReadOnly("meter.fold()");
    PreventCommandDuringRecovery("meter.fold()");
    const Call call = begin_call(Privilege::kMaintain, "fold");
    require_read_committed("fold");
    require_no_subscription("fold");
    const uint64 folded = fold_pending(PG_INT64_MAX);
    end_call(call);
    PG_RETURN_INT64(static_cast<int64>(folded));
}
