// meter.set_limit, drop_limit, list_limits and remaining.
#include "pg/limits.hpp"

#include <string>

#include "core/dimensions.hpp"
#include "core/error.hpp"
#include "core/text.hpp"
#include "pg/alerts.hpp"
#include "pg/caller.hpp"
#include "pg/catalog.hpp"
#include "pg/guard.hpp"
#include "pg/limit_period.hpp"
#include "pg/limit_usage.hpp"
#include "pg/memory.hpp"
#include "pg/meters.hpp"
#include "pg/set_result.hpp"
#include "pg/spi.hpp"
#include "pg/time_zone.hpp"
#include "pg/user_usage.hpp"
#include "pg/values.hpp"

extern "C" {
#include "access/xact.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/snapmgr.h"
}

namespace meter::pg {

namespace {

#define METER_LIMIT_COLUMNS \
    "id, meter_id, user_id, period, kind, time_zone, amount, created_at, updated_at"

// Throws where no limit can be this much: a value that an event could have, and not negative.
void check_amount(Datum amount) {
    const std::string text = DatumGetCString(DirectFunctionCall1(numeric_out, amount));
    std::string_view canonical;
    try {
        canonical = canonical_value_text(amount);
    } catch (const Error& error) {
        throw Error(ErrorKind::kInvalidParameter, "amount " + text + " is out of range", {},
                    "A limit is from 0 to below 10^30, with at most 18 decimals.");
    }
    if (canonical.front() == '-')
        throw Error(ErrorKind::kInvalidParameter, "amount " + text + " is negative", {},
                    "A limit of 0 lets nothing pass.");
}

void check_kind(std::string_view kind) {
    if (kind != "hard" && kind != "soft")
        throw Error(ErrorKind::kInvalidParameter,
                    "kind " + quote_for_message(kind) + " is not known", {},
                    "A limit is hard or soft.");
}

// The user's name in an argument, or 0 where it is null.
Datum optional_user(FunctionCallInfo fcinfo, int index) {
    if (PG_ARGISNULL(index))
        return 0;
    const Datum user = PointerGetDatum(PG_GETARG_TEXT_PP(index));
    check_name(text_view(user), "user_id");
    return user;
}

// The text argument, or `otherwise` where it is null.
std::string_view text_or(FunctionCallInfo fcinfo, int index, std::string_view otherwise) {
    return PG_ARGISNULL(index) ? otherwise : text_view(PG_GETARG_DATUM(index));
}

// Whether counters of the limit that is there go on being right when it becomes a hard one of this
// zone: when it is one already.
bool keeps_counters(int32 meter_id, Datum user, std::string_view period, std::string_view zone) {
    static Statement select = {
        "SELECT FROM meter.usage_limit WHERE meter_id = $1 AND user_id IS NOT DISTINCT FROM $2 "
        "AND period = $3 AND kind = 'hard' AND time_zone = $4",
        {INT4OID, TEXTOID, TEXTOID, TEXTOID}};
    const Datum values[] = {Int32GetDatum(meter_id), user, text_datum(period), text_datum(zone)};
    return run(select, values, user == 0 ? " n  " : nullptr, Run::kWrite) > 0;
}

bool is_limitable(std::string_view aggregation) {
    return aggregation == "sum" || aggregation == "count";
}

bool has_limits(int32 meter_id) {
    static Statement select = {"SELECT FROM meter.usage_limit WHERE meter_id = $1 LIMIT 1",
                               {INT4OID}};
    const Datum values[] = {Int32GetDatum(meter_id)};
    return run(select, values, nullptr, Run::kLatest, 1) > 0;
}

// A limit that applies to a user.
struct AppliedLimit {
    LimitPeriod period;
    bool own;
    bool hard;
    bool counts;  // events, not their values
    std::string_view zone;
    Datum amount;
};

// The limits that apply to a user, each period's at most once; how many they are.
int find_applied(int32 meter_id, Datum user, Datum period, AppliedLimit* applied) {
    // Each half by an index, however many users have limits of their own.
#define METER_APPLIED(own)                                                                      \
    "SELECT period, " own                                                                       \
    ", kind = 'hard', time_zone, amount, (SELECT aggregation = 'count' FROM meter.meter WHERE " \
    "id = $1) FROM meter.usage_limit WHERE meter_id = $1 AND ($3 IS NULL OR period = $3) AND "
    static Statement select = {
        METER_APPLIED("false") "user_id IS NULL UNION ALL " METER_APPLIED("true") "user_id = $2",
        {INT4OID, TEXTOID, TEXTOID},
        true};
    const Datum values[] = {Int32GetDatum(meter_id), user, period};
    const uint64 rows = run(select, values, period == 0 ? "  n" : nullptr, Run::kCaller);
    int count = 0;
    for (uint64 row = 0; row < rows; ++row) {
        bool null;
        const auto column = [&](int number) { return result(row, number, &null); };
        const AppliedLimit limit = {find_limit_period(text_view(column(1))),
                                    DatumGetBool(column(2)),
                                    DatumGetBool(column(3)),
                                    DatumGetBool(column(6)),
                                    text_view(column(4)),
                                    column(5)};
        int at = 0;
        while (at < count && applied[at].period != limit.period)
            ++at;
        if (at == HardLimits::kMost)
            elog(ERROR, "too many limits of a user");
        if (at == count)
            applied[count++] = limit;
        else if (limit.own)
            applied[at] = limit;
    }
    return count;
}

// What is left of one limit to a user: the amount less the usage of the period of `time`. Only a
// hard one has a counter.
Datum left_of(int32 meter_id, Datum user, const AppliedLimit& limit, const TimeSpan& span) {
    static Statement counter = {
        "SELECT usage FROM meter.limit_usage WHERE meter_id = $1 AND user_id = $2 "
        "AND period = $3 AND period_start = $4",
        {INT4OID, TEXTOID, CHAROID, TIMESTAMPTZOID},
        true};
    const Datum values[] = {Int32GetDatum(meter_id), user,
                            CharGetDatum(static_cast<char>(limit.period)),
                            TimestampTzGetDatum(stored_start(span))};
    bool null;
    const Datum used = limit.hard && run(counter, values, nullptr, Run::kCaller) > 0
                           ? result(0, 1, &null)
                           : user_usage(meter_id, user, span, limit.counts);
    return DirectFunctionCall1(numeric_trim_scale,
                               DirectFunctionCall2(numeric_sub, limit.amount, used));
}

// The least that is left of the limits that apply to a user, or 0 where there is none.
Datum least_left(int32 meter_id, Datum user, Datum period) {
    AppliedLimit limits[HardLimits::kMost];
    const int count = find_applied(meter_id, user, period, limits);
    const int64 now = to_unix_micros(GetCurrentTransactionStartTimestamp());
    Datum least = 0;
    for (int i = 0; i < count; ++i) {
        const TimeSpan span = limit_span(limits[i].period, limits[i].zone, now);
        const Datum left = left_of(meter_id, user, limits[i], span);
        if (least == 0 || DatumGetBool(DirectFunctionCall2(numeric_lt, left, least)))
            least = left;
    }
    return least;
}

}  // namespace

void require_latest(const char* action) {
    if (IsolationUsesXactSnapshot())
        ereport(ERROR,
                (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                 errmsg("cannot %s in a transaction at isolation level %s", action,
                        XactIsoLevel == XACT_SERIALIZABLE ? "serializable" : "repeatable read"),
                 errhint("Use READ COMMITTED.")));
}

void check_limitable(std::string_view event_name, std::string_view aggregation) {
    if (!is_limitable(aggregation))
        throw Error(ErrorKind::kNotSupported,
                    "meter " + quote_for_message(event_name) + " adds up by " +
                        std::string(aggregation) + " and cannot have limits or alerts",
                    {}, "Meters that add up by sum or count can.");
}

void change_limits_aggregation(int32 meter_id, std::string_view event_name,
                               std::string_view aggregation) {
    const bool limited = has_limits(meter_id);
    if ((limited || has_alerts(meter_id)) && !is_limitable(aggregation))
        throw Error(ErrorKind::kNotSupported,
                    "meter " + quote_for_message(event_name) +
                        " has limits or alerts, and cannot add up by " + std::string(aggregation),
                    {},
                    "Drop them first: see meter.list_limits() and meter.list_alert_rules(). "
                    "Meters that add up by sum or count can have them.");
    if (limited)
        require_latest("change the aggregation of a meter that has limits");
    forget_counters(meter_id);
    forget_relation(relations().usage_limit);
    look_again(meter_id);
}

void drop_limits(int32 meter_id) {
    static Statement remove = {"DELETE FROM meter.usage_limit WHERE meter_id = $1", {INT4OID}};
    if (has_limits(meter_id))
        require_latest("drop a meter that has limits");
    const Datum values[] = {Int32GetDatum(meter_id)};
    run(remove, values, nullptr, Run::kWrite);
    forget_counters(meter_id);
}

void lock_limited_meters(Datum meters, Datum user, Datum replacement) {
    static Statement select = {
        "SELECT DISTINCT meter_id FROM meter.usage_limit WHERE user_id IN ($1, $3) "
        "AND meter_id = ANY ($2) ORDER BY meter_id",
        {TEXTOID, INT4ARRAYOID, TEXTOID}};
    const Datum values[] = {user, meters, replacement};
    const uint64 limited = run(select, values, replacement == 0 ? "  n" : nullptr, Run::kWrite);
    SPITupleTable* const found = SPI_tuptable;
    for (uint64 row = 0; row < limited; ++row) {
        bool null;
        lock_meter_for_change(
            DatumGetInt32(SPI_getbinval(found->vals[row], found->tupdesc, 1, &null)));
    }
    SPI_freetuptable(found);
}

void rename_limits(Datum meters, Datum user, Datum replacement) {
    static Statement rename = {
        "UPDATE meter.usage_limit l SET user_id = $3, updated_at = now() WHERE user_id = $1 "
        "AND meter_id = ANY ($2) AND NOT EXISTS (SELECT FROM meter.usage_limit o "
        "WHERE o.meter_id = l.meter_id AND o.user_id = $3 AND o.period = l.period)",
        {TEXTOID, INT4ARRAYOID, TEXTOID}};
    static Statement remove = {
        "DELETE FROM meter.usage_limit WHERE user_id = $1 AND meter_id = ANY ($2)",
        {TEXTOID, INT4ARRAYOID, TEXTOID}};
    static Statement forget = {
        "DELETE FROM meter.limit_usage WHERE meter_id = ANY ($2) AND user_id IN ($1, $3)",
        {TEXTOID, INT4ARRAYOID, TEXTOID}};
    const Datum values[] = {user, meters, replacement};
    const char* nulls = replacement == 0 ? "  n" : nullptr;
    // Those that were set since the caller looked.
    lock_limited_meters(meters, user, replacement);
    if (replacement != 0)
        run(rename, values, nullptr, Run::kWrite);
    run(remove, values, nulls, Run::kWrite);
    run(forget, values, nulls, Run::kWrite);
}

}  // namespace meter::pg

