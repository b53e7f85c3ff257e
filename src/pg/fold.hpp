// Folding: moving deltas into the rollups.
#pragma once

#include "pg/compat.hpp"

namespace meter::pg {

// The lock under which alone the rollups change. To be taken in a statement before the one whose
// snapshot the change uses, and held to the end of the transaction. With `wait` false, returns
// whether it was to be had.
bool take_fold_lock(bool wait);

// Raises an error unless the transaction sees, with each statement, what has been committed: above
// READ COMMITTED a change could be lost. `action` completes "cannot ...".
void require_read_committed(const char* action);

// Raises an error where a subscription writes the rollups: a cell that were made here too would
// stop it when the publisher's comes. `action` completes "cannot ...".
void require_no_subscription(const char* action);

// Moves deltas into the rollups: those committed by now, or `max_deltas` of them and a few more.
// Returns their number: 0 where there are none, or where the lock is taken. Deltas that cannot be
// folded are set aside, with a warning. Runs within an SPI connection, as the owner.
uint64 fold_pending(int64 max_deltas);

}  // namespace meter::pg
