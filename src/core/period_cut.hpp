// Cutting a period into what cells answer for and what is left to the events themselves.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/calendar.hpp"

namespace meter {

// Disjoint and ascending spans, neighbours merged; all but `raw` made of whole months, days or
// hours of UTC.
struct PeriodCut {
    std::vector<TimeSpan> months;
    std::vector<TimeSpan> days;
    std::vector<TimeSpan> hours;
    std::vector<TimeSpan> raw;

    // Leaves the days and hours within `span` to the events.
    void move_to_raw(TimeSpan span);
};

// Buckets by which a question groups: no piece may lie in two of them.
struct Buckets {
    const TimeZone& zone;  // with all transitions that matter to the period
    Bucket bucket;
};

// Cuts [from, to), from 1970 on, into the fewest pieces: whole months of UTC, then days, then
// hours, and the rest raw.
PeriodCut cut_period(std::int64_t from, std::int64_t to, const std::optional<Buckets>& buckets);

}  // namespace meter
