#include "pg/batch.hpp"

#include <algorithm>
#include <string>
#include <unordered_map>

#include "core/conflict.hpp"
#include "core/dimensions.hpp"
#include "core/text.hpp"
#include "core/timestamp.hpp"
#include "pg/event.hpp"
#include "pg/ledger.hpp"
#include "pg/memory.hpp"
#include "pg/retention.hpp"
#include "pg/settings.hpp"
#include "pg/values.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
}

namespace meter::pg {

namespace {

// How an item ended.
enum class Status : std::uint8_t { kInvalid, kRecorded, kDuplicate, kConflict };

constexpr const char* kStatusNames[] = {"invalid", "recorded", "duplicate", "conflict"};

// What becomes of one item of the batch.
struct Item {
    Digest digest;
    std::int64_t fingerprint;
    std::int64_t event_id;
    std::int64_t time;  // microseconds since 1970
    std::int32_t meter_id;
    Status status;
};

// A batch under way. It holds what needs destructors, so it lives in a memory context; its methods
// make no PostgreSQL calls.
struct Batch {
    explicit Batch(std::vector<EventInput>& inputs) : events(inputs), items(inputs.size()) {}

    // Checks what needs no catalog, and computes digest and fingerprint.
    void prepare(std::size_t index, std::int64_t now, std::int64_t transaction_time,
                 std::int64_t max_lead, std::int64_t horizon);

    // Fills `keyed` with the valid items that have a key, ordered by digest and then by ordinal.
    void order_keys();

    // Judges the items of one digest, keyed[first..last), against the ledger's entry for it: those
    // with another payload than `fingerprint` are in conflict, the rest are duplicates of the
    // event; except for the first item where `first_is_new`: that one is the event.
    void judge(std::size_t first, std::size_t last, bool first_is_new, std::int64_t event_id,
               std::int64_t fingerprint);

    // Where item `index` conflicts with the payload (value, dimensions) that its key stands for.
    void set_conflict(std::size_t index, std::string_view value, std::string_view dimensions);

    void set_error(std::size_t index, const Error& error) {
        events[index].error = error;
        items[index].status = Status::kInvalid;
    }

    // What is wrong with an item, in one line: the result has one column for it.
    std::string_view error_line(std::size_t index);

    // The digest of canonical dimensions. Most events of a batch share theirs with others.
    Digest digest_of(std::string_view dimensions);

