// Arrays of SQL taken apart.
#pragma once

#include "pg/compat.hpp"

extern "C" {
#include "utils/array.h"
}

namespace meter::pg {

struct Elements {
    int count;
    Datum* items;
};

// The elements of an array of a type that is passed by value, 4 or 8 bytes long. Raises an error
// where one is null.
inline Elements elements_of(Datum array, Oid type, int length) {
    Elements elements{};
    deconstruct_array(DatumGetArrayTypeP(array), type, length, true,
                      length == 8 ? TYPALIGN_DOUBLE : TYPALIGN_INT, &elements.items, nullptr,
                      &elements.count);
    return elements;
}

}  // namespace meter::pg
