// Filters by dimension: {"model": "gpt-4", "region": ["us", "eu"]}.
#pragma once

#include "pg/compat.hpp"

#include <string_view>

extern "C" {
#include "utils/jsonb.h"
}

#include "core/dimensions.hpp"
#include "pg/catalog.hpp"
#include "pg/query_text.hpp"

namespace meter::pg {

// The values that a dimension may have: jsonb[], a JSON null standing for a missing one too.
struct DimensionFilter {
    Datum name;  // text
    Datum values;
};

// What an event has to match, all of it.
struct DimensionFilters {
    int count;
    DimensionFilter items[kMaxDimensions];
};

// Raises invalid_parameter_value where `name`, given in `argument`, cannot be a dimension of the
// meter; the hint ends with `advice`, if there is any.
void check_dimension(const MeterDefinition& meter, std::string_view name, const char* argument,
                     const char* advice = nullptr);

// Reads the argument filter, a JSON object whose members are scalars or arrays of scalars. Raises
// invalid_parameter_value where it is none, or names what the meter does not declare.
void read_filters(Jsonb* filter, const MeterDefinition& meter, DimensionFilters* filters);

// Adds the conditions to a query over meter.meter_event e, each starting with AND.
void append_filters(QueryText* query, const DimensionFilters& filters);

}  // namespace meter::pg
