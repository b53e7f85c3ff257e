// meter.erase_user(): a person goes, usage stays exact.
//
// Events, deltas and cells change under one snapshot, with the fold lock held: an event that is
// committed meanwhile keeps its user, and so does its delta.
#include "pg/compat.hpp"

#include <algorithm>
#include <string>

#include "core/dimensions.hpp"
#include "core/error.hpp"
#include "core/text.hpp"
#include "pg/alerts.hpp"
#include "pg/caller.hpp"
#include "pg/catalog.hpp"
#include "pg/cells.hpp"
#include "pg/correct.hpp"
#include "pg/fold.hpp"
#include "pg/guard.hpp"
#include "pg/limit_usage.hpp"
#include "pg/limits.hpp"
#include "pg/memory.hpp"
#include "pg/period_close.hpp"
#include "pg/retention.hpp"
#include "pg/spi.hpp"
#include "pg/values.hpp"

extern "C" {
#include "utils/array.h"
#include "utils/uuid.h"
}

namespace meter::pg {

namespace {

// The ids of the org's meters, as an int4[].
Datum meters_of(std::string_view org) {
    static Statement select = {
        "SELECT COALESCE(array_agg(id), '{}') FROM meter.meter WHERE org = $1", {TEXTOID}};
    const Datum values[] = {text_datum(org)};
    run(select, values, nullptr, Run::kWrite);
    bool null;
    return PointerGetDatum(DatumGetArrayTypePCopy(result(0, 1, &null)));
}

Datum random_pseudonym() {
    static Statement select = {"SELECT 'erased-' || gen_random_uuid()", {}};
    run(select, nullptr, nullptr, Run::kWrite);
    bool null;
    return PointerGetDatum(DatumGetTextPCopy(result(0, 1, &null)));
}

bool has_usage(Datum meters, Datum user) {
    static Statement select = {
        "SELECT FROM meter.meter_event WHERE user_id = $1 AND meter_id = ANY ($2) "
        "UNION ALL SELECT FROM meter.statement WHERE user_id = $1 AND meter_id = ANY ($2) "
        "UNION ALL SELECT FROM meter.rollup WHERE user_id = $1 AND meter_id = ANY ($2) "
        "UNION ALL SELECT FROM meter.rollup_pending WHERE user_id = $1 AND meter_id = ANY ($2) "
        "LIMIT 1",
        {TEXTOID, INT4ARRAYOID}};
    const Datum values[] = {user, meters};
    return run(select, values, nullptr, Run::kWrite, 1) > 0;
}

// The first month that begins at the horizon or later: from there on cells can be made anew.
Datum first_whole_month() {
    const int64 dropped = horizon();
    if (dropped == PG_INT64_MIN)
        return TimestampTzGetDatum(to_timestamptz(0));
    const TimeSpan month = utc_month_of(dropped);
    return TimestampTzGetDatum(to_timestamptz(month.start == dropped ? dropped : month.end));
}

#define METER_DROP_KEYS                                                                      \
    "keys AS (DELETE FROM meter.event_key k USING meter.meter_event e WHERE e.user_id = $1 " \
    "AND e.meter_id = ANY ($2) AND e.idempotency IS NOT NULL "                               \
    "AND k.digest = meter.key_digest(e.meter_id, e.user_id, e.idempotency))"

// Gives all usage of the user to the replacement, which has none.
void rename_usage(Datum user, Datum meters, Datum replacement) {
    static Statement rename = {
        "WITH " METER_DROP_KEYS
        ", events AS (UPDATE meter.meter_event SET user_id = $3, idempotency = NULL, "
        "metadata = '{}' WHERE user_id = $1 AND meter_id = ANY ($2)), "
        "deltas AS (UPDATE meter.rollup_pending SET user_id = $3 "
        "WHERE user_id = $1 AND meter_id = ANY ($2)), "
        "days AS (UPDATE meter.rollup_days SET user_id = $3 "
        "WHERE user_id = $1 AND meter_id = ANY ($2)), "
        "statements AS (UPDATE meter.statement SET user_id = $3 "
        "WHERE user_id = $1 AND meter_id = ANY ($2)), "
        "voids AS (UPDATE meter.event_void SET user_id = $3, idempotency = NULL, "
        "reason = 'erased' WHERE user_id = $1 AND meter_id = ANY ($2)) "
        "UPDATE meter.rollup SET user_id = $3 WHERE user_id = $1 AND meter_id = ANY ($2)",
        {TEXTOID, INT4ARRAYOID, TEXTOID}};
    const Datum values[] = {user, meters, replacement};
    change_statements([&] { run(rename, values, nullptr, Run::kWrite); });
}

// Removes what was billed to the user for periods from the first whole month on, of which no usage
// is left: nothing of it is late then. A level goes on from what is left of the months before; what
// was billed for it stays, and is adjusted.
void remove_statements(Datum user, Datum meters) {
    static Statement remove = {
        "WITH gone AS (DELETE FROM meter.statement s WHERE user_id = $1 AND meter_id = ANY ($2) "
        "AND for_start >= $3 AND (aggregation <> 'weighted_sum' OR NOT EXISTS (SELECT FROM "
        "meter.rollup r WHERE r.user_id = $1 AND r.meter_id = s.meter_id AND r.start < $3 "
        "UNION ALL SELECT FROM meter.rollup_pending p WHERE p.user_id = $1 AND p.meter_id = "
        "s.meter_id AND p.first_timestamp < $3)) "
        "RETURNING meter_id, for_start, event_count, digest), "
        "sums AS (SELECT meter_id, for_start, sum(event_count)::bigint AS event_count, "
        "meter.negate_digest(meter.sum_digests(digest)) AS digest FROM gone GROUP BY 1, 2) "
        "UPDATE meter.period_close c SET event_count = c.event_count - s.event_count, "
        "digest = meter.add_digests(c.digest, s.digest) FROM sums s "
        "WHERE c.meter_id = s.meter_id AND c.period_start = s.for_start",
        {TEXTOID, INT4ARRAYOID, TIMESTAMPTZOID}};
    const Datum values[] = {user, meters, first_whole_month()};
    change_statements([&] { run(remove, values, nullptr, Run::kWrite); });
}

// Removes the user's events from the first whole month on, and makes the rollups of those months
// anew, each for its meter.
void remove_usage(Datum user, Datum meters) {
    static Statement remove = {
        "WITH " METER_DROP_KEYS
        ", events AS (DELETE FROM meter.meter_event WHERE user_id = $1 AND meter_id = ANY ($2) "
        "AND \"timestamp\" >= $3 RETURNING meter_id, \"timestamp\"), "
        "voids AS (DELETE FROM meter.event_void WHERE user_id = $1 AND meter_id = ANY ($2) "
        "AND event_timestamp >= $3) "
        "SELECT DISTINCT m.event_name, date_trunc('month', e.\"timestamp\", 'UTC') FROM events e "
        "JOIN meter.meter m ON m.id = e.meter_id ORDER BY 1, 2",
        {TEXTOID, INT4ARRAYOID, TIMESTAMPTZOID}};
    static Statement rebuild = {"SELECT meter.rebuild($2, $2 + interval '1 microsecond', $1)",
                                {TEXTOID, TIMESTAMPTZOID}};
    const Datum values[] = {user, meters, first_whole_month()};
    const uint64 months = run(remove, values, nullptr, Run::kWrite);
    SPITupleTable* const found = SPI_tuptable;
    for (uint64 row = 0; row < months; ++row) {
        CHECK_FOR_INTERRUPTS();
        bool null;
        const Datum month[] = {SPI_getbinval(found->vals[row], found->tupdesc, 1, &null),
                               SPI_getbinval(found->vals[row], found->tupdesc, 2, &null)};
        run(rebuild, month, nullptr, Run::kWrite);
    }
}

}  // namespace

}  // namespace meter::pg