using namespace meter::pg;
using meter::Error;
using meter::ErrorKind;

METER_FUNCTION(meter_set_limit) {
    require_argument(fcinfo, 0, "event_name");
    require_argument(fcinfo, 2, "amount");
    const Call call = begin_call(Privilege::kAdmin, "set a limit");
    require_latest("set a limit");
    const std::string_view event_name = text_view(PG_GETARG_DATUM(0));
    const Datum user = optional_user(fcinfo, 1);
    const Datum amount = PG_GETARG_DATUM(2);
    const std::string_view period_name = text_or(fcinfo, 3, "month");
    const std::string_view kind = text_or(fcinfo, 4, "hard");
    const std::string_view zone = text_or(fcinfo, 5, "UTC");
    check_amount(amount);
    const LimitPeriod period = find_limit_period(period_name);
    check_kind(kind);
    (void)find_time_zone(zone);

    // Who records just now has ended once we have the lock; who comes later knows of the limit.
    const int32 id = lock_existing(call, event_name);
    check_limitable(event_name, require_meter(call.org, event_name).aggregation);
    if (kind != "hard" || !keeps_counters(id, user, period_name, zone))
        forget_counters(id, user, period);
    static Statement update = {
        "UPDATE meter.usage_limit SET kind = $4, time_zone = $5, amount = $6, updated_at = now() "
        "WHERE meter_id = $1 AND user_id IS NOT DISTINCT FROM $2 AND period = $3 "
        "RETURNING " METER_LIMIT_COLUMNS,
        {INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, NUMERICOID}};
    static Statement insert = {
        "INSERT INTO meter.usage_limit (meter_id, user_id, period, kind, time_zone, amount, "
        "created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, now(), now()) "
        "RETURNING " METER_LIMIT_COLUMNS,
        {INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, NUMERICOID}};
    const Datum values[] = {Int32GetDatum(id),       user,
                            text_datum(period_name), text_datum(kind),
                            text_datum(zone),        trimmed_numeric(amount)};
    const char* nulls = user == 0 ? " n    " : nullptr;
    if (run(update, values, nulls, Run::kWrite) == 0)
        run(insert, values, nulls, Run::kWrite);
    const Datum row = result_row_as_datum(get_rel_type_id(relations().usage_limit));
    look_at_limit_again(id, user, period_name);
    end_call(call);
    return row;
}

