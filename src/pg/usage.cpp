// meter.usage() and meter.usage_report(): arguments, and what is done with them.
#include "pg/compat.hpp"

#include <cstdint>
#include <string_view>

#include "pg/caller.hpp"
#include "pg/catalog.hpp"
#include "pg/event_query.hpp"
#include "pg/guard.hpp"
#include "pg/memory.hpp"
#include "pg/property.hpp"
#include "pg/retention.hpp"
#include "pg/rounding.hpp"
#include "pg/set_result.hpp"
#include "pg/spi.hpp"
#include "pg/time_zone.hpp"
#include "pg/usage_bucket.hpp"
#include "pg/usage_fill.hpp"
#include "pg/usage_query.hpp"
#include "pg/values.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
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
    kFill,
    kProperty,
    kRounding,
    kRoundingPrecision
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

// Completes the question's scope, once its aggregation and what it tells apart are known.
void finish_scope(UsageQuestion* question, ZoneTransitions* zone) {
    UsageScope* scope = &question->scope;
    scope->meter_count = 1;
    scope->meters = &question->meter_id;
    scope->names = question->names;
    scope->filters = &question->filters;
    scope->zone = zone;
    find_sources(question);
}

// Raises an error where the question needs events that have been dropped.
void require_events(const UsageQuestion& question) {
    require_events(question.source);
    if (question.before.scope != nullptr)
        require_events(question.before);
}

// The same for the first events of the cells of looks_up_first(), and where one is not there.
void require_first_events(Tuplestorestate* cells) {
    TupleTableSlot* slot =
        MakeSingleTupleTableSlot(cell_descriptor(TIMESTAMPTZOID), &TTSOpsMinimalTuple);
    int64 earliest = PG_INT64_MAX;
    bool missing = false;
    while (tuplestore_gettupleslot(cells, true, false, slot)) {
        CHECK_FOR_INTERRUPTS();
        slot_getallattrs(slot);
        if (slot->tts_isnull[kCellMore])
            continue;
        earliest = Min(earliest, to_unix_micros(DatumGetTimestampTz(slot->tts_values[kCellMore])));
        missing = missing || slot->tts_isnull[kCellValue];
    }
    ExecDropSingleTupleTableSlot(slot);
    tuplestore_rescan(cells);
    require_event(earliest);
    if (missing)
        ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                        errmsg("the rollups have a first event that is not there"),
                        errhint("meter.verify() shows what differs, meter.rebuild() mends it.")));
}

// Puts the answer into `set`.
void answer(const UsageQuestion* question, bool fill, const SetResult& set) {
    require_events(*question);
    auto* query = static_cast<QueryText*>(palloc(sizeof(QueryText)));
    const bool levels = has_levels(*question);
    const bool first = looks_up_first(*question);
    write_usage_query(query, question, fill || levels);
    const Planning planning = planning_of(*question);
    if (!fill && !levels && !first) {
        run_event_query(query, planning, set.store, set.context);
        require_events(*question);
        return;
    }
    if (fill)
        check_bucket_count(question->scope.zone, question->scope.bucket, question->scope.period);
    Tuplestorestate* cells = tuplestore_begin_heap(first, false, work_mem);
    run_event_query(query, planning, cells, CurrentMemoryContext);
    require_events(*question);
    if (first)
        require_first_events(cells);
    if (levels)
        put_levels(set, cells, question, fill);
    else if (fill)
        fill_usage(set, cells, question);
    else
        put_cells(set, cells);
    tuplestore_end(cells);
}

// What a meter of the report that is not added up with the others is asked for.
struct ReportMeter {
    Datum event_name;  // text
    UsageQuestion* question;
};

// The meters of an org.
struct ReportMeters {
    int plain_count;  // those whose aggregations are plain
    int32* plain;
    bool needs_order;  // one of these does
    int other_count;
    ReportMeter* others;  // by event_name
};

// A question for a meter's usage by user in the period of the scope, or one user's.
UsageQuestion* ask_by_user(const UsageScope& scope, uint64 row) {
    auto* question = static_cast<UsageQuestion*>(palloc0(sizeof(UsageQuestion)));
    bool null;
    question->meter_id = DatumGetInt32(result(row, 1, &null));
    question->aggregation = find_aggregation(text_view(result(row, 3, &null)));
    MeterDefinition meter{};  // it took the property when that was set
    const Datum property = result(row, 4, &null);
    if (!null)
        question->scope.property = read_property(text_view(property), meter);
    const Datum rounding = result(row, 5, &null);
    meter.rounding = null ? std::string_view{} : text_view(rounding);
    meter.rounding_precision = DatumGetInt32(result(row, 6, &null));
    question->rounding = rounding_of(meter);
    question->scope.period = scope.period;
    question->scope.has_user = scope.has_user;
    question->scope.user = scope.user;
    question->scope.by_user = true;
    return question;
}

