#include "pg/user_usage.hpp"

#include "core/calendar.hpp"
#include "core/error.hpp"
#include "pg/event_query.hpp"
#include "pg/generation.hpp"
#include "pg/retention.hpp"
#include "pg/spi.hpp"
#include "pg/usage_query.hpp"
#include "pg/values.hpp"

extern "C" {
#include "access/tupdesc.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "utils/datum.h"
#include "utils/snapmgr.h"
}

namespace meter::pg {

namespace {

// The only value of the only row in the store.
Datum only_value(Tuplestorestate* store) {
    const TupleDesc descriptor = CreateTemplateTupleDesc(1);
    TupleDescInitEntry(descriptor, 1, "value", NUMERICOID, -1, 0);
    TupleTableSlot* slot = MakeSingleTupleTableSlot(descriptor, &TTSOpsMinimalTuple);
    bool null = true;
    Datum value = 0;
    if (tuplestore_gettupleslot(store, true, false, slot))
        value = slot_getattr(slot, 1, &null);
    if (null)
        elog(ERROR, "a usage query returned nothing");
    value = datumCopy(value, false, -1);
    ExecDropSingleTupleTableSlot(slot);
    return value;
}

// Whether the span is made of whole months of UTC: then cells and deltas tell all of it.
bool is_whole_months(const TimeSpan& span) {
    return utc_month_of(span.start).start == span.start && utc_month_of(span.end).start == span.end;
}

// The usage of whole months, by one statement that is kept: the cells of months, and the deltas,
// each of which lies within one.
Datum usage_of_months(int32 meter_id, Datum user, const TimeSpan& span, bool counts) {
#define METER_USAGE_OF_MONTHS(total, column, months)                                  \
    {                                                                                 \
        "SELECT COALESCE(" total ", 0) FROM (SELECT " column                          \
        " FROM meter.rollup WHERE meter_id = $1 AND grain = 'm' AND start = " months  \
        " AND user_id = $4 UNION ALL SELECT " column                                  \
        " FROM meter.rollup_pending WHERE generation = ANY ($5) AND user_id = $4 "    \
        "AND meter_id = $1 AND first_timestamp >= $2 AND first_timestamp < $3) AS u", \
            {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, INT4ARRAYOID}, true    \
    }
#define METER_MONTHS                                                       \
    "ANY (ARRAY(SELECT month FROM meter.rollup_month WHERE meter_id = $1 " \
    "AND month >= $2 AND month < $3))"
    // By whether events are counted, and whether there are several months.
    static Statement statements[2][2] = {
        {METER_USAGE_OF_MONTHS("trim_scale(sum(value_sum))", "value_sum", "$2"),
         METER_USAGE_OF_MONTHS("trim_scale(sum(value_sum))", "value_sum", METER_MONTHS)},
        {METER_USAGE_OF_MONTHS("sum(event_count)", "event_count", "$2"),
         METER_USAGE_OF_MONTHS("sum(event_count)", "event_count", METER_MONTHS)}};
    const Datum values[] = {
        Int32GetDatum(meter_id), TimestampTzGetDatum(to_timestamptz(span.start)),
        TimestampTzGetDatum(to_timestamptz(span.end)), user, open_generations(Run::kCaller)};
    const bool several = utc_month_of(span.start).end != span.end;
    run(statements[counts ? 1 : 0][several ? 1 : 0], values, nullptr, Run::kCaller);
    bool null;
    const Datum usage = datumCopy(result(0, 1, &null), false, -1);
    SPI_freetuptable(SPI_tuptable);
    return usage;
}

// The usage of any span, as meter.usage reads it.
Datum usage_of_span(int32 meter_id, Datum user, const TimeSpan& span, bool counts) {
    auto* scope = static_cast<UsageScope*>(palloc0(sizeof(UsageScope)));
    scope->meter_count = 1;
    scope->meters = &meter_id;
    scope->period = {to_timestamptz(span.start), to_timestamptz(span.end)};
    scope->has_user = true;
    scope->user = user;
    scope->filters = static_cast<DimensionFilters*>(palloc0(sizeof(DimensionFilters)));
    const UsageSource source = find_source(scope);
    require_events(source);

    const Aggregation* aggregation = find_aggregation(counts ? "count" : "sum");
    auto* query = static_cast<QueryText*>(palloc(sizeof(QueryText)));
    start_query(query);
    appendStringInfo(&query->sql, "SELECT %s%s FROM ", aggregation->call, aggregation->rest);
    append_source(query, source, 0, 0, nullptr);
    appendStringInfoString(&query->sql, " AS source");
    Tuplestorestate* store = tuplestore_begin_heap(false, false, work_mem);
    run_event_query(query, planning_of(source), store, CurrentMemoryContext);
    require_events(source);
    const Datum value = only_value(store);
    tuplestore_end(store);
    return value;
}

}  // namespace

Datum user_usage(int32 meter_id, Datum user, const TimeSpan& span, bool counts) {
    const MemoryContext context =
        AllocSetContextCreate(CurrentMemoryContext, "usage of a user", ALLOCSET_DEFAULT_SIZES);
    const MemoryContext caller_context = MemoryContextSwitchTo(context);
    const Datum value = is_whole_months(span) ? usage_of_months(meter_id, user, span, counts)
                                              : usage_of_span(meter_id, user, span, counts);
    MemoryContextSwitchTo(caller_context);
    const Datum copy = datumCopy(value, false, -1);
    MemoryContextDelete(context);
    return copy;
}

Datum latest_user_usage(int32 meter_id, Datum user, const TimeSpan& span, bool counts) {
    CommandCounterIncrement();
    PushActiveSnapshot(GetLatestSnapshot());
    const Datum value = user_usage(meter_id, user, span, counts);
    PopActiveSnapshot();
    return value;
}

bool tell_latest_usage(int32 meter_id, Datum user, const TimeSpan& span, bool counts,
                       Datum* usage) {
    const MemoryContext caller_context = CurrentMemoryContext;
    CommandCounterIncrement();
    PushActiveSnapshot(GetLatestSnapshot());
    bool told = false;
    try {
        *usage = user_usage(meter_id, user, span, counts);
        told = true;
    } catch (const Error& error) {
        if (error.kind != ErrorKind::kNotInState)
            throw;
    }
    MemoryContextSwitchTo(caller_context);
    PopActiveSnapshot();
    return told;
}

}  // namespace meter::pg
