// meter.close_period, meter.late_usage and meter.list_statements.
//
// A statement's row is a difference of snapshots: what usage says now, less what statements have
// said so far. So it does not matter when an event was recorded, or which transaction was under way
// during a close: what one close does not see, the next sees as late.
#include "pg/period_close.hpp"

#include <string>

#include "core/calendar.hpp"
#include "core/error.hpp"
#include "core/text.hpp"
#include "core/timestamp.hpp"
#include "pg/caller.hpp"
#include "pg/catalog.hpp"
#include "pg/fold.hpp"
#include "pg/guard.hpp"
#include "pg/memory.hpp"
#include "pg/set_result.hpp"
#include "pg/spi.hpp"
#include "pg/values.hpp"

extern "C" {
#include "commands/trigger.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
}

namespace meter::pg {

bool statement_changes_allowed = false;

namespace {

Oid period_close_table() {
    return get_relname_relid("period_close", relations().schema);
}

#define METER_NO_DIGEST "'00000000-0000-0000-0000-000000000000'::uuid"

// What a period from `start` to `end` of a meter is billed for: user_id, dimensions, value,
// event_count and digest. The arguments are columns. Digests are to be had with those aggregations
// alone that add rows up; for the others there are two questions, under one snapshot.
#define METER_BILLED(name, start, end, dimensions, aggregation, property) \
    "(SELECT user_id, dimensions, CASE WHEN " METER_IS_SPECIAL(aggregation) " THEN v.value ELSE " \
    "d.value END AS value, COALESCE(d.event_count, 0) AS event_count, "                           \
    "COALESCE(d.digest, " METER_NO_DIGEST ") AS digest FROM meter.usage_digest(" name ", " start  \
    ", " end ", group_by => " dimensions " || '{user_id}', aggregation => CASE WHEN "             \
    METER_IS_SPECIAL(aggregation) " THEN 'count' ELSE " aggregation " END) AS d FULL JOIN "       \
    "(SELECT u.user_id, u.dimensions, u.value FROM meter.usage(" name ", " start ", " end         \
    ", group_by => " dimensions " || '{user_id}', aggregation => " aggregation                    \
    ", property => " property ", rounding => 'none') AS u WHERE " METER_IS_SPECIAL(aggregation)   \
    ") AS v USING (user_id, dimensions))"
#define METER_IS_SPECIAL(aggregation) aggregation " IN ('first', 'unique_count', 'weighted_sum')"

// The closed periods among "closes" of which count or digest is not what statements say, as
// "changed", and of a level those after one; and by user and dimensions what their usage is now,
// less what was billed, as "late".
#define METER_LATE \
    "differing AS MATERIALIZED (SELECT c.meter_id, c.period_start FROM closes c, "                \
    "LATERAL meter.usage_digest(c.event_name, c.period_start, c.period_end, "                     \
    "aggregation => 'count') u WHERE (u.event_count, u.digest) IS DISTINCT FROM "                 \
    "(c.event_count, c.digest)), "                                                                \
    "changed AS MATERIALIZED (SELECT c.* FROM closes c WHERE EXISTS (SELECT FROM differing d "    \
    "WHERE d.meter_id = c.meter_id AND (d.period_start = c.period_start "                         \
    "OR c.aggregation = 'weighted_sum' AND d.period_start < c.period_start))), "                  \
    "late AS MATERIALIZED (SELECT d.meter_id, d.period_start, d.period_end, d.aggregation, "      \
    "d.user_id, d.dimensions, trim_scale(sum(d.quantity)) AS quantity, "                          \
    "sum(d.event_count)::bigint AS event_count, meter.sum_digests(d.digest) AS digest FROM ("     \
    "SELECT c.meter_id, c.period_start, c.period_end, c.aggregation, u.user_id, u.dimensions, "   \
    "COALESCE(u.value, 0) AS quantity, u.event_count, u.digest FROM changed c, LATERAL "          \
    METER_BILLED("c.event_name", "c.period_start", "c.period_end", "c.dimensions",                \
                 "c.aggregation", "c.property")                                                   \
    " u UNION ALL SELECT c.meter_id, c.period_start, c.period_end, c.aggregation, s.user_id, "    \
    "s.dimensions, -s.quantity, -s.event_count, meter.negate_digest(s.digest) FROM changed c "    \
    "JOIN meter.statement s ON s.meter_id = c.meter_id AND s.for_start = c.period_start) d "      \
    "GROUP BY 1, 2, 3, 4, 5, 6 HAVING sum(d.event_count) <> 0 OR sum(d.quantity) <> 0 "           \
    "OR meter.sum_digests(d.digest) <> " METER_NO_DIGEST ")"

// meter.usage_digest() is to act in the org of the call.
int enter_org(const Call& call) {
    const int level = NewGUCNestLevel();
    (void)set_config_option("meter.org", shown(call.org), PGC_USERSET, PGC_S_SESSION,
                            GUC_ACTION_SAVE, true, 0, false);
    return level;
}

void leave_org(int level) {
    AtEOXact_GUC(true, level);
}

// The meters that are to be closed.
struct Closing {
    int count;
    Datum* ids;  // int4
};

// Locks the meters, all of the org or the one called `event_name`, against other closes. Whoever
// records does not wait.
Closing lock_meters(const Call& call, FunctionCallInfo fcinfo, int argument) {
    static Statement select = {"SELECT id FROM meter.meter WHERE org = $1 ORDER BY id", {TEXTOID}};
    Closing closing{};
    if (!PG_ARGISNULL(argument)) {
        closing.ids = static_cast<Datum*>(palloc(sizeof(Datum)));
        closing.ids[closing.count++] =
            Int32GetDatum(require_meter(call.org, text_view(PG_GETARG_DATUM(argument))).id);
    } else {
        const Datum values[] = {text_datum(call.org)};
        const uint64 count = run(select, values, nullptr, Run::kWrite);
        closing.ids = static_cast<Datum*>(palloc(sizeof(Datum) * Max(count, 1)));
        bool null;
        for (uint64 row = 0; row < count; ++row)
            closing.ids[closing.count++] = result(row, 1, &null);
    }
    for (int i = 0; i < closing.count; ++i) {
        LOCKTAG tag;
        SET_LOCKTAG_OBJECT(tag, MyDatabaseId, period_close_table(),
                           static_cast<uint32>(DatumGetInt32(closing.ids[i])), 0);
        (void)LockAcquire(&tag, ExclusiveLock, false, false);
        lock_meter_for_recording(DatumGetInt32(closing.ids[i]));
    }
    return closing;
}

Datum id_array(const Closing& closing) {
    return PointerGetDatum(
        construct_array(closing.ids, closing.count, INT4OID, 4, true, TYPALIGN_INT));
}

// Leaves out the meters that are closed up to `end` already. Throws where one is closed beyond.
void leave_out_closed(Closing* closing, TimestampTz end) {
    static Statement select = {
        "SELECT m.id, m.event_name, c.period_end FROM meter.meter m LEFT JOIN LATERAL (SELECT "
        "max(period_end) AS period_end FROM meter.period_close WHERE meter_id = m.id) c ON true "
        "WHERE m.id = ANY ($1) AND (c.period_end < $2) IS NOT FALSE OR m.id = ANY ($1) "
        "AND c.period_end > $2 ORDER BY c.period_end > $2 DESC, m.id",
        {INT4ARRAYOID, TIMESTAMPTZOID}};
    const Datum values[] = {id_array(*closing), TimestampTzGetDatum(end)};
    const uint64 rows = run(select, values, nullptr, Run::kWrite);
    closing->count = 0;
    for (uint64 row = 0; row < rows; ++row) {
        bool null;
        closing->ids[closing->count++] = result(row, 1, &null);
        const Datum last = result(row, 3, &null);
        if (!null && DatumGetTimestampTz(last) > end)
            throw Error(ErrorKind::kNotInState,
                        "meter " + quote_for_message(text_view(result(row, 2, &null))) +
                            " is closed up to " +
                            format_timestamp(to_unix_micros(DatumGetTimestampTz(last))) +
                            " already",
                        "A period that was closed is not divided, nor opened again.",
                        "Late events and corrections are carried into the next statement.");
    }
}

// Whether cells cannot tell the usage of a period c of rows of period_close at all: of the values
// of first events, of metadata, and of dimensions that rollups left out they know nothing.
#define METER_NEEDS_EVENTS                                                                         \
    "(c.aggregation = 'first' OR c.aggregation = 'unique_count' AND c.property LIKE 'metadata.%' " \
    "OR EXISTS (SELECT FROM meter.rollup_meter l, LATERAL (SELECT array_remove(c.dimensions || "   \
    "CASE WHEN c.aggregation = 'unique_count' THEN NULLIF(c.property, 'user_id') END, NULL) "      \
    "AS names) n WHERE l.meter_id = c.meter_id AND (l.left_out && n.names OR '' = ANY "            \
    "(l.left_out) AND NOT n.names <@ l.kept)))"

// Writes the statements of the meters, in one statement: one snapshot. Returns the number of rows.
int64 write_statements(const Closing& closing, TimestampTz end, Datum role) {
    static Statement write = {
        "WITH scope AS MATERIALIZED (SELECT m.id AS meter_id, m.event_name, m.aggregation, "
        "m.property, "
        "COALESCE((SELECT max(c.period_end) FROM meter.period_close c WHERE c.meter_id = m.id), "
        "(SELECT r.horizon FROM meter.retention r, LATERAL (SELECT m.id AS meter_id, "
        "m.aggregation, m.property, '{}'::text[] AS dimensions) c WHERE r.horizon < $2 AND "
        METER_NEEDS_EVENTS "), timestamptz '1970-01-01 00:00+00') AS period_start, ARRAY(SELECT d FROM "
        "unnest(m.dimensions) WITH ORDINALITY AS d (d, n) WHERE d IS DISTINCT FROM m.property "
        "AND CASE WHEN '' = ANY (l.left_out) "
        "THEN d = ANY (l.kept) ELSE (d = ANY (l.left_out)) IS NOT TRUE END ORDER BY n) "
        "AS dimensions FROM meter.meter m LEFT JOIN meter.rollup_meter l ON l.meter_id = m.id "
        "WHERE m.id = ANY ($1)), "
        "closes AS MATERIALIZED (SELECT c.*, s.event_name FROM scope s JOIN meter.period_close c "
        "ON c.meter_id = s.meter_id WHERE NOT c.settled), " METER_LATE
        ", told AS MATERIALIZED (SELECT s.meter_id, s.period_start AS for_start, $2 AS for_end, "
        "s.aggregation, u.user_id, u.dimensions, COALESCE(u.value, 0) AS quantity, "
        "u.event_count, u.digest FROM scope s, LATERAL "
        METER_BILLED("s.event_name", "s.period_start", "$2", "s.dimensions", "s.aggregation",
                     "s.property") " u UNION ALL SELECT l.meter_id, l.period_start, "
        "l.period_end, l.aggregation, l.user_id, l.dimensions, l.quantity, l.event_count, "
        "l.digest FROM late l), "
        "written AS (INSERT INTO meter.statement (period_start, period_end, for_start, for_end, "
        "closed_at, event_count, digest, dimensions_digest, meter_id, user_id, kind, aggregation, "
        "quantity, dimensions) SELECT s.period_start, $2, t.for_start, t.for_end, now(), "
        "t.event_count, t.digest, meter.dimensions_digest(t.dimensions), t.meter_id, t.user_id, "
        "CASE WHEN t.for_start = s.period_start THEN 'usage' ELSE 'adjustment' END, "
        "t.aggregation, t.quantity, t.dimensions FROM told t JOIN scope s USING (meter_id) "
        "RETURNING meter_id, for_start, event_count, digest), "
        "sums AS MATERIALIZED (SELECT meter_id, for_start, sum(event_count)::bigint "
        "AS event_count, meter.sum_digests(digest) AS digest FROM written GROUP BY 1, 2), "
        "closed AS (INSERT INTO meter.period_close (period_start, period_end, closed_at, "
        "event_count, digest, meter_id, aggregation, dimensions, closed_by, property) "
        "SELECT s.period_start, $2, now(), COALESCE(w.event_count, 0), "
        "COALESCE(w.digest, " METER_NO_DIGEST
        "), s.meter_id, s.aggregation, s.dimensions, $3, s.property "
        "FROM scope s LEFT JOIN sums w ON w.meter_id = s.meter_id AND w.for_start = "
        "s.period_start), "
        "adjusted AS (UPDATE meter.period_close c SET event_count = c.event_count + "
        "w.event_count, digest = meter.add_digests(c.digest, w.digest) FROM sums w "
        "WHERE c.meter_id = w.meter_id AND c.period_start = w.for_start) "
        "SELECT count(*) FROM written",
        {INT4ARRAYOID, TIMESTAMPTZOID, TEXTOID}};
    const Datum values[] = {id_array(closing), TimestampTzGetDatum(end), role};
    run(write, values, nullptr, Run::kWrite);
    bool null;
    return DatumGetInt64(result(0, 1, &null));
}

// Raises invalid_parameter_value unless a period can end there.
void check_period_end(TimestampTz end) {
    if (TIMESTAMP_NOT_FINITE(end) || to_unix_micros(end) <= meter::kMinEventTime)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("period_end %s is out of range", timestamptz_to_str(end)),
                        errhint("A period ends after the start of 1970, and at the latest now.")));
    if (end > GetCurrentStatementStartTimestamp())
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("period_end %s lies in the future", timestamptz_to_str(end)),
                        errhint("A period is closed once it is over.")));
}

