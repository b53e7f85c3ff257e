// SQL functions that raise every kind of error across the boundary, for test/tap/001_guard.pl.
//
// Frames that stand for core code own Tracked objects, a std::string and a std::vector; the number
// of Tracked objects that are alive must be 0 after every error. Frames that stand for glue own
// nothing with a destructor.
#include "pg/guard.hpp"

#include "pg/memory.hpp"

extern "C" {
#include "catalog/objectaccess.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "utils/inval.h"
}

#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory_resource>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

extern "C" {
PG_MODULE_MAGIC;
}

using meter::Error;
using meter::ErrorKind;
using meter::pg::call;
using meter::pg::make_in;
using meter::pg::PgError;

namespace {

int live_objects = 0;

// An object that is counted, and owns memory so that a skipped destructor shows in the heap too.
class Tracked {
  public:
    Tracked() : text_(200, 'x'), numbers_(50, 1) { ++live_objects; }
    ~Tracked() { --live_objects; }
    Tracked(const Tracked&) = delete;
    Tracked& operator=(const Tracked&) = delete;

  private:
    std::string text_;
    std::vector<int> numbers_;
};

// Runs `body` below `depth` frames that own objects.
void below_frames(int depth, const std::function<void()>& body) {
    const Tracked tracked;
    const std::string text(100 + static_cast<std::size_t>(depth), 'y');
    if (depth > 0)
        below_frames(depth - 1, body);
    else
        body();
    // After the call, so that the objects are alive across it.
    if (text.empty())
        std::abort();
}

// The name that 001_guard.pl knows a kind by; nullptr for a number that is no kind. A new kind does
// not compile until it has a name here, and then fails the test until it has a SQLSTATE there.
const char* name_of(ErrorKind kind) {
    switch (kind) {
        case ErrorKind::kInvalidParameter:
            return "invalid_parameter";
        case ErrorKind::kInvalidText:
            return "invalid_text";
        case ErrorKind::kInvalidBinary:
            return "invalid_binary";
        case ErrorKind::kUndefinedObject:
            return "undefined_object";
        case ErrorKind::kNotInState:
            return "not_in_state";
        case ErrorKind::kDuplicateObject:
            return "duplicate_object";
        case ErrorKind::kDependentObjects:
            return "dependent_objects";
        case ErrorKind::kUniqueViolation:
            return "unique_violation";
        case ErrorKind::kLimitExceeded:
            return "limit_exceeded";
        case ErrorKind::kNotSupported:
            return "not_supported";
        case ErrorKind::kOverLimit:
            return "over_limit";
        case ErrorKind::kOutOfRange:
            return "out_of_range";
        case ErrorKind::kCorrupt:
            return "corrupt";
    }
    return nullptr;
}

constexpr int kMaxKinds = 100;

// The kind of this name.
ErrorKind kind_of(std::string_view name) {
    for (int i = 0; i < kMaxKinds; ++i) {
        const auto kind = static_cast<ErrorKind>(i);
        const char* known = name_of(kind);
        if (known != nullptr && name == known)
            return kind;
    }
    throw std::runtime_error("no such kind");
}

// A PostgreSQL error with every field set that a handler can read.
void raise_full_error() {
    ereport(ERROR, (errcode(ERRCODE_CHECK_VIOLATION), errmsg("the message %d", 1),
                    errdetail("the detail"), errhint("the hint"), errcontext("the context"),
                    err_generic_string(PG_DIAG_SCHEMA_NAME, "the schema"),
                    err_generic_string(PG_DIAG_TABLE_NAME, "the table"),
                    err_generic_string(PG_DIAG_COLUMN_NAME, "the column"),
                    err_generic_string(PG_DIAG_DATATYPE_NAME, "the type"),
                    err_generic_string(PG_DIAG_CONSTRAINT_NAME, "the constraint")));
}

// As a query cancel arrives: the signal handler sets just these.
void cancel_ourselves() {
    QueryCancelPending = true;
    InterruptPending = true;
}

// Lets no more than `bytes` be added to the address space, or lifts that limit (negative).
void limit_memory(long bytes) {
    rlimit limit{};
    getrlimit(RLIMIT_AS, &limit);
    limit.rlim_cur = limit.rlim_max;
    if (bytes >= 0) {
        long pages = 0;
        FILE* file = std::fopen("/proc/self/statm", "r");
        if (file == nullptr || std::fscanf(file, "%ld", &pages) != 1)
            std::abort();
        std::fclose(file);
        limit.rlim_cur = static_cast<rlim_t>(pages * sysconf(_SC_PAGESIZE) + bytes);
    }
    setrlimit(RLIMIT_AS, &limit);
}

void limit_memory_callback(void*) {
    limit_memory(1024 * 1024);
}

void add_context_callback(void* text) {
    errcontext("%s", static_cast<const char*>(text));
}

}  // namespace

