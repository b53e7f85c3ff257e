// Recording many events in one call, each judged by itself.
#pragma once

#include "pg/compat.hpp"

#include "pg/batch_items.hpp"
#include "pg/set_result.hpp"

namespace meter::pg {

// Records the items of the batch, in order, and puts one row (ordinal, event_id, status, error) for
// each into `set`. With `strict` the first item that is invalid or in conflict is raised as an
// error, and nothing is recorded.
void record_batch(Batch& batch, bool strict, const SetResult& set);

// Records the items of the batch, in order, all of them or, with an error, none, and returns how
// many had been recorded before. An error counts items from `before` + 1 on.
int64 record_all(Batch& batch, int64 before);

}  // namespace meter::pg
