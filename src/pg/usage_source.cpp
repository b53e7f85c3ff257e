#include "pg/usage_source.hpp"

#include <algorithm>
#include <optional>

#include "pg/cells.hpp"
#include "pg/generation.hpp"
#include "pg/memory.hpp"
#include "pg/span_arrays.hpp"
#include "pg/spi.hpp"
#include "pg/usage_voids.hpp"
#include "pg/values.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "utils/array.h"
}

namespace meter::pg {

Datum meter_array(const UsageScope* scope) {
    auto* ids = static_cast<Datum*>(palloc(sizeof(Datum) * static_cast<Size>(scope->meter_count)));
    for (int i = 0; i < scope->meter_count; ++i)
        ids[i] = Int32GetDatum(scope->meters[i]);
    return PointerGetDatum(
        construct_array(ids, scope->meter_count, INT4OID, 4, true, TYPALIGN_INT));
}

bool tells_users(const UsageScope* scope) {
    return scope->by_user || scope->property.kind == Property::Kind::kUser;
}

namespace {

// A month of the meters that has cells, and the timestamps in it.
struct FoldedMonth {
    int64 start;
    int64 first;
    int64 last;
    bool dirty;
};

struct FoldedMonths {
    int count;
    FoldedMonth* items;
};

FoldedMonths find_folded_months(Datum meters) {
    static Statement select = {
        "SELECT month, min(first_timestamp), max(last_timestamp), bool_or(dirty) "
        "FROM meter.rollup_month WHERE meter_id = ANY ($1) GROUP BY month ORDER BY month",
        {INT4ARRAYOID},
        true};
    const Datum values[] = {meters};
    const auto count = static_cast<int>(run(select, values, nullptr, Run::kCaller));
    FoldedMonths months{count, static_cast<FoldedMonth*>(
                                   palloc(sizeof(FoldedMonth) * static_cast<Size>(Max(count, 1))))};
    for (int i = 0; i < count; ++i) {
        bool null;
        const auto row = static_cast<uint64>(i);
        months.items[i] = {to_unix_micros(DatumGetTimestampTz(result(row, 1, &null))),
                           to_unix_micros(DatumGetTimestampTz(result(row, 2, &null))),
                           to_unix_micros(DatumGetTimestampTz(result(row, 3, &null))),
                           DatumGetBool(result(row, 4, &null))};
    }
    SPI_freetuptable(SPI_tuptable);
    return months;
}

// The timestamps of the scope's deltas, and whether events of it were voided.
struct PendingTimes {
    bool any;
    int64 first;
    int64 last;
    bool dirty;
    bool voids;
};

PendingTimes find_pending_times(const UsageScope* scope, Datum meters, Datum generations) {
#define METER_PENDING_TIMES(user)                                                             \
    "SELECT min(first_timestamp), max(COALESCE(last_timestamp, first_timestamp)), "           \
    "COALESCE(bool_or(dirty OR voided), false), EXISTS (SELECT FROM meter.event_void v "      \
    "WHERE v.meter_id = ANY ($2) AND v.event_timestamp >= $3 AND v.event_timestamp < $4" user \
    ") FROM meter.rollup_pending WHERE generation = ANY ($1) AND meter_id = ANY ($2)" user
    static Statement all = {METER_PENDING_TIMES(""),
                            {INT4ARRAYOID, INT4ARRAYOID, TIMESTAMPTZOID, TIMESTAMPTZOID},
                            true};
    static Statement of_user = {
        METER_PENDING_TIMES(" AND user_id = $5"),
        {INT4ARRAYOID, INT4ARRAYOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID},
        true};
    // The events of a month may be read that the period only cuts.
    const int64 from = utc_month_of(Max(to_unix_micros(scope->period.start), 0)).start;
    const int64 to = utc_month_of(Max(to_unix_micros(scope->period.end), 0)).end;
    const Datum values[] = {generations, meters, TimestampTzGetDatum(to_timestamptz(from)),
                            TimestampTzGetDatum(to_timestamptz(to)), scope->user};
    run(scope->has_user ? of_user : all, values, nullptr, Run::kCaller);
    bool null;
    PendingTimes times{};
    const Datum first = result(0, 1, &null);
    times.any = !null;
    times.voids = DatumGetBool(result(0, 4, &null));
    if (times.any) {
        times.first = to_unix_micros(DatumGetTimestampTz(first));
        times.last = to_unix_micros(DatumGetTimestampTz(result(0, 2, &null)));
        times.dirty = DatumGetBool(result(0, 3, &null));
    }
    SPI_freetuptable(SPI_tuptable);
    return times;
}

// Whether the scope tells apart or filters by what its meters' cells are without: metadata, or a
// dimension that was left out.
bool needs_left_out(const UsageScope* scope, Datum meters) {
    const bool counts_dimension = scope->property.kind == Property::Kind::kDimension;
    if (scope->property.kind == Property::Kind::kMetadata)
        return true;
    if (scope->name_count == 0 && scope->filters->count == 0 && !counts_dimension)
        return false;
    static Statement select = {
        "SELECT FROM meter.rollup_meter WHERE meter_id = ANY ($1) AND (left_out && $2 OR "
        "('' = ANY (left_out) AND NOT $2 <@ kept))",
        {INT4ARRAYOID, TEXTARRAYOID},
        true};
    Datum names[2 * kMaxDimensions + 1];
    int count = 0;
    if (counts_dimension)
        names[count++] = scope->property.name;
    for (int i = 0; i < scope->name_count; ++i)
        names[count++] = scope->names[i];
    for (int i = 0; i < scope->filters->count; ++i)
        names[count++] = scope->filters->items[i].name;
    const Datum values[] = {
        meters, PointerGetDatum(construct_array(names, count, TEXTOID, -1, false, TYPALIGN_INT))};
    return run(select, values, nullptr, Run::kCaller) > 0;
}

// The months of UTC that days and hours of the cut lie in.
void find_cut_months(const PeriodCut& cut, std::vector<TimeSpan>* months) {
    for (const auto* spans : {&cut.days, &cut.hours})
        for (const TimeSpan& span : *spans)
            for (int64 at = span.start; at < span.end;) {
                const TimeSpan month = utc_month_of(at);
                months->push_back(month);
                at = month.end;
            }
    std::sort(months->begin(), months->end(),
              [](const TimeSpan& a, const TimeSpan& b) { return a.start < b.start; });
    months->erase(
        std::unique(months->begin(), months->end(),
                    [](const TimeSpan& a, const TimeSpan& b) { return a.start == b.start; }),
        months->end());
}

// Where one user has no day cells, leaves the days and hours to the events. A month in which
// nothing of the user was folded yet is left as it is: there are deltas at most.
void leave_out_sparse_months(const UsageScope* scope, Datum meters, PeriodCut* cut,
                             const std::vector<TimeSpan>& months) {
    static Statement select = {
        "SELECT k.ordinality, d.days_from FROM unnest($3) WITH ORDINALITY AS k (month) "
        "LEFT JOIN meter.rollup_days d ON d.meter_id = ANY ($1) AND d.user_id = $2 "
        "AND d.month = k.month WHERE d.days_from > k.month OR (d.days_from IS NULL AND "
        "EXISTS (SELECT FROM meter.rollup r WHERE r.meter_id = ANY ($1) AND r.grain = 'm' "
        "AND r.start = k.month AND r.user_id = $2))",
        {INT4ARRAYOID, TEXTOID, TIMESTAMPTZARRAYOID},
        true};
    const Datum values[] = {meters, scope->user, start_times(months)};
    const uint64 count = run(select, values, nullptr, Run::kCaller);
    for (uint64 row = 0; row < count; ++row) {
        bool null;
        const TimeSpan& month =
            months[static_cast<std::size_t>(DatumGetInt64(result(row, 1, &null)) - 1)];
        const Datum from = result(row, 2, &null);
        cut->move_to_raw(
            {month.start, null ? month.end : to_unix_micros(DatumGetTimestampTz(from))});
    }
    SPI_freetuptable(SPI_tuptable);
}

}  // namespace

// The buckets of a scope, where it has any, for instants of [from, to).
std::optional<Buckets> buckets_of(const UsageScope* scope, int64 from, int64 to) {
    if (!scope->has_bucket)
        return std::nullopt;
    return Buckets{scope->zone->covering(from, to), scope->bucket};
}

UsageSource find_source(const UsageScope* scope) {
    UsageSource source{};
    source.scope = scope;
    source.cut = make_in<PeriodCut>(CurrentMemoryContext);
    source.hour_pieces = make_in<std::vector<BucketPiece>>(CurrentMemoryContext);
    source.mixed_months = make_in<std::vector<TimeSpan>>(CurrentMemoryContext);
    source.generations = open_generations(Run::kCaller);
    int64 from = to_unix_micros(scope->period.start);
    int64 to = to_unix_micros(scope->period.end);
    const Datum meters = meter_array(scope);
    const FoldedMonths months = find_folded_months(meters);
    const PendingTimes pending = find_pending_times(scope, meters, source.generations);
    source.has_voids = pending.voids;
    if (from >= to || (months.count == 0 && !pending.any))
        return source;

    // Outside of these there is nothing.
    int64 first = pending.any ? pending.first : PG_INT64_MAX;
    int64 last = pending.any ? pending.last : PG_INT64_MIN;
    bool dirty = pending.dirty;
    auto* dirty_months = make_in<std::vector<TimeSpan>>(CurrentMemoryContext);
    for (int i = 0; i < months.count; ++i) {
        first = Min(first, months.items[i].first);
        last = Max(last, months.items[i].last);
        if (months.items[i].dirty)
            dirty_months->push_back(utc_month_of(months.items[i].start));
    }
    dirty = dirty || !dirty_months->empty();
    from = Max(from, utc_month_of(first).start);
    to = Min(to, utc_month_of(last).end);
    if (from >= to)
        return source;
    if (needs_left_out(scope, meters)) {
        source.cut->raw.push_back({from, to});
        return source;
    }

    // A month that the period cuts is whole all the same where nothing lies beyond the edge.
    const TimeSpan first_month = utc_month_of(from);
    const TimeSpan last_month = utc_month_of(to - 1);
    bool whole_first = !pending.any || pending.first >= from;
    bool whole_last = !pending.any || pending.last < to;
    for (int i = 0; i < months.count; ++i) {
        const FoldedMonth& month = months.items[i];
        if (month.start == first_month.start)
            whole_first = whole_first && month.first >= from;
        if (month.start == last_month.start)
            whole_last = whole_last && month.last < to;
    }
    if (whole_first)
        from = first_month.start;
    if (whole_last)
        to = last_month.end;

    auto* used = make_in<std::vector<TimeSpan>>(CurrentMemoryContext);
    for (int i = 0; i < months.count; ++i)
        used->push_back(utc_month_of(months.items[i].start));
    if (pending.any)
        used->push_back({utc_month_of(pending.first).start, utc_month_of(pending.last).end});
    const std::optional<Buckets> buckets = buckets_of(scope, from, to);
    *source.cut = cut_period(from, to, merge_spans({used}), buckets);
    if (scope->needs_order && dirty)
        leave_out_dirty(scope, meters, source.generations, *dirty_months, source.cut);
    // Hours have no digests, and one by one neither value x time nor first timestamps.
    if (scope->needs_digest || (scope->explains && (scope->needs_time || scope->needs_first)))
        source.cut->hours_to_raw();
    *source.hour_pieces = pieces_of(source.cut->hours, buckets);
    if (!scope->has_user && !tells_users(scope))
        return source;
    auto* cut_months = make_in<std::vector<TimeSpan>>(CurrentMemoryContext);
    find_cut_months(*source.cut, cut_months);
    if (cut_months->empty())
        return source;
    if (scope->has_user && scope->meter_count == 1) {
        leave_out_sparse_months(scope, meters, source.cut, *cut_months);
        *source.hour_pieces = pieces_of(source.cut->hours, buckets);
    } else
        source.mixed_months = cut_months;
    return source;
}

Planning planning_of(const UsageSource& source) {
    // A long list of values is looked through one by one unless the planner sees it.
    constexpr int kFewValues = 8;
    const DimensionFilters& filters = *source.scope->filters;
    for (int i = 0; i < filters.count; ++i) {
        ArrayType* values = DatumGetArrayTypeP(filters.items[i].values);
        if (ArrayGetNItems(ARR_NDIM(values), ARR_DIMS(values)) > kFewValues)
            return Planning::kEachTime;
    }
    return source.scope->has_user || (source.cut->raw.empty() && source.mixed_months->empty())
               ? Planning::kOnce
               : Planning::kEachTime;
}

bool reads_events_alone(const UsageSource& source) {
    const PeriodCut& cut = *source.cut;
    return cut.months.empty() && cut.days.empty() && cut.hours.empty();
}

bool is_empty(const UsageSource& source) {
    return reads_events_alone(source) && source.cut->raw.empty();
}

}  // namespace meter::pg
