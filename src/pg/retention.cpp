#include "pg/retention.hpp"

#include <algorithm>

#include "core/calendar.hpp"
#include "core/error.hpp"
#include "core/timestamp.hpp"
#include "pg/caller.hpp"
#include "pg/catalog.hpp"
#include "pg/event_query.hpp"
#include "pg/guard.hpp"
#include "pg/memory.hpp"
#include "pg/settings.hpp"
#include "pg/spi.hpp"
#include "pg/values.hpp"

extern "C" {
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/array.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
}

namespace meter::pg {

int64 horizon() {
    static int64 known = PG_INT64_MIN;
    static uint64 known_since = 0;  // by catalog_generation(), which is never 0
    AcceptInvalidationMessages();
    (void)relations();  // registers for invalidations
    // Once: it is what it was when we were called, or later. What changes while it is read is read
    // by the next call.
    if (known_since != catalog_generation()) {
        static Statement select = {"SELECT max(horizon) FROM meter.retention", {}};
        const uint64 before = catalog_generation();
        run(select, nullptr, nullptr, Run::kLatest);
        bool none;
        const Datum time = result(0, 1, &none);
        known = none ? PG_INT64_MIN : to_unix_micros(DatumGetTimestampTz(time));
        SPI_freetuptable(SPI_tuptable);
        note_remembered();
        known_since = before;
    }
    return known;
}

void require_known_horizon() {
    static Statement select = {"SELECT max(horizon) FROM meter.retention", {}};
    const int64 latest = horizon();
    if (latest == PG_INT64_MIN)
        return;
    run(select, nullptr, nullptr, Run::kCaller);
    bool none;
    const Datum seen = result(0, 1, &none);
    if (none || to_unix_micros(DatumGetTimestampTz(seen)) < latest)
        ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                        errmsg("events have been dropped since the snapshot that is read"),
                        errhint("Try again, in a new transaction.")));
    SPI_freetuptable(SPI_tuptable);
}

int64 hold_horizon() {
    // The lock that writing an event takes anyway, but before the horizon is looked at: from here
    // on drop_events() waits for us, and what it committed before has become known by then.
    LockRelationOid(relations().meter_event, RowExclusiveLock);
    return horizon();
}

void check_retained(int64 time, int64 horizon) {
    if (time < horizon)
        throw Error(ErrorKind::kNotInState,
                    "timestamp " + format_timestamp(time) + " lies before the retention horizon",
                    "Events before " + format_timestamp(horizon) +
                        " have been dropped, and no more are taken: one that was recorded before "
                        "could not be told from a new one.");
}

