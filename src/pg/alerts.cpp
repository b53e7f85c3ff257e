// meter.set_alert, drop_alert, list_alert_rules and list_alerts.
#include "pg/alerts.hpp"

#include <string>

#include "core/dimensions.hpp"
#include "core/error.hpp"
#include "core/text.hpp"
#include "pg/caller.hpp"
#include "pg/catalog.hpp"
#include "pg/guard.hpp"
#include "pg/limit_period.hpp"
#include "pg/limits.hpp"
#include "pg/memory.hpp"
#include "pg/meters.hpp"
#include "pg/set_result.hpp"
#include "pg/spi.hpp"
#include "pg/time_zone.hpp"
#include "pg/values.hpp"

extern "C" {
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
}

namespace meter::pg {

namespace {

constexpr int kMostThresholds = 100;

// Rules of a meter: each that is for every user may make a fold read the usage of each once more,
// and every fold reads them all.
constexpr int kMostRulesOfAll = 100;
constexpr int kMostRules = 1'000;

// Throws unless a number can be reached by usage: above 0, as far as values go.
void check_positive(Datum number, const char* argument) {
    const std::string text = DatumGetCString(DirectFunctionCall1(numeric_out, number));
    bool good = true;
    try {
        const std::string_view canonical = canonical_value_text(number);
        good = canonical.front() != '-' && canonical != "0";
    } catch (const Error&) {
        good = false;
    }
    if (!good)
        throw Error(ErrorKind::kInvalidParameter,
                    std::string(argument) + ": " + text + " is out of bounds", {},
                    "Numbers are above 0 and below 10^30, with at most 18 decimals.");
}

// A numeric[] argument, checked; absent is an empty one.
Datum read_numbers(FunctionCallInfo fcinfo, int index, const char* argument, int* count) {
    *count = 0;
    if (PG_ARGISNULL(index))
        return PointerGetDatum(construct_empty_array(NUMERICOID));
    ArrayType* array = PG_GETARG_ARRAYTYPE_P(index);
    if (ARR_NDIM(array) > 1 || ARR_HASNULL(array))
        throw Error(ErrorKind::kInvalidParameter,
                    std::string(argument) + " must be a one-dimensional array without nulls");
    Datum* numbers;
    deconstruct_array(array, NUMERICOID, -1, false, TYPALIGN_INT, &numbers, nullptr, count);
    if (*count > kMostThresholds)
        throw Error(ErrorKind::kInvalidParameter, std::string(argument) + " has more than " +
                                                      std::to_string(kMostThresholds) + " numbers");
    for (int i = 0; i < *count; ++i) {
        check_positive(numbers[i], argument);
        for (int j = 0; j < i; ++j)
            if (DatumGetBool(DirectFunctionCall2(numeric_eq, numbers[i], numbers[j]))) {
                const char* text = DatumGetCString(DirectFunctionCall1(numeric_out, numbers[i]));
                throw Error(ErrorKind::kInvalidParameter,
                            std::string(argument) + " has " + text + " twice");
            }
    }
    return PointerGetDatum(array);
}

std::string_view text_or(FunctionCallInfo fcinfo, int index, std::string_view otherwise) {
    return PG_ARGISNULL(index) ? otherwise : text_view(PG_GETARG_DATUM(index));
}

// Throws where a meter that is locked for change has as many rules as it may have beside the one
// called `name`.
void check_rule_count(int32 meter_id, std::string_view event_name, Datum name, bool of_user) {
    static Statement count = {
        "SELECT count(*), count(*) FILTER (WHERE user_id IS NULL) FROM meter.alert_rule "
        "WHERE meter_id = $1 AND name <> $2",
        {INT4OID, TEXTOID}};
    const Datum values[] = {Int32GetDatum(meter_id), name};
    run(count, values, nullptr, Run::kLatest);
    bool null;
    const int64 all = DatumGetInt64(result(0, 1, &null));
    const int64 of_all = DatumGetInt64(result(0, 2, &null));
    const std::string meter = "meter " + quote_for_message(event_name);
    if (all >= kMostRules)
        throw Error(ErrorKind::kLimitExceeded,
                    meter + " has " + std::to_string(all) + " alerts already", {},
                    "A meter has " + std::to_string(kMostRules) +
                        " at most. Drop some with meter.drop_alert, or give one more thresholds.");
    if (!of_user && of_all >= kMostRulesOfAll)
        throw Error(ErrorKind::kLimitExceeded,
                    meter + " has " + std::to_string(of_all) + " alerts for every user already", {},
                    "A meter has " + std::to_string(kMostRulesOfAll) +
                        " of these at most. Drop some with meter.drop_alert, or give one more "
                        "thresholds.");
}

// Tells the caller where percentages have no limit that they could be of.
void notice_missing_limit(int32 meter_id, std::string_view event_name, Datum user,
                          std::string_view period) {
    static Statement select = {
        "SELECT FROM meter.usage_limit WHERE meter_id = $1 AND period = $2 "
        "AND ($3 IS NULL OR user_id IS NULL OR user_id = $3) LIMIT 1",
        {INT4OID, TEXTOID, TEXTOID}};
    const Datum values[] = {Int32GetDatum(meter_id), text_datum(period), user};
    if (run(select, values, user == 0 ? "  n" : nullptr, Run::kLatest, 1) > 0)
        return;
    const char* meter = pnstrdup(event_name.data(), event_name.size());
    const char* by = pnstrdup(period.data(), period.size());
    ereport(NOTICE, (errmsg("percentages of meter \"%s\" fire nothing until there is a limit by %s",
                            meter, by),
                     errhint("Set one with meter.set_limit; a soft one refuses nothing.")));
}

}  // namespace

bool has_alerts(int32 meter_id) {
    static Statement select = {"SELECT FROM meter.alert_rule WHERE meter_id = $1 LIMIT 1",
                               {INT4OID}};
    const Datum values[] = {Int32GetDatum(meter_id)};
    return run(select, values, nullptr, Run::kLatest, 1) > 0;
}

void look_at_limit_again(int32 meter_id, Datum user, std::string_view period) {
    static Statement insert = {
        "INSERT INTO meter.alert_recheck (meter_id, period, user_id) SELECT $1, $2, $3 "
        "WHERE EXISTS (SELECT FROM meter.alert_rule WHERE meter_id = $1 AND period = $2 "
        "AND percents <> '{}')",
        {INT4OID, TEXTOID, TEXTOID}};
    const Datum values[] = {Int32GetDatum(meter_id), text_datum(period), user};
    run(insert, values, user == 0 ? "  n" : nullptr, Run::kWrite);
}

void look_again(int32 meter_id) {
    static Statement insert = {
        "INSERT INTO meter.alert_recheck (meter_id) SELECT $1 "
        "WHERE EXISTS (SELECT FROM meter.alert_rule WHERE meter_id = $1)",
        {INT4OID}};
    const Datum values[] = {Int32GetDatum(meter_id)};
    run(insert, values, nullptr, Run::kWrite);
}

void drop_alerts(int32 meter_id) {
    static Statement remove = {
        "WITH rules AS (DELETE FROM meter.alert_rule WHERE meter_id = $1), "
        "rechecks AS (DELETE FROM meter.alert_recheck WHERE meter_id = $1) "
        "DELETE FROM meter.alert WHERE meter_id = $1",
        {INT4OID}};
    if (has_alerts(meter_id))
        require_latest("drop a meter that has alerts");
    const Datum values[] = {Int32GetDatum(meter_id)};
    run(remove, values, nullptr, Run::kWrite);
}

void rename_alerts(Datum meters, Datum user, Datum replacement) {
    static Statement rename_rules = {
        "UPDATE meter.alert_rule SET user_id = $3, updated_at = now() "
        "WHERE user_id = $1 AND meter_id = ANY ($2)",
        {TEXTOID, INT4ARRAYOID, TEXTOID}};
    static Statement rename_fired = {
        "UPDATE meter.alert a SET user_id = $3 WHERE user_id = $1 AND meter_id = ANY ($2) "
        "AND NOT EXISTS (SELECT FROM meter.alert o WHERE o.rule_id = a.rule_id AND o.user_id = $3 "
        "AND o.period_start = a.period_start AND o.kind = a.kind AND o.threshold = a.threshold)",
        {TEXTOID, INT4ARRAYOID, TEXTOID}};
    // How far a look at all users has come is a name, too: it begins once more.
    static Statement rename_rechecks = {
        "UPDATE meter.alert_recheck SET user_id = CASE WHEN user_id = $1 THEN $3 ELSE user_id END, "
        "after_user = '', problem = NULL WHERE (user_id = $1 OR after_user = $1) "
        "AND meter_id = ANY ($2)",
        {TEXTOID, INT4ARRAYOID, TEXTOID}};
    static Statement remove_rechecks = {
        "DELETE FROM meter.alert_recheck WHERE user_id = $1 AND meter_id = ANY ($2)",
        {TEXTOID, INT4ARRAYOID}};
    static Statement remove = {
        "WITH rules AS (DELETE FROM meter.alert_rule WHERE user_id = $1 AND meter_id = ANY ($2)) "
        "DELETE FROM meter.alert WHERE user_id = $1 AND meter_id = ANY ($2)",
        {TEXTOID, INT4ARRAYOID}};
    const Datum values[] = {user, meters, replacement};
    if (replacement != 0) {
        run(rename_rules, values, nullptr, Run::kWrite);
        run(rename_fired, values, nullptr, Run::kWrite);
    } else {
        run(remove_rechecks, values, nullptr, Run::kWrite);
    }
    run(rename_rechecks, values, replacement == 0 ? "  n" : nullptr, Run::kWrite);
    run(remove, values, nullptr, Run::kWrite);
}

}  // namespace meter::pg

