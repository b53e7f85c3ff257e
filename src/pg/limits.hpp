// What other changes of a meter mean for its limits. The meter is locked for change.
#pragma once

#include "pg/compat.hpp"

#include <string_view>

namespace meter::pg {

// Raises an error where the transaction does not see what is committed: what was made meanwhile
// would stay. `action` completes "cannot ...".
void require_latest(const char* action);

// Throws meter::Error where a meter of that aggregation cannot have limits. `event_name` is the
// meter's.
void check_limitable(std::string_view event_name, std::string_view aggregation);

// To be called before a meter's aggregation becomes another: throws meter::Error where it has
// limits and could not have them then; its counters are forgotten.
void change_limits_aggregation(int32 meter_id, std::string_view event_name,
                               std::string_view aggregation);

// Removes the limits of a meter that is dropped.
void drop_limits(int32 meter_id);

// Locks those of the meters (int4[]) for change that have limits of a user or, unless it is 0, of
// `replacement`: other limits are to apply to their events, and who records has to know. Who
// records holds the meter when he makes a counter, so this comes before hold_off_new_counters().
void lock_limited_meters(Datum meters, Datum user, Datum replacement);

// Gives the limits of a user of these meters to `replacement`, or with 0 removes them, and forgets
// both users' counters. lock_limited_meters() and hold_off_new_counters() have been called for
// both.
void rename_limits(Datum meters, Datum user, Datum replacement);

}  // namespace meter::pg