    std::vector<EventInput>& events;
    std::vector<Item> items;
    std::vector<std::uint32_t> keyed;
    std::unordered_map<std::string_view, Digest> digests;
};

void Batch::prepare(std::size_t index, std::int64_t now, std::int64_t transaction_time,
                    std::int64_t max_lead, std::int64_t horizon) {
    EventInput& event = events[index];
    Item& item = items[index];
    item.time = event.timestamp.value_or(transaction_time);
    try {
        check_event_time(item.time, now, max_lead);
        check_retained(item.time, horizon);
    } catch (const Error& error) {
        set_error(index, error);
        return;
    }
    item.status = Status::kRecorded;
    if (event.idempotency) {
        item.digest = key_digest(item.meter_id, *event.user_id, *event.idempotency);
        item.fingerprint = payload_fingerprint(event.value, event.dimensions);
    }
}

void Batch::order_keys() {
    for (std::size_t i = 0; i < items.size(); ++i)
        if (items[i].status == Status::kRecorded && events[i].idempotency)
            keyed.push_back(static_cast<std::uint32_t>(i));
    std::sort(keyed.begin(), keyed.end(), [&](std::uint32_t a, std::uint32_t b) {
        const auto order = items[a].digest <=> items[b].digest;
        return order != 0 ? order < 0 : a < b;
    });
}

void Batch::judge(std::size_t first, std::size_t last, bool first_is_new, std::int64_t event_id,
                  std::int64_t fingerprint) {
    for (std::size_t i = first; i < last; ++i) {
        Item& item = items[keyed[i]];
        if (first_is_new && i == first)
            continue;
        item.status = item.fingerprint == fingerprint ? Status::kDuplicate : Status::kConflict;
        item.event_id = event_id;
    }
}

void Batch::set_conflict(std::size_t index, std::string_view value, std::string_view dimensions) {
    const EventInput& event = events[index];
    events[index].error =
        conflict_error({*event.idempotency, value, dimensions, event.value, event.dimensions});
}

Digest Batch::digest_of(std::string_view dimensions) {
    // A bound on what is kept where nearly all differ.
    constexpr std::size_t kMaxDigests = 10'000;
    if (digests.size() >= kMaxDigests)
        digests.clear();
    const auto [at, fresh] = digests.try_emplace(dimensions);
    if (fresh)
        at->second = dimensions_digest(dimensions);
    return at->second;
}

std::string_view Batch::error_line(std::size_t index) {
    Error& error = *events[index].error;
    for (std::string* more : {&error.detail, &error.hint})
        if (!more->empty()) {
            error.message.append(error.message.back() == '.' ? " " : ". ").append(*more);
            more->clear();
        }
    return error.message;
}

// Looks up and locks the meter of an item, and checks its dimensions against it.
void resolve_meter(const Call& call, Batch& batch, std::size_t index) {
    const EventInput& event = batch.events[index];
    try {
        const MeterDefinition& definition =
            event.meter_id
                ? *event.meter_id > 0 && *event.meter_id <= PG_INT32_MAX
                      ? meter_for_recording(call.org, static_cast<int32>(*event.meter_id))
                      : throw unknown_meter_error(call.org, std::to_string(*event.meter_id))
                : meter_for_recording(call.org, *event.event_name);
        batch.items[index].meter_id = definition.id;
        check_declared(definition, event.dimensions);
    } catch (const Error& error) {
        batch.set_error(index, error);
    }
}

// Claims the keys of the batch and judges every item that has one.
void settle_keys(Batch& batch) {
    batch.order_keys();
    const std::size_t count = batch.keyed.size();
    if (count == 0)
        return;

    // One entry for each digest, and where its items start.
    auto* entries = static_cast<LedgerEntry*>(
        MemoryContextAllocHuge(CurrentMemoryContext, sizeof(LedgerEntry) * count));
    auto* taken = static_cast<LedgerEntry*>(
        MemoryContextAllocHuge(CurrentMemoryContext, sizeof(LedgerEntry) * count));
    auto* starts = static_cast<std::size_t*>(
        MemoryContextAllocHuge(CurrentMemoryContext, sizeof(std::size_t) * (count + 1)));
    auto* claimed =
        static_cast<bool*>(MemoryContextAllocHuge(CurrentMemoryContext, sizeof(bool) * count));
    int digests = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const Item& item = batch.items[batch.keyed[i]];
        if (i > 0 && item.digest == batch.items[batch.keyed[i - 1]].digest)
            continue;
        entries[digests] = {item.digest, item.fingerprint, item.event_id,
                            to_timestamptz(item.time)};
        starts[digests++] = i;
    }
    starts[digests] = count;

    claim_keys(entries, digests, claimed, taken);

    for (int i = 0; i < digests; ++i) {
        CHECK_FOR_INTERRUPTS();
        const LedgerEntry& entry = claimed[i] ? entries[i] : taken[i];
        batch.judge(starts[i], starts[i + 1], claimed[i], entry.event_id, entry.fingerprint);
        RecordedPayload recorded{"(unknown)", "(unknown)"};
        bool known = false;
        for (std::size_t at = starts[i]; at < starts[i + 1]; ++at) {
            const std::size_t index = batch.keyed[at];
            if (batch.items[index].status != Status::kConflict)
                continue;
            if (!known && claimed[i]) {
                const EventInput& winner = batch.events[batch.keyed[starts[i]]];
                recorded = {winner.value, winner.dimensions};
            } else if (!known) {
                read_payload(taken[i], batch.items[index].meter_id, &recorded);
            }
            known = true;
            batch.set_conflict(index, recorded.value, recorded.dimensions);
        }
    }
}

// Throws what is wrong with the first item that is neither recorded nor a duplicate.
void check_all_good(const Batch& batch) {
    for (std::size_t i = 0; i < batch.items.size(); ++i)
        if (batch.events[i].error) {
            Error error = *batch.events[i].error;
            error.message = "event " + std::to_string(i + 1) + ": " + error.message;
            throw error;
        }
}

Datum numeric_datum(const std::string& canonical) {
    return DirectFunctionCall3(numeric_in, CStringGetDatum(canonical.c_str()),
                               ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
}

Datum jsonb_datum(const std::string& json) {
    return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.c_str()));
}

