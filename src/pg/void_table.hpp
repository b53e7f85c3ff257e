// Writing straight into meter.event_void.
#pragma once

#include "pg/compat.hpp"

#include <string_view>

#include "pg/event.hpp"

namespace meter::pg {

// Voids the event whose meter, user, time and id are given, and fills in its value, key and
// dimensions, as stored. False, with nothing written, where it is not there, where somebody has
// voided it or is about to, or where the tables are not plain (table_writer.hpp): then it is to be
// done by SQL. Locks on meter.meter_event and meter.event_void, in ROW EXCLUSIVE mode, are the
// caller's. Raises PostgreSQL errors.
bool void_directly(NewEvent* event, std::string_view reason, Datum role);

}  // namespace meter::pg
