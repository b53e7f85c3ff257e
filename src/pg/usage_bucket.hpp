// The arguments that say which calendar bucket, checked.
#pragma once

#include "pg/compat.hpp"

#include <string_view>

extern "C" {
#include "datatype/timestamp.h"
}

#include "core/calendar.hpp"

namespace meter::pg {

// The bucket of that name. Raises invalid_parameter_value, naming the argument bucket.
Bucket find_bucket(std::string_view name);

// Microseconds since 1970 of a timestamp that the calendar covers. Raises invalid_parameter_value,
// naming `argument`, for an infinity and outside the years 1 to 10000.
std::int64_t calendar_time(TimestampTz time, const char* argument);

}  // namespace meter::pg
