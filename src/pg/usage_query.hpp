// The query that answers a question for usage, as SQL text and its parameters.
#pragma once

#include "pg/compat.hpp"

#include <cstdint>
#include <string_view>

extern "C" {
#include "datatype/timestamp.h"
}

#include "core/calendar.hpp"
#include "core/dimensions.hpp"
#include "pg/dimension_filter.hpp"
#include "pg/query_text.hpp"
#include "pg/rounding.hpp"
#include "pg/usage_source.hpp"

namespace meter::pg {

// One way to add events up. `call` and `rest` frame an aggregate over the columns of "source" (see
// usage_source.hpp); a FILTER clause may stand between them.
struct Aggregation {
    // How the rows that are added up are made.
    enum class Kind {
        kPlain,     // they are the source's
        kUnique,    // by value of a property, in each group
        kFirst,     // the source says when the first event was, then that event is looked up
        kWeighted,  // with what the events before the period add up to
    };
    const char* name;
    const char* call;
    const char* rest;
    bool zero_for_nothing;  // of no events: 0, else null
    bool needs_order;       // it is minimum, maximum, last or first
    Kind kind = Kind::kPlain;
};

// Every aggregation, `kAggregationCount` of them, and their names for messages.
extern const Aggregation kAggregations[];
extern const int kAggregationCount;
inline constexpr const char* kAggregationNames =
    "sum, count, last, first, min, max, avg, unique_count, weighted_sum";
inline constexpr std::string_view kUniqueCount = "unique_count";

// The aggregation of that name. Raises invalid_parameter_value, naming the argument aggregation.
const Aggregation* find_aggregation(std::string_view name);

// A question for one meter's usage, its arguments checked.
struct UsageQuestion {
    UsageScope scope;             // its names and filters are the next two
    Datum names[kMaxDimensions];  // text: the dimensions to group by
    DimensionFilters filters;
    int32 meter_id;
    const Aggregation* aggregation;
    Rounding rounding;
    UsageSource source;
    UsageSource before;  // of a weighted sum: all before the period; without a scope: nothing
};

// Reads a period from two arguments. Raises invalid_parameter_value unless both are there, finite
// and in order; an empty period is one.
Period read_period(FunctionCallInfo fcinfo, int start, int end);

// Puts what the aggregation needs into the question's scope, and finds its sources.
void find_sources(UsageQuestion* question);

// How the question's query is planned.
Planning planning_of(const UsageQuestion& question);

// Whether rows have to be made of what the query gives: levels of a weighted sum from bucket to
// bucket.
bool has_levels(const UsageQuestion& question);

// Whether the query looks up first events, so that its rows have to be looked through.
bool looks_up_first(const UsageQuestion& question);

// Writes the query with the columns of meter.usage, in its order. With `number_groups` there is one
// more: the number of the row's group among all of the answer, from 1, in the order of (user_id,
// dimensions); without it and with one more still, that is 0. What else there is:
// where looks_up_first(), the timestamp of the first event; where has_levels(), the value is the
// sum of the values, and there is the sum of value x microseconds since 1970. Where the scope needs
// the digest, that is the last column.
void write_usage_query(QueryText* query, const UsageQuestion* question, bool number_groups);

// Writes the query of meter.usage_report over a source that tells meters and users apart.
void write_report_query(QueryText* query, const UsageSource& source);

}  // namespace meter::pg
