#include "pg/usage_query.hpp"

#include <cstring>

#include "pg/memory.hpp"
#include "pg/usage_voids.hpp"
#include "pg/values.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "utils/numeric.h"
}

namespace meter::pg {

const Aggregation kAggregations[] = {
    {"sum", "COALESCE(pg_catalog.trim_scale(pg_catalog.sum(source.s)", "), 0)", true, false},
    {"count", "COALESCE(pg_catalog.sum(source.n)", ", 0)", true, false},
    {"last", "pg_catalog.trim_scale(meter.last(source.v, source.at, source.id)", ")", false, true},
    {"min", "pg_catalog.trim_scale(pg_catalog.min(source.lo)", ")", false, true},
    {"max", "pg_catalog.trim_scale(pg_catalog.max(source.hi)", ")", false, true},
    // The sum without trailing zeros: how far a quotient is carried depends on its operands'
    // scales, and must not on whether they come from cells or from events.
    {"avg", "pg_catalog.trim_scale(pg_catalog.trim_scale(pg_catalog.sum(source.s)",
     ") / NULLIF(pg_catalog.sum(source.n), 0))", false, false},
    {"first", "pg_catalog.trim_scale(meter.first(source.v, source.at, source.id)", ")", false, true,
     Aggregation::Kind::kFirst},
    {"unique_count", "pg_catalog.count(source.p) FILTER (WHERE source.n > 0",
     ")::pg_catalog.numeric", true, false, Aggregation::Kind::kUnique},
    {"weighted_sum", "pg_catalog.sum(source.s", ")", true, false, Aggregation::Kind::kWeighted},
};
const int kAggregationCount = lengthof(kAggregations);

const Aggregation* find_aggregation(std::string_view name) {
    for (const Aggregation& aggregation : kAggregations)
        if (name == aggregation.name)
            return &aggregation;
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("aggregation \"%s\" is not known", shown(name)),
                    errhint("The aggregations are %s.", kAggregationNames)));
    pg_unreachable();
}

