// Groups: their canonical bytes, their table, the cache, and the states made of them.
#include "core/group_table.hpp"

#include <gtest/gtest.h>

#include <memory_resource>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/base10k.hpp"
#include "core/error.hpp"
#include "core/group_key.hpp"
#include "core/grouped_state.hpp"

namespace meter {
namespace {

using namespace std::string_literals;

// An upstream that counts what is taken and not given back.
class Counting final : public std::pmr::memory_resource {
  public:
    std::size_t taken = 0;

  private:
    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        taken += bytes;
        return std::pmr::new_delete_resource()->allocate(bytes, alignment);
    }
    void do_deallocate(void* memory, std::size_t bytes, std::size_t alignment) override {
        taken -= bytes;
        std::pmr::new_delete_resource()->deallocate(memory, bytes, alignment);
    }
    bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
        return this == &other;
    }
};

std::pmr::string number_key(bool negative, std::int32_t weight, std::vector<std::int16_t> digits) {
    std::pmr::string key;
    append_key_number(key, normalise({.negative = negative,
                                      .weight = weight,
                                      .count = static_cast<std::uint32_t>(digits.size()),
                                      .digits = digits.data()}));
    return key;
}

template <typename... Args>
std::pmr::string key_of(void (*append)(std::pmr::string&, Args...), Args... args) {
    std::pmr::string key;
    append(key, args...);
    return key;
}

TEST(GroupKey, SortsByTypeThenValue) {
    const std::vector<std::pmr::string> order = {
        key_of(append_key_null),
        key_of<std::string_view>(append_key_string, ""),
        key_of<std::string_view>(append_key_string, "1"),
        key_of<std::string_view>(append_key_string, "a"),
        key_of<std::string_view>(append_key_string, "aa"),
        key_of<std::string_view>(append_key_string, "b"),
        key_of<std::string_view>(append_key_string, "\xC3\xA4"),
        number_key(true, 5000, {1}),
        number_key(true, 1, {2}),
        number_key(true, 1, {1, 1}),
        number_key(true, 1, {1}),
        number_key(true, 0, {9999, 5000}),
        number_key(true, 0, {1}),
        number_key(true, -2, {1}),
        number_key(false, 0, {0}),
        number_key(false, -2, {1}),
        number_key(false, 0, {1}),
        number_key(false, 0, {1, 1}),
        number_key(false, 0, {1, 2}),
        number_key(false, 0, {2}),
        number_key(false, 1, {1}),
        number_key(false, 5000, {1}),
        key_of(append_key_bool, false),
        key_of(append_key_bool, true),
        key_of<std::string_view>(append_key_container, "[]"),
        key_of<std::string_view>(append_key_container, "{}"),
    };
    for (std::size_t i = 0; i < order.size(); ++i)
        for (std::size_t k = 0; k < order.size(); ++k) {
            EXPECT_EQ(order[i] < order[k], i < k) << i << " " << k;
            // A value behind does not change the order of two that differ.
            EXPECT_EQ(order[i] + key_of(append_key_bool, true) < order[k] + key_of(append_key_null),
                      i < k);
        }
    EXPECT_EQ(number_key(false, 1, {0, 1, 5000, 0}), number_key(false, 0, {1, 5000}));
}

TEST(GroupKey, ReadsWhatWasAppended) {
    std::pmr::string key;
    append_key_string(key, "x");
    append_key_null(key);
    key += number_key(true, 3, {1, 0, 2});
    append_key_bool(key, true);
    append_key_container(key, "[1]");
    DigitBuffer digits;
    KeyReader reader(key, digits);
    EXPECT_EQ(reader.next(), KeyPart::kString);
    EXPECT_EQ(reader.text(), "x");
    EXPECT_EQ(reader.next(), KeyPart::kNull);
    EXPECT_EQ(reader.next(), KeyPart::kNumber);
    std::pmr::string text;
    append_text(text, reader.number());
    EXPECT_EQ(text, "-1000000020000");
    EXPECT_EQ(reader.next(), KeyPart::kTrue);
    EXPECT_EQ(reader.next(), KeyPart::kContainer);
    EXPECT_EQ(reader.text(), "[1]");
    EXPECT_TRUE(reader.at_end());
    EXPECT_THROW(reader.next(), Error);
}

