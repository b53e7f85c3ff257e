// Rollup cells, and the multiplication that they need, against arithmetic by another library.
#include "core/rollup_cell.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "core/error.hpp"
#include "rollup_cell_support.hpp"

namespace meter {
namespace {

TEST(RollupCell, AddsEvents) {
    Random random(1);
    Counted resource;
    for (int round = 0; round < 500; ++round) {
        const std::int64_t length = round % 3 == 0 ? kHour : round % 3 == 1 ? kDay : 31 * kDay;
        const auto events = random.events(1 + random.below(30), kToday, length);
        RollupCell cell = cell_of(events, kToday, &resource);
        ASSERT_EQ(text_of(cell), expected(events, kToday)) << "round " << round;
        cell.release(&resource);
        EXPECT_TRUE(cell.empty());
    }
}

// However events are dealt out to cells of hours, and however those are merged into days and the
// days into a month, the month is what adding up all events makes of it.
TEST(RollupCell, MergesInAnyOrder) {
    Random random(2);
    Counted resource;
    for (int round = 0; round < 300; ++round) {
        const auto events = random.events(1 + random.below(60), kToday, 31 * kDay);
        struct Part {
            std::int64_t origin;
            RollupCell cell;
        };
        std::vector<Part> parts;
        for (const Event& event : events) {
            const std::int64_t grain = random.below(2) == 0 ? kHour : kDay;
            const std::int64_t origin = kToday + (event.time - kToday) / grain * grain;
            auto at = std::find_if(parts.begin(), parts.end(), [&](const Part& part) {
                return part.origin == origin && random.below(3) > 0;
            });
            if (at == parts.end())
                at = parts.insert(at, {origin, {}});
            at->cell.add_event(Number(event.value).view(), event.time, event.id, origin, &resource);
        }
        parts.push_back({kToday + kDay, {}});  // an empty one changes nothing
        while (parts.size() > 1) {
            std::shuffle(parts.begin(), parts.end(), random.engine());
            Part from = parts.back();
            parts.pop_back();
            parts[0].cell.merge(from.cell, from.origin - parts[0].origin, &resource);
            from.cell.release(&resource);
        }
        RollupCell month;
        month.merge(parts[0].cell, parts[0].origin - kToday, &resource);
        ASSERT_EQ(text_of(month), expected(events, kToday)) << "round " << round;
        parts[0].cell.release(&resource);
        month.release(&resource);
    }
}

TEST(RollupCell, LastIsByTimeThenId) {
    Counted resource;
    RollupCell cell =
        cell_of({{"1", 10, 5}, {"2", 10, 7}, {"3", 10, 6}, {"4", 9, 8}}, 0, &resource);
    EXPECT_EQ(text_of(cell.last_value.view()), "2");
    RollupCell other = cell_of({{"5", 10, 6}}, 0, &resource);
    cell.merge(other, 0, &resource);
    EXPECT_EQ(text_of(cell.last_value.view()), "2");
    other = cell_of({{"6", 10, 8}}, 0, &resource);
    cell.merge(other, 0, &resource);
    EXPECT_EQ(text_of(cell.last_value.view()), "6");
    EXPECT_EQ(cell.first_time, 9);
}

// A correction takes events away again: by counts and sums below zero, and marked dirty.
TEST(RollupCell, MergesCorrections) {
    Random random(3);
    Counted resource;
    for (int round = 0; round < 200; ++round) {
        auto events = random.events(2 + random.below(20), kToday, kDay);
        RollupCell cell = cell_of(events, kToday, &resource);
        const std::size_t keep = random.below(events.size() + 1);
        const std::vector<Event> gone(events.begin() + static_cast<std::ptrdiff_t>(keep),
                                      events.end());
        events.resize(keep);
        if (!gone.empty()) {
            RollupCell removed = cell_of(gone, kToday, &resource);
            RollupCell correction;
            DigitBuffer digits;
            DigitBuffer product;
            correction.event_count = -removed.event_count;
            correction.value_sum.add(multiply(removed.value_sum.total(digits), -1, product),
                                     &resource);
            correction.value_time.add(multiply(removed.value_time.total(digits), -1, product),
                                      &resource);
            correction.value_min = removed.value_min;
            correction.value_max = removed.value_max;
            correction.last_value = removed.last_value;
            correction.first_time = removed.first_time;
            correction.last_time = removed.last_time;
            correction.last_id = removed.last_id;
            correction.dirty = true;
            cell.merge(correction, 0, &resource);
            correction.value_sum.release(&resource);
            correction.value_time.release(&resource);
            removed.release(&resource);
        }
        Big sum;
        Big time;
        for (const Event& event : events) {
            sum += Big(event.value);
            time += Big(event.value) * (event.time - kToday);
        }
        EXPECT_EQ(cell.event_count, static_cast<std::int64_t>(keep));
        EXPECT_EQ(text_of(cell.value_sum), sum.text());
        EXPECT_EQ(text_of(cell.value_time), time.text());
        EXPECT_EQ(cell.dirty, !gone.empty());
        EXPECT_FALSE(cell.empty());
        cell.release(&resource);
    }
}

// Far beyond the months that cells are about, where the two integers of a sum do not suffice.
TEST(RollupCell, TakesDistantOrigins) {
    Random random(8);
    Counted resource;
    for (int round = 0; round < 300; ++round) {
        const auto events = random.events(1 + random.below(5), kToday, 31 * kDay);
        const std::int64_t days = 3000 - static_cast<std::int64_t>(random.below(6000));
        RollupCell cell = cell_of(events, kToday + days * kDay, &resource);
        ASSERT_EQ(text_of(cell), expected(events, kToday + days * kDay)) << "round " << round;
        RollupCell moved;
        moved.merge(cell, days * kDay, &resource);
        ASSERT_EQ(text_of(moved), expected(events, kToday)) << "round " << round;
        cell.release(&resource);
        moved.release(&resource);
    }
}

TEST(RollupCell, KeepsWhatIsNotFinite) {
    Counted resource;
    RollupCell one = cell_of({{"1", 10, 1}}, 0, &resource);
    RollupCell infinite;
    infinite.add_event({.kind = NumberKind::kInfinity}, 10, 2, 0, &resource);
    one.merge(infinite, -20, &resource);
    DigitBuffer digits;
    EXPECT_EQ(one.value_sum.total(digits).kind, NumberKind::kInfinity);
    EXPECT_EQ(one.value_time.total(digits).kind, NumberKind::kNaN);  // 10 and -20 times infinity
    one.release(&resource);
    infinite.release(&resource);
}

TEST(RollupCell, DirtStays) {
    Counted resource;
    RollupCell clean = cell_of({{"1", 10, 1}}, 0, &resource);
    RollupCell dirty = cell_of({{"2", 10, 2}}, 0, &resource);
    dirty.dirty = true;
    RollupCell one;
    one.merge(dirty, 0, &resource);
    one.merge(clean, 0, &resource);
    EXPECT_TRUE(one.dirty);
    RollupCell other;
    other.merge(clean, 0, &resource);
    EXPECT_FALSE(other.dirty);
    other.merge(dirty, 0, &resource);
    EXPECT_TRUE(other.dirty);
}

TEST(RollupCell, CountPastTheIntegersIsRefused) {
    Counted resource;
    RollupCell cell = cell_of({{"1", 10, 1}}, 0, &resource);
    cell.event_count = std::numeric_limits<std::int64_t>::max();
    EXPECT_THROW(cell.add_event(Number("1").view(), 10, 2, 0, &resource), Error);
    const RollupCell one = cell_of({{"1", 10, 1}}, 0, &resource);
    EXPECT_THROW(cell.merge(one, 0, &resource), Error);
}

TEST(RollupCell, HoursComeInOrder) {
    Counted resource;
    HourCells hours(&resource);
    for (const int hour : {5, 3, 23, 0, 5, 4, 23})
        ++hour_cell(hours, hour).event_count;
    std::string order;
    for (const HourCell& hour : hours)
        order += std::to_string(hour.hour) + "x" + std::to_string(hour.cell->event_count) + " ";
    EXPECT_EQ(order, "0x1 3x1 4x1 5x2 23x2 ");
    release(hours);
}

std::string product(const std::string& a, std::int64_t b) {
    DigitBuffer digits;
    return text_of(multiply(Number(a).view(), b, digits));
}

TEST(Multiply, AgainstIntegers) {
    Random random(7);
    for (int round = 0; round < 5000; ++round) {
        const std::string a = random.value(random.below(3));
        auto b = static_cast<std::int64_t>(random.engine()()) >> random.below(64);
        if (random.below(20) == 0)
            b = b / 10000 * 10000;
        ASSERT_EQ(product(a, b), (Big(a) * b).text()) << a << " x " << b;
    }
}

TEST(Multiply, Extremes) {
    const std::string most = std::string(30, '9') + "." + std::string(18, '9');
    for (const std::int64_t b :
         {std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::max(),
          INT64_C(-1), INT64_C(0), INT64_C(1), INT64_C(9999), INT64_C(10000), 31 * kDay})
        for (const std::string& a :
             {most, "-" + most, "1" + std::string(30, '0'), "0." + std::string(17, '0') + "1",
              std::string("0"), std::string("-0.5")})
            EXPECT_EQ(product(a, b), (Big(a) * b).text()) << a << " x " << b;
    DigitBuffer digits;
    EXPECT_EQ(multiply(Number("5").view(), 0, digits).count, 0u);
    EXPECT_FALSE(multiply(Number("-5").view(), 0, digits).negative);
    EXPECT_EQ(multiply({.kind = NumberKind::kNaN}, 2, digits).kind, NumberKind::kNaN);
    EXPECT_EQ(multiply({.kind = NumberKind::kInfinity}, -2, digits).kind,
              NumberKind::kMinusInfinity);
    EXPECT_EQ(multiply({.kind = NumberKind::kMinusInfinity}, -2, digits).kind,
              NumberKind::kInfinity);
    EXPECT_EQ(multiply({.kind = NumberKind::kInfinity}, 0, digits).kind, NumberKind::kNaN);
    const std::int16_t one = 1;
    EXPECT_THROW(multiply({.weight = kMaxWeight, .count = 1, .digits = &one}, 10000, digits),
                 Error);
}

}  // namespace
}  // namespace meter
