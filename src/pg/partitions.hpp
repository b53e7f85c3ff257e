// The monthly partitions of meter.meter_event.
#pragma once

#include "pg/compat.hpp"

extern "C" {
#include "datatype/timestamp.h"
}

namespace meter::pg {

// To be called before an event of this time is written. Where its month has no partition, takes the
// lock on the default one that the insertion takes anyway, but before the partition is chosen: a
// partition that is being made meanwhile is waited for and then used, where the insertion alone
// would wait for it and then fail, since the default partition takes no such rows any more.
void hold_default_partition(TimestampTz time);

}  // namespace meter::pg