TEST(GroupKey, Utf8) {
    for (const auto& good : {""s, "a\x7F"s, "\xC2\x80"s, "\xED\x9F\xBF"s, "\xEE\x80\x80"s,
                             "\xF0\x90\x80\x80"s, "\xF4\x8F\xBF\xBF"s})
        EXPECT_TRUE(is_plain_utf8(good));
    for (const auto& bad :
         {"\0"s, "\x80"s, "\xC0\x80"s, "\xC3"s, "\xE0\x80\x80"s, "\xED\xA0\x80"s,
          "\xF0\x80\x80\x80"s, "\xF4\x90\x80\x80"s, "\xF5\x80\x80\x80"s, "\xE2\x82"s, "\xFF"s})
        EXPECT_FALSE(is_plain_utf8(bad));
}

TEST(GroupTable, NumbersInOrderOfComing) {
    Counting counting;
    {
        GroupTable table(&counting);
        std::unordered_map<std::string, std::uint32_t> expected;
        std::mt19937_64 random(3);
        for (int i = 0; i < 200000; ++i) {
            const std::string key = std::to_string(random() % 50000) +
                                    (i % 1000 == 0 ? std::string(random() % 5000, 'x') : "");
            const auto [at, added] =
                expected.emplace(key, static_cast<std::uint32_t>(expected.size()));
            ASSERT_EQ(table.find_or_add(key), at->second);
        }
        EXPECT_EQ(table.size(), expected.size());
        for (const auto& [key, group] : expected)
            ASSERT_EQ(table.key(group), key);
        const std::uint32_t last = table.size();
        EXPECT_EQ(table.find_or_add(""), last);
    }
    EXPECT_EQ(counting.taken, 0U);
}

TEST(RawCache, AnswersWhatItWasTold) {
    RawCache cache(std::pmr::new_delete_resource());
    std::mt19937_64 random(4);
    std::size_t hits = 0;
    for (int i = 0; i < 300000; ++i) {
        const auto number = static_cast<std::uint32_t>(random() % 3000);
        const std::string raw = "object " + std::to_string(number) + std::string(number % 100, '.');
        const std::uint32_t group = cache.find(raw);
        if (group == kNoGroup)
            cache.remember(raw, number);
        else
            ASSERT_EQ(group, number);
        hits += group != kNoGroup;
    }
    EXPECT_GT(hits, 280000U);
}

TEST(RawCache, IsBoundedWhateverComes) {
    Counting counting;
    RawCache cache(&counting);
    for (int i = 0; i < 300000; ++i) {
        const std::string raw = std::to_string(i / 2) + std::string(200, 'x');
        const std::uint32_t group = cache.find(raw);
        if (group == kNoGroup)
            cache.remember(raw, 1);
        ASSERT_LE(cache.entries(), RawCache::kMostEntries);
    }
    EXPECT_LE(counting.taken, std::size_t{3} << 20);
    // All different: nothing is kept but their hashes.
    Counting quiet;
    RawCache idle(&quiet);
    for (int i = 0; i < 300000; ++i) {
        const std::string raw = "d" + std::to_string(i) + std::string(200, 'x');
        if (idle.find(raw) == kNoGroup)
            idle.remember(raw, 1);
    }
    EXPECT_LE(quiet.taken, std::size_t{128} * 1024);
    EXPECT_EQ(idle.find(std::string(RawCache::kLongestRaw + 1, 'x')), kNoGroup);
}

void no_pause() {}

std::string flat(const GroupedState& state) {
    wire::Counter counter;
    state.write(counter, no_pause);
    std::string bytes(counter.size(), '\0');
    wire::Memory memory(bytes.data());
    state.write(memory, no_pause);
    return bytes;
}

void fill(GroupedState& state, std::uint64_t seed) {
    std::mt19937_64 random(seed);
    if (state.keys().empty()) {
        state.add_key("model");
        state.add_key("region");
    }
    for (int i = 0; i < 200; ++i) {
        std::pmr::string key;
        append_key_string(key, std::to_string(random() % 5));
        if (random() % 3 == 0)
            append_key_null(key);
        else
            key += number_key(random() % 2 == 0, 1, {static_cast<std::int16_t>(random() % 3), 7});
        const std::uint32_t group = state.group(key);
        const std::int16_t digits[] = {
            static_cast<std::int16_t>(1 + random() % 9999), 1, 1, 1, 1, 1, 1, 1, 1, 1};
        const NumberView value = {.negative = random() % 2 == 0,
                                  .weight = static_cast<std::int32_t>(random() % 8),
                                  .count = static_cast<std::uint32_t>(1 + random() % 10),
                                  .digits = digits};
        if (random() % 10 == 0)
            continue;
        switch (state.kind()) {
            case StateKind::kSumBy:
                state.add_sum(group, value);
                break;
            case StateKind::kCountBy:
                state.add_count(group, 1);
                break;
            default:
                state.add_last(group, static_cast<std::int64_t>(random() % 20), value);
        }
    }
}

