// Numbers the distinct groups of a query, and remembers which group a row's raw bytes fell into.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory_resource>
#include <string_view>
#include <vector>

namespace meter {

inline constexpr std::uint32_t kNoGroup = 0xFFFFFFFF;

// Distinct byte strings, numbered from 0 in the order of their coming. Their bytes lie packed in
// blocks and never move.
class GroupTable {
  public:
    explicit GroupTable(std::pmr::memory_resource* resource);
    ~GroupTable();
    GroupTable(const GroupTable&) = delete;
    GroupTable& operator=(const GroupTable&) = delete;

    // The number of `key`, which is size() before the call where the key is new. Throws Error
    // kLimitExceeded past two billion groups or for a key beyond a gigabyte.
    std::uint32_t find_or_add(std::string_view key);

    std::uint32_t size() const { return static_cast<std::uint32_t>(entries_.size()); }
    std::string_view key(std::uint32_t group) const {
        return {entries_[group].bytes, entries_[group].length};
    }

  private:
    struct Entry {
        const char* bytes;
        std::uint32_t length;
        std::uint32_t hash;
    };
    struct Block {
        char* bytes;
        std::size_t size;
    };

    const char* keep(std::string_view key);
    void grow();

    std::pmr::vector<Entry> entries_;
    std::pmr::vector<std::uint32_t> slots_;  // open addressing; a group, or kNoGroup
    std::pmr::vector<Block> blocks_;
    std::size_t block_left_ = 0;
};

// A cache from a row's raw bytes to its group, so that bytes seen before cost one hash and one
// comparison. It may forget at any time, and what it holds is bounded by constants. Bytes are kept
// when they come the second time; of the first time only their hash is noted, so that rows which
// are all different cost little time and no memory. The first rows are not noted at all: a query
// may have thousands of states of a few rows each.
class RawCache {
  public:
    static constexpr std::uint32_t kMostEntries = 4096;
    static constexpr std::size_t kMostBytes = std::size_t{1} << 20;
    static constexpr std::size_t kLongestRaw = 4096;
    static constexpr std::size_t kMostNotes = 16384;
    static constexpr std::uint32_t kFirstMisses = 64;

    explicit RawCache(std::pmr::memory_resource* resource);

    // The group that these bytes were remembered with, or kNoGroup.
    std::uint32_t find(std::string_view raw) {
        if (slots_.empty() || raw.size() > kLongestRaw)
            return kNoGroup;
        const std::uint32_t wanted = hash(raw);
        const std::size_t mask = slots_.size() - 1;
        for (std::size_t at = wanted & mask;; at = (at + 1) & mask) {
            const Slot& slot = slots_[at];
            if (slot.group == kNoGroup)
                return kNoGroup;
            if (slot.hash == wanted && slot.length == raw.size() &&
                std::string_view(bytes_.data() + slot.offset, slot.length) == raw)
                return slot.group;
        }
    }

    // Tells the group of bytes that find() did not find.
    void remember(std::string_view raw, std::uint32_t group);

    std::uint32_t entries() const { return entries_; }

  private:
    struct Slot {
        std::uint32_t hash = 0;
        std::uint32_t group = kNoGroup;
        std::uint32_t length = 0;
        std::uint32_t offset = 0;
    };

    static std::uint32_t hash(std::string_view raw) {
        const std::size_t wide = std::hash<std::string_view>{}(raw);
        return static_cast<std::uint32_t>(wide ^ (static_cast<std::uint64_t>(wide) >> 32));
    }
    bool seen_before(std::uint32_t hash);
    void insert(const Slot& slot);
    void make_room(std::size_t length);

    std::pmr::vector<Slot> slots_;           // open addressing, at most half full
    std::pmr::vector<char> bytes_;           // the slots' raw bytes
    std::pmr::vector<std::uint32_t> notes_;  // hashes of bytes seen once
    std::uint32_t entries_ = 0;
    std::uint32_t noted_ = 0;   // notes since they last grew
    std::uint32_t misses_ = 0;  // up to kFirstMisses
};

}  // namespace meter
