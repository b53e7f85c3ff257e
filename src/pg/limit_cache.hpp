// The hard limits that apply to a user, as a session remembers them.
#pragma once

#include "pg/compat.hpp"

#include <string_view>

#include "pg/limit_period.hpp"

namespace meter::pg {

// A hard limit. Plain data.
struct HardLimit {
    LimitPeriod period;
    std::string_view zone;
    Datum amount;   // numeric
    TimeSpan span;  // the period that was asked for last; empty where none was
};

// Those of a user of a meter, one for each period at most, in the order of LimitPeriod.
struct HardLimits {
    static constexpr int kMost = 6;
    bool counts;  // what counts are events; else their values
    int count;
    HardLimit items[kMost];
};

// The hard limits of a user, as they are committed now. Valid until the next call. Runs within an
// SPI connection, holding the meter's lock for recording or for change: without it they might
// change at once.
HardLimits& hard_limits_of(int32 meter_id, std::string_view user);

// The period of a limit that an instant lies in.
const TimeSpan& span_at(HardLimit& limit, int64 time);

}  // namespace meter::pg
