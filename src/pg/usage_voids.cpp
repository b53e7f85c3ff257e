#include "pg/usage_voids.hpp"

#include "pg/spi.hpp"
#include "pg/values.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "utils/array.h"
}

namespace meter::pg {

namespace {

// The starts of the units that `spans` are made of and that lie in one of the months, as a
// timestamptz[]: days, or with `by_month` months.
Datum unit_starts(const std::vector<TimeSpan>& spans, const std::vector<TimeSpan>& months,
                  bool by_month) {
    int capacity = 32;
    int count = 0;
    auto* starts = static_cast<Datum*>(palloc(sizeof(Datum) * static_cast<Size>(capacity)));
    for (const TimeSpan& month : months)
        for (const TimeSpan& span : spans) {
            const int64 end = Min(span.end, month.end);
            for (int64 at = Max(span.start, month.start); at < end;) {
                const TimeSpan unit =
                    by_month ? month : TimeSpan{day_start(at), day_start(at) + kDayMicros};
                if (count == capacity) {
                    capacity *= 2;
                    starts = static_cast<Datum*>(
                        repalloc(starts, sizeof(Datum) * static_cast<Size>(capacity)));
                }
                starts[count++] = TimestampTzGetDatum(to_timestamptz(unit.start));
                at = unit.end;
            }
        }
    return PointerGetDatum(
        construct_array(starts, count, TIMESTAMPTZOID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

// Leaves to the events the months and days that the last result has in its first column.
void leave_out_result(uint64 rows, PeriodCut* cut) {
    for (uint64 row = 0; row < rows; ++row) {
        bool null;
        const int64 start = to_unix_micros(DatumGetTimestampTz(result(row, 1, &null)));
        const bool is_month = DatumGetBool(result(row, 2, &null));
        if (is_month)
            cut->months_to_raw(utc_month_of(start));
        else
            cut->move_to_raw({day_start(start), day_start(start) + kDayMicros});
    }
    SPI_freetuptable(SPI_tuptable);
}

}  // namespace

void leave_out_dirty(const UsageScope* scope, Datum meters, Datum generations,
                     const std::vector<TimeSpan>& months, PeriodCut* cut) {
#define METER_DIRTY_DELTAS                                                                        \
    "SELECT d.at, k.month FROM (SELECT DISTINCT date_trunc('day', first_timestamp, 'UTC') AS at " \
    "FROM meter.rollup_pending WHERE generation = ANY ($1) AND meter_id = ANY ($2) "              \
    "AND (dirty OR voided)"
#define METER_OF_BOTH_GRAINS ") AS d, (VALUES (true), (false)) AS k (month)"
#define METER_DIRTY_CELLS(table, user)                                                   \
    "SELECT r.start, true FROM " table                                                   \
    " r WHERE r.meter_id = ANY ($1) AND r.grain = 'm' "                                  \
    "AND r.start = ANY ($2) AND r.dirty" user " UNION SELECT r.start, false FROM " table \
    " r WHERE r.meter_id = ANY ($1) AND r.grain = 'd' AND r.start = ANY ($3) AND r.dirty" user
    static Statement deltas = {
        METER_DIRTY_DELTAS METER_OF_BOTH_GRAINS, {INT4ARRAYOID, INT4ARRAYOID}, true};
    static Statement user_deltas = {METER_DIRTY_DELTAS " AND user_id = $3" METER_OF_BOTH_GRAINS,
                                    {INT4ARRAYOID, INT4ARRAYOID, TEXTOID},
                                    true};
    static Statement totals = {METER_DIRTY_CELLS("meter.rollup_total", ""),
                               {INT4ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID},
                               true};
    static Statement users = {METER_DIRTY_CELLS("meter.rollup", ""),
                              {INT4ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID},
                              true};
    static Statement one_user = {METER_DIRTY_CELLS("meter.rollup", " AND r.user_id = $4"),
                                 {INT4ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TEXTOID},
                                 true};
    const Datum pending[] = {generations, meters, scope->user};
    leave_out_result(run(scope->has_user ? user_deltas : deltas, pending, nullptr, Run::kCaller),
                     cut);
    if (months.empty())
        return;
    const Datum whole = unit_starts(cut->months, months, true);
    const Datum days = unit_starts(merge_spans({&cut->days, &cut->hours}), months, false);
    const Datum values[] = {meters, whole, days, scope->user};
    Statement& cells = scope->has_user ? one_user : scope->by_user ? users : totals;
    leave_out_result(run(cells, values, nullptr, Run::kCaller), cut);
}

}  // namespace meter::pg
