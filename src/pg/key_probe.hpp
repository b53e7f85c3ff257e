// Looking idempotency keys up in the index of the ledger, without the executor.
#pragma once

#include "pg/btree_leaves.hpp"
#include "pg/compat.hpp"
#include "pg/ledger.hpp"
#include "pg/table_writer.hpp"

extern "C" {
#include "access/relscan.h"
#include "utils/snapshot.h"
}

namespace meter::pg {

// The columns of meter.event_key.
enum { kKeyDigest, kKeyFingerprint, kKeyEventId, kKeyEventTime, kKeyColumnCount };

// A look at the ledger, with what is kept from key to key.
struct KeyProbe {
    // How many keys are looked up on one leaf at a time, at most.
    static constexpr int kAtATime = 64;

    const TableWriter* ledger;
    bool by_leaf;  // whether the index is one for LeafFinder
    LeafFinder finder;
    IndexFetchTableData* fetch;
    // What it sees: what is committed, what this transaction did, and what others are about to do.
    SnapshotData snapshot;
    TupleTableSlot* slot;
    IndexScanDesc scan;  // for what a leaf does not tell; made when first needed
};

// The ledger is open, and stays so until end_probe().
void begin_probe(KeyProbe& probe, const TableWriter& ledger);
void end_probe(KeyProbe& probe);

// Looks the keys up that states[] does not say to be taken, in the order of their digests and each
// once: sets states[i] and, where that is kTaken, taken[i]. Of `mine` only the
// digests matter. Waits for nobody. Raises PostgreSQL errors.
void look_up(KeyProbe& probe, const LedgerEntry* mine, int count, KeyState* states,
             LedgerEntry* taken);

}  // namespace meter::pg
