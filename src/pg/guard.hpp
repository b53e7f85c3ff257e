// The boundary between C++ exceptions and PostgreSQL's longjmp errors. Nothing else crosses it.
//
// The rules, which every glue file keeps:
//  * A glue function holds no object with a non-trivial destructor where a PostgreSQL call can
//    raise an error, since longjmp would skip it. What needs a destructor lives in a MemoryContext
//    (memory.hpp), and the glue holds a plain pointer to it. Then PostgreSQL's errors need no guard
//    of their own: longjmp passes plain frames only.
//  * Core code, called from glue, throws. The exception passes plain frames up to the entry point,
//    which catches it, leaves the handler, and only then raises it as a PostgreSQL error.
//  * Where a PostgreSQL call must be made below C++ frames that do have destructors (a callback
//    from core code), call() runs it: its error becomes a PgError, which unwinds those frames.
//  * A PgError that is caught and not let go on has left open what only an aborted (sub)transaction
//    closes: locks, pins, SPI. Whoever stops one runs the call in a subtransaction.
//  * call() clears the stack of errors being handled, as every CopyErrorData() + FlushErrorState()
//    does: it has no place in what runs while PostgreSQL handles another error.
#pragma once

#include "pg/compat.hpp"

extern "C" {
#include "access/xact.h"
#include "utils/resowner.h"
}

#include <type_traits>
#include <utility>

#include "core/error.hpp"

namespace meter::pg {

// A PostgreSQL error on its way through C++ frames. It owns nothing: the ErrorData lives in the
// memory context that was current at call(), or is nullptr where copying it ran out of memory.
class PgError {
  public:
    explicit PgError(ErrorData* data) noexcept : data_(data) {}
    ErrorData* data() const noexcept { return data_; }

  private:
    ErrorData* data_;
};

// What an entry point raises once its handler is left. Plain data: it may be alive across ereport.
struct Raised {
    ErrorData* error = nullptr;  // a PostgreSQL error to be thrown again, or
    int sqlstate = 0;            // an error of ours
    const char* message = nullptr;
    const char* detail = nullptr;
    const char* hint = nullptr;
};

// MT001: an event beyond a hard limit. Ours: no class of PostgreSQL's or the standard's says so.
inline constexpr int kSqlstateOverLimit = MAKE_SQLSTATE('M', 'T', '0', '0', '1');

// The SQLSTATE of a kind of core error.
int sqlstate_of(ErrorKind kind) noexcept;

// Turns the exception being handled into plain data. Allocates without raising an error; where
// that fails the result says out of memory.
Raised capture_exception() noexcept;

// Raises what was captured, SQLSTATE and all fields kept.
[[noreturn]] void raise(const Raised& raised);

// Copies the current PostgreSQL error and clears it. Never raises.
ErrorData* take_error() noexcept;

// What a frame must find as it was when an exception or a longjmp has ended the frames below it:
// the two stacks may lead into those frames, the current memory context may be one that lives too
// long or too short for the error's text. Plain data.
struct BackendState {
    sigjmp_buf* exception_stack = PG_exception_stack;
    ErrorContextCallback* context_stack = error_context_stack;
    MemoryContext memory = CurrentMemoryContext;

