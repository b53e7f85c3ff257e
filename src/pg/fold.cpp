// meter.fold(): moves deltas into the rollups.
#include "pg/fold.hpp"

#include "core/cell_table.hpp"
#include "pg/alert_watch.hpp"
#include "pg/caller.hpp"
#include "pg/catalog.hpp"
#include "pg/delta_chunk.hpp"
#include "pg/delta_list.hpp"
#include "pg/delta_table.hpp"
#include "pg/fold_state.hpp"
#include "pg/generation.hpp"
#include "pg/guard.hpp"
#include "pg/left_out.hpp"
#include "pg/memory.hpp"
#include "pg/readiness.hpp"
#include "pg/rollup_store.hpp"
#include "pg/spi.hpp"

extern "C" {
#include "access/xlog.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/array.h"
#include "utils/datum.h"
}

namespace meter::pg {

namespace {

// Deltas that are folded at a time. More of them share more cells; memory is what bounds it.
constexpr int64 kChunk = 100'000;

// Where the deltas of a fold go, and what came of it.
struct Target {
    int32 run;            // a generation, or kCells
    int64 written;        // deltas written into the run
    int chunks;           // each leaves a version of a cell
    bool watches;         // whether to note whose usage changes
    AlertWatch* watch;    // what notes it; nullptr: nobody asks
    ContextArena* arena;  // what a chunk is added up in, again and again
};
constexpr int32 kCells = 0;

// In the current memory context.
Target make_target(int32 run, bool watches) {
    auto* arena = make_in<ContextArena>(CurrentMemoryContext, CurrentMemoryContext);
    return {run, 0, 0, watches, nullptr, arena};
}

// The deltas to fold: those at some places, or those that a statement deletes and returns.
struct Source {
    const ItemPointerData* tids;  // nullptr: they are not known
    int count;
    Snapshot snapshot;  // that sees those at the places
    Statement* take;
    const Datum* values;
};

// Places as a tid[].
Datum array_of(const ItemPointerData* tids, int count) {
    auto* all = static_cast<Datum*>(palloc(sizeof(Datum) * static_cast<Size>(Max(count, 1))));
    for (int i = 0; i < count; ++i)
        all[i] = PointerGetDatum(&tids[i]);
    return PointerGetDatum(
        construct_array(all, count, TIDOID, sizeof(ItemPointerData), false, TYPALIGN_SHORT));
}

// Deletes deltas by a statement; they are the last result. Returns their number.
uint64 take_by_statement(const Source& source) {
    static Statement take = {
        "DELETE FROM meter.rollup_pending WHERE ctid = ANY ($1) RETURNING " METER_DELTA_COLUMNS,
        {TIDARRAYOID}};
    if (source.tids == nullptr)
        return run(*source.take, source.values, nullptr, Run::kWrite);
    const Datum places = array_of(source.tids, source.count);
    return run(take, &places, nullptr, Run::kWrite);
}

// Folds deltas. Uses the current memory context for all it needs. Returns their number.
uint64 fold_chunk(const Source& source, const Target& target, int64* written) {
    target.arena->rewind();
    RollupTables* tables = make_in<RollupTables>(CurrentMemoryContext, target.arena);
    LeftOut* left_out = target.run == kCells ? load_left_out() : nullptr;
    DeltaTable* table = source.tids != nullptr ? open_deltas(source.snapshot) : nullptr;
    uint64 taken = 0;
    SPITupleTable* deltas = nullptr;
    if (table != nullptr) {
        taken = take_deltas(table, source.tids, source.count, tables, left_out);
    } else {
        taken = take_by_statement(source);
        deltas = SPI_tuptable;
        add_deltas(tables, left_out);
    }
    if (taken > 0) {
        if (target.watch != nullptr)
            note_hours(target.watch, *tables);
        if (target.run != kCells) {
            *written = write_hours_as_deltas(tables, target.run);
        } else {
            tables->finish();
            if (judge_dimensions(tables)) {
                tables = make_in<RollupTables>(CurrentMemoryContext, target.arena);
                left_out = load_left_out();
                if (table != nullptr) {
                    add_taken_deltas(table, source.tids, source.count, tables, left_out);
                } else {
                    SPI_tuptable = deltas;
                    SPI_processed = taken;
                    add_deltas(tables, left_out);
                }
                tables->finish();
            }
            decide_days(tables);
            store_rollups(tables);
        }
    }
    if (table != nullptr)
        close_deltas(table);
    else
        SPI_freetuptable(deltas);
    return taken;
}

// Whether an error says something about the delta, and not about the circumstances.
bool is_about_data(int sqlstate) {
    return ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_TO_CATEGORY(ERRCODE_DATA_EXCEPTION) ||
           ERRCODE_TO_CATEGORY(sqlstate) ==
               ERRCODE_TO_CATEGORY(ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION) ||
           sqlstate == ERRCODE_DATA_CORRUPTED;
}

// Folds deltas in a subtransaction. Where that fails for what the deltas are, nothing is changed,
// `error` says why, and it returns false; other errors go on.
bool try_fold(const Source& source, Target* target, int64* folded, const char** error) {
    const MemoryContext chunk_context =
        AllocSetContextCreate(CurrentMemoryContext, "fold", ALLOCSET_DEFAULT_SIZES);
    Raised raised{};
    int64 written = 0;
    const bool done = try_in_subtransaction(
        [&] {
            MemoryContextSwitchTo(chunk_context);
            *folded = static_cast<int64>(fold_chunk(source, *target, &written));
        },
        &raised);
    MemoryContextDelete(chunk_context);
    if (done) {
        target->written += written;
        target->chunks += *folded > 0 ? 1 : 0;
        return true;
    }
    if (!is_about_data(sqlstate_of(raised)))
        raise(raised);
    *error = message_of(raised);
    return false;
}

// Folds the deltas at these places, and where that fails each half, down to the one that is to
// blame, which is set aside. Returns how many are settled: a trigger of someone's may keep some.
int64 fold_or_set_aside(ItemPointerData* tids, int count, Snapshot snapshot, Target* target) {
    static Statement set_aside = {
        "UPDATE meter.rollup_pending SET generation = -1, fold_error = $2 WHERE ctid = $1",
        {TIDOID, TEXTOID}};
    if (count == 0)
        return 0;
    CHECK_FOR_INTERRUPTS();
    int64 folded = 0;
    const char* error = nullptr;
    if (try_fold({tids, count, snapshot, nullptr, nullptr}, target, &folded, &error))
        return folded;
    if (count > 1) {
        const int half = count / 2;
        folded = fold_or_set_aside(tids, half, snapshot, target);
        return folded + fold_or_set_aside(tids + half, count - half, snapshot, target);
    }
    ereport(WARNING, (errmsg("a delta cannot be folded, and is set aside: %s", error),
                      errhint("It is counted as before. See meter.rollup_pending.fold_error.")));
    const Datum aside[] = {PointerGetDatum(tids), CStringGetTextDatum(error)};
    return static_cast<int64>(run(set_aside, aside, nullptr, Run::kWrite));
}

// Generations, and those of runs.
struct Generations {
    int32* items;
    int count;
};

// Folds deltas of the generations, `max_deltas` at most, chunk by chunk: those that are there now.
// Returns how many are settled, one way or the other, and whether none is left.
int64 fold_generations(const Generations& generations, int64 max_deltas, Target* target,
                       bool* all) {
    // One scan for all chunks: each of its own would pass by what those before it deleted.
    DeltaList* list = begin_delta_list(generations.items, generations.count);
    // After the deltas are chosen: what is recorded once a rule is there is noted for it.
    if (target->watches)
        target->watch = begin_watch();
    auto* tids = static_cast<ItemPointerData*>(palloc(
        sizeof(ItemPointerData) * static_cast<Size>(Max(Min(kChunk, max_deltas), INT64CONST(1)))));
    int64 listed = 0;
    int64 folded = 0;
    bool at_end = false;
    while (listed < max_deltas && !at_end) {
        CHECK_FOR_INTERRUPTS();
        const auto limit = static_cast<int>(Min(kChunk, max_deltas - listed));
        const int count = next_deltas(list, tids, limit);
        folded += fold_or_set_aside(tids, count, snapshot_of(list), target);
        listed += count;
        at_end = count < limit;
    }
    *all = at_end && folded == listed;
    pfree(tids);
    end_delta_list(list);
    return folded;
}

// Numbers, those of runs, and `one_more` unless it is 0.
Generations with_runs(const int32* numbers, int count, const DeltaRun* runs, int run_count,
                      int32 one_more) {
    Generations all{
        static_cast<int32*>(palloc(sizeof(int32) * static_cast<Size>(count + run_count + 1))), 0};
    for (int i = 0; i < count; ++i)
        all.items[all.count++] = numbers[i];
    for (int i = 0; i < run_count; ++i)
        all.items[all.count++] = runs[i].generation;
    if (one_more != 0)
        all.items[all.count++] = one_more;
    return all;
}

// The same as an int4[].
Datum array_of(const Generations& generations) {
    auto* all =
        static_cast<Datum*>(palloc(sizeof(Datum) * static_cast<Size>(generations.count + 1)));
    for (int i = 0; i < generations.count; ++i)
        all[i] = Int32GetDatum(generations.items[i]);
    return PointerGetDatum(construct_array(all, generations.count, INT4OID, 4, true, TYPALIGN_INT));
}

// The user before whom a part of a merge ends, such that the largest run gives it a chunk; null
// where that run has no more.
Datum merge_bound(int32 largest, Datum from, bool* is_last) {
    static Statement bound = {
        "SELECT user_id FROM meter.rollup_pending WHERE generation = $1 AND user_id > $2 "
        "ORDER BY generation, user_id OFFSET $3 LIMIT 1",
        {INT4OID, TEXTOID, INT8OID},
        true};
    const Datum values[] = {Int32GetDatum(largest), from, Int64GetDatum(kChunk)};
    *is_last = run(bound, values, nullptr, Run::kWrite) == 0;
    bool null;
    const Datum user = *is_last ? static_cast<Datum>(0) : datumCopy(result(0, 1, &null), false, -1);
    SPI_freetuptable(SPI_tuptable);
    return user;
}

// Merges the latest runs, as long as the one before is no more than twice as large as they are
// together.
void merge_runs(FoldState* state) {
    static Statement take_part = {
        "DELETE FROM meter.rollup_pending WHERE generation = ANY ($1) AND user_id >= $2 "
        "AND user_id < $3 RETURNING " METER_DELTA_COLUMNS,
        {INT4ARRAYOID, TEXTOID, TEXTOID}};
    static Statement take_rest = {
        "DELETE FROM meter.rollup_pending WHERE generation = ANY ($1) AND user_id >= $2 "
        "RETURNING " METER_DELTA_COLUMNS,
        {INT4ARRAYOID, TEXTOID}};
    int first = state->run_count;
    int largest = first - 1;
    int64 deltas = 0;
    while (first > 0 && (deltas == 0 || state->runs[first - 1].deltas <= 2 * deltas ||
                         state->run_count + 1 >= FoldState::kMostRuns)) {
        deltas += state->runs[--first].deltas;
        if (state->runs[first].deltas > state->runs[largest].deltas)
            largest = first;
    }
    if (state->run_count - first < 2)
        return;
    const Generations generations =
        with_runs(nullptr, 0, state->runs + first, state->run_count - first, 0);
    const Datum generation_array = array_of(generations);
    Target target = make_target(next_run(state), false);
    int64 taken = 0;
    // By users, so that all that is to be added up to one delta comes together.
    Datum from = text_datum("");
    bool is_last = false;
    while (!is_last) {
        CHECK_FOR_INTERRUPTS();
        const Datum to = merge_bound(state->runs[largest].generation, from, &is_last);
        const Datum values[] = {generation_array, from, to};
        int64 settled = 0;
        const char* error = nullptr;
        if (!try_fold({nullptr, 0, nullptr, is_last ? &take_rest : &take_part, values}, &target,
                      &settled, &error)) {
            bool all = false;
            taken += fold_generations(generations, PG_INT64_MAX, &target, &all);
            break;
        }
        taken += settled;
        from = to;
    }
    // What was kept stays where it was.
    int left = first;
    for (int i = first; i < state->run_count; ++i)
        if (taken < deltas && has_deltas(state->runs[i].generation))
            state->runs[left++] = state->runs[i];
    state->run_count = left;
    if (target.written > 0)
        state->runs[state->run_count++] = {target.run, target.written};
}

// Forgets the runs that have no delta left.
void forget_empty_runs(FoldState* state) {
    int left = 0;
    for (int i = 0; i < state->run_count; ++i)
        if (has_deltas(state->runs[i].generation))
            state->runs[left++] = state->runs[i];
    state->run_count = left;
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

int32 generation_to_fold() {
    FoldState& state = *static_cast<FoldState*>(palloc(sizeof(FoldState)));
    state = load_fold_state();
    const int32 generation = next_run(&state);
    store_fold_state(state);
    return generation;
}

uint64 fold_pending(int64 max_deltas, Fold how, int32 unlisted) {
    if (!take_fold_lock(false))
        return 0;
    FoldState& state = *static_cast<FoldState*>(palloc(sizeof(FoldState)));
    state = load_fold_state();
    // A fold adds a run, and so does merging where somebody keeps deltas of those before: without
    // room for both there are cells.
    const bool into_cells = how == Fold::kIntoCells || may_fold_into_cells(state) ||
                            state.run_count + 2 > FoldState::kMostRuns;
    const bool folds_runs = into_cells && state.run_count > 0;
    const Generations generations = with_runs(state.recorded, state.recorded_count, state.runs,
                                              folds_runs ? state.run_count : 0, unlisted);
    // All of them: it may be long until the next time.
    if (folds_runs)
        max_deltas = PG_INT64_MAX;
    Target target = make_target(into_cells ? kCells : next_run(&state), true);
    // In this order: what the last writers wrote is visible once they have ended.
    const QuietGenerations quiet = find_quiet_generations(state);
    bool all = false;
    const int64 folded = fold_generations(generations, max_deltas, &target, &all);
    // Before a new one is begun.
    const bool closed = close_generations(&state, quiet, all);
    if (folded == 0) {
        if (closed)
            store_fold_state(state);
        if (target.watch != nullptr)
            fire_alerts(target.watch);
        return 0;
    }
    // What a reader passes by at the worst, beside the deltas of the last fold: where a snapshot
    // keeps them less, since nothing else removes them.
    constexpr int64 kMostFolded = 100'000;
    constexpr int64 kMostHeldBack = 2'000;
    count_folded(&state, folded, is_held_back(state) ? kMostHeldBack : kMostFolded);
    if (into_cells) {
        note_cell_fold(&state, target.chunks);
        if (all)
            state.run_count = 0;
        else
            forget_empty_runs(&state);
    } else if (target.written > 0) {
        state.runs[state.run_count++] = {target.run, target.written};
        merge_runs(&state);
    }
    store_fold_state(state);
    if (target.watch != nullptr)
        fire_alerts(target.watch);
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
    const bool into_cells = !PG_ARGISNULL(0) && PG_GETARG_BOOL(0);
    const uint64 folded =
        fold_pending(PG_INT64_MAX, into_cells ? Fold::kIntoCells : Fold::kBounded);
    end_call(call);
    PG_RETURN_INT64(static_cast<int64>(folded));
}
