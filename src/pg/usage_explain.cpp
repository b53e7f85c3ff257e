// meter.explain_usage: the rows that a number is added up from.
#include "pg/compat.hpp"

#include <string_view>

#include "pg/caller.hpp"
#include "pg/catalog.hpp"
#include "pg/event_query.hpp"
#include "pg/guard.hpp"
#include "pg/memory.hpp"
#include "pg/property.hpp"
#include "pg/retention.hpp"
#include "pg/set_result.hpp"
#include "pg/usage_query.hpp"
#include "pg/values.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
}

namespace meter::pg {

namespace {

// The arguments by position.
enum ExplainArgument { kEventName, kPeriodStart, kPeriodEnd, kUserId, kFilter, kAggregation };

// What stands for a row of the source: its part of the sum, or what it adds to an order. A cell
// knows when its first event was, and not which.
const char* value_of(const Aggregation& aggregation) {
    const std::string_view name = aggregation.name;
    return name == "min"     ? "source.lo"
           : name == "max"   ? "source.hi"
           : name == "last"  ? "source.v"
           : name == "first" ? "CASE WHEN source.ei IS NOT NULL THEN source.v END"
           : name == "count" || name == "unique_count" ? "source.n::pg_catalog.numeric"
                                                       : "source.s";
}

// The rows of a level: each with its part of the weighted sum, and what was before the period.
void append_levels(QueryText* query, const UsageQuestion& question) {
    const int64 start = to_unix_micros(question.scope.period.start);
    const int64 end = to_unix_micros(question.scope.period.end);
    const auto number = [&](int64 value) {
        return add_parameter(query, NUMERICOID, NumericGetDatum(int64_to_numeric(value)));
    };
    StringInfo sql = &query->sql;
    appendStringInfo(sql,
                     "(SELECT told.k, told.et, told.eu, told.ed, told.ei, "
                     "pg_catalog.round($%d * told.s - told.w, 20) / NULLIF($%d, 0) AS s, told.n "
                     "FROM ",
                     number(end), number(end - start));
    append_source(query, question.source, 0, 0, nullptr);
    appendStringInfoString(sql, " AS told");
    if (question.before.scope != nullptr) {
        appendStringInfoString(sql,
                               " UNION ALL SELECT early.k, early.et, early.eu, early.ed, "
                               "early.ei, early.s, 0::pg_catalog.int8 FROM ");
        append_source(query, question.before, 0, 0, nullptr);
        appendStringInfoString(sql, " AS early");
    }
    appendStringInfoChar(sql, ')');
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
    scope->explains = true;
    if (question->aggregation->kind == Aggregation::Kind::kUnique) {
        if (meter.property.empty())
            raise_property_missing();
        scope->property = read_property(meter.property, meter);
    }
    find_sources(question);
    require_events(question->source);
    if (question->before.scope != nullptr)
        require_events(question->before);

    auto* query = static_cast<QueryText*>(palloc(sizeof(QueryText)));
    start_query(query);
    appendStringInfo(
        &query->sql,
        "SELECT source.k, source.et, source.eu::pg_catalog.text, source.ed, source.ei, "
        "pg_catalog.trim_scale(%s), source.n FROM ",
        value_of(*question->aggregation));
    if (question->aggregation->kind == Aggregation::Kind::kWeighted)
        append_levels(query, *question);
    else
        append_source(query, question->source, 0, 0, nullptr);
    appendStringInfoString(
        &query->sql, " AS source ORDER BY source.et, source.k, source.eu, source.ed, source.ei");
    run_event_query(query, planning_of(*question), set.store, set.context);
    require_events(question->source);
    if (question->before.scope != nullptr)
        require_events(question->before);
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
