#include "pg/batch.hpp"

#include <algorithm>
#include <cstring>
#include <string>

#include "pg/batch_limits.hpp"
#include "pg/event.hpp"
#include "pg/event_ids.hpp"
#include "pg/ledger.hpp"
#include "pg/memory.hpp"
#include "pg/values.hpp"

namespace meter::pg {

namespace {

constexpr const char* kStatusNames[] = {"invalid", "recorded", "duplicate", "conflict",
                                        "over_limit"};

// An array of `count` in the current memory context, of any size.
template <typename T>
T* make_array(std::size_t count) {
    return static_cast<T*>(
        MemoryContextAllocHuge(CurrentMemoryContext, sizeof(T) * std::max<std::size_t>(count, 1)));
}

// An item with a key, to be sorted: the digest as two numbers that compare as its bytes do.
struct KeyedItem {
    std::uint64_t high;
    std::uint64_t low;
    std::uint32_t index;

    bool operator<(const KeyedItem& other) const {
        return high != other.high ? high < other.high
               : low != other.low ? low < other.low
                                  : index < other.index;
    }
    bool same_digest(const KeyedItem& other) const {
        return high == other.high && low == other.low;
    }
};

// Sorts, in steps between which a cancel request is looked for.
void sort_keys(KeyedItem* items, std::size_t count) {
    constexpr std::size_t kStep = 32 * 1024;
    for (std::size_t start = 0; start < count; start += kStep) {
        CHECK_FOR_INTERRUPTS();
        std::sort(items + start, items + std::min(start + kStep, count));
    }
    if (count <= kStep)
        return;
    auto* merged = make_array<KeyedItem>(count);
    KeyedItem* from = items;
    KeyedItem* to = merged;
    for (std::size_t width = kStep; width < count; width *= 2) {
        for (std::size_t start = 0; start < count; start += 2 * width) {
            CHECK_FOR_INTERRUPTS();
            const std::size_t middle = std::min(start + width, count);
            const std::size_t end = std::min(start + 2 * width, count);
            std::merge(from + start, from + middle, from + middle, from + end, to + start);
        }
        std::swap(from, to);
    }
    if (from != items)
        std::memcpy(items, from, sizeof(KeyedItem) * count);
    pfree(merged);
}

// The keys of a batch. Plain data in the memory context it was made in.
struct Keys {
    std::size_t count;    // of items that have one
    KeyedItem* items;     // by digest, then by ordinal
    int digests;          // how many there are
    std::size_t* starts;  // where the items of each begin, and the end
    LedgerEntry* entries;
    KeyState* states;
    LedgerEntry* taken;
};

// Collects the keys of the items that are to be recorded.
Keys* collect_keys(Batch& batch) {
    auto* keys = static_cast<Keys*>(palloc0(sizeof(Keys)));
    for (std::size_t i = 0; i < batch.size(); ++i)
        keys->count += batch.item(i).status == ItemStatus::kRecorded && batch.item(i).key != 0;
    if (keys->count == 0)
        return keys;
    CHECK_FOR_INTERRUPTS();
    keys->items = make_array<KeyedItem>(keys->count);
    std::size_t at = 0;
    for (std::size_t i = 0; i < batch.size(); ++i) {
        const BatchItem& item = batch.item(i);
        if (item.status != ItemStatus::kRecorded || item.key == 0)
            continue;
        KeyedItem& keyed = keys->items[at++];
        std::memcpy(&keyed.high, item.digest.data(), sizeof keyed.high);
        std::memcpy(&keyed.low, item.digest.data() + sizeof keyed.high, sizeof keyed.low);
        keyed.high = __builtin_bswap64(keyed.high);
        keyed.low = __builtin_bswap64(keyed.low);
        keyed.index = static_cast<std::uint32_t>(i);
    }
    sort_keys(keys->items, keys->count);

    keys->entries = make_array<LedgerEntry>(keys->count);
    keys->taken = make_array<LedgerEntry>(keys->count);
    keys->states = make_array<KeyState>(keys->count);
    keys->starts = make_array<std::size_t>(keys->count + 1);
    for (std::size_t i = 0; i < keys->count; ++i) {
        if (i > 0 && keys->items[i].same_digest(keys->items[i - 1]))
            continue;
        const BatchItem& item = batch.item(keys->items[i].index);
        keys->entries[keys->digests] = {item.digest, item.fingerprint, 0,
                                        to_timestamptz(item.time)};
        keys->starts[keys->digests++] = i;
    }
    keys->starts[keys->digests] = keys->count;
    return keys;
}

// Gives an id to each item that may be recorded, in order: of two events of one instant the later
// item is the later event. Those that repeat a key of the batch, or one that is taken, get none.
void assign_ids(Batch& batch, const Keys& keys) {
    for (int i = 0; i < keys.digests; ++i)
        for (std::size_t at = keys.starts[i] + (keys.states[i] == KeyState::kTaken ? 0 : 1);
             at < keys.starts[i + 1]; ++at)
            batch.item(keys.items[at].index).status = ItemStatus::kDuplicate;
    int64 count = 0;
    for (std::size_t i = 0; i < batch.size(); ++i)
        count += batch.item(i).status == ItemStatus::kRecorded ? 1 : 0;
    int64 next = count > 1 ? take_event_ids(count) : 0;
    for (std::size_t i = 0; i < batch.size(); ++i) {
        if (i % 1024 == 0)
            CHECK_FOR_INTERRUPTS();
        if (batch.item(i).status == ItemStatus::kRecorded)
            batch.item(i).event_id = next > 0 ? next++ : next_event_id();
    }
    for (int i = 0; i < keys.digests; ++i)
        keys.entries[i].event_id = batch.item(keys.items[keys.starts[i]].index).event_id;
}

// Notes for the conflicting items of digest `i` that they conflict with `recorded`.
void report_conflicts(Batch& batch, const Keys& keys, int i, const RecordedPayload& recorded) {
    for (std::size_t at = keys.starts[i]; at < keys.starts[i + 1]; ++at) {
        BatchItem& item = batch.item(keys.items[at].index);
        if (item.status == ItemStatus::kConflict)
            batch.set_conflict(item, value_text_of(item), recorded.value, recorded.dimensions);
    }
}

// Reads what the conflicting items of the digests in `wanted` conflict with, and notes it.
void report_recorded(Batch& batch, const Keys& keys, PayloadRequest* wanted, int count) {
    struct Target {
        Batch& batch;
        const Keys& keys;
    } target{batch, keys};
    read_payloads(
        wanted, count,
        [](void* self, int number, const RecordedPayload& payload) {
            const auto* to = static_cast<const Target*>(self);
            report_conflicts(to->batch, to->keys, number, payload);
        },
        &target);
    // What is gone meanwhile.
    for (int i = 0; i < count; ++i) {
        const int digest = wanted[i].number;
        for (std::size_t at = keys.starts[digest]; at < keys.starts[digest + 1]; ++at) {
            const BatchItem& item = batch.item(keys.items[at].index);
            if (item.status == ItemStatus::kConflict && item.error < 0) {
                report_conflicts(batch, keys, digest, {"(unknown)", "(unknown)"});
                break;
            }
        }
    }
}

// Judges every item that has a key: against the event that has it in the ledger, or against the
// first item with it, those with another payload are in conflict, the rest are duplicates.
void judge(Batch& batch, const Keys& keys) {
    constexpr int kAtOnce = 10'000;
    const MemoryContext scratch =
        AllocSetContextCreate(CurrentMemoryContext, "conflicts of a batch", ALLOCSET_SMALL_SIZES);
    const MemoryContext caller_context = MemoryContextSwitchTo(scratch);
    PayloadRequest* wanted = nullptr;
    int wanted_count = 0;
    for (int i = 0; i < keys.digests; ++i) {
        if (i % 256 == 0)
            CHECK_FOR_INTERRUPTS();
        const bool is_new = keys.states[i] == KeyState::kClaimed;
        const LedgerEntry& entry = is_new ? keys.entries[i] : keys.taken[i];
        const BatchItem& first = batch.item(keys.items[keys.starts[i]].index);
        bool conflicts = false;
        for (std::size_t at = keys.starts[i] + (is_new ? 1 : 0); at < keys.starts[i + 1]; ++at) {
            BatchItem& item = batch.item(keys.items[at].index);
            const bool same = item.fingerprint == entry.fingerprint;
            item.status = same ? ItemStatus::kDuplicate : ItemStatus::kConflict;
            item.event_id = entry.event_id;
            conflicts |= !same;
        }
        if (!conflicts)
            continue;
        if (is_new) {
            report_conflicts(batch, keys, i, {value_text_of(first), first.dimensions->text});
            continue;
        }
        if (wanted == nullptr)
            wanted = make_array<PayloadRequest>(kAtOnce);
        wanted[wanted_count++] = {first.meter_id, entry.event_time, entry.event_id, i};
        if (wanted_count == kAtOnce) {
            report_recorded(batch, keys, wanted, wanted_count);
            wanted_count = 0;
        }
    }
    if (wanted_count > 0)
        report_recorded(batch, keys, wanted, wanted_count);
    MemoryContextSwitchTo(caller_context);
    MemoryContextDelete(scratch);
}

// Gives back the keys of items that are over a limit: sent again later, they may be recorded. What
// repeats such a key in the batch shares the item's fate, whatever its payload: there is no event
// that it could be in conflict with.
void give_back_keys(Batch& batch, const Keys& keys) {
    auto* digests = make_array<Digest>(static_cast<std::size_t>(keys.digests));
    int count = 0;
    for (int i = 0; i < keys.digests; ++i) {
        const BatchItem& first = batch.item(keys.items[keys.starts[i]].index);
        if (keys.states[i] != KeyState::kClaimed || first.status != ItemStatus::kOverLimit)
            continue;
        digests[count++] = first.digest;
        for (std::size_t at = keys.starts[i] + 1; at < keys.starts[i + 1]; ++at) {
            BatchItem& item = batch.item(keys.items[at].index);
            item.status = ItemStatus::kOverLimit;
            item.error = first.error;
        }
    }
    if (count > 0)
        release_keys(digests, count);
}

// Throws what is wrong with the first item that is neither recorded nor a duplicate. `before` is
// how many items there were before those of this batch.
void check_all_good(Batch& batch, std::int64_t before) {
    for (std::size_t i = 0; i < batch.size(); ++i)
        if (const std::int32_t number = batch.item(i).error; number >= 0) {
            Error error = batch.errors[static_cast<std::size_t>(number)];
            error.message = "event " + std::to_string(before + static_cast<std::int64_t>(i) + 1) +
                            ": " + error.message;
            throw error;
        }
}

// Writes the events of the items that are to be recorded, in order.
void write_events(Batch& batch) {
    // Both bound the memory of a step; a larger one gains little. What is passed to a statement is
    // arrays, and no datum can be larger than a gigabyte.
    constexpr int kChunk = 10'000;
    constexpr std::size_t kChunkBytes = 64 * 1024 * 1024;
    const MemoryContext chunk_context =
        AllocSetContextCreate(CurrentMemoryContext, "events of a batch", ALLOCSET_DEFAULT_SIZES);
    const MemoryContext caller_context = MemoryContextSwitchTo(chunk_context);
    std::size_t next = 0;
    while (next < batch.size()) {
        auto* rows = make_array<NewEvent>(std::min<std::size_t>(kChunk, batch.size() - next));
        int count = 0;
        std::size_t bytes = 0;
        for (; next < batch.size() && count < kChunk && bytes < kChunkBytes; ++next) {
            const BatchItem& item = batch.item(next);
            if (item.status != ItemStatus::kRecorded)
                continue;
            rows[count++] = {item.event_id,
                             to_timestamptz(item.time),
                             item.meter_id,
                             item.user,
                             item.key,
                             item.value,
                             item.dimensions->stored,
                             item.metadata,
                             item.dimensions->digest};
            bytes += VARSIZE_ANY(DatumGetPointer(item.dimensions->stored)) +
                     VARSIZE_ANY(DatumGetPointer(item.metadata));
        }
        CHECK_FOR_INTERRUPTS();
        if (count > 0)
            insert_events(rows, count);
        MemoryContextReset(chunk_context);
    }
    MemoryContextSwitchTo(caller_context);
    MemoryContextDelete(chunk_context);
}

// Puts the outcome of every item into the result.
void report(Batch& batch, const SetResult& set) {
    Datum names[lengthof(kStatusNames)];
    for (std::size_t i = 0; i < lengthof(kStatusNames); ++i)
        names[i] = text_datum(kStatusNames[i]);
    const MemoryContext row_context =
        AllocSetContextCreate(CurrentMemoryContext, "result of a batch", ALLOCSET_SMALL_SIZES);
    const MemoryContext caller_context = MemoryContextSwitchTo(row_context);
    for (std::size_t i = 0; i < batch.size(); ++i) {
        const BatchItem& item = batch.item(i);
        const bool has_event =
            item.status == ItemStatus::kRecorded || item.status == ItemStatus::kDuplicate;
        const bool has_error = item.error >= 0;
        const Datum values[] = {
            Int32GetDatum(static_cast<int32>(i) + 1), Int64GetDatum(item.event_id),
            names[static_cast<int>(item.status)],
            has_error ? text_datum(batch.error_line(item)) : static_cast<Datum>(0)};
        const bool nulls[] = {false, !has_event, false, !has_error};
        put_row(set, values, nulls);
        if (has_error)
            MemoryContextReset(row_context);
        if (i % 1024 == 0)
            CHECK_FOR_INTERRUPTS();
    }
    MemoryContextSwitchTo(caller_context);
    MemoryContextDelete(row_context);
}

// Judges every item, and records those that are new. With `strict` throws what is wrong with the
// first item that is invalid or in conflict, counting from `before` + 1 on.
void record(Batch& batch, bool strict, std::int64_t before) {
    if (strict)
        check_all_good(batch, before);
    const Keys& keys = *collect_keys(batch);
    const int looked =
        keys.digests > 0 ? find_taken_keys(keys.entries, keys.digests, keys.states, keys.taken) : 0;
    assign_ids(batch, keys);
    if (keys.digests > 0)
        claim_keys(keys.entries, keys.digests, looked, keys.states, keys.taken);
    if (std::find(keys.states, keys.states + keys.digests, KeyState::kTaken) !=
        keys.states + keys.digests)
        secure_duplicates();
    judge(batch, keys);
    if (batch.limited) {
        judge_limits(batch);
        give_back_keys(batch, keys);
    }
    if (strict)
        check_all_good(batch, before);
    write_events(batch);
}

}  // namespace

void record_batch(Batch& batch, bool strict, const SetResult& set) {
    record(batch, strict, 0);
    report(batch, set);
}

int64 record_all(Batch& batch, int64 before) {
    record(batch, true, before);
    int64 duplicates = 0;
    for (std::size_t i = 0; i < batch.size(); ++i)
        duplicates += batch.item(i).status == ItemStatus::kDuplicate ? 1 : 0;
    return duplicates;
}

}  // namespace meter::pg
