#include "pg/generation.hpp"

#include "pg/catalog.hpp"
#include "pg/spi.hpp"

extern "C" {
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/array.h"
}

namespace meter::pg {

namespace {

// The latest generation there is, 0 where none was begun.
int32 latest_generation() {
    static Statement select = {
        "SELECT COALESCE(max(generation), 0) FROM meter.rollup_generation", {}, true};
    run(select, nullptr, nullptr, Run::kLatest);
    bool null;
    const int32 latest = DatumGetInt32(result(0, 1, &null));
    SPI_freetuptable(SPI_tuptable);
    return latest;
}

// Whether a transaction under way could write into the generation, which is not the latest: whoever
// takes its lock from now on learns that another one is. Does not wait.
bool has_writers(int32 generation) {
    LOCKTAG tag;
    SET_LOCKTAG_OBJECT(tag, MyDatabaseId, relations().generation, static_cast<Oid>(generation), 0);
    if (LockAcquire(&tag, ShareRowExclusiveLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
        return true;
    LockRelease(&tag, ShareRowExclusiveLock, false);
    return false;
}

// The transaction that began the latest generation, where it is this one.
TransactionId begun_by = InvalidTransactionId;

}  // namespace

int32 hold_generation() {
    static int32 known = 0;
    static uint64 known_since = 0;  // by catalog_generation(), which is never 0
    for (;;) {
        const uint64 before = catalog_generation();
        if (known_since != before) {
            known = latest_generation();
            note_remembered();
            known_since = before;
        }
        const int32 generation = known;
        // Once we have it, it cannot be closed; that it was closed before we got it has become
        // known by then.
        LockDatabaseObject(relations().generation, static_cast<Oid>(generation), 0,
                           RowExclusiveLock);
        if (catalog_generation() == before || latest_generation() == generation)
            return generation;
    }
}

Datum open_generations(Run how) {
    static Statement select = {
        "SELECT COALESCE((SELECT recorded || generations FROM meter.rollup_state "
        "ORDER BY version DESC LIMIT 1), '{0}') || -1",
        {},
        true};
    run(select, nullptr, nullptr, how);
    bool null;
    const Datum seen = PointerGetDatum(DatumGetArrayTypePCopy(result(0, 1, &null)));
    SPI_freetuptable(SPI_tuptable);
    if (how != Run::kCaller || !TransactionIdIsValid(GetTopTransactionIdIfAny()))
        return seen;
    // What this transaction wrote itself may be in a generation that its snapshot is too old to
    // know, at READ COMMITTED too: the queries of a rule share one. It is open still, since we hold
    // it.
    static Statement add = {
        "SELECT $1 || COALESCE((SELECT recorded FROM meter.rollup_state ORDER BY version DESC "
        "LIMIT 1), '{0}')",
        {INT4ARRAYOID},
        true};
    const Datum values[] = {seen};
    run(add, values, nullptr, Run::kLatest);
    const Datum all = PointerGetDatum(DatumGetArrayTypePCopy(result(0, 1, &null)));
    SPI_freetuptable(SPI_tuptable);
    return all;
}

bool has_deltas(int32 generation) {
    static Statement select = {
        "SELECT FROM meter.rollup_pending WHERE generation = $1 LIMIT 1", {INT4OID}, true};
    const Datum values[] = {Int32GetDatum(generation)};
    return run(select, values, nullptr, Run::kLatest, 1) > 0;
}

void count_folded(FoldState* state, int64 deltas, int64 most) {
    static Statement begin = {
        "WITH old AS (DELETE FROM meter.rollup_generation WHERE generation = $1) "
        "INSERT INTO meter.rollup_generation VALUES ($2)",
        {INT4OID, INT4OID}};
    // A sequence, since a row would leave a dead version behind each time, the very thing that
    // generations are against. That it does not roll back does no harm.
    static Statement advance = {
        "SELECT setval('meter.rollup_folded_seq', CASE WHEN last_value + $1 > $2 THEN 1 "
        "ELSE last_value + $1 END), last_value + $1 > $2 FROM meter.rollup_folded_seq",
        {INT8OID, INT8OID}};
    const Datum values[] = {Int64GetDatum(deltas), Int64GetDatum(most)};
    run(advance, values, nullptr, Run::kWrite);
    bool null;
    if (!DatumGetBool(result(0, 2, &null)))
        return;
    const int32 latest = latest_generation();
    const Datum numbers[] = {Int32GetDatum(latest), Int32GetDatum(latest + 1)};
    run(begin, numbers, nullptr, Run::kWrite);
    begun_by = GetTopTransactionId();
    add_recorded(state, latest + 1);
}

QuietGenerations find_quiet_generations(const FoldState& state) {
    QuietGenerations quiet{
        0, static_cast<int32*>(
               palloc(sizeof(int32) * static_cast<Size>(Max(state.recorded_count, 1))))};
    // Until we commit, the others write into the generation before the one that we have begun.
    if (TransactionIdIsValid(begun_by) && begun_by == GetTopTransactionIdIfAny())
        return quiet;
    const int32 latest = latest_generation();
    for (int i = 0; i < state.recorded_count; ++i)
        if (state.recorded[i] < latest && !has_writers(state.recorded[i]))
            quiet.items[quiet.count++] = state.recorded[i];
    return quiet;
}

bool close_generations(FoldState* state, const QuietGenerations& quiet, bool all_folded) {
    int left = 0;
    for (int i = 0; i < state->recorded_count; ++i) {
        const int32 generation = state->recorded[i];
        bool is_quiet = false;
        for (int k = 0; k < quiet.count; ++k)
            is_quiet = is_quiet || quiet.items[k] == generation;
        if (!is_quiet || (!all_folded && has_deltas(generation)))
            state->recorded[left++] = generation;
    }
    const bool closed = left < state->recorded_count;
    state->recorded_count = left;
    return closed;
}

}  // namespace meter::pg
