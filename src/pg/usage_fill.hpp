// Filling in the buckets of a period in which nothing was used.
#pragma once

#include "pg/compat.hpp"

#include "pg/set_result.hpp"
#include "pg/time_zone.hpp"
#include "pg/usage_query.hpp"

namespace meter::pg {

// Raises program_limit_exceeded where more than meter.max_usage_rows buckets touch the period: the
// least that fill makes. Costs no more than that many steps.
void check_bucket_count(ZoneTransitions* zone, Bucket bucket, Period period);

// Puts into `set` a row for each bucket of the period and each group in `cells`, which holds the
// rows of write_usage_query() with numbered groups. A question that does not group has one group,
// even without rows. Raises program_limit_exceeded past meter.max_usage_rows before it makes a row.
void fill_usage(const SetResult& set, Tuplestorestate* cells, const UsageQuestion* question,
                ZoneTransitions* zone);

}  // namespace meter::pg