// Tells of the meters whose level has just been averaged over the time since 1970: their first
// period, which nobody means to bill.
void tell_averages_since_1970(const Closing& closing, TimestampTz end) {
    static Statement select = {
        "SELECT m.event_name FROM meter.period_close c JOIN meter.meter m ON m.id = c.meter_id "
        "WHERE c.meter_id = ANY ($1) AND c.period_start = timestamptz '1970-01-01 00:00+00' "
        "AND c.period_end = $2 AND c.aggregation = 'weighted_sum' AND c.event_count > 0 "
        "ORDER BY m.event_name",
        {INT4ARRAYOID, TIMESTAMPTZOID}};
    const Datum values[] = {id_array(closing), TimestampTzGetDatum(end)};
    const uint64 count = run(select, values, nullptr, Run::kWrite);
    for (uint64 row = 0; row < count; ++row) {
        bool null;
        ereport(NOTICE,
                (errmsg("the first statement of meter \"%s\" has averages since 1970",
                        shown(text_view(result(row, 1, &null)))),
                 errdetail("The first period of a meter begins in 1970, and its aggregation is "
                           "weighted_sum."),
                 errhint("Roll back where you can, and close the time before the first period "
                         "that you bill by itself, with the start of that period as "
                         "period_end.")));
    }
}

