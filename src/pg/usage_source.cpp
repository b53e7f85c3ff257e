#include "pg/usage_source.hpp"

#include <algorithm>
#include <cstring>
#include <optional>

#include "pg/cells.hpp"
#include "pg/generation.hpp"
#include "pg/memory.hpp"
#include "pg/spi.hpp"
#include "pg/usage_voids.hpp"
#include "pg/values.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "utils/array.h"
}

namespace meter::pg {

namespace {

Datum meter_array(const UsageScope* scope) {
    auto* ids = static_cast<Datum*>(palloc(sizeof(Datum) * static_cast<Size>(scope->meter_count)));
    for (int i = 0; i < scope->meter_count; ++i)
        ids[i] = Int32GetDatum(scope->meters[i]);
    return PointerGetDatum(
        construct_array(ids, scope->meter_count, INT4OID, 4, true, TYPALIGN_INT));
}

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

// A timestamptz[] of an instant of each item.
template <typename T, typename Instant>
Datum time_array(const std::vector<T>& items, Instant instant) {
    const auto count = static_cast<int>(items.size());
    auto* values = static_cast<Datum*>(palloc(sizeof(Datum) * static_cast<Size>(Max(count, 1))));
    for (int i = 0; i < count; ++i)
        values[i] =
            TimestampTzGetDatum(to_timestamptz(instant(items[static_cast<std::size_t>(i)])));
    return PointerGetDatum(
        construct_array(values, count, TIMESTAMPTZOID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

Datum start_times(const std::vector<TimeSpan>& spans) {
    return time_array(spans, [](const TimeSpan& span) { return span.start; });
}

Datum end_times(const std::vector<TimeSpan>& spans) {
    return time_array(spans, [](const TimeSpan& span) { return span.end; });
}

// Whether users are told apart.
bool tells_users(const UsageScope* scope) {
    return scope->by_user || scope->property.kind == Property::Kind::kUser;
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

void append_scope(QueryText* query, const UsageScope* scope, int meter, int user) {
    StringInfo sql = &query->sql;
    appendStringInfo(sql, scope->meter_count == 1 ? "e.meter_id = $%d" : "e.meter_id = ANY ($%d)",
                     meter);
    if (scope->has_user)
        appendStringInfo(sql, " AND e.user_id = $%d", user);
    append_filters(query, *scope->filters);
}

namespace {

constexpr const char* kTotals = "meter.rollup_total";

const char* cell_table(const UsageScope* scope) {
    return scope->has_user || tells_users(scope) ? "meter.rollup" : kTotals;
}

// What a query over a source is put together of, by numbers of parameters.
struct SourceText {
    QueryText* query;
    const UsageSource* source;
    int bucket;
    int zone;
    const int* names;
    int meter;  // an int4, or an int4[] where there are several
    int user;
    int property;
    bool first;         // no part written yet
    bool has_metadata;  // e has the column: it is an event
};

// The property that is told apart.
void append_property(SourceText* text) {
    StringInfo sql = &text->query->sql;
    switch (text->source->scope->property.kind) {
        case Property::Kind::kNone:
            return;
        case Property::Kind::kUser:
            appendStringInfoString(sql, "e.user_id AS p, ");
            return;
        case Property::Kind::kDimension:
            appendStringInfo(sql, "e.dimensions -> $%d AS p, ", text->property);
            return;
        case Property::Kind::kMetadata:
            if (text->has_metadata)
                appendStringInfo(sql, "NULLIF(e.metadata -> $%d, 'null'::pg_catalog.jsonb) AS p, ",
                                 text->property);
            else
                appendStringInfoString(sql, "NULL::pg_catalog.jsonb AS p, ");
    }
}

// The columns that are told apart, but for the bucket, each with a comma.
void append_groups(SourceText* text) {
    const UsageScope* scope = text->source->scope;
    StringInfo sql = &text->query->sql;
    if (scope->by_user)
        appendStringInfoString(sql, "e.user_id AS u, ");
    if (scope->by_meter)
        appendStringInfoString(sql, "e.meter_id AS m, ");
    for (int i = 0; i < scope->name_count; ++i)
        appendStringInfo(sql, "COALESCE(e.dimensions -> $%d, 'null'::pg_catalog.jsonb) AS d%d, ",
                         text->names[i], i + 1);
    append_property(text);
}

// Their names, each with a comma.
void append_group_names(StringInfo sql, const UsageScope* scope, const char* prefix) {
    if (scope->by_user)
        appendStringInfo(sql, "%su, ", prefix);
    if (scope->by_meter)
        appendStringInfo(sql, "%sm, ", prefix);
    for (int i = 0; i < scope->name_count; ++i)
        appendStringInfo(sql, "%sd%d, ", prefix, i + 1);
    if (scope->property.kind != Property::Kind::kNone)
        appendStringInfo(sql, "%sp, ", prefix);
}

// What the rows of a part are.
struct PartKind {
    const char* name;
    const char* at;  // what the bucket is found by
    bool is_event;
};
constexpr PartKind kMonths = {"month", "e.start", false};
constexpr PartKind kDays = {"day", "e.start", false};
constexpr PartKind kHours = {"hour", "h.start", false};
constexpr PartKind kDeltas = {"delta", "e.first_timestamp", false};
constexpr PartKind kEvents = {"event", "e.\"timestamp\"", true};
constexpr PartKind kVoids = {"correction", "e.\"timestamp\"", true};

// Starts a part: SELECT and what is told apart. The rows are of alias e.
void begin_part(SourceText* text, const PartKind& kind) {
    const UsageScope* scope = text->source->scope;
    StringInfo sql = &text->query->sql;
    const char* at = kind.at;
    appendStringInfoString(sql, text->first ? "SELECT " : " UNION ALL SELECT ");
    text->first = false;
    if (scope->explains)
        appendStringInfo(
            sql, "'%s'::pg_catalog.text AS k, %s AS et, %s AS eu, e.dimensions AS ed, %s AS ei, ",
            kind.name, kind.at,
            std::strcmp(cell_table(scope), kTotals) == 0 && !kind.is_event && &kind != &kDeltas
                ? "NULL::pg_catalog.text"
                : "e.user_id",
            kind.is_event ? "e.id" : "NULL::pg_catalog.int8");
    if (scope->has_bucket)
        appendStringInfo(sql, "meter.bucket_start(%s, $%d, $%d) AS b, ", at, text->bucket,
                         text->zone);
    append_groups(text);
}

void append_scope(SourceText* text) {
    append_scope(text->query, text->source->scope, text->meter, text->user);
}

// The columns with numbers, of each kind of row: always, of the first event, of value x time, and
// the digest.
struct Numbers {
    const char* always;
    const char* first;
    const char* time;
    const char* digest;
};
constexpr const char* kStoredDigest = ", e.event_digest AS g";
constexpr Numbers kCellNumbers = {
    "e.event_count AS n, e.value_sum AS s, e.value_min AS lo, e.value_max AS hi, "
    "e.last_value AS v, e.last_timestamp AS at, e.last_id AS id",
    ", e.first_timestamp AS f",
    ", e.value_time + e.value_sum * (EXTRACT(epoch FROM e.start) * 1000000) AS w", kStoredDigest};
constexpr Numbers kHourNumbers = {
    "h.event_count AS n, h.value_sum AS s, h.value_min AS lo, h.value_max AS hi, "
    "h.last_value AS v, h.last_timestamp AS at, h.last_id AS id",
    ", h.first_timestamp AS f",
    ", h.value_time + h.value_sum * (EXTRACT(epoch FROM h.start) * 1000000) AS w",
    ""};  // hours have none: a question for digests is cut without them
constexpr Numbers kDeltaNumbers = {
    "e.event_count AS n, e.value_sum AS s, COALESCE(e.value_min, e.value_sum) AS lo, "
    "COALESCE(e.value_max, e.value_sum) AS hi, COALESCE(e.last_value, e.value_sum) AS v, "
    "COALESCE(e.last_timestamp, e.first_timestamp) AS at, e.last_id AS id",
    ", e.first_timestamp AS f",
    ", COALESCE(e.value_time + e.value_sum * (EXTRACT(epoch FROM "
    "pg_catalog.date_trunc('hour', e.first_timestamp, 'UTC')) * 1000000), "
    "e.value_sum * (EXTRACT(epoch FROM e.first_timestamp) * 1000000)) AS w",
    kStoredDigest};
constexpr Numbers kEventNumbers = {
    "1::pg_catalog.int8 AS n, e.value AS s, e.value AS lo, e.value AS hi, e.value AS v, "
    "e.\"timestamp\" AS at, e.id",
    ", e.\"timestamp\" AS f", ", e.value * (EXTRACT(epoch FROM e.\"timestamp\") * 1000000) AS w",
    ", meter.event_digest(e.id, e.\"timestamp\", e.value, e.dimensions) AS g"};
// A row that takes an event back. Where an order is asked for there is none.
constexpr Numbers kVoidNumbers = {
    "-1::pg_catalog.int8 AS n, -e.value AS s, e.value AS lo, e.value AS hi, e.value AS v, "
    "e.\"timestamp\" AS at, e.id",
    ", e.\"timestamp\" AS f", ", -e.value * (EXTRACT(epoch FROM e.\"timestamp\") * 1000000) AS w",
    ", meter.negate_digest(meter.event_digest(e.id, e.\"timestamp\", e.value, e.dimensions)) AS g"};

void append_numbers(SourceText* text, const Numbers& numbers) {
    const UsageScope* scope = text->source->scope;
    StringInfo sql = &text->query->sql;
    appendStringInfoString(sql, numbers.always);
    if (scope->needs_first)
        appendStringInfoString(sql, numbers.first);
    if (scope->needs_time)
        appendStringInfoString(sql, numbers.time);
    if (scope->needs_digest)
        appendStringInfoString(sql, numbers.digest);
}

// The condition that an event is not voided, where voided ones are left out.
void append_not_voided(SourceText* text) {
    if (text->source->has_voids && text->source->scope->needs_order)
        appendStringInfoString(&text->query->sql, " AND NOT " METER_IS_VOIDED("e"));
}

int time_parameter(QueryText* query, int64 unix_micros) {
    return add_parameter(query, TIMESTAMPTZOID, TimestampTzGetDatum(to_timestamptz(unix_micros)));
}

// "unnest($1, $2) AS k (start, stop)" over spans.
void append_spans(QueryText* query, const std::vector<TimeSpan>& spans, const char* alias) {
    const int starts = add_parameter(query, TIMESTAMPTZARRAYOID, start_times(spans));
    const int ends = add_parameter(query, TIMESTAMPTZARRAYOID, end_times(spans));
    appendStringInfo(&query->sql, "unnest($%d, $%d) AS %s (start, stop)", starts, ends, alias);
}

// "(SELECT range_agg ...)": spans as a multirange, made once a query.
void append_multirange(QueryText* query, const std::vector<TimeSpan>& spans) {
    appendStringInfoString(&query->sql,
                           "(SELECT pg_catalog.range_agg(pg_catalog.tstzrange(k.start, k.stop)) "
                           "FROM ");
    append_spans(query, spans, "k");
    appendStringInfoChar(&query->sql, ')');
}

// The starts of the months or days that spans touch.
Datum start_array(const std::vector<TimeSpan>& spans, bool months) {
    auto* starts = make_in<std::vector<TimeSpan>>(CurrentMemoryContext);
    for (const TimeSpan& span : spans)
        for (int64 at = span.start; at < span.end;) {
            const TimeSpan unit =
                months ? utc_month_of(at) : TimeSpan{day_start(at), day_start(at) + kDayMicros};
            if (starts->empty() || starts->back().start != unit.start)
                starts->push_back(unit);
            at = unit.end;
        }
    return start_times(*starts);
}

void append_cells(SourceText* text, char grain, const std::vector<TimeSpan>& spans) {
    if (spans.empty())
        return;
    begin_part(text, grain == 'm' ? kMonths : kDays);
    append_numbers(text, kCellNumbers);
    StringInfo sql = &text->query->sql;
    appendStringInfo(
        sql, " FROM %s e WHERE e.grain = '%c' AND e.start = ANY ($%d) AND ",
        cell_table(text->source->scope), grain,
        add_parameter(text->query, TIMESTAMPTZARRAYOID, start_array(spans, grain == 'm')));
    append_scope(text);
}

// Hours of days' cells one by one, to explain a number.
void append_each_hour(SourceText* text, const std::vector<TimeSpan>& spans) {
    begin_part(text, kHours);
    append_numbers(text, kHourNumbers);
    QueryText* query = text->query;
    appendStringInfo(
        &query->sql,
        " FROM %s e, LATERAL meter.cell_hours(e.start, e.first_timestamp, e.last_timestamp, "
        "e.event_count, e.last_id, e.value_sum, e.value_min, e.value_max, e.last_value, e.hours) "
        "AS h WHERE e.grain = 'd' AND e.start = ANY ($%d) AND h.start OPERATOR(pg_catalog.<@) ",
        cell_table(text->source->scope),
        add_parameter(query, TIMESTAMPTZARRAYOID, start_array(spans, false)));
    append_multirange(query, spans);
    appendStringInfoString(&query->sql, " AND ");
    append_scope(text);
}

// The hours of days' cells, added up by bucket within each group that the question tells apart.
void append_hours(SourceText* text, const std::vector<TimeSpan>& spans) {
    if (spans.empty())
        return;
    const UsageScope* scope = text->source->scope;
    if (scope->explains) {
        append_each_hour(text, spans);
        return;
    }
    const std::vector<BucketPiece>& pieces = *text->source->hour_pieces;
    QueryText* query = text->query;
    StringInfo sql = &query->sql;
    appendStringInfoString(sql, text->first ? "SELECT " : " UNION ALL SELECT ");
    text->first = false;
    if (scope->has_bucket)
        appendStringInfoString(sql, "h.start AS b, ");
    append_group_names(sql, scope, "g.");
    append_numbers(text, kHourNumbers);
    appendStringInfoString(sql, " FROM (SELECT ");
    append_groups(text);
    const auto piece_array = [&](auto&& instant) {
        return add_parameter(query, TIMESTAMPTZARRAYOID, time_array(pieces, instant));
    };
    const int starts = piece_array([](const BucketPiece& piece) { return piece.span.start; });
    const int ends = piece_array([](const BucketPiece& piece) { return piece.span.end; });
    const int buckets = piece_array([](const BucketPiece& piece) { return piece.bucket; });
    appendStringInfo(
        sql,
        "meter.sum_hours(e.start, e.first_timestamp, e.last_timestamp, e.event_count, e.last_id, "
        "e.value_sum, e.value_min, e.value_max, e.last_value, e.value_time, e.hours, $%d, $%d, "
        "$%d, "
        "%s, %s) AS sums "
        "FROM %s e WHERE e.grain = 'd' AND e.start = ANY ($%d) AND ",
        starts, ends, buckets, scope->needs_order ? "true" : "false",
        scope->needs_time ? "true" : "false", cell_table(scope),
        add_parameter(query, TIMESTAMPTZARRAYOID, start_array(spans, false)));
    append_scope(text);
    if (scope->by_user || scope->by_meter || scope->name_count > 0 ||
        scope->property.kind != Property::Kind::kNone) {
        appendStringInfoString(sql, " GROUP BY ");
        append_group_names(sql, scope, "");
        sql->len -= 2;  // the last comma
        sql->data[sql->len] = '\0';
    }
    appendStringInfoString(sql, ") AS g, LATERAL unnest(g.sums) AS h");
}

// The deltas within whole hours, but for users without day cells, whose events are read.
void append_deltas(SourceText* text, const std::vector<TimeSpan>& whole,
                   const std::vector<TimeSpan>& parts) {
    if (whole.empty())
        return;
    begin_part(text, kDeltas);
    append_numbers(text, kDeltaNumbers);
    StringInfo sql = &text->query->sql;
    appendStringInfo(sql,
                     " FROM meter.rollup_pending e WHERE e.generation = ANY ($%d) "
                     "AND e.first_timestamp OPERATOR(pg_catalog.<@) ",
                     add_parameter(text->query, INT4ARRAYOID, text->source->generations));
    append_multirange(text->query, whole);
    appendStringInfoString(sql, " AND ");
    append_scope(text);
    if (text->source->mixed_months->empty())
        return;
    appendStringInfoString(sql, " AND NOT (e.first_timestamp OPERATOR(pg_catalog.<@) ");
    append_multirange(text->query, parts);
    appendStringInfoString(sql,
                           " AND EXISTS (SELECT FROM sparse WHERE sparse.meter_id = e.meter_id "
                           "AND sparse.user_id = e.user_id AND e.first_timestamp >= sparse.start "
                           "AND e.first_timestamp < sparse.stop))");
}

// The events of one span, or of several.
void append_events(SourceText* text, const std::vector<TimeSpan>& spans) {
    // Up to so many, each is a part with constant bounds, for which the planner knows best.
    constexpr std::size_t kMostParts = 2;
    QueryText* query = text->query;
    StringInfo sql = &query->sql;
    if (spans.empty())
        return;
    if (spans.size() <= kMostParts) {
        for (const TimeSpan& span : spans) {
            begin_part(text, kEvents);
            append_numbers(text, kEventNumbers);
            appendStringInfo(sql,
                             " FROM meter.meter_event e WHERE e.\"timestamp\" >= $%d "
                             "AND e.\"timestamp\" < $%d AND ",
                             time_parameter(query, span.start), time_parameter(query, span.end));
            append_scope(text);
            append_not_voided(text);
        }
        return;
    }
    begin_part(text, kEvents);
    append_numbers(text, kEventNumbers);
    appendStringInfoString(sql, " FROM ");
    append_spans(query, spans, "k");
    appendStringInfo(sql,
                     ", LATERAL (SELECT * FROM meter.meter_event e WHERE "
                     "e.\"timestamp\" >= k.start AND e.\"timestamp\" < k.stop "
                     "AND e.\"timestamp\" >= $%d AND e.\"timestamp\" < $%d AND ",
                     time_parameter(query, spans.front().start),
                     time_parameter(query, spans.back().end));
    append_scope(text);
    append_not_voided(text);
    appendStringInfoString(sql, " OFFSET '0') AS e");
}

// The voided events of spans, which are taken back from their events; with `sparse` those of users
// without day cells alone.
void append_voids(SourceText* text, const std::vector<TimeSpan>& spans, bool sparse) {
    const UsageSource* source = text->source;
    if (spans.empty() || !source->has_voids || source->scope->needs_order)
        return;
    begin_part(text, kVoids);
    append_numbers(text, kVoidNumbers);
    StringInfo sql = &text->query->sql;
    appendStringInfoString(sql, " FROM " METER_VOIDED_EVENTS " AS e, ");
    append_spans(text->query, spans, "k");
    appendStringInfo(sql, "%s WHERE e.\"timestamp\" >= k.start AND e.\"timestamp\" < k.stop AND ",
                     sparse ? ", sparse" : "");
    append_scope(text);
    if (sparse)
        appendStringInfoString(sql,
                               " AND e.meter_id = sparse.meter_id AND e.user_id = sparse.user_id "
                               "AND e.\"timestamp\" >= sparse.start "
                               "AND e.\"timestamp\" < sparse.stop");
}

// The users' months without day cells, or without those of its first days, as "sparse": from start
// to stop, events have to be read where a month is cut.
void append_sparse(SourceText* text) {
    QueryText* query = text->query;
    StringInfo sql = &query->sql;
    const UsageScope* scope = text->source->scope;
    appendStringInfoString(
        sql,
        "WITH sparse AS MATERIALIZED (SELECT DISTINCT e.meter_id, e.user_id, k.start, "
        "COALESCE(d.days_from, k.stop) AS stop FROM ");
    append_spans(query, *text->source->mixed_months, "k");
    appendStringInfo(
        sql,
        " JOIN meter.rollup e ON e.grain = 'm' AND e.start = k.start AND e.meter_id = ANY ($%d)",
        add_parameter(query, INT4ARRAYOID, meter_array(scope)));
    if (scope->has_user)
        appendStringInfo(sql, " AND e.user_id = $%d", text->user);
    appendStringInfoString(
        sql,
        " LEFT JOIN meter.rollup_days d ON d.meter_id = e.meter_id AND d.month = k.start "
        "AND d.user_id = e.user_id WHERE d.days_from IS NULL OR d.days_from > k.start) ");
}

// Their events within days and hours of the cut.
void append_sparse_events(SourceText* text, const std::vector<TimeSpan>& parts) {
    QueryText* query = text->query;
    StringInfo sql = &query->sql;
    begin_part(text, kEvents);
    append_numbers(text, kEventNumbers);
    appendStringInfoString(sql, " FROM sparse, ");
    append_spans(query, parts, "k");
    appendStringInfo(sql,
                     ", LATERAL (SELECT * FROM meter.meter_event e WHERE "
                     "e.meter_id = sparse.meter_id AND e.user_id = sparse.user_id "
                     "AND e.\"timestamp\" >= GREATEST(k.start, sparse.start) "
                     "AND e.\"timestamp\" < LEAST(k.stop, sparse.stop) "
                     "AND e.\"timestamp\" >= $%d AND e.\"timestamp\" < $%d",
                     time_parameter(query, parts.front().start),
                     time_parameter(query, parts.back().end));
    append_filters(query, *text->source->scope->filters);
    append_not_voided(text);
    appendStringInfoString(
        sql, " OFFSET '0') AS e WHERE k.start < sparse.stop AND k.stop > sparse.start");
}

}  // namespace

void append_source(QueryText* query, const UsageSource& source, int bucket, int zone,
                   const int* names) {
    const UsageScope* scope = source.scope;
    const PeriodCut& cut = *source.cut;
    SourceText text{query, &source, bucket, zone, names, 0, 0, 0, true, true};
    text.meter = scope->meter_count == 1
                     ? add_parameter(query, INT4OID, Int32GetDatum(scope->meters[0]))
                     : add_parameter(query, INT4ARRAYOID, meter_array(scope));
    if (scope->has_user)
        text.user = add_parameter(query, TEXTOID, scope->user);
    if (DatumGetPointer(scope->property.name) != nullptr)
        text.property = add_parameter(query, TEXTOID, scope->property.name);
    auto* parts = make_in<std::vector<TimeSpan>>(CurrentMemoryContext);
    *parts = merge_spans({&cut.days, &cut.hours});
    auto* whole = make_in<std::vector<TimeSpan>>(CurrentMemoryContext);
    *whole = merge_spans({parts, &cut.months});
    appendStringInfoChar(&query->sql, '(');
    if (!source.mixed_months->empty())
        append_sparse(&text);
    append_cells(&text, 'm', cut.months);
    append_cells(&text, 'd', cut.days);
    append_hours(&text, cut.hours);
    append_deltas(&text, *whole, *parts);
    append_events(&text, cut.raw);
    append_voids(&text, cut.raw, false);
    if (!source.mixed_months->empty()) {
        append_sparse_events(&text, *parts);
        append_voids(&text, *parts, true);
    }
    if (text.first) {
        // Nothing can be there; the columns have to be.
        text.has_metadata = false;
        begin_part(&text, kDeltas);
        append_numbers(&text, kDeltaNumbers);
        appendStringInfoString(&query->sql, " FROM meter.rollup_pending e WHERE false");
    }
    // The planner takes a function of a time to have as many values as the time, and would sort all
    // rows rather than hash the few groups. An offset keeps it from looking inside; then it assumes
    // 200 buckets. Quoted, since 0 is an integer cast to bigint, no constant, when the planner asks
    // whether this may run in parallel.
    appendStringInfoString(&query->sql, scope->has_bucket ? " OFFSET '0')" : ")");
}

}  // namespace meter::pg