// Finds every meter of the org, for the scope of a report.
ReportMeters find_meters(std::string_view org, const UsageScope& scope) {
    static Statement select = {
        "SELECT id, event_name, aggregation, property, rounding, rounding_precision "
        "FROM meter.meter WHERE org = $1 ORDER BY event_name",
        {TEXTOID},
        true};
    const Datum values[] = {text_datum(org)};
    const uint64 count = run(select, values, nullptr, Run::kCaller);
    ReportMeters meters{};
    meters.plain = static_cast<int32*>(palloc(sizeof(int32) * Max(count, 1)));
    meters.others = static_cast<ReportMeter*>(palloc(sizeof(ReportMeter) * Max(count, 1)));
    for (uint64 row = 0; row < count; ++row) {
        bool null;
        const Aggregation* aggregation = find_aggregation(text_view(result(row, 3, &null)));
        if (aggregation->kind == Aggregation::Kind::kPlain) {
            meters.plain[meters.plain_count++] = DatumGetInt32(result(row, 1, &null));
            meters.needs_order |= aggregation->needs_order;
        } else
            meters.others[meters.other_count++] = {text_datum(text_view(result(row, 2, &null))),
                                                   ask_by_user(scope, row)};
    }
    SPI_freetuptable(SPI_tuptable);
    return meters;
}

// Puts the rows of the meters that are added up together into the store.
void report_plain(UsageScope* scope, Tuplestorestate* store, MemoryContext context) {
    auto* query = static_cast<QueryText*>(palloc(sizeof(QueryText)));
    const UsageSource source = find_source(scope);
    require_events(source);
    write_report_query(query, source);
    run_event_query(query, planning_of(source), store, context);
    require_events(source);
}

// Puts the rows of one meter into the report.
void report_one(const SetResult& set, const ReportMeter& meter) {
    finish_scope(meter.question,
                 make_in<ZoneTransitions>(CurrentMemoryContext, find_time_zone("UTC")));
    const SetResult rows{tuplestore_begin_heap(false, false, work_mem), usage_descriptor(),
                         CurrentMemoryContext};
    answer(meter.question, false, rows);
    TupleTableSlot* slot = MakeSingleTupleTableSlot(rows.descriptor, &TTSOpsMinimalTuple);
    while (tuplestore_gettupleslot(rows.store, true, false, slot)) {
        CHECK_FOR_INTERRUPTS();
        slot_getallattrs(slot);
        const Datum values[] = {meter.event_name, slot->tts_values[kCellUser],
                                slot->tts_values[kCellValue], slot->tts_values[kCellCount]};
        const bool nulls[] = {false, slot->tts_isnull[kCellUser], slot->tts_isnull[kCellValue],
                              false};
        put_row(set, values, nulls);
    }
    ExecDropSingleTupleTableSlot(slot);
    tuplestore_end(rows.store);
}

// Puts the report together where it has meters that are asked one by one, by event_name.
void merge_report(const SetResult& set, UsageScope* scope, const ReportMeters& meters) {
    Tuplestorestate* plain = tuplestore_begin_heap(false, false, work_mem);
    if (meters.plain_count > 0)
        report_plain(scope, plain, CurrentMemoryContext);
    TupleTableSlot* slot = MakeSingleTupleTableSlot(set.descriptor, &TTSOpsMinimalTuple);
    bool has_row = tuplestore_gettupleslot(plain, true, false, slot);
    for (int i = 0; i <= meters.other_count; ++i) {
        while (has_row) {
            CHECK_FOR_INTERRUPTS();
            slot_getallattrs(slot);
            if (i < meters.other_count &&
                text_view(slot->tts_values[0]) > text_view(meters.others[i].event_name))
                break;
            put_row(set, slot->tts_values, slot->tts_isnull);
            has_row = tuplestore_gettupleslot(plain, true, false, slot);
        }
        if (i < meters.other_count)
            report_one(set, meters.others[i]);
    }
    ExecDropSingleTupleTableSlot(slot);
    tuplestore_end(plain);
}

// Raises feature_not_supported unless the rows that the aggregation adds up have digests.
void require_digests(const Aggregation& aggregation) {
    if (aggregation.kind != Aggregation::Kind::kPlain)
        ereport(ERROR,
                (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                 errmsg("digests cannot be had with aggregation \"%s\"", shown(aggregation.name)),
                 errhint("Ask for them with aggregation => 'count'.")));
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
    if (digest)
        require_digests(*question->aggregation);
    else
        // A meter is rounded as its own aggregation needs it: an average of what it sums, or how
        // many users there were, is another number.
        question->rounding = read_rounding(
            fcinfo, kRounding, kRoundingPrecision,
            question->aggregation->name == meter->aggregation ? rounding_of(*meter) : Rounding{});
    if (question->aggregation->kind == Aggregation::Kind::kUnique) {
        const std::string_view property = text_or(fcinfo, kProperty, meter->property);
        if (property.empty())
            raise_property_missing();
        question->scope.property = read_property(property, *meter);
    } else if (!digest && !PG_ARGISNULL(kProperty))
        raise_property_unused(question->aggregation->name);
    if (!PG_ARGISNULL(kGroupBy))
        read_group_by(PG_GETARG_ARRAYTYPE_P(kGroupBy), meter, question);
    if (!PG_ARGISNULL(kFilter))
        read_filters(PG_GETARG_JSONB_P(kFilter), *meter, &question->filters);

    question->scope.needs_digest = digest;
    finish_scope(question, zone);
    const bool fill = question->scope.has_bucket && !PG_ARGISNULL(kFill) && PG_GETARG_BOOL(kFill);
    if (fill && digest)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("fill is not possible where digests are asked for")));
    answer(question, fill, set);
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
    const ReportMeters meters = find_meters(call.org, *scope);
    scope->meter_count = meters.plain_count;
    scope->meters = meters.plain;
    scope->needs_order = meters.needs_order;
    if (meters.other_count > 0)
        merge_report(set, scope, meters);
    else if (meters.plain_count > 0)
        report_plain(scope, set.store, set.context);
    end_call(call);
    PG_RETURN_NULL();
}
