// Taking deltas out of meter.rollup_pending without the executor.
//
// That is right for a plain table alone, with nothing that a deletion has to heed: no triggers,
// rules or row security, and the replica identity that the install script gave it. For any other
// table open_deltas() returns nullptr, and the caller goes through SPI.
#pragma once

#include "pg/compat.hpp"

#include "pg/delta_chunk.hpp"

namespace meter::pg {

struct DeltaTable;

// Opens meter.rollup_pending, whose rows are those that the snapshot sees. The lock stays to the end
// of the transaction.
DeltaTable* open_deltas(Snapshot snapshot);
void close_deltas(DeltaTable* table);

// Deletes the deltas at `tids`, those of them that are there, and adds them to the hours in the
// tables, without the dimensions that are left out (nullptr: none). Returns how many there were.
// What the tables need of them is copied into the current memory context. Throws Error kCorrupt.
uint64 take_deltas(DeltaTable* table, const ItemPointerData* tids, int count, RollupTables* tables,
                   LeftOut* left_out);

// Adds deltas again that this transaction has taken.
void add_taken_deltas(DeltaTable* table, const ItemPointerData* tids, int count, RollupTables* tables,
                      LeftOut* left_out);

}  // namespace meter::pg
