// Buckets of real and made-up zones. The real zones' transitions are what `zdump -v` prints.
#include "core/calendar.hpp"

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/timestamp.hpp"

namespace meter {
namespace {

constexpr std::int64_t kSecond = 1'000'000;
constexpr std::int64_t kMinute = 60 * kSecond;
constexpr std::int64_t kHour = 60 * kMinute;
constexpr std::int64_t kDay = 24 * kHour;
constexpr Bucket kAll[] = {Bucket::kMinute, Bucket::kHour,  Bucket::kDay,
                           Bucket::kWeek,   Bucket::kMonth, Bucket::kYear};

std::int64_t at(const char* text) {
    return parse_timestamp(text);
}

// A zone from its first offset in seconds and (instant, offset after in seconds) pairs.
TimeZone zone(std::int64_t first, std::vector<std::pair<const char*, std::int64_t>> changes = {}) {
    TimeZone made{first * kSecond, {}};
    for (const auto& [instant, offset] : changes)
        made.transitions.push_back({at(instant), offset * kSecond});
    return made;
}

const TimeZone kUtc;
const TimeZone kNewYork =
    zone(-18000, {{"2026-03-08T07:00:00Z", -14400}, {"2026-11-01T06:00:00Z", -18000}});
const TimeZone kLordHowe =
    zone(39600, {{"2026-04-04T15:00:00Z", 37800}, {"2026-10-03T15:30:00Z", 39600}});
const TimeZone kKolkata = zone(19800);
const TimeZone kKathmandu = zone(19800, {{"1985-12-31T18:30:00Z", 20700}});
const TimeZone kHavana =
    zone(-18000, {{"2026-03-08T05:00:00Z", -14400}, {"2026-11-01T05:00:00Z", -18000}});
const TimeZone kSaoPaulo =
    zone(-7200, {{"2018-02-18T02:00:00Z", -10800}, {"2018-11-04T03:00:00Z", -7200}});
const TimeZone kStJohns =
    zone(-12600, {{"2010-03-14T03:31:00Z", -9000}, {"2010-11-07T02:31:00Z", -12600}});
const TimeZone kApia =
    zone(-39600, {{"2011-09-24T14:00:00Z", -36000}, {"2011-12-30T10:00:00Z", 50400}});

// Expects the bucket of `t` to be [start, end).
void expect_bucket(const TimeZone& in, Bucket bucket, const char* t, const char* start,
                   const char* end) {
    SCOPED_TRACE(t);
    const TimeSpan span = bucket_of(in, bucket, at(t));
    EXPECT_EQ(span.start, at(start)) << (span.start - at(start)) / kMinute << " minutes off";
    EXPECT_EQ(span.end, at(end)) << (span.end - at(end)) / kMinute << " minutes off";
}

TEST(Calendar, NamesBuckets) {
    EXPECT_EQ(bucket_named("minute"), Bucket::kMinute);
    EXPECT_EQ(bucket_named("year"), Bucket::kYear);
    EXPECT_EQ(bucket_named("Year"), std::nullopt);
    EXPECT_EQ(bucket_named("quarter"), std::nullopt);
    EXPECT_EQ(bucket_named(""), std::nullopt);
}

TEST(Calendar, Utc) {
    const char* t = "2026-11-23T21:25:22.000001Z";
    expect_bucket(kUtc, Bucket::kMinute, t, "2026-11-23T21:25:00Z", "2026-11-23T21:26:00Z");
    expect_bucket(kUtc, Bucket::kHour, t, "2026-11-23T21:00:00Z", "2026-11-23T22:00:00Z");
    expect_bucket(kUtc, Bucket::kDay, t, "2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z");
    expect_bucket(kUtc, Bucket::kWeek, t, "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z");
    expect_bucket(kUtc, Bucket::kMonth, t, "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z");
    expect_bucket(kUtc, Bucket::kYear, t, "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z");
}

TEST(Calendar, WeeksStartOnMonday) {
    expect_bucket(kUtc, Bucket::kWeek, "2026-11-22T23:59:59.999999Z", "2026-11-16T00:00:00Z",
                  "2026-11-23T00:00:00Z");
    // Across the end of a year, and before 1970's first Monday.
    expect_bucket(kUtc, Bucket::kWeek, "2027-01-01T00:00:00Z", "2026-12-28T00:00:00Z",
                  "2027-01-04T00:00:00Z");
    const TimeSpan first = bucket_of(kUtc, Bucket::kWeek, 0);
    EXPECT_EQ(first.start, -3 * kDay);
    EXPECT_EQ(first.end, 4 * kDay);
}

TEST(Calendar, MonthAndYearEnds) {
    expect_bucket(kUtc, Bucket::kMonth, "2026-12-31T23:59:59.999999Z", "2026-12-01T00:00:00Z",
                  "2027-01-01T00:00:00Z");
    expect_bucket(kUtc, Bucket::kMonth, "2027-01-01T00:00:00Z", "2027-01-01T00:00:00Z",
                  "2027-02-01T00:00:00Z");
    expect_bucket(kUtc, Bucket::kYear, "2026-12-31T23:59:59.999999Z", "2026-01-01T00:00:00Z",
                  "2027-01-01T00:00:00Z");
    // Leap years: by four, not by a hundred, by four hundred.
    expect_bucket(kUtc, Bucket::kMonth, "2024-02-29T12:00:00Z", "2024-02-01T00:00:00Z",
                  "2024-03-01T00:00:00Z");
    expect_bucket(kUtc, Bucket::kMonth, "2100-02-28T12:00:00Z", "2100-02-01T00:00:00Z",
                  "2100-03-01T00:00:00Z");
    EXPECT_EQ(at("2100-03-01T00:00:00Z") - at("2100-02-01T00:00:00Z"), 28 * kDay);
    expect_bucket(kUtc, Bucket::kDay, "2000-02-29T12:00:00Z", "2000-02-29T00:00:00Z",
                  "2000-03-01T00:00:00Z");
}

TEST(Calendar, FirstAndLastYears) {
    expect_bucket(kUtc, Bucket::kYear, "1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z",
                  "1971-01-01T00:00:00Z");
    const TimeSpan last = bucket_of(kUtc, Bucket::kYear, kMaxEventTime - 1);
    EXPECT_EQ(last.start, at("9999-01-01T00:00:00Z"));
    EXPECT_EQ(last.end, kMaxEventTime);
    EXPECT_EQ(bucket_of(kUtc, Bucket::kMonth, kMaxEventTime - 1).start, at("9999-12-01T00:00:00Z"));
    // West of Greenwich, 1970 has begun in UTC while it is 1969 on the clock.
    const TimeSpan year = bucket_of(kNewYork, Bucket::kYear, 0);
    EXPECT_EQ(year.start, -365 * kDay + 5 * kHour);
    EXPECT_EQ(year.end, 5 * kHour);
    // The ends of the calendar.
    EXPECT_EQ(bucket_of(kUtc, Bucket::kYear, kMinCalendarTime).start, kMinCalendarTime);
    EXPECT_EQ(bucket_of(kUtc, Bucket::kYear, kMaxCalendarTime - 1).end, kMaxCalendarTime);
    EXPECT_EQ(kMaxCalendarTime, kMaxEventTime + 366 * kDay);
}

TEST(Calendar, NewYorkHasDaysOf23And25Hours) {
    expect_bucket(kNewYork, Bucket::kDay, "2026-03-08T12:00:00Z", "2026-03-08T05:00:00Z",
                  "2026-03-09T04:00:00Z");
    expect_bucket(kNewYork, Bucket::kDay, "2026-11-01T12:00:00Z", "2026-11-01T04:00:00Z",
                  "2026-11-02T05:00:00Z");
    expect_bucket(kNewYork, Bucket::kMonth, "2026-11-01T04:00:00Z", "2026-11-01T04:00:00Z",
                  "2026-12-01T05:00:00Z");
    // 01:00 to 02:00 comes twice, as two buckets; 02:00 to 03:00 in spring does not come at all.
    expect_bucket(kNewYork, Bucket::kHour, "2026-11-01T05:59:59Z", "2026-11-01T05:00:00Z",
                  "2026-11-01T06:00:00Z");
    expect_bucket(kNewYork, Bucket::kHour, "2026-11-01T06:00:00Z", "2026-11-01T06:00:00Z",
                  "2026-11-01T07:00:00Z");
    expect_bucket(kNewYork, Bucket::kHour, "2026-03-08T07:00:00Z", "2026-03-08T07:00:00Z",
                  "2026-03-08T08:00:00Z");
}

TEST(Calendar, LordHoweMovesByHalfAnHour) {
    expect_bucket(kLordHowe, Bucket::kDay, "2026-04-04T15:00:00Z", "2026-04-04T13:00:00Z",
                  "2026-04-05T13:30:00Z");
    // 01:00 to 02:00, then back to 01:30: the rest of that hour once more.
    expect_bucket(kLordHowe, Bucket::kHour, "2026-04-04T14:59:59Z", "2026-04-04T14:00:00Z",
                  "2026-04-04T15:00:00Z");
    expect_bucket(kLordHowe, Bucket::kHour, "2026-04-04T15:00:00Z", "2026-04-04T15:00:00Z",
                  "2026-04-04T15:30:00Z");
    expect_bucket(kLordHowe, Bucket::kHour, "2026-04-04T15:30:00Z", "2026-04-04T15:30:00Z",
                  "2026-04-04T16:30:00Z");
    // In spring 02:00 to 02:30 is left out.
    expect_bucket(kLordHowe, Bucket::kHour, "2026-10-03T15:45:00Z", "2026-10-03T15:30:00Z",
                  "2026-10-03T16:00:00Z");
    expect_bucket(kLordHowe, Bucket::kMinute, "2026-10-03T15:30:59Z", "2026-10-03T15:30:00Z",
                  "2026-10-03T15:31:00Z");
}

TEST(Calendar, OffsetsThatAreNoWholeHours) {
    expect_bucket(kKolkata, Bucket::kHour, "2026-11-23T21:25:22Z", "2026-11-23T20:30:00Z",
                  "2026-11-23T21:30:00Z");
    expect_bucket(kKolkata, Bucket::kDay, "2026-11-23T18:30:00Z", "2026-11-23T18:30:00Z",
                  "2026-11-24T18:30:00Z");
    expect_bucket(kKathmandu, Bucket::kHour, "2026-11-23T21:25:22Z", "2026-11-23T21:15:00Z",
                  "2026-11-23T22:15:00Z");
    // 1986 began a quarter of an hour late: midnight did not exist.
    expect_bucket(kKathmandu, Bucket::kYear, "1986-06-01T00:00:00Z", "1985-12-31T18:30:00Z",
                  "1986-12-31T18:15:00Z");
    expect_bucket(kKathmandu, Bucket::kHour, "1985-12-31T18:30:00Z", "1985-12-31T18:30:00Z",
                  "1985-12-31T19:15:00Z");
}

TEST(Calendar, HavanaHasTwoMidnights) {
    expect_bucket(kHavana, Bucket::kDay, "2026-11-01T04:30:00Z", "2026-11-01T04:00:00Z",
                  "2026-11-02T05:00:00Z");
    expect_bucket(kHavana, Bucket::kDay, "2026-11-01T05:30:00Z", "2026-11-01T04:00:00Z",
                  "2026-11-02T05:00:00Z");
    expect_bucket(kHavana, Bucket::kMonth, "2026-11-15T00:00:00Z", "2026-11-01T04:00:00Z",
                  "2026-12-01T05:00:00Z");
    expect_bucket(kHavana, Bucket::kMonth, "2026-10-15T00:00:00Z", "2026-10-01T04:00:00Z",
                  "2026-11-01T04:00:00Z");
    expect_bucket(kHavana, Bucket::kDay, "2026-03-08T05:00:00Z", "2026-03-08T05:00:00Z",
                  "2026-03-09T04:00:00Z");
}

TEST(Calendar, SaoPauloHasNoMidnight) {
    expect_bucket(kSaoPaulo, Bucket::kDay, "2018-11-04T03:00:00Z", "2018-11-04T03:00:00Z",
                  "2018-11-05T02:00:00Z");
    // In February 23:00 comes again before midnight does.
    expect_bucket(kSaoPaulo, Bucket::kDay, "2018-02-18T02:30:00Z", "2018-02-17T02:00:00Z",
                  "2018-02-18T03:00:00Z");
}

TEST(Calendar, StJohnsFallsBackOverMidnight) {
    // 00:00 to 00:01 of the 7th, then 23:01 of the 6th: that minute is the 6th's.
    expect_bucket(kStJohns, Bucket::kDay, "2010-11-07T02:30:30Z", "2010-11-06T02:30:00Z",
                  "2010-11-07T03:30:00Z");
    expect_bucket(kStJohns, Bucket::kDay, "2010-11-07T03:29:59Z", "2010-11-06T02:30:00Z",
                  "2010-11-07T03:30:00Z");
    expect_bucket(kStJohns, Bucket::kDay, "2010-11-07T03:30:00Z", "2010-11-07T03:30:00Z",
                  "2010-11-08T03:30:00Z");
    expect_bucket(kStJohns, Bucket::kHour, "2010-11-07T02:30:30Z", "2010-11-07T02:30:00Z",
                  "2010-11-07T02:31:00Z");
    expect_bucket(kStJohns, Bucket::kHour, "2010-11-07T02:31:00Z", "2010-11-07T02:31:00Z",
                  "2010-11-07T03:30:00Z");
    // The minute before the clock goes ahead is a day's first as any.
    expect_bucket(kStJohns, Bucket::kDay, "2010-03-14T03:30:30Z", "2010-03-14T03:30:00Z",
                  "2010-03-15T02:30:00Z");
}

TEST(Calendar, ApiaSkippedADay) {
    // The 29th ends where the 31st begins, and nothing is the 30th.
    expect_bucket(kApia, Bucket::kDay, "2011-12-30T09:59:59Z", "2011-12-29T10:00:00Z",
                  "2011-12-30T10:00:00Z");
    expect_bucket(kApia, Bucket::kDay, "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z",
                  "2011-12-31T10:00:00Z");
    expect_bucket(kApia, Bucket::kWeek, "2011-12-30T10:00:00Z", "2011-12-26T10:00:00Z",
                  "2012-01-01T10:00:00Z");
    expect_bucket(kApia, Bucket::kYear, "2012-02-01T00:00:00Z", "2011-12-31T10:00:00Z",
                  "2012-12-31T10:00:00Z");
}

TEST(Calendar, LeastBucketsIsALowerBound) {
    EXPECT_EQ(least_buckets(Bucket::kMinute, 0, 0), 0);
    EXPECT_EQ(least_buckets(Bucket::kMinute, 5, 4), 0);
    EXPECT_EQ(least_buckets(Bucket::kMinute, 0, 1), 1);
    EXPECT_EQ(least_buckets(Bucket::kMinute, 0, kMinute), 1);
    EXPECT_EQ(least_buckets(Bucket::kMinute, 0, kMinute + 1), 2);
    EXPECT_EQ(least_buckets(Bucket::kHour, 0, kDay), 24);
    // It grows with the period, or a huge one would not be refused.
    EXPECT_GT(least_buckets(Bucket::kMinute, kMinCalendarTime, kMaxCalendarTime), 5'000'000'000);
    EXPECT_GT(least_buckets(Bucket::kDay, kMinCalendarTime, kMaxCalendarTime), 100'000);
}

// Made-up zones with every nastiness at once: offsets to a day, changes minutes apart.
TimeZone random_zone(std::mt19937_64& random, std::int64_t around) {
    const auto between = [&](std::int64_t low, std::int64_t high) {
        return std::uniform_int_distribution<std::int64_t>(low, high)(random);
    };
    const bool wild = between(0, 1) == 1;
    const auto offset = [&] {
        return wild ? between(-86'399, 86'399) * kSecond : between(-48, 56) * 15 * kMinute;
    };
    TimeZone made{offset(), {}};
    std::int64_t now = around - 500 * kDay;
    std::int64_t last = made.first_offset;
    for (std::int64_t left = between(0, 40); left > 0; --left) {
        now += between(0, 3) == 0 ? between(1, 200 * kDay) : between(1, 3 * kHour);
        const std::int64_t next = offset();
        if (next != last)
            made.transitions.push_back({now, next});
        last = next;
    }
    return made;
}

// The least upper bound of the instants whose local time is below `label`, span by span.
std::int64_t plain_edge(const TimeZone& in, std::int64_t label) {
    std::int64_t edge = INT64_MIN;
    for (std::size_t i = 0; i <= in.transitions.size(); ++i) {
        const std::int64_t offset = i == 0 ? in.first_offset : in.transitions[i - 1].offset;
        const std::int64_t start = i == 0 ? INT64_MIN : in.transitions[i - 1].at;
        const std::int64_t end = i == in.transitions.size() ? INT64_MAX : in.transitions[i].at;
        if (start < label - offset)
            edge = std::max(edge, std::min(end, label - offset));
    }
    return edge;
}

TEST(Calendar, BucketsPartitionTime) {
    std::mt19937_64 random(20261123);
    for (int round = 0; round < 4000; ++round) {
        const std::int64_t around =
            std::uniform_int_distribution<std::int64_t>(0, kMaxEventTime)(random);
        const TimeZone made = random_zone(random, around);
        for (const Bucket bucket : kAll) {
            std::int64_t t = around + std::uniform_int_distribution<std::int64_t>(
                                          -600 * kDay, 600 * kDay)(random);
            // Half of them where it is hard: at a change, or right before it.
            if (!made.transitions.empty() && round % 2 == 0) {
                const auto pick = static_cast<std::size_t>(round) % made.transitions.size();
                t = made.transitions[pick].at - (round / 2) % 2;
            }
            const TimeSpan span = bucket_of(made, bucket, t);
            ASSERT_LE(span.start, t);
            ASSERT_LT(t, span.end);
            ASSERT_EQ(bucket_of(made, bucket, span.end).start, span.end);
            ASSERT_EQ(bucket_of(made, bucket, span.start - 1).end, span.start);
            for (const std::int64_t inside : {span.start, span.end - 1, (t + span.end) / 2}) {
                const TimeSpan again = bucket_of(made, bucket, inside);
                ASSERT_EQ(again.start, span.start);
                ASSERT_EQ(again.end, span.end);
            }
            ASSERT_GE(3, least_buckets(bucket, span.start - 1, span.end + 1));
            if (bucket == Bucket::kDay) {
                // The definition: a bucket's edges are edges of some midnight.
                bool starts = false;
                bool ends = false;
                for (std::int64_t day = -3; day <= 3; ++day) {
                    const std::int64_t midnight = (t / kDay + day) * kDay;
                    starts = starts || plain_edge(made, midnight) == span.start;
                    ends = ends || plain_edge(made, midnight) == span.end;
                }
                ASSERT_TRUE(starts && ends);
            }
        }
    }
}

// A zone that holds only the changes near an instant has the same bucket there.
TEST(Calendar, NeedsNoTransitionsBeyondTheMargin) {
    std::mt19937_64 random(1);
    for (int round = 0; round < 2000; ++round) {
        const std::int64_t around =
            std::uniform_int_distribution<std::int64_t>(0, kMaxEventTime)(random);
        TimeZone made = random_zone(random, around);
        std::int64_t now = made.transitions.empty() ? around : made.transitions.back().at;
        for (int i = 0; i < 20; ++i) {
            now += 90 * kDay;
            made.transitions.push_back({now, (i % 2 == 0 ? 3 : 4) * kHour + kMinute});
        }
        const std::int64_t t =
            around + std::uniform_int_distribution<std::int64_t>(-500 * kDay, 2000 * kDay)(random);
        TimeZone part{made.first_offset, {}};
        for (const Transition& change : made.transitions) {
            if (change.at < t - kZoneMargin)
                part.first_offset = change.offset;
            else if (change.at <= t + kZoneMargin)
                part.transitions.push_back(change);
        }
        for (const Bucket bucket : kAll) {
            const TimeSpan whole = bucket_of(made, bucket, t);
            const TimeSpan near = bucket_of(part, bucket, t);
            ASSERT_EQ(whole.start, near.start);
            ASSERT_EQ(whole.end, near.end);
        }
    }
}

}  // namespace
}  // namespace meter
