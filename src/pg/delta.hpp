// Deltas: what the events of a statement add to the rollups, written with them.
#pragma once

#include "pg/compat.hpp"

#include "core/cell_key.hpp"
#include "core/rollup_cell.hpp"
#include "pg/event.hpp"

namespace meter::pg {

// Writes the delta of one event.
void write_delta(const NewEvent& event);

// Writes the delta by which an event that was voided is taken back.
void write_void_delta(const NewEvent& event);

// Writes the deltas of `count` events: one for each meter, user, dimensions and UTC hour.
void write_deltas(const NewEvent* events, int count);

// A delta to be written: what the events of the hour that starts at key->start add up to.
struct DeltaRow {
    const CellKey* key;
    const RollupCell* cell;
    Datum user;        // text, key->user_id
    Datum dimensions;  // jsonb
    Datum value;       // of the one event there is, a numeric, from which the rest follows; or 0
    bool voided;       // the cell is what voided events take back
};

// Writes deltas into a generation.
void insert_deltas(const DeltaRow* deltas, int count, int32 generation);

}  // namespace meter::pg
