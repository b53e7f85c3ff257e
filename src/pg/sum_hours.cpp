// The aggregate meter.sum_hours: what the hours of days' cells add up to, by bucket.
#include "pg/compat.hpp"

#include "core/hour_sums.hpp"
#include "pg/aggregates.hpp"
#include "pg/cells.hpp"
#include "pg/guard.hpp"
#include "pg/memory.hpp"
#include "pg/numeric.hpp"
#include "pg/values.hpp"

extern "C" {
#include "funcapi.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"
}

namespace meter::pg {

namespace {

// The arguments of meter.sum_hours_add().
enum Argument {
    kState,
    kDay,
    kFirst,
    kLast,
    kCount,
    kLastId,
    kSum,
    kMin,
    kMax,
    kLastValue,
    kValueTime,
    kHours,
    kStarts,
    kEnds,
    kBuckets,
    kOrdered,
    kTimed
};

// What a call site keeps from one call to the next: which hours are wanted, from the arguments of
// its first call. They are those of all, since a query passes parameters here.
struct CallSite {
    CallSite(MemoryContext context, HourWants wants)
        : resource(context), picker(wants, &resource) {}

    ContextResource resource;
    HourPicker picker;
};

// A group's state.
struct State {
    State(MemoryContext context, HourWants what)
        : resource(context), sums(&resource), wants(what) {}

    ContextResource resource;
    HourSums sums;
    HourWants wants;
};

HourWants read_wants(FunctionCallInfo fcinfo) {
    return {PG_GETARG_BOOL(kOrdered), PG_GETARG_BOOL(kTimed)};
}

struct Times {
    const TimestampTz* items;
    int count;
};

Times read_times(Datum datum) {
    ArrayType* array = DatumGetArrayTypeP(datum);
    if (ARR_NDIM(array) > 1 || ARR_HASNULL(array) || ARR_ELEMTYPE(array) != TIMESTAMPTZOID)
        elog(ERROR, "the pieces of a period are malformed");
    return {reinterpret_cast<const TimestampTz*>(ARR_DATA_PTR(array)),
            ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array))};
}

// An instant of the pieces as core has it. One that the calendar does not reach is no period's.
int64 piece_time(TimestampTz time) {
    const int64 micros = to_unix_micros(time);
    if (micros < kMinCalendarTime || micros > kMaxCalendarTime)
        ereport(ERROR, (errcode(ERRCODE_DATETIME_FIELD_OVERFLOW),
                        errmsg("the pieces of a period are out of range")));
    return micros;
}

CallSite* enter_site(FunctionCallInfo fcinfo) {
    auto* site = static_cast<CallSite*>(fcinfo->flinfo->fn_extra);
    if (site != nullptr)
        return site;
    const Times starts = read_times(PG_GETARG_DATUM(kStarts));
    const Times ends = read_times(PG_GETARG_DATUM(kEnds));
    const Times buckets = read_times(PG_GETARG_DATUM(kBuckets));
    if (starts.count != ends.count || starts.count != buckets.count)
        elog(ERROR, "the pieces of a period are malformed");
    site = make_in<CallSite>(fcinfo->flinfo->fn_mcxt, fcinfo->flinfo->fn_mcxt, read_wants(fcinfo));
    for (int i = 0; i < starts.count; ++i)
        site->picker.add_piece({{piece_time(starts.items[i]), piece_time(ends.items[i])},
                                piece_time(buckets.items[i])});
    fcinfo->flinfo->fn_extra = site;
    return site;
}

