// Making rollups anew from the events.
#pragma once

#include "pg/compat.hpp"

namespace meter::pg {

// Makes the cells of meters (an int4[]) anew for the UTC months that [from, to), in microseconds
// since 1970 and not empty, touches, and folds what else is there. Returns how many events there
// are. The caller holds the fold lock, taken in a statement before. Runs within an SPI connection,
// as the owner.
// Throws meter::Error where events of the first one were dropped; `action` completes "cannot ... the
// month of".
int64 rebuild_months(Datum meters, int64 from, int64 to, const char* action);

}  // namespace meter::pg
