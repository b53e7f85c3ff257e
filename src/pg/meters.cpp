// Meters: create, update, add a dimension, archive, drop, list.
#include "pg/compat.hpp"

#include "core/dimensions.hpp"
#include "core/error.hpp"
#include "core/text.hpp"
#include "pg/alerts.hpp"
#include "pg/caller.hpp"
#include "pg/catalog.hpp"
#include "pg/guard.hpp"
#include "pg/limits.hpp"
#include "pg/memory.hpp"
#include "pg/meters.hpp"
#include "pg/set_result.hpp"
#include "pg/spi.hpp"
#include "pg/values.hpp"

extern "C" {
#include "utils/array.h"
#include "utils/lsyscache.h"
}

namespace meter::pg {

namespace {

#define METER_COLUMNS                                                                      \
    "id, org, name, event_name, aggregation, currency, dimensions, metadata, created_at, " \
    "updated_at, archived_at"

void check_aggregation(std::string_view aggregation) {
    if (aggregation != "sum" && aggregation != "count" && aggregation != "last")
        throw Error(ErrorKind::kInvalidParameter,
                    "aggregation " + quote_for_message(aggregation) + " is not known", {},
                    "A meter's aggregation is sum, count or last.");
}

// Throws where `names` (text[]) cannot be a meter's dimensions.
void check_dimensions(Datum names) {
    ArrayType* array = DatumGetArrayTypeP(names);
    if (ARR_NDIM(array) > 1)
        throw Error(ErrorKind::kInvalidParameter, "dimensions must be a one-dimensional array");
    Datum* elements;
    bool* nulls;
    int count;
    deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &count);
    if (count > static_cast<int>(kMaxDimensions))
        throw Error(ErrorKind::kInvalidParameter,
                    "a meter has at most " + std::to_string(kMaxDimensions) + " dimensions");
    for (int i = 0; i < count; ++i) {
        if (nulls[i])
            throw Error(ErrorKind::kInvalidParameter, "a dimension name must not be null");
        const std::string_view name = text_view(elements[i]);
        check_dimension_name(name);
        for (int j = 0; j < i; ++j)
            if (text_view(elements[j]) == name)
                throw Error(ErrorKind::kInvalidParameter,
                            "dimension " + quote_for_message(name) + " is given twice");
    }
}

Datum copy_row_for_caller(const Call& call) {
    const Datum row = result_row_as_datum(get_rel_type_id(relations().meter));
    end_call(call);
    return row;
}

}  // namespace

int32 lock_existing(const Call& call, std::string_view event_name) {
    for (;;) {
        const int32 id = require_meter(call.org, event_name).id;
        lock_meter_for_change(id);
        const MeterDefinition* definition = find_meter(call.org, event_name);
        if (definition != nullptr && definition->id == id)
            return id;
    }
}

}  // namespace meter::pg

using namespace meter::pg;
using meter::Error;
using meter::ErrorKind;

