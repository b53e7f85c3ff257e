// meter.cell_hours(): the hours of a day's cell, as rows.
#include "pg/compat.hpp"

#include "core/rollup_cell.hpp"
#include "pg/cells.hpp"
#include "pg/guard.hpp"
#include "pg/memory.hpp"
#include "pg/set_result.hpp"
#include "pg/values.hpp"

namespace meter::pg {

namespace {

enum Argument { kDay, kFirst, kLast, kCount, kLastId, kSum, kMin, kMax, kLastValue, kHours };

// The hours of a cell and their memory. It lives in a memory context.
struct Unpacked {
    explicit Unpacked(MemoryContext context) : arena(context), hours(&arena) {}

    ContextArena arena;
    HourCells hours;
};

void put_hour(const SetResult& set, const HourCell& hour, int64 day) {
    const RollupCell& cell = *hour.cell;
    const Datum values[] = {TimestampTzGetDatum(to_timestamptz(day + hour.hour * kHourMicros)),
                            TimestampTzGetDatum(to_timestamptz(cell.last_time)),
                            Int64GetDatum(cell.event_count),
                            Int64GetDatum(cell.last_id),
                            numeric_datum(cell.value_sum),
                            numeric_datum(cell.value_min),
                            numeric_datum(cell.value_max),
                            numeric_datum(cell.last_value)};
    const bool nulls[lengthof(values)] = {};
    put_row(set, values, nulls);
}

}  // namespace

}  // namespace meter::pg

METER_FUNCTION(meter_cell_hours) {
    using namespace meter::pg;
    const SetResult set = begin_set(fcinfo);
    for (int i = 0; i < kHours; ++i)
        if (PG_ARGISNULL(i))
            return static_cast<Datum>(0);
    const int64 day = cell_time(PG_GETARG_TIMESTAMPTZ(kDay));
    if (PG_ARGISNULL(kHours)) {
        const int64 first = cell_time(PG_GETARG_TIMESTAMPTZ(kFirst));
        const Datum values[] = {TimestampTzGetDatum(to_timestamptz(meter::hour_start(first))),
                                PG_GETARG_DATUM(kLast),
                                PG_GETARG_DATUM(kCount),
                                PG_GETARG_DATUM(kLastId),
                                PG_GETARG_DATUM(kSum),
                                PG_GETARG_DATUM(kMin),
                                PG_GETARG_DATUM(kMax),
                                PG_GETARG_DATUM(kLastValue)};
        const bool nulls[lengthof(values)] = {};
        put_row(set, values, nulls);
        return static_cast<Datum>(0);
    }
    const bytea* packed = PG_GETARG_BYTEA_PP(kHours);
    auto* unpacked = make_in<Unpacked>(CurrentMemoryContext, CurrentMemoryContext);
    unpacked->hours = meter::decode_hours(
        {VARDATA_ANY(packed), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(packed))}, day,
        &unpacked->arena);
    for (const meter::HourCell& hour : unpacked->hours)
        put_hour(set, hour, day);
    return static_cast<Datum>(0);
}
