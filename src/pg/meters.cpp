// Meters: create, update, add a dimension, archive, drop, list.
#include "pg/compat.hpp"

#include <algorithm>

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
#include "pg/property.hpp"
#include "pg/rounding.hpp"
#include "pg/set_result.hpp"
#include "pg/spi.hpp"
#include "pg/usage_query.hpp"
#include "pg/values.hpp"

extern "C" {
#include "utils/array.h"
#include "utils/lsyscache.h"
}

namespace meter::pg {

namespace {

#define METER_COLUMNS                                                                      \
    "id, org, name, event_name, aggregation, currency, dimensions, metadata, created_at, " \
    "updated_at, archived_at, property, rounding, rounding_precision"

// How a meter's events add up, as its row has it.
struct Computation {
    std::string_view aggregation;
    std::string_view property;  // empty: none
    Rounding rounding;
};

// Raises invalid_parameter_value unless the aggregation is known, and has a property of the meter's
// events where it needs one, and none otherwise.
void check_computation(const Computation& how, const MeterDefinition& meter) {
    (void)find_aggregation(how.aggregation);
    if (how.aggregation == kUniqueCount) {
        if (how.property.empty())
            raise_property_missing();
        (void)read_property(how.property, meter);
    } else if (!how.property.empty())
        raise_property_unused(how.aggregation);
}

Datum or_null(std::string_view text, char* null) {
    *null = text.empty() ? 'n' : ' ';
    return text.empty() ? static_cast<Datum>(0) : text_datum(text);
}

Datum rounding_or_null(const Rounding& rounding, char* null) {
    return or_null(rounding.mode == Rounding::Mode::kNone ? "" : rounding_mode_name(rounding.mode),
                   null);
}

// The argument property, empty where it is null. Raises invalid_parameter_value where it is empty
// already.
std::string_view property_argument(FunctionCallInfo fcinfo, int index) {
    if (PG_ARGISNULL(index))
        return {};
    const std::string_view property = text_view(PG_GETARG_DATUM(index));
    if (property.empty())
        throw Error(ErrorKind::kInvalidParameter, "property must not be empty", {}, kPropertyHint);
    return property;
}

// The names of `names` (text[]), sorted, for a definition. Throws where they cannot be a meter's
// dimensions.
MeterDefinition with_dimensions(Datum names) {
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
    auto* views = static_cast<std::string_view*>(palloc(sizeof(std::string_view) * Max(count, 1)));
    for (int i = 0; i < count; ++i)
        views[i] = text_view(elements[i]);
    std::sort(views, views + count);
    MeterDefinition meter{};
    meter.dimension_count = count;
    meter.dimensions = views;
    return meter;
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
    MeterDefinition definition = with_dimensions(dimensions);
    definition.event_name = event_name;
    const Computation how{text_view(aggregation), property_argument(fcinfo, 7),
                          read_rounding(fcinfo, 8, 9, Rounding{Rounding::Mode::kNone, 0})};
    check_computation(how, definition);
    meter::check_name(text_view(name), "name");
    meter::check_name(text_view(currency), "currency");
    check_metadata(metadata);

    static Statement insert = {
        "INSERT INTO meter.meter (org, name, event_name, aggregation, currency, dimensions, "
        "metadata, created_at, updated_at, property, rounding, rounding_precision) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, now(), now(), $8, $9, $10) "
        "ON CONFLICT (org, event_name) DO NOTHING RETURNING " METER_COLUMNS,
        {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTARRAYOID, JSONBOID, TEXTOID, TEXTOID,
         INT4OID}};
    char nulls[] = "          ";
    const Datum values[] = {text_datum(call.org),
                            name,
                            text_datum(event_name),
                            aggregation,
                            currency,
                            dimensions,
                            metadata,
                            or_null(how.property, &nulls[7]),
                            rounding_or_null(how.rounding, &nulls[8]),
                            Int32GetDatum(how.rounding.precision)};
    if (run(insert, values, nulls, Run::kWrite) == 1)
        return copy_row_for_caller(call);

    // As the unique index sees it, not as the transaction's snapshot does.
    static Statement compare = {
        "SELECT archived_at IS NULL, aggregation = $3 AND dimensions @> $4 AND dimensions <@ $4 "
        "AND property IS NOT DISTINCT FROM $5 AND rounding IS NOT DISTINCT FROM $6 "
        "AND rounding_precision = $7 FROM meter.meter WHERE org = $1 AND event_name = $2",
        {TEXTOID, TEXTOID, TEXTOID, TEXTARRAYOID, TEXTOID, TEXTOID, INT4OID}};
    const Datum key[] = {values[0], values[2], aggregation, dimensions,
                         values[7], values[8], values[9]};
    const char key_nulls[] = {' ', ' ', ' ', ' ', nulls[7], nulls[8], ' '};
    if (run(compare, key, key_nulls, Run::kLatest) == 0)  // dropped again meanwhile
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
                        " already exists with another aggregation, property or rounding, or other "
                        "dimensions",
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
        (void)find_aggregation(text_view(PG_GETARG_DATUM(2)));
    if (!PG_ARGISNULL(3))
        meter::check_name(text_view(PG_GETARG_DATUM(3)), "currency");
    if (!PG_ARGISNULL(4))
        check_metadata(PG_GETARG_DATUM(4));

    static Statement update = {
        "UPDATE meter.meter SET name = coalesce($2, name), aggregation = $3, "
        "currency = coalesce($4, currency), metadata = coalesce($5, metadata), property = $6, "
        "rounding = $7, rounding_precision = $8, updated_at = now() "
        "WHERE id = $1 RETURNING " METER_COLUMNS,
        {INT4OID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, TEXTOID, TEXTOID, INT4OID}};
    const int32 id = lock_existing(call, event_name);
    if (!PG_ARGISNULL(2) &&
        require_meter(call.org, event_name).aggregation != text_view(PG_GETARG_DATUM(2)))
        change_limits_aggregation(id, event_name, text_view(PG_GETARG_DATUM(2)));
    Datum values[8] = {Int32GetDatum(id)};
    char nulls[] = "        ";
    for (int i = 1; i < 5; ++i) {
        values[i] = PG_ARGISNULL(i) ? static_cast<Datum>(0) : PG_GETARG_DATUM(i);
        nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
    }
    const MeterDefinition& before = require_meter(call.org, event_name);
    Computation how{PG_ARGISNULL(2) ? before.aggregation : text_view(PG_GETARG_DATUM(2)),
                    property_argument(fcinfo, 5), read_rounding(fcinfo, 6, 7, rounding_of(before))};
    // Another aggregation than unique_count leaves the property behind.
    if (how.property.empty() && how.aggregation == kUniqueCount)
        how.property = before.property;
    check_computation(how, before);
    values[2] = text_datum(how.aggregation);
    nulls[2] = ' ';
    values[5] = or_null(how.property, &nulls[5]);
    values[6] = rounding_or_null(how.rounding, &nulls[6]);
    values[7] = Int32GetDatum(how.rounding.precision);
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
    static Statement any_statement = {
        "SELECT FROM meter.statement WHERE meter_id = $1", {INT4OID}, true};
    if (run(any_statement, values, nullptr, Run::kLatest, 1) > 0)
        throw Error(ErrorKind::kDependentObjects,
                    "meter " + meter::quote_for_message(event_name) + " has statements", {},
                    "Archive it with meter.archive_meter: what was billed stays readable.");
    static Statement remove_closes = {"DELETE FROM meter.period_close WHERE meter_id = $1",
                                      {INT4OID}};
    run(remove_closes, values, nullptr, Run::kWrite);
    drop_limits(DatumGetInt32(values[0]));
    drop_alerts(DatumGetInt32(values[0]));
    static Statement remove = {"DELETE FROM meter.meter WHERE id = $1", {INT4OID}};
    if (run(remove, values, nullptr, Run::kWrite) == 0)
        throw unknown_meter_error(call.org, meter::quote_for_message(event_name));
    static Statement forget = {"DELETE FROM meter.rollup_meter WHERE meter_id = $1", {INT4OID}};
    run(forget, values, nullptr, Run::kWrite);
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
