// The error for an idempotency key that comes again with another payload.
#pragma once

#include <string_view>

#include "core/error.hpp"

namespace meter {

// What a key was recorded with, and what it came with now; all canonical text.
struct PayloadConflict {
    std::string_view key;
    std::string_view recorded_value;
    std::string_view recorded_dimensions;
    std::string_view given_value;
    std::string_view given_dimensions;
};

// A kUniqueViolation whose detail says which fields differ, and how.
Error conflict_error(const PayloadConflict& conflict);

}  // namespace meter
