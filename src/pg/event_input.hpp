// An event as a row of SQL values.
#pragma once

#include "pg/compat.hpp"

#include "core/event.hpp"

namespace meter::pg {

// The columns of an event, in the order of record_events' arguments but for the types: text, text,
// numeric, jsonb, text, timestamptz, jsonb.
enum {
    kEventNameColumn,
    kUserIdColumn,
    kValueColumn,
    kDimensionsColumn,
    kIdempotencyColumn,
    kTimestampColumn,
    kMetadataColumn,
    kEventColumns
};

// Reads an event from its columns; a null is the default. What is wrong with it is its `error`;
// PostgreSQL's errors are raised. What it allocates is in the current memory context.
void read_event(const Datum* values, const bool* nulls, EventInput& event);

}  // namespace meter::pg
