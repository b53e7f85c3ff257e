#include "core/calendar.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <utility>

namespace meter {

namespace {

constexpr std::int64_t floor_div(std::int64_t a, std::int64_t b) {
    return a / b - (a % b < 0 ? 1 : 0);
}

constexpr std::int64_t floor_to(std::int64_t a, std::int64_t unit) {
    return floor_div(a, unit) * unit;
}

struct YearMonth {
    std::int64_t year;
    std::int64_t month;  // 0 to 11
};

// Days since 1970-01-01 of the first of a month in the proleptic Gregorian calendar. Years are
// taken to start in March, which puts the leap day last, and in eras of 400 years or 146,097 days.
constexpr std::int64_t days_of(YearMonth ym) {
    const std::int64_t year = ym.year - (ym.month < 2 ? 1 : 0);
    const std::int64_t era = floor_div(year, 400);
    const std::int64_t year_of_era = year - era * 400;
    const std::int64_t month_from_march = (ym.month + 10) % 12;
    const std::int64_t day_of_year = (153 * month_from_march + 2) / 5;
    const std::int64_t day_of_era =
        year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146'097 + day_of_era - 719'468;
}

// The year and month in which a day since 1970-01-01 lies.
constexpr YearMonth month_of(std::int64_t days) {
    const std::int64_t shifted = days + 719'468;
    const std::int64_t era = floor_div(shifted, 146'097);
    const std::int64_t day_of_era = shifted - era * 146'097;
    const std::int64_t year_of_era =
        (day_of_era - day_of_era / 1'460 + day_of_era / 36'524 - day_of_era / 146'096) / 365;
    const std::int64_t day_of_year =
        day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    const std::int64_t month = ((5 * day_of_year + 2) / 153 + 2) % 12;
    return {era * 400 + year_of_era + (month < 2 ? 1 : 0), month};
}

static_assert(days_of({1970, 0}) == 0 && days_of({2000, 2}) == 11'017);
static_assert(month_of(11'016).month == 1 && month_of(-1).year == 1969);

// The first local midnight of the day, week, month or year that contains `local`.
std::int64_t truncate_local(Bucket bucket, std::int64_t local) {
    const std::int64_t days = floor_div(local, kDayMicros);
    switch (bucket) {
        case Bucket::kWeek:
            // 1970-01-01 was a Thursday, three days after Monday.
            return (floor_div(days + 3, 7) * 7 - 3) * kDayMicros;
        case Bucket::kMonth:
            return days_of(month_of(days)) * kDayMicros;
        case Bucket::kYear:
            return days_of({month_of(days).year, 0}) * kDayMicros;
        default:
            return days * kDayMicros;
    }
}

// The label after `label`, itself a first midnight.
std::int64_t next_label(Bucket bucket, std::int64_t label) {
    switch (bucket) {
        case Bucket::kWeek:
            return label + 7 * kDayMicros;
        case Bucket::kMonth: {
            const YearMonth ym = month_of(floor_div(label, kDayMicros));
            return days_of({ym.year + ym.month / 11, (ym.month + 1) % 12}) * kDayMicros;
        }
        case Bucket::kYear:
            return days_of({month_of(floor_div(label, kDayMicros)).year + 1, 0}) * kDayMicros;
        default:
            return label + kDayMicros;
    }
}

// The spans of constant offset: span 0 lies before the first transition, span i after the i-th.
struct Spans {
    const TimeZone& zone;

    std::size_t at(std::int64_t t) const {
        const auto after = std::upper_bound(
            zone.transitions.begin(), zone.transitions.end(), t,
            [](std::int64_t instant, const Transition& change) { return instant < change.at; });
        return static_cast<std::size_t>(after - zone.transitions.begin());
    }
    std::int64_t offset(std::size_t i) const {
        return i == 0 ? zone.first_offset : zone.transitions[i - 1].offset;
    }
    std::int64_t start(std::size_t i) const {
        return i == 0 ? std::numeric_limits<std::int64_t>::min() : zone.transitions[i - 1].at;
    }
    std::int64_t end(std::size_t i) const {
        return i == zone.transitions.size() ? std::numeric_limits<std::int64_t>::max()
                                            : zone.transitions[i].at;
    }
};

// The last instant at which local time comes from below `label` to it or past it: the least upper
// bound of the instants whose local time is below. It never falls as `label` grows.
std::int64_t edge_of(const Spans& spans, std::int64_t label) {
    // No later span has a local time below the label; walk back to the last one that does.
    std::size_t i = spans.at(label + kMaxOffset);
    while (i > 0 && spans.start(i) + spans.offset(i) >= label)
        --i;
    return std::min(spans.end(i), label - spans.offset(i));
}

}  // namespace

std::optional<Bucket> bucket_named(std::string_view name) {
    static constexpr std::array<std::pair<std::string_view, Bucket>, 6> kNames{{
        {"minute", Bucket::kMinute},
        {"hour", Bucket::kHour},
        {"day", Bucket::kDay},
        {"week", Bucket::kWeek},
        {"month", Bucket::kMonth},
        {"year", Bucket::kYear},
    }};
    for (const auto& [known, bucket] : kNames) {
        if (name == known)
            return bucket;
    }
    return std::nullopt;
}

TimeSpan bucket_of(const TimeZone& zone, Bucket bucket, std::int64_t t) {
    const Spans spans{zone};
    const std::size_t i = spans.at(t);
    const std::int64_t offset = spans.offset(i);
    if (bucket == Bucket::kMinute || bucket == Bucket::kHour) {
        const std::int64_t unit = bucket == Bucket::kMinute ? kMinuteMicros : kHourMicros;
        const std::int64_t start = floor_to(t + offset, unit) - offset;
        return {std::max(start, spans.start(i)), std::min(start + unit, spans.end(i))};
    }
    // Local time may yet fall below the label again: then t belongs to a bucket before. It cannot
    // belong to one after, since its own local time is below that one's label.
    std::int64_t label = truncate_local(bucket, t + offset);
    std::int64_t end = edge_of(spans, next_label(bucket, label));
    std::int64_t start = edge_of(spans, label);
    while (start > t) {
        end = start;
        label = truncate_local(bucket, label - 1);
        start = edge_of(spans, label);
    }
    return {start, end};
}

TimeSpan utc_month_of(std::int64_t t) {
    const YearMonth ym = month_of(floor_div(t, kDayMicros));
    return {days_of(ym) * kDayMicros,
            days_of({ym.year + ym.month / 11, (ym.month + 1) % 12}) * kDayMicros};
}

std::int64_t least_buckets(Bucket bucket, std::int64_t from, std::int64_t to) {
    if (from >= to)
        return 0;
    // No bucket is longer: its nominal length, and what two changes of offset can add to it.
    std::int64_t longest = 0;
    switch (bucket) {
        case Bucket::kMinute:
            longest = kMinuteMicros;
            break;
        case Bucket::kHour:
            longest = kHourMicros;
            break;
        case Bucket::kDay:
            longest = kDayMicros + 2 * kMaxOffset;
            break;
        case Bucket::kWeek:
            longest = 7 * kDayMicros + 2 * kMaxOffset;
            break;
        case Bucket::kMonth:
            longest = 31 * kDayMicros + 2 * kMaxOffset;
            break;
        case Bucket::kYear:
            longest = 366 * kDayMicros + 2 * kMaxOffset;
            break;
    }
    return (to - from - 1) / longest + 1;
}

}  // namespace meter
