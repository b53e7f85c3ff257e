// What voided events mean for the source of a usage query: cells that cannot tell minimum, maximum
// or last any more, and events that count no more.
#pragma once

#include "pg/compat.hpp"

#include "pg/usage_source.hpp"

namespace meter::pg {

// Leaves to the events those months and days of the cut of which a cell, or a delta, cannot tell
// minimum, maximum and last since an event of theirs was voided. `meters` is an int4[], `months`
// are those that have a dirty cell.
void leave_out_dirty(const UsageScope* scope, Datum meters, Datum generations,
                     const std::vector<TimeSpan>& months, PeriodCut* cut);

// What a delta or cell that is left out is found by in SQL: whether event `alias` was voided.
#define METER_IS_VOIDED(alias)                                           \
    "EXISTS (SELECT FROM meter.event_void v WHERE v.user_id = " alias    \
    ".user_id "                                                          \
    "AND v.meter_id = " alias ".meter_id AND v.event_timestamp = " alias \
    ".\"timestamp\" "                                                    \
    "AND v.event_id = " alias ".id)"

// Voided events with the columns of the events themselves, as a subquery.
#define METER_VOIDED_EVENTS                                                                 \
    "(SELECT v.event_id AS id, v.event_timestamp AS \"timestamp\", v.meter_id, v.user_id, " \
    "v.value, v.dimensions FROM meter.event_void v)"

}  // namespace meter::pg
