// Dimensions that cells are without, since they have too many values for cells to pay.
//
// meter.rollup_meter names them. It changes under the fold lock alone, in the transaction that
// writes cells by it, so that a snapshot sees both or neither: a question about such a dimension is
// answered from the events, and all others from cells, those from before the change too, which have
// more dimensions than they need. Only to take a dimension in again, cells have to be made anew.
#pragma once

#include "pg/compat.hpp"

#include "core/cell_table.hpp"

namespace meter::pg {

// What is left out, of every meter, in the memory context that was current when it was loaded.
struct LeftOut;

// Loads it; nullptr where there is none. Runs within an SPI connection, whose last result is lost.
LeftOut* load_left_out();

// Takes from a meter's dimensions (jsonb) those that are left out, and puts the digest of the rest
// in the place of theirs.
void strip_dimensions(LeftOut* left_out, int32 meter_id, Datum* dimensions, Digest* digest);

// Looks at the months of meters that are about to be stored: where they would have many cells, and
// few events to each, writes down which dimensions are to be left out from now on. Returns whether
// there are any: then the cells are to be made again. The caller holds the fold lock. The cells
// have their dimensions (jsonb).
bool judge_dimensions(RollupTables* tables);

}  // namespace meter::pg
