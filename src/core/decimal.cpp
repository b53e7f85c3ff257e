#include "core/decimal.hpp"

#include <algorithm>
#include <cstdint>

#include "core/error.hpp"
#include "core/text.hpp"

namespace meter {

namespace {

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

[[noreturn]] void throw_no_number(std::string_view text) {
    throw Error(ErrorKind::kInvalidText, quote_for_message(text) + " is not a number");
}

// The parts of a number as written: sign, the digits before and after the point, the exponent.
struct Parts {
    bool negative = false;
    std::string_view whole;
    std::string_view fraction;
    std::int64_t exponent = 0;
};

Parts split(std::string_view text) {
    Parts parts;
    std::size_t at = 0;
    if (at < text.size() && text[at] == '-') {
        parts.negative = true;
        ++at;
    }
    const auto digits = [&] {
        const std::size_t first = at;
        while (at < text.size() && is_digit(text[at]))
            ++at;
        if (at == first)
            throw_no_number(text);
        return text.substr(first, at - first);
    };
    parts.whole = digits();
    if (at < text.size() && text[at] == '.') {
        ++at;
        parts.fraction = digits();
    }
    if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
        ++at;
        bool negative = false;
        if (at < text.size() && (text[at] == '+' || text[at] == '-'))
            negative = text[at++] == '-';
        // Saturates: any exponent past this is past every bound, and a zero stays a zero.
        constexpr std::int64_t kCap = 1'000'000'000'000;
        for (const char c : digits())
            parts.exponent = std::min(kCap, parts.exponent * 10 + (c - '0'));
        if (negative)
            parts.exponent = -parts.exponent;
    }
    if (at != text.size())
        throw_no_number(text);
    return parts;
}

}  // namespace

std::string canonical_number(std::string_view text, std::size_t max_length) {
    const Parts parts = split(text);

    // All digits in a row, and where among them the point stands.
    std::string digits;
    digits.reserve(parts.whole.size() + parts.fraction.size());
    digits.append(parts.whole).append(parts.fraction);
    std::int64_t point = static_cast<std::int64_t>(parts.whole.size()) + parts.exponent;

    const std::size_t first = digits.find_first_not_of('0');
    if (first == std::string::npos)
        return "0";
    digits.erase(0, first);
    point -= static_cast<std::int64_t>(first);
    digits.erase(digits.find_last_not_of('0') + 1);

    const auto count = static_cast<std::int64_t>(digits.size());
    const std::int64_t length = point <= 0 ? 2 - point + count : point >= count ? point : count + 1;
    if (length + (parts.negative ? 1 : 0) > static_cast<std::int64_t>(max_length))
        throw Error(ErrorKind::kLimitExceeded, "number " + quote_for_message(text) +
                                                   " needs more than " +
                                                   std::to_string(max_length) + " digits");

    std::string out;
    out.reserve(static_cast<std::size_t>(length) + 1);
    if (parts.negative)
        out += '-';
    if (point <= 0) {
        out += "0.";
        out.append(static_cast<std::size_t>(-point), '0');
        out += digits;
    } else if (point >= count) {
        out += digits;
        out.append(static_cast<std::size_t>(point - count), '0');
    } else {
        out.append(digits, 0, static_cast<std::size_t>(point));
        out += '.';
        out.append(digits, static_cast<std::size_t>(point));
    }
    return out;
}

std::string canonical_value(std::string_view text) {
    constexpr std::size_t kLongest = 1 + kValueIntegerDigits + 1 + kValueDecimals;
    const auto refuse = [&](const char* detail) {
        throw Error(ErrorKind::kInvalidParameter,
                    "value " + quote_for_message(text) + " is out of bounds", detail);
    };
    constexpr const char* kBounds =
        "A value is a finite number below 10^30 in magnitude with at most 18 decimals.";
    std::string canonical;
    if (text == "NaN" || text == "Infinity" || text == "-Infinity")
        refuse(kBounds);
    try {
        canonical = canonical_number(text, kLongest);
    } catch (const Error& error) {
        if (error.kind == ErrorKind::kLimitExceeded)
            refuse(kBounds);
        throw Error(ErrorKind::kInvalidParameter,
                    "value " + quote_for_message(text) + " is not a number");
    }
    const std::size_t sign = canonical[0] == '-' ? 1 : 0;
    const std::size_t point = std::min(canonical.find('.'), canonical.size());
    if (point - sign > kValueIntegerDigits)
        refuse(kBounds);
    if (point < canonical.size() && canonical.size() - point - 1 > kValueDecimals)
        refuse(kBounds);
    return canonical;
}

int compare_numbers(std::string_view a, std::string_view b) {
    const bool a_negative = a[0] == '-';
    const bool b_negative = b[0] == '-';
    if (a_negative != b_negative)
        return a_negative ? -1 : 1;
    if (a_negative) {
        std::swap(a, b);
        a.remove_prefix(1);
        b.remove_prefix(1);
    }
    const std::size_t a_point = std::min(a.find('.'), a.size());
    const std::size_t b_point = std::min(b.find('.'), b.size());
    if (a_point != b_point)
        return a_point < b_point ? -1 : 1;
    return a.compare(b);
}

}  // namespace meter
