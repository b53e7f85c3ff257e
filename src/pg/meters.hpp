// What others need of the meters' definitions.
#pragma once

#include "pg/compat.hpp"

#include <string_view>

#include "pg/caller.hpp"

namespace meter::pg {

// The number of the meter called `event_name`, locked so that no two changes of one meter
// interleave, and none with events being recorded. Raises undefined_object where there is none.
int32 lock_existing(const Call& call, std::string_view event_name);

}  // namespace meter::pg