// Whether a period c cannot be told once the events before $1 are gone: cells answer for whole
// months in UTC for certain.
#define METER_CUT_OFF                                                         \
    "(c.period_start < $1 AND date_trunc('month', c.period_start, 'UTC') < "  \
    "c.period_start OR date_trunc('month', c.period_end, 'UTC') < LEAST($1, " \
    "c.period_end) OR " METER_NEEDS_EVENTS ")"

// Whether the level that a period c begins with needs events before $1: cells tell it for the start
// of a month for certain.
#define METER_CUTS_LEVEL                                                                          \
    "(c.aggregation = 'weighted_sum' AND date_trunc('month', c.period_start, 'UTC') < LEAST($1, " \
    "c.period_start))"

// Whether the meter of c has had events from the month of `start` on and before $1.
#define METER_HAD_EVENTS(start)                                                               \
    "(EXISTS (SELECT FROM meter.rollup_month r WHERE r.meter_id = c.meter_id AND r.month >= " \
    "date_trunc('month', " start                                                              \
    ", 'UTC') AND r.first_timestamp < $1) OR EXISTS (SELECT "                                 \
    "FROM meter.rollup_pending p WHERE p.meter_id = c.meter_id AND p.first_timestamp >= "     \
    "date_trunc('month', " start ", 'UTC') AND p.first_timestamp < $1))"

}  // namespace

