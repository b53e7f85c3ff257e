// Deltas: what the events of a statement add to the rollups, written with them.
#pragma once

#include "pg/compat.hpp"

#include "core/cell_key.hpp"
#include "core/rollup_cell.hpp"
#include "pg/cells.hpp"
#include "pg/event.hpp"

namespace meter::pg {

// Writes the delta of one event.
void write_delta(const NewEvent& event);

// Writes the deltas of `count` events: one for each meter, user, dimensions and UTC hour.
void write_deltas(const NewEvent* events, int count);

// Columns for up to `capacity` deltas, to be filled by put_delta() and written by insert_deltas().
Columns make_delta_columns(int capacity);

// Adds a delta: what the events of key.start's hour add up to. `is_event`: they are one, from which
// minimum, maximum and the like follow.
void put_delta(Columns& columns, const CellKey& key, const RollupCell& cell, Datum dimensions,
               bool is_event);

// Writes the deltas into a generation.
void insert_deltas(const Columns& columns, int32 generation);

}  // namespace meter::pg
