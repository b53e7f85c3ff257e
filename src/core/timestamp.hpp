// Points in time as microseconds since 1970-01-01 00:00 UTC, and RFC 3339 text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace meter {

// 1970-01-01 00:00:00 UTC and, excluded, 10000-01-01 00:00:00 UTC.
inline constexpr std::int64_t kMinEventTime = 0;
inline constexpr std::int64_t kMaxEventTime = 253'402'300'800'000'000;

// Reads an RFC 3339 timestamp: 2026-01-31T23:59:59.123456Z, or with an offset like +05:30. A space
// or 't' may stand for 'T', and digits past the microsecond are cut off, never rounded, so that no
// event moves into the next period. Throws Error kInvalidParameter where the text is none, has no
// zone, or lies outside the years 1970 to 9999.
std::int64_t parse_timestamp(std::string_view text);

// The same as parse_timestamp reads: 2026-01-31T12:00:00Z, the fraction only where there is one.
std::string format_timestamp(std::int64_t time);

// Throws Error kInvalidParameter unless an event may have this timestamp: from 1970 to 9999, and at
// most `max_lead_seconds` after `now`.
void check_event_time(std::int64_t time, std::int64_t now, std::int64_t max_lead_seconds);

}  // namespace meter