void check_not_moved_into_closed(int32 meter_id, TimestampTz from, TimestampTz to) {
    static Statement select = {
        "SELECT period_start, period_end, period_start <= $3 AND $3 < period_end "
        "FROM meter.period_close WHERE meter_id = $1 AND period_start <= $2 AND $2 < period_end",
        {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID},
        true};
    const Datum values[] = {Int32GetDatum(meter_id), TimestampTzGetDatum(to),
                            TimestampTzGetDatum(from)};
    if (run(select, values, nullptr, Run::kWrite) == 0)
        return;
    bool null;
    if (DatumGetBool(result(0, 3, &null)))
        return;
    const auto bound = [&](int column) {
        return format_timestamp(to_unix_micros(DatumGetTimestampTz(result(0, column, &null))));
    };
    throw Error(
        ErrorKind::kNotInState,
        "event_time " + format_timestamp(to_unix_micros(to)) + " lies in a period that is closed",
        "The period from " + bound(1) + " to " + bound(2) +
            " was billed; no event is moved into it.",
        "Void the event, and record another, which is then late.");
}

void lock_closes() {
    LockRelationOid(period_close_table(), ShareRowExclusiveLock);
}

void check_closed_periods(TimestampTz before) {
    // Nothing where all before `before` is dropped, or about to be, already. Else the periods that
    // `before` cuts: closed ones, and what comes after the last close. Of a month
    // that is cut, cells cannot tell minimum, maximum and last any more once another of its events
    // is voided.
    static Statement select = {
        "SELECT m.event_name, c.period_start, c.period_end, c.is_closed, CASE WHEN "
        METER_CUTS_LEVEL " AND " METER_HAD_EVENTS("c.period_start") " THEN 'level' WHEN "
        "c.period_start < $1 AND " METER_CUT_OFF " AND " METER_HAD_EVENTS("c.period_start")
        " THEN 'cut' WHEN c.period_start < $1 AND c.aggregation "
        "IN ('min', 'max', 'last') AND date_trunc('month', $1, 'UTC') < $1 AND "
        METER_HAD_EVENTS("$1") " THEN 'order' END AS why FROM (SELECT meter_id, period_start, "
        "period_end, aggregation, property, dimensions, true AS is_closed FROM meter.period_close "
        "WHERE NOT settled UNION ALL SELECT m.id, max(c.period_end), 'infinity', m.aggregation, "
        "m.property, '{}'::text[], false FROM meter.meter m JOIN meter.period_close c "
        "ON c.meter_id = m.id GROUP BY m.id) AS c JOIN meter.meter m ON m.id = c.meter_id "
        "WHERE (c.period_start < $1 OR " METER_CUTS_LEVEL ") AND c.period_end > $1 AND $1 > COALESCE((SELECT r.dropped FROM "
        "meter.retention r), '-infinity') ORDER BY 5, c.period_start, 1",
        {TIMESTAMPTZOID}};
    const Datum values[] = {TimestampTzGetDatum(before)};
    if (run(select, values, nullptr, Run::kWrite) == 0)
        return;
    bool null;
    const Datum why = result(0, 5, &null);
    if (null)
        return;
    const bool cut = text_view(why) == "cut";
    const bool level = text_view(why) == "level";
    const std::string meter = quote_for_message(text_view(result(0, 1, &null)));
    const auto bound = [&](int column) {
        return format_timestamp(to_unix_micros(DatumGetTimestampTz(result(0, column, &null))));
    };
    if (level)
        throw Error(ErrorKind::kNotInState,
                    "the level of meter " + meter + " at " + bound(2) + " needs its events",
                    "It is what a period begins with that can still change, or is not billed yet.",
                    "Drop the events before the start of that month in UTC, or first close a "
                    "period that ends with a month.");
    if (!cut)
        throw Error(ErrorKind::kNotInState,
                    "events cannot be dropped from the middle of a month of meter " + meter,
                    "Its periods are closed, and the rollups could not tell the rest of that month "
                    "once one of its events is voided.",
                    "Drop the events before the start of a month in UTC.");
    if (!DatumGetBool(result(0, 4, &null)))
        throw Error(ErrorKind::kNotInState, "usage of meter " + meter + " is not billed yet",
                    "It is closed up to " + bound(2) +
                        ", and what comes after could not be told without its events.",
                    "Close the period first, or drop the events before " + bound(2) + ".");
    throw Error(ErrorKind::kNotInState,
                "events cannot be dropped from the middle of a closed period of meter " + meter,
                "What arrives late for the period from " + bound(2) + " to " + bound(3) +
                    " could not be told any more.",
                "Drop the events before " + bound(2) + ", or those of all of the period.");
}

