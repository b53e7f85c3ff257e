// Where the deltas of generations are: their places, without reading them.
#pragma once

#include "pg/compat.hpp"

namespace meter::pg {

struct DeltaList;

// Begins to list the deltas of the generations, which have to last as long as the list. By the
// index, in its order, where it is as the install script made it, else by a statement. Places of
// some deltas that are gone may be among them, and of some that came since. Runs within an SPI
// connection; the list lives in the current memory context.
//
// Taken are those that snapshot_of() sees: what was committed when the list was begun.
DeltaList* begin_delta_list(const int32* generations, int count);

// The next places, `limit` at most, in the order in which they lie in the table. Returns how many;
// fewer than `limit` are the last ones.
int next_deltas(DeltaList* list, ItemPointerData* tids, int limit);

Snapshot snapshot_of(const DeltaList* list);

void end_delta_list(DeltaList* list);

}  // namespace meter::pg
