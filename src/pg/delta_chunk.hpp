// Deltas taken out of meter.rollup_pending, added up.
#pragma once

#include "pg/compat.hpp"

#include "core/cell_table.hpp"
#include "pg/left_out.hpp"

namespace meter::pg {

#define METER_DELTA_COLUMNS                                                             \
    "meter_id, user_id, digest, dimensions, first_timestamp, last_timestamp, last_id, " \
    "event_count, dirty, value_sum, value_min, value_max, last_value, value_time, "     \
    "event_digest, voided"

// Adds the deltas of the last result, which has METER_DELTA_COLUMNS and has to last as long as the
// tables, to the hours in these, without the dimensions that are left out (nullptr: none). Throws
// Error kCorrupt.
void add_deltas(RollupTables* tables, LeftOut* left_out);

// Writes a delta for each hour in the tables into a generation. Returns how many there are.
int64 write_hours_as_deltas(RollupTables* tables, int32 generation);

}  // namespace meter::pg
