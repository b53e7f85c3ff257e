// meter.event_history: the versions of an event, and what became of each.
#include "pg/compat.hpp"

#include <string>

#include "core/dimensions.hpp"
#include "core/error.hpp"
#include "core/text.hpp"
#include "core/timestamp.hpp"
#include "pg/caller.hpp"
#include "pg/catalog.hpp"
#include "pg/cells.hpp"
#include "pg/guard.hpp"
#include "pg/memory.hpp"
#include "pg/set_result.hpp"
#include "pg/spi.hpp"
#include "pg/values.hpp"

namespace meter::pg {

namespace {

// From the first version on, which `first` finds, by what replaced each.
#define METER_HISTORY(first)                                                                      \
    "WITH RECURSIVE version AS (SELECT 1 AS n, " first                                            \
    " UNION ALL SELECT n + 1, v.replaced_by, v.replaced_timestamp FROM version "                  \
    "JOIN meter.event_void v ON v.user_id = $2 AND v.meter_id = $1 "                              \
    "AND v.event_timestamp = version.at AND v.event_id = version.id "                             \
    "WHERE v.replaced_by IS NOT NULL) "                                                           \
    "SELECT version.n, e.id, e.\"timestamp\", e.value, e.dimensions, e.metadata, e.recorded_at, " \
    "CASE WHEN v.event_id IS NULL THEN 'live' WHEN v.replaced_by IS NULL THEN 'voided' "          \
    "ELSE 'amended' END, v.voided_at, v.voided_by, v.reason "                                     \
    "FROM version JOIN meter.meter_event e ON e.user_id = $2 AND e.meter_id = $1 "                \
    "AND e.\"timestamp\" = version.at AND e.id = version.id "                                     \
    "LEFT JOIN meter.event_void v ON v.user_id = $2 AND v.meter_id = $1 "                         \
    "AND v.event_timestamp = version.at AND v.event_id = version.id ORDER BY version.n"

// Lists the versions into `set`. False: there is none.
bool list_versions(Statement& statement, const Datum* values, const SetResult& set) {
    if (run(statement, values, nullptr, Run::kCaller) == 0)
        return false;
    put_spi_rows(set);
    return true;
}

// Raises undefined_object; `event` says which was asked for.
[[noreturn]] void raise_no_event(const std::string& event, Datum user,
                                 std::string_view event_name) {
    throw Error(ErrorKind::kUndefinedObject, "there is no event " + event + " of user " +
                                                 quote_for_message(text_view(user)) + " in meter " +
                                                 quote_for_message(event_name));
}

}  // namespace

}  // namespace meter::pg

using namespace meter::pg;

METER_FUNCTION(meter_event_history) {
    require_argument(fcinfo, 0, "event_name");
    require_argument(fcinfo, 1, "user_id");
    require_argument(fcinfo, 2, "idempotency");
    const SetResult set = begin_set(fcinfo);
    const Call call = begin_call(Privilege::kRead, "list events");
    static Statement select = {
        METER_HISTORY("k.event_id AS id, k.event_timestamp AS at FROM meter.event_key k "
                      "WHERE k.digest = $3"),
        {INT4OID, TEXTOID, UUIDOID},
        true};
    const std::string_view event_name = text_view(PG_GETARG_DATUM(0));
    const int32 meter_id = require_meter(call.org, event_name).id;
    const Datum user = PointerGetDatum(PG_GETARG_TEXT_PP(1));
    const std::string_view key = text_view(PG_GETARG_DATUM(2));
    meter::check_name(key, "idempotency");
    const meter::Digest digest = meter::key_digest(meter_id, text_view(user), key);
    const Datum values[] = {Int32GetDatum(meter_id), user, uuid_datum(digest)};
    if (!list_versions(select, values, set))
        raise_no_event("with idempotency key " + meter::quote_for_message(key), user, event_name);
    end_call(call);
    return static_cast<Datum>(0);
}

METER_FUNCTION(meter_event_history_by_id) {
    require_argument(fcinfo, 0, "event_name");
    require_argument(fcinfo, 1, "user_id");
    require_argument(fcinfo, 2, "event_id");
    require_argument(fcinfo, 3, "event_time");
    const SetResult set = begin_set(fcinfo);
    const Call call = begin_call(Privilege::kRead, "list events");
    static Statement select = {
        METER_HISTORY("$3 AS id, $4 AS at"), {INT4OID, TEXTOID, INT8OID, TIMESTAMPTZOID}, true};
    const std::string_view event_name = text_view(PG_GETARG_DATUM(0));
    const int32 meter_id = require_meter(call.org, event_name).id;
    const Datum values[] = {Int32GetDatum(meter_id), PointerGetDatum(PG_GETARG_TEXT_PP(1)),
                            PG_GETARG_DATUM(2), PG_GETARG_DATUM(3)};
    const TimestampTz at = PG_GETARG_TIMESTAMPTZ(3);
    if (!list_versions(select, values, set))
        raise_no_event(std::to_string(PG_GETARG_INT64(2)) + " of " +
                           (TIMESTAMP_NOT_FINITE(at) ? timestamptz_to_str(at)
                                                     : meter::format_timestamp(to_unix_micros(at))),
                       values[1], event_name);
    end_call(call);
    return static_cast<Datum>(0);
}
