#include "pg/limit_usage.hpp"

#include <algorithm>
#include <cstring>
#include <string>

#include "core/text.hpp"
#include "core/timestamp.hpp"
#include "pg/catalog.hpp"
#include "pg/cells.hpp"
#include "pg/limit_table.hpp"
#include "pg/memory.hpp"
#include "pg/numeric.hpp"
#include "pg/spi.hpp"
#include "pg/user_usage.hpp"
#include "pg/values.hpp"

extern "C" {
#include "common/hashfn.h"
#include "storage/lmgr.h"
#include "utils/datum.h"
#include "utils/numeric.h"
}

namespace meter::pg {

namespace {

// The parameters that say which counter: $1 to $4 of the statements below.
#define METER_COUNTER_KEY "meter_id = $1 AND user_id = $2 AND period = $3 AND period_start = $4"
#define METER_COUNTER_TYPES INT4OID, TEXTOID, CHAROID, TIMESTAMPTZOID

void put_key(Datum* values, const LimitCounter& counter) {
    values[0] = Int32GetDatum(counter.meter_id);
    values[1] = counter.user;
    values[2] = CharGetDatum(static_cast<char>(counter.period));
    values[3] = TimestampTzGetDatum(stored_start(counter.span));
}

Datum numeric_of(int64 number) {
    return NumericGetDatum(int64_to_numeric(number));
}

// The objects that stand for users where counters are made. Few: a transaction may make any number
// of counters, and the server has room for so many locks only.
constexpr uint32 kLockObjects = 64;

// Which of them stands for the user.
uint32 lock_object(std::string_view user) {
    return DatumGetUInt32(hash_any(reinterpret_cast<const unsigned char*>(user.data()),
                                   static_cast<int>(user.size()))) %
           kLockObjects;
}

// Locks those objects whose bits are set, in order.
void lock_objects(uint64 objects, LOCKMODE mode) {
    for (uint32 object = 0; object < kLockObjects; ++object)
        if (objects & (UINT64CONST(1) << object))
            LockDatabaseObject(relations().limit_usage, static_cast<Oid>(object), 0, mode);
}

uint64 lock_bit(std::string_view user) {
    return UINT64CONST(1) << lock_object(user);
}

// Copies where a row of the last result is, and its usage, from column `first` on.
HeldCounter held_of_row(uint64 row, int first) {
    bool null;
    HeldCounter held;
    held.tid = *reinterpret_cast<ItemPointer>(DatumGetPointer(result(row, first, &null)));
    held.usage = datumCopy(result(row, first + 1, &null), false, -1);
    return held;
}

// Makes the counter, which is missing, unless somebody else does. True where it did.
bool create_counter(const LimitCounter& counter) {
    static Statement insert = {
        "INSERT INTO meter.limit_usage (meter_id, user_id, period, period_start, usage) "
        "VALUES ($1, $2, $3, $4, 0) ON CONFLICT DO NOTHING RETURNING ctid, usage",
        {METER_COUNTER_TYPES}};
    lock_objects(lock_bit(text_view(counter.user)), RowExclusiveLock);
    Datum values[4];
    put_key(values, counter);
    const bool inserted = run(insert, values, nullptr, Run::kWrite) > 0;
    if (!inserted) {
        SPI_freetuptable(SPI_tuptable);
        return false;
    }
    HeldCounter held = held_of_row(0, 1);
    SPI_freetuptable(SPI_tuptable);
    held.usage = latest_user_usage(counter.meter_id, counter.user, counter.span, counter.counts);
    store_counters(&held, 1);
    return true;
}

// Sees that the counter, which is missing, stays so until the end of the transaction: who makes it
// later waits, and then reads what is written here. False where somebody has made it.
bool hold_absence(const LimitCounter& counter) {
    static Statement insert = {
        "INSERT INTO meter.limit_usage (meter_id, user_id, period, period_start, usage) "
        "VALUES ($1, $2, $3, $4, 0) ON CONFLICT DO NOTHING",
        {METER_COUNTER_TYPES}};
    static Statement remove = {"DELETE FROM meter.limit_usage WHERE " METER_COUNTER_KEY,
                               {METER_COUNTER_TYPES}};
    Datum values[4];
    put_key(values, counter);
    if (run(insert, values, nullptr, Run::kWrite) == 0)
        return false;
    run(remove, values, nullptr, Run::kWrite);
    return true;
}

// Locks a counter by SQL; false where there is none.
bool hold_by_sql(const LimitCounter& counter, HeldCounter* held) {
    static Statement lock = {"SELECT ctid, usage FROM meter.limit_usage WHERE " METER_COUNTER_KEY
                             " FOR NO KEY UPDATE",
                             {METER_COUNTER_TYPES},
                             true};
    Datum values[4];
    put_key(values, counter);
    const bool found = run(lock, values, nullptr, Run::kWrite) > 0;
    if (found)
        *held = held_of_row(0, 1);
    SPI_freetuptable(SPI_tuptable);
    return found;
}

// Raises a counter by SQL, as raise_directly() does.
CounterChange raise_by_sql(const LimitCounter& counter, Datum more, bool refuse, Datum* usage) {
    HeldCounter held;
    if (!hold_by_sql(counter, &held))
        return CounterChange::kMissing;
    if (refuse && exceeds(counter, held.usage, more)) {
        *usage = held.usage;
        return CounterChange::kOver;
    }
    held.usage = DirectFunctionCall2(numeric_add, held.usage, more);
    store_counters(&held, 1);
    return CounterChange::kDone;
}

CounterChange raise_counter(const LimitCounter& counter, Datum more, bool refuse, Datum* usage) {
    const CounterChange change = raise_directly(counter, more, refuse, usage);
    return change == CounterChange::kUnfit ? raise_by_sql(counter, more, refuse, usage) : change;
}

bool is_there(const LimitCounter& counter) {
    static Statement select = {
        "SELECT FROM meter.limit_usage WHERE " METER_COUNTER_KEY, {METER_COUNTER_TYPES}, true};
    switch (look_for_counter(counter)) {
        case CounterChange::kDone:
            return true;
        case CounterChange::kMissing:
            return false;
        default:
            Datum values[4];
            put_key(values, counter);
            return run(select, values, nullptr, Run::kWrite) > 0;
    }
}

// What an event, or several, add to a counter.
Datum addition(const LimitCounter& counter, Datum value, int64 count) {
    return counter.counts ? numeric_of(count) : value;
}

}  // namespace

int counters_of(int32 meter_id, Datum user, int64 time, LimitCounter* counters) {
    HardLimits& limits = hard_limits_of(meter_id, text_view(user));
    for (int i = 0; i < limits.count; ++i) {
        HardLimit& limit = limits.items[i];
        counters[i] = {meter_id, limit.period, limits.counts, span_at(limit, time),
                       user,     limit.amount};
    }
    return limits.count;
}

bool same_counter(const LimitCounter& a, const LimitCounter& b) {
    return a.meter_id == b.meter_id && a.period == b.period && a.span.start == b.span.start &&
           text_view(a.user) == text_view(b.user);
}

bool counter_before(const LimitCounter& a, const LimitCounter& b) {
    if (a.meter_id != b.meter_id)
        return a.meter_id < b.meter_id;
    if (const int order = text_view(a.user).compare(text_view(b.user)))
        return order < 0;
    return a.period != b.period ? a.period < b.period : a.span.start < b.span.start;
}

bool exceeds(const LimitCounter& counter, Datum usage, Datum more) {
    return is_too_much(counter, DirectFunctionCall2(numeric_add, usage, more), more);
}

bool is_too_much(const LimitCounter& counter, Datum sum, Datum more) {
    // What does not raise it is never too much.
    const NumberView raise = view_numeric(more);
    return !raise.negative && raise.count > 0 &&
           DatumGetBool(DirectFunctionCall2(numeric_gt, sum, counter.amount));
}

Error over_limit_error(const LimitCounter& counter, std::string_view event_name, Datum usage,
                       Datum more) {
    const auto number = [](Datum value) {
        return std::string(DatumGetCString(
            DirectFunctionCall1(numeric_out, DirectFunctionCall1(numeric_trim_scale, value))));
    };
    const bool total = counter.period == LimitPeriod::kTotal;
    const std::string per =
        total ? " in total" : std::string(" per ") + limit_period_name(counter.period);
    return Error(ErrorKind::kOverLimit,
                 "usage limit exceeded: meter " + quote_for_message(event_name) + ", user " +
                     quote_for_message(text_view(counter.user)) + ", limit " +
                     number(counter.amount) + per + ", used " + number(usage) + ", requested " +
                     number(more),
                 {},
                 total ? "The limit is for all time; meter.set_limit sets another."
                       : std::string("The ") + limit_period_name(counter.period) + " ends at " +
                             format_timestamp(counter.span.end) + ".");
}

void charge_event(int32 meter_id, std::string_view event_name, Datum user, int64 time,
                  Datum value) {
    LimitCounter counters[HardLimits::kMost];
    const int count = counters_of(meter_id, user, time, counters);
    // What a session remembers may go while a statement runs.
    for (int i = 0; i < count; ++i)
        counters[i].amount = datumCopy(counters[i].amount, false, -1);
    for (int i = 0; count > 1 && i < count; ++i)
        if (!is_there(counters[i]))
            create_counter(counters[i]);
    for (int i = 0; i < count; ++i) {
        const Datum more = addition(counters[i], value, 1);
        Datum usage = 0;
        CounterChange change;
        while ((change = raise_counter(counters[i], more, true, &usage)) ==
               CounterChange::kMissing) {
            CHECK_FOR_INTERRUPTS();
            create_counter(counters[i]);
        }
        if (change == CounterChange::kOver)
            throw over_limit_error(counters[i], event_name, usage, more);
    }
}

void adjust_limit_usage(int32 meter_id, Datum user, int64 time, Datum value, int64 count) {
    LimitCounter counters[HardLimits::kMost];
    const int counter_count = counters_of(meter_id, user, time, counters);
    for (int i = 0; i < counter_count; ++i) {
        Datum usage = 0;
        // One that is missing is not made: whoever needs it does so, of what is written by then. Of
        // a period that is partly dropped that may not be possible any more.
        while (raise_counter(counters[i], addition(counters[i], value, count), false, &usage) ==
                   CounterChange::kMissing &&
               !hold_absence(counters[i]))
            CHECK_FOR_INTERRUPTS();
    }
}

void forget_counters(LimitCounter* counters, int count) {
    static Statement remove = {"DELETE FROM meter.limit_usage WHERE " METER_COUNTER_KEY,
                               {METER_COUNTER_TYPES}};
    std::sort(counters, counters + count, counter_before);
    for (int i = 0; i < count; ++i) {
        if (i > 0 && same_counter(counters[i], counters[i - 1]))
            continue;
        Datum values[4];
        put_key(values, counters[i]);
        do
            CHECK_FOR_INTERRUPTS();
        while (run(remove, values, nullptr, Run::kWrite) == 0 && !hold_absence(counters[i]));
    }
}

void store_counters(const HeldCounter* held, int count) {
    // Not planned as a scan of the table, which a session might keep.
    static Statement update = {
        "UPDATE meter.limit_usage l SET usage = k.usage "
        "FROM unnest($1, $2) AS k (tid, usage) WHERE l.ctid = k.tid",
        {TIDARRAYOID, NUMERICARRAYOID},
        true};
    static Statement update_one = {"UPDATE meter.limit_usage SET usage = $2 WHERE ctid = $1",
                                   {TIDOID, NUMERICOID}};
    uint64 updated = 0;
    if (count == 1) {
        const Datum values[] = {PointerGetDatum(&held->tid), held->usage};
        updated = run(update_one, values, nullptr, Run::kWrite);
    } else {
        Columns columns = make_columns({TIDOID, NUMERICOID}, count);
        for (; columns.rows < count; ++columns.rows) {
            put(columns, 0, PointerGetDatum(&held[columns.rows].tid));
            put(columns, 1, held[columns.rows].usage);
        }
        Datum values[2];
        column_arrays(columns, values);
        updated = run(update, values, nullptr, Run::kWrite);
    }
    if (updated != static_cast<uint64>(count))
        elog(ERROR, "%llu of %d counters of limits were changed",
             static_cast<unsigned long long>(updated), count);
}

namespace {

// The keys of counters as arrays: parameters $1 to $4.
void put_keys(const LimitCounter* counters, int count, Datum* values) {
    Columns columns = make_columns({METER_COUNTER_TYPES}, count);
    for (; columns.rows < count; ++columns.rows) {
        Datum key[4];
        put_key(key, counters[columns.rows]);
        for (int i = 0; i < 4; ++i)
            put(columns, i, key[i]);
    }
    column_arrays(columns, values);
}

#define METER_COUNTER_KEYS                                                           \
    "FROM unnest($1, $2, $3, $4) WITH ORDINALITY AS k (meter_id, user_id, period, "  \
    "period_start, ordinality) JOIN meter.limit_usage l ON l.meter_id = k.meter_id " \
    "AND l.user_id = k.user_id AND l.period = k.period AND l.period_start = k.period_start"
#define METER_COUNTER_ARRAYS INT4ARRAYOID, TEXTARRAYOID, CHARARRAYOID, TIMESTAMPTZARRAYOID

// Makes the counters that are missing, in order.
void create_missing(const LimitCounter* counters, int count, const Datum* keys) {
    static Statement select = {
        "SELECT k.ordinality " METER_COUNTER_KEYS, {METER_COUNTER_ARRAYS}, true};
    const uint64 there = run(select, keys, nullptr, Run::kWrite);
    if (there == static_cast<uint64>(count)) {
        SPI_freetuptable(SPI_tuptable);
        return;
    }
    auto* is_there = static_cast<bool*>(palloc0(sizeof(bool) * static_cast<Size>(count)));
    for (uint64 row = 0; row < there; ++row) {
        bool null;
        is_there[DatumGetInt64(result(row, 1, &null)) - 1] = true;
    }
    SPI_freetuptable(SPI_tuptable);
    uint64 objects = 0;
    for (int i = 0; i < count; ++i)
        if (!is_there[i])
            objects |= lock_bit(text_view(counters[i].user));
    lock_objects(objects, RowExclusiveLock);
    const MemoryContext context =
        AllocSetContextCreate(CurrentMemoryContext, "a new counter", ALLOCSET_DEFAULT_SIZES);
    const MemoryContext caller_context = MemoryContextSwitchTo(context);
    for (int i = 0; i < count; ++i) {
        CHECK_FOR_INTERRUPTS();
        if (!is_there[i])
            create_counter(counters[i]);
        MemoryContextReset(context);
    }
    MemoryContextSwitchTo(caller_context);
    MemoryContextDelete(context);
    pfree(is_there);
}

}  // namespace

void hold_counters(const LimitCounter* counters, int count, HeldCounter* held) {
    static Statement lock = {"SELECT k.ordinality, l.ctid, l.usage " METER_COUNTER_KEYS
                             " ORDER BY k.ordinality FOR NO KEY UPDATE OF l",
                             {METER_COUNTER_ARRAYS},
                             true};
    if (count == 0)
        return;
    Datum keys[4];
    put_keys(counters, count, keys);
    for (;;) {
        create_missing(counters, count, keys);
        const uint64 found = run(lock, keys, nullptr, Run::kWrite);
        for (uint64 row = 0; row < found; ++row) {
            bool null;
            held[DatumGetInt64(result(row, 1, &null)) - 1] = held_of_row(row, 2);
        }
        SPI_freetuptable(SPI_tuptable);
        if (found == static_cast<uint64>(count))
            return;
        // One was removed in between.
        CHECK_FOR_INTERRUPTS();
    }
}

void forget_counters(int32 meter_id, Datum user, LimitPeriod period) {
    static Statement of_user = {
        "DELETE FROM meter.limit_usage WHERE meter_id = $1 AND period = $2 AND user_id = $3",
        {INT4OID, CHAROID, TEXTOID}};
    static Statement of_all = {"DELETE FROM meter.limit_usage WHERE meter_id = $1 AND period = $2",
                               {INT4OID, CHAROID}};
    const Datum values[] = {Int32GetDatum(meter_id), CharGetDatum(static_cast<char>(period)), user};
    run(user != 0 ? of_user : of_all, values, nullptr, Run::kWrite);
}

void forget_counters(int32 meter_id) {
    static Statement remove = {"DELETE FROM meter.limit_usage WHERE meter_id = $1", {INT4OID}};
    const Datum values[] = {Int32GetDatum(meter_id)};
    run(remove, values, nullptr, Run::kWrite);
}

void hold_off_new_counters(std::string_view user, std::string_view other) {
    lock_objects(lock_bit(user) | lock_bit(other), ShareRowExclusiveLock);
}

uint64 remove_past_counters(int64 most) {
    // A late event makes its counter anew. Long after the end, in whatever time zone.
    static Statement remove = {
        "DELETE FROM meter.limit_usage WHERE ctid = ANY (ARRAY(SELECT ctid FROM meter.limit_usage "
        "WHERE period_start < now() - CASE period WHEN 'h' THEN interval '2 days' "
        "WHEN 'd' THEN interval '4 days' WHEN 'w' THEN interval '11 days' "
        "WHEN 'm' THEN interval '35 days' WHEN 'y' THEN interval '370 days' END "
        "AND period <> 't' LIMIT $1 FOR UPDATE SKIP LOCKED))",
        {INT8OID}};
    const Datum values[] = {Int64GetDatum(most)};
    return run(remove, values, nullptr, Run::kWrite);
}

}  // namespace meter::pg
