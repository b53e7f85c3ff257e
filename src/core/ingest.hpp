// Reads the text forms in which events arrive: a JSON array, NDJSON, CloudEvents 1.0.
#pragma once

#include <cstddef>
#include <functional>
#include <string_view>
#include <vector>

#include "core/event.hpp"

namespace meter {

struct IngestLimits {
    std::size_t max_bytes;   // of the payload
    std::size_t max_events;  // in the payload
    std::size_t max_depth;   // of nesting, an item's own braces counting one
};

// Appends one EventInput for each item of `payload`, in order, to `events`. docs/ingest.md says
// what forms a payload and its items have.
//
// What is wrong with one item is its `error`; what is wrong with the whole payload is thrown, and
// `events` then holds some of the items: Error kLimitExceeded past max_bytes, max_events or 8 MB
// for one string; kInvalidText for malformed JSON, with line, column and byte in the detail.
// `on_progress` is called once for each 16 kB of text, inside an item too, and while the names of
// a large object are compared, so that the caller can look for a cancel request; it may throw.
//
// `on_events`, where there is one, is called between items whenever `events` has kEventsAtOnce, and
// may take them away; it may throw. What is left at the end is in `events`.
inline constexpr std::size_t kEventsAtOnce = 256;
void parse_events(std::string_view payload, const IngestLimits& limits,
                  const std::function<void()>& on_progress, std::vector<EventInput>& events,
                  const std::function<void()>& on_events = {});

}  // namespace meter
