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

namespace meter::pg {

// One way to add events up. `call` and `rest` frame an aggregate over the columns value, at and id
// of "source"; a FILTER clause may stand between them.
struct Aggregation {
    const char* name;
    const char* call;
    const char* rest;
    bool zero_for_nothing;  // of no events: 0, else null
};

// Every aggregation, `kAggregationCount` of them, and their names for messages.
extern const Aggregation kAggregations[];
extern const int kAggregationCount;
inline constexpr const char* kAggregationNames = "sum, count, last, min, max, avg";

// The aggregation of that name. Raises invalid_parameter_value, naming the argument aggregation.
const Aggregation* find_aggregation(std::string_view name);

// A half-open period.
struct Period {
    TimestampTz start;
    TimestampTz end;
};

// A question for one meter's usage, its arguments checked.
struct UsageQuestion {
    int32 meter_id;
    Period period;
    bool has_user;
    Datum user;  // text
    bool by_user;
    int name_count;
    Datum names[kMaxDimensions];  // text: the dimensions to group by
    DimensionFilters filters;
    bool has_bucket;
    Bucket bucket;
    Datum bucket_name;  // text
    Datum zone_name;    // text
    const Aggregation* aggregation;
};

// Writes the query with the columns of meter.usage, in its order. With `number_groups` there is one
// more: the number of the row's group among all of the answer, from 1, in the order of (user_id,
// dimensions).
void write_usage_query(QueryText* query, const UsageQuestion* question, bool number_groups);

// Writes the query of meter.usage_report; `user` (text) matters where `has_user`.
void write_report_query(QueryText* query, std::string_view org, Period period, bool has_user,
                        Datum user);

}  // namespace meter::pg
