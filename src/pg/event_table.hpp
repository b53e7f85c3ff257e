// Writing events straight into the partitions of meter.meter_event.
#pragma once

#include "pg/compat.hpp"

#include "pg/event.hpp"

namespace meter::pg {

// Writes the events into their partitions, if the table and all of these are plain
// (table_writer.hpp); false, with nothing written, if they are not. Their deltas are the
// caller's, and so is the lock on meter.meter_event, in ROW EXCLUSIVE mode.
bool insert_events_directly(const NewEvent* events, int count);

}  // namespace meter::pg
