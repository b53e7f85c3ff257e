// The state of the aggregates sum_by, count_by, last_by and first_by: a value for each group.
#pragma once

#include <cstdint>
#include <memory_resource>
#include <string>
#include <string_view>
#include <vector>

#include "core/base10k.hpp"
#include "core/exact_sum.hpp"
#include "core/group_table.hpp"
#include "core/wire.hpp"

namespace meter {

// What a state is of. The numbers are in the states' format.
enum class StateKind : std::uint8_t {
    kSumBy = 1,
    kCountBy = 2,
    kLastBy = 3,
    kLast = 4,          // last(value, event_time)
    kLastTiebreak = 5,  // last(value, event_time, tiebreak)
    kFirst = 6,
    kFirstTiebreak = 7,
    kFirstBy = 8,
};

// Whether a state is one row: that of last or first.
inline constexpr bool is_single_row(StateKind kind) {
    return kind >= StateKind::kLast && kind <= StateKind::kFirstTiebreak;
}
inline constexpr bool has_tiebreak(StateKind kind) {
    return kind == StateKind::kLastTiebreak || kind == StateKind::kFirstTiebreak;
}
inline constexpr bool is_first(StateKind kind) {
    return kind >= StateKind::kFirst;
}

// The first bytes of every state: magic, version, kind.
inline constexpr std::uint8_t kStateMagic = 0xA7;
inline constexpr std::uint8_t kStateVersion = 1;

template <typename Sink>
void put_state_head(Sink& sink, StateKind kind) {
    wire::put(sink, kStateMagic);
    wire::put(sink, kStateVersion);
    wire::put(sink, static_cast<std::uint8_t>(kind));
}

// Reads the head of a state. Throws Error kInvalidBinary where it is none of ours.
StateKind get_state_head(wire::Reader& reader);

// Throws Error kInvalidParameter unless a state that is given is of the kind that is wanted.
[[noreturn]] void throw_other_kind(StateKind wanted, StateKind given);
inline void expect_kind(StateKind wanted, StateKind given) {
    if (wanted != given)
        throw_other_kind(wanted, given);
}

inline constexpr std::uint32_t kMostKeys = 1000;
inline constexpr std::uint32_t kGroupsToPause = 4096;

// Groups and their values, in memory from one resource. The kind is that of a *_by aggregate.
class GroupedState {
  public:
    GroupedState(StateKind kind, std::pmr::memory_resource* resource);
    ~GroupedState();
    GroupedState(const GroupedState&) = delete;
    GroupedState& operator=(const GroupedState&) = delete;

    StateKind kind() const { return kind_; }

    // The grouping keys. Throws Error kInvalidParameter for a duplicate, kLimitExceeded past
    // kMostKeys.
    void add_key(std::string_view key);
    const std::pmr::vector<std::pmr::string>& keys() const { return keys_; }

    // The group whose canonical bytes (group_key.hpp) these are; made, with no value, where new.
    std::uint32_t group(std::string_view canonical) {
        const std::uint32_t group = table_.find_or_add(canonical);
        if (group == cells())
            add_cell();
        return group;
    }
    const GroupTable& table() const { return table_; }

    // Take a row into a group. Count throws Error kOutOfRange past 2^63 - 1.
    void add_sum(std::uint32_t group, const NumberView& value) {
        sums_[group].add(value, resource_);
    }
    void add_count(std::uint32_t group, std::int64_t rows);
    // For kLastBy the later value stays, of equal times the greater; for kFirstBy the earlier, of
    // equal times the lesser.
    void add_last(std::uint32_t group, std::int64_t time, const NumberView& value);

    // A group's value; its digits are in `digits`. False where it has none: SQL's null.
    bool value(std::uint32_t group, DigitBuffer& digits, NumberView& out) const;

    // Called once for each kGroupsToPause groups, so that the caller can look for a cancel request;
    // it may throw.
    using Pause = void (*)();

    // Writes the state for absorb() to read.
    template <typename Sink>
    void write(Sink& sink, Pause pause) const;

    // Takes in a state that write() wrote. Throws Error kInvalidBinary where the bytes are
    // malformed, kInvalidParameter where kind or keys are not this state's; what was taken in
    // before stays then. Where this state has no keys and no groups yet it takes over the keys.
    void absorb(std::string_view bytes, Pause pause);

    // For the caller: the bytes of the last row's keys argument, the cache, and room to write keys.
    std::pmr::string keys_argument;
    RawCache cache;
    std::pmr::string scratch;
    DigitBuffer digits;

  private:
    struct Last {
        std::int64_t time = 0;
        bool present = false;
        StoredNumber value;
    };

    std::uint32_t cells() const;
    void add_cell();
    void absorb_keys(wire::Reader& reader);
    void check_group(std::string_view canonical);
    void absorb_cell(wire::Reader& reader, std::uint32_t group);

    StateKind kind_;
    std::pmr::memory_resource* resource_;
    std::pmr::vector<std::pmr::string> keys_;
    GroupTable table_;
    // A cell for each group, in the one that the kind is of.
    std::pmr::vector<ExactSum> sums_;
    std::pmr::vector<std::int64_t> counts_;
    std::pmr::vector<Last> lasts_;
};

template <typename Sink>
void GroupedState::write(Sink& sink, Pause pause) const {
    put_state_head(sink, kind_);
    wire::put(sink, static_cast<std::uint32_t>(keys_.size()));
    for (const auto& key : keys_)
        wire::put_text(sink, key);
    wire::put(sink, table_.size());
    DigitBuffer buffer(resource_);
    for (std::uint32_t group = 0; group < table_.size(); ++group) {
        if (group % kGroupsToPause == 0)
            pause();
        wire::put_text(sink, table_.key(group));
        switch (kind_) {
            case StateKind::kSumBy:
                wire::put(sink, sums_[group].seen());
                if (!sums_[group].empty())
                    encode(sink, sums_[group].finite(buffer));
                break;
            case StateKind::kCountBy:
                wire::put(sink, counts_[group]);
                break;
            default:
                wire::put(sink, static_cast<std::uint8_t>(lasts_[group].present));
                if (lasts_[group].present) {
                    wire::put(sink, lasts_[group].time);
                    encode(sink, lasts_[group].value.view());
                }
        }
    }
}

// The state of the aggregates last and first: one row.
struct LastRow {
    std::int64_t time = 0;
    bool has_tiebreak = false;  // without one, a row is before any that has one
    std::int64_t tiebreak = 0;
    NumberView value;

    // Whether this row is later: by time, then tiebreak, then value.
    bool is_after(const LastRow& other) const;
    // Whether this row takes the place of the other in a state of that kind.
    bool replaces(const LastRow& other, StateKind kind) const {
        return is_first(kind) ? other.is_after(*this) : is_after(other);
    }
};

template <typename Sink>
void write_last(Sink& sink, StateKind kind, const LastRow& row) {
    put_state_head(sink, kind);
    wire::put(sink, row.time);
    if (has_tiebreak(kind)) {
        wire::put(sink, static_cast<std::uint8_t>(row.has_tiebreak));
        wire::put(sink, row.tiebreak);
    }
    encode(sink, row.value);
}

// Reads what write_last() wrote; the value's digits go to `digits`. Throws Error kInvalidBinary
// where the bytes are malformed, kInvalidParameter where the state is of another kind.
LastRow read_last(std::string_view bytes, StateKind kind, DigitBuffer& digits);

}  // namespace meter
