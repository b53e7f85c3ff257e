#include "core/exact_sum.hpp"

#include <algorithm>
#include <new>
#include <vector>

namespace meter {

// digits[i] counts 10000^(low + i). The digits are signed and wider than needed, so that carries
// wait until somebody reads the sum: `pending` numbers of magnitude below 10000 were added to each
// digit since the last carry.
struct ExactSum::Wide {
    static constexpr std::int64_t kMostPending = std::int64_t{1} << 48;

    explicit Wide(std::pmr::memory_resource* resource) : digits(resource) {}

    // Makes room for the weights from `from` to `to`.
    void cover(std::int32_t from, std::int32_t to) {
        if (digits.empty())
            low = from;
        if (from < low) {
            digits.insert(digits.begin(), static_cast<std::size_t>(low - from), 0);
            low = from;
        }
        const auto needed = static_cast<std::size_t>(to - low + 1);
        if (digits.size() < needed)
            digits.resize(needed);
    }

    void add(const NumberView& number) {
        if (number.count == 0)
            return;
        const std::int32_t last = number.weight - static_cast<std::int32_t>(number.count) + 1;
        cover(last, number.weight);
        std::int64_t* at = digits.data() + (number.weight - low);
        for (std::uint32_t i = 0; i < number.count; ++i)
            *at-- += number.negative ? -number.digit(i) : number.digit(i);
        if (++pending >= kMostPending)
            carry();
    }

    // Brings all digits but the highest below 10000 in magnitude.
    void carry() {
        std::int64_t over = 0;
        for (std::int64_t& digit : digits) {
            digit += over;
            over = digit / 10000;
            digit %= 10000;
        }
        for (; over != 0; over /= 10000)
            digits.push_back(over % 10000);
        pending = 1;
    }

    std::pmr::vector<std::int64_t> digits;
    std::int32_t low = 0;
    std::int64_t pending = 0;
};

void ExactSum::add_wide(const NumberView& number, std::pmr::memory_resource* resource) {
    switch (number.kind) {
        case NumberKind::kNaN:
            seen_ |= kNaN;
            return;
        case NumberKind::kInfinity:
            seen_ |= kInfinity;
            return;
        case NumberKind::kMinusInfinity:
            seen_ |= kMinusInfinity;
            return;
        case NumberKind::kFinite:
            break;
    }
    if (wide_ == nullptr) {
        DigitBuffer digits(resource);
        const NumberView small = small_view(digits);
        void* memory = resource->allocate(sizeof(Wide), alignof(Wide));
        wide_ = new (memory) Wide(resource);
        wide_->add(small);
    }
    wide_->add(number);
}

// The two integers as a number.
NumberView ExactSum::small_view(DigitBuffer& digits) const {
    std::int64_t whole = whole_;
    std::int64_t atto = atto_;
    if (whole > 0 && atto < 0) {
        --whole;
        atto += kAttoPerWhole;
    } else if (whole < 0 && atto > 0) {
        ++whole;
        atto -= kAttoPerWhole;
    }
    const bool negative = whole < 0 || atto < 0;
    auto left = negative ? -static_cast<std::uint64_t>(whole) : static_cast<std::uint64_t>(whole);
    const auto fraction = static_cast<std::uint64_t>(negative ? -atto : atto);
    // Four digits of base 10000 below the point, and a half.
    constexpr int kPoint = 5;
    constexpr int kDigits = 10;
    std::int16_t all[kDigits];
    int last = -1;  // the lowest digit that is not 0
    int first = kPoint;
    for (int i = kPoint - 1; left != 0; --i, left /= 10000) {
        all[i] = static_cast<std::int16_t>(left % 10000);
        last = last < 0 && all[i] != 0 ? i : last;
        first = i;
    }
    if (fraction != 0) {
        std::uint64_t scale = 100'000'000'000'000;
        for (int i = kPoint; i < kDigits - 1; ++i, scale /= 10000)
            all[i] = static_cast<std::int16_t>(fraction / scale % 10000);
        all[kDigits - 1] = static_cast<std::int16_t>(fraction % 100 * 100);
        for (last = kDigits - 1; all[last] == 0;)
            --last;
        while (all[first] == 0)
            ++first;
    }
    if (last < 0)
        return {};
    digits.assign(all + first, all + last + 1);
    return {.negative = negative,
            .weight = kPoint - 1 - first,
            .count = static_cast<std::uint32_t>(last - first + 1),
            .digits = digits.data()};
}

NumberView ExactSum::finite(DigitBuffer& digits) const {
    if (wide_ == nullptr)
        return small_view(digits);
    // Carry upwards into a copy; a negative end says that the number is, and then all is negated.
    digits.clear();
    digits.reserve(wide_->digits.size() + 5);
    const auto carried = [&](std::int64_t sign) {
        digits.clear();
        std::int64_t over = 0;
        const auto push = [&](std::int64_t value) {
            over = value >= 0 ? value / 10000 : -((9999 - value) / 10000);
            digits.push_back(static_cast<std::int16_t>(value - over * 10000));
        };
        for (const std::int64_t digit : wide_->digits)
            push(sign * digit + over);
        while (over > 0)
            push(over);
        return over == 0;
    };
    bool negative = false;
    if (!carried(1)) {
        negative = true;
        carried(-1);
    }
    std::reverse(digits.begin(), digits.end());
    return normalise({.negative = negative,
                      .weight = wide_->low + static_cast<std::int32_t>(digits.size()) - 1,
                      .count = static_cast<std::uint32_t>(digits.size()),
                      .digits = digits.data()});
}

NumberView ExactSum::total(DigitBuffer& digits) const {
    const bool up = (seen_ & kInfinity) != 0;
    const bool down = (seen_ & kMinusInfinity) != 0;
    if ((seen_ & kNaN) != 0 || (up && down))
        return {.kind = NumberKind::kNaN};
    if (up || down)
        return {.kind = up ? NumberKind::kInfinity : NumberKind::kMinusInfinity};
    return finite(digits);
}

void ExactSum::release(std::pmr::memory_resource* resource) {
    if (wide_ != nullptr) {
        wide_->~Wide();
        resource->deallocate(wide_, sizeof(Wide), alignof(Wide));
        wide_ = nullptr;
    }
}

}  // namespace meter
