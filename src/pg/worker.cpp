// A worker serves one database. It waits on its latch, and then does what is due: each job in
// transactions of its own, and each with its own pause after an error, so that a fold that fails
// keeps no partition from being made.
//
// An error in a job is caught by call(), reported here, and its transaction aborted; any other ends
// the process, and the postmaster starts it again. SIGTERM ends it at the next
// CHECK_FOR_INTERRUPTS(), in a fold too; SIGINT, by pg_cancel_backend(), makes the running job an
// error.
#include "pg/worker.hpp"

#include <algorithm>
#include <cstring>
#include <exception>

#include "pg/caller.hpp"
#include "pg/fold.hpp"
#include "pg/guard.hpp"
#include "pg/limit_usage.hpp"
#include "pg/partitions.hpp"
#include "pg/readiness.hpp"
#include "pg/settings.hpp"
#include "pg/spi.hpp"
#include "pg/vacuum.hpp"

extern "C" {
#include "access/transam.h"
#include "catalog/pg_database.h"
#include "nodes/value.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "tcop/tcopprot.h"
#include "utils/backend_status.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"
}

namespace meter::pg {

namespace {

constexpr const char* kType = "meter worker";

// Seconds after which the postmaster starts a worker again that has ended.
constexpr int kRestartSeconds = 5;
// How long one that cannot connect stays before it ends, in milliseconds: it fails once a minute.
constexpr long kLingerMs = 55'000;
// The pause after an error, doubled with each in a row up to the greatest; in milliseconds.
constexpr int64 kFirstPauseMs = 1'000;
constexpr int64 kLongestPauseMs = 60'000;
// A lock that cannot be had is worth a line in the log only when it happens so often in a row.
constexpr int kLocksToReport = 10;
// The same error is logged again, and what keeps the worker from folding is logged, after so long.
constexpr int kRepeatMs = 600'000;
constexpr int kObstacleMs = 60'000;
// How often partitions are looked after, in milliseconds, and how long making one may wait for a
// lock, with recorders waiting behind it.
constexpr int64 kPartitionsMs = 3'600'000;
// How often we look whether someone wants the database to himself. DROP DATABASE waits five seconds
// for others to leave.
constexpr int64 kMakeWayMs = 2'000;
constexpr const char* kPartitionLockTimeout = "100ms";
// All other locks. Below deadlock_timeout's default: rather we give way than someone else.
constexpr const char* kLockTimeout = "500ms";

// Something that is done again and again.
struct Job {
    const char* what;  // completes "cannot ..."
    int64 (*run)();    // does it once; returns after how many milliseconds to do it again
    TimestampTz due = 0;
    int failures = 0;  // in a row
    TimestampTz logged_at = 0;
    char logged[256] = {};  // the error that was logged last
};

MemoryContext job_context = nullptr;  // emptied after each job
bool connected = false;
bool partitions_at_once = false;  // not only when the hour is over
bool make_way = false;            // to end, and be started again later

void begin_transaction() {
    SetCurrentStatementStartTimestamp();
    StartTransactionCommand();
    PushActiveSnapshot(GetTransactionSnapshot());
}

void end_transaction(bool report_at_once) {
    PopActiveSnapshot();
    CommitTransactionCommand();
    MemoryContextSwitchTo(job_context);
    pgstat_report_stat(report_at_once);
}

// Shows what keeps the worker from folding, and logs it, once, when it has lasted.
void report_idle(Readiness why) {
    static Readiness shown = Readiness::kReady;
    static TimestampTz since = 0;
    static bool logged = true;
    pgstat_report_activity(STATE_IDLE, describe(why));
    const TimestampTz now = GetCurrentTimestamp();
    if (why != shown) {
        shown = why;
        since = now;
        logged = why == Readiness::kReady || why == Readiness::kNotInstalled ||
                 why == Readiness::kNoMeters;
    } else if (!logged && TimestampDifferenceExceeds(since, now, kObstacleMs)) {
        ereport(LOG, (errmsg("meter worker in database \"%s\" does not fold for now",
                             MyBgworkerEntry->bgw_extra),
                      errdetail("It is %s.", describe(why))));
        logged = true;
    }
}

// Whether there is anything to fold, a run too, or a generation to close. Looks at the open
// generations only, as readers do: of the deltas behind them many may be dead, and those set aside
// lie there too.
bool has_work() {
    static Statement select = {
        "SELECT FROM (SELECT COALESCE(max(recorded), '{0}') AS recorded, "
        "COALESCE(max(generations), '{}') AS runs FROM (SELECT recorded, generations "
        "FROM meter.rollup_state ORDER BY version DESC LIMIT 1) AS s) AS s "
        "WHERE runs <> '{}' OR cardinality(recorded) > 1 "
        "OR EXISTS (SELECT FROM meter.alert_recheck WHERE problem IS NULL) OR EXISTS "
        "(SELECT FROM meter.rollup_pending WHERE generation = ANY (recorded))",
        {},
        true};
    return run(select, nullptr, nullptr, Run::kLatest, 1) > 0;
}

// Folds one batch.
int64 fold_batch() {
    const int64 interval = setting_fold_interval;
    begin_transaction();
    Readiness ready = readiness();
    uint64 folded = 0;
    TransactionId next_xid = InvalidTransactionId;
    if (ready == Readiness::kReady) {
        const Call call = begin_owner_call("fold");
        if (has_work()) {
            if (lock_rollups()) {
                pgstat_report_activity(STATE_RUNNING, "folding");
                folded = fold_pending(setting_fold_batch, Fold::kBounded);
                next_xid = ReadNextTransactionId();
            } else {
                ready = Readiness::kLocked;
            }
        }
        end_call(call);
    }
    end_transaction(folded > 0);
    report_idle(ready);
    // Whatever was made or restored meanwhile may lack partitions.
    static bool was_ready = false;
    if (ready != Readiness::kLocked) {
        partitions_at_once |= ready == Readiness::kReady && !was_ready;
        was_ready = ready == Readiness::kReady;
    }
    if (folded > 0)
        note_folded(next_xid, folded);
    if (folded >= static_cast<uint64>(setting_fold_batch))
        return 0;
    // Settling is watched closely, however seldom we are to fold.
    return ready == Readiness::kSettling ? std::min<int64>(interval, 1'000) : interval;
}

int64 vacuum_folded() {
    if (vacuum_pending()) {
        pgstat_report_stat(true);
        pgstat_report_activity(STATE_IDLE, "idle");
    }
    return setting_fold_interval;
}

// Makes the partitions of this month and those ahead.
int64 make_partitions_ahead() {
    // The months that keep to the default partition, once for each process.
    static int level = LOG;
    partitions_at_once = false;
    begin_transaction();
    const bool ready = readiness() == Readiness::kReady;
    if (ready) {
        pgstat_report_activity(STATE_RUNNING, "making partitions");
        const Call call = begin_owner_call("create partitions");
        (void)make_partitions(GetCurrentTransactionStartTimestamp(), kMonthsAhead,
                              kPartitionLockTimeout, level);
        end_call(call);
        level = DEBUG1;
    }
    end_transaction(false);
    if (ready)
        pgstat_report_activity(STATE_IDLE, "idle");
    return kPartitionsMs;
}

// Removes counters of limits whose periods have long ended.
int64 remove_old_counters() {
    constexpr int64 kAtOnce = 10'000;
    begin_transaction();
    uint64 removed = 0;
    if (readiness() == Readiness::kReady) {
        pgstat_report_activity(STATE_RUNNING, "removing counters of limits");
        const Call call = begin_owner_call("remove counters");
        removed = remove_past_counters(kAtOnce);
        end_call(call);
        pgstat_report_activity(STATE_IDLE, "idle");
    }
    end_transaction(removed > 0);
    return removed == kAtOnce ? 0 : kPartitionsMs;
}

// Looks whether a command holds or awaits a lock on the database that keeps new sessions out: to
// drop or rename it, to move it, or to copy it.
int64 look_for_others() {
    LOCKTAG tag;
    SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, MyDatabaseId, 0);
    StartTransactionCommand();
    make_way = LockAcquire(&tag, RowExclusiveLock, false, true) == LOCKACQUIRE_NOT_AVAIL;
    CommitTransactionCommand();
    return kMakeWayMs;
}

// The pause after so many failures in a row.
int64 pause_after(int failures) {
    int64 pause = kFirstPauseMs;
    for (int i = 1; i < failures && pause < kLongestPauseMs; ++i)
        pause *= 2;
    return std::min(pause, kLongestPauseMs);
}

// Logs an error, unless it was logged not long ago.
void log_failure(Job& job, const Raised& failure) {
    const ErrorData* error = failure.error;
    const int sqlstate = error != nullptr ? error->sqlerrcode : failure.sqlstate;
    const char* message = error != nullptr ? error->message : failure.message;
    const char* detail = error != nullptr ? error->detail : failure.detail;
    const char* hint = error != nullptr ? error->hint : failure.hint;
    const char* context = error != nullptr ? error->context : nullptr;
    if (message == nullptr)
        message = "unknown error";
    if (sqlstate == ERRCODE_LOCK_NOT_AVAILABLE && job.failures < kLocksToReport)
        return;
    const TimestampTz now = GetCurrentTimestamp();
    if (std::strncmp(job.logged, message, sizeof job.logged - 1) == 0 &&
        !TimestampDifferenceExceeds(job.logged_at, now, kRepeatMs))
        return;
    strlcpy(job.logged, message, sizeof job.logged);
    job.logged_at = now;
    ereport(LOG, (errcode(sqlstate),
                  errmsg("meter worker in database \"%s\" cannot %s: %s",
                         MyBgworkerEntry->bgw_extra, job.what, message),
                  detail != nullptr ? errdetail_internal("%s", detail) : 0,
                  hint != nullptr ? errhint("%s", hint) : 0,
                  context != nullptr ? errcontext("%s", context) : 0));
}

// Ends what a failed job has left open, and says when it is tried again.
int64 recover(Job& job, const Raised& failure) {
    // What the macros do by ++ and --, which C++ deprecates for volatile variables.
    InterruptHoldoffCount = 1;
    disable_all_timeouts(false);
    QueryCancelPending = false;
    AbortCurrentTransaction();
    MemoryContextSwitchTo(job_context);
    InterruptHoldoffCount = 0;
    ++job.failures;
    const int64 pause = pause_after(job.failures);
    log_failure(job, failure);
    pgstat_report_stat(true);
    pgstat_report_activity(STATE_IDLE, psprintf("idle: after an error, cannot %s", job.what));
    return pause;
}

// Does a job, and sets when it is due again. Raises no error for one in the job.
void attempt(Job& job) {
    MemoryContextSwitchTo(job_context);
    const BackendState state;
    int64 pause = 0;
    Raised failure;
    bool failed = false;
    try {
        pause = call(job.run);
    } catch (...) {
        state.restore();
        failure = capture_exception();
        failed = true;
    }
    if (failed)
        pause = recover(job, failure);
    else
        job.failures = 0;
    MemoryContextSwitchTo(job_context);
    MemoryContextReset(job_context);
    job.due = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), pause);
}