namespace {

// The numbers of a question's parameters.
struct Parameters {
    int bucket;
    int zone;
    int names[kMaxDimensions];
};

// The columns that are told apart, of an alias, each with a comma.
void append_groups(StringInfo sql, const UsageScope& scope, const char* alias) {
    if (scope.has_bucket)
        appendStringInfo(sql, "%s.b, ", alias);
    if (scope.by_user)
        appendStringInfo(sql, "%s.u, ", alias);
    for (int i = 0; i < scope.name_count; ++i)
        appendStringInfo(sql, "%s.d%d, ", alias, i + 1);
}

// GROUP BY and these, and one more where `more` is not empty; nothing where there are none.
void append_group_by(StringInfo sql, const UsageScope& scope, const char* alias,
                     const char* more = "") {
    appendStringInfoString(sql, " GROUP BY ");
    const int start = sql->len;
    append_groups(sql, scope, alias);
    if (*more != '\0') {
        appendStringInfoString(sql, more);
        return;
    }
    sql->len -= sql->len == start ? static_cast<int>(std::strlen(" GROUP BY ")) : 2;
    sql->data[sql->len] = '\0';
}

int numeric_parameter(QueryText* query, int64 value) {
    return add_parameter(query, NUMERICOID, NumericGetDatum(int64_to_numeric(value)));
}

// One row for each value of the property in each group: unique_count counts those that are there,
// whatever was taken back of their events.
void append_unique_source(QueryText* query, const UsageQuestion* question,
                          const Parameters& parameters) {
    const UsageScope& scope = question->scope;
    StringInfo sql = &query->sql;
    query->hashes = true;
    appendStringInfoString(sql, "(SELECT ");
    append_groups(sql, scope, "told");
    appendStringInfoString(sql, "told.p, pg_catalog.sum(told.n) AS n FROM ");
    append_source(query, question->source, parameters.bucket, parameters.zone, parameters.names);
    appendStringInfoString(sql, " AS told");
    append_group_by(sql, scope, "told", "told.p");
    appendStringInfoChar(sql, ')');
}

// The groups with the timestamps of their first events, and the events of these timestamps: each
// is read once, however many groups have it.
void append_first_source(QueryText* query, const UsageQuestion* question,
                         const Parameters& parameters) {
    const UsageScope& scope = question->scope;
    StringInfo sql = &query->sql;
    appendStringInfoString(sql, "(WITH told AS MATERIALIZED (SELECT ");
    append_groups(sql, scope, "source");
    appendStringInfoString(sql,
                           "pg_catalog.min(source.f) AS f, pg_catalog.sum(source.n) AS n FROM ");
    append_source(query, question->source, parameters.bucket, parameters.zone, parameters.names);
    appendStringInfoString(sql, " AS source");
    append_group_by(sql, scope, "source");
    appendStringInfoString(sql, ") SELECT ");
    append_groups(sql, scope, "told");
    appendStringInfoString(sql,
                           "told.f AS at, NULL::pg_catalog.numeric AS v, NULL::pg_catalog.int8 AS "
                           "id, told.n FROM told UNION ALL SELECT ");
    if (scope.has_bucket)
        appendStringInfo(sql, "meter.bucket_start(t.f, $%d, $%d), ", parameters.bucket,
                         parameters.zone);
    if (scope.by_user)
        appendStringInfoString(sql, "t.u, ");
    for (int i = 0; i < scope.name_count; ++i)
        appendStringInfo(sql, "COALESCE(e.dimensions -> $%d, 'null'::pg_catalog.jsonb), ",
                         parameters.names[i]);
    appendStringInfo(sql,
                     "t.f, e.value, e.id, 0::pg_catalog.numeric FROM (SELECT DISTINCT told.f%s "
                     "FROM told) AS t, LATERAL (SELECT e.value, e.id, e.dimensions "
                     "FROM meter.meter_event e WHERE e.\"timestamp\" = t.f AND %s",
                     scope.by_user ? ", told.u" : "", scope.by_user ? "e.user_id = t.u AND " : "");
    const int meter = add_parameter(query, INT4OID, Int32GetDatum(question->meter_id));
    append_scope(query, &scope, meter,
                 scope.has_user ? add_parameter(query, TEXTOID, scope.user) : 0);
    if (question->source.has_voids)
        appendStringInfoString(sql, " AND NOT " METER_IS_VOIDED("e"));
    appendStringInfoString(sql, " OFFSET '0') AS e)");
}

// The source's rows, and those before the period as if their events had been at its start.
void append_weighted_source(QueryText* query, const UsageQuestion* question,
                            const Parameters& parameters) {
    const UsageScope& scope = question->scope;
    StringInfo sql = &query->sql;
    if (question->before.scope == nullptr) {
        append_source(query, question->source, parameters.bucket, parameters.zone,
                      parameters.names);
        return;
    }
    const int64 start = to_unix_micros(scope.period.start);
    appendStringInfoString(sql, "(SELECT ");
    append_groups(sql, scope, "told");
    appendStringInfoString(sql, "told.n, told.s, told.w FROM ");
    append_source(query, question->source, parameters.bucket, parameters.zone, parameters.names);
    appendStringInfoString(sql, " AS told UNION ALL SELECT ");
    if (scope.has_bucket) {
        const TimeZone& zone = scope.zone->covering(start, start);
        appendStringInfo(
            sql, "$%d, ",
            add_parameter(
                query, TIMESTAMPTZOID,
                TimestampTzGetDatum(to_timestamptz(bucket_of(zone, scope.bucket, start).start))));
    }
    append_groups(sql, *question->before.scope, "early");
    appendStringInfo(sql, "0::pg_catalog.int8, early.s, early.s * $%d FROM ",
                     numeric_parameter(query, start));
    append_source(query, question->before, 0, 0, parameters.names);
    appendStringInfoString(sql, " AS early)");
}

// What is added up, as a subquery in parentheses.
void append_rows(QueryText* query, const UsageQuestion* question, const Parameters& parameters) {
    switch (question->aggregation->kind) {
        case Aggregation::Kind::kUnique:
            append_unique_source(query, question, parameters);
            return;
        case Aggregation::Kind::kFirst:
            if (looks_up_first(*question)) {
                append_first_source(query, question, parameters);
                return;
            }
            break;
        case Aggregation::Kind::kWeighted:
            append_weighted_source(query, question, parameters);
            return;
        case Aggregation::Kind::kPlain:
            break;
    }
    append_source(query, question->source, parameters.bucket, parameters.zone, parameters.names);
}

// The value of a group. A weighted sum that is not bucketed is its integral over the length of the
// period: events count from their time, or the period's start, to its end. The integral has 20
// decimals, of which it needs 18; so the quotient has 20 or more, by its value alone.
void append_value(QueryText* query, const UsageQuestion* question) {
    StringInfo sql = &query->sql;
    const Aggregation* aggregation = question->aggregation;
    if (aggregation->kind != Aggregation::Kind::kWeighted || has_levels(*question)) {
        appendStringInfo(sql, "%s%s", aggregation->call, aggregation->rest);
        return;
    }
    const int64 start = to_unix_micros(question->scope.period.start);
    const int64 end = to_unix_micros(question->scope.period.end);
    appendStringInfo(sql,
                     "pg_catalog.trim_scale(pg_catalog.round(COALESCE($%d * pg_catalog.sum("
                     "source.s) - pg_catalog.sum(source.w), 0), 20) / NULLIF($%d, 0))",
                     numeric_parameter(query, end), numeric_parameter(query, end - start));
}

}  // namespace

