// Folding: moving deltas into the rollups.
//
// A fold into cells leaves a version of every cell that it changes. Where an old snapshot keeps
// those, readers would pass by one for each fold since. So a fold then mostly adds deltas up and
// puts them back as a run: fewer deltas, in a generation of their own. What it leaves behind lies
// in generations that are closed, which readers leave out. Runs of about the same size are merged,
// each at least twice as large as the next; so there are few, and a delta is rewritten seldom.
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

// Where a fold is to put deltas.
enum class Fold {
    kBounded,    // into cells, or while an old snapshot keeps their versions mostly into runs
    kIntoCells,  // into cells
};

// Folds the deltas committed by now, or `max_deltas` of them and a few more. Returns how many it
// moved: 0 where there are none, or where the lock is taken. Deltas that cannot be folded are set
// aside, with a warning. Runs within an SPI connection, as the owner.
// Deltas of generation `unlisted`, unless it is 0, are folded too.
uint64 fold_pending(int64 max_deltas, Fold how, int32 unlisted = 0);

// A generation for deltas that this transaction writes to fold them itself: it is not among the
// open ones, so that no reader looks at what is in it. The caller holds the fold lock.
int32 generation_to_fold();

}  // namespace meter::pg
