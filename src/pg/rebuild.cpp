// meter.rebuild(): makes rollups anew from the events.
#include "pg/rebuild.hpp"

#include <algorithm>

#include "core/calendar.hpp"
#include "core/digest.hpp"
#include "pg/caller.hpp"
#include "pg/catalog.hpp"
#include "pg/cells.hpp"
#include "pg/fold.hpp"
#include "pg/generation.hpp"
#include "pg/guard.hpp"
#include "pg/memory.hpp"
#include "pg/partitions.hpp"
#include "pg/retention.hpp"
#include "pg/spi.hpp"
#include "pg/usage_bucket.hpp"
#include "pg/values.hpp"

extern "C" {
#include "utils/array.h"
#include "utils/uuid.h"
}

namespace meter::pg {

namespace {

// Puts a delta for each event, in `generation`, in the place of the meters' cells and deltas of the
// months, and returns how many there are. One statement, whose snapshot is taken when we have the
// lock: what it sees of events is in its deltas, and what it does not see keeps the deltas that
// came with it.
int64 replace_cells_by_deltas(Datum meters, int64 start, int64 end, int32 generation) {
    static Statement replace = {
        "WITH cells AS (DELETE FROM meter.rollup WHERE meter_id = ANY ($1) "
        "AND start >= $2 AND start < $3), "
        "totals AS (DELETE FROM meter.rollup_total WHERE meter_id = ANY ($1) "
        "AND start >= $2 AND start < $3), "
        "days AS (DELETE FROM meter.rollup_days WHERE meter_id = ANY ($1) "
        "AND month >= $2 AND month < $3), "
        "months AS (DELETE FROM meter.rollup_month WHERE meter_id = ANY ($1) "
        "AND month >= $2 AND month < $3), "
        "deltas AS (DELETE FROM meter.rollup_pending WHERE meter_id = ANY ($1) "
        "AND first_timestamp >= $2 AND first_timestamp < $3) "
        "INSERT INTO meter.rollup_pending (first_timestamp, last_id, event_count, meter_id, "
        "generation, digest, user_id, value_sum, dimensions) "
        "SELECT e.\"timestamp\", e.id, 1, e.meter_id, $4, meter.dimensions_digest(e.dimensions), "
        "e.user_id, e.value, e.dimensions FROM meter.meter_event e WHERE e.meter_id = ANY ($1) "
        "AND e.\"timestamp\" >= $2 AND e.\"timestamp\" < $3 "
        "AND NOT EXISTS (SELECT FROM meter.event_void v WHERE v.user_id = e.user_id "
        "AND v.meter_id = e.meter_id AND v.event_timestamp = e.\"timestamp\" "
        "AND v.event_id = e.id)",
        {INT4ARRAYOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID}};
    const Datum values[] = {meters, TimestampTzGetDatum(to_timestamptz(start)),
                            TimestampTzGetDatum(to_timestamptz(end)), Int32GetDatum(generation)};
    return static_cast<int64>(run(replace, values, nullptr, Run::kWrite));
}

// The ids of the org's meters, or of the one called `event_name`, as an int4[].
Datum meters_to_rebuild(std::string_view org, FunctionCallInfo fcinfo, int argument) {
    static Statement select = {
        "SELECT COALESCE(array_agg(id), '{}') FROM meter.meter WHERE org = $1", {TEXTOID}};
    if (!PG_ARGISNULL(argument)) {
        Datum id[] = {Int32GetDatum(require_meter(org, text_view(PG_GETARG_DATUM(argument))).id)};
        return PointerGetDatum(construct_array(id, 1, INT4OID, 4, true, TYPALIGN_INT));
    }
    const Datum values[] = {text_datum(org)};
    run(select, values, nullptr, Run::kWrite);
    bool null;
    return PointerGetDatum(DatumGetArrayTypePCopy(result(0, 1, &null)));
}

}  // namespace

int64 rebuild_months(Datum meters, int64 from, int64 to, const char* action) {
    require_months(from, hold_horizon(), action);
    hold_partitions();
    const int32 generation = generation_to_fold();
    const int64 events = replace_cells_by_deltas(meters, utc_month_of(from).start,
                                                 utc_month_of(to - 1).end, generation);
    fold_pending(PG_INT64_MAX, Fold::kIntoCells, generation);
    return events;
}

}  // namespace meter::pg

METER_FUNCTION(meter_rebuild) {
    using namespace meter::pg;
    require_argument(fcinfo, 0, "period_start");
    require_argument(fcinfo, 1, "period_end");
    PreventCommandIfReadOnly("meter.rebuild()");
    const Call call = begin_owner_call("rebuild");
    require_read_committed("rebuild");
    require_no_subscription("rebuild");
    const int64 from = calendar_time(PG_GETARG_TIMESTAMPTZ(0), "period_start");
    const int64 to = calendar_time(PG_GETARG_TIMESTAMPTZ(1), "period_end");
    int64 events = 0;
    if (from < to) {
        const Datum meters = meters_to_rebuild(call.org, fcinfo, 2);
        take_fold_lock(true);
        events = rebuild_months(meters, from, to, "rebuild");
    }
    end_call(call);
    PG_RETURN_INT64(events);
}

METER_FUNCTION(meter_dimensions_digest) {
    using namespace meter::pg;
    const CanonicalDimensions dimensions = canonical_dimensions(PG_GETARG_DATUM(0));
    auto* uuid = static_cast<pg_uuid_t*>(palloc(sizeof(pg_uuid_t)));
    const meter::Digest digest = meter::dimensions_digest(dimensions.text);
    std::copy(digest.begin(), digest.end(), uuid->data);
    PG_RETURN_UUID_P(uuid);
}

METER_FUNCTION(meter_open_generations) {
    using namespace meter::pg;
    SPI_connect();
    const Datum generations = SPI_datumTransfer(open_generations(Run::kCaller), false, -1);
    SPI_finish();
    PG_RETURN_DATUM(generations);
}
