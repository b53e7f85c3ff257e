// Digests of events, added up.
#pragma once

#include <cstdint>

#include "core/digest.hpp"

namespace meter {

// A sum of digests modulo 2^128. It does not depend on the order, and what was added can be taken
// out again; so cells carry it, and it outlasts the events. It finds accidents, not forgers: who
// may choose many events can choose such as add up to a given sum.
struct DigestSum {
    std::uint64_t high = 0;
    std::uint64_t low = 0;

    static DigestSum of(const Digest& digest) {
        DigestSum sum;
        for (std::size_t i = 0; i < 8; ++i) {
            sum.high = sum.high << 8 | digest[i];
            sum.low = sum.low << 8 | digest[i + 8];
        }
        return sum;
    }
    void add(const DigestSum& other) {
        const bool carry = __builtin_add_overflow(low, other.low, &low);
        high += other.high + (carry ? 1 : 0);
    }
    DigestSum negated() const { return {~high + (low == 0 ? 1 : 0), ~low + 1}; }

    // As 16 bytes, the highest first.
    Digest bytes() const {
        Digest digest;
        for (std::size_t i = 0; i < 8; ++i) {
            digest[i] = static_cast<std::uint8_t>(high >> (56 - 8 * i));
            digest[i + 8] = static_cast<std::uint8_t>(low >> (56 - 8 * i));
        }
        return digest;
    }
    bool operator==(const DigestSum&) const = default;
};

}  // namespace meter