namespace {

constexpr const char* kCannotTell =
    "this usage cannot be told any more without events that have been dropped";

[[noreturn]] void refuse(const std::string& what, int64 horizon, const char* hint) {
    throw Error(ErrorKind::kNotInState, what,
                "Events before " + format_timestamp(horizon) + " have been dropped.", hint);
}

// Starts or ends of spans as a timestamptz[].
Datum time_array(const std::vector<TimeSpan>& spans, bool ends) {
    const auto count = static_cast<int>(spans.size());
    auto* values = static_cast<Datum*>(palloc(sizeof(Datum) * static_cast<Size>(Max(count, 1))));
    for (int i = 0; i < count; ++i) {
        const TimeSpan& span = spans[static_cast<std::size_t>(i)];
        values[i] = TimestampTzGetDatum(to_timestamptz(ends ? span.end : span.start));
    }
    return PointerGetDatum(
        construct_array(values, count, TIMESTAMPTZOID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

int64 earliest(const std::vector<TimeSpan>& spans) {
    int64 least = PG_INT64_MAX;
    for (const TimeSpan& span : spans)
        least = std::min<int64>(least, span.start);
    return least;
}

// What the checks of a source have in common as parameters.
struct SourceValues {
    Datum horizon;
    Datum meters;
    Datum generations;
    Datum user;
};

// Whether the scope may have events before the horizon in one of the spans, by what the rollups say
// of each month.
bool has_dropped(const UsageScope* scope, const SourceValues& source,
                 const std::vector<TimeSpan>& spans) {
#define METER_SPANS                                                                         \
    "SELECT FROM unnest($1, $2) AS k (start, stop) WHERE k.start < $3 AND (EXISTS (SELECT " \
    "FROM meter.rollup_pending p WHERE p.generation = ANY ($5) AND p.meter_id = ANY ($4) "  \
    "AND p.first_timestamp < LEAST(k.stop, $3) AND COALESCE(p.last_timestamp, "             \
    "p.first_timestamp) >= k.start"
#define METER_MONTHS \
    " AND r.first_timestamp < LEAST(k.stop, $3) AND r.last_timestamp >= k.start)) LIMIT 1"
    static Statement all = {
        METER_SPANS
        ") OR EXISTS (SELECT FROM meter.rollup_month r WHERE r.meter_id = ANY ($4)" METER_MONTHS,
        {TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZOID, INT4ARRAYOID, INT4ARRAYOID}};
    static Statement of_user = {
        METER_SPANS
        " AND p.user_id = $6) OR EXISTS (SELECT FROM meter.rollup r "
        "WHERE r.meter_id = ANY ($4) AND r.grain = 'm' AND r.user_id = $6" METER_MONTHS,
        {TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZOID, INT4ARRAYOID, INT4ARRAYOID,
         TEXTOID}};
    const Datum values[] = {time_array(spans, false), time_array(spans, true),
                            source.horizon,           source.meters,
                            source.generations,       source.user};
    return run(scope->has_user ? of_user : all, values, nullptr, Run::kCaller) > 0;
}

// Whether a user without day cells may have events before the horizon in one of the spans, which
// cut months of theirs.
bool has_dropped_sparse(const UsageScope* scope, const SourceValues& source,
                        const std::vector<TimeSpan>& months, const std::vector<TimeSpan>& spans) {
#define METER_SPARSE                                                                      \
    "SELECT FROM unnest($1, $2) AS m (start, stop) JOIN meter.rollup r ON r.grain = 'm' " \
    "AND r.start = m.start AND r.meter_id = ANY ($4) LEFT JOIN meter.rollup_days d "      \
    "ON d.meter_id = r.meter_id AND d.month = m.start AND d.user_id = r.user_id, "        \
    "unnest($5, $6) AS k (start, stop) WHERE m.start < $3 "                               \
    "AND (d.days_from IS NULL OR d.days_from > m.start) "                                 \
    "AND k.start < LEAST($3, m.stop, d.days_from) "                                       \
    "AND r.first_timestamp < LEAST($3, k.stop, d.days_from) AND r.last_timestamp >= k.start"
    static Statement all = {METER_SPARSE " LIMIT 1",
                            {TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZOID, INT4ARRAYOID,
                             TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID}};
    static Statement of_user = {METER_SPARSE " AND r.user_id = $7 LIMIT 1",
                                {TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZOID,
                                 INT4ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TEXTOID}};
    const Datum values[] = {
        time_array(months, false), time_array(months, true), source.horizon, source.meters,
        time_array(spans, false),  time_array(spans, true),  source.user};
    return run(scope->has_user ? of_user : all, values, nullptr, Run::kCaller) > 0;
}

}  // namespace

void require_events(const UsageSource& source) {
    const int64 dropped = horizon();
    const PeriodCut& cut = *source.cut;
    const bool raw = earliest(cut.raw) < dropped;
    const bool mixed = !source.mixed_months->empty() &&
                       (earliest(cut.days) < dropped || earliest(cut.hours) < dropped);
    if (!raw && !mixed)
        return;
    const UsageScope* scope = source.scope;
    auto* ids = static_cast<Datum*>(palloc(sizeof(Datum) * static_cast<Size>(scope->meter_count)));
    for (int i = 0; i < scope->meter_count; ++i)
        ids[i] = Int32GetDatum(scope->meters[i]);
    const SourceValues values{
        TimestampTzGetDatum(to_timestamptz(dropped)),
        PointerGetDatum(construct_array(ids, scope->meter_count, INT4OID, 4, true, TYPALIGN_INT)),
        source.generations, scope->user};
    if ((raw && has_dropped(scope, values, cut.raw)) ||
        (mixed && (has_dropped_sparse(scope, values, *source.mixed_months, cut.days) ||
                   has_dropped_sparse(scope, values, *source.mixed_months, cut.hours))))
        refuse(kCannotTell, dropped,
               "Before that time the rollups answer: for whole months in UTC, and where usage is "
               "dense for whole days and hours.");
}

void require_event(int64 time) {
    const int64 dropped = horizon();
    if (time < dropped)
        refuse(kCannotTell, dropped, "The rollups do not have the values of first events.");
}

void require_months(int64 time, int64 dropped, const char* action) {
    if (utc_month_of(time).start < dropped)
        refuse(std::string("cannot ") + action + " the month of " + format_timestamp(time), dropped,
               "The rollups of UTC months that begin before that time cannot be told from the "
               "events any more.");
}

namespace {

LOCKTAG retention_tag() {
    LOCKTAG tag;
    SET_LOCKTAG_OBJECT(tag, MyDatabaseId, relations().retention, 0, 0);
    return tag;
}

}  // namespace

void take_retention_lock(bool session) {
    const LOCKTAG tag = retention_tag();
    (void)LockAcquire(&tag, ExclusiveLock, session, false);
}

void release_retention_lock() {
    const LOCKTAG tag = retention_tag();
    (void)LockRelease(&tag, ExclusiveLock, true);
}

void wait_for_recorders() {
    LOCKTAG tag;
    SET_LOCKTAG_RELATION(tag, MyDatabaseId, relations().meter_event);
    WaitForLockers(tag, ShareLock, false);
}

bool lock_within(Oid relation, LOCKMODE mode, const char* timeout) {
    Raised raised{};
    // The lock stays, the setting is the caller's again.
    const bool locked = try_in_subtransaction(
        [&] {
            (void)set_config_option("lock_timeout", timeout, PGC_USERSET, PGC_S_SESSION,
                                    GUC_ACTION_SAVE, true, 0, false);
            LockRelationOid(relation, mode);
        },
        &raised);
    if (!locked && sqlstate_of(raised) != ERRCODE_LOCK_NOT_AVAILABLE)
        raise(raised);
    return locked;
}

void raise_lock_timeout(Oid relation, const char* timeout) {
    ereport(ERROR,
            (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
             errmsg("could not lock %s within %s",
                    quote_qualified_identifier(get_namespace_name(get_rel_namespace(relation)),
                                               get_rel_name(relation)),
                    timeout),
             errdetail("A transaction that goes on has read or written it."),
             errhint("Try again, or look for the transaction in pg_locks.")));
    pg_unreachable();
}

void sleep_for(long milliseconds) {
    CHECK_FOR_INTERRUPTS();
    (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, milliseconds,
                    PG_WAIT_EXTENSION);
    ResetLatch(MyLatch);
    CHECK_FOR_INTERRUPTS();
}

void begin_procedure(FunctionCallInfo fcinfo, const char* name, const char* action) {
    end_call(begin_owner_call(action));
    const Node* context = fcinfo->context;
    if (context == nullptr || !IsA(context, CallContext) ||
        reinterpret_cast<const CallContext*>(context)->atomic)
        ereport(ERROR, (errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
                        errmsg("%s cannot run within a transaction block or a function", name),
                        errdetail("It commits as it goes."),
                        errhint("CALL it as a statement by itself.")));
    SPI_connect_ext(SPI_OPT_NONATOMIC);
}

}  // namespace meter::pg

METER_FUNCTION(meter_may_verify) {
    using namespace meter::pg;
    require_argument(fcinfo, 0, "period_start");
    require_argument(fcinfo, 1, "period_end");
    if (PG_GETARG_TIMESTAMPTZ(1) < PG_GETARG_TIMESTAMPTZ(0))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("period_end must not be before period_start")));
    SPI_connect();
    if (!PG_ARGISNULL(2))
        (void)require_meter(setting_org, text_view(PG_GETARG_DATUM(2)));
    // The query that calls has locked the partitions already.
    require_months(to_unix_micros(PG_GETARG_TIMESTAMPTZ(0)), horizon(), "verify");
    // The planner may have left out partitions that hold what the caller's snapshot sees.
    if (!snapshot_knows_partitions())
        ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                        errmsg("partitions were made since the snapshot that is to be verified"),
                        errhint("Try again, in a new transaction.")));
    SPI_finish();
    PG_RETURN_BOOL(true);
}
