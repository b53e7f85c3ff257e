#include "pg/usage_query.hpp"

#include "pg/memory.hpp"
#include "pg/values.hpp"

extern "C" {
#include "catalog/pg_type.h"
}

namespace meter::pg {

const Aggregation kAggregations[] = {
    {"sum", "COALESCE(pg_catalog.trim_scale(pg_catalog.sum(source.value)", "), 0)", true},
    {"count", "(pg_catalog.count(*)", ")::pg_catalog.numeric", true},
    {"last", "pg_catalog.trim_scale(meter.last(source.value, source.at, source.id)", ")", false},
    {"min", "pg_catalog.trim_scale(pg_catalog.min(source.value)", ")", false},
    {"max", "pg_catalog.trim_scale(pg_catalog.max(source.value)", ")", false},
    {"avg", "pg_catalog.trim_scale(pg_catalog.avg(source.value)", ")", false},
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

// The events of the question, one row each, as "source": bucket b, user u and dimensions d1, d2,
// ... where they group, and value, at and id. Rows of another source with these columns would do
// too.
void append_source(QueryText* query, const UsageQuestion* question, int bucket, int zone,
                   const int* names) {
    StringInfo sql = &query->sql;
    appendStringInfoString(sql, "(SELECT e.*");
    for (int i = 0; i < question->name_count; ++i)
        appendStringInfo(sql, ", COALESCE(e.dimensions -> $%d, 'null'::pg_catalog.jsonb) AS d%d",
                         names[i], i + 1);
    appendStringInfoString(
        sql, " FROM (SELECT e.value, e.\"timestamp\" AS at, e.id, e.user_id AS u, e.dimensions");
    if (question->has_bucket)
        appendStringInfo(sql, ", meter.bucket_start(e.\"timestamp\", $%d, $%d) AS b", bucket, zone);
    appendStringInfo(
        sql,
        " FROM meter.meter_event e WHERE e.meter_id = $%d"
        " AND e.\"timestamp\" >= $%d AND e.\"timestamp\" < $%d",
        add_parameter(query, INT4OID, Int32GetDatum(question->meter_id)),
        add_parameter(query, TIMESTAMPTZOID, TimestampTzGetDatum(question->period.start)),
        add_parameter(query, TIMESTAMPTZOID, TimestampTzGetDatum(question->period.end)));
    if (question->has_user)
        appendStringInfo(sql, " AND e.user_id = $%d",
                         add_parameter(query, TEXTOID, question->user));
    append_filters(query, question->filters);
    // The planner takes a function of the timestamp to have as many values as the timestamp, and
    // would sort all events rather than hash the few groups. An offset keeps it from looking
    // inside; then it assumes 200 buckets. Quoted, since 0 is an integer cast to bigint, no
    // constant, when the planner asks whether this may run in parallel.
    appendStringInfo(sql, "%s) AS e) AS source", question->has_bucket ? " OFFSET '0'" : "");
}

// GROUP BY and the columns there are to group by; nothing where there are none.
void append_group_by(StringInfo sql, const UsageQuestion* question) {
    const char* separator = " GROUP BY ";
    if (question->has_bucket) {
        appendStringInfo(sql, "%ssource.b", separator);
        separator = ", ";
    }
    if (question->by_user) {
        appendStringInfo(sql, "%ssource.u", separator);
        separator = ", ";
    }
    for (int i = 0; i < question->name_count; ++i) {
        appendStringInfo(sql, "%ssource.d%d", separator, i + 1);
        separator = ", ";
    }
}

}  // namespace

void write_usage_query(QueryText* query, const UsageQuestion* question, bool number_groups) {
    start_query(query);
    StringInfo sql = &query->sql;
    int bucket = 0;
    int zone = 0;
    int names[kMaxDimensions];
    if (question->has_bucket) {
        bucket = add_parameter(query, TEXTOID, question->bucket_name);
        zone = add_parameter(query, TEXTOID, question->zone_name);
        appendStringInfo(sql, "SELECT cell.b, meter.bucket_end(cell.b, $%d, $%d)", bucket, zone);
    } else {
        const int start =
            add_parameter(query, TIMESTAMPTZOID, TimestampTzGetDatum(question->period.start));
        const int end =
            add_parameter(query, TIMESTAMPTZOID, TimestampTzGetDatum(question->period.end));
        appendStringInfo(sql, "SELECT $%d, $%d", start, end);
    }
    appendStringInfoString(sql, ", cell.u, cell.d, cell.v, cell.n");
    if (number_groups)
        appendStringInfoString(sql,
                               ", pg_catalog.dense_rank() OVER "
                               "(ORDER BY cell.u COLLATE pg_catalog.\"C\", cell.d)");
    appendStringInfoString(sql, " FROM (SELECT ");
    if (question->has_bucket)
        appendStringInfoString(sql, "source.b, ");
    if (question->by_user)
        appendStringInfoString(sql, "source.u");
    else if (question->has_user)
        appendStringInfo(sql, "$%d", add_parameter(query, TEXTOID, question->user));
    else
        appendStringInfoString(sql, "NULL::pg_catalog.text");
    appendStringInfoString(sql, " AS u, ");
    if (question->name_count == 0) {
        appendStringInfoString(sql, "'{}'::pg_catalog.jsonb");
    } else {
        for (int i = 0; i < question->name_count; ++i) {
            names[i] = add_parameter(query, TEXTOID, question->names[i]);
            appendStringInfo(sql, "%s$%d, source.d%d",
                             i == 0 ? "pg_catalog.jsonb_build_object(" : ", ", names[i], i + 1);
        }
        appendStringInfoChar(sql, ')');
    }
    appendStringInfo(sql, " AS d, %s%s AS v, pg_catalog.count(*) AS n FROM ",
                     question->aggregation->call, question->aggregation->rest);
    append_source(query, question, bucket, zone, names);
    append_group_by(sql, question);
    appendStringInfoString(sql, ") AS cell ORDER BY ");
    if (question->has_bucket)
        appendStringInfoString(sql, "cell.b, ");
    appendStringInfoString(sql, "cell.u COLLATE pg_catalog.\"C\", cell.d");
}

void write_report_query(QueryText* query, std::string_view org, Period period, bool has_user,
                        Datum user) {
    start_query(query);
    StringInfo sql = &query->sql;
    appendStringInfoString(sql, "SELECT m.event_name, source.user_id, CASE m.aggregation");
    for (int i = 0; i < kAggregationCount; ++i)
        appendStringInfo(sql, " WHEN '%s' THEN %s FILTER (WHERE m.aggregation = '%s')%s",
                         kAggregations[i].name, kAggregations[i].call, kAggregations[i].name,
                         kAggregations[i].rest);
    const int org_number = add_parameter(query, TEXTOID, text_datum(org));
    const int start = add_parameter(query, TIMESTAMPTZOID, TimestampTzGetDatum(period.start));
    const int end = add_parameter(query, TIMESTAMPTZOID, TimestampTzGetDatum(period.end));
    appendStringInfo(sql,
                     " END, pg_catalog.count(*) FROM meter.meter m JOIN "
                     "(SELECT e.meter_id, e.user_id, e.value, e.\"timestamp\" AS at, e.id"
                     " FROM meter.meter_event e WHERE e.\"timestamp\" >= $%d"
                     " AND e.\"timestamp\" < $%d",
                     start, end);
    if (has_user)
        appendStringInfo(sql, " AND e.user_id = $%d", add_parameter(query, TEXTOID, user));
    appendStringInfo(sql,
                     ") AS source ON source.meter_id = m.id WHERE m.org = $%d"
                     " GROUP BY m.id, source.user_id ORDER BY m.event_name, source.user_id",
                     org_number);
}

}  // namespace meter::pg
