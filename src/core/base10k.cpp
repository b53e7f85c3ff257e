#include "core/base10k.hpp"

#include <algorithm>

#include "core/error.hpp"

namespace meter {

namespace {

// Where a number stands among all: minus infinity, negative, zero, positive, infinity, NaN.
int rank(const NumberView& number) {
    switch (number.kind) {
        case NumberKind::kMinusInfinity:
            return 0;
        case NumberKind::kInfinity:
            return 4;
        case NumberKind::kNaN:
            return 5;
        case NumberKind::kFinite:
            break;
    }
    return number.count == 0 ? 2 : number.negative ? 1 : 3;
}

}  // namespace

NumberView normalise_slowly(NumberView number) {
    if (number.kind != NumberKind::kFinite)
        return {.kind = number.kind};
    while (number.count > 0 && number.digit(0) == 0) {
        number.digits = static_cast<const char*>(number.digits) + sizeof(std::int16_t);
        --number.count;
        --number.weight;
    }
    while (number.count > 0 && number.digit(number.count - 1) == 0)
        --number.count;
    if (number.count == 0)
        return {};
    if (!weights_fit(number))
        throw Error(ErrorKind::kOutOfRange, "value overflows numeric format");
    return number;
}

int compare(const NumberView& a, const NumberView& b) {
    const int ranks = rank(a) - rank(b);
    if (ranks != 0 || a.count == 0 || b.count == 0)
        return ranks;
    const int greater = a.negative ? -1 : 1;
    if (a.weight != b.weight)
        return a.weight > b.weight ? greater : -greater;
    const std::uint32_t common = std::min(a.count, b.count);
    for (std::uint32_t i = 0; i < common; ++i)
        if (a.digit(i) != b.digit(i))
            return a.digit(i) > b.digit(i) ? greater : -greater;
    return a.count == b.count ? 0 : a.count > b.count ? greater : -greater;
}

std::int32_t decimals(const NumberView& number) {
    if (number.count == 0)
        return 0;
    const std::int32_t lowest = number.weight - static_cast<std::int32_t>(number.count) + 1;
    if (lowest >= 0)
        return 0;
    std::int32_t places = -4 * lowest;
    for (int last = number.digit(number.count - 1); last % 10 == 0; last /= 10)
        --places;
    return places;
}

void append_text(std::pmr::string& out, const NumberView& number) {
    const auto four = [&](std::int32_t weight) {
        const std::int64_t i = static_cast<std::int64_t>(number.weight) - weight;
        const int digit =
            i >= 0 && i < number.count ? number.digit(static_cast<std::size_t>(i)) : 0;
        const char text[4] = {
            static_cast<char>('0' + digit / 1000), static_cast<char>('0' + digit / 100 % 10),
            static_cast<char>('0' + digit / 10 % 10), static_cast<char>('0' + digit % 10)};
        out.append(text, sizeof text);
    };
    if (number.negative)
        out += '-';
    const std::size_t start = out.size();
    for (std::int32_t weight = number.weight; weight >= 0; --weight)
        four(weight);
    out.erase(start, std::min(out.find_first_not_of('0', start), out.size()) - start);
    if (out.size() == start)
        out += '0';
    const std::int32_t places = decimals(number);
    if (places == 0)
        return;
    out += '.';
    const std::size_t point = out.size();
    for (std::int32_t weight = -1; - 4 * (weight + 1) < places; --weight)
        four(weight);
    out.resize(point + static_cast<std::size_t>(places));
}

NumberView decode(wire::Reader& reader, DigitBuffer& digits) {
    const unsigned head = reader.get<std::uint8_t>();
    NumberView number;
    if (head > 6 || (head > 1 && head % 2 == 1))
        wire::malformed("A number is of no known kind.");
    number.kind = static_cast<NumberKind>(head >> 1);
    if (number.kind != NumberKind::kFinite)
        return number;
    number.negative = head == 1;
    number.weight = reader.get<std::int32_t>();
    number.count = reader.get<std::uint32_t>();
    if (number.count > reader.left() / 2)
        wire::malformed("It ends too early.");
    digits.clear();
    digits.reserve(number.count);
    for (std::uint32_t i = 0; i < number.count; ++i) {
        const auto digit = reader.get<std::uint16_t>();
        if (digit > 9999)
            wire::malformed("A number has a digit out of range.");
        digits.push_back(static_cast<std::int16_t>(digit));
    }
    if (digits.empty() ? number.negative || number.weight != 0
                       : digits.front() == 0 || digits.back() == 0 || !weights_fit(number))
        wire::malformed("A number is not in normal form.");
    number.digits = digits.data();
    return number;
}

void StoredNumber::assign(const NumberView& number, std::pmr::memory_resource* resource) {
    std::int16_t* target = inline_;
    std::int16_t* fresh = nullptr;
    const std::size_t bytes = number.count * sizeof(std::int16_t);
    if (number.count > kInline) {
        if (count_ == number.count)
            target = fresh = heap_;
        else
            target = fresh =
                static_cast<std::int16_t*>(resource->allocate(bytes, alignof(std::int16_t)));
    }
    if (count_ > kInline && heap_ != fresh)
        release(resource);
    if (bytes > 0)
        std::memmove(target, number.digits, bytes);
    if (fresh != nullptr)
        heap_ = fresh;
    count_ = static_cast<std::uint16_t>(number.count);
    weight_ = number.weight;
    kind_ = number.kind;
    negative_ = number.negative;
}

void StoredNumber::release(std::pmr::memory_resource* resource) {
    if (count_ > kInline)
        resource->deallocate(heap_, count_ * sizeof(std::int16_t), alignof(std::int16_t));
    count_ = 0;
}

NumberView StoredNumber::view() const {
    return {.kind = kind_,
            .negative = negative_,
            .weight = weight_,
            .count = count_,
            .digits = count_ > kInline ? heap_ : inline_};
}

}  // namespace meter
