// meter.usage() and meter.usage_report(): arguments, and what is done with them.
#include "pg/compat.hpp"

#include <cstdint>
#include <string_view>

#include "pg/caller.hpp"
#include "pg/catalog.hpp"
#include "pg/event_query.hpp"
#include "pg/guard.hpp"
#include "pg/memory.hpp"
#include "pg/retention.hpp"
#include "pg/set_result.hpp"
#include "pg/spi.hpp"
#include "pg/time_zone.hpp"
#include "pg/usage_bucket.hpp"
#include "pg/usage_fill.hpp"
#include "pg/usage_query.hpp"
#include "pg/values.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/jsonb.h"
}

namespace meter::pg {

namespace {

// The arguments of meter.usage by position.
enum UsageArgument {
    kEventName,
    kPeriodStart,
    kPeriodEnd,
    kUserId,
    kGroupBy,
    kFilter,
    kBucket,
    kTimeZone,
    kAggregation,
    kFill
};

}  // namespace

Period read_period(FunctionCallInfo fcinfo, int start, int end) {
    require_argument(fcinfo, start, "period_start");
    require_argument(fcinfo, end, "period_end");
    const Period period{PG_GETARG_TIMESTAMPTZ(start), PG_GETARG_TIMESTAMPTZ(end)};
    calendar_time(period.start, "period_start");
    calendar_time(period.end, "period_end");
    if (period.start > period.end) {
        const char* start_text = shown(timestamptz_to_str(period.start));
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("period_end %s lies before period_start %s",
                               timestamptz_to_str(period.end), start_text),
                        errhint("A period is half-open: [period_start, period_end).")));
    }
    return period;
}

namespace {

void read_group_by(ArrayType* array, const MeterDefinition* meter, UsageQuestion* question) {
    if (ARR_NDIM(array) > 1 || ARR_HASNULL(array))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("group_by must be a one-dimensional array without nulls")));
    Datum* names;
    int count;
    deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &names, nullptr, &count);
    constexpr int kMost = static_cast<int>(kMaxDimensions) + 1;
    if (count > kMost)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("group_by has %d names, more than %d", count, kMost)));
    for (int i = 0; i < count; ++i) {
        const std::string_view name = text_view(names[i]);
        bool again = false;
        if (name == "user_id") {
            again = question->scope.by_user;
            question->scope.by_user = true;
        } else {
            for (int j = 0; j < question->scope.name_count; ++j)
                again = again || text_view(question->names[j]) == name;
            if (question->scope.name_count == static_cast<int>(kMaxDimensions))
                ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                                errmsg("group_by has more than %d dimensions",
                                       static_cast<int>(kMaxDimensions))));
            check_dimension(*meter, name, "group_by");
            question->names[question->scope.name_count++] = names[i];
        }
        if (again)
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                            errmsg("group_by has \"%s\" twice", shown(name))));
    }
}

// The text argument, or `otherwise` where it is null.
std::string_view text_or(FunctionCallInfo fcinfo, int index, std::string_view otherwise) {
    return PG_ARGISNULL(index) ? otherwise : text_view(PG_GETARG_DATUM(index));
}

// Puts every meter of the org into the scope, and whether one of them needs an order.
void find_meters(std::string_view org, UsageScope* scope) {
    static Statement select = {
        "SELECT id, aggregation FROM meter.meter WHERE org = $1", {TEXTOID}, true};
    const Datum values[] = {text_datum(org)};
    const uint64 count = run(select, values, nullptr, Run::kCaller);
    auto* meters = static_cast<int32*>(palloc(sizeof(int32) * Max(count, 1)));
    for (uint64 row = 0; row < count; ++row) {
        bool null;
        meters[row] = DatumGetInt32(result(row, 1, &null));
        scope->needs_order |= find_aggregation(text_view(result(row, 2, &null)))->needs_order;
    }
    scope->meter_count = static_cast<int>(count);
    scope->meters = meters;
}

