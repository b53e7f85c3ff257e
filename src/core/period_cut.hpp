// Cutting a period into what cells answer for and what is left to the events themselves.
#pragma once

#include <cstdint>
#include <initializer_list>
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
    // Leaves whole months within `span` to the events.
    void months_to_raw(TimeSpan span);
    // Leaves all hours to the events.
    void hours_to_raw();
};

// Buckets by which a question groups: no piece may lie in two of them.
struct Buckets {
    const TimeZone& zone;  // with all transitions that matter to the period
    Bucket bucket;
};

// Cuts what [from, to), from 1970 on, and `used` have in common into the fewest pieces: whole
// months of UTC, then days, then hours, and the rest raw. `used` is disjoint, ascending and made of
// whole months: outside of it there is nothing.
PeriodCut cut_period(std::int64_t from, std::int64_t to, const std::vector<TimeSpan>& used,
                     const std::optional<Buckets>& buckets);

// Spans of several kinds together: disjoint and ascending, those that touch merged.
std::vector<TimeSpan> merge_spans(std::initializer_list<const std::vector<TimeSpan>*> kinds);

// A part of a span that lies in one bucket.
struct BucketPiece {
    TimeSpan span;
    std::int64_t bucket;  // the bucket's start; where nothing is bucketed, the first span's
};

// Spans cut at the edges of buckets.
std::vector<BucketPiece> pieces_of(const std::vector<TimeSpan>& spans,
                                   const std::optional<Buckets>& buckets);

}  // namespace meter
