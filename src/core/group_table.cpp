#include "core/group_table.hpp"

#include <algorithm>
#include <cstring>
#include <functional>
#include <string_view>

#include "core/error.hpp"

namespace meter {

namespace {

constexpr std::size_t kFirstBlock = 256;
constexpr std::size_t kLargestBlock = std::size_t{256} * 1024;
constexpr std::uint32_t kFirstSlots = 8;
constexpr std::size_t kLongestKey = std::size_t{1} << 30;
constexpr std::uint32_t kMostGroups = std::uint32_t{1} << 31;

std::uint32_t fold(std::string_view bytes) {
    const std::size_t hash = std::hash<std::string_view>{}(bytes);
    return static_cast<std::uint32_t>(hash ^ (static_cast<std::uint64_t>(hash) >> 32));
}

}  // namespace

GroupTable::GroupTable(std::pmr::memory_resource* resource)
    : entries_(resource), slots_(resource), blocks_(resource) {}

GroupTable::~GroupTable() {
    for (const Block& block : blocks_)
        blocks_.get_allocator().resource()->deallocate(block.bytes, block.size, 1);
}

std::uint32_t GroupTable::find_or_add(std::string_view key) {
    if (key.size() > kLongestKey)
        throw Error(ErrorKind::kLimitExceeded, "a group's dimensions are too large");
    // Two thirds full at most.
    if (entries_.size() * 3 >= slots_.size() * 2)
        grow();
    if (entries_.empty())
        entries_.reserve(4);
    const std::uint32_t hash = fold(key);
    const std::size_t mask = slots_.size() - 1;
    std::size_t at = hash & mask;
    for (; slots_[at] != kNoGroup; at = (at + 1) & mask) {
        const Entry& entry = entries_[slots_[at]];
        if (entry.hash == hash && std::string_view(entry.bytes, entry.length) == key)
            return slots_[at];
    }
    if (entries_.size() >= kMostGroups)
        throw Error(ErrorKind::kLimitExceeded, "too many groups");
    const auto group = static_cast<std::uint32_t>(entries_.size());
    entries_.push_back({keep(key), static_cast<std::uint32_t>(key.size()), hash});
    slots_[at] = group;
    return group;
}

// A copy of the key's bytes, for good.
const char* GroupTable::keep(std::string_view key) {
    if (blocks_.empty() || key.size() > block_left_) {
        const std::size_t next =
            blocks_.empty() ? kFirstBlock : std::min(blocks_.back().size * 2, kLargestBlock);
        const std::size_t size = std::max(next, key.size());
        if (blocks_.size() == blocks_.capacity())
            blocks_.reserve(blocks_.size() * 2 + 2);
        auto* bytes = static_cast<char*>(blocks_.get_allocator().resource()->allocate(size, 1));
        blocks_.push_back({bytes, size});
        block_left_ = size;
    }
    char* copy = blocks_.back().bytes + (blocks_.back().size - block_left_);
    if (!key.empty())
        std::memcpy(copy, key.data(), key.size());
    block_left_ -= key.size();
    return copy;
}

void GroupTable::grow() {
    const std::size_t size = std::max<std::size_t>(kFirstSlots, slots_.size() * 2);
    // Back to the resource before the larger one is taken: they need not live together.
    slots_.clear();
    slots_.shrink_to_fit();
    slots_.resize(size, kNoGroup);
    for (std::uint32_t group = 0; group < entries_.size(); ++group) {
        std::size_t at = entries_[group].hash & (size - 1);
        while (slots_[at] != kNoGroup)
            at = (at + 1) & (size - 1);
        slots_[at] = group;
    }
}

RawCache::RawCache(std::pmr::memory_resource* resource)
    : slots_(resource), bytes_(resource), notes_(resource) {}

// Whether this hash was noted not long ago; notes it where not.
bool RawCache::seen_before(std::uint32_t hash) {
    constexpr std::size_t kFirst = 64;
    if (noted_ >= notes_.size() && notes_.size() < kMostNotes) {
        std::pmr::vector<std::uint32_t> old(std::max(kFirst, notes_.size() * 4), 0,
                                            notes_.get_allocator());
        old.swap(notes_);
        for (const std::uint32_t note : old)
            notes_[note & (notes_.size() - 1)] = note;
        noted_ = 0;
    }
    std::uint32_t& note = notes_[hash & (notes_.size() - 1)];
    if (note == hash)
        return true;
    note = hash;
    ++noted_;
    return false;
}

void RawCache::insert(const Slot& slot) {
    const std::size_t mask = slots_.size() - 1;
    std::size_t at = slot.hash & mask;
    while (slots_[at].group != kNoGroup)
        at = (at + 1) & mask;
    slots_[at] = slot;
}

// Makes sure that one more entry fits: grows, or forgets all there is.
void RawCache::make_room(std::size_t length) {
    if (entries_ >= kMostEntries || bytes_.size() + length > kMostBytes) {
        std::fill(slots_.begin(), slots_.end(), Slot{});
        bytes_.clear();
        entries_ = 0;
    }
    if ((entries_ + 1) * std::size_t{2} <= slots_.size())
        return;
    constexpr std::size_t kFirst = 64;
    std::pmr::vector<Slot> old(std::max(kFirst, slots_.size() * 2), Slot{}, slots_.get_allocator());
    old.swap(slots_);
    for (const Slot& slot : old)
        if (slot.group != kNoGroup)
            insert(slot);
}

void RawCache::remember(std::string_view raw, std::uint32_t group) {
    if (raw.size() > kLongestRaw)
        return;
    if (misses_ < kFirstMisses) {
        ++misses_;
        return;
    }
    const std::uint32_t wanted = hash(raw);
    if (!seen_before(wanted))
        return;
    make_room(raw.size());
    const auto offset = static_cast<std::uint32_t>(bytes_.size());
    bytes_.insert(bytes_.end(), raw.begin(), raw.end());
    insert({wanted, group, static_cast<std::uint32_t>(raw.size()), offset});
    ++entries_;
}

}  // namespace meter
