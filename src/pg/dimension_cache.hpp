// The dimensions of the events that a session records one by one: the same few come again and
// again.
#pragma once

#include "pg/compat.hpp"

#include "core/digest.hpp"
#include "pg/catalog.hpp"
#include "pg/values.hpp"

namespace meter::pg {

struct KnownDimensions;

// Dimensions in canonical form, in the current memory context, with their digest.
struct RecordedDimensions {
    CanonicalDimensions canonical;
    Digest digest;
    KnownDimensions* known;  // what the session remembers of them; nullptr: nothing
    uint64 version;          // which of those that were there, one after the other
};

// The canonical form and the digest of `dimensions` (jsonb). Throws meter::Error where they are
// none.
RecordedDimensions recorded_dimensions(Datum dimensions);

// Throws meter::Error where the meter does not declare one of them. To be called before anything
// else is recorded.
void check_declared(const MeterDefinition& definition, const RecordedDimensions& dimensions);

}  // namespace meter::pg
