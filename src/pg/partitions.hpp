// The monthly partitions of meter.meter_event.
#pragma once

#include "pg/compat.hpp"

extern "C" {
#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
}

namespace meter::pg {

// To be called before an event of this time is written. Where its month has no partition, takes the
// lock on the default one that the insertion takes anyway, but before the partition is chosen: a
// partition that is being made meanwhile is waited for and then used, where the insertion alone
// would wait for it and then fail, since the default partition takes no such rows any more.
void hold_default_partition(TimestampTz time);

// To be called before a statement that reads all events of some months and takes its snapshot itself.
// Holds the default partition until the transaction ends, after whoever is moving events out of it:
// the planner reads which partitions there are before it waits for their locks, and would leave out
// the one that the events have moved to.
void hold_partitions();

// Months ahead of now that partitions are made for, unless someone asks for others.
inline constexpr int kMonthsAhead = 3;

// Makes the partitions that are missing from the month of `since` to `ahead` months from now, and
// returns them as a list of OIDs. Waits for each lock up to `lock_timeout` (text as the setting
// takes it), and events of months without a partition may wait behind it as long. A month whose
// events are in the default partition is left out, and reported at `default_level`; one before the
// horizon is left out. Runs within begin_owner_call(). Raises lock_not_available; throws for bad
// arguments.
List* make_partitions(TimestampTz since, int ahead, const char* lock_timeout, int default_level);

}  // namespace meter::pg
