#include "core/period_cut.hpp"

#include <algorithm>

namespace meter {

namespace {

constexpr std::int64_t kHour = INT64_C(3'600'000'000);
constexpr std::int64_t kDay = 24 * kHour;

std::int64_t round_up(std::int64_t t, std::int64_t unit) {
    return (t + unit - 1) / unit * unit;
}

std::int64_t round_up_to_month(std::int64_t t) {
    const TimeSpan month = utc_month_of(t);
    return t == month.start ? t : month.end;
}

void append(std::vector<TimeSpan>& spans, std::int64_t start, std::int64_t end) {
    if (start >= end)
        return;
    if (!spans.empty() && spans.back().end == start)
        spans.back().end = end;
    else
        spans.push_back({start, end});
}

// Adds the pieces of [from, to), which lies in one bucket.
void cut_piece(PeriodCut& cut, std::int64_t from, std::int64_t to) {
    const std::int64_t first_hour = round_up(from, kHour);
    const std::int64_t last_hour = to - to % kHour;
    if (first_hour >= last_hour) {
        append(cut.raw, from, to);
        return;
    }
    append(cut.raw, from, first_hour);
    const std::int64_t first_day = round_up(first_hour, kDay);
    const std::int64_t last_day = last_hour - last_hour % kDay;
    if (first_day >= last_day) {
        append(cut.hours, first_hour, last_hour);
    } else {
        append(cut.hours, first_hour, first_day);
        const std::int64_t first_month = round_up_to_month(first_day);
        const std::int64_t last_month = utc_month_of(last_day).start;
        if (first_month >= last_month) {
            append(cut.days, first_day, last_day);
        } else {
            append(cut.days, first_day, first_month);
            append(cut.months, first_month, last_month);
            append(cut.days, last_month, last_day);
        }
        append(cut.hours, last_day, last_hour);
    }
    append(cut.raw, last_hour, to);
}

// Takes what lies within `span` out of `spans`, and adds it to `taken`.
void take(std::vector<TimeSpan>& spans, TimeSpan span, std::vector<TimeSpan>& taken) {
    std::vector<TimeSpan> left;
    for (const TimeSpan& each : spans) {
        const TimeSpan common{std::max(each.start, span.start), std::min(each.end, span.end)};
        if (common.start >= common.end) {
            left.push_back(each);
            continue;
        }
        if (each.start < common.start)
            left.push_back({each.start, common.start});
        if (common.end < each.end)
            left.push_back({common.end, each.end});
        taken.push_back(common);
    }
    spans = std::move(left);
}

}  // namespace

void PeriodCut::move_to_raw(TimeSpan span) {
    take(days, span, raw);
    take(hours, span, raw);
    std::sort(raw.begin(), raw.end(),
              [](const TimeSpan& a, const TimeSpan& b) { return a.start < b.start; });
    std::vector<TimeSpan> merged;
    for (const TimeSpan& each : raw)
        append(merged, each.start, each.end);
    raw = std::move(merged);
}

PeriodCut cut_period(std::int64_t from, std::int64_t to, const std::optional<Buckets>& buckets) {
    PeriodCut cut;
    if (from >= to)
        return cut;
    if (!buckets) {
        cut_piece(cut, from, to);
        return cut;
    }
    if (buckets->bucket == Bucket::kMinute) {
        cut.raw.push_back({from, to});
        return cut;
    }
    for (std::int64_t at = from; at < to;) {
        const std::int64_t end = std::min(to, bucket_of(buckets->zone, buckets->bucket, at).end);
        cut_piece(cut, at, end);
        at = end;
    }
    return cut;
}

}  // namespace meter
