#include "pg/user_usage.hpp"

#include "core/error.hpp"
#include "pg/event_query.hpp"
#include "pg/retention.hpp"
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

}  // namespace

Datum user_usage(int32 meter_id, Datum user, const TimeSpan& span, bool counts) {
    const MemoryContext context =
        AllocSetContextCreate(CurrentMemoryContext, "usage of a user", ALLOCSET_DEFAULT_SIZES);
    const MemoryContext caller_context = MemoryContextSwitchTo(context);
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
    run_event_query(query, planning_of(source), store, context);
    require_events(source);
    const Datum value = only_value(store);
    tuplestore_end(store);
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
