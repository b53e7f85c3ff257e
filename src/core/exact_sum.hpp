// Sums of decimal numbers that never round.
#pragma once

#include <cstdint>
#include <memory_resource>

#include "core/base10k.hpp"

namespace meter {

// A sum over numbers of any size, with numeric's rules for NaN and the infinities: NaN wins, and
// opposite infinities make NaN.
//
// It is two integers, wholes and 10^-18ths, for as long as they suffice: additions are then two
// additions. What does not fit moves the sum to a row of wide digits for good. Like StoredNumber
// it does not remember its memory resource; release() gives the wide digits back.
class ExactSum {
  public:
    // Which kinds of input there were; what merging needs beside the finite part.
    enum Seen : std::uint8_t { kAny = 1, kNaN = 2, kInfinity = 4, kMinusInfinity = 8 };

    void add(const NumberView& number, std::pmr::memory_resource* resource) {
        seen_ |= kAny;
        std::int64_t whole = 0;
        std::int64_t atto = 0;
        if (wide_ != nullptr || !split(number, whole, atto) || !add_small(whole, atto))
            add_wide(number, resource);
    }

    // Takes in another sum: what it has seen and its finite part.
    void merge(std::uint8_t seen, const NumberView& finite, std::pmr::memory_resource* resource) {
        add(finite, resource);
        seen_ |= seen;
    }

    // Adds number x factor, or other x factor, where two integers suffice for all of it; false, and
    // nothing changed, where they do not.
    bool add_product(const NumberView& number, std::int64_t factor) {
        std::int64_t whole = 0;
        std::int64_t atto = 0;
        if (wide_ != nullptr || !split(number, whole, atto) || !scale(whole, atto, factor) ||
            !add_small(whole, atto))
            return false;
        seen_ |= kAny;
        return true;
    }
    bool add_product(const ExactSum& other, std::int64_t factor) {
        std::int64_t whole = other.whole_;
        std::int64_t atto = other.atto_;
        if (wide_ != nullptr || other.wide_ != nullptr || (other.seen_ & ~kAny) != 0 ||
            !scale(whole, atto, factor) || !add_small(whole, atto))
            return false;
        seen_ |= other.seen_;
        return true;
    }

    bool empty() const { return seen_ == 0; }
    // Whether it holds no memory.
    bool is_flat() const { return wide_ == nullptr; }
    // Of a sum that was added to by add_product() alone.
    bool is_zero() const { return whole_ == 0 && atto_ == 0; }
    std::uint8_t seen() const { return seen_; }

    // The sum of the finite inputs; its digits are in `digits`.
    NumberView finite(DigitBuffer& digits) const;
    // The sum of all inputs; its digits are in `digits`.
    NumberView total(DigitBuffer& digits) const;

    void release(std::pmr::memory_resource* resource);

  private:
    struct Wide;
    static constexpr std::int64_t kAttoPerWhole = 1'000'000'000'000'000'000;

    // The number as wholes and 10^-18ths of one sign; false where it does not fit.
    static bool split(const NumberView& number, std::int64_t& whole, std::int64_t& atto) {
        static constexpr std::int64_t kScale[] = {100'000'000'000'000, 10'000'000'000, 1'000'000,
                                                  100};
        const auto count = static_cast<std::int32_t>(number.count);
        if (number.kind != NumberKind::kFinite || number.weight > 4 || number.weight - count < -6)
            return false;
        if (number.weight == 4 && number.digit(0) >= 900)
            return false;
        std::int32_t i = 0;
        std::int32_t weight = number.weight;
        for (; weight >= 0; --weight)
            whole = whole * 10000 + (i < count ? number.digit(static_cast<std::size_t>(i++)) : 0);
        for (weight = number.weight - i; i < count; --weight) {
            const int digit = number.digit(static_cast<std::size_t>(i++));
            if (weight >= -4)
                atto += digit * kScale[-1 - weight];
            else if (digit % 100 == 0)
                atto += digit / 100;
            else
                return false;
        }
        if (number.negative) {
            whole = -whole;
            atto = -atto;
        }
        return true;
    }

    // Multiplies the two integers; false where the wholes overflow, or the factor is above 9 x
    // 10^12 (in microseconds: 104 days), up to which a factor times a third of atto's digits fits.
    static bool scale(std::int64_t& whole, std::int64_t& atto, std::int64_t factor) {
        static constexpr std::int64_t kThird = 1'000'000;
        static constexpr std::int64_t kMostFactor = 9 * kThird * kThird;
        if (factor == 1)
            return true;
        if (factor > kMostFactor || factor < -kMostFactor)
            return false;
        std::int64_t over = 0;
        if (atto != 0) {
            const std::int64_t low = atto % kThird * factor;
            const std::int64_t middle = atto / kThird % kThird * factor + low / kThird;
            const std::int64_t high = atto / (kThird * kThird) * factor + middle / kThird;
            over = high / kThird;
            atto = (high % kThird * kThird + middle % kThird) * kThird + low % kThird;
        }
        return !__builtin_mul_overflow(whole, factor, &whole) &&
               !__builtin_add_overflow(whole, over, &whole);
    }

    // Adds to the two integers; false, and nothing changed, where that overflows.
    bool add_small(std::int64_t whole, std::int64_t atto) {
        std::int64_t new_atto = atto_ + atto;  // both are below 10^18 in magnitude
        std::int64_t carry = 0;
        if (new_atto >= kAttoPerWhole) {
            new_atto -= kAttoPerWhole;
            carry = 1;
        } else if (new_atto <= -kAttoPerWhole) {
            new_atto += kAttoPerWhole;
            carry = -1;
        }
        std::int64_t new_whole = 0;
        if (__builtin_add_overflow(whole_, whole, &new_whole) ||
            __builtin_add_overflow(new_whole, carry, &new_whole))
            return false;
        whole_ = new_whole;
        atto_ = new_atto;
        return true;
    }

    void add_wide(const NumberView& number, std::pmr::memory_resource* resource);
    NumberView small_view(DigitBuffer& digits) const;

    std::int64_t whole_ = 0;
    std::int64_t atto_ = 0;  // below 10^18 in magnitude, of either sign
    Wide* wide_ = nullptr;   // not null: it has the whole sum
    std::uint8_t seen_ = 0;
};

}  // namespace meter