void find_sources(UsageQuestion* question) {
    UsageScope* scope = &question->scope;
    // A void has no metadata, so that what it voids is left out.
    scope->needs_order =
        question->aggregation->needs_order || scope->property.kind == Property::Kind::kMetadata;
    scope->needs_first = question->aggregation->kind == Aggregation::Kind::kFirst;
    scope->needs_time = question->aggregation->kind == Aggregation::Kind::kWeighted;
    question->source = find_source(scope);
    const TimestampTz origin = to_timestamptz(0);  // no event is earlier
    if (question->aggregation->kind != Aggregation::Kind::kWeighted ||
        scope->period.start <= origin || scope->period.start >= scope->period.end)
        return;
    auto* early = static_cast<UsageScope*>(palloc(sizeof(UsageScope)));
    *early = *scope;
    early->period = {origin, scope->period.start};
    early->has_bucket = false;
    early->needs_time = false;
    const UsageSource before = find_source(early);
    if (!is_empty(before))
        question->before = before;
}

Planning planning_of(const UsageQuestion& question) {
    if (question.before.scope != nullptr && planning_of(question.before) == Planning::kEachTime)
        return Planning::kEachTime;
    return planning_of(question.source);
}

bool has_levels(const UsageQuestion& question) {
    return question.aggregation->kind == Aggregation::Kind::kWeighted && question.scope.has_bucket;
}

bool looks_up_first(const UsageQuestion& question) {
    return question.aggregation->kind == Aggregation::Kind::kFirst &&
           !reads_events_alone(question.source);
}

