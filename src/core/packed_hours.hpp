// The packed form of a day's hours: what its writer and its readers share. It is described at
// encode_hours().
#pragma once

#include <cstdint>
#include <string_view>

#include "core/base10k.hpp"
#include "core/error.hpp"

namespace meter::packed {

inline constexpr unsigned char kVersion = 1;
inline constexpr unsigned kSingle = 1;  // flag: one event, from which the rest of the cell follows
inline constexpr unsigned kDirty = 2;   // flag
inline constexpr unsigned kFlags = kSingle | kDirty;

// The head of a number: its sign in the lowest bit, then the count of its digits in three bits, of
// which the highest value means that the rest of the count follows, then the weight.
inline constexpr unsigned kCountBits = 3;
inline constexpr std::uint32_t kMostShortCount = (1U << kCountBits) - 1;

inline constexpr int kHoursOfDay = 24;

inline std::int64_t unzigzag(std::uint64_t value) {
    return static_cast<std::int64_t>(value >> 1 ^ (~(value & 1) + 1));
}

[[noreturn]] inline void corrupt(const char* detail) {
    throw Error(ErrorKind::kCorrupt, "the packed hours of a rollup cell are malformed", detail);
}

// Reads what a Packer wrote. Throws Error kCorrupt where the bytes are anything else; of the ways
// to write a number of more than one length only the shortest is taken.
class Unpacker {
  public:
    explicit Unpacker(std::string_view bytes) : rest_(bytes) {}

    bool at_end() const { return rest_.empty(); }
    unsigned byte() {
        if (rest_.empty())
            corrupt("It ends too early.");
        const auto value = static_cast<unsigned char>(rest_.front());
        rest_.remove_prefix(1);
        return value;
    }
    std::uint64_t varint() {
        std::uint64_t value = 0;
        for (unsigned shift = 0;; shift += 7) {
            const std::uint64_t next = byte();
            // The tenth byte has room for one bit.
            if (shift == 63 && next > 1)
                corrupt("An integer is out of range.");
            value |= (next & 0x7F) << shift;
            if (next < 0x80) {
                if (next == 0 && shift > 0)
                    corrupt("An integer is longer than it needs to be.");
                return value;
            }
        }
    }
    std::int64_t integer() { return unzigzag(varint()); }
    // An integer of at most `most`.
    std::int64_t up_to(std::int64_t most, const char* otherwise) {
        const std::uint64_t value = varint();
        if (value > static_cast<std::uint64_t>(most))
            corrupt(otherwise);
        return static_cast<std::int64_t>(value);
    }
    // A number, with its digits in `digits`.
    NumberView number(DigitBuffer& digits) {
        const std::uint64_t head = varint();
        const std::int64_t weight = unzigzag(head >> (kCountBits + 1));
        if (weight < kMinWeight || weight > kMaxWeight)
            corrupt("A number is out of range.");
        std::uint64_t count = head >> 1 & kMostShortCount;
        if (count == kMostShortCount) {
            const std::uint64_t more = varint();
            // A digit has a byte at least, which bounds what is allocated.
            if (more > rest_.size() || count + more > rest_.size())
                corrupt("It ends too early.");
            count += more;
        }
        digits.clear();
        digits.reserve(count);
        for (std::uint64_t i = 0; i < count; ++i)
            digits.push_back(
                static_cast<std::int16_t>(up_to(9999, "A number has a digit out of range.")));
        const NumberView number{.negative = (head & 1) != 0,
                                .weight = static_cast<std::int32_t>(weight),
                                .count = static_cast<std::uint32_t>(count),
                                .digits = digits.data()};
        if (count == 0 ? number.negative || weight != 0
                       : digits.front() == 0 || digits.back() == 0 || !weights_fit(number))
            corrupt("A number is not in normal form.");
        return number;
    }

    // Passes by a number.
    void skip_number() {
        std::uint64_t count = varint() >> 1 & kMostShortCount;
        if (count == kMostShortCount)
            count += varint();
        skip_varints(count);
    }
    void skip_varints(std::uint64_t count) {
        std::size_t at = 0;
        for (; count > 0; ++at) {
            if (at == rest_.size())
                corrupt("It ends too early.");
            if (static_cast<unsigned char>(rest_[at]) < 0x80)
                --count;
        }
        rest_.remove_prefix(at);
    }

  private:
    std::string_view rest_;
};

}  // namespace meter::packed
