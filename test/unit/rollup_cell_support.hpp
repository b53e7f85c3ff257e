// What the tests of rollup cells share: random events, and what they add up to by arithmetic of
// another library, OpenSSL's integers, in units of 10^-18.
#pragma once

#include <gtest/gtest.h>
#include <openssl/bn.h>

#include <algorithm>
#include <cstdlib>
#include <memory_resource>
#include <random>
#include <string>
#include <vector>

#include "core/rollup_cell.hpp"

namespace meter {

inline constexpr std::int64_t kHour = INT64_C(3600) * 1'000'000;
inline constexpr std::int64_t kDay = 24 * kHour;
inline constexpr std::int64_t kToday = INT64_C(20'500) * kDay;
inline constexpr std::size_t kPlaces = 18;

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

inline std::string text_of(const NumberView& number) {
    if (number.kind != NumberKind::kFinite)
        return "not finite";
    std::pmr::string out;
    append_text(out, number);
    return std::string(out);
}

inline std::string text_of(const ExactSum& sum) {
    DigitBuffer digits;
    return text_of(sum.total(digits));
}

// All of a cell, as text.
inline std::string text_of(const RollupCell& cell) {
    if (cell.empty())
        return cell.dirty ? "empty, dirty" : "empty";
    return "count " + std::to_string(cell.event_count) + " sum " + text_of(cell.value_sum) +
           " min " + text_of(cell.value_min.view()) + " max " + text_of(cell.value_max.view()) +
           " last " + text_of(cell.last_value.view()) + " at " + std::to_string(cell.last_time) +
           "/" + std::to_string(cell.last_id) + " first " + std::to_string(cell.first_time) +
           " time " + text_of(cell.value_time) + (cell.dirty ? " dirty" : "");
}

inline std::string text_of(const HourCells& hours) {
    std::string out;
    for (const HourCell& hour : hours)
        out += std::to_string(hour.hour) + ": " + text_of(*hour.cell) + "\n";
    return out;
}

struct Event {
    std::string value;
    std::int64_t time;
    std::int64_t id;
};

// What text_of() has to say of a cell of these events.
inline std::string expected(const std::vector<Event>& events, std::int64_t origin) {
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

inline RollupCell cell_of(const std::vector<Event>& events, std::int64_t origin,
                          std::pmr::memory_resource* resource) {
    RollupCell cell;
    for (const Event& event : events)
        cell.add_event(Number(event.value).view(), event.time, event.id, origin, resource);
    return cell;
}

inline HourCells hours_of(const std::vector<Event>& events, std::pmr::memory_resource* resource) {
    HourCells hours(resource);
    for (const Event& event : events) {
        const auto hour = static_cast<int>((event.time - kToday) / kHour);
        hour_cell(hours, hour)
            .add_event(Number(event.value).view(), event.time, event.id, kToday + hour * kHour,
                       resource);
    }
    return hours;
}

}  // namespace meter
