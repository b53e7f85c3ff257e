// What other changes mean for a meter's alerts.
#pragma once

#include "pg/compat.hpp"

namespace meter::pg {

// Whether a meter has rules of alerts.
bool has_alerts(int32 meter_id);

// Lets the next fold look at all rules of a meter anew, or at those by percentages of the limit
// alone.
void look_again(int32 meter_id, bool percents_only);

// Removes rules and alerts of a meter that is dropped.
void drop_alerts(int32 meter_id);

// Gives the rules and alerts of a user of these meters (int4[]) to `replacement`, or with 0 removes
// them. The caller holds the fold lock.
void rename_alerts(Datum meters, Datum user, Datum replacement);

}  // namespace meter::pg
