// Spans, and whatever else has an instant, as arrays for a query.
#pragma once

#include "pg/compat.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "utils/array.h"
}

#include <vector>

#include "core/period_cut.hpp"
#include "pg/values.hpp"

namespace meter::pg {

// A timestamptz[] of an instant of each item.
template <typename T, typename Instant>
inline Datum time_array(const std::vector<T>& items, Instant instant) {
    const auto count = static_cast<int>(items.size());
    auto* values = static_cast<Datum*>(palloc(sizeof(Datum) * static_cast<Size>(Max(count, 1))));
    for (int i = 0; i < count; ++i)
        values[i] =
            TimestampTzGetDatum(to_timestamptz(instant(items[static_cast<std::size_t>(i)])));
    return PointerGetDatum(
        construct_array(values, count, TIMESTAMPTZOID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

inline Datum start_times(const std::vector<TimeSpan>& spans) {
    return time_array(spans, [](const TimeSpan& span) { return span.start; });
}

inline Datum end_times(const std::vector<TimeSpan>& spans) {
    return time_array(spans, [](const TimeSpan& span) { return span.end; });
}

}  // namespace meter::pg
