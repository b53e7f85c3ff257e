// Deltas taken out of meter.rollup_pending, added up.
#pragma once

#include "pg/compat.hpp"

extern "C" {
#include "catalog/pg_type.h"
}

#include "core/cell_table.hpp"
#include "pg/left_out.hpp"

namespace meter::pg {

#define METER_DELTA_COLUMNS                                                             \
    "meter_id, user_id, digest, dimensions, first_timestamp, last_timestamp, last_id, " \
    "event_count, dirty, value_sum, value_min, value_max, last_value, value_time, "     \
    "event_digest, voided"

// The same columns.
struct DeltaColumn {
    const char* name;
    Oid type;
};
inline constexpr DeltaColumn kDeltaShape[] = {{"meter_id", INT4OID},
                                              {"user_id", TEXTOID},
                                              {"digest", UUIDOID},
                                              {"dimensions", JSONBOID},
                                              {"first_timestamp", TIMESTAMPTZOID},
                                              {"last_timestamp", TIMESTAMPTZOID},
                                              {"last_id", INT8OID},
                                              {"event_count", INT8OID},
                                              {"dirty", BOOLOID},
                                              {"value_sum", NUMERICOID},
                                              {"value_min", NUMERICOID},
                                              {"value_max", NUMERICOID},
                                              {"last_value", NUMERICOID},
                                              {"value_time", NUMERICOID},
                                              {"event_digest", UUIDOID},
                                              {"voided", BOOLOID}};
inline constexpr int kDeltaColumns = lengthof(kDeltaShape);
struct DeltaColumns {
    Datum values[kDeltaColumns];
    bool nulls[kDeltaColumns];
};

// Adds one delta after the other to the hours in the tables, deltas that do not last: what the
// tables need of them is copied into the memory context that was current when it was made.
struct DeltaAdder;
DeltaAdder* make_adder(RollupTables* tables, LeftOut* left_out);
void add_passing_delta(DeltaAdder* adder, const DeltaColumns& delta);

// Adds the deltas of the last result, which has METER_DELTA_COLUMNS and has to last as long as the
// tables, to the hours in these, without the dimensions that are left out (nullptr: none). Throws
// Error kCorrupt.
void add_deltas(RollupTables* tables, LeftOut* left_out);

// Writes a delta for each hour in the tables into a generation. Returns how many there are.
int64 write_hours_as_deltas(RollupTables* tables, int32 generation);

}  // namespace meter::pg
