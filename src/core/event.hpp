// One event as a client sent it, checked as far as that is possible without the meter.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/error.hpp"

namespace meter {

// Every string is UTF-8 without NUL. An absent or null member is nullopt, and means its default.
struct EventInput {
    std::optional<std::string> event_name;
    std::optional<std::int64_t> meter_id;
    std::optional<std::string> user_id;
    std::string value = "1";        // canonical_value()
    std::string dimensions = "{}";  // DimensionsBuilder::finish()
    std::optional<std::string> idempotency;
    std::optional<std::int64_t> timestamp;  // microseconds since 1970
    std::string metadata = "{}";            // a JSON object; no duplicate keys at any depth
    std::optional<Error> error;             // set: the item is invalid, the rest is not to be used
};

}  // namespace meter
