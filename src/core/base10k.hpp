// Decimal numbers as rows of base-10000 digits, the way PostgreSQL's numeric has them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory_resource>
#include <string>
#include <vector>

#include "core/wire.hpp"

namespace meter {

enum class NumberKind : std::uint8_t { kFinite, kNaN, kInfinity, kMinusInfinity };

using DigitBuffer = std::pmr::vector<std::int16_t>;

// A number that lies elsewhere: the sum of digit(i) * 10000^(weight - i), i in [0, count).
//
// Normalised, which every function here expects and normalise() brings about, it has no zero digit
// in front or at the end, and zero is the non-negative number without digits of weight 0. Equal
// numbers then have equal digits: there is no scale, 1.50 and 1.5 are one.
struct NumberView {
    NumberKind kind = NumberKind::kFinite;
    bool negative = false;
    std::int32_t weight = 0;
    std::uint32_t count = 0;
    const void* digits = nullptr;  // int16 in the machine's byte order, at any alignment

    int digit(std::size_t i) const {
        std::int16_t value;
        std::memcpy(&value, static_cast<const char*>(digits) + i * sizeof value, sizeof value);
        return value;
    }
};

// The weights that digits can have: those of numeric (131072 digits before the point, 16383 behind
// it), and some above, where a sum of numerics may get to.
inline constexpr std::int32_t kMaxWeight = 32767 + 8;
inline constexpr std::int32_t kMinWeight = -4096;

static_assert(kMaxWeight - kMinWeight < 65536, "StoredNumber counts digits in 16 bits");

// Whether the digits' weights are within bounds.
inline bool weights_fit(const NumberView& number) {
    return number.weight <= kMaxWeight &&
           static_cast<std::int64_t>(number.weight) - number.count + 1 >= kMinWeight;
}

// normalise() for what is not normalised, or is zero, or not finite.
NumberView normalise_slowly(NumberView number);

// Cuts zero digits off both ends. Throws Error kOutOfRange where a weight is out of bounds.
inline NumberView normalise(const NumberView& number) {
    if (number.kind == NumberKind::kFinite && number.count > 0 && number.digit(0) != 0 &&
        number.digit(number.count - 1) != 0 && weights_fit(number))
        return number;
    return normalise_slowly(number);
}

// Negative, zero or positive, as a is less than, equal to, or greater than b. As in PostgreSQL,
// NaN equals itself and is greater than infinity.
int compare(const NumberView& a, const NumberView& b);

// How many decimals the number has behind the point, trailing zeros not counted.
std::int32_t decimals(const NumberView& number);

// Appends a finite number in plain notation, without exponent or trailing zeros.
void append_text(std::pmr::string& out, const NumberView& number);

// Writes a number for decode() to read.
template <typename Sink>
void encode(Sink& sink, const NumberView& number) {
    wire::put(sink, static_cast<std::uint8_t>(static_cast<unsigned>(number.kind) << 1 |
                                              (number.negative ? 1U : 0U)));
    if (number.kind != NumberKind::kFinite)
        return;
    wire::put(sink, number.weight);
    wire::put(sink, number.count);
    for (std::uint32_t i = 0; i < number.count; ++i)
        wire::put(sink, static_cast<std::uint16_t>(number.digit(i)));
}

// Reads a number; its digits go to `digits`, which has to outlive the view. Throws Error
// kInvalidBinary where the bytes are not what encode() writes of a normalised number.
NumberView decode(wire::Reader& reader, DigitBuffer& digits);

// A copy of a number, in 24 bytes where it has up to eight digits. Owns memory beyond that, which
// release() gives back: the resource is the caller's to remember, it is one for millions of these.
class StoredNumber {
  public:
    void assign(const NumberView& number, std::pmr::memory_resource* resource);
    void release(std::pmr::memory_resource* resource);
    NumberView view() const;
    // Whether it holds no memory of its own.
    bool is_flat() const { return count_ <= kInline; }

  private:
    static constexpr std::uint32_t kInline = 8;

    union {
        std::int16_t inline_[kInline];
        std::int16_t* heap_;
    };
    std::int32_t weight_ = 0;
    std::uint16_t count_ = 0;
    NumberKind kind_ = NumberKind::kFinite;
    bool negative_ = false;
};

}  // namespace meter
