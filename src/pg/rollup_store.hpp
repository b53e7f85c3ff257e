// Cells in the tables: reading those that are there, writing new ones and changed ones.
#pragma once

#include "pg/compat.hpp"

#include "core/cell_table.hpp"

namespace meter::pg {

// Adds to each cell of the four tables what is stored for it, and writes the result: as a new row,
// or over the stored one. Days are written for the users' months alone that have day cells by
// meter.rollup_days; decide_days() is to come before. The caller holds the fold lock.
void store_rollups(RollupTables* tables);

// Adds to the users' months what is stored for them, decides for which of them day cells pay from
// now on, and writes that down.
void decide_days(RollupTables* tables);

}  // namespace meter::pg
