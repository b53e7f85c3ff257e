// What other changes of a meter mean for its limits. The meter is locked for change.
#pragma once

#include "pg/compat.hpp"

#include <string_view>

namespace meter::pg {

// Throws meter::Error where a meter of that aggregation cannot have limits. `event_name` is the
// meter's.
void check_limitable(std::string_view event_name, std::string_view aggregation);

// To be called before a meter's aggregation becomes another: throws meter::Error where it has
// limits and could not have them then; its counters are forgotten.
void change_limits_aggregation(int32 meter_id, std::string_view event_name,
                               std::string_view aggregation);

// Removes the limits of a meter that is dropped.
void drop_limits(int32 meter_id);

// Gives the limits of a user of these meters (int4[]) to `replacement`, or with 0 removes them, and
// forgets both users' counters. Locks those meters for change that have limits of either.
// hold_off_new_counters() has been called for both.
void rename_limits(Datum meters, Datum user, Datum replacement);

}  // namespace meter::pg
