// Reads and makes numeric values by their on-disk format, without text between.
//
// The format is numeric.c's own affair, but it has been on disk unchanged since 9.1 (the infinities
// came with 14), and pg_upgrade relies on it.
#pragma once

#include "pg/compat.hpp"

#include "core/base10k.hpp"

namespace meter::pg {

// A view of a numeric, normalised. It points into the datum, or where that had to be detoasted to
// memory in the current context.
NumberView view_numeric(Datum numeric);

// Whether `numeric`, which `number` is a view of, has no more decimals than its digits need.
bool is_trimmed(Datum numeric, const NumberView& number);

// Whether the number keeps to the bounds of an event's value: below 10^30, with at most 18
// decimals.
bool is_event_value(const NumberView& number);

// A numeric in the current memory context, its scale no larger than its digits need. Throws Error
// kOutOfRange where numeric has no room for the number.
struct varlena* make_numeric(const NumberView& number);

}  // namespace meter::pg