void settle_closed_periods(TimestampTz before) {
    static Statement orgs = {
        "SELECT DISTINCT m.org FROM meter.period_close c JOIN meter.meter m ON m.id = c.meter_id "
        "WHERE NOT c.settled AND c.period_end <= $1",
        {TIMESTAMPTZOID}};
    static Statement settle = {
        "WITH closes AS MATERIALIZED (SELECT c.*, m.event_name FROM meter.period_close c "
        "JOIN meter.meter m ON m.id = c.meter_id WHERE m.org = $2 AND NOT c.settled "
        "AND c.period_end <= $1), " METER_LATE
        ", settled AS (UPDATE meter.period_close p SET settled = true FROM closes c "
        "WHERE p.meter_id = c.meter_id AND p.period_start = c.period_start AND NOT EXISTS "
        "(SELECT FROM late l WHERE l.meter_id = c.meter_id AND l.period_start = c.period_start)) "
        "SELECT FROM closes c WHERE " METER_CUT_OFF
        " AND EXISTS (SELECT FROM late l WHERE "
        "l.meter_id = c.meter_id AND l.period_start = c.period_start)",
        {TIMESTAMPTZOID, TEXTOID}};
    // What was recorded since that was asked for the last time.
    check_closed_periods(before);
    const Datum until[] = {TimestampTzGetDatum(before)};
    const uint64 count = run(orgs, until, nullptr, Run::kWrite);
    SPITupleTable* const found = SPI_tuptable;
    for (uint64 row = 0; row < count; ++row) {
        bool null;
        Call call{};
        call.org = text_view(SPI_getbinval(found->vals[row], found->tupdesc, 1, &null));
        const Datum values[] = {TimestampTzGetDatum(before), text_datum(call.org)};
        const int level = enter_org(call);
        const bool is_late = run(settle, values, nullptr, Run::kWrite) > 0;
        leave_org(level);
        if (is_late)
            throw Error(ErrorKind::kNotInState,
                        "usage of closed periods has arrived late, and is in no statement yet",
                        "Without its events it could not be told any more. Nothing was dropped.",
                        "See meter.late_usage(). Close the next period, then drop the events.");
    }
}

}  // namespace meter::pg

