// The idempotency ledger, meter.event_key.
#pragma once

#include "pg/compat.hpp"

#include <string_view>

#include "core/digest.hpp"

extern "C" {
#include "datatype/timestamp.h"
}

namespace meter::pg {

// A row of the ledger.
struct LedgerEntry {
    Digest digest;
    int64 fingerprint;
    int64 event_id;
    TimestampTz event_time;
};

// What became of a key, or is known of it on the way.
enum class KeyState : std::uint8_t {
    kFree,       // no event has it, as far as was seen
    kContested,  // a transaction under way claims it, or removes the event that has it
    kTaken,      // an event has it
    kClaimed,    // it is ours
};

// Looks a key up without SQL, as it is committed; false where it is not there, or where that cannot
// be told without SQL.
bool find_key_directly(const Digest& digest, LedgerEntry* taken);

// Looks at the first keys, in the order of their digests, for as long as most are taken: states[i]
// is kTaken then, and taken[i] is filled in, else states[i] is kFree, as it is where nothing can be
// told yet. Waits for nobody. Of `mine` only the digests matter. Returns how many it has looked at.
int find_taken_keys(const LedgerEntry* mine, int count, KeyState* states, LedgerEntry* taken);

// Claims the keys of new events, given in the order of their digests, each digest once, after
// find_taken_keys() has looked at the first `looked`: states[i] is kClaimed then, or else kTaken,
// and taken[i] is filled in. All batches claim in that order, so
// no two of them can deadlock. Waits for a transaction that is claiming the same key. Raises
// serialization_failure at repeatable read and above where the one that won is not visible.
void claim_keys(const LedgerEntry* mine, int count, int looked, KeyState* states,
                LedgerEntry* taken);

// The same for one key. True: it is ours. False: an event has it, and *taken says which.
bool claim_key(const LedgerEntry& mine, LedgerEntry* taken);

// To be called where keys were found taken: what is answered as a duplicate is then as safe, once
// the transaction is committed, as what it writes itself. Raises PostgreSQL errors.
void secure_duplicates();

// The payload an event was recorded with, for telling what differs.
struct RecordedPayload {
    std::string_view value;       // canonical, in the current memory context
    std::string_view dimensions;  // likewise
};

// Reads the payload of the event that `entry` is about; false where it is gone.
bool read_payload(const LedgerEntry& entry, int32 meter_id, RecordedPayload* payload);

// An event whose payload is wanted.
struct PayloadRequest {
    int32 meter_id;
    TimestampTz time;
    int64 event_id;
    int number;  // the caller's
};

// The same for many: calls `take` with the number and the payload of each that is found, in any
// order, in a memory context that is reset afterwards. Orders the requests.
void read_payloads(PayloadRequest* requests, int count,
                   void (*take)(void* self, int number, const RecordedPayload& payload),
                   void* self);

// Gives back keys that this transaction has claimed.
void release_keys(const Digest* digests, int count);

}  // namespace meter::pg
