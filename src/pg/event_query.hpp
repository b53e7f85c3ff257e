// Queries over meter.meter_event under the snapshot of the query that called us.
//
// The planner leaves out partitions by the bounds they have now. Rows may have moved since that
// snapshot: where a month was taken out of the default partition, an older snapshot sees its events
// where they were, in a partition that the planner would leave out, and none in the new one.
#pragma once

#include "pg/compat.hpp"

#include "pg/query_text.hpp"

namespace meter::pg {

// Whether every partition of meter.meter_event was one already for the active snapshot. To be asked
// before a query, to choose how to plan it, and after it: an attaching may commit in between.
bool snapshot_knows_partitions();

// Makes the planner read every partition, until the GUC level that the caller has opened ends.
void read_every_partition();

// Runs a query as run_query() does, and reads every partition where the snapshot asks for it.
void run_event_query(const QueryText* query, Planning planning, Tuplestorestate* store,
                     MemoryContext store_context);

}  // namespace meter::pg
