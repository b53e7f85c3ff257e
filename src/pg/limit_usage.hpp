// The counters of hard limits, meter.limit_usage: a user's exact usage of a period of a limit.
//
// Whoever records for a user to whom a hard limit applies changes the counter of each such period
// in the same transaction. So the counter is locked until that ends, the next one sees what came of
// it, and the limit is kept to the last unit; two users never wait for each other.
//
// A counter that is missing is made from the usage: its row is inserted first, which waits for
// anyone who is about to, and then the usage is read as it is committed now. Nobody else can have
// an event of the period under way then, since he would hold the row; and who recorded before there
// was a limit has ended before set_limit() committed it, by the meter's lock. So a counter may be
// removed at any time, by whoever holds its row.
//
// Counters are taken in one order, those that are missing before all others, and after the keys.
#pragma once

#include "pg/compat.hpp"

#include <string_view>

#include "core/error.hpp"
#include "pg/limit_cache.hpp"

namespace meter::pg {

// Which counter, and what it is for. Plain data.
struct LimitCounter {
    int32 meter_id;
    LimitPeriod period;
    bool counts;
    TimeSpan span;
    Datum user;    // text
    Datum amount;  // numeric: the limit
};

// The counters of a user's events of an instant: at most HardLimits::kMost, in their order. Returns
// how many there are.
int counters_of(int32 meter_id, Datum user, int64 time, LimitCounter* counters);

// Whether two are the same counter, and their order.
bool same_counter(const LimitCounter& a, const LimitCounter& b);
bool counter_before(const LimitCounter& a, const LimitCounter& b);

// Raises the counters of an event that is about to be written; throws meter::Error kOverLimit where
// one would exceed its limit. `event_name` is the meter's. An event that raises nothing is never
// refused.
void charge_event(int32 meter_id, std::string_view event_name, Datum user, int64 time, Datum value);

// Changes the counters of a user's events of an instant by a sum of values and a number of events,
// and refuses nothing: for what corrects usage. The events and deltas that say the same are written
// already, in this transaction. The meter is locked for recording. Numbers may be negative.
void adjust_limit_usage(int32 meter_id, Datum user, int64 time, Datum value, int64 count);

// Removes counters, and keeps others from making them until the end of the transaction: where what
// was written is not what was charged. Sorts them.
void forget_counters(LimitCounter* counters, int count);

// A counter that is held: its row is locked to the end of the transaction.
struct HeldCounter {
    ItemPointerData tid;
    Datum usage;  // numeric
};

// Holds counters, which are in order and distinct, making those that are missing.
void hold_counters(const LimitCounter* counters, int count, HeldCounter* held);

// Writes the usage of counters that are held.
void store_counters(const HeldCounter* held, int count);

// Whether `usage` and `more` exceed the limit, provided `more` raises it.
bool exceeds(const LimitCounter& counter, Datum usage, Datum more);

// The same of their sum.
bool is_too_much(const LimitCounter& counter, Datum sum, Datum more);

// The error that says so.
Error over_limit_error(const LimitCounter& counter, std::string_view event_name, Datum usage,
                       Datum more);

// Removes the counters of a meter's limit: those of one user, or with 0 of all.
void forget_counters(int32 meter_id, Datum user, LimitPeriod period);
// All counters of a meter.
void forget_counters(int32 meter_id);

// Keeps others from making counters for two users, to the end of the transaction: whoever made one
// has ended.
void hold_off_new_counters(std::string_view user, std::string_view other);

// Removes counters of periods that ended some time ago, `most` at most. Returns how many.
uint64 remove_past_counters(int64 most);

}  // namespace meter::pg
