// Deltas: what the events of a statement add to the rollups, written with them.
#pragma once

#include "pg/compat.hpp"

#include "pg/event.hpp"

namespace meter::pg {

// Writes the delta of one event.
void write_delta(const NewEvent& event);

// Writes the deltas of `count` events: one for each meter, user, dimensions and UTC hour.
void write_deltas(const NewEvent* events, int count);

}  // namespace meter::pg
