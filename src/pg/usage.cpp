// meter.usage() and meter.usage_report(): arguments, and what is done with them.
#include "pg/compat.hpp"

#include <cstdint>
#include <string_view>

#include "pg/caller.hpp"
#include "pg/catalog.hpp"
#include "pg/guard.hpp"
#include "pg/memory.hpp"
#include "pg/set_result.hpp"
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

// The most values that a filter may list, all names together.
constexpr int kMaxFilterValues = 10'000;

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

// A NUL-terminated copy for a message.
const char* shown(std::string_view text) {
    return copy_to_context(text).data();
}

// Reads a period from two arguments. Raises invalid_parameter_value unless both are there, finite
// and in order; an empty period is one.
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

// Raises or throws invalid_parameter_value where `name` cannot be a dimension of the meter.
void check_dimension(const MeterDefinition* meter, std::string_view name, const char* argument) {
    if (meter->dimension_count == 0)
        check_dimension_name(name);
    if (meter->dimension_count == 0 || meter->declares(name))
        return;
    StringInfoData declared;
    initStringInfo(&declared);
    for (int i = 0; i < meter->dimension_count; ++i)
        appendStringInfo(&declared, "%s\"%s\"", i == 0 ? "" : ", ", shown(meter->dimensions[i]));
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("%s: dimension \"%s\" is not declared by meter \"%s\"", argument,
                           shown(name), shown(meter->event_name)),
                    errhint("The meter declares %s.", declared.data)));
}

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
            again = question->by_user;
            question->by_user = true;
        } else {
            for (int j = 0; j < question->name_count; ++j)
                again = again || text_view(question->names[j]) == name;
            if (question->name_count == static_cast<int>(kMaxDimensions))
                ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                                errmsg("group_by has more than %d dimensions",
                                       static_cast<int>(kMaxDimensions))));
            check_dimension(meter, name, "group_by");
            question->names[question->name_count++] = names[i];
        }
        if (again)
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                            errmsg("group_by has \"%s\" twice", shown(name))));
    }
}

[[noreturn]] void refuse_filter(std::string_view name) {
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("filter: the values of \"%s\" are nested", shown(name)),
                    errhint("A dimension is filtered by a scalar or an array of scalars.")));
    pg_unreachable();
}

// Reads the values that the filter has for one name: a scalar, or an array of them, of which the
// iterator has just returned `value` or the array's start.
Datum read_filter_values(JsonbIterator** iterator, JsonbIteratorToken token, JsonbValue* value,
                         std::string_view name, int* left) {
    ArrayBuildState* built = initArrayResult(JSONBOID, CurrentMemoryContext, false);
    const bool is_array = token == WJB_BEGIN_ARRAY;
    if (token == WJB_BEGIN_OBJECT)
        refuse_filter(name);
    if (is_array)
        token = JsonbIteratorNext(iterator, value, false);
    for (; token == WJB_ELEM || token == WJB_VALUE;
         token = JsonbIteratorNext(iterator, value, false)) {
        if (--*left < 0)
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                            errmsg("filter has more than %d values", kMaxFilterValues)));
        CHECK_FOR_INTERRUPTS();
        accumArrayResult(built, JsonbPGetDatum(JsonbValueToJsonb(value)), false, JSONBOID,
                         CurrentMemoryContext);
        if (!is_array)
            break;
    }
    if (is_array && token != WJB_END_ARRAY)
        refuse_filter(name);
    return makeArrayResult(built, CurrentMemoryContext);
}

void read_filter(Jsonb* filter, const MeterDefinition* meter, UsageQuestion* question) {
    if (!JB_ROOT_IS_OBJECT(filter))
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("filter must be a JSON object"),
                 errhint("For example '{\"model\": \"gpt-4\", \"region\": [\"us\", "
                         "\"eu\"]}'.")));
    if (JB_ROOT_COUNT(filter) > kMaxDimensions)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("filter has more than %d names", static_cast<int>(kMaxDimensions))));
    int left = kMaxFilterValues;
    JsonbValue value;
    JsonbIterator* iterator = JsonbIteratorInit(&filter->root);
    for (JsonbIteratorToken token = JsonbIteratorNext(&iterator, &value, false); token != WJB_DONE;
         token = JsonbIteratorNext(&iterator, &value, false)) {
        if (token != WJB_KEY)
            continue;
        const std::string_view name(value.val.string.val,
                                    static_cast<std::size_t>(value.val.string.len));
        if (name == "user_id")
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                            errmsg("filter: \"user_id\" is not a dimension"),
                            errhint("Use the argument user_id.")));
        check_dimension(meter, name, "filter");
        DimensionFilter* added = &question->filters[question->filter_count++];
        added->name = text_datum(name);
        token = JsonbIteratorNext(&iterator, &value, false);
        added->values = read_filter_values(&iterator, token, &value, name, &left);
    }
}

