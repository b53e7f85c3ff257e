#include "pg/guard.hpp"

#include <cstring>
#include <exception>
#include <new>
#include <string>

namespace meter::pg {

namespace {

// A copy of `text` in the current memory context; nullptr for empty text or where memory is out.
const char* copy_text(const char* text, std::size_t length) noexcept {
    if (length == 0 || length >= MaxAllocSize)
        return nullptr;
    auto* copy = static_cast<char*>(
        MemoryContextAllocExtended(CurrentMemoryContext, length + 1, MCXT_ALLOC_NO_OOM));
    if (copy == nullptr)
        return nullptr;
    std::memcpy(copy, text, length);
    copy[length] = '\0';
    return copy;
}

const char* copy_text(const std::string& text) noexcept {
    return copy_text(text.data(), text.size());
}

Raised out_of_memory() noexcept {
    Raised raised;
    raised.sqlstate = ERRCODE_OUT_OF_MEMORY;
    raised.message = "out of memory";
    return raised;
}

}  // namespace

int sqlstate_of(ErrorKind kind) noexcept {
    switch (kind) {
        case ErrorKind::kInvalidParameter:
            return ERRCODE_INVALID_PARAMETER_VALUE;
        case ErrorKind::kInvalidText:
            return ERRCODE_INVALID_TEXT_REPRESENTATION;
        case ErrorKind::kInvalidBinary:
            return ERRCODE_INVALID_BINARY_REPRESENTATION;
        case ErrorKind::kUndefinedObject:
            return ERRCODE_UNDEFINED_OBJECT;
        case ErrorKind::kNotInState:
            return ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
        case ErrorKind::kDuplicateObject:
            return ERRCODE_DUPLICATE_OBJECT;
        case ErrorKind::kDependentObjects:
            return ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST;
        case ErrorKind::kUniqueViolation:
            return ERRCODE_UNIQUE_VIOLATION;
        case ErrorKind::kLimitExceeded:
            return ERRCODE_PROGRAM_LIMIT_EXCEEDED;
        case ErrorKind::kOutOfRange:
            return ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE;
        case ErrorKind::kNotSupported:
            return ERRCODE_FEATURE_NOT_SUPPORTED;
        case ErrorKind::kOverLimit:
            return kSqlstateOverLimit;
        case ErrorKind::kCorrupt:
            return ERRCODE_DATA_CORRUPTED;
    }
    return ERRCODE_INTERNAL_ERROR;
}

Raised capture_exception() noexcept {
    Raised raised;
    try {
        throw;
    } catch (const PgError& error) {
        if (error.data() == nullptr)
            return out_of_memory();
        raised.error = error.data();
    } catch (const Error& error) {
        raised.sqlstate = sqlstate_of(error.kind);
        raised.message = copy_text(error.message);
        raised.detail = copy_text(error.detail);
        raised.hint = copy_text(error.hint);
        if (raised.message == nullptr)
            return out_of_memory();
    } catch (const std::bad_alloc&) {
        return out_of_memory();
    } catch (const std::exception& error) {
        raised.sqlstate = ERRCODE_INTERNAL_ERROR;
        raised.message = copy_text(error.what(), std::strlen(error.what()));
        if (raised.message == nullptr)
            raised.message = "unexpected exception";
    } catch (...) {
        raised.sqlstate = ERRCODE_INTERNAL_ERROR;
        raised.message = "unexpected exception of an unknown type";
    }
    return raised;
}

void raise(const Raised& raised) {
    if (raised.error != nullptr) {
        // As errfinish() does, which a rethrown error does not pass: no handler expects that
        // interrupts are held.
        InterruptHoldoffCount = 0;
        QueryCancelHoldoffCount = 0;
        ReThrowError(raised.error);
    }
    ereport(ERROR, (errcode(raised.sqlstate), errmsg("%s", raised.message),
                    raised.detail != nullptr ? errdetail("%s", raised.detail) : 0,
                    raised.hint != nullptr ? errhint("%s", raised.hint) : 0));
    pg_unreachable();
}

ErrorData* take_error() noexcept {
    // Copying allocates, and may itself fail: then that failure is what there is to tell. Context
    // callbacks have nothing to add to it.
    const BackendState state;
    const uint32 interrupt_holdoff = InterruptHoldoffCount;
    const uint32 cancel_holdoff = QueryCancelHoldoffCount;
    ErrorData* volatile data = nullptr;
    sigjmp_buf here;
    if (sigsetjmp(here, 0) == 0) {
        PG_exception_stack = &here;
        error_context_stack = nullptr;
        data = CopyErrorData();
    } else {
        data = nullptr;
        InterruptHoldoffCount = interrupt_holdoff;
        QueryCancelHoldoffCount = cancel_holdoff;
    }
    state.restore();
    FlushErrorState();
    return data;
}

}  // namespace meter::pg