// Group bytes to value text.
std::unordered_map<std::string, std::string> values(const GroupedState& state) {
    std::unordered_map<std::string, std::string> out;
    DigitBuffer digits;
    for (std::uint32_t group = 0; group < state.table().size(); ++group) {
        NumberView number;
        std::pmr::string text = "null";
        if (state.value(group, digits, number)) {
            text.clear();
            append_text(text, number);
        }
        out[std::string(state.table().key(group))] = text;
    }
    return out;
}

class States : public testing::TestWithParam<StateKind> {};
INSTANTIATE_TEST_SUITE_P(Kinds, States,
                         testing::Values(StateKind::kSumBy, StateKind::kCountBy,
                                         StateKind::kLastBy));

TEST_P(States, RoundTripAndGiveAllBack) {
    Counting counting;
    {
        GroupedState state(GetParam(), &counting);
        fill(state, 1);
        GroupedState copy(GetParam(), &counting);
        copy.absorb(flat(state), no_pause);
        EXPECT_EQ(flat(copy), flat(state));
        EXPECT_EQ(values(copy), values(state));
    }
    EXPECT_EQ(counting.taken, 0U);
}

TEST_P(States, AbsorbingIsAsIfAllRowsHadComeToOne) {
    auto* resource = std::pmr::new_delete_resource();
    GroupedState all(GetParam(), resource);
    GroupedState merged(GetParam(), resource);
    for (std::uint64_t seed = 1; seed <= 5; ++seed) {
        fill(all, seed);
        GroupedState part(GetParam(), resource);
        fill(part, seed);
        merged.absorb(flat(part), no_pause);
    }
    EXPECT_EQ(values(merged), values(all));
}

TEST_P(States, EveryTruncationIsRefused) {
    auto* resource = std::pmr::new_delete_resource();
    GroupedState state(GetParam(), resource);
    fill(state, 1);
    const std::string bytes = flat(state);
    for (std::size_t cut = 0; cut < bytes.size(); ++cut) {
        GroupedState other(GetParam(), resource);
        EXPECT_THROW(other.absorb(std::string_view(bytes).substr(0, cut), no_pause), Error) << cut;
    }
    GroupedState other(GetParam(), resource);
    EXPECT_THROW(other.absorb(bytes + "x", no_pause), Error);
}

TEST_P(States, FlippedBytesAreRefusedOrHarmless) {
    auto* resource = std::pmr::new_delete_resource();
    GroupedState state(GetParam(), resource);
    fill(state, 1);
    const std::string bytes = flat(state);
    std::mt19937_64 random(5);
    std::size_t refused = 0;
    for (int i = 0; i < 50000; ++i) {
        std::string broken = bytes;
        for (std::uint64_t flips = 1 + random() % 3; flips > 0; --flips)
            broken[random() % broken.size()] = static_cast<char>(random());
        GroupedState other(GetParam(), resource);
        try {
            other.absorb(broken, no_pause);
            // What was taken for a state has to be one.
            GroupedState again(GetParam(), resource);
            again.absorb(flat(other), no_pause);
            EXPECT_EQ(values(again), values(other));
        } catch (const Error& error) {
            EXPECT_TRUE(error.kind == ErrorKind::kInvalidBinary ||
                        error.kind == ErrorKind::kInvalidParameter ||
                        error.kind == ErrorKind::kOutOfRange);
            ++refused;
        }
    }
    EXPECT_GT(refused, 10000U);
}

TEST(States, OtherKindOrKeysAreRefused) {
    auto* resource = std::pmr::new_delete_resource();
    GroupedState sums(StateKind::kSumBy, resource);
    fill(sums, 1);
    GroupedState counts(StateKind::kCountBy, resource);
    fill(counts, 1);
    EXPECT_THROW(sums.absorb(flat(counts), no_pause), Error);
    GroupedState others(StateKind::kSumBy, resource);
    others.add_key("region");
    others.add_key("model");
    EXPECT_THROW(sums.absorb(flat(others), no_pause), Error);
    EXPECT_THROW(others.add_key("model"), Error);
}

