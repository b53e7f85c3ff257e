// The query that a source is: a part for each kind of row.
#include <cstring>

#include "pg/memory.hpp"
#include "pg/rollup_table.hpp"
#include "pg/span_arrays.hpp"
#include "pg/usage_source.hpp"
#include "pg/usage_voids.hpp"
#include "pg/values.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "utils/array.h"
}

namespace meter::pg {

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
constexpr Numbers kCellNumbers = {
    "e.event_count AS n, e.value_sum AS s, e.value_min AS lo, e.value_max AS hi, "
    "e.last_value AS v, e.last_timestamp AS at, e.last_id AS id",
    ", e.first_timestamp AS f",
    ", e.value_time + e.value_sum * (EXTRACT(epoch FROM e.start) * 1000000) AS w",
    ", e.event_digest AS g"};
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
    ", COALESCE(e.event_digest, meter.event_digest(e.last_id, e.first_timestamp, e.value_sum, "
    "e.dimensions)) AS g"};
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

// Whether all that is asked of cells of months is what they add up to for each user.
bool asks_for_sums(const UsageScope* scope) {
    const Property::Kind property = scope->property.kind;
    return (scope->by_user || property == Property::Kind::kUser) && !scope->has_user &&
           !scope->has_bucket && !scope->explains && !scope->needs_order && !scope->needs_first &&
           !scope->needs_time && !scope->needs_digest && scope->name_count == 0 &&
           scope->filters->count == 0 &&
           (property == Property::Kind::kNone || property == Property::Kind::kUser);
}

void append_months(SourceText* text, const std::vector<TimeSpan>& months) {
    ReadableCells cells;
    if (months.empty() || !asks_for_sums(text->source->scope) || !open_cells_to_read(&cells)) {
        append_cells(text, 'm', months);
        return;
    }
    close_cells(cells);
    begin_part(text, kMonths);
    QueryText* query = text->query;
    appendStringInfo(&query->sql,
                     "e.event_count AS n, e.value_sum AS s, NULL::pg_catalog.numeric AS lo, "
                     "NULL::pg_catalog.numeric AS hi, NULL::pg_catalog.numeric AS v, "
                     "NULL::pg_catalog.timestamptz AS at, NULL::pg_catalog.int8 AS id "
                     "FROM meter.sum_months($%d, $%d) AS e",
                     add_parameter(query, INT4ARRAYOID, meter_array(text->source->scope)),
                     add_parameter(query, TIMESTAMPTZARRAYOID, start_array(months, true)));
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
    append_months(&text, cut.months);
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
