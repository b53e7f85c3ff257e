// Closed periods, and the statements of what was billed for them.
#pragma once

#include "pg/compat.hpp"

extern "C" {
#include "datatype/timestamp.h"
}

namespace meter::pg {

// Throws meter::Error where the event's new time lies in a closed period of the meter, unless its
// time so far lies in the same: no event is moved into what was billed.
void check_not_moved_into_closed(int32 meter_id, TimestampTz from, TimestampTz to);

// Keeps close_period() out, and waits for it, until the end of the transaction.
void lock_closes();

// Runs `body`, which may change statements.
template <typename Body>
void change_statements(Body&& body) {
    extern bool statement_changes_allowed;
    statement_changes_allowed = true;
    PG_TRY();
    { body(); }
    PG_FINALLY();
    { statement_changes_allowed = false; }
    PG_END_TRY();
}

// For drop_events(): throws meter::Error where a period that can still change, closed or not, could
// not be told any more once all events before `before` are gone. Meters that were never closed are
// let be.
void check_closed_periods(TimestampTz before);

// For drop_events(), once nobody records before `before` any more and while all events are there:
// marks the closed periods before it that are as billed as settled. Throws meter::Error where
// another, which could not be told without its events, is not, and what check_closed_periods()
// does.
void settle_closed_periods(TimestampTz before);

}  // namespace meter::pg
