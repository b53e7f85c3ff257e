// From the rows of write_usage_query() to those of the answer, where they are not the same: the
// buckets in which nothing was used are filled in, levels are carried from bucket to bucket.
#pragma once

#include "pg/compat.hpp"

#include "pg/set_result.hpp"
#include "pg/time_zone.hpp"
#include "pg/usage_query.hpp"

namespace meter::pg {

// Raises program_limit_exceeded where more than meter.max_usage_rows buckets touch the period: the
// least that fill makes. Costs no more than that many steps.
void check_bucket_count(ZoneTransitions* zone, Bucket bucket, Period period);

// The columns of a row: those of meter.usage, and what write_usage_query() adds.
enum CellColumn {
    kCellStart,
    kCellEnd,
    kCellUser,
    kCellDimensions,
    kCellValue,
    kCellCount,
    kCellGroup,
    kCellMore,
    kCellColumns
};

// The type of such rows, of which the last columns may not be there and the last one is of a type
// of its own, and of those of meter.usage.
TupleDesc cell_descriptor(Oid more);
TupleDesc usage_descriptor();

// Puts the rows into `set` as they are.
void put_cells(const SetResult& set, Tuplestorestate* cells);

// Puts into `set` a row for each bucket of the period and each group in `cells`, which holds the
// rows of write_usage_query() with numbered groups. A question that does not group has one group,
// even without rows. Raises program_limit_exceeded past meter.max_usage_rows before it makes a row.
void fill_usage(const SetResult& set, Tuplestorestate* cells, const UsageQuestion* question);

// Puts into `set` the averages of levels that values raise and lower, by bucket: for each group a
// row for each bucket that has events, or a level that is not 0 when it starts, and with `fill` for
// all others. `cells` holds rows with numbered groups, sums, and sums of value x time. Raises
// program_limit_exceeded where groups and buckets, from the first that has any, are more than
// meter.max_usage_rows.
void put_levels(const SetResult& set, Tuplestorestate* cells, const UsageQuestion* question,
                bool fill);

}  // namespace meter::pg