// (kind, message, detail, hint): throws meter::Error below frames that own objects. An empty
// detail or hint is none.
METER_FUNCTION(guard_throw) {
    const std::string_view kind = meter::pg::text_view(PG_GETARG_DATUM(0));
    const std::string_view message = meter::pg::text_view(PG_GETARG_DATUM(1));
    const std::string_view detail = meter::pg::text_view(PG_GETARG_DATUM(2));
    const std::string_view hint = meter::pg::text_view(PG_GETARG_DATUM(3));
    below_frames(3, [&] {
        throw Error(kind_of(kind), std::string(message), std::string(detail), std::string(hint));
    });
    PG_RETURN_VOID();
}

// The names of all kinds, by commas.
METER_FUNCTION(guard_kinds) {
    StringInfoData names;
    initStringInfo(&names);
    for (int i = 0; i < kMaxKinds; ++i) {
        const char* name = name_of(static_cast<ErrorKind>(i));
        if (name != nullptr)
            appendStringInfo(&names, "%s%s", names.len > 0 ? "," : "", name);
    }
    PG_RETURN_TEXT_P(cstring_to_text_with_len(names.data, names.len));
}

METER_FUNCTION(guard_throw_runtime_error) {
    below_frames(3, [] { throw std::runtime_error("a runtime error"); });
    PG_RETURN_VOID();
}

METER_FUNCTION(guard_throw_int) {
    below_frames(3, [] { throw 42; });
    PG_RETURN_VOID();
}

// More than any heap has, from C++.
METER_FUNCTION(guard_new_out_of_memory) {
    volatile std::size_t size = std::size_t{1} << 60;
    below_frames(3, [&] { std::vector<char> all(size); });
    PG_RETURN_VOID();
}

// The same through a memory resource over a MemoryContext.
METER_FUNCTION(guard_resource_out_of_memory) {
    volatile std::size_t size = std::size_t{1} << 46;
    below_frames(3, [&] {
        meter::pg::ContextResource resource(CurrentMemoryContext);
        std::pmr::vector<char> some(1000, 'x', &resource);
        std::pmr::vector<char> all(size, 'x', &resource);
    });
    PG_RETURN_VOID();
}

// The same from PostgreSQL, under call(): a real 53200, and then PostgreSQL's own limit.
METER_FUNCTION(guard_palloc_out_of_memory) {
    below_frames(3, [] {
        call([] { return MemoryContextAllocHuge(CurrentMemoryContext, std::size_t{1} << 46); });
    });
    PG_RETURN_VOID();
}

METER_FUNCTION(guard_palloc_beyond_limit) {
    below_frames(3, [] { call([] { return palloc(std::size_t{MaxAllocSize} + 1); }); });
    PG_RETURN_VOID();
}

// An error whose copy does not fit into memory: the boundary must say so, and stay whole. What
// limits the memory is a context callback, which runs when the message is already made.
METER_FUNCTION(guard_copy_out_of_memory) {
    constexpr std::size_t kLarge = 64 * 1024 * 1024;
    below_frames(3, [] {
        try {
            call([] {
                char* large = static_cast<char*>(palloc(kLarge));
                memset(large, 'z', kLarge - 1);
                large[kLarge - 1] = '\0';
                ErrorContextCallback callback{error_context_stack, limit_memory_callback, nullptr};
                error_context_stack = &callback;
                ereport(ERROR, (errmsg("small"), errdetail_internal("%s", large)));
            });
        } catch (...) {
            limit_memory(-1);
            throw;
        }
    });
    PG_RETURN_VOID();
}

// A PostgreSQL error under call(), below frames that own objects.
METER_FUNCTION(guard_call_error) {
    below_frames(3, [] { call([] { raise_full_error(); }); });
    PG_RETURN_VOID();
}

// The same one call() within another.
METER_FUNCTION(guard_nested_call_error) {
    below_frames(2, [] {
        call([] {
            ::meter::pg::enter([] { below_frames(2, [] { call([] { raise_full_error(); }); }); });
        });
    });
    PG_RETURN_VOID();
}

// A query run below frames that own objects; its text is the argument.
METER_FUNCTION(guard_call_sql) {
    const char* query = text_to_cstring(PG_GETARG_TEXT_PP(0));
    below_frames(3, [&] {
        call([&] {
            SPI_connect();
            SPI_execute(query, false, 0);
            SPI_finish();
        });
    });
    PG_RETURN_VOID();
}

// A PostgreSQL error without call(), through plain frames; the objects belong to a MemoryContext.
METER_FUNCTION(guard_plain_error) {
    make_in<Tracked>(CurrentMemoryContext);
    make_in<std::vector<std::string>>(CurrentMemoryContext, 10, std::string(100, 'w'));
    raise_full_error();
    PG_RETURN_VOID();
}

// The same with a core exception.
METER_FUNCTION(guard_plain_throw) {
    make_in<Tracked>(CurrentMemoryContext);
    below_frames(2, [] { throw Error(ErrorKind::kLimitExceeded, "too much"); });
    PG_RETURN_VOID();
}

