#include "pg/usage_query.hpp"

#include "pg/memory.hpp"
#include "pg/values.hpp"

extern "C" {
#include "catalog/pg_type.h"
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

// GROUP BY and the columns there are to group by; nothing where there are none.
void append_group_by(StringInfo sql, const UsageQuestion* question) {
    const char* separator = " GROUP BY ";
    if (question->scope.has_bucket) {
        appendStringInfo(sql, "%ssource.b", separator);
        separator = ", ";
    }
    if (question->scope.by_user) {
        appendStringInfo(sql, "%ssource.u", separator);
        separator = ", ";
    }
    for (int i = 0; i < question->scope.name_count; ++i) {
        appendStringInfo(sql, "%ssource.d%d", separator, i + 1);
        separator = ", ";
    }
    // All of a group may be voided.
    if (*separator == ',')
        appendStringInfoString(sql, " HAVING pg_catalog.sum(source.n) <> '0'");
}

}  // namespace

void write_usage_query(QueryText* query, const UsageQuestion* question, bool number_groups) {
    start_query(query);
    StringInfo sql = &query->sql;
    int bucket = 0;
    int zone = 0;
    int names[kMaxDimensions];
    if (question->scope.has_bucket) {
        bucket = add_parameter(query, TEXTOID, question->scope.bucket_name);
        zone = add_parameter(query, TEXTOID, question->scope.zone_name);
        appendStringInfo(sql, "SELECT cell.b, meter.bucket_end(cell.b, $%d, $%d)", bucket, zone);
    } else {
        const int start =
            add_parameter(query, TIMESTAMPTZOID, TimestampTzGetDatum(question->scope.period.start));
        const int end =
            add_parameter(query, TIMESTAMPTZOID, TimestampTzGetDatum(question->scope.period.end));
        appendStringInfo(sql, "SELECT $%d, $%d", start, end);
    }
    appendStringInfoString(sql, ", cell.u, cell.d, cell.v, cell.n");
    if (number_groups)
        appendStringInfoString(sql,
                               ", pg_catalog.dense_rank() OVER "
                               "(ORDER BY cell.u COLLATE pg_catalog.\"C\", cell.d)");
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
            names[i] = add_parameter(query, TEXTOID, question->scope.names[i]);
            appendStringInfo(sql, "%s$%d, source.d%d",
                             i == 0 ? "pg_catalog.jsonb_build_object(" : ", ", names[i], i + 1);
        }
        appendStringInfoChar(sql, ')');
    }
    appendStringInfo(
        sql, " AS d, %s%s AS v, COALESCE(pg_catalog.sum(source.n), 0)::pg_catalog.int8 AS n",
        question->aggregation->call, question->aggregation->rest);
    if (question->scope.needs_digest)
        appendStringInfoString(sql,
                               ", COALESCE(meter.sum_digests(source.g), "
                               "'00000000-0000-0000-0000-000000000000') AS g");
    appendStringInfoString(sql, " FROM ");
    append_source(query, question->source, bucket, zone, names);
    appendStringInfoString(sql, " AS source");
    append_group_by(sql, question);
    appendStringInfoString(sql, ") AS cell ORDER BY ");
    if (question->scope.has_bucket)
        appendStringInfoString(sql, "cell.b, ");
    appendStringInfoString(sql, "cell.u COLLATE pg_catalog.\"C\", cell.d");
}

void write_report_query(QueryText* query, const UsageSource& source) {
    start_query(query);
    StringInfo sql = &query->sql;
    appendStringInfoString(sql, "SELECT m.event_name, source.u, CASE m.aggregation");
    for (int i = 0; i < kAggregationCount; ++i)
        appendStringInfo(sql, " WHEN '%s' THEN %s FILTER (WHERE m.aggregation = '%s')%s",
                         kAggregations[i].name, kAggregations[i].call, kAggregations[i].name,
                         kAggregations[i].rest);
    appendStringInfoString(sql,
                           " END, COALESCE(pg_catalog.sum(source.n), 0)::pg_catalog.int8 FROM "
                           "meter.meter m JOIN ");
    append_source(query, source, 0, 0, nullptr);
    appendStringInfoString(
        sql,
        " AS source ON source.m = m.id GROUP BY m.id, source.u "
        "HAVING pg_catalog.sum(source.n) <> '0' ORDER BY m.event_name, source.u");
}

}  // namespace meter::pg
