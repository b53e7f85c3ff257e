#include "pg/batch_limits.hpp"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "pg/catalog.hpp"
#include "pg/limit_usage.hpp"
#include "pg/memory.hpp"
#include "pg/values.hpp"

extern "C" {
#include "utils/datum.h"
#include "utils/numeric.h"
}

namespace meter::pg {

namespace {

// What counters are told apart by.
struct CounterKey {
    std::int32_t meter_id;
    LimitPeriod period;
    std::int64_t start;
    std::string_view user;

    bool operator==(const CounterKey& other) const = default;
};

struct CounterKeyHash {
    std::size_t operator()(const CounterKey& key) const {
        const std::size_t numbers =
            std::hash<std::int64_t>()(key.start ^ (static_cast<std::int64_t>(key.meter_id) << 8) ^
                                      static_cast<int>(key.period));
        return std::hash<std::string_view>()(key.user) ^ (numbers * 0x9E3779B97F4A7C15U);
    }
};

// That an item needs a counter, by its number.
struct CounterUse {
    std::size_t item;
    std::size_t counter;
};

// The counters that a batch needs. It holds what needs destructors, so it lives in a memory
// context; its methods make no PostgreSQL calls.
struct BatchCounters {
    std::vector<LimitCounter> counters;
    std::unordered_map<CounterKey, std::size_t, CounterKeyHash> numbers;
    std::vector<CounterUse> uses;  // in the order of the items
    std::vector<bool> changed;

    // Returns whether the counter is a new one.
    bool add(std::size_t item, const LimitCounter& counter) {
        const auto [at, fresh] = numbers.try_emplace(
            {counter.meter_id, counter.period, counter.span.start, text_view(counter.user)},
            counters.size());
        uses.push_back({item, at->second});
        if (fresh)
            counters.push_back(counter);
        return fresh;
    }

    // Puts the counters in order.
    void sort() {
        std::vector<std::size_t> order(counters.size());
        for (std::size_t i = 0; i < order.size(); ++i)
            order[i] = i;
        std::sort(order.begin(), order.end(), [this](std::size_t a, std::size_t b) {
            return counter_before(counters[a], counters[b]);
        });
        std::vector<LimitCounter> sorted;
        std::vector<std::size_t> places(order.size());
        for (const std::size_t i : order) {
            places[i] = sorted.size();
            sorted.push_back(counters[i]);
        }
        for (CounterUse& use : uses)
            use.counter = places[use.counter];
        counters = std::move(sorted);
        changed.assign(counters.size(), false);
    }
};

void collect(Batch& batch, BatchCounters* needed) {
    for (std::size_t i = 0; i < batch.size(); ++i) {
        if (i % 1024 == 0)
            CHECK_FOR_INTERRUPTS();
        const BatchItem& item = batch.item(i);
        if (item.status != ItemStatus::kRecorded)
            continue;
        LimitCounter counters[HardLimits::kMost];
        const int count = counters_of(item.meter_id, item.user, item.time, counters);
        for (int n = 0; n < count; ++n)
            if (needed->add(i, counters[n]))
                // What a session remembers may go.
                needed->counters.back().amount = datumCopy(counters[n].amount, false, -1);
    }
}

}  // namespace

void judge_limits(Batch& batch) {
    BatchCounters* needed = make_in<BatchCounters>(CurrentMemoryContext);
    collect(batch, needed);
    if (needed->uses.empty())
        return;
    needed->sort();
    const auto count = static_cast<int>(needed->counters.size());
    auto* held = static_cast<HeldCounter*>(MemoryContextAllocHuge(
        CurrentMemoryContext, sizeof(HeldCounter) * static_cast<Size>(count)));
    hold_counters(needed->counters.data(), count, held);

    const Datum one = NumericGetDatum(int64_to_numeric(1));
    const std::size_t use_count = needed->uses.size();
    for (std::size_t first = 0, end = 0; first < use_count; first = end) {
        if (first % 1024 == 0)
            CHECK_FOR_INTERRUPTS();
        BatchItem& item = batch.item(needed->uses[first].item);
        std::size_t over = use_count;
        const auto more_of = [&](std::size_t use) {
            return needed->counters[needed->uses[use].counter].counts ? one : item.value;
        };
        for (end = first; end < use_count && needed->uses[end].item == needed->uses[first].item;
             ++end)
            if (const std::size_t number = needed->uses[end].counter;
                over == use_count &&
                exceeds(needed->counters[number], held[number].usage, more_of(end)))
                over = end;
        if (over < use_count) {
            const std::size_t number = needed->uses[over].counter;
            const MeterDefinition* meter = find_meter(batch.call.org, item.meter_id);
            item.error = batch.add_error(over_limit_error(needed->counters[number],
                                                          meter != nullptr ? meter->event_name : "",
                                                          held[number].usage, more_of(over)));
            item.status = ItemStatus::kOverLimit;
            continue;
        }
        for (std::size_t use = first; use < end; ++use) {
            const std::size_t number = needed->uses[use].counter;
            held[number].usage = DirectFunctionCall2(numeric_add, held[number].usage, more_of(use));
            needed->changed[number] = true;
        }
    }
    int left = 0;
    for (int i = 0; i < count; ++i)
        if (needed->changed[static_cast<std::size_t>(i)])
            held[left++] = held[i];
    if (left > 0)
        store_counters(held, left);
}

}  // namespace meter::pg