TEST(States, CountOverflowIsAnError) {
    GroupedState counts(StateKind::kCountBy, std::pmr::new_delete_resource());
    const std::uint32_t group = counts.group("");
    counts.add_count(group, INT64_MAX);
    EXPECT_THROW(counts.add_count(group, 1), Error);
    EXPECT_EQ(values(counts).at(""), "9223372036854775807");
}

int pauses = 0;
struct Cancelled {};

TEST(GroupedState, PausesOnItsWay) {
    GroupedState state(StateKind::kCountBy, std::pmr::get_default_resource());
    state.add_key("k");
    constexpr std::uint32_t kGroups = 3 * kGroupsToPause;
    for (std::uint32_t i = 0; i < kGroups; ++i) {
        std::pmr::string key;
        append_key_string(key, std::to_string(i));
        state.add_count(state.group(key), 1);
    }
    const auto count = [] { ++pauses; };
    const auto cancel = [] {
        if (++pauses == 2)
            throw Cancelled();
    };
    const std::string bytes = flat(state);
    wire::Counter counter;
    pauses = 0;
    state.write(counter, count);
    EXPECT_EQ(pauses, 3);
    pauses = 0;
    EXPECT_THROW(state.write(counter, cancel), Cancelled);

    GroupedState copy(StateKind::kCountBy, std::pmr::get_default_resource());
    pauses = 0;
    EXPECT_THROW(copy.absorb(bytes, cancel), Cancelled);
    EXPECT_EQ(copy.table().size(), kGroupsToPause);
    GroupedState whole(StateKind::kCountBy, std::pmr::get_default_resource());
    pauses = 0;
    whole.absorb(bytes, count);
    EXPECT_EQ(pauses, 3);
    EXPECT_EQ(flat(whole), bytes);
}

TEST(LastRow, OrderIsTimeTiebreakValue) {
    const std::int16_t one[] = {1};
    const std::int16_t two[] = {2};
    const NumberView small = {.count = 1, .digits = one};
    const NumberView large = {.count = 1, .digits = two};
    const LastRow order[] = {{.time = 1, .has_tiebreak = true, .tiebreak = 9, .value = large},
                             {.time = 2, .value = small},
                             {.time = 2, .value = large},
                             {.time = 2, .has_tiebreak = true, .tiebreak = -5, .value = large},
                             {.time = 2, .has_tiebreak = true, .tiebreak = 5, .value = small},
                             {.time = 2, .has_tiebreak = true, .tiebreak = 5, .value = large}};
    for (std::size_t i = 0; i < std::size(order); ++i)
        for (std::size_t k = 0; k < std::size(order); ++k)
            EXPECT_EQ(order[i].is_after(order[k]), i > k) << i << " " << k;
    for (std::size_t i = 0; i < std::size(order); ++i)
        for (std::size_t k = 0; k < std::size(order); ++k) {
            EXPECT_EQ(order[i].replaces(order[k], StateKind::kLastTiebreak), i > k);
            EXPECT_EQ(order[i].replaces(order[k], StateKind::kFirstTiebreak), i < k);
        }
}

TEST(LastRow, RoundTripAndTruncation) {
    const std::int16_t one[] = {1, 2, 3};
    for (const StateKind kind : {StateKind::kLast, StateKind::kLastTiebreak, StateKind::kFirst,
                                 StateKind::kFirstTiebreak}) {
        const LastRow row = {.time = -5,
                             .has_tiebreak = has_tiebreak(kind),
                             .tiebreak = has_tiebreak(kind) ? 77 : 0,
                             .value = {.negative = true, .count = 3, .digits = one}};
        wire::Counter counter;
        write_last(counter, kind, row);
        std::string bytes(counter.size(), '\0');
        wire::Memory memory(bytes.data());
        write_last(memory, kind, row);
        DigitBuffer digits;
        const LastRow copy = read_last(bytes, kind, digits);
        EXPECT_FALSE(copy.is_after(row) || row.is_after(copy));
        for (std::size_t cut = 0; cut < bytes.size(); ++cut)
            EXPECT_THROW(read_last(std::string_view(bytes).substr(0, cut), kind, digits), Error);
        EXPECT_THROW(read_last(bytes + "x", kind, digits), Error);
        EXPECT_THROW(
            read_last(bytes, kind == StateKind::kLast ? StateKind::kLastTiebreak : StateKind::kLast,
                      digits),
            Error);
    }
}

}  // namespace
}  // namespace meter
