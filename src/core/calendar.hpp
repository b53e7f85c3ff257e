// Calendar buckets (minute to year) of a time zone, right across every change of its offset.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace meter {

// Microseconds of the units that have a fixed length.
inline constexpr std::int64_t kMinuteMicros = 60'000'000;
inline constexpr std::int64_t kHourMicros = 60 * kMinuteMicros;
inline constexpr std::int64_t kDayMicros = 24 * kHourMicros;

// The start of the UTC hour or day that an instant since 1970 lies in.
constexpr std::int64_t hour_start(std::int64_t unix_micros) {
    return unix_micros - unix_micros % kHourMicros;
}
constexpr std::int64_t day_start(std::int64_t unix_micros) {
    return unix_micros - unix_micros % kDayMicros;
}

// A change of a zone's offset. Both in microseconds; local time = UTC time + offset.
struct Transition {
    std::int64_t at;      // since 1970, UTC: the first instant with the new offset
    std::int64_t offset;  // from then on, east of Greenwich positive
};

// A time zone as a plain value: its offset before the first transition, and the transitions in
// ascending order, each of which changes the offset. It has to hold those transitions alone that
// lie within kZoneMargin of the instants it is asked about.
struct TimeZone {
    std::int64_t first_offset = 0;
    std::vector<Transition> transitions;
};

// No zone is further than this from UTC (PostgreSQL's reading of a zone allows a week).
inline constexpr std::int64_t kMaxOffset = INT64_C(8) * 86'400 * 1'000'000;
// What bucket_of() looks at on either side of its instant: the longest bucket, and both offsets.
inline constexpr std::int64_t kZoneMargin = INT64_C(400) * 86'400 * 1'000'000;

// The instants the calendar works on, microseconds since 1970: the years 1 to 10000.
inline constexpr std::int64_t kMinCalendarTime = INT64_C(-62'135'596'800) * 1'000'000;
inline constexpr std::int64_t kMaxCalendarTime = INT64_C(253'433'923'200) * 1'000'000;

enum class Bucket { kMinute, kHour, kDay, kWeek, kMonth, kYear };

// "minute", "hour", "day", "week", "month" or "year"; nullopt for anything else.
std::optional<Bucket> bucket_named(std::string_view name);

// Every name bucket_named() takes, for messages: "minute, hour, day, week, month, year".
inline constexpr const char* kBucketNames = "minute, hour, day, week, month, year";

// Half-open, in microseconds since 1970.
struct TimeSpan {
    std::int64_t start;
    std::int64_t end;
};

// The bucket that `t` lies in: start <= t < end. Buckets partition time: the end of one is the
// start of the next, none is empty, and the next is bucket_of(end).
//
// A day or longer starts where local time comes, for the last time, from below its first midnight
// to it or past it. That is right too where midnight does not exist (the day starts at 01:00),
// where it comes twice (the day has both), where the clock falls back from 00:01 into yesterday (so
// does that minute), and where a whole day was skipped (it has no bucket). A week starts on Monday.
// Minutes and hours are cut from local time, and at every change of offset, so that the hour that a
// clock repeats is a bucket of its own.
TimeSpan bucket_of(const TimeZone& zone, Bucket bucket, std::int64_t t);

// The month of UTC that `t` lies in, as bucket_of() has it; cheaper.
TimeSpan utc_month_of(std::int64_t t);

// No fewer buckets than this touch [from, to): a bound that costs nothing, for refusing early.
std::int64_t least_buckets(Bucket bucket, std::int64_t from, std::int64_t to);

}  // namespace meter
