// The horizon: events before it have been dropped by meter.drop_events(), or are about to be. None
// is recorded any more, or a retry whose key is gone would count twice, and what only those events
// could tell is refused.
//
// drop_events() commits the horizon first, then waits for all who hold it by hold_horizon(), and
// only then deletes. So a recorder has either seen the horizon, or its events are there to be
// dropped; and a reader who has read the events, and sees no new horizon afterwards, has read all.
#pragma once

#include "pg/compat.hpp"

#include "pg/usage_source.hpp"

extern "C" {
#include "storage/lockdefs.h"
}

namespace meter::pg {

// The latest committed horizon, in microseconds since 1970; PG_INT64_MIN where there is none. Runs
// within an SPI connection.
int64 horizon();

// Raises serialization_failure where the snapshot of the query that called us is older than the
// horizon: what it read before it must not be less now.
void require_known_horizon();

// The horizon, and until the end of the transaction drop_events() waits before it deletes.
int64 hold_horizon();

// Throws meter::Error where an event of this time may not be recorded any more. Makes no PostgreSQL
// calls. Times are in microseconds since 1970.
void check_retained(int64 time, int64 horizon);

// Throws meter::Error where the source reads events that have been dropped. To be called before the
// query is run, to spare it, and after it: only then are the partitions locked that it read.
void require_events(const UsageSource& source);

// Throws meter::Error where an event of this time, which an answer needs, has been dropped.
void require_event(int64 time);

// Throws meter::Error where events of the UTC month of `time` lie before the horizon `dropped`.
// `action` completes "cannot ... the month of".
void require_months(int64 time, int64 dropped, const char* action);

// Holds off all others who drop, move or erase events: until the end of the transaction, or for
// `session` until release_retention_lock() or an error.
void take_retention_lock(bool session);
void release_retention_lock();

// Waits until every transaction that holds the horizon has ended. Others may come meanwhile.
void wait_for_recorders();

// Locks a relation, or returns false where that takes longer than `timeout`, as lock_timeout takes
// it. Whoever asks for the relation meanwhile waits behind us.
bool lock_within(Oid relation, LOCKMODE mode, const char* timeout);

// The error for a relation that could not be locked in time.
[[noreturn]] void raise_lock_timeout(Oid relation, const char* timeout);

// Sleeps, and can be cancelled.
void sleep_for(long milliseconds);

// Opens an SPI connection for a procedure that commits as it goes, by SPI_commit(). Raises
// insufficient_privilege for all but the owner, and invalid_transaction_termination where it cannot
// commit, as within a transaction block. `action` completes "permission denied to ...".
void begin_procedure(FunctionCallInfo fcinfo, const char* name, const char* action);

}  // namespace meter::pg
