// meter.explain_usage: the rows that a number is added up from.
#include "pg/compat.hpp"

#include <string_view>

#include "pg/caller.hpp"
#include "pg/catalog.hpp"
#include "pg/event_query.hpp"
#include "pg/guard.hpp"
#include "pg/memory.hpp"
#include "pg/retention.hpp"
#include "pg/set_result.hpp"
#include "pg/usage_query.hpp"
#include "pg/values.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "utils/jsonb.h"
}

namespace meter::pg {

namespace {

// The arguments by position.
enum ExplainArgument { kEventName, kPeriodStart, kPeriodEnd, kUserId, kFilter, kAggregation };

// What stands for a row of the source: its part of the sum, or what it adds to an order.
const char* value_of(std::string_view aggregation) {
    return aggregation == "min"     ? "source.lo"
           : aggregation == "max"   ? "source.hi"
           : aggregation == "last"  ? "source.v"
           : aggregation == "count" ? "source.n::pg_catalog.numeric"
                                    : "source.s";
}

// Answers into `set`, within begin_call().
void explain(FunctionCallInfo fcinfo, const SetResult& set, std::string_view org) {
    require_argument(fcinfo, kEventName, "event_name");
    auto* question = static_cast<UsageQuestion*>(palloc0(sizeof(UsageQuestion)));
    UsageScope* scope = &question->scope;
    scope->period = read_period(fcinfo, kPeriodStart, kPeriodEnd);
    scope->has_user = !PG_ARGISNULL(kUserId);
    if (scope->has_user)
        scope->user = text_datum(text_view(PG_GETARG_DATUM(kUserId)));
    const MeterDefinition& meter = require_meter(org, text_view(PG_GETARG_DATUM(kEventName)));
    question->meter_id = meter.id;
    question->aggregation = find_aggregation(
        PG_ARGISNULL(kAggregation) ? meter.aggregation : text_view(PG_GETARG_DATUM(kAggregation)));
    if (!PG_ARGISNULL(kFilter))
        read_filters(PG_GETARG_JSONB_P(kFilter), meter, &question->filters);
    scope->meter_count = 1;
    scope->meters = &question->meter_id;
    scope->names = question->names;
    scope->filters = &question->filters;
    scope->needs_order = question->aggregation->needs_order;
    scope->explains = true;
    question->source = find_source(scope);
    require_events(question->source);

    auto* query = static_cast<QueryText*>(palloc(sizeof(QueryText)));
    start_query(query);
    appendStringInfo(
        &query->sql,
        "SELECT source.k, source.et, source.eu::pg_catalog.text, source.ed, source.ei, "
        "pg_catalog.trim_scale(%s), source.n FROM ",
        value_of(question->aggregation->name));
    append_source(query, question->source, 0, 0, nullptr);
    appendStringInfoString(
        &query->sql, " AS source ORDER BY source.et, source.k, source.eu, source.ed, source.ei");
    run_event_query(query, planning_of(question->source), set.store, set.context);
    require_events(question->source);
}

}  // namespace

}  // namespace meter::pg

METER_FUNCTION(meter_explain_usage) {
    using namespace meter::pg;
    const SetResult set = begin_set(fcinfo);
    const Call call = begin_call(Privilege::kRead, "query usage");
    explain(fcinfo, set, call.org);
    end_call(call);
    PG_RETURN_NULL();
}
