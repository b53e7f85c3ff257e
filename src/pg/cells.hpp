// Cells between core and the tables: arrays of columns out, rows in.
#pragma once

#include "pg/compat.hpp"

#include <memory_resource>
#include <string_view>

extern "C" {
#include "catalog/pg_type.h"
#include "datatype/timestamp.h"
}

#include "core/calendar.hpp"
#include "core/digest.hpp"
#include "core/digest_sum.hpp"
#include "core/rollup_cell.hpp"

namespace meter::pg {

// What stands in the columns of several rows, to be passed as arrays to one statement. Plain data
// in the memory context it was made in.
struct Columns {
    static constexpr int kMax = 24;
    int count;     // columns
    int rows;      // filled so far
    int capacity;  // rows
    Oid types[kMax];
    Datum* values[kMax];
    bool* nulls[kMax];
};

// Columns of the given types for up to `capacity` rows.
Columns make_columns(std::initializer_list<Oid> types, int capacity);

// The arrays, in the order of the columns.
void column_arrays(const Columns& columns, Datum* arrays);

inline void put(Columns& columns, int column, Datum value) {
    columns.values[column][columns.rows] = value;
    columns.nulls[column][columns.rows] = false;
}
inline void put_null(Columns& columns, int column) {
    columns.values[column][columns.rows] = static_cast<Datum>(0);
    columns.nulls[column][columns.rows] = true;
}

// An instant of a stored cell, in microseconds since 1970. Throws meter::Error kCorrupt where no
// event can have it: the arithmetic of hours and days is for those alone.
int64 cell_time(TimestampTz time);

Datum uuid_datum(const Digest& digest);
Digest digest_of(Datum uuid);
// A sum as a uuid, in the current memory context.
Datum digest_datum(const DigestSum& sum);

// A numeric of what a cell has, in the current memory context.
Datum numeric_datum(const ExactSum& sum);
Datum numeric_datum(const StoredNumber& number);

}  // namespace meter::pg
