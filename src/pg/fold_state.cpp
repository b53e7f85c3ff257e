#include "pg/fold_state.hpp"

#include "pg/array_elements.hpp"
#include "pg/catalog.hpp"
#include "pg/spi.hpp"

extern "C" {
#include "access/relation.h"
#include "access/transam.h"
#include "storage/procarray.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
}

namespace meter::pg {

namespace {

// So many folds may leave versions of cells behind at once, ...
constexpr int kFreeFolds = 16;
// ... and then one each time the oldest has become older by one part in so many.
constexpr int64 kParts = 8;

// A number below which all transactions have ended for every snapshot there is, as far as meter's
// rollups go: snapshots of standbys, replication slots and prepared transactions count too.
uint64 horizon() {
    const Relation rollup = relation_open(relations().rollup, AccessShareLock);
    const TransactionId oldest = GetOldestNonRemovableTransactionId(rollup);
    relation_close(rollup, NoLock);
    const uint64 next = U64FromFullTransactionId(ReadNextFullTransactionId());
    // The last one with these lower bits that is not in the future.
    uint64 full = (next & ~UINT64CONST(0xFFFFFFFF)) | oldest;
    if (full > next)
        full -= UINT64CONST(0x100000000);
    return full;
}

// The elements of an array in a result, none where it is null.
Elements elements(int column, Oid type, int length) {
    bool null;
    const Datum array = result(0, column, &null);
    return null ? Elements{} : elements_of(array, type, length);
}

Datum array_of(Datum* items, int count, Oid type, int length) {
    return PointerGetDatum(construct_array(items, count, type, length, true,
                                           length == 8 ? TYPALIGN_DOUBLE : TYPALIGN_INT));
}

}  // namespace

FoldState load_fold_state() {
    static Statement select = {
        "SELECT version, last_generation, generations, deltas, fold_xids, fold_times, recorded "
        "FROM meter.rollup_state ORDER BY version DESC LIMIT 1",
        {},
        true};
    FoldState state{};
    state.last_generation = kFirstRun + 1;
    if (run(select, nullptr, nullptr, Run::kWrite) == 0) {
        add_recorded(&state, 0);
        return state;
    }
    bool null;
    state.version = DatumGetInt64(result(0, 1, &null));
    state.last_generation = Min(DatumGetInt32(result(0, 2, &null)), state.last_generation);
    const Elements generations = elements(3, INT4OID, 4);
    const Elements deltas = elements(4, INT8OID, 8);
    if (generations.count != deltas.count || generations.count >= FoldState::kMostRuns)
        ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                        errmsg("meter.rollup_state has malformed arrays")));
    for (; state.run_count < generations.count; ++state.run_count)
        state.runs[state.run_count] = {DatumGetInt32(generations.items[state.run_count]),
                                       DatumGetInt64(deltas.items[state.run_count])};
    const Elements recorded = elements(7, INT4OID, 4);
    for (int i = 0; i < recorded.count; ++i)
        add_recorded(&state, DatumGetInt32(recorded.items[i]));
    const Elements xids = elements(5, XID8OID, 8);
    const Elements times = elements(6, TIMESTAMPTZOID, 8);
    const uint64 oldest = horizon();
    const uint64 next = U64FromFullTransactionId(ReadNextFullTransactionId());
    const TimestampTz now = GetCurrentTimestamp();
    for (int i = 0; i < Min(xids.count, times.count) && state.fold_count < FoldState::kMostFolds;
         ++i) {
        const uint64 xid = DatumGetUInt64(xids.items[i]);
        const TimestampTz at = DatumGetTimestampTz(times.items[i]);
        // Some may be of another cluster, or of before the clock was set back.
        if (xid > oldest && xid <= next)
            state.folds[state.fold_count++] = {xid, Min(at, now)};
    }
    SPI_freetuptable(SPI_tuptable);
    return state;
}

void store_fold_state(const FoldState& state) {
    static Statement replace = {
        "WITH old AS (DELETE FROM meter.rollup_state WHERE version = $1) "
        "INSERT INTO meter.rollup_state (version, last_generation, generations, deltas, fold_xids, "
        "fold_times, recorded) VALUES ($1 + 1, $2, $3, $4, $5, $6, $7)",
        {INT8OID, INT4OID, INT4ARRAYOID, INT8ARRAYOID, XID8ARRAYOID, TIMESTAMPTZARRAYOID,
         INT4ARRAYOID}};
    Datum generations[FoldState::kMostRuns];
    Datum deltas[FoldState::kMostRuns];
    for (int i = 0; i < state.run_count; ++i) {
        generations[i] = Int32GetDatum(state.runs[i].generation);
        deltas[i] = Int64GetDatum(state.runs[i].deltas);
    }
    Datum xids[FoldState::kMostFolds];
    Datum times[FoldState::kMostFolds];
    for (int i = 0; i < state.fold_count; ++i) {
        xids[i] = UInt64GetDatum(state.folds[i].next_xid);
        times[i] = TimestampTzGetDatum(state.folds[i].at);
    }
    auto* recorded = static_cast<Datum*>(
        palloc(sizeof(Datum) * static_cast<Size>(Max(state.recorded_count, 1))));
    for (int i = 0; i < state.recorded_count; ++i)
        recorded[i] = Int32GetDatum(state.recorded[i]);
    const Datum values[] = {Int64GetDatum(state.version),
                            Int32GetDatum(state.last_generation),
                            array_of(generations, state.run_count, INT4OID, 4),
                            array_of(deltas, state.run_count, INT8OID, 8),
                            array_of(xids, state.fold_count, XID8OID, 8),
                            array_of(times, state.fold_count, TIMESTAMPTZOID, 8),
                            array_of(recorded, state.recorded_count, INT4OID, 4)};
    run(replace, values, nullptr, Run::kWrite);
}

bool may_fold_into_cells(const FoldState& state) {
    if (state.fold_count < kFreeFolds)
        return true;
    const TimestampTz now = GetCurrentTimestamp();
    const int64 age = now - state.folds[0].at;
    return now - state.folds[state.fold_count - 1].at >= age / kParts;
}

bool is_held_back(const FoldState& state) {
    return state.fold_count >= kFreeFolds;
}

void note_cell_fold(FoldState* state, int versions) {
    const uint64 next = U64FromFullTransactionId(ReadNextFullTransactionId());
    const TimestampTz now = GetCurrentTimestamp();
    for (int i = 0; i < versions; ++i) {
        if (state->fold_count == FoldState::kMostFolds)
            return;
        state->folds[state->fold_count++] = {next, now};
    }
}

void add_recorded(FoldState* state, int32 generation) {
    auto* all =
        static_cast<int32*>(palloc(sizeof(int32) * static_cast<Size>(state->recorded_count + 1)));
    for (int i = 0; i < state->recorded_count; ++i)
        all[i] = state->recorded[i];
    all[state->recorded_count++] = generation;
    state->recorded = all;
}

int32 next_run(FoldState* state) {
    // They come round after two thousand million.
    state->last_generation =
        state->last_generation <= PG_INT32_MIN + 1 ? kFirstRun : state->last_generation - 1;
    return state->last_generation;
}

}  // namespace meter::pg