// Waits until `until`, or a signal. Returns true where the configuration was read again.
bool wait_until(TimestampTz until) {
    const long pause = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);
    (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, pause,
                    PG_WAIT_EXTENSION);
    ResetLatch(MyLatch);
    // There is nothing to cancel.
    QueryCancelHoldoffCount = 1;
    CHECK_FOR_INTERRUPTS();
    QueryCancelPending = false;
    QueryCancelHoldoffCount = 0;
    if (!ConfigReloadPending)
        return false;
    ConfigReloadPending = false;
    ProcessConfigFile(PGC_SIGHUP);
    return true;
}

// A worker whose database is not there fails to connect, which ends it; the postmaster starts it
// again. At its end it stays for a while, lest it fill the log; not when it is to stop, nor when
// someone waits for an answer of every process.
void linger(int code, Datum) {
    if (connected || code == 0)
        return;
    const TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), kLingerMs);
    while (!ShutdownRequestPending && !ProcSignalBarrierPending) {
        const long left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), end);
        if (left <= 0)
            break;
        (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, left,
                        PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
    }
}

void set_option(const char* name, const char* value) {
    SetConfigOption(name, value, PGC_SUSET, PGC_S_OVERRIDE);
}

void connect() {
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    // Until we are connected SIGTERM is only taken note of, also where connecting fails.
    pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
    BackgroundWorkerUnblockSignals();
    before_shmem_exit(linger, static_cast<Datum>(0));
    BackgroundWorkerInitializeConnection(MyBgworkerEntry->bgw_extra, nullptr, 0);
    connected = true;
    pqsignal(SIGTERM, die);
    if (ShutdownRequestPending)
        proc_exit(1);
    // What the database or the configuration sets for sessions is not for us.
    set_option("default_transaction_isolation", "read committed");
    set_option("default_transaction_deferrable", "off");
    set_option("session_replication_role", "origin");
    set_option("lock_timeout", kLockTimeout);
    // Like autovacuum, we need not wait for a standby.
    if (synchronous_commit > SYNCHRONOUS_COMMIT_LOCAL_FLUSH)
        set_option("synchronous_commit", "local");
    SetConfigOption("application_name", kType, PGC_USERSET, PGC_S_SESSION);
}