// Writes the events of the items that are to be recorded, in order.
void write_events(Batch& batch) {
    // Both bound the memory of a statement; a larger chunk gains nothing. What is passed to one is
    // arrays, and no datum can be larger than a gigabyte.
    constexpr int kChunk = 10'000;
    constexpr std::size_t kChunkBytes = 64 * 1024 * 1024;
    const MemoryContext chunk_context =
        AllocSetContextCreate(CurrentMemoryContext, "events of a batch", ALLOCSET_DEFAULT_SIZES);
    const MemoryContext caller_context = MemoryContextSwitchTo(chunk_context);
    std::size_t next = 0;
    while (next < batch.items.size()) {
        auto* rows = static_cast<NewEvent*>(palloc(sizeof(NewEvent) * kChunk));
        int count = 0;
        std::size_t bytes = 0;
        for (; next < batch.items.size() && count < kChunk && bytes < kChunkBytes; ++next) {
            const Item& item = batch.items[next];
            if (item.status != Status::kRecorded)
                continue;
            const EventInput& event = batch.events[next];
            rows[count++] = {
                item.event_id,
                to_timestamptz(item.time),
                item.meter_id,
                *event.user_id,
                event.idempotency ? std::string_view(*event.idempotency) : std::string_view(),
                numeric_datum(event.value),
                jsonb_datum(event.dimensions),
                jsonb_datum(event.metadata),
                batch.digest_of(event.dimensions)};
            bytes += VARSIZE(DatumGetPointer(rows[count - 1].dimensions)) +
                     VARSIZE(DatumGetPointer(rows[count - 1].metadata));
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
    const MemoryContext row_context =
        AllocSetContextCreate(CurrentMemoryContext, "result of a batch", ALLOCSET_SMALL_SIZES);
    const MemoryContext caller_context = MemoryContextSwitchTo(row_context);
    for (std::size_t i = 0; i < batch.items.size(); ++i) {
        const Item& item = batch.items[i];
        const bool has_error = batch.events[i].error.has_value();
        const bool has_event =
            item.status == Status::kRecorded || item.status == Status::kDuplicate;
        const Datum values[] = {
            Int32GetDatum(static_cast<int32>(i) + 1), Int64GetDatum(item.event_id),
            text_datum(kStatusNames[static_cast<int>(item.status)]),
            has_error ? text_datum(batch.error_line(i)) : static_cast<Datum>(0)};
        const bool nulls[] = {false, !has_event, false, !has_error};
        put_row(set, values, nulls);
        MemoryContextReset(row_context);
        if (i % 1024 == 0)
            CHECK_FOR_INTERRUPTS();
    }
    MemoryContextSwitchTo(caller_context);
    MemoryContextDelete(row_context);
}

}  // namespace

void record_batch(const Call& call, std::vector<EventInput>* events, bool strict,
                  const SetResult& set) {
    Batch& batch = *make_in<Batch>(CurrentMemoryContext, *events);
    const int64 now = now_unix_micros();
    const int64 transaction_time = to_unix_micros(GetCurrentTransactionStartTimestamp());
    const int64 horizon = hold_horizon();
    for (std::size_t i = 0; i < batch.items.size(); ++i) {
        if (i % 256 == 0)
            CHECK_FOR_INTERRUPTS();
        if (!batch.events[i].error)
            resolve_meter(call, batch, i);
        if (!batch.events[i].error)
            batch.prepare(i, now, transaction_time, setting_max_event_lead, horizon);
        if (batch.items[i].status == Status::kRecorded)
            batch.items[i].event_id = next_event_id();
    }
    if (strict)
        check_all_good(batch);
    settle_keys(batch);
    if (strict)
        check_all_good(batch);
    write_events(batch);
    report(batch, set);
}

}  // namespace meter::pg
