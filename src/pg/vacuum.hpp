// When and how meter.rollup_pending is vacuumed.
#pragma once

#include "pg/compat.hpp"

namespace meter::pg {

// Takes note that a transaction that is committed now has deleted so many deltas. `next_xid` was
// the next transaction's number when it had.
void note_folded(TransactionId next_xid, uint64 deltas);

// Vacuums meter.rollup_pending where enough of what was noted could be removed by now. Runs outside
// of a transaction, in a memory context that outlives it. Returns whether it did. Raises PostgreSQL
// errors.
bool vacuum_pending();

}  // namespace meter::pg
