#include "pg/ledger.hpp"

#include <algorithm>
#include <cstring>

#include "pg/catalog.hpp"
#include "pg/cells.hpp"
#include "pg/guard.hpp"
#include "pg/key_probe.hpp"
#include "pg/memory.hpp"
#include "pg/spi.hpp"
#include "pg/table_writer.hpp"
#include "pg/values.hpp"

extern "C" {
#include "access/genam.h"
#include "access/tableam.h"
#include "catalog/catalog.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "utils/array.h"
#include "utils/fmgroids.h"
#include "utils/numeric.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"
}

namespace meter::pg {

namespace {

int compare(const Digest& a, const Digest& b) {
    return std::memcmp(a.data(), b.data(), a.size());
}

Datum int8_array(Datum* values, int count, Oid type) {
    return PointerGetDatum(
        construct_array(values, count, type, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

// The row of the last result in which digest, fingerprint, event id and time stand from column 1.
LedgerEntry entry_of_row(uint64 row) {
    bool null;
    LedgerEntry entry;
    std::memcpy(entry.digest.data(), DatumGetPointer(result(row, 1, &null)), entry.digest.size());
    entry.fingerprint = DatumGetInt64(result(row, 2, &null));
    entry.event_id = DatumGetInt64(result(row, 3, &null));
    entry.event_time = DatumGetTimestampTz(result(row, 4, &null));
    return entry;
}

// One round of claiming by SQL, over the entries that `pending` lists: one statement inserts what
// is missing, the next reads, under a snapshot of its own, what was there. Returns how many are
// still undecided, their indexes moved to the front of `pending`: a key that was there and is gone
// again.
int claim_round(const LedgerEntry* mine, int* pending, int count, KeyState* states,
                LedgerEntry* taken) {
    static Statement insert = {
        "INSERT INTO meter.event_key (digest, fingerprint, event_id, event_timestamp) "
        "SELECT * FROM unnest($1, $2, $3, $4) ON CONFLICT (digest) DO NOTHING RETURNING event_id",
        {UUIDARRAYOID, INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID}};
    auto* digests = static_cast<Datum*>(palloc(sizeof(Datum) * static_cast<Size>(count)));
    auto* fingerprints = static_cast<Datum*>(palloc(sizeof(Datum) * static_cast<Size>(count)));
    auto* ids = static_cast<Datum*>(palloc(sizeof(Datum) * static_cast<Size>(count)));
    auto* times = static_cast<Datum*>(palloc(sizeof(Datum) * static_cast<Size>(count)));
    for (int i = 0; i < count; ++i) {
        const LedgerEntry& entry = mine[pending[i]];
        digests[i] = uuid_datum(entry.digest);
        fingerprints[i] = Int64GetDatum(entry.fingerprint);
        ids[i] = Int64GetDatum(entry.event_id);
        times[i] = TimestampTzGetDatum(entry.event_time);
    }
    const Datum rows[] = {
        PointerGetDatum(construct_array(digests, count, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR)),
        int8_array(fingerprints, count, INT8OID), int8_array(ids, count, INT8OID),
        int8_array(times, count, TIMESTAMPTZOID)};
    const uint64 inserted = run(insert, rows, nullptr, Run::kWrite);

    // Rows come back in the order in which they went in.
    bool null;
    uint64 next = 0;
    int left = 0;
    for (int i = 0; i < count; ++i) {
        const int index = pending[i];
        if (next < inserted && DatumGetInt64(result(next, 1, &null)) == mine[index].event_id) {
            states[index] = KeyState::kClaimed;
            ++next;
        } else {
            pending[left++] = index;
        }
    }
    if (next != inserted)
        elog(ERROR, "the idempotency ledger returned keys out of order");
    SPI_freetuptable(SPI_tuptable);
    if (left == 0)
        return 0;

    static Statement select = {
        "SELECT digest, fingerprint, event_id, event_timestamp FROM meter.event_key "
        "WHERE digest = ANY ($1)",
        {UUIDARRAYOID},
        true};
    for (int i = 0; i < left; ++i)
        digests[i] = uuid_datum(mine[pending[i]].digest);
    const Datum wanted[] = {
        PointerGetDatum(construct_array(digests, left, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR))};
    const uint64 found = run(select, wanted, nullptr, Run::kWrite);
    auto* entries = static_cast<LedgerEntry*>(palloc(sizeof(LedgerEntry) * Max(found, 1)));
    for (uint64 row = 0; row < found; ++row)
        entries[row] = entry_of_row(row);
    SPI_freetuptable(SPI_tuptable);
    std::sort(entries, entries + found, [](const LedgerEntry& a, const LedgerEntry& b) {
        return compare(a.digest, b.digest) < 0;
    });
    uint64 at = 0;
    int undecided = 0;
    for (int i = 0; i < left; ++i) {
        const int index = pending[i];
        while (at < found && compare(entries[at].digest, mine[index].digest) < 0)
            ++at;
        if (at < found && entries[at].digest == mine[index].digest) {
            taken[index] = entries[at];
            states[index] = KeyState::kTaken;
        } else {
            pending[undecided++] = index;
        }
    }
    return undecided;
}

// Claims one key by SQL.
bool claim_by_sql(const LedgerEntry& mine, LedgerEntry* taken) {
    static Statement insert = {
        "INSERT INTO meter.event_key (digest, fingerprint, event_id, event_timestamp) "
        "VALUES ($1, $2, $3, $4) ON CONFLICT (digest) DO NOTHING",
        {UUIDOID, INT8OID, INT8OID, TIMESTAMPTZOID}};
    static Statement select = {
        "SELECT digest, fingerprint, event_id, event_timestamp FROM meter.event_key "
        "WHERE digest = $1",
        {UUIDOID},
        true};
    const Datum row[] = {uuid_datum(mine.digest), Int64GetDatum(mine.fingerprint),
                         Int64GetDatum(mine.event_id), TimestampTzGetDatum(mine.event_time)};
    for (;;) {
        if (run(insert, row, nullptr, Run::kWrite) == 1)
            return true;
        if (run(select, row, nullptr, Run::kWrite) == 1) {
            *taken = entry_of_row(0);
            return false;
        }
        // The event that had the key was removed between the two statements.
        CHECK_FOR_INTERRUPTS();
    }
}

constexpr TableShape::Column kKeyColumns[kKeyColumnCount] = {{"digest", UUIDOID},
                                                             {"fingerprint", INT8OID},
                                                             {"event_id", INT8OID},
                                                             {"event_timestamp", TIMESTAMPTZOID}};
constexpr TableShape kKeyShape = {kKeyColumns, kKeyColumnCount, {kKeyDigest + 1}, false};

// The ledger, if it can be read and written without SQL. Not under one snapshot for the whole
// transaction: what others committed since is then an error, not a duplicate.
TableWriter* open_ledger() {
    return direct_insert_allowed() && !IsolationUsesXactSnapshot()
               ? open_table(relations().event_key, kKeyShape)
               : nullptr;
}

KeyState look_up_one(const TableWriter& ledger, const LedgerEntry& mine, LedgerEntry* taken) {
    KeyProbe probe;
    begin_probe(probe, ledger);
    KeyState state = KeyState::kFree;
    look_up(probe, &mine, 1, &state, taken);
    end_probe(probe);
    return state;
}

// For how many keys more it pays to look first whether they are free. To look costs as much as to
// enter a key; not to look costs, where a key is taken, a row and an entry that only VACUUM
// removes, or of a single event a transaction id. So a session looks for a while after each key
// that it found taken, and else at the first of each batch: it may be sent again as a whole.
int keys_to_look_at = 0;
constexpr int kWary = 1024;
constexpr int kWaryOfOne = 64;
constexpr int kAtHand = KeyProbe::kAtATime;
constexpr int kUnseen = 1024;

void fill_row(RowSet& rows, int row, const LedgerEntry& entry) {
    const Size at = static_cast<Size>(row) * kKeyColumnCount;
    rows.values[at + kKeyDigest] = uuid_datum(entry.digest);
    rows.values[at + kKeyFingerprint] = Int64GetDatum(entry.fingerprint);
    rows.values[at + kKeyEventId] = Int64GetDatum(entry.event_id);
    rows.values[at + kKeyEventTime] = TimestampTzGetDatum(entry.event_time);
    std::memset(rows.nulls + at, 0, kKeyColumnCount * sizeof(bool));
}

// Whether to look first, for the next keys.
bool look_at_next(int count) {
    if (keys_to_look_at == 0)
        return false;
    keys_to_look_at = Max(keys_to_look_at - count, 0);
    return true;
}

// Claims the keys that are free by writing their rows, in order. `rows` has room for all. False: a
// key is contested, or is found to be taken without having been looked at; what was written has to
// be rolled back.
bool claim_some(TableWriter& ledger, KeyProbe& probe, const LedgerEntry* mine, int count,
                bool looked, KeyState* states, LedgerEntry* taken, RowSet& rows) {
    const bool look = !looked && look_at_next(count);
    if (look)
        look_up(probe, mine, count, states, taken);
    rows.count = 0;
    for (int i = 0; i < count; ++i) {
        if (states[i] == KeyState::kTaken)
            continue;
        if (states[i] == KeyState::kFree)
            fill_row(rows, rows.count++, mine[i]);
        else
            keys_to_look_at = kWary;
        // Who waits for a key must not have a greater one.
        if (states[i] == KeyState::kContested)
            return false;
    }
    insert_rows(ledger, rows, nullptr);
    if (!insert_keys(ledger, rows))
        return false;
    std::replace(states, states + count, KeyState::kFree, KeyState::kClaimed);
    return true;
}

// Claims keys directly, in a subtransaction; the first `looked` have just been looked at. Where
// that cannot be done it is rolled back as a whole, and returns false: rows of a subtransaction
// that has ended are in nobody's way, while others would wait for removed ones until this
// transaction ends, and two such transactions for each other.
bool claim_directly(const LedgerEntry* mine, int count, int looked, KeyState* states,
                    LedgerEntry* taken) {
    Raised raised{};
    const Ended ended = in_subtransaction(
        [&] {
            TableWriter* ledger = open_ledger();
            if (ledger == nullptr)
                return false;
            KeyProbe probe;
            begin_probe(probe, *ledger);
            RowSet rows = make_rows(*ledger, Min(kUnseen, count));
            bool good = true;
            int some = 0;
            for (int i = 0; good && i < count; i += some) {
                CHECK_FOR_INTERRUPTS();
                // Where keys are looked for, the pages of the index in which they were not found
                // are at hand for them if they are few.
                some = Min(i < looked || keys_to_look_at > 0 ? kAtHand : kUnseen, count - i);
                good = claim_some(*ledger, probe, mine + i, some, i + some <= looked, states + i,
                                  taken + i, rows);
            }
            end_probe(probe);
            close_table(ledger);
            return good;
        },
        &raised);
    if (ended == Ended::kFailed)
        raise(raised);
    const bool free = ended == Ended::kWell;
    if (!free)
        std::replace_if(
            states, states + count, [](KeyState state) { return state != KeyState::kTaken; },
            KeyState::kFree);
    return free;
}

// Claims keys by SQL, in as many rounds as it takes.
void claim_in_rounds(const LedgerEntry* mine, int count, KeyState* states, LedgerEntry* taken) {
    auto* pending = static_cast<int*>(palloc(sizeof(int) * static_cast<Size>(count)));
    int left = 0;
    for (int i = 0; i < count; ++i)
        if (states[i] != KeyState::kTaken && states[i] != KeyState::kClaimed)
            pending[left++] = i;
    while (left > 0) {
        CHECK_FOR_INTERRUPTS();
        left = claim_round(mine, pending, left, states, taken);
    }
}

}  // namespace

bool claim_key(const LedgerEntry& mine, LedgerEntry* taken) {
    TableWriter* ledger = open_ledger();
    if (ledger == nullptr)
        return claim_by_sql(mine, taken);
    KeyState state = look_at_next(1) ? look_up_one(*ledger, mine, taken) : KeyState::kFree;
    if (state == KeyState::kFree) {
        RowSet rows = make_rows(*ledger, 1);
        fill_row(rows, 0, mine);
        rows.count = 1;
        state = insert_if_absent(*ledger, rows, 0) ? KeyState::kClaimed
                                                   : look_up_one(*ledger, mine, taken);
        // Nobody has it after all, or there was no room for it.
        if (state == KeyState::kFree)
            state = insert_unless_taken(*ledger, rows, 0) ? KeyState::kClaimed
                                                          : look_up_one(*ledger, mine, taken);
    }
    if (state != KeyState::kClaimed)
        keys_to_look_at = Max(keys_to_look_at, kWaryOfOne);
    close_table(ledger);
    CommandCounterIncrement();
    return state == KeyState::kClaimed || (state != KeyState::kTaken && claim_by_sql(mine, taken));
}

bool find_key_directly(const Digest& digest, LedgerEntry* taken) {
    TableWriter* ledger = open_ledger();
    if (ledger == nullptr)
        return false;
    const KeyState state = look_up_one(*ledger, LedgerEntry{digest, 0, 0, 0}, taken);
    close_table(ledger);
    return state == KeyState::kTaken;
}

int find_taken_keys(const LedgerEntry* mine, int count, KeyState* states, LedgerEntry* taken) {
    std::fill_n(states, count, KeyState::kFree);
    keys_to_look_at = Max(keys_to_look_at, kAtHand);
    TableWriter* ledger = open_ledger();
    if (ledger == nullptr)
        return 0;
    KeyProbe probe;
    begin_probe(probe, *ledger);
    int looked = 0;
    int found = 0;
    // Only while most are taken: a key that is free had better be looked for where it is claimed,
    // and its page of the index is at hand then.
    while (looked < count && found * 2 >= looked) {
        CHECK_FOR_INTERRUPTS();
        const int some = Min(kAtHand, count - looked);
        KeyState* const first = states + looked;
        look_up(probe, mine + looked, some, first, taken + looked);
        found += static_cast<int>(std::count(first, first + some, KeyState::kTaken));
        std::replace(first, first + some, KeyState::kContested, KeyState::kFree);
        looked += some;
    }
    keys_to_look_at = found > 0 ? kWary : Max(keys_to_look_at - looked, 0);
    end_probe(probe);
    close_table(ledger);
    return looked;
}

void claim_keys(const LedgerEntry* mine, int count, int looked, KeyState* states,
                LedgerEntry* taken) {
    // Bounds the memory of a statement; a larger chunk gains nothing.
    constexpr int kChunk = 10'000;
    const MemoryContext chunk_context =
        AllocSetContextCreate(CurrentMemoryContext, "keys of a batch", ALLOCSET_DEFAULT_SIZES);
    const MemoryContext caller_context = MemoryContextSwitchTo(chunk_context);
    for (int start = 0; start < count; start += kChunk) {
        const int some = Min(kChunk, count - start);
        if (std::all_of(states + start, states + start + some,
                        [](KeyState state) { return state == KeyState::kTaken; }))
            continue;
        TableWriter* ledger = open_ledger();
        if (ledger != nullptr)
            close_table(ledger);
        if (ledger != nullptr &&
            !claim_directly(mine + start, some, looked - start, states + start, taken + start)) {
            // Again, now looking at all of them first.
            keys_to_look_at = some + kWary;
            claim_directly(mine + start, some, 0, states + start, taken + start);
        }
        claim_in_rounds(mine + start, some, states + start, taken + start);
        MemoryContextReset(chunk_context);
    }
    MemoryContextSwitchTo(caller_context);
    MemoryContextDelete(chunk_context);
}

// After a crash, or where a commit's wait was cancelled, an event is seen that no synchronous
// standby has yet. A transaction waits for the standby at its commit only if it has written
// something to the WAL, and the standby has then all that came before it.
void secure_duplicates() {
    if (!SyncRepRequested() || SyncRepStandbyNames == nullptr || *SyncRepStandbyNames == '\0')
        return;
    static TransactionId secured = InvalidTransactionId;
    if (TransactionIdIsValid(secured) && secured == GetTopTransactionIdIfAny())
        return;
    static Statement emit = {"SELECT pg_logical_emit_message(true, 'meter', '')", {}};
    run(emit, nullptr, nullptr, Run::kWrite);
    secured = GetTopTransactionId();
}

void read_payloads(PayloadRequest* requests, int count,
                   void (*take)(void* self, int number, const RecordedPayload& payload),
                   void* self) {
    // Not by the user: the planner would then take the index of users, and read all that the user
    // has at this instant. A batch without timestamps has one for all its events, so those of one
    // instant are asked for together.
    static Statement select = {
        "SELECT id, value, dimensions FROM meter.meter_event "
        "WHERE meter_id = $1 AND \"timestamp\" = $2 AND id BETWEEN $3 AND $4",
        {INT4OID, TIMESTAMPTZOID, INT8OID, INT8OID},
        true};
    std::sort(requests, requests + count, [](const PayloadRequest& a, const PayloadRequest& b) {
        return a.meter_id != b.meter_id ? a.meter_id < b.meter_id
               : a.time != b.time       ? a.time < b.time
                                        : a.event_id < b.event_id;
    });
    const MemoryContext row_context =
        AllocSetContextCreate(CurrentMemoryContext, "recorded payloads", ALLOCSET_SMALL_SIZES);
    const MemoryContext caller_context = MemoryContextSwitchTo(row_context);
    for (int start = 0, end = 0; start < count; start = end) {
        CHECK_FOR_INTERRUPTS();
        while (end < count && requests[end].meter_id == requests[start].meter_id &&
               requests[end].time == requests[start].time)
            ++end;
        const Datum values[] = {
            Int32GetDatum(requests[start].meter_id), TimestampTzGetDatum(requests[start].time),
            Int64GetDatum(requests[start].event_id), Int64GetDatum(requests[end - 1].event_id)};
        const uint64 rows = run(select, values, nullptr, Run::kWrite);
        for (uint64 row = 0; row < rows; ++row) {
            bool null;
            const int64 id = DatumGetInt64(result(row, 1, &null));
            const PayloadRequest* request = std::lower_bound(
                requests + start, requests + end, id,
                [](const PayloadRequest& a, int64 wanted) { return a.event_id < wanted; });
            if (request == requests + end || request->event_id != id)
                continue;
            const RecordedPayload payload = {canonical_value_text(result(row, 2, &null)),
                                             canonical_dimensions(result(row, 3, &null)).text};
            for (; request < requests + end && request->event_id == id; ++request)
                take(self, request->number, payload);
            MemoryContextReset(row_context);
        }
        SPI_freetuptable(SPI_tuptable);
    }
    MemoryContextSwitchTo(caller_context);
    MemoryContextDelete(row_context);
}

namespace {

void keep_payload(void* self, int, const RecordedPayload& payload) {
    // Copied out of what is reset.
    auto* kept = static_cast<RecordedPayload*>(self);
    const auto copy = [](std::string_view text) {
        auto* bytes = static_cast<char*>(SPI_palloc(text.size() + 1));
        std::memcpy(bytes, text.data(), text.size());
        return std::string_view{bytes, text.size()};
    };
    *kept = {copy(payload.value), copy(payload.dimensions)};
}

}  // namespace

bool read_payload(const LedgerEntry& entry, int32 meter_id, RecordedPayload* payload) {
    PayloadRequest request{meter_id, entry.event_time, entry.event_id, 0};
    RecordedPayload found{};
    read_payloads(&request, 1, keep_payload, &found);
    if (found.value.empty())
        return false;
    *payload = found;
    return true;
}

void release_keys(const Digest* digests, int count) {
    // Not planned as a scan of the table, which a session might keep.
    static Statement remove = {
        "DELETE FROM meter.event_key WHERE digest = ANY ($1)", {UUIDARRAYOID}, true};
    auto* values = static_cast<Datum*>(palloc(sizeof(Datum) * static_cast<Size>(count)));
    for (int i = 0; i < count; ++i)
        values[i] = uuid_datum(digests[i]);
    const Datum array =
        PointerGetDatum(construct_array(values, count, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
    run(remove, &array, nullptr, Run::kWrite);
}

}  // namespace meter::pg
