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
    std::sort(tids, tids + count, [](const ItemPointerData& a, const ItemPointerData& b) {
        const BlockNumber left = ItemPointerGetBlockNumberNoCheck(&a);
        const BlockNumber right = ItemPointerGetBlockNumberNoCheck(&b);
        return left != right
                   ? left < right
                   : ItemPointerGetOffsetNumberNoCheck(&a) < ItemPointerGetOffsetNumberNoCheck(&b);
    });
}

}  // namespace meter::pg
