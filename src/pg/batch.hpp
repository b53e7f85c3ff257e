// Recording many events in one call, each judged by itself.
#pragma once

#include "pg/compat.hpp"

#include <vector>

#include "core/event.hpp"
#include "pg/caller.hpp"
#include "pg/set_result.hpp"

namespace meter::pg {

// Records `events`, in order, and puts one row (ordinal, event_id, status, error) for each into
// `set`. With `strict` the first item that is invalid or in conflict is raised as an error, and
// nothing is recorded. `events` lives in a memory context and is used up.
void record_batch(const Call& call, std::vector<EventInput>* events, bool strict,
                  const SetResult& set);

// Records `events`, in order, all of them or, with an error, none, and returns how many had been
// recorded before. An error counts events from `before` + 1 on. `events` lives in a memory context
// and is used up.
int64 record_all(const Call& call, std::vector<EventInput>* events, int64 before);

}  // namespace meter::pg
