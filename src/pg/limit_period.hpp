// The periods that limits and alerts are for: calendar buckets of a time zone, and all time.
#pragma once

#include "pg/compat.hpp"

#include <string_view>

extern "C" {
#include "datatype/timestamp.h"
}

#include "core/calendar.hpp"

namespace meter::pg {

// Each by its first letter, which is what tables keep.
enum class LimitPeriod : char {
    kHour = 'h',
    kDay = 'd',
    kWeek = 'w',
    kMonth = 'm',
    kYear = 'y',
    kTotal = 't'
};

// The period of that name. Throws meter::Error, naming the argument period, for any other.
LimitPeriod find_limit_period(std::string_view name);

// Its name.
const char* limit_period_name(LimitPeriod period);

// The period that an instant lies in, in the time zone of that name; that of all time is
// kAllTime. Raises invalid_parameter_value for a zone that is not known.
TimeSpan limit_span(LimitPeriod period, std::string_view zone, int64 time);

// All times that an event can have.
extern const TimeSpan kAllTime;

// How the start or the end of a span is stored and shown: those of all time are the infinities.
TimestampTz stored_start(const TimeSpan& span);
TimestampTz stored_end(const TimeSpan& span);

}  // namespace meter::pg