METER_FUNCTION(meter_create_meter) {
    require_argument(fcinfo, 0, "event_name");
    const Call call = begin_call(Privilege::kAdmin, "create a meter");
    const std::string_view event_name = text_view(PG_GETARG_DATUM(0));
    const Datum aggregation = PG_ARGISNULL(1) ? text_datum("sum") : PG_GETARG_DATUM(1);
    const Datum dimensions =
        PG_ARGISNULL(2) ? PointerGetDatum(construct_empty_array(TEXTOID)) : PG_GETARG_DATUM(2);
    const Datum name = PG_ARGISNULL(3) ? PG_GETARG_DATUM(0) : PG_GETARG_DATUM(3);
    const Datum currency = PG_ARGISNULL(4) ? text_datum("usd") : PG_GETARG_DATUM(4);
    const Datum metadata =
        PG_ARGISNULL(5) ? DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")) : PG_GETARG_DATUM(5);
    const bool if_not_exists = !PG_ARGISNULL(6) && PG_GETARG_BOOL(6);

    meter::check_name(event_name, "event_name");
    check_aggregation(text_view(aggregation));
    check_dimensions(dimensions);
    meter::check_name(text_view(name), "name");
    meter::check_name(text_view(currency), "currency");
    check_metadata(metadata);

    static Statement insert = {
        "INSERT INTO meter.meter (org, name, event_name, aggregation, currency, dimensions, "
        "metadata, created_at, updated_at) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, now(), now()) "
        "ON CONFLICT (org, event_name) DO NOTHING RETURNING " METER_COLUMNS,
        {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTARRAYOID, JSONBOID}};
    const Datum values[] = {
        text_datum(call.org), name,    text_datum(event_name), aggregation, currency,
        dimensions,           metadata};
    if (run(insert, values, nullptr, Run::kWrite) == 1)
        return copy_row_for_caller(call);

    // As the unique index sees it, not as the transaction's snapshot does.
    static Statement compare = {
        "SELECT archived_at IS NULL, aggregation = $3 AND dimensions @> $4 AND dimensions <@ $4 "
        "FROM meter.meter WHERE org = $1 AND event_name = $2",
        {TEXTOID, TEXTOID, TEXTOID, TEXTARRAYOID}};
    const Datum key[] = {text_datum(call.org), text_datum(event_name), aggregation, dimensions};
    if (run(compare, key, nullptr, Run::kLatest) == 0)  // dropped again meanwhile
        throw unknown_meter_error(call.org, meter::quote_for_message(event_name));
    bool null;
    const bool open = DatumGetBool(result(0, 1, &null));
    const bool same = DatumGetBool(result(0, 2, &null));
    if (!if_not_exists || !open)
        throw Error(if_not_exists ? ErrorKind::kNotInState : ErrorKind::kDuplicateObject,
                    "meter " + meter::quote_for_message(event_name) + " already exists",
                    open ? "" : "It is archived; its name stays taken.",
                    open ? "With if_not_exists => true it is returned instead." : "");
    if (!same)
        throw Error(ErrorKind::kDuplicateObject,
                    "meter " + meter::quote_for_message(event_name) +
                        " already exists with another aggregation or other dimensions",
                    {}, "Change it with meter.update_meter and meter.add_dimension.");
    static Statement existing = {"SELECT " METER_COLUMNS
                                 " FROM meter.meter WHERE org = $1 AND event_name = $2",
                                 {TEXTOID, TEXTOID}};
    if (run(existing, key, nullptr, Run::kLatest) == 0)
        throw unknown_meter_error(call.org, meter::quote_for_message(event_name));
    return copy_row_for_caller(call);
}

METER_FUNCTION(meter_update_meter) {
    require_argument(fcinfo, 0, "event_name");
    const Call call = begin_call(Privilege::kAdmin, "update a meter");
    const std::string_view event_name = text_view(PG_GETARG_DATUM(0));
    if (!PG_ARGISNULL(1))
        meter::check_name(text_view(PG_GETARG_DATUM(1)), "name");
    if (!PG_ARGISNULL(2))
        check_aggregation(text_view(PG_GETARG_DATUM(2)));
    if (!PG_ARGISNULL(3))
        meter::check_name(text_view(PG_GETARG_DATUM(3)), "currency");
    if (!PG_ARGISNULL(4))
        check_metadata(PG_GETARG_DATUM(4));

    static Statement update = {
        "UPDATE meter.meter SET name = coalesce($2, name), "
        "aggregation = coalesce($3, aggregation), currency = coalesce($4, currency), "
        "metadata = coalesce($5, metadata), updated_at = now() "
        "WHERE id = $1 RETURNING " METER_COLUMNS,
        {INT4OID, TEXTOID, TEXTOID, TEXTOID, JSONBOID}};
    const int32 id = lock_existing(call, event_name);
    if (!PG_ARGISNULL(2) &&
        require_meter(call.org, event_name).aggregation != text_view(PG_GETARG_DATUM(2)))
        change_limits_aggregation(id, event_name, text_view(PG_GETARG_DATUM(2)));
    Datum values[5] = {Int32GetDatum(id)};
    char nulls[5] = {' ', ' ', ' ', ' ', ' '};
    for (int i = 1; i < 5; ++i) {
        values[i] = PG_ARGISNULL(i) ? static_cast<Datum>(0) : PG_GETARG_DATUM(i);
        nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
    }
    if (run(update, values, nulls, Run::kWrite) == 0)
        throw unknown_meter_error(call.org, meter::quote_for_message(event_name));
    return copy_row_for_caller(call);
}

