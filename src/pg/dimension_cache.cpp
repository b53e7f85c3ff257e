#include "pg/dimension_cache.hpp"

#include <cstring>

#include "pg/event.hpp"

extern "C" {
#include "common/hashfn.h"
}

namespace meter::pg {

// One value of a jsonb, byte for byte, and what was found out about it.
struct KnownDimensions {
    uint32 last_missed;  // the hash of what was last asked for in vain and belongs here
    uint32 hash;
    uint64 version;  // 0: nothing is remembered
    bool as_it_is;   // it is stored as it came
    Digest digest;
    // The last meter that declared them, and when, by catalog_generation().
    int32 meter_id;
    uint64 declared_at;
    // In one piece of memory that begins with `given`.
    Size given_size;
    Size text_size;
    Size stored_size;
    char* given;
    char* text;
    char* stored;
};

namespace {

// As many as take a few hundred kB at the most: larger ones are not remembered.
constexpr uint32 kSlots = 256;
constexpr Size kLargest = 512;
KnownDimensions* slots = nullptr;
MemoryContext slots_context = nullptr;
uint64 last_version = 0;

KnownDimensions* slot_of(uint32 hash) {
    if (slots == nullptr) {
        slots_context =
            AllocSetContextCreate(CacheMemoryContext, "dimensions of events", ALLOCSET_SMALL_SIZES);
        slots = static_cast<KnownDimensions*>(
            MemoryContextAllocZero(slots_context, sizeof(KnownDimensions) * kSlots));
    }
    return &slots[hash % kSlots];
}

// Remembers what is asked for the second time running, so that dimensions that never come again
// cost little and push nothing out.
void remember(KnownDimensions* slot, uint32 hash, const Jsonb* given,
              const RecordedDimensions& found) {
    if (slot->last_missed != hash) {
        slot->last_missed = hash;
        return;
    }
    const CanonicalDimensions& canonical = found.canonical;
    const auto* stored = reinterpret_cast<const struct varlena*>(DatumGetPointer(canonical.stored));
    const Size given_size = VARSIZE(given);
    const Size stored_size = VARSIZE(stored);
    const bool as_it_is = static_cast<const void*>(stored) == given;
    auto* memory = static_cast<char*>(MemoryContextAlloc(
        slots_context,
        MAXALIGN(given_size) + (as_it_is ? 0 : MAXALIGN(stored_size)) + canonical.text.size() + 1));
    if (slot->version != 0)
        pfree(slot->given);
    slot->version = ++last_version;
    slot->hash = hash;
    slot->as_it_is = as_it_is;
    slot->digest = found.digest;
    slot->declared_at = 0;
    slot->given_size = given_size;
    slot->stored_size = stored_size;
    slot->text_size = canonical.text.size();
    slot->given = memory;
    slot->stored = as_it_is ? memory : memory + MAXALIGN(given_size);
    slot->text = slot->stored + MAXALIGN(stored_size);
    std::memcpy(slot->given, given, given_size);
    std::memcpy(slot->stored, stored, stored_size);
    std::memcpy(slot->text, canonical.text.data(), canonical.text.size());
    slot->text[slot->text_size] = '\0';
}

// A copy in the current memory context: what is remembered goes when something else takes its
// place, which a trigger that records an event too may bring about.
char* copy_of(const char* bytes, Size size) {
    auto* copy = static_cast<char*>(palloc(size));
    std::memcpy(copy, bytes, size);
    return copy;
}

}  // namespace

RecordedDimensions recorded_dimensions(Datum dimensions) {
    Jsonb* given = DatumGetJsonbP(dimensions);
    const Size size = VARSIZE(given);
    if (size > kLargest) {
        const CanonicalDimensions canonical = canonical_dimensions(JsonbPGetDatum(given));
        return {canonical, dimensions_digest(canonical.text), nullptr, 0};
    }
    const uint32 hash =
        hash_bytes(reinterpret_cast<const unsigned char*>(given), static_cast<int>(size));
    KnownDimensions* slot = slot_of(hash);
    if (slot->version != 0 && slot->hash == hash && slot->given_size == size &&
        std::memcmp(slot->given, given, size) == 0) {
        RecordedDimensions known{};
        known.canonical.text = {copy_of(slot->text, slot->text_size + 1), slot->text_size};
        known.canonical.stored = slot->as_it_is
                                     ? JsonbPGetDatum(given)
                                     : PointerGetDatum(copy_of(slot->stored, slot->stored_size));
        known.digest = slot->digest;
        known.known = slot;
        known.version = slot->version;
        return known;
    }
    const CanonicalDimensions canonical = canonical_dimensions(JsonbPGetDatum(given));
    const RecordedDimensions found{canonical, dimensions_digest(canonical.text), nullptr, 0};
    remember(slot, hash, given, found);
    return found;
}

void check_declared(const MeterDefinition& definition, const RecordedDimensions& dimensions) {
    KnownDimensions* known = dimensions.known;
    if (known != nullptr && known->version != dimensions.version)
        known = nullptr;
    if (known != nullptr && known->meter_id == definition.id &&
        known->declared_at == catalog_generation())
        return;
    check_declared(definition, dimensions.canonical.text);
    if (known != nullptr) {
        known->meter_id = definition.id;
        known->declared_at = catalog_generation();
    }
}

}  // namespace meter::pg