METER_FUNCTION(meter_erase_user) {
    using namespace meter::pg;
    require_argument(fcinfo, 0, "user_id");
    PreventCommandIfReadOnly("meter.erase_user()");
    const MemoryContext caller_context = CurrentMemoryContext;
    const Call call = begin_call(Privilege::kMaintain, "erase a user");
    require_read_committed("erase a user");
    const std::string_view name = text_view(PG_GETARG_DATUM(0));
    meter::check_name(name, "user_id");
    const Datum user = text_datum(name);
    const bool chosen = !PG_ARGISNULL(1);
    if (chosen)
        meter::check_name(text_view(PG_GETARG_DATUM(1)), "replacement");
    const Datum replacement =
        chosen ? text_datum(text_view(PG_GETARG_DATUM(1))) : random_pseudonym();

    // What others are recording just now is erased too, once it is committed.
    take_retention_lock(false);
    wait_for_recorders();
    lock_voids();
    lock_closes();
    take_fold_lock(true);
    const Datum meters = meters_of(call.org);
    lock_limited_meters(meters, user, replacement);
    hold_off_new_counters(name, text_view(replacement));
    if (chosen && has_usage(meters, replacement))
        throw meter::Error(
            meter::ErrorKind::kDuplicateObject,
            "user " + meter::quote_for_message(text_view(replacement)) + " has usage already",
            "The usage of two users cannot be put together.",
            "Choose another replacement, or none: then it is a random one.");
    const int guc_level = NewGUCNestLevel();
    (void)set_config_option("meter.org", shown(call.org), PGC_USERSET, PGC_S_SESSION,
                            GUC_ACTION_SAVE, true, 0, false);
    if (!PG_ARGISNULL(2) && PG_GETARG_BOOL(2)) {
        remove_usage(user, meters);
        remove_statements(user, meters);
    }
    const bool left = has_usage(meters, user);
    if (left)
        rename_usage(user, meters, replacement);
    rename_limits(meters, user, left ? replacement : 0);
    rename_alerts(meters, user, left ? replacement : 0);
    AtEOXact_GUC(true, guc_level);
    const MemoryContext own_context = MemoryContextSwitchTo(caller_context);
    const Datum answer = text_datum(text_view(replacement));
    MemoryContextSwitchTo(own_context);
    end_call(call);
    if (!left)
        PG_RETURN_NULL();
    PG_RETURN_DATUM(answer);
}

METER_FUNCTION(meter_key_digest) {
    using namespace meter::pg;
    const meter::Digest digest = meter::key_digest(
        PG_GETARG_INT32(0), text_view(PG_GETARG_DATUM(1)), text_view(PG_GETARG_DATUM(2)));
    auto* uuid = static_cast<pg_uuid_t*>(palloc(sizeof(pg_uuid_t)));
    std::copy(digest.begin(), digest.end(), uuid->data);
    PG_RETURN_UUID_P(uuid);
}
