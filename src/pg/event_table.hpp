// Writing events straight into the partitions of meter.meter_event.
#pragma once

#include "pg/compat.hpp"

#include "pg/event.hpp"

namespace meter::pg {

// Writes the events into their partitions, if the table and all of these are plain
// (table_writer.hpp); false, with nothing written, if they are not. Their deltas are the
// caller's, and so is the lock on meter.meter_event, in ROW EXCLUSIVE mode.
bool insert_events_directly(const NewEvent* events, int count);

// Reads the event whose meter, user, time and id are given, as the active snapshot sees it, and
// fills in value, key and dimensions, as stored; not the digest, nor the metadata. False where it
// is not there, or where that cannot be told without SQL. meter.meter_event is locked.
bool read_event_directly(NewEvent* event);

}  // namespace meter::pg