using namespace meter::pg;
using meter::Error;
using meter::ErrorKind;

METER_FUNCTION(meter_close_period) {
    require_argument(fcinfo, 0, "period_end");
    PreventCommandIfReadOnly("meter.close_period()");
    const Call call = begin_call(Privilege::kAdmin, "close a period");
    require_read_committed("close a period");
    require_no_subscription("close a period");
    const TimestampTz end = PG_GETARG_TIMESTAMPTZ(0);
    check_period_end(end);
    // Before the snapshot, so that no user is renamed meanwhile.
    LockRelationOid(period_close_table(), RowExclusiveLock);
    Closing closing = lock_meters(call, fcinfo, 1);
    leave_out_closed(&closing, end);
    int64 rows = 0;
    if (closing.count > 0) {
        const int level = enter_org(call);
        rows = write_statements(closing, end, text_datum(GetUserNameFromId(call.caller, false)));
        leave_org(level);
        tell_averages_since_1970(closing, end);
    }
    end_call(call);
    PG_RETURN_INT64(rows);
}

METER_FUNCTION(meter_late_usage) {
    const SetResult set = begin_set(fcinfo);
    const Call call = begin_call(Privilege::kRead, "query usage");
    static Statement select = {
        "WITH closes AS MATERIALIZED (SELECT c.*, m.event_name FROM meter.period_close c "
        "JOIN meter.meter m ON m.id = c.meter_id WHERE m.org = $1 AND NOT c.settled "
        "AND ($2 IS NULL OR m.id = $2)), " METER_LATE
        " SELECT c.event_name::text, l.period_start, l.period_end, l.user_id::text, l.dimensions, "
        "l.quantity, l.event_count, l.digest FROM late l JOIN closes c USING (meter_id, "
        "period_start) ORDER BY c.event_name, l.period_start, l.user_id COLLATE \"C\", "
        "l.dimensions",
        {TEXTOID, INT4OID}};
    const bool all = PG_ARGISNULL(0);
    const Datum values[] = {
        text_datum(call.org),
        all ? static_cast<Datum>(0)
            : Int32GetDatum(require_meter(call.org, text_view(PG_GETARG_DATUM(0))).id)};
    const int level = enter_org(call);
    run(select, values, all ? " n" : nullptr, Run::kCaller);
    put_spi_rows(set);
    leave_org(level);
    end_call(call);
    return static_cast<Datum>(0);
}

