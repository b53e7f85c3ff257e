// What one user used of one meter.
#pragma once

#include "pg/compat.hpp"

#include "core/calendar.hpp"

namespace meter::pg {

// The exact usage of a user in a span, by count or by sum, a numeric in the current memory context,
// as the active snapshot sees it. Runs within an SPI connection. Throws meter::Error where it
// cannot be told any more without events that have been dropped.
Datum user_usage(int32 meter_id, Datum user, const TimeSpan& span, bool counts);

// The same as it is committed now, whatever the isolation level, with what this transaction did.
Datum latest_user_usage(int32 meter_id, Datum user, const TimeSpan& span, bool counts);

// The same; false where it cannot be told any more.
bool tell_latest_usage(int32 meter_id, Datum user, const TimeSpan& span, bool counts, Datum* usage);

}  // namespace meter::pg
