// Rollup cells against arithmetic by another library: OpenSSL's integers, in units of 10^-18.
#include "core/rollup_cell.hpp"

#include <gtest/gtest.h>
#include <openssl/bn.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <memory_resource>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.hpp"

namespace meter {
namespace {

constexpr std::int64_t kHour = INT64_C(3600) * 1'000'000;
constexpr std::int64_t kDay = 24 * kHour;
constexpr std::int64_t kToday = INT64_C(20'500) * kDay;
constexpr std::size_t kPlaces = 18;

// Counts what is out, so that a test can see a leak or an allocation out of all proportion.
class Counted : public std::pmr::memory_resource {
  public:
    ~Counted() override { EXPECT_EQ(out_, 0u) << "bytes were not given back"; }
    std::size_t most() const { return most_; }

  private:
    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        out_ += bytes;
        most_ = std::max(most_, out_);
        return std::pmr::new_delete_resource()->allocate(bytes, alignment);
    }
    void do_deallocate(void* at, std::size_t bytes, std::size_t alignment) override {
        out_ -= bytes;
        std::pmr::new_delete_resource()->deallocate(at, bytes, alignment);
    }
    bool do_is_equal(const memory_resource& other) const noexcept override {
        return this == &other;
    }

    std::size_t out_ = 0;
    std::size_t most_ = 0;
};

// A whole number of 10^-18ths.
class Big {
  public:
    Big() : bn_(BN_new()) {}
    // From plain decimal text with at most 18 decimals.
    explicit Big(std::string text) : Big() {
        const std::size_t point = std::min(text.find('.'), text.size());
        const std::size_t places = point < text.size() ? text.size() - point - 1 : 0;
        text.erase(point, 1);
        text.append(kPlaces - places, '0');
        if (BN_dec2bn(&bn_, text.c_str()) != static_cast<int>(text.size()))
            std::abort();
    }
    Big(const Big& other) : bn_(BN_dup(other.bn_)) {}
    Big& operator=(const Big& other) {
        BN_copy(bn_, other.bn_);
        return *this;
    }
    ~Big() { BN_free(bn_); }

    Big& operator+=(const Big& other) {
        BN_add(bn_, bn_, other.bn_);
        return *this;
    }
    Big operator*(std::int64_t factor) const {
        Big product;
        BIGNUM* other = nullptr;
        BN_dec2bn(&other, std::to_string(factor).c_str());
        BN_CTX* context = BN_CTX_new();
        BN_mul(product.bn_, bn_, other, context);
        BN_CTX_free(context);
        BN_free(other);
        return product;
    }
    bool operator<(const Big& other) const { return BN_cmp(bn_, other.bn_) < 0; }
    // As append_text() writes it.
    std::string text() const {
        char* decimal = BN_bn2dec(bn_);
        std::string out = decimal;
        OPENSSL_free(decimal);
        const bool negative = out[0] == '-';
        out.erase(0, negative ? 1 : 0);
        if (out.size() <= kPlaces)
            out.insert(0, kPlaces + 1 - out.size(), '0');
        out.insert(out.size() - kPlaces, ".");
        out.erase(out.find_last_not_of('0') + 1);
        if (out.back() == '.')
            out.pop_back();
        return (negative ? "-" : "") + out;
    }

  private:
    BIGNUM* bn_;
};

// A number with its digits, from plain decimal text.
class Number {
  public:
    explicit Number(std::string text) {
        view_.negative = text[0] == '-';
        text.erase(0, view_.negative ? 1 : 0);
        const std::size_t point = std::min(text.find('.'), text.size());
        std::string whole = text.substr(0, point);
        std::string fraction = point < text.size() ? text.substr(point + 1) : "";
        whole.insert(0, (4 - whole.size() % 4) % 4, '0');
        fraction.append((4 - fraction.size() % 4) % 4, '0');
        const std::string all = whole + fraction;
        for (std::size_t i = 0; i < all.size(); i += 4)
            digits_.push_back(static_cast<std::int16_t>(std::stoi(all.substr(i, 4))));
        view_.weight = static_cast<std::int32_t>(whole.size() / 4) - 1;
        view_.count = static_cast<std::uint32_t>(digits_.size());
    }
    NumberView view() const {
        NumberView number = view_;
        number.digits = digits_.data();
        return normalise(number);
    }

