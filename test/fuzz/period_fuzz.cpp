// Makes periods, time zones and months that have events out of arbitrary bytes, and checks what
// must hold of buckets and of a period's cut.
#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "check.hpp"
#include "core/calendar.hpp"
#include "core/period_cut.hpp"
#include "core/timestamp.hpp"

namespace {

using meter::Bucket;
using meter::kDayMicros;
using meter::kHourMicros;
using meter::TimeSpan;

constexpr std::int64_t kLength[] = {meter::kMinuteMicros, kHourMicros,     kDayMicros,
                                    7 * kDayMicros,       31 * kDayMicros, 366 * kDayMicros};

// An offset of up to a day, mostly of whole minutes.
std::int64_t read_offset(FuzzedDataProvider& in) {
    if (in.ConsumeIntegralInRange(0, 7) == 0)
        return in.ConsumeIntegralInRange<std::int64_t>(-86'400, 86'400) * 1'000'000;
    return in.ConsumeIntegralInRange<std::int64_t>(-56, 56) * 15 * meter::kMinuteMicros;
}

meter::TimeZone read_zone(FuzzedDataProvider& in, std::int64_t around) {
    meter::TimeZone zone;
    zone.first_offset = read_offset(in);
    std::int64_t at = around - in.ConsumeIntegralInRange<std::int64_t>(0, 400) * kDayMicros;
    std::int64_t offset = zone.first_offset;
    const int count = in.ConsumeIntegralInRange(0, 6);
    for (int i = 0; i < count; ++i) {
        at += in.ConsumeIntegralInRange<std::int64_t>(1, 300 * 24 * 60) * meter::kMinuteMicros;
        const std::int64_t next = read_offset(in);
        if (next == offset)
            continue;
        offset = next;
        zone.transitions.push_back({at, offset});
    }
    return zone;
}

void check_bucket(const meter::TimeZone& zone, Bucket bucket, std::int64_t t) {
    const TimeSpan span = bucket_of(zone, bucket, t);
    check(span.start <= t && t < span.end);
    check(bucket_of(zone, bucket, span.start).end == span.end);
    check(bucket_of(zone, bucket, span.end - 1).start == span.start);
    check(bucket_of(zone, bucket, span.end).start == span.end);
}

// Spans are disjoint and ascending, and made of whole units.
void check_spans(const std::vector<TimeSpan>& spans, std::int64_t unit) {
    std::int64_t before = INT64_MIN;
    for (const TimeSpan& span : spans) {
        check(span.start < span.end && before < span.end && before <= span.start);
        check(span.start % unit == 0 && span.end % unit == 0);
        before = span.end;
    }
}

// No unit of the spans lies in two buckets.
void check_units(const std::vector<TimeSpan>& spans, std::int64_t unit,
                 const meter::Buckets& buckets) {
    for (const TimeSpan& span : spans)
        for (std::int64_t t = span.start; t < span.end; t += unit)
            check(bucket_of(buckets.zone, buckets.bucket, t).end >= t + unit);
}

std::vector<TimeSpan> read_months(FuzzedDataProvider& in, std::int64_t from, std::int64_t to) {
    std::vector<TimeSpan> used;
    const std::uint64_t mask = in.ConsumeIntegral<std::uint64_t>();
    int n = 0;
    for (TimeSpan month = meter::utc_month_of(from); month.start < to && n < 1000; ++n) {
        if ((mask >> n % 64 & 1) != 0) {
            if (!used.empty() && used.back().end == month.start)
                used.back().end = month.end;
            else
                used.push_back(month);
        }
        month = meter::utc_month_of(month.end);
    }
    return used;
}

std::vector<TimeSpan> common(const std::vector<TimeSpan>& used, std::int64_t from,
                             std::int64_t to) {
    std::vector<TimeSpan> out;
    for (const TimeSpan& span : used)
        if (std::max(span.start, from) < std::min(span.end, to))
            out.push_back({std::max(span.start, from), std::min(span.end, to)});
    return out;
}

bool same(const std::vector<TimeSpan>& a, const std::vector<TimeSpan>& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](TimeSpan x, TimeSpan y) { return x.start == y.start && x.end == y.end; });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    FuzzedDataProvider in(data, size);
    const int kind = in.ConsumeIntegralInRange(0, 6);
    const bool bucketed = kind < 6;
    const auto bucket = static_cast<Bucket>(bucketed ? kind : 2);
    const std::int64_t longest = kLength[static_cast<int>(bucket)] * (bucketed ? 60 : 1000);
    std::int64_t from = in.ConsumeIntegralInRange<std::int64_t>(
        0, in.ConsumeBool() ? meter::kMaxEventTime - 1 : 4'000'000'000'000'000);
    std::int64_t to = from + in.ConsumeIntegralInRange<std::int64_t>(0, longest);
    if (in.ConsumeBool()) {
        from -= from % kHourMicros;
        to -= to % kHourMicros;
    }
    to = std::min(to, meter::kMaxEventTime);
    const meter::TimeZone zone = read_zone(in, from);
    check_bucket(zone, bucket, from);
    check_bucket(zone, bucket, to);

    const std::vector<TimeSpan> used = read_months(in, from, to);
    std::optional<meter::Buckets> buckets;
    if (bucketed)
        buckets.emplace(meter::Buckets{zone, bucket});
    const auto expected = common(used, from, to);
    meter::PeriodCut cut = meter::cut_period(from, to, used, buckets);
    check_spans(cut.months, kDayMicros);
    check_spans(cut.days, kDayMicros);
    check_spans(cut.hours, kHourMicros);
    check_spans(cut.raw, 1);
    for (const TimeSpan& span : cut.months)
        check(meter::utc_month_of(span.start).start == span.start &&
              meter::utc_month_of(span.end).start == span.end);
    check(same(meter::merge_spans({&cut.months, &cut.days, &cut.hours, &cut.raw}), expected));
    if (bucketed) {
        check_units(cut.days, kDayMicros, *buckets);
        check_units(cut.hours, kHourMicros, *buckets);
    }
    for (const auto* spans : {&cut.months, &cut.days, &cut.hours, &cut.raw}) {
        std::vector<TimeSpan> covered;
        for (const meter::BucketPiece& piece : meter::pieces_of(*spans, buckets)) {
            check(piece.span.start < piece.span.end);
            if (bucketed) {
                const TimeSpan whole = bucket_of(zone, bucket, piece.span.start);
                check(piece.bucket == whole.start && piece.span.end <= whole.end);
            }
            if (!covered.empty() && covered.back().end == piece.span.start)
                covered.back().end = piece.span.end;
            else
                covered.push_back(piece.span);
        }
        check(same(covered, meter::merge_spans({spans})));
    }
    // Leaving a span to the events moves days and hours, and loses nothing.
    const std::int64_t begin = in.ConsumeIntegralInRange<std::int64_t>(from, to);
    cut.move_to_raw({begin, in.ConsumeIntegralInRange<std::int64_t>(begin, to)});
    check(same(meter::merge_spans({&cut.months, &cut.days, &cut.hours, &cut.raw}), expected));
    return 0;
}