METER_FUNCTION(meter_drop_limit) {
    require_argument(fcinfo, 0, "event_name");
    const Call call = begin_call(Privilege::kAdmin, "drop a limit");
    require_latest("drop a limit");
    const std::string_view event_name = text_view(PG_GETARG_DATUM(0));
    const Datum user = optional_user(fcinfo, 1);
    const std::string_view period_name = text_or(fcinfo, 2, "month");
    const LimitPeriod period = find_limit_period(period_name);
    const int32 id = lock_existing(call, event_name);
    static Statement remove = {
        "DELETE FROM meter.usage_limit WHERE meter_id = $1 "
        "AND user_id IS NOT DISTINCT FROM $2 AND period = $3",
        {INT4OID, TEXTOID, TEXTOID}};
    const Datum values[] = {Int32GetDatum(id), user, text_datum(period_name)};
    if (run(remove, values, user == 0 ? " n " : nullptr, Run::kWrite) == 0)
        throw Error(ErrorKind::kUndefinedObject,
                    "meter " + meter::quote_for_message(event_name) + " has no limit by " +
                        std::string(period_name) +
                        (user == 0 ? " for every user"
                                   : " for user " + meter::quote_for_message(text_view(user))),
                    {}, "See meter.list_limits() for those that there are.");
    forget_counters(id, user, period);
    look_at_limit_again(id, user, period_name);
    end_call(call);
    PG_RETURN_VOID();
}

