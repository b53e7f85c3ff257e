// What the idempotency ledger stores of an event: the digest of its key, and the fingerprint of its
// payload; and what rollups store of dimensions. All are the same on every machine and for ever:
// they are on disk.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "core/base10k.hpp"

namespace meter {

using Digest = std::array<std::uint8_t, 16>;

// The digest of (meter, user, key): SHA-256 over the three, length-prefixed, cut to 128 bits. Where
// the key is a UUID or a ULID its first 48 bits stand in front as they are, for both keep a time
// there (UUID version 7, ULID): keys made one after another then fall on one page of the index.
Digest key_digest(std::int32_t meter_id, std::string_view user_id, std::string_view key);

// What a rollup has in its keys for dimensions: the first 128 bits of SHA-256 of their canonical
// text, nothing else mixed in.
Digest dimensions_digest(std::string_view canonical);

// The fingerprint of a payload: 64 bits of SHA-256 over the canonical value and dimensions.
std::int64_t payload_fingerprint(std::string_view canonical_value,
                                 std::string_view canonical_dimensions);

// The digest of one event: SHA-256 over id, timestamp (microseconds since 1970), value and the
// digest of its dimensions, cut to 128 bits. Meter and user are not in it: sums of it are kept for
// each, and a user may be renamed. The value is normalised and finite.
Digest event_digest(std::int64_t id, std::int64_t time, const NumberView& value,
                    const Digest& dimensions);

}  // namespace meter