METER_FUNCTION(meter_add_dimension) {
    require_argument(fcinfo, 0, "event_name");
    require_argument(fcinfo, 1, "dimension");
    const Call call = begin_call(Privilege::kAdmin, "add a dimension");
    const std::string_view event_name = text_view(PG_GETARG_DATUM(0));
    const std::string_view dimension = text_view(PG_GETARG_DATUM(1));
    meter::check_dimension_name(dimension);

    const int32 id = lock_existing(call, event_name);
    const MeterDefinition* definition = &require_meter(call.org, event_name);
    if (definition->dimension_count == 0)
        throw Error(ErrorKind::kNotInState,
                    "meter " + meter::quote_for_message(event_name) + " takes any dimension", {},
                    "A meter that declares no dimensions takes them all; nothing is to be added.");
    if (definition->declares(dimension))
        throw Error(ErrorKind::kDuplicateObject,
                    "dimension " + meter::quote_for_message(dimension) + " of meter " +
                        meter::quote_for_message(event_name) + " already exists");
    if (definition->dimension_count >= static_cast<int>(meter::kMaxDimensions))
        throw Error(ErrorKind::kInvalidParameter,
                    "a meter has at most " + std::to_string(meter::kMaxDimensions) + " dimensions");

    static Statement update = {
        "UPDATE meter.meter SET dimensions = dimensions || $2, updated_at = now() "
        "WHERE id = $1 RETURNING " METER_COLUMNS,
        {INT4OID, TEXTOID}};
    const Datum values[] = {Int32GetDatum(id), PG_GETARG_DATUM(1)};
    if (run(update, values, nullptr, Run::kWrite) == 0)
        throw unknown_meter_error(call.org, meter::quote_for_message(event_name));
    return copy_row_for_caller(call);
}

METER_FUNCTION(meter_archive_meter) {
    require_argument(fcinfo, 0, "event_name");
    const Call call = begin_call(Privilege::kAdmin, "archive a meter");
    const std::string_view event_name = text_view(PG_GETARG_DATUM(0));
    static Statement update = {
        "UPDATE meter.meter SET archived_at = now(), updated_at = now() "
        "WHERE id = $1 AND archived_at IS NULL RETURNING " METER_COLUMNS,
        {INT4OID}};
    const Datum values[] = {Int32GetDatum(lock_existing(call, event_name))};
    if (run(update, values, nullptr, Run::kWrite) == 0)
        throw Error(ErrorKind::kNotInState,
                    "meter " + meter::quote_for_message(event_name) + " is archived already");
    return copy_row_for_caller(call);
}

METER_FUNCTION(meter_drop_meter) {
    require_argument(fcinfo, 0, "event_name");
    const Call call = begin_call(Privilege::kAdmin, "drop a meter");
    const std::string_view event_name = text_view(PG_GETARG_DATUM(0));
    const Datum values[] = {Int32GetDatum(lock_existing(call, event_name))};
    // Whoever recorded has ended, so what is committed now is all there is and will be.
    static Statement any_event = {
        "SELECT FROM meter.meter_event WHERE meter_id = $1 LIMIT 1", {INT4OID}, true};
    if (run(any_event, values, nullptr, Run::kLatest, 1) > 0)
        throw Error(ErrorKind::kDependentObjects,
                    "meter " + meter::quote_for_message(event_name) + " has events", {},
                    "Archive it with meter.archive_meter: it takes no more events, and its "
                    "history stays readable.");
    static Statement any_dropped = {
        "SELECT FROM meter.retention t WHERE EXISTS (SELECT FROM meter.rollup_month r "
        "WHERE r.meter_id = $1 AND r.first_timestamp < t.horizon) OR EXISTS (SELECT "
        "FROM meter.rollup_pending p WHERE p.meter_id = $1 AND p.first_timestamp < t.horizon)",
        {INT4OID}};
    if (run(any_dropped, values, nullptr, Run::kLatest, 1) > 0)
        throw Error(ErrorKind::kDependentObjects,
                    "meter " + meter::quote_for_message(event_name) +
                        " has usage, whose events have been dropped",
                    {}, "Archive it with meter.archive_meter: its usage stays readable.");
    drop_limits(DatumGetInt32(values[0]));
    drop_alerts(DatumGetInt32(values[0]));
    static Statement remove = {"DELETE FROM meter.meter WHERE id = $1", {INT4OID}};
    if (run(remove, values, nullptr, Run::kWrite) == 0)
        throw unknown_meter_error(call.org, meter::quote_for_message(event_name));
    end_call(call);
    PG_RETURN_VOID();
}

METER_FUNCTION(meter_list_meters) {
    const SetResult set = begin_set(fcinfo);
    const Call call = begin_call(Privilege::kReadOrWrite, "list meters");
    static Statement select = {
        "SELECT " METER_COLUMNS
        " FROM meter.meter WHERE org = $1 AND ($2 OR archived_at IS NULL) ORDER BY event_name",
        {TEXTOID, BOOLOID}};
    const Datum values[] = {text_datum(call.org),
                            BoolGetDatum(!PG_ARGISNULL(0) && PG_GETARG_BOOL(0))};
    run(select, values, nullptr, Run::kCaller);
    put_spi_rows(set);
    end_call(call);
    return static_cast<Datum>(0);
}