  private:
    std::vector<std::int16_t> digits_;
    NumberView view_;
};

std::string text_of(const NumberView& number) {
    if (number.kind != NumberKind::kFinite)
        return "not finite";
    std::pmr::string out;
    append_text(out, number);
    return std::string(out);
}

std::string text_of(const ExactSum& sum) {
    DigitBuffer digits;
    return text_of(sum.total(digits));
}

// All of a cell, as text.
std::string text_of(const RollupCell& cell) {
    if (cell.empty())
        return cell.dirty ? "empty, dirty" : "empty";
    return "count " + std::to_string(cell.event_count) + " sum " + text_of(cell.value_sum) +
           " min " + text_of(cell.value_min.view()) + " max " + text_of(cell.value_max.view()) +
           " last " + text_of(cell.last_value.view()) + " at " + std::to_string(cell.last_time) +
           "/" + std::to_string(cell.last_id) + " first " + std::to_string(cell.first_time) +
           " time " + text_of(cell.value_time) + (cell.dirty ? " dirty" : "");
}

std::string text_of(const HourCells& hours) {
    std::string out;
    for (const HourCell& hour : hours)
        out += std::to_string(hour.hour) + ": " + text_of(hour.cell) + "\n";
    return out;
}

struct Event {
    std::string value;
    std::int64_t time;
    std::int64_t id;
};

// What text_of() has to say of a cell of these events.
std::string expected(const std::vector<Event>& events, std::int64_t origin) {
    Big sum;
    Big time;
    const auto less = [](const Event& a, const Event& b) { return Big(a.value) < Big(b.value); };
    const auto earlier = [](const Event& a, const Event& b) {
        return a.time != b.time ? a.time < b.time : a.id < b.id;
    };
    for (const Event& event : events) {
        sum += Big(event.value);
        time += Big(event.value) * (event.time - origin);
    }
    const auto min = std::min_element(events.begin(), events.end(), less);
    const auto max = std::max_element(events.begin(), events.end(), less);
    const auto first = std::min_element(events.begin(), events.end(), earlier);
    const auto last = std::max_element(events.begin(), events.end(), earlier);
    return "count " + std::to_string(events.size()) + " sum " + sum.text() + " min " +
           Big(min->value).text() + " max " + Big(max->value).text() + " last " +
           Big(last->value).text() + " at " + std::to_string(last->time) + "/" +
           std::to_string(last->id) + " first " + std::to_string(first->time) + " time " +
           time.text();
}

class Random {
  public:
    explicit Random(std::uint64_t seed) : engine_(seed) {}
    std::uint64_t below(std::uint64_t end) { return engine_() % end; }
    std::mt19937_64& engine() { return engine_; }

    // A value that an event can have: kind 0 small whole ones, 1 prices, 2 anything.
    std::string value(std::uint64_t kind) {
        std::string text = below(4) == 0 ? "-" : "";
        if (kind == 0)
            return below(8) == 0 ? "0" : text + std::to_string(1 + below(9999));
        text += static_cast<char>('1' + below(9));
        for (std::uint64_t i = below(kind == 1 ? 6 : 30); i > 0; --i)
            text += static_cast<char>('0' + (below(3) == 0 ? 9 * below(2) : below(10)));
        if (below(3) > 0) {
            text += '.';
            for (std::uint64_t i = 1 + below(kind == 1 ? 6 : 18); i > 0; --i)
                text += static_cast<char>('0' + (below(3) == 0 ? 9 * below(2) : below(10)));
        }
        return text;
    }
    // Events of a span of time, some of them at one instant, some with one value.
    std::vector<Event> events(std::size_t count, std::int64_t start, std::int64_t length) {
        const std::uint64_t kind = below(3);
        std::vector<Event> out;
        for (std::size_t i = 0; i < count; ++i) {
            std::int64_t time =
                start + static_cast<std::int64_t>(below(static_cast<std::uint64_t>(length)));
            if (i > 0 && below(4) == 0)
                time = out.back().time;
            if (below(20) == 0)
                time = start + (below(2) == 0 ? 0 : length - 1);
            const std::string same = i > 0 && below(6) == 0 ? out.back().value : "";
            out.push_back({same.empty() ? value(below(10) == 0 ? 2 : kind) : same, time,
                           static_cast<std::int64_t>(i * 7 + below(7))});
        }
        std::shuffle(out.begin(), out.end(), engine_);
        return out;
    }

