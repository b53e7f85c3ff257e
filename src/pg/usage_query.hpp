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
#include "pg/usage_source.hpp"

namespace meter::pg {

// One way to add events up. `call` and `rest` frame an aggregate over the columns of "source" (see
// usage_source.hpp); a FILTER clause may stand between them.
struct Aggregation {
    const char* name;
    const char* call;
    const char* rest;
    bool zero_for_nothing;  // of no events: 0, else null
    bool needs_order;       // it is minimum, maximum or last
};

// Every aggregation, `kAggregationCount` of them, and their names for messages.
extern const Aggregation kAggregations[];
extern const int kAggregationCount;
inline constexpr const char* kAggregationNames = "sum, count, last, min, max, avg";

// The aggregation of that name. Raises invalid_parameter_value, naming the argument aggregation.
const Aggregation* find_aggregation(std::string_view name);

// A question for one meter's usage, its arguments checked.
struct UsageQuestion {
    UsageScope scope;             // its names and filters are the next two
    Datum names[kMaxDimensions];  // text: the dimensions to group by
    DimensionFilters filters;
    int32 meter_id;
    const Aggregation* aggregation;
    UsageSource source;
};

// Reads a period from two arguments. Raises invalid_parameter_value unless both are there, finite
// and in order; an empty period is one.
Period read_period(FunctionCallInfo fcinfo, int start, int end);

// Writes the query with the columns of meter.usage, in its order. With `number_groups` there is one
// more: the number of the row's group among all of the answer, from 1, in the order of (user_id,
// dimensions). Where the scope needs the digest, that is the last column.
void write_usage_query(QueryText* query, const UsageQuestion* question, bool number_groups);

// Writes the query of meter.usage_report over a source that tells meters and users apart.
void write_report_query(QueryText* query, const UsageSource& source);

}  // namespace meter::pg
