// Changing a counter of meter.limit_usage without the executor.
//
// That is right for a plain table alone: with the columns and the key that the install script gave
// it, and without triggers, rules, row security and the like. For any other table, and where one
// snapshot serves the whole transaction, the caller goes through SPI.
#pragma once

#include "pg/compat.hpp"

#include "pg/limit_usage.hpp"

namespace meter::pg {

enum class CounterChange {
    kDone,     // it is as asked for
    kOver,     // it would exceed the limit, and is as it was
    kMissing,  // there is none
    kUnfit     // not to be had without the executor
};

// Raises the counter by `more`, waiting for whoever is about to change it; with `refuse` not beyond
// the limit. `usage` is what it was, where it is kOver.
CounterChange raise_directly(const LimitCounter& counter, Datum more, bool refuse, Datum* usage);

// Whether it is there, committed or about to be: kDone, kMissing or kUnfit.
CounterChange look_for_counter(const LimitCounter& counter);

}  // namespace meter::pg