[[noreturn]] void serve() {
    Job jobs[] = {{"look for others", look_for_others},
                  {"fold", fold_batch},
                  {"vacuum rollup_pending", vacuum_folded},
                  {"make partitions", make_partitions_ahead},
                  {"remove counters of limits", remove_old_counters}};
    job_context = AllocSetContextCreate(TopMemoryContext, "meter worker", ALLOCSET_DEFAULT_SIZES);
    for (;;) {
        for (Job& job : jobs)
            if (!make_way && (job.due <= GetCurrentTimestamp() ||
                              (job.run == make_partitions_ahead && partitions_at_once)))
                attempt(job);
        if (make_way) {
            ereport(LOG, (errmsg("meter worker in database \"%s\" makes way for a command that "
                                 "needs the database to itself",
                                 MyBgworkerEntry->bgw_extra)));
            // By another code it would not be started again.
            proc_exit(1);
        }
        TimestampTz next = jobs[0].due;
        for (const Job& job : jobs)
            next = std::min(next, job.due);
        // A shorter interval is to count at once.
        if (wait_until(next))
            for (Job& job : jobs)
                if (job.failures == 0)
                    job.due = 0;
    }
}

}  // namespace

void register_workers() {
    // While pg_upgrade runs, nothing is to change.
    if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
        return;
    List* named = NIL;
    if (!SplitIdentifierString(pstrdup(setting_worker_databases), ',', &named))
        return;  // the setting's check has complained
    List* names = NIL;
    const ListCell* cell;
    foreach (cell, named)
        names = list_append_unique(names, makeString(static_cast<char*>(lfirst(cell))));
    foreach (cell, names) {
        const char* name = strVal(lfirst(cell));
        BackgroundWorker worker{};
        worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
        worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
        worker.bgw_restart_time = kRestartSeconds;
        strlcpy(worker.bgw_library_name, "meter", sizeof worker.bgw_library_name);
        strlcpy(worker.bgw_function_name, "meter_worker_main", sizeof worker.bgw_function_name);
        strlcpy(worker.bgw_type, kType, sizeof worker.bgw_type);
        snprintf(worker.bgw_name, sizeof worker.bgw_name, "%s for %s", kType, name);
        strlcpy(worker.bgw_extra, name, sizeof worker.bgw_extra);
        RegisterBackgroundWorker(&worker);
    }
}

}  // namespace meter::pg

extern "C" {
PGDLLEXPORT void meter_worker_main(Datum);

void meter_worker_main(Datum) {
    meter::pg::enter([] {
        meter::pg::connect();
        ereport(LOG, (errmsg("meter worker for database \"%s\" has started",
                             MyBgworkerEntry->bgw_extra)));
        meter::pg::serve();
    });
}
}
