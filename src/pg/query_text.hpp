// SQL that is put together for one call: text made of constants, names and values as parameters.
#pragma once

#include "pg/compat.hpp"

extern "C" {
#include "lib/stringinfo.h"
#include "utils/tuplestore.h"
}

#include "core/dimensions.hpp"

namespace meter::pg {

// SQL text made of constants alone; every name and value is a parameter.
struct QueryText {
    static constexpr int kMaxParameters = 64 + 40 * static_cast<int>(kMaxDimensions);
    StringInfoData sql;
    int count;
    // A plan that is kept groups by hashing: it is made for few rows, and would sort many.
    bool hashes;
    Oid types[kMaxParameters];
    Datum values[kMaxParameters];
};

void start_query(QueryText* query);

// Adds a parameter and returns its number.
int add_parameter(QueryText* query, Oid type, Datum value);

// How a query is planned.
enum class Planning {
    kEachTime,  // for its parameters: it can leave out partitions, and hash a long list of values
    kOnce,      // for any, by index, and the session keeps the plan: for what indexes answer best
};

// Runs it within an SPI connection, under the snapshot of the query that called us, and puts the
// rows into `store`, which was made in `store_context`.
void run_query(const QueryText* query, Planning planning, Tuplestorestate* store,
               MemoryContext store_context);

}  // namespace meter::pg