METER_FUNCTION(meter_list_statements) {
    const SetResult set = begin_set(fcinfo);
    const Call call = begin_call(Privilege::kRead, "list statements");
    static Statement select = {
        "SELECT m.event_name::text, s.user_id::text, s.dimensions, s.period_start, s.period_end, "
        "s.kind, s.for_start, s.for_end, s.aggregation, s.quantity, s.event_count, s.digest, "
        "s.closed_at FROM meter.statement s JOIN meter.meter m ON m.id = s.meter_id "
        "WHERE m.org = $1 AND ($2 IS NULL OR m.id = $2) AND ($3 IS NULL OR s.user_id = $3) "
        "AND ($4 IS NULL OR s.period_start >= $4) AND ($5 IS NULL OR s.period_end <= $5) "
        "ORDER BY s.period_start, m.event_name, s.user_id, s.dimensions, s.for_start",
        {TEXTOID, INT4OID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID}};
    Datum values[5] = {text_datum(call.org)};
    char nulls[] = "     ";
    if (!PG_ARGISNULL(0))
        values[1] = Int32GetDatum(require_meter(call.org, text_view(PG_GETARG_DATUM(0))).id);
    for (int i = 1; i < 4; ++i)
        values[i + 1] = PG_ARGISNULL(i) ? static_cast<Datum>(0) : PG_GETARG_DATUM(i);
    for (int i = 0; i < 4; ++i)
        nulls[i + 1] = PG_ARGISNULL(i) ? 'n' : ' ';
    run(select, values, nulls, Run::kCaller);
    put_spi_rows(set);
    end_call(call);
    return static_cast<Datum>(0);
}

METER_FUNCTION(meter_refuse_change) {
    if (!CALLED_AS_TRIGGER(fcinfo))
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                        errmsg("meter.refuse_change() was not called as a trigger")));
    const auto* data = reinterpret_cast<TriggerData*>(fcinfo->context);
    if (!statement_changes_allowed)
        ereport(ERROR,
                (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                 errmsg("what was billed is not changed"),
                 errhint("Void or amend events, or record more: the next statement adjusts.")));
    return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(data->tg_event) ? data->tg_newtuple
                                                                   : data->tg_trigtuple);
}
