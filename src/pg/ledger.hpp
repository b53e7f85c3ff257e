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

// Claims the key of a new event. True: it is ours. False: an event has it, and *taken says which.
// Waits for a transaction that is claiming the same key. Raises serialization_failure at repeatable
// read and above where the one that won is not visible.
bool claim_key(const LedgerEntry& mine, LedgerEntry* taken);

// The same for many, given in the order of their digests, each digest once: claimed[i] says whether
// mine[i] is ours, else taken[i] is filled in. All batches claim in that order, so no two of them
// can deadlock.
void claim_keys(const LedgerEntry* mine, int count, bool* claimed, LedgerEntry* taken);

// The payload an event was recorded with, for telling what differs; false where it is gone.
struct RecordedPayload {
    std::string_view value;       // canonical, in the current memory context
    std::string_view dimensions;  // likewise
};
bool read_payload(const LedgerEntry& entry, int32 meter_id, RecordedPayload* payload);

}  // namespace meter::pg
