// Exact sums, and the numbers they are made of, against arithmetic on decimal text.
#include "core/exact_sum.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory_resource>
#include <random>
#include <string>
#include <vector>

#include "core/base10k.hpp"
#include "core/error.hpp"
#include "core/wire.hpp"

namespace meter {
namespace {

// A number with its digits, from plain decimal text.
struct Number {
    explicit Number(std::string text) {
        if (text == "NaN" || text == "Infinity" || text == "-Infinity") {
            view_.kind = text == "NaN"        ? NumberKind::kNaN
                         : text == "Infinity" ? NumberKind::kInfinity
                                              : NumberKind::kMinusInfinity;
            return;
        }
        view_.negative = text[0] == '-';
        if (view_.negative)
            text.erase(0, 1);
        std::size_t point = std::min(text.find('.'), text.size());
        std::string whole = text.substr(0, point);
        std::string fraction = point < text.size() ? text.substr(point + 1) : "";
        while (whole.size() % 4 != 0)
            whole.insert(0, "0");
        while (fraction.size() % 4 != 0)
            fraction += '0';
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
    switch (number.kind) {
        case NumberKind::kNaN:
            return "NaN";
        case NumberKind::kInfinity:
            return "Infinity";
        case NumberKind::kMinusInfinity:
            return "-Infinity";
        case NumberKind::kFinite:
            break;
    }
    std::pmr::string out;
    append_text(out, number);
    return std::string(out);
}

std::string sum_of(const std::vector<std::string>& numbers) {
    auto* resource = std::pmr::new_delete_resource();
    ExactSum sum;
    for (const auto& number : numbers)
        sum.add(Number(number).view(), resource);
    DigitBuffer digits;
    const std::string out = text_of(sum.total(digits));
    sum.release(resource);
    return out;
}

// The sum of numbers with at most `kPlaces` decimals, by schoolbook addition of digits.
std::string schoolbook(const std::vector<std::string>& numbers) {
    constexpr int kPlaces = 40;
    constexpr int kDigits = 120;
    std::vector<long> total(kDigits, 0);
    for (std::string text : numbers) {
        const long sign = text[0] == '-' ? -1 : 1;
        if (sign < 0)
            text.erase(0, 1);
        const auto point = static_cast<int>(std::min(text.find('.'), text.size()));
        for (int i = 0; i < static_cast<int>(text.size()); ++i)
            if (i != point)
                total[static_cast<std::size_t>(kPlaces + point - 1 - (i > point ? i - 1 : i))] +=
                    sign * (text[static_cast<std::size_t>(i)] - '0');
    }
    const auto carry = [&] {
        for (std::size_t i = 0; i + 1 < kDigits; ++i) {
            const long over = (total[i] >= 0 ? total[i] : total[i] - 9) / 10;
            total[i] -= over * 10;
            total[i + 1] += over;
        }
    };
    carry();
    const bool negative = total.back() < 0;
    if (negative) {
        for (long& digit : total)
            digit = -digit;
        carry();
    }
    std::string text;
    for (int i = kDigits - 1; i >= 0; --i) {
        if (i == kPlaces - 1)
            text += '.';
        text += static_cast<char>('0' + total[static_cast<std::size_t>(i)]);
    }
    text.erase(text.find_last_not_of('0') + 1);
    if (text.back() == '.')
        text.pop_back();
    text.erase(0, std::min(text.find_first_not_of('0'), text.size()));
    if (text.empty() || text[0] == '.')
        text.insert(0, "0");
    return negative ? "-" + text : text;
}

TEST(ExactSum, EmptyIsEmpty) {
    ExactSum sum;
    EXPECT_TRUE(sum.empty());
    sum.add(Number("0").view(), std::pmr::new_delete_resource());
    EXPECT_FALSE(sum.empty());
}

TEST(ExactSum, SmallNumbers) {
    EXPECT_EQ(sum_of({"1.5", "2.50"}), "4");
    EXPECT_EQ(sum_of({"0.1", "0.2"}), "0.3");
    EXPECT_EQ(sum_of({"0.000000000000000001", "-1"}), "-0.999999999999999999");
    EXPECT_EQ(sum_of({"1", "-0.000000000000000001"}), "0.999999999999999999");
    EXPECT_EQ(sum_of({"5", "-5"}), "0");
    EXPECT_EQ(sum_of({"-0.5", "-0.5", "-0.25"}), "-1.25");
}

TEST(ExactSum, BeyondTheIntegers) {
    EXPECT_EQ(sum_of({"9223372036854775807", "1"}), "9223372036854775808");
    EXPECT_EQ(sum_of({"-9223372036854775808", "-1"}), "-9223372036854775809");
    EXPECT_EQ(sum_of({"899999999999999999", "899999999999999999", "899999999999999999",
                      "899999999999999999", "899999999999999999", "899999999999999999",
                      "899999999999999999", "899999999999999999", "899999999999999999",
                      "899999999999999999", "899999999999999999"}),
              "9899999999999999989");
    EXPECT_EQ(sum_of({"8999999999999999999.999999999999999999", "300000000000000000.5",
                      "0.500000000000000001"}),
              "9300000000000000001");
    EXPECT_EQ(sum_of({"1" + std::string(30, '0'), "0." + std::string(29, '0') + "1",
                      "-1" + std::string(30, '0')}),
              "0." + std::string(29, '0') + "1");
    EXPECT_EQ(sum_of({"0.00000000000000000001"}), "0.00000000000000000001");
    EXPECT_EQ(sum_of({"0.1234567890123456789"}), "0.1234567890123456789");
    const std::string huge = "1" + std::string(131000, '0');
    EXPECT_EQ(sum_of({huge, "1", "-" + huge}), "1");
}

TEST(ExactSum, NotFinite) {
    EXPECT_EQ(sum_of({"1", "Infinity", "2"}), "Infinity");
    EXPECT_EQ(sum_of({"-Infinity", "-Infinity"}), "-Infinity");
    EXPECT_EQ(sum_of({"-Infinity", "Infinity"}), "NaN");
    EXPECT_EQ(sum_of({"NaN", "1", "Infinity"}), "NaN");
}

TEST(ExactSum, RandomAgainstSchoolbook) {
    std::mt19937_64 random(1);
    const auto pick = [&](std::uint64_t below) { return random() % below; };
    for (int round = 0; round < 4000; ++round) {
        std::vector<std::string> numbers;
        // Some rounds stay small, some cross over, some start wide.
        const std::uint64_t whole_most = round % 3 == 0 ? 6 : round % 3 == 1 ? 20 : 40;
        const std::uint64_t fraction_most = round % 5 == 0 ? 40 : 19;
        for (std::uint64_t n = 1 + pick(30); n > 0; --n) {
            std::string text = pick(2) == 0 ? "-" : "";
            for (std::uint64_t i = 1 + pick(whole_most); i > 0; --i)
                text += static_cast<char>('0' + (pick(4) == 0 ? 9 : pick(10)));
            const std::uint64_t places = pick(fraction_most);
            if (places > 0)
                text += '.';
            for (std::uint64_t i = places; i > 0; --i)
                text += static_cast<char>('0' + (pick(4) == 0 ? 0 : pick(10)));
            numbers.push_back(text);
        }
        ASSERT_EQ(sum_of(numbers), schoolbook(numbers)) << "round " << round;
    }
}

TEST(ExactSum, MergeIsAddition) {
    auto* resource = std::pmr::new_delete_resource();
    std::mt19937_64 random(2);
    for (int round = 0; round < 300; ++round) {
        std::vector<std::string> numbers;
        ExactSum parts[3];
        for (int i = 0; i < 12; ++i) {
            std::string text = random() % 2 == 0 ? "-" : "";
            text += std::to_string(random()) + (random() % 2 == 0 ? std::to_string(random()) : "");
            text += "." + std::to_string(random());
            numbers.push_back(text);
            parts[random() % 3].add(Number(text).view(), resource);
        }
        ExactSum all;
        for (ExactSum& part : parts) {
            DigitBuffer digits;
            if (!part.empty())
                all.merge(part.seen(), part.finite(digits), resource);
            part.release(resource);
        }
        DigitBuffer digits;
        EXPECT_EQ(text_of(all.total(digits)), schoolbook(numbers));
        all.release(resource);
    }
}

TEST(Number, CompareIsTotal) {
    const std::vector<std::string> order = {
        "-Infinity", "-10001",  "-10000", "-9999.5", "-1.5",
        "-1",        "-0.0001", "0",      "0.00001", "0.0001",
        "1",         "1.0001",  "9999",   "10000",   "1" + std::string(50, '0'),
        "Infinity",  "NaN"};
    for (std::size_t i = 0; i < order.size(); ++i)
        for (std::size_t k = 0; k < order.size(); ++k) {
            const int got = compare(Number(order[i]).view(), Number(order[k]).view());
            EXPECT_EQ(got < 0, i < k) << order[i] << " " << order[k];
            EXPECT_EQ(got > 0, i > k) << order[i] << " " << order[k];
        }
    EXPECT_EQ(compare(Number("1.50").view(), Number("1.5").view()), 0);
    EXPECT_EQ(compare(Number("-0.0").view(), Number("0").view()), 0);
}

TEST(Number, Text) {
    for (const char* text : {"0", "1", "-1", "10000", "0.0001", "12345678.87654321", "-0.5",
                             "0.00000000000000000001", "100000000000000000000"})
        EXPECT_EQ(text_of(Number(text).view()), text);
    EXPECT_EQ(decimals(Number("1.2300").view()), 2);
    EXPECT_EQ(decimals(Number("0.00010").view()), 4);
    EXPECT_EQ(decimals(Number("12000").view()), 0);
}

TEST(Number, EncodingRoundTripsAndRefusesWhatIsNotNormal) {
    for (const char* text : {"0", "-1.5", "10000", "0.0001", "NaN", "Infinity", "-Infinity"}) {
        const Number number{std::string(text)};
        wire::Counter counter;
        encode(counter, number.view());
        std::string bytes(counter.size(), '\0');
        wire::Memory memory(bytes.data());
        encode(memory, number.view());
        EXPECT_EQ(memory.end(), bytes.data() + bytes.size());
        DigitBuffer digits;
        wire::Reader reader(bytes);
        EXPECT_EQ(text_of(decode(reader, digits)), text);
        reader.expect_end();
        for (std::size_t cut = 0; cut < bytes.size(); ++cut) {
            wire::Reader shorter(std::string_view(bytes).substr(0, cut));
            EXPECT_THROW(decode(shorter, digits), Error);
        }
    }
    using namespace std::string_literals;
    DigitBuffer digits;
    for (const auto& bytes : {"\x07"s,                               // no such kind
                              "\x03"s,                               // negative NaN
                              "\x01\0\0\0\0\0\0\0\0"s,               // minus zero
                              "\0\0\0\0\1\0\0\0\0"s,                 // zero with a weight
                              "\0\0\0\0\0\0\0\0\1\0\0"s,             // a zero digit in front
                              "\0\0\0\0\0\0\0\0\1\x27\x10"s,         // a digit of 10000
                              "\0\x7F\xFF\xFF\xFF\0\0\0\1\0\1"s,     // a weight out of bounds
                              "\0\x80\0\0\0\0\0\0\1\0\1"s,           // another
                              "\0\0\0\0\0\xFF\xFF\xFF\xFF\0\1"s}) {  // a count beyond the end
        wire::Reader reader(bytes);
        EXPECT_THROW(decode(reader, digits), Error);
    }
}

TEST(Number, StoredNumberKeepsLongAndShort) {
    auto* resource = std::pmr::new_delete_resource();
    StoredNumber stored;
    const std::string longer = "1" + std::string(60, '2');
    for (const std::string& text : std::vector<std::string>{"1", longer, longer, longer + longer,
                                                            "-0.5", longer, "NaN", "0"}) {
        stored.assign(Number(text).view(), resource);
        EXPECT_EQ(text_of(stored.view()), text);
    }
    stored.assign(Number(longer).view(), resource);
    stored.release(resource);
}

}  // namespace
}  // namespace meter
