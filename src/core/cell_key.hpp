// What a cell is about: a key for hash tables of cells.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string_view>

#include "core/digest.hpp"

namespace meter {

// A meter's hour, day or month, of one user (empty: of all) and with one set of dimensions. The
// bytes of the user lie elsewhere.
struct CellKey {
    std::int32_t meter_id;
    std::int64_t start;  // microseconds since 1970
    std::string_view user_id;
    Digest digest;  // of the dimensions

    bool operator==(const CellKey&) const = default;
    // By the columns of the rollups' keys, so that rows written in this order fall side by side.
    bool operator<(const CellKey& other) const {
        if (meter_id != other.meter_id)
            return meter_id < other.meter_id;
        if (start != other.start)
            return start < other.start;
        if (const int order = user_id.compare(other.user_id))
            return order < 0;
        return digest < other.digest;
    }
};

struct CellKeyHash {
    std::size_t operator()(const CellKey& key) const {
        // The digest is random already; the rest is mixed in.
        std::uint64_t hash;
        std::memcpy(&hash, key.digest.data(), sizeof hash);
        hash ^= std::hash<std::string_view>{}(key.user_id);
        hash = (hash ^ static_cast<std::uint64_t>(key.start)) * 0x9E3779B97F4A7C15U;
        hash = (hash ^ static_cast<std::uint32_t>(key.meter_id)) * 0x9E3779B97F4A7C15U;
        return static_cast<std::size_t>(hash ^ hash >> 32);
    }
};

}  // namespace meter