METER_FUNCTION(meter_list_limits) {
    const SetResult set = begin_set(fcinfo);
    const Call call = begin_call(Privilege::kRead, "list limits");
    static Statement select = {
        "SELECT m.event_name, l.user_id, l.period, l.kind, l.amount, l.time_zone, l.created_at, "
        "l.updated_at FROM meter.meter m JOIN meter.usage_limit l ON l.meter_id = m.id "
        "WHERE m.org = $1 AND ($2 IS NULL OR m.event_name = $2) AND ($3 IS NULL OR l.user_id = $3 "
        "OR (l.user_id IS NULL AND NOT EXISTS (SELECT FROM meter.usage_limit o "
        "WHERE o.meter_id = l.meter_id AND o.period = l.period AND o.user_id = $3))) "
        "ORDER BY m.event_name, l.user_id NULLS FIRST, l.period",
        {TEXTOID, TEXTOID, TEXTOID}};
    Datum values[3] = {text_datum(call.org), 0, 0};
    char nulls[] = "   ";
    for (int i = 0; i < 2; ++i) {
        nulls[i + 1] = PG_ARGISNULL(i) ? 'n' : ' ';
        if (!PG_ARGISNULL(i))
            values[i + 1] = PG_GETARG_DATUM(i);
    }
    if (!PG_ARGISNULL(0))
        (void)require_meter(call.org, text_view(values[1]));
    run(select, values, nulls, Run::kCaller);
    put_spi_rows(set);
    end_call(call);
    return static_cast<Datum>(0);
}

METER_FUNCTION(meter_remaining) {
    require_argument(fcinfo, 0, "event_name");
    require_argument(fcinfo, 1, "user_id");
    const MemoryContext caller_context = CurrentMemoryContext;
    const Call call = begin_call(Privilege::kRead, "query limits");
    const Datum user = optional_user(fcinfo, 1);
    const Datum period = PG_ARGISNULL(2) ? static_cast<Datum>(0) : PG_GETARG_DATUM(2);
    if (period != 0)
        (void)find_limit_period(text_view(period));
    Datum left =
        least_left(require_meter(call.org, text_view(PG_GETARG_DATUM(0))).id, user, period);
    if (left != 0) {
        const MemoryContext own_context = MemoryContextSwitchTo(caller_context);
        left = datumCopy(left, false, -1);
        MemoryContextSwitchTo(own_context);
    }
    end_call(call);
    if (left == 0)
        PG_RETURN_NULL();
    PG_RETURN_DATUM(left);
}