using namespace meter::pg;
using meter::Error;
using meter::ErrorKind;

METER_FUNCTION(meter_set_alert) {
    require_argument(fcinfo, 0, "event_name");
    require_argument(fcinfo, 2, "name");
    const Call call = begin_call(Privilege::kAdmin, "set an alert");
    const std::string_view event_name = text_view(PG_GETARG_DATUM(0));
    const bool of_user = !PG_ARGISNULL(1);
    if (of_user)
        meter::check_name(text_view(PG_GETARG_DATUM(1)), "user_id");
    meter::check_name(text_view(PG_GETARG_DATUM(2)), "name");
    int threshold_count;
    int percent_count;
    const Datum thresholds = read_numbers(fcinfo, 3, "thresholds", &threshold_count);
    const Datum percents = read_numbers(fcinfo, 4, "percents", &percent_count);
    const bool recurs = !PG_ARGISNULL(5);
    if (recurs)
        check_positive(PG_GETARG_DATUM(5), "recurring");
    if (threshold_count == 0 && percent_count == 0 && !recurs)
        throw Error(ErrorKind::kInvalidParameter, "an alert needs a threshold", {},
                    "Give thresholds, percents or recurring.");
    const std::string_view period = text_or(fcinfo, 6, "month");
    const std::string_view zone = text_or(fcinfo, 7, "UTC");
    (void)find_limit_period(period);
    (void)find_time_zone(zone);

    const int32 id = lock_existing(call, event_name);
    check_limitable(event_name, require_meter(call.org, event_name).aggregation);
    check_rule_count(id, event_name, PG_GETARG_DATUM(2), of_user);
    static Statement upsert = {
        "INSERT INTO meter.alert_rule AS r (meter_id, user_id, name, thresholds, percents, "
        "recurring, period, time_zone, created_at, updated_at) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, now(), now()) "
        "ON CONFLICT (meter_id, name) DO UPDATE SET user_id = $2, thresholds = $4, percents = $5, "
        "recurring = $6, period = $7, time_zone = $8, updated_at = now() "
        "RETURNING id, meter_id, user_id, name, thresholds, percents, recurring, period, "
        "time_zone, created_at, updated_at",
        {INT4OID, TEXTOID, TEXTOID, NUMERICARRAYOID, NUMERICARRAYOID, NUMERICOID, TEXTOID,
         TEXTOID}};
    const Datum values[] = {
        Int32GetDatum(id),  of_user ? PG_GETARG_DATUM(1) : static_cast<Datum>(0),
        PG_GETARG_DATUM(2), thresholds,
        percents,           recurs ? PG_GETARG_DATUM(5) : static_cast<Datum>(0),
        text_datum(period), text_datum(zone)};
    char nulls[] = "        ";
    nulls[1] = of_user ? ' ' : 'n';
    nulls[5] = recurs ? ' ' : 'n';
    run(upsert, values, nulls, Run::kWrite);
    const Datum row =
        result_row_as_datum(get_rel_type_id(get_relname_relid("alert_rule", relations().schema)));
    static Statement recheck = {
        "INSERT INTO meter.alert_recheck (meter_id, user_id, period, time_zone) "
        "VALUES ($1, $2, $3, $4)",
        {INT4OID, TEXTOID, TEXTOID, TEXTOID}};
    const Datum what[] = {values[0], values[1], values[6], values[7]};
    run(recheck, what, of_user ? nullptr : " n  ", Run::kWrite);
    if (percent_count > 0)
        notice_missing_limit(id, event_name, values[1], period);
    end_call(call);
    return row;
}

