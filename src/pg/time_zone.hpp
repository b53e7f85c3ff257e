// PostgreSQL's time zones as values that core code can compute with.
#pragma once

#include "pg/compat.hpp"

extern "C" {
#include "pgtime.h"
}

#include <cstdint>
#include <string_view>

#include "core/calendar.hpp"

namespace meter::pg {

// A time zone, and the transitions of it that were asked for so far. Made by make_in() and used
// through a pointer: it owns memory.
class ZoneTransitions {
  public:
    explicit ZoneTransitions(const pg_tz* zone) noexcept : tz_(zone) {}

    // The zone with all transitions that bucket_of() needs for the instants from `from` to `to`.
    // Raises no PostgreSQL error; throws std::bad_alloc.
    const TimeZone& covering(std::int64_t from, std::int64_t to);

  private:
    void load(std::int64_t from, std::int64_t to);

    const pg_tz* tz_;
    TimeZone zone_;
    std::int64_t from_ = 0;  // what zone_ covers; nothing yet where from_ >= to_
    std::int64_t to_ = 0;
};

// The time zone of that name in the time zone database. Raises invalid_parameter_value, naming the
// argument time_zone, for any other name: also for the POSIX notation, whose signs are the reverse
// of everyone's expectation ('+05:30' is west of Greenwich there).
const pg_tz* find_time_zone(std::string_view name);

// Whether find_time_zone() would find it.
bool is_time_zone(std::string_view name);

}  // namespace meter::pg
