// The one exception that core code throws, and the kinds of error it can name.
//
// Core code knows no PostgreSQL: the glue maps a kind to a SQLSTATE (guard.cpp).
#pragma once

#include <exception>
#include <string>
#include <utility>

namespace meter {

enum class ErrorKind {
    kInvalidParameter,  // a value, name, zone, bucket or dimension out of its domain
    kInvalidText,       // malformed JSON, malformed number, malformed timestamp
    kInvalidBinary,     // malformed binary input (a received aggregate state)
    kUndefinedObject,   // unknown meter
    kNotInState,        // archived meter
    kDuplicateObject,   // a meter or dimension that is there already
    kDependentObjects,  // a meter that still has events
    kUniqueViolation,   // an idempotency key again, with another payload
    kLimitExceeded,     // a bound of ours or of the format
    kOutOfRange,        // a number beyond its type
    kNotSupported,      // what is not there for this kind of meter
    kOverLimit,         // an event beyond a hard limit
    kCorrupt,           // stored bytes that we never write
};

// A user-facing error: MESSAGE, and DETAIL and HINT where they help (else empty).
class Error : public std::exception {
  public:
    Error(ErrorKind error_kind, std::string message_text, std::string detail_text = {},
          std::string hint_text = {})
        : kind(error_kind),
          message(std::move(message_text)),
          detail(std::move(detail_text)),
          hint(std::move(hint_text)) {}

    const char* what() const noexcept override { return message.c_str(); }

    ErrorKind kind;
    std::string message;
    std::string detail;
    std::string hint;
};

}  // namespace meter
