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
    static Statement select = {"SELECT COALESCE(max(generation), 0) FROM meter.rollup_generation",
                               {}};
    run(select, nullptr, nullptr, Run::kLatest);
    bool null;
    const int32 latest = DatumGetInt32(result(0, 1, &null));
    SPI_freetuptable(SPI_tuptable);
    return latest;
}

// Whether every transaction that could write into the generation has ended; keeps others out until
// the end of this one. Does not wait.
bool shut_out_writers(int32 generation) {
    LOCKTAG tag;
    SET_LOCKTAG_OBJECT(tag, MyDatabaseId, relations().generation, static_cast<Oid>(generation), 0);
    return LockAcquire(&tag, ShareRowExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
}

bool has_deltas(int32 generation) {
    static Statement select = {
        "SELECT FROM meter.rollup_pending WHERE generation = $1 LIMIT 1", {INT4OID}, true};
    const Datum values[] = {Int32GetDatum(generation)};
    return run(select, values, nullptr, Run::kLatest, 1) > 0;
}

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
        if (catalog_generation() == before)
            return generation;
    }
}

Datum open_generations(Run how) {
    static Statement select = {
        "SELECT COALESCE(array_agg(generation), '{0}') || -1 FROM meter.rollup_generation", {}};
    run(select, nullptr, nullptr, how);
    bool null;
    return PointerGetDatum(DatumGetArrayTypePCopy(result(0, 1, &null)));
}

void count_folded(int64 deltas) {
    // A reader passes by so many dead deltas of a generation at the worst: a few milliseconds'
    // worth.
    constexpr int64 kMostFolded = 100'000;
    // Where there is no row yet, 0 is open, and stays so.
    static Statement insert = {
        "INSERT INTO meter.rollup_generation SELECT g FROM "
        "(SELECT COALESCE(max(generation), 0) AS latest FROM meter.rollup_generation) AS t, "
        "generate_series(latest, latest + 1) AS g ON CONFLICT DO NOTHING",
        {}};
    // A sequence, since a row would leave a dead version behind each time, the very thing that
    // generations are against. That it does not roll back does no harm.
    static Statement advance = {
        "SELECT setval('meter.rollup_folded_seq', CASE WHEN last_value + $1 > $2 THEN 1 "
        "ELSE last_value + $1 END), last_value + $1 > $2 FROM meter.rollup_folded_seq",
        {INT8OID, INT8OID}};
    const Datum values[] = {Int64GetDatum(deltas), Int64GetDatum(kMostFolded)};
    run(advance, values, nullptr, Run::kWrite);
    bool null;
    if (DatumGetBool(result(0, 2, &null)))
        run(insert, nullptr, nullptr, Run::kWrite);
}

void close_generations() {
    static Statement select = {
        "SELECT generation FROM meter.rollup_generation WHERE generation < "
        "(SELECT max(generation) FROM meter.rollup_generation) ORDER BY 1",
        {}};
    static Statement remove = {"DELETE FROM meter.rollup_generation WHERE generation = $1",
                               {INT4OID}};
    const uint64 count = run(select, nullptr, nullptr, Run::kWrite);
    SPITupleTable* const found = SPI_tuptable;
    for (uint64 row = 0; row < count; ++row) {
        bool null;
        const Datum generation = SPI_getbinval(found->vals[row], found->tupdesc, 1, &null);
        // In this order: what the last writers wrote is visible once they have ended.
        if (!shut_out_writers(DatumGetInt32(generation)) || has_deltas(DatumGetInt32(generation)))
            continue;
        const Datum values[] = {generation};
        run(remove, values, nullptr, Run::kWrite);
    }
}

}  // namespace meter::pg