  private:
    std::mt19937_64 engine_;
};

RollupCell cell_of(const std::vector<Event>& events, std::int64_t origin,
                   std::pmr::memory_resource* resource) {
    RollupCell cell;
    for (const Event& event : events)
        cell.add_event(Number(event.value).view(), event.time, event.id, origin, resource);
    return cell;
}

void release(HourCells& hours, std::pmr::memory_resource* resource) {
    for (HourCell& hour : hours)
        hour.cell.release(resource);
}

HourCells hours_of(const std::vector<Event>& events, std::pmr::memory_resource* resource) {
    HourCells hours(resource);
    for (const Event& event : events) {
        const auto hour = static_cast<int>((event.time - kToday) / kHour);
        hour_cell(hours, hour)
            .add_event(Number(event.value).view(), event.time, event.id, kToday + hour * kHour,
                       resource);
    }
    return hours;
}

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
        order += std::to_string(hour.hour) + "x" + std::to_string(hour.cell.event_count) + " ";
    EXPECT_EQ(order, "0x1 3x1 4x1 5x2 23x2 ");
}

TEST(PackedHours, RoundTrip) {
    Random random(4);
    Counted resource;
    for (int round = 0; round < 400; ++round) {
        auto events =
            random.events(1 + random.below(40), kToday, round % 2 == 0 ? kDay : 3 * kHour);
        HourCells hours = hours_of(events, &resource);
        for (HourCell& hour : hours) {
            hour.cell.dirty = random.below(4) == 0;
            if (random.below(6) == 0)
                hour.cell.event_count -= static_cast<std::int64_t>(random.below(10));
            if (random.below(6) == 0)
                hour.cell.value_sum.add(Number(random.value(2)).view(), &resource);
        }
        {
            const std::pmr::string bytes = encode_hours(hours, kToday, &resource);
            HourCells again = decode_hours(bytes, kToday, &resource);
            ASSERT_EQ(text_of(again), text_of(hours)) << "round " << round;
            EXPECT_EQ(encode_hours(again, kToday, &resource), bytes);
            release(again, &resource);
        }
        release(hours, &resource);
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
            ExactSum& sum = hours[0].cell.value_sum;
            if (i == 1)
                for (const char* text : {"1000000000000000000000000", "-1000000000000000000000000"})
                    sum.add(Number(text).view(), &resource);
            const std::string packed(encode_hours(hours, kToday, &resource));
            if (i > 0) {
                EXPECT_EQ(packed, bytes);
            }
            bytes = packed;
            release(hours, &resource);
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
    EXPECT_EQ(text_of(decode_hours(bytes, kToday, &resource)), text_of(hours));
}

TEST(PackedHours, AnHourOfOneEventIsShort) {
    Counted resource;
    for (const char* value : {"1", "250", "9999", "0.015", "-3", "1234567"}) {
        HourCells hours =
            hours_of({{value, kToday + 24 * kHour - 1, INT64_C(1'000'000'000)}}, &resource);
        EXPECT_LE(encode_hours(hours, kToday, &resource).size(), 20u) << value;
    }
}

TEST(PackedHours, EmptyCellsAreLeftOut) {
    Counted resource;
    HourCells hours = hours_of({{"1", kToday + 5 * kHour, 1}}, &resource);
    const auto bytes = encode_hours(hours, kToday, &resource);
    hour_cell(hours, 7);
    EXPECT_EQ(encode_hours(hours, kToday, &resource), bytes);
    EXPECT_TRUE(decode_hours("\1", kToday, &resource).empty());
}

TEST(PackedHours, RefusesToWriteWhatItCouldNotRead) {
    Counted resource;
    HourCells hours(&resource);
    hour_cell(hours, 5).add_event(Number("1").view(), kToday, 1, kToday, &resource);
    EXPECT_THROW(encode_hours(hours, kToday, &resource), std::logic_error);
    hours.clear();
    hour_cell(hours, 5).add_event({.kind = NumberKind::kNaN}, kToday + 5 * kHour, 1, kToday,
                                  &resource);
    EXPECT_THROW(encode_hours(hours, kToday, &resource), Error);
}

// What decode_hours() makes of bytes: false where it throws Error kCorrupt. What it takes must be
// what encode_hours() writes, to the byte.
bool takes(std::string_view bytes) {
    Counted resource;
    try {
        HourCells hours = decode_hours(bytes, kToday, &resource);
        EXPECT_EQ(std::string_view(encode_hours(hours, kToday, &resource)), bytes);
        release(hours, &resource);
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
        release(hours, &resource);
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