// Answers meter.usage(), or with `digest` meter.usage_digest(), into `set`, within begin_call().
void answer_usage(FunctionCallInfo fcinfo, const SetResult& set, std::string_view org,
                  bool digest) {
    require_argument(fcinfo, kEventName, "event_name");
    const std::string_view event_name = text_view(PG_GETARG_DATUM(kEventName));
    auto* question = static_cast<UsageQuestion*>(palloc0(sizeof(UsageQuestion)));
    question->scope.period = read_period(fcinfo, kPeriodStart, kPeriodEnd);
    question->scope.has_bucket = !PG_ARGISNULL(kBucket);
    const std::string_view zone_name = text_or(fcinfo, kTimeZone, "UTC");
    auto* zone = make_in<ZoneTransitions>(CurrentMemoryContext, find_time_zone(zone_name));
    if (question->scope.has_bucket) {
        const std::string_view bucket_name = text_view(PG_GETARG_DATUM(kBucket));
        question->scope.bucket = find_bucket(bucket_name);
        question->scope.bucket_name = text_datum(bucket_name);
        question->scope.zone_name = text_datum(zone_name);
    }
    if (!PG_ARGISNULL(kAggregation))
        question->aggregation = find_aggregation(text_view(PG_GETARG_DATUM(kAggregation)));
    question->scope.has_user = !PG_ARGISNULL(kUserId);
    if (question->scope.has_user)
        question->scope.user = text_datum(text_view(PG_GETARG_DATUM(kUserId)));

    const MeterDefinition* meter = &require_meter(org, event_name);
    question->meter_id = meter->id;
    if (question->aggregation == nullptr)
        question->aggregation = find_aggregation(meter->aggregation);
    if (!PG_ARGISNULL(kGroupBy))
        read_group_by(PG_GETARG_ARRAYTYPE_P(kGroupBy), meter, question);
    if (!PG_ARGISNULL(kFilter))
        read_filters(PG_GETARG_JSONB_P(kFilter), *meter, &question->filters);

    UsageScope* scope = &question->scope;
    scope->meter_count = 1;
    scope->meters = &question->meter_id;
    scope->names = question->names;
    scope->filters = &question->filters;
    scope->zone = zone;
    scope->needs_order = question->aggregation->needs_order;
    scope->needs_digest = digest;
    question->source = find_source(scope);
    require_events(question->source);

    const bool fill = question->scope.has_bucket && !PG_ARGISNULL(kFill) && PG_GETARG_BOOL(kFill);
    auto* query = static_cast<QueryText*>(palloc(sizeof(QueryText)));
    write_usage_query(query, question, fill);
    if (!fill) {
        run_event_query(query, planning_of(question->source), set.store, set.context);
        require_events(question->source);
        return;
    }
    if (digest)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("fill is not possible where digests are asked for")));
    check_bucket_count(zone, question->scope.bucket, question->scope.period);
    Tuplestorestate* cells = tuplestore_begin_heap(false, false, work_mem);
    run_event_query(query, planning_of(question->source), cells, CurrentMemoryContext);
    require_events(question->source);
    fill_usage(set, cells, question, zone);
    tuplestore_end(cells);
}

}  // namespace

}  // namespace meter::pg

METER_FUNCTION(meter_usage) {
    using namespace meter::pg;
    const SetResult set = begin_set(fcinfo);
    const Call call = begin_call(Privilege::kRead, "query usage");
    answer_usage(fcinfo, set, call.org, false);
    end_call(call);
    PG_RETURN_NULL();
}

METER_FUNCTION(meter_usage_digest) {
    using namespace meter::pg;
    const SetResult set = begin_set(fcinfo);
    const Call call = begin_call(Privilege::kRead, "query usage");
    answer_usage(fcinfo, set, call.org, true);
    end_call(call);
    PG_RETURN_NULL();
}

METER_FUNCTION(meter_usage_report) {
    using namespace meter::pg;
    const SetResult set = begin_set(fcinfo);
    const Call call = begin_call(Privilege::kRead, "query usage");
    auto* scope = static_cast<UsageScope*>(palloc0(sizeof(UsageScope)));
    scope->period = read_period(fcinfo, 0, 1);
    scope->has_user = !PG_ARGISNULL(2);
    if (scope->has_user)
        scope->user = PG_GETARG_DATUM(2);
    scope->by_user = true;
    scope->by_meter = true;
    scope->filters = static_cast<DimensionFilters*>(palloc0(sizeof(DimensionFilters)));
    find_meters(call.org, scope);
    if (scope->meter_count > 0) {
        auto* query = static_cast<QueryText*>(palloc(sizeof(QueryText)));
        const UsageSource source = find_source(scope);
        require_events(source);
        write_report_query(query, source);
        run_event_query(query, planning_of(source), set.store, set.context);
        require_events(source);
    }
    end_call(call);
    PG_RETURN_NULL();
}