METER_FUNCTION(meter_drop_alert) {
    require_argument(fcinfo, 0, "event_name");
    require_argument(fcinfo, 1, "name");
    const Call call = begin_call(Privilege::kAdmin, "drop an alert");
    const std::string_view event_name = text_view(PG_GETARG_DATUM(0));
    static Statement remove = {"DELETE FROM meter.alert_rule WHERE meter_id = $1 AND name = $2",
                               {INT4OID, TEXTOID}};
    const Datum values[] = {Int32GetDatum(lock_existing(call, event_name)), PG_GETARG_DATUM(1)};
    if (run(remove, values, nullptr, Run::kWrite) == 0)
        throw Error(ErrorKind::kUndefinedObject,
                    "meter " + meter::quote_for_message(event_name) + " has no alert " +
                        meter::quote_for_message(text_view(PG_GETARG_DATUM(1))),
                    {}, "See meter.list_alert_rules() for those that there are.");
    end_call(call);
    PG_RETURN_VOID();
}

METER_FUNCTION(meter_list_alert_rules) {
    const SetResult set = begin_set(fcinfo);
    const Call call = begin_call(Privilege::kRead, "list alerts");
    static Statement select = {
        "SELECT m.event_name, r.name, r.user_id, r.thresholds, r.percents, r.recurring, r.period, "
        "r.time_zone FROM meter.meter m JOIN meter.alert_rule r ON r.meter_id = m.id "
        "WHERE m.org = $1 AND ($2 IS NULL OR m.event_name = $2) ORDER BY m.event_name, r.name",
        {TEXTOID, TEXTOID}};
    const Datum values[] = {text_datum(call.org),
                            PG_ARGISNULL(0) ? static_cast<Datum>(0) : PG_GETARG_DATUM(0)};
    if (!PG_ARGISNULL(0))
        (void)require_meter(call.org, text_view(values[1]));
    run(select, values, PG_ARGISNULL(0) ? " n" : nullptr, Run::kCaller);
    put_spi_rows(set);
    end_call(call);
    return static_cast<Datum>(0);
}