// A bucket's sums as a row of the type meter.hour_sum.
Datum sum_row(const HourSums::Cells::value_type& entry, HourWants wants, TupleDesc descriptor) {
    const RollupCell& cell = entry.second;
    const bool ordered = wants.ordered;
    Datum values[] = {TimestampTzGetDatum(to_timestamptz(entry.first)),
                      TimestampTzGetDatum(to_timestamptz(cell.first_time)),
                      TimestampTzGetDatum(to_timestamptz(cell.last_time)),
                      Int64GetDatum(cell.event_count),
                      Int64GetDatum(cell.last_id),
                      numeric_datum(cell.value_sum),
                      static_cast<Datum>(0),
                      static_cast<Datum>(0),
                      static_cast<Datum>(0),
                      static_cast<Datum>(0)};
    bool nulls[] = {false, false,    !ordered, false,    !ordered,
                    false, !ordered, !ordered, !ordered, !wants.timed};
    if (ordered) {
        values[6] = numeric_datum(cell.value_min);
        values[7] = numeric_datum(cell.value_max);
        values[8] = numeric_datum(cell.last_value);
    }
    if (wants.timed)
        values[9] = numeric_datum(cell.value_time);
    return HeapTupleGetDatum(heap_form_tuple(descriptor, values, nulls));
}

}  // namespace

}  // namespace meter::pg

// meter.sum_hours_add(state, day, ...)
METER_FUNCTION(meter_sum_hours_add) {
    using namespace meter::pg;
    const MemoryContext context = aggregate_context(fcinfo);
    for (int i = kDay; i <= kTimed; ++i)
        if (i != kHours && PG_ARGISNULL(i))
            elog(ERROR, "a cell of the rollups lacks a column");
    CallSite* site = enter_site(fcinfo);
    auto* state = PG_ARGISNULL(kState) ? make_in<State>(context, context, read_wants(fcinfo))
                                       : reinterpret_cast<State*>(PG_GETARG_POINTER(kState));
    if (!PG_ARGISNULL(kHours)) {
        const bytea* packed = PG_GETARG_BYTEA_PP(kHours);
        site->picker.add_day(
            cell_time(PG_GETARG_TIMESTAMPTZ(kDay)),
            {VARDATA_ANY(packed), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(packed))},
            state->sums);
        PG_RETURN_POINTER(state);
    }
    const int64 first = cell_time(PG_GETARG_TIMESTAMPTZ(kFirst));
    const meter::HourNumbers numbers{PG_GETARG_INT64(kCount),
                                     first,
                                     view_numeric(PG_GETARG_DATUM(kSum)),
                                     view_numeric(PG_GETARG_DATUM(kMin)),
                                     view_numeric(PG_GETARG_DATUM(kMax)),
                                     view_numeric(PG_GETARG_DATUM(kLastValue)),
                                     cell_time(PG_GETARG_TIMESTAMPTZ(kLast)),
                                     PG_GETARG_INT64(kLastId),
                                     view_numeric(PG_GETARG_DATUM(kValueTime)),
                                     cell_time(PG_GETARG_TIMESTAMPTZ(kDay))};
    site->picker.add_hour(meter::hour_start(first), numbers, state->sums);
    PG_RETURN_POINTER(state);
}

// meter.sum_hours_final(state)
METER_FUNCTION(meter_sum_hours_final) {
    using namespace meter::pg;
    aggregate_context(fcinfo);
    if (PG_ARGISNULL(kState))
        PG_RETURN_NULL();
    auto* state = reinterpret_cast<State*>(PG_GETARG_POINTER(kState));
    const Oid type = get_element_type(get_fn_expr_rettype(fcinfo->flinfo));
    if (!OidIsValid(type))
        elog(ERROR, "the type of the sums is not known");
    const TupleDesc descriptor = lookup_rowtype_tupdesc(type, -1);
    const auto count = static_cast<int>(state->sums.cells().size());
    auto* rows = static_cast<Datum*>(palloc(sizeof(Datum) * static_cast<Size>(Max(count, 1))));
    int filled = 0;
    for (const auto& entry : state->sums.cells())
        rows[filled++] = sum_row(entry, state->wants, descriptor);
    ReleaseTupleDesc(descriptor);
    PG_RETURN_ARRAYTYPE_P(construct_array(rows, count, type, -1, false, TYPALIGN_DOUBLE));
}
