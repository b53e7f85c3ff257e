// The packed hours of a day: round trips, equal bytes of equal cells, and damage of every kind.
#include <gtest/gtest.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.hpp"
#include "core/rollup_cell.hpp"
#include "rollup_cell_support.hpp"

namespace meter {
namespace {

TEST(PackedHours, RoundTrip) {
    Random random(4);
    Counted resource;
    for (int round = 0; round < 400; ++round) {
        auto events =
            random.events(1 + random.below(40), kToday, round % 2 == 0 ? kDay : 3 * kHour);
        HourCells hours = hours_of(events, &resource);
        for (HourCell& hour : hours) {
            hour.cell->dirty = random.below(4) == 0;
            if (random.below(6) == 0)
                hour.cell->event_count -= static_cast<std::int64_t>(random.below(10));
            if (random.below(6) == 0)
                hour.cell->value_sum.add(Number(random.value(2)).view(), &resource);
        }
        {
            const std::pmr::string bytes = encode_hours(hours, kToday, &resource);
            HourCells again = decode_hours(bytes, kToday, &resource);
            ASSERT_EQ(text_of(again), text_of(hours)) << "round " << round;
            EXPECT_EQ(encode_hours(again, kToday, &resource), bytes);
            release(again);
        }
        release(hours);
    }
}

// Equal cells have equal bytes, in whatever order the events came.
TEST(PackedHours, AreTheSameInAnyOrder) {
    Random random(5);
    Counted resource;
    for (int round = 0; round < 100; ++round) {
        auto events = random.events(1 + random.below(40), kToday, kDay);
        std::string bytes;
        for (int i = 0; i < 3; ++i) {
            std::shuffle(events.begin(), events.end(), random.engine());
            HourCells hours = hours_of(events, &resource);
            // What was added and taken away again leaves no trace.
            ExactSum& sum = hours[0].cell->value_sum;
            if (i == 1)
                for (const char* text : {"1000000000000000000000000", "-1000000000000000000000000"})
                    sum.add(Number(text).view(), &resource);
            const std::string packed(encode_hours(hours, kToday, &resource));
            if (i > 0) {
                EXPECT_EQ(packed, bytes);
            }
            bytes = packed;
            release(hours);
        }
    }
}

// On disk: these bytes were put together by hand from the description of the format, and may never
// change.
TEST(PackedHours, AreWhatTheyAlwaysWere) {
    using namespace std::string_literals;
    Counted resource;
    const std::string bytes =
        "\x01"                  // version
        "\x02\x01"              // hour 2, one event
        "\xE8\x07"              // 1000 microseconds into it
        "\x80\x01"              // id 64
        "\x04\xFA\x01\x88\x27"  // 250.5: weight 0, two digits, 250 and 5000
        "\x17\x02"              // hour 23, dirty
        "\x04\x05\x03\x07"      // two events, the first 5 into it, the last 3 later, with id -4
        "\x25\x01\xA9\x12"      // -12345: weight 1, two digits, negative, 1 and 2345
        "\x23\x02"              // -20000
        "\x02\xE7\x3B"          // 7655
        "\x02\xE7\x3B"          // 7655 again, the last
        "\x25\x03\xB8\x44"s;    // -20000 x 5 + 7655 x 8 = -38760
    HourCells hours = hours_of({{"250.5", kToday + 2 * kHour + 1000, 64},
                                {"-20000", kToday + 23 * kHour + 5, 3},
                                {"7655", kToday + 23 * kHour + 8, -4}},
                               &resource);
    hour_cell(hours, 23).dirty = true;
    EXPECT_EQ(std::string_view(encode_hours(hours, kToday, &resource)), bytes);
    HourCells again = decode_hours(bytes, kToday, &resource);
    EXPECT_EQ(text_of(again), text_of(hours));
    release(again);
    release(hours);
}

TEST(PackedHours, AnHourOfOneEventIsShort) {
    Counted resource;
    for (const char* value : {"1", "250", "9999", "0.015", "-3", "1234567"}) {
        HourCells hours =
            hours_of({{value, kToday + 24 * kHour - 1, INT64_C(1'000'000'000)}}, &resource);
        EXPECT_LE(encode_hours(hours, kToday, &resource).size(), 20u) << value;
        release(hours);
    }
}

TEST(PackedHours, EmptyCellsAreLeftOut) {
    Counted resource;
    HourCells hours = hours_of({{"1", kToday + 5 * kHour, 1}}, &resource);
    const auto bytes = encode_hours(hours, kToday, &resource);
    hour_cell(hours, 7);
    EXPECT_EQ(encode_hours(hours, kToday, &resource), bytes);
    EXPECT_TRUE(decode_hours("\1", kToday, &resource).empty());
    release(hours);
}

TEST(PackedHours, RefusesToWriteWhatItCouldNotRead) {
    Counted resource;
    HourCells hours(&resource);
    hour_cell(hours, 5).add_event(Number("1").view(), kToday, 1, kToday, &resource);
    EXPECT_THROW(encode_hours(hours, kToday, &resource), std::logic_error);
    release(hours);
    hour_cell(hours, 5).add_event({.kind = NumberKind::kNaN}, kToday + 5 * kHour, 1, kToday,
                                  &resource);
    EXPECT_THROW(encode_hours(hours, kToday, &resource), Error);
    release(hours);
}

// What decode_hours() makes of bytes: false where it throws Error kCorrupt. What it takes must be
// what encode_hours() writes, to the byte.
bool takes(std::string_view bytes) {
    Counted resource;
    try {
        HourCells hours = decode_hours(bytes, kToday, &resource);
        EXPECT_EQ(std::string_view(encode_hours(hours, kToday, &resource)), bytes);
        release(hours);
        return true;
    } catch (const Error& error) {
        EXPECT_EQ(error.kind, ErrorKind::kCorrupt) << error.message;
        EXPECT_LT(resource.most(), 32'768 + 64 * bytes.size());
        return false;
    }
}

TEST(PackedHours, DamageIsRefusedOrReadAsSomethingElse) {
    Random random(6);
    Counted resource;
    for (int round = 0; round < 60; ++round) {
        const auto events = random.events(1 + random.below(12), kToday, 4 * kHour);
        HourCells hours = hours_of(events, &resource);
        const auto packed = encode_hours(hours, kToday, &resource);
        const std::string bytes(packed);
        ASSERT_TRUE(takes(bytes));
        // Cut short it is refused, but between two hours.
        std::vector<std::size_t> ends = {1};
        for (std::size_t n = 1; n <= hours.size(); ++n) {
            const HourCells front(hours.begin(), hours.begin() + static_cast<std::ptrdiff_t>(n),
                                  &resource);
            ends.push_back(encode_hours(front, kToday, &resource).size());
        }
        for (std::size_t cut = 0; cut < bytes.size(); ++cut)
            EXPECT_EQ(takes(std::string_view(bytes).substr(0, cut)),
                      std::find(ends.begin(), ends.end(), cut) != ends.end());
        EXPECT_FALSE(takes(bytes + '\0'));
        for (std::size_t i = 0; i < bytes.size(); ++i)
            for (int bit = 0; bit < 8; ++bit) {
                std::string other = bytes;
                other[i] = static_cast<char>(other[i] ^ 1 << bit);
                takes(other);
            }
        for (int i = 0; i < 50; ++i) {
            std::string other = bytes;
            for (std::uint64_t n = 1 + random.below(6); n > 0; --n)
                other[random.below(other.size())] = static_cast<char>(random.below(256));
            takes(other);
        }
        release(hours);
    }
}

TEST(PackedHours, EachCheckRefuses) {
    using namespace std::string_literals;
    const std::string good = "\x01\x02\x01\x05\x02\x02\x07"s;
    ASSERT_TRUE(takes(good));
    EXPECT_TRUE(takes("\x01\x02\x01\xFF\xC7\xCE\xB4\x0D\x02\x02\x07"s));  // at the last moment
    EXPECT_TRUE(takes("\x01\x02\x01\x00\x02\xE2\x81\x40\x8F\x4E"s));      // the highest weight
    // One event that is no single one, for its value_time is another.
    EXPECT_TRUE(takes("\x01\x02\x00\x02\x05\x00\x02\x02\x07\x02\x07\x02\x07\x02\x07\x02\x24"s));
    const std::string head = good.substr(0, 5);  // until the sum
    for (
        const std::string& bytes : {
            ""s,
            "\x00\x02\x01\x05\x02\x02\x07"s,                  // version 0
            "\x02\x02\x01\x05\x02\x02\x07"s,                  // version 2
            "\x01\x18\x01\x05\x02\x02\x07"s,                  // hour 24
            good + good.substr(1),                            // the same hour again
            good + "\x01\x01\x05\x02\x02\x07"s,               // an earlier one
            good + "\x03"s,                                   // an hour without anything
            "\x01\x02\x05\x05\x02\x02\x07"s,                  // a flag that is not known
            "\x01\x02\x01\x80\xC8\xCE\xB4\x0D\x02\x02\x07"s,  // at the hour's end
            // the first event within the hour, the last at its end
            "\x01\x02\x00\x02\x05\xFB\xC7\xCE\xB4\x0D\x02\x02\x07\x02\x07\x02\x07\x02\x07\x02\x24"s,
            "\x01\x02\x01\x85\x00\x02\x02\x07"s,                                  // in more bytes
            "\x01\x02\x01\x05\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x02\x02\x07"s,  // 65 bits
            "\x01\x02\x01\x05\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x81\x02\x07"s,  // goes on
            head + "\x02\x90\x4E"s,                                  // a digit of 10000
            head + "\x01"s,                                          // minus zero
            head + "\x10"s,                                          // zero with a weight
            head + "\x04\x00\x01"s,                                  // a zero digit in front
            head + "\x04\x01\x00"s,                                  // and at the end
            head + "\x82\x82\x40\x07"s,                              // a weight too high
            head + "\x0E\xFF\xFF\xFF\xFF\x0F\x01"s,                  // 2^32 digits
            head + "\x0E\xF9\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01"s,  // the count wraps
            // A last value with a digit below the lowest weight.
            "\x01\x02\x00\x04\x05\x00\x02\x02\x07\x02\x07\x02\x07\xF4\xFF\x07\x01\x01\x02\x23"s,
            // The sum fits, its product with the time does not.
            head + "\xE2\x81\x40\x8F\x4E"s,
            // One event, written as many.
            "\x01\x02\x00\x02\x05\x00\x02\x02\x07\x02\x07\x02\x07\x02\x07\x02\x23"s,
        })
        EXPECT_FALSE(takes(bytes)) << ::testing::PrintToString(bytes);
}

}  // namespace
}  // namespace meter
