// Set-returning functions that materialise their rows.
#pragma once

#include "pg/compat.hpp"

extern "C" {
#include "utils/tuplestore.h"
}

namespace meter::pg {

// Where the rows go.
struct SetResult {
    Tuplestorestate* store;
    TupleDesc descriptor;
    MemoryContext context;  // in which the store was made
};

// Prepares the caller to receive rows, of the type it expects; raises feature_not_supported where
// it expects none. Call before begin_call(): the store belongs to the caller's query.
SetResult begin_set(FunctionCallInfo fcinfo);

// Adds a row.
inline void put_row(const SetResult& set, const Datum* values, const bool* nulls) {
    tuplestore_putvalues(set.store, set.descriptor, const_cast<Datum*>(values),
                         const_cast<bool*>(nulls));
}

// Adds every row of the last SPI result, whose columns are the set's.
void put_spi_rows(const SetResult& set);

}  // namespace meter::pg
