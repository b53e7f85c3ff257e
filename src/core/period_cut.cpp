#include "core/period_cut.hpp"

#include <algorithm>

namespace meter {

namespace {

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
    const std::int64_t first_hour = round_up(from, kHourMicros);
    const std::int64_t last_hour = hour_start(to);
    if (first_hour >= last_hour) {
        append(cut.raw, from, to);
        return;
    }
    append(cut.raw, from, first_hour);
    const std::int64_t first_day = round_up(first_hour, kDayMicros);
    const std::int64_t last_day = day_start(last_hour);
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
    raw = merge_spans({&raw});
}

void PeriodCut::months_to_raw(TimeSpan span) {
    take(months, span, raw);
    raw = merge_spans({&raw});
}

void PeriodCut::hours_to_raw() {
    raw = merge_spans({&raw, &hours});
    hours.clear();
}

PeriodCut cut_period(std::int64_t from, std::int64_t to, const std::vector<TimeSpan>& used,
                     const std::optional<Buckets>& buckets) {
    PeriodCut cut;
    for (const TimeSpan& each : used) {
        const TimeSpan span{std::max(from, each.start), std::min(to, each.end)};
        if (buckets && buckets->bucket == Bucket::kMinute) {
            append(cut.raw, span.start, span.end);
            continue;
        }
        for (std::int64_t at = span.start; at < span.end;) {
            const std::int64_t end =
                buckets ? std::min(span.end, bucket_of(buckets->zone, buckets->bucket, at).end)
                        : span.end;
            cut_piece(cut, at, end);
            at = end;
        }
    }
    return cut;
}

std::vector<TimeSpan> merge_spans(std::initializer_list<const std::vector<TimeSpan>*> kinds) {
    std::vector<TimeSpan> all;
    for (const auto* spans : kinds)
        all.insert(all.end(), spans->begin(), spans->end());
    std::sort(all.begin(), all.end(),
              [](const TimeSpan& a, const TimeSpan& b) { return a.start < b.start; });
    std::vector<TimeSpan> merged;
    for (const TimeSpan& each : all) {
        if (!merged.empty() && merged.back().end >= each.start)
            merged.back().end = std::max(merged.back().end, each.end);
        else
            merged.push_back(each);
    }
    return merged;
}

std::vector<BucketPiece> pieces_of(const std::vector<TimeSpan>& spans,
                                   const std::optional<Buckets>& buckets) {
    std::vector<BucketPiece> pieces;
    for (const TimeSpan& span : spans) {
        if (!buckets) {
            pieces.push_back({span, spans.front().start});
            continue;
        }
        for (std::int64_t at = span.start; at < span.end;) {
            const TimeSpan bucket = bucket_of(buckets->zone, buckets->bucket, at);
            const std::int64_t end = std::min(span.end, bucket.end);
            pieces.push_back({{at, end}, bucket.start});
            at = end;
        }
    }
    return pieces;
}

}  // namespace meter
