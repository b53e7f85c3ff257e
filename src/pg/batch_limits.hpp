// Hard limits in a batch: each item that is to be recorded is judged by itself, in order.
#pragma once

#include "pg/compat.hpp"

#include "pg/batch_items.hpp"

namespace meter::pg {

// Holds the counters of all limits that apply to items that are to be recorded, and raises them by
// those items, in order, that do not exceed one; the others are over the limit, with an error. To
// be called once the keys are claimed.
void judge_limits(Batch& batch);

}  // namespace meter::pg