// The text argument, or `otherwise` where it is null.
std::string_view text_or(FunctionCallInfo fcinfo, int index, std::string_view otherwise) {
    return PG_ARGISNULL(index) ? otherwise : text_view(PG_GETARG_DATUM(index));
}

// Answers meter.usage() into `set`, within begin_call().
void answer_usage(FunctionCallInfo fcinfo, const SetResult& set, MemoryContext store_context,
                  std::string_view org) {
    require_argument(fcinfo, kEventName, "event_name");
    const std::string_view event_name = text_view(PG_GETARG_DATUM(kEventName));
    auto* question = static_cast<UsageQuestion*>(palloc0(sizeof(UsageQuestion)));
    question->period = read_period(fcinfo, kPeriodStart, kPeriodEnd);
    question->has_bucket = !PG_ARGISNULL(kBucket);
    const std::string_view zone_name = text_or(fcinfo, kTimeZone, "UTC");
    auto* zone = make_in<ZoneTransitions>(CurrentMemoryContext, find_time_zone(zone_name));
    if (question->has_bucket) {
        const std::string_view bucket_name = text_view(PG_GETARG_DATUM(kBucket));
        question->bucket = find_bucket(bucket_name);
        question->bucket_name = text_datum(bucket_name);
        question->zone_name = text_datum(zone_name);
    }
    if (!PG_ARGISNULL(kAggregation))
        question->aggregation = find_aggregation(text_view(PG_GETARG_DATUM(kAggregation)));
    question->has_user = !PG_ARGISNULL(kUserId);
    if (question->has_user)
        question->user = text_datum(text_view(PG_GETARG_DATUM(kUserId)));

    const MeterDefinition* meter = find_meter(org, event_name);
    if (meter == nullptr)
        ereport(ERROR,
                (errcode(ERRCODE_UNDEFINED_OBJECT),
                 errmsg("meter \"%s\" does not exist in org \"%s\"", shown(event_name), shown(org)),
                 errhint("meter.list_meters(true) lists the meters there are.")));
    question->meter_id = meter->id;
    if (question->aggregation == nullptr)
        question->aggregation = find_aggregation(meter->aggregation);
    if (!PG_ARGISNULL(kGroupBy))
        read_group_by(PG_GETARG_ARRAYTYPE_P(kGroupBy), meter, question);
    if (!PG_ARGISNULL(kFilter))
        read_filter(PG_GETARG_JSONB_P(kFilter), meter, question);

    const bool fill = question->has_bucket && !PG_ARGISNULL(kFill) && PG_GETARG_BOOL(kFill);
    auto* query = static_cast<QueryText*>(palloc(sizeof(QueryText)));
    write_usage_query(query, question, fill);
    if (!fill) {
        run_query(query, set.store, store_context);
        return;
    }
    check_bucket_count(zone, question->bucket, question->period);
    Tuplestorestate* cells = tuplestore_begin_heap(false, false, work_mem);
    run_query(query, cells, CurrentMemoryContext);
    fill_usage(set, cells, question, zone);
    tuplestore_end(cells);
}

// Where begin_set() put the store.
MemoryContext store_context_of(FunctionCallInfo fcinfo) {
    return reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo)->econtext->ecxt_per_query_memory;
}

}  // namespace

}  // namespace meter::pg

METER_FUNCTION(meter_usage) {
    using namespace meter::pg;
    const SetResult set = begin_set(fcinfo);
    const Call call = begin_call(Privilege::kRead, "query usage");
    answer_usage(fcinfo, set, store_context_of(fcinfo), call.org);
    end_call(call);
    PG_RETURN_NULL();
}

METER_FUNCTION(meter_usage_report) {
    using namespace meter::pg;
    const SetResult set = begin_set(fcinfo);
    const Call call = begin_call(Privilege::kRead, "query usage");
    const Period period = read_period(fcinfo, 0, 1);
    const bool has_user = !PG_ARGISNULL(2);
    auto* query = static_cast<QueryText*>(palloc(sizeof(QueryText)));
    write_report_query(query, call.org, period, has_user, has_user ? PG_GETARG_DATUM(2) : Datum{0});
    run_query(query, set.store, store_context_of(fcinfo));
    end_call(call);
    PG_RETURN_NULL();
}
