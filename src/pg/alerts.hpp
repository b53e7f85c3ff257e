// What other changes mean for a meter's alerts.
#pragma once

#include "pg/compat.hpp"

#include <string_view>

namespace meter::pg {

// Whether a meter has rules of alerts.
bool has_alerts(int32 meter_id);

// Lets the next folds look at the current period of a user, or with 0 of all, for the percentages
// of a limit by `period`.
void look_at_limit_again(int32 meter_id, Datum user, std::string_view period);

// The same for all rules of a meter and all users.
void look_again(int32 meter_id);

// Removes rules and alerts of a meter that is dropped.
void drop_alerts(int32 meter_id);

// Gives the rules and alerts of a user of these meters (int4[]) to `replacement`, or with 0 removes
// them. The caller holds the fold lock.
void rename_alerts(Datum meters, Datum user, Datum replacement);

}  // namespace meter::pg