// An exception thrown while another memory context is current, and an error context callback of a
// frame that is gone when the error is raised: neither may survive the boundary.
METER_FUNCTION(guard_throw_elsewhere) {
    char text[] = "context of a frame that is gone";
    ErrorContextCallback callback{error_context_stack, add_context_callback, text};
    error_context_stack = &callback;
    MemoryContextSwitchTo(TopMemoryContext);
    throw Error(ErrorKind::kLimitExceeded, std::string(3000, 'e'));
}

// A query cancel under call().
METER_FUNCTION(guard_cancel) {
    below_frames(3, [] {
        call([] {
            cancel_ourselves();
            CHECK_FOR_INTERRUPTS();
        });
    });
    PG_RETURN_VOID();
}

// Works until it is cancelled: looks for interrupts under call(), as parsing a payload does.
METER_FUNCTION(guard_work_for_ever) {
    below_frames(3, [] {
        for (;;)
            call([] {
                CHECK_FOR_INTERRUPTS();
                pg_usleep(1000);
            });
    });
    PG_RETURN_VOID();
}

// Whether call() gives back the interrupt holdoff counts as they were, also through a cancel that
// has to wait: returns "before/in the handler/after the cancel was let in".
METER_FUNCTION(guard_holdoff) {
    const uint32 before = InterruptHoldoffCount;
    const uint32 cancel_before = QueryCancelHoldoffCount;
    InterruptHoldoffCount = InterruptHoldoffCount + 1;
    QueryCancelHoldoffCount = QueryCancelHoldoffCount + 1;
    bool caught = false;
    uint32 inside = 0;
    uint32 cancel_inside = 0;
    try {
        below_frames(1, [] { call([] { raise_full_error(); }); });
    } catch (const PgError&) {
        caught = true;
        inside = InterruptHoldoffCount;
        cancel_inside = QueryCancelHoldoffCount;
    }
    if (inside > 0)
        InterruptHoldoffCount = InterruptHoldoffCount - 1;
    if (cancel_inside > 0)
        QueryCancelHoldoffCount = QueryCancelHoldoffCount - 1;
    PG_RETURN_TEXT_P(cstring_to_text(
        psprintf("caught %d: %u %u, %u %u", caught, inside - before, cancel_inside - cancel_before,
                 InterruptHoldoffCount - before, QueryCancelHoldoffCount - cancel_before)));
}

// An error that leaves while interrupts are held: as after any error, none may be held then.
METER_FUNCTION(guard_error_while_held) {
    InterruptHoldoffCount = InterruptHoldoffCount + 1;
    QueryCancelHoldoffCount = QueryCancelHoldoffCount + 1;
    below_frames(1, [] { call([] { raise_full_error(); }); });
    PG_RETURN_VOID();
}

METER_FUNCTION(guard_holdoff_counts) {
    PG_RETURN_INT32(static_cast<int>(InterruptHoldoffCount + QueryCancelHoldoffCount));
}

// The number of Tracked objects that are alive.
METER_FUNCTION(guard_live_objects) {
    PG_RETURN_INT32(live_objects);
}

// Bytes that the process has allocated from the heap, MemoryContexts included.
METER_FUNCTION(guard_heap_bytes) {
#if __GLIBC_PREREQ(2, 33)
    const auto info = mallinfo2();
#else
    const auto info = mallinfo();
#endif
    PG_RETURN_INT64(static_cast<int64>(info.uordblks) + static_cast<int64>(info.hblkhd));
}

// Sends what this server process writes to stderr nowhere, or back: for each request that memory
// cannot meet PostgreSQL writes some kilobytes there.
METER_FUNCTION(guard_silence) {
    static int saved = -1;
    if (PG_GETARG_BOOL(0) && saved < 0) {
        saved = dup(STDERR_FILENO);
        if (saved < 0 || std::freopen("/dev/null", "a", stderr) == nullptr)
            elog(ERROR, "could not silence stderr: %m");
    } else if (!PG_GETARG_BOOL(0) && saved >= 0) {
        std::fflush(stderr);
        dup2(saved, STDERR_FILENO);
        close(saved);
        saved = -1;
    }
    PG_RETURN_VOID();
}

// Discards what the backend has cached of the catalogs, again and again, from now on: before each
// statement, and whenever a schema is looked for. So does debug_discard_caches, which servers have
// that are built for tests.
static ExecutorStart_hook_type previous_start = nullptr;
static object_access_hook_type previous_access = nullptr;

static void discard_and_start(QueryDesc* query, int flags) {
    InvalidateSystemCaches();
    if (previous_start != nullptr)
        previous_start(query, flags);
    else
        standard_ExecutorStart(query, flags);
}

static void discard_on_access(ObjectAccessType access, Oid catalog, Oid object, int part,
                              void* argument) {
    if (access == OAT_NAMESPACE_SEARCH)
        InvalidateSystemCaches();
    if (previous_access != nullptr)
        previous_access(access, catalog, object, part, argument);
}

METER_FUNCTION(guard_discard_caches) {
    previous_start = ExecutorStart_hook;
    ExecutorStart_hook = discard_and_start;
    previous_access = object_access_hook;
    object_access_hook = discard_on_access;
    PG_RETURN_VOID();
}
