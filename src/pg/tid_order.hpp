// The order in which rows are best visited.
#pragma once

#include "pg/compat.hpp"

#include <algorithm>

extern "C" {
#include "storage/itemptr.h"
}

namespace meter::pg {

// Sorts places of rows such that each page is visited once.
inline void sort_by_page(ItemPointerData* tids, int count) {
    const auto place = [](const ItemPointerData& tid) {
        return static_cast<uint64>(ItemPointerGetBlockNumberNoCheck(&tid)) << 16 |
               ItemPointerGetOffsetNumberNoCheck(&tid);
    };
    std::sort(tids, tids + count, [&](const ItemPointerData& a, const ItemPointerData& b) {
        return place(a) < place(b);
    });
}

}  // namespace meter::pg