METER_FUNCTION(meter_list_alerts) {
    const SetResult set = begin_set(fcinfo);
    const Call call = begin_call(Privilege::kRead, "list alerts");
    const int32 max_rows = PG_ARGISNULL(3) ? 100 : PG_GETARG_INT32(3);
    if (max_rows < 0)
        throw Error(ErrorKind::kInvalidParameter,
                    "max_rows must not be negative, as " + std::to_string(max_rows) + " is");
    static Statement select = {
        "SELECT a.id, m.event_name, a.user_id, a.name, a.period_start, a.period_end, a.kind, "
        "a.threshold, a.amount, a.usage, a.fired_at FROM meter.alert a "
        "JOIN meter.meter m ON m.id = a.meter_id WHERE m.org = $1 AND a.id > $4 "
        "AND ($2 IS NULL OR m.event_name = $2) AND ($3 IS NULL OR a.user_id = $3) "
        "ORDER BY a.id LIMIT $5",
        {TEXTOID, TEXTOID, TEXTOID, INT8OID, INT8OID}};
    Datum values[5] = {text_datum(call.org), 0, 0, Int64GetDatum(0), Int64GetDatum(max_rows)};
    char nulls[] = "     ";
    for (int i = 0; i < 2; ++i) {
        nulls[i + 1] = PG_ARGISNULL(i) ? 'n' : ' ';
        if (!PG_ARGISNULL(i))
            values[i + 1] = PG_GETARG_DATUM(i);
    }
    if (!PG_ARGISNULL(2))
        values[3] = PG_GETARG_DATUM(2);
    if (!PG_ARGISNULL(0))
        (void)require_meter(call.org, text_view(values[1]));
    run(select, values, nulls, Run::kCaller);
    put_spi_rows(set);
    end_call(call);
    return static_cast<Datum>(0);
}
