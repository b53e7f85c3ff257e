#include "core/timestamp.hpp"

#include <gtest/gtest.h>

#include <string>

#include "core/error.hpp"

namespace meter {
namespace {

constexpr std::int64_t kSecond = 1'000'000;
constexpr std::int64_t kHour = 3'600 * kSecond;

TEST(ParseTimestamp, ReadsUtc) {
    EXPECT_EQ(parse_timestamp("1970-01-01T00:00:00Z"), 0);
    EXPECT_EQ(parse_timestamp("1970-01-01T00:00:01.5Z"), 1'500'000);
    EXPECT_EQ(parse_timestamp("2000-01-01T00:00:00Z"), 946'684'800 * kSecond);
    EXPECT_EQ(parse_timestamp("2026-01-31T23:59:59.123456Z"), 1'769'903'999'123'456);
    EXPECT_EQ(parse_timestamp("2024-02-29T12:00:00Z"), 1'709'208'000 * kSecond);
}

TEST(ParseTimestamp, TakesTheSpellingsOfRfc3339) {
    const std::int64_t noon = parse_timestamp("2026-01-31T12:00:00Z");
    for (const char* text :
         {"2026-01-31t12:00:00z", "2026-01-31 12:00:00Z", "2026-01-31T12:00:00+00:00",
          "2026-01-31T12:00:00-00:00", "2026-01-31T14:00:00+02:00", "2026-01-31T17:30:00+05:30",
          "2026-01-31T00:00:00-12:00", "2026-02-01T11:59:00+23:59", "2026-01-31T12:00:00.000Z"})
        EXPECT_EQ(parse_timestamp(text), noon) << text;
}

TEST(ParseTimestamp, CutsOffPastTheMicrosecond) {
    EXPECT_EQ(parse_timestamp("2026-01-31T23:59:59.9999999999Z") + 1,
              parse_timestamp("2026-02-01T00:00:00Z"));
    EXPECT_EQ(parse_timestamp("1970-01-01T00:00:00.0000019Z"), 1);
}

TEST(ParseTimestamp, ALeapSecondIsTheNextMinute) {
    EXPECT_EQ(parse_timestamp("2016-12-31T23:59:60Z"), parse_timestamp("2017-01-01T00:00:00Z"));
}

TEST(ParseTimestamp, KeepsTheBounds) {
    EXPECT_EQ(parse_timestamp("9999-12-31T23:59:59.999999Z"), kMaxEventTime - 1);
    EXPECT_EQ(parse_timestamp("1969-12-31T23:00:00-01:00"), kMinEventTime);
    EXPECT_EQ(parse_timestamp("1970-01-01T01:00:00-00:00"), kHour);
    for (const char* text :
         {"1969-12-31T23:59:59.999999Z", "1970-01-01T00:59:59+01:00", "9999-12-31T23:59:60Z",
          "9999-12-31T23:00:00-01:00", "0000-01-01T00:00:00Z"})
        EXPECT_THROW(parse_timestamp(text), Error) << text;
}

TEST(ParseTimestamp, RefusesWhatIsNone) {
    for (const char* text : {"",
                             "now",
                             "2026-01-31",
                             "2026-02-30T00:00:00Z",
                             "2025-02-29T00:00:00Z",
                             "2026-13-01T00:00:00Z",
                             "2026-00-01T00:00:00Z",
                             "2026-01-00T00:00:00Z",
                             "2026-01-31T24:00:00Z",
                             "2026-01-31T12:60:00Z",
                             "2026-01-31T12:00:61Z",
                             "2026-1-31T12:00:00Z",
                             "2026-01-31T12:00Z",
                             "2026-01-31T12:00:00.Z",
                             "2026-01-31T12:00:00ZZ",
                             "2026-01-31T12:00:00Z ",
                             " 2026-01-31T12:00:00Z",
                             "2026-01-31T12:00:00+2",
                             "2026-01-31T12:00:00+0200",
                             "2026-01-31T12:00:00+24:00",
                             "2026-01-31T12:00:00+02:60",
                             "12026-01-31T12:00:00Z",
                             "-026-01-31T12:00:00Z",
                             "2026-01-31X12:00:00Z",
                             "2026-01-31T12:00:00,5Z",
                             "1769903999"}) {
        try {
            parse_timestamp(text);
            ADD_FAILURE() << text;
        } catch (const Error& error) {
            EXPECT_EQ(error.kind, ErrorKind::kInvalidParameter) << text;
            EXPECT_FALSE(error.hint.empty()) << text;
        }
    }
}

TEST(ParseTimestamp, RefusesATimeWithoutAZone) {
    try {
        parse_timestamp("2026-01-31T12:00:00");
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.kind, ErrorKind::kInvalidParameter);
        EXPECT_NE(error.message.find("has no time zone"), std::string::npos) << error.message;
    }
}

TEST(CheckEventTime, TellsHowFarAheadIsTaken) {
    constexpr std::int64_t now = 1'769'903'999'000'000;
    for (const auto& [lead, told] : {std::pair{86'400, "at most 1 day ahead"},
                                     {7 * 86'400, "at most 7 days ahead"},
                                     {7'200, "at most 2 hours ahead"},
                                     {60, "at most 1 minute ahead"},
                                     {90, "at most 90 seconds ahead"},
                                     {1, "at most 1 second ahead"},
                                     {0, "at most 0 seconds ahead"}}) {
        check_event_time(now + lead * 1'000'000LL, now, lead);
        try {
            check_event_time(now + lead * 1'000'000LL + 1, now, lead);
            ADD_FAILURE() << told;
        } catch (const Error& error) {
            EXPECT_EQ(error.kind, ErrorKind::kInvalidParameter);
            EXPECT_NE(error.detail.find(told), std::string::npos) << error.detail;
        }
    }
}

}  // namespace
}  // namespace meter
