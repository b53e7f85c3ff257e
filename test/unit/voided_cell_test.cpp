// Taking voided events back from cells: counts and sums are exact, and a cell that does not say
// that it is dirty still knows minimum, maximum, first and last.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory_resource>
#include <random>
#include <string>
#include <vector>

#include "core/calendar.hpp"
#include "core/cell_table.hpp"
#include "core/digest_sum.hpp"

namespace meter {
namespace {

constexpr std::int64_t kDay = INT64_C(20'000) * kDayMicros;

struct Event {
    std::int16_t value;
    std::int64_t time;
    std::int64_t id;
    bool voided;
};

NumberView number(const std::int16_t& digit) {
    return digit == 0 ? NumberView{} : NumberView{.count = 1, .digits = &digit};
}

DigestSum digest_of(const Event& event) {
    return DigestSum::of(event_digest(event.id, event.time, number(event.value), {}));
}

RollupCell event_cell(const Event& event, std::pmr::memory_resource* resource) {
    RollupCell cell;
    cell.add_event(number(event.value), event.time, event.id, hour_start(event.time), resource);
    cell.digest = digest_of(event);
    return cell;
}

RollupCell void_cell(const Event& event, std::pmr::memory_resource* resource) {
    RollupCell cell;
    cell.void_event(number(event.value), event.time, event.id, hour_start(event.time), resource);
    cell.digest = digest_of(event).negated();
    return cell;
}

// What a cell must be, by the events that are left.
void expect_like(const RollupCell& cell, const std::vector<Event>& events, int hour,
                 const char* what) {
    std::pmr::monotonic_buffer_resource resource;
    RollupCell wanted;
    for (const Event& event : events)
        if (!event.voided && (hour < 0 || (event.time - kDay) / kHourMicros == hour)) {
            wanted.add_event(number(event.value), event.time, event.id,
                             hour < 0 ? kDay : hour_start(event.time), &resource);
            wanted.digest.add(digest_of(event));
        }
    DigitBuffer one;
    DigitBuffer other;
    EXPECT_EQ(cell.event_count, wanted.event_count) << what;
    EXPECT_EQ(compare(cell.value_sum.total(one), wanted.value_sum.total(other)), 0) << what;
    EXPECT_EQ(compare(cell.value_time.total(one), wanted.value_time.total(other)), 0) << what;
    EXPECT_TRUE(hour >= 0 || cell.digest == wanted.digest) << what;
    if (cell.dirty)
        return;
    ASSERT_FALSE(wanted.empty()) << what << ": nothing is left, and it is not dirty";
    EXPECT_EQ(compare(cell.value_min.view(), wanted.value_min.view()), 0) << what;
    EXPECT_EQ(compare(cell.value_max.view(), wanted.value_max.view()), 0) << what;
    EXPECT_EQ(compare(cell.last_value.view(), wanted.last_value.view()), 0) << what;
    EXPECT_EQ(cell.last_id, wanted.last_id) << what;
    EXPECT_EQ(cell.last_time, wanted.last_time) << what;
    EXPECT_EQ(cell.first_time, wanted.first_time) << what;
}

// Events, some of them voided, folded in two or three steps in any order.
TEST(VoidedCell, IsExactOrDirtyInAnyOrder) {
    std::mt19937 random(4711);
    int clean = 0;
    for (int round = 0; round < 3000; ++round) {
        std::pmr::monotonic_buffer_resource resource;
        std::vector<Event> events;
        const int count = 1 + static_cast<int>(random() % 12);
        const unsigned hours = 1 + random() % 3;
        for (int i = 0; i < count; ++i)
            events.push_back({static_cast<std::int16_t>(random() % 6),
                              kDay + static_cast<std::int64_t>(random() % hours) * kHourMicros +
                                  static_cast<std::int64_t>(random() % 4),
                              i + 1, random() % 3 == 0});
        // A delta is an event, or one that is voided.
        std::vector<std::pair<const Event*, bool>> deltas;
        for (const Event& event : events) {
            deltas.push_back({&event, false});
            if (event.voided)
                deltas.push_back({&event, true});
        }
        std::shuffle(deltas.begin(), deltas.end(), random);
        TableCell stored(&resource);
        const std::size_t steps = 1 + random() % 3;
        for (std::size_t step = 0; step < steps; ++step) {
            RollupTables tables(&resource);
            for (std::size_t i = step; i < deltas.size(); i += steps) {
                const auto& [event, voided] = deltas[i];
                tables
                    .add_hour({1, hour_start(event->time), "ann", {}},
                              voided ? void_cell(*event, &resource) : event_cell(*event, &resource),
                              voided)
                    .dimensions = 1;
            }
            tables.finish();
            for (auto& [key, day] : tables.days.entries()) {
                if (!stored.cell.empty())
                    merge_stored_day(day, kDay, stored.cell, pack_hours(stored, kDay, &resource),
                                     &resource);
                take_back_voided(day, kDay, true, &resource);
                stored.cell = day.cell;
                stored.hours = day.hours;
            }
        }
        expect_like(stored.cell, events, -1, "day");
        for (const HourCell& hour : stored.hours) {
            expect_like(*hour.cell, events, hour.hour, "hour");
            EXPECT_TRUE(stored.cell.dirty || !hour.cell->dirty) << "a day is clean, its hour is not";
        }
        clean += stored.cell.dirty ? 0 : 1;
        if (HasFailure())
            FAIL() << "round " << round;
    }
    EXPECT_GT(clean, 300);
}

TEST(VoidedCell, StrictlyInsideLeavesItClean) {
    std::pmr::monotonic_buffer_resource resource;
    const Event events[] = {{1, kDay, 1, false}, {5, kDay + 1, 2, true}, {9, kDay + 2, 3, false}};
    RollupCell cell;
    for (const Event& event : events)
        cell.merge(event_cell(event, &resource), 0, &resource);
    cell.take_back(void_cell(events[1], &resource), 0, &resource);
    EXPECT_FALSE(cell.dirty);
    EXPECT_EQ(cell.event_count, 2);
    for (const int extreme : {0, 2}) {
        RollupCell other;
        for (const Event& event : events)
            other.merge(event_cell(event, &resource), 0, &resource);
        other.take_back(void_cell(events[extreme], &resource), 0, &resource);
        EXPECT_TRUE(other.dirty) << extreme;
    }
}

TEST(DigestSum, AddsModulo2To128) {
    DigestSum sum{~UINT64_C(0), ~UINT64_C(0)};
    sum.add({0, 1});
    EXPECT_EQ(sum, DigestSum{});
    const Digest digest = event_digest(1, 2, {}, {});
    EXPECT_EQ(DigestSum::of(digest).bytes(), digest);
    for (DigestSum one : {DigestSum{}, DigestSum{1, 0}, DigestSum{0, 1}, DigestSum::of(digest)}) {
        const DigestSum taken = one.negated();
        one.add(taken);
        EXPECT_EQ(one, DigestSum{});
    }
}

// On disk: by Python's hashlib, and never to change.
TEST(EventDigest, IsWhatItWas) {
    const std::int16_t digits[] = {12, 3400};
    const NumberView value{.negative = true, .weight = 0, .count = 2, .digits = digits};
    const Digest digest = event_digest(42, 1'700'000'000'000'000, value, dimensions_digest("{}"));
    std::string hex;
    for (const std::uint8_t byte : digest) {
        hex += "0123456789abcdef"[byte >> 4];
        hex += "0123456789abcdef"[byte & 15];
    }
    EXPECT_EQ(hex, "f2385697a9afc55f14301f197cb286e9");
}

}  // namespace
}  // namespace meter