    void restore() const noexcept {
        PG_exception_stack = exception_stack;
        error_context_stack = context_stack;
        MemoryContextSwitchTo(memory);
    }
};

// Runs `body`, which may let C++ exceptions out, as the body of something PostgreSQL calls.
template <typename Body>
auto enter(Body&& body) -> std::invoke_result_t<Body> {
    const BackendState state;
    Raised raised;
    try {
        return body();
    } catch (...) {
        state.restore();
        raised = capture_exception();
    }
    raise(raised);
}

// Runs `body`, which makes PostgreSQL calls, and turns an error in it into a PgError, whose data
// live in the current memory context. The body itself holds nothing with a destructor across those
// calls. One call costs a sigsetjmp, some nine nanoseconds: guard a batch of calls, not each.
//
// What this frame reads after the longjmp is not changed after sigsetjmp, so none of it needs to be
// volatile; and it is never inlined, which would bring the caller's variables under that rule too.
template <typename Body>
[[gnu::noinline]] auto call(Body&& body) -> std::invoke_result_t<Body> {
    const BackendState state;
    // An error sets these to zero, whatever they were. Frames that are unwound give back what they
    // hold themselves, and must find it there.
    const uint32 interrupt_holdoff = InterruptHoldoffCount;
    const uint32 cancel_holdoff = QueryCancelHoldoffCount;
    // For every way out but the longjmp, a C++ exception from the body included.
    struct Stacks {
        const BackendState& state;
        ~Stacks() {
            PG_exception_stack = state.exception_stack;
            error_context_stack = state.context_stack;
        }
    } const stacks{state};
    sigjmp_buf here;
    if (sigsetjmp(here, 0) == 0) {
        PG_exception_stack = &here;
        return body();
    }
    state.restore();
    InterruptHoldoffCount = interrupt_holdoff;
    QueryCancelHoldoffCount = cancel_holdoff;
    throw PgError(take_error());
}

// The SQLSTATE of what was raised, and its message.
inline int sqlstate_of(const Raised& raised) {
    return raised.error != nullptr ? raised.error->sqlerrcode : raised.sqlstate;
}
inline const char* message_of(const Raised& raised) {
    return raised.error != nullptr ? raised.error->message : raised.message;
}

// How a step in a subtransaction ended: what it did stays, or is undone, because it said so or
// because it failed.
enum class Ended { kWell, kUndone, kFailed };

// Runs `step`, a function for call(), in a subtransaction; where it returns false what it did is
// undone, and where it fails too: then *raised says why. The current memory context stays, and the
// error's data live in it.
template <typename Step>
Ended in_subtransaction(Step&& step, Raised* raised) {
    const MemoryContext context = CurrentMemoryContext;
    const ResourceOwner owner = CurrentResourceOwner;
    BeginInternalSubTransaction(nullptr);
    MemoryContextSwitchTo(context);
    Ended ended = Ended::kWell;
    try {
        if constexpr (std::is_void_v<std::invoke_result_t<Step>>)
            call(std::forward<Step>(step));
        else
            ended = call(std::forward<Step>(step)) ? Ended::kWell : Ended::kUndone;
    } catch (...) {
        MemoryContextSwitchTo(context);
        *raised = capture_exception();
        ended = Ended::kFailed;
    }
    MemoryContextSwitchTo(context);
    if (ended == Ended::kWell)
        ReleaseCurrentSubTransaction();
    else
        RollbackAndReleaseCurrentSubTransaction();
    MemoryContextSwitchTo(context);
    CurrentResourceOwner = owner;
    return ended;
}

// The same for a step that returns nothing. False where it fails.
template <typename Step>
bool try_in_subtransaction(Step&& step, Raised* raised) {
    static_assert(std::is_void_v<std::invoke_result_t<Step>>);
    return in_subtransaction(std::forward<Step>(step), raised) == Ended::kWell;
}

}  // namespace meter::pg

// Defines the SQL-callable C function `name`; its body follows and may use PG_GETARG_*, PG_RETURN_*
// and let C++ exceptions out.
#define METER_FUNCTION(name)                                                 \
    extern "C" {                                                             \
    PGDLLEXPORT Datum name(FunctionCallInfo fcinfo);                         \
    PGDLLEXPORT const Pg_finfo_record* pg_finfo_##name(void);                \
    const Pg_finfo_record* pg_finfo_##name(void) {                           \
        static const Pg_finfo_record info = {1};                             \
        return &info;                                                        \
    }                                                                        \
    }                                                                        \
    static Datum name##_body(FunctionCallInfo fcinfo);                       \
    Datum name(FunctionCallInfo fcinfo) {                                    \
        return ::meter::pg::enter([fcinfo] { return name##_body(fcinfo); }); \
    }                                                                        \
    static Datum name##_body(FunctionCallInfo fcinfo)