void write_usage_query(QueryText* query, const UsageQuestion* question, bool number_groups) {
    start_query(query);
    StringInfo sql = &query->sql;
    Parameters parameters{};
    if (question->scope.has_bucket) {
        parameters.bucket = add_parameter(query, TEXTOID, question->scope.bucket_name);
        parameters.zone = add_parameter(query, TEXTOID, question->scope.zone_name);
        appendStringInfo(sql, "SELECT cell.b, meter.bucket_end(cell.b, $%d, $%d)",
                         parameters.bucket, parameters.zone);
    } else {
        const int start =
            add_parameter(query, TIMESTAMPTZOID, TimestampTzGetDatum(question->scope.period.start));
        const int end =
            add_parameter(query, TIMESTAMPTZOID, TimestampTzGetDatum(question->scope.period.end));
        appendStringInfo(sql, "SELECT $%d, $%d", start, end);
    }
    const bool levels = has_levels(*question);
    const bool first = looks_up_first(*question);
    if (question->rounding.mode == Rounding::Mode::kNone || levels)
        appendStringInfoString(sql, ", cell.u, cell.d, cell.v, cell.n");
    else
        appendStringInfo(
            sql, ", cell.u, cell.d, meter.round_value(cell.v, $%d, $%d), cell.n",
            add_parameter(query, TEXTOID, text_datum(rounding_mode_name(question->rounding.mode))),
            add_parameter(query, INT4OID, Int32GetDatum(question->rounding.precision)));
    if (number_groups)
        appendStringInfoString(sql,
                               ", pg_catalog.dense_rank() OVER "
                               "(ORDER BY cell.u COLLATE pg_catalog.\"C\", cell.d)");
    else if (first)
        appendStringInfoString(sql, ", 0::pg_catalog.int8");
    if (levels || first)
        appendStringInfoString(sql, ", cell.more");
    if (question->scope.needs_digest)
        appendStringInfoString(sql, ", cell.g");
    appendStringInfoString(sql, " FROM (SELECT ");
    if (question->scope.has_bucket)
        appendStringInfoString(sql, "source.b, ");
    if (question->scope.by_user)
        appendStringInfoString(sql, "source.u");
    else if (question->scope.has_user)
        appendStringInfo(sql, "$%d", add_parameter(query, TEXTOID, question->scope.user));
    else
        appendStringInfoString(sql, "NULL::pg_catalog.text");
    appendStringInfoString(sql, " AS u, ");
    if (question->scope.name_count == 0) {
        appendStringInfoString(sql, "'{}'::pg_catalog.jsonb");
    } else {
        for (int i = 0; i < question->scope.name_count; ++i) {
            parameters.names[i] = add_parameter(query, TEXTOID, question->scope.names[i]);
            appendStringInfo(sql, "%s$%d, source.d%d",
                             i == 0 ? "pg_catalog.jsonb_build_object(" : ", ", parameters.names[i],
                             i + 1);
        }
        appendStringInfoChar(sql, ')');
    }
    appendStringInfoString(sql, " AS d, ");
    append_value(query, question);
    appendStringInfoString(sql,
                           " AS v, COALESCE(pg_catalog.sum(source.n), 0)::pg_catalog.int8 AS n");
    if (levels || first)
        appendStringInfoString(sql, levels ? ", pg_catalog.sum(source.w) AS more"
                                           : ", pg_catalog.min(source.at) AS more");
    if (question->scope.needs_digest)
        appendStringInfoString(sql,
                               ", COALESCE(meter.sum_digests(source.g), "
                               "'00000000-0000-0000-0000-000000000000') AS g");
    appendStringInfoString(sql, " FROM ");
    append_rows(query, question, parameters);
    appendStringInfoString(sql, " AS source");
    append_group_by(sql, question->scope, "source");
    // All of a group may be voided; what is carried in makes rows of its own where it is not
    // nothing.
    if (question->scope.has_bucket || question->scope.by_user || question->scope.name_count > 0)
        appendStringInfoString(sql, question->aggregation->kind == Aggregation::Kind::kWeighted
                                        ? " HAVING pg_catalog.sum(source.n) <> '0' OR "
                                          "pg_catalog.sum(source.s) <> '0'"
                                        : " HAVING pg_catalog.sum(source.n) <> '0'");
    appendStringInfoString(sql, ") AS cell ORDER BY ");
    if (question->scope.has_bucket)
        appendStringInfoString(sql, "cell.b, ");
    appendStringInfoString(sql, "cell.u COLLATE pg_catalog.\"C\", cell.d");
}

void write_report_query(QueryText* query, const UsageSource& source) {
    start_query(query);
    StringInfo sql = &query->sql;
    appendStringInfoString(sql,
                           "SELECT m.event_name, source.u, meter.round_value(CASE m.aggregation");
    for (int i = 0; i < kAggregationCount; ++i)
        if (kAggregations[i].kind == Aggregation::Kind::kPlain)
            appendStringInfo(sql, " WHEN '%s' THEN %s FILTER (WHERE m.aggregation = '%s')%s",
                             kAggregations[i].name, kAggregations[i].call, kAggregations[i].name,
                             kAggregations[i].rest);
    appendStringInfoString(sql,
                           " END, m.rounding, m.rounding_precision), "
                           "COALESCE(pg_catalog.sum(source.n), 0)::pg_catalog.int8 FROM "
                           "meter.meter m JOIN ");
    append_source(query, source, 0, 0, nullptr);
    appendStringInfoString(
        sql,
        " AS source ON source.m = m.id GROUP BY m.id, source.u "
        "HAVING pg_catalog.sum(source.n) <> '0' ORDER BY m.event_name, source.u");
}

}  // namespace meter::pg
