// PostgreSQL values as core sees them, and back.
#pragma once

#include "pg/compat.hpp"

#include <string_view>

extern "C" {
#include "datatype/timestamp.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
}

#include "core/timestamp.hpp"

namespace meter::pg {

// One top-level member of a jsonb object, its text in the current memory context.
struct Member {
    enum class Type { kNull, kString, kNumber, kBool, kNested };
    std::string_view name;
    Type type;
    std::string_view text;  // of a string, or of a number as numeric_out writes it
    bool truth;             // of a boolean
};

struct Members {
    int count;
    Member* items;
};

// The members of `object` in jsonb's own order, or count -1 where it is no object.
Members read_members(Jsonb* object);

// What is stored of an event's dimensions.
struct CanonicalDimensions {
    std::string_view text;  // the canonical text, in the current memory context
    Datum stored;           // jsonb
};

// The canonical text of members, in the current memory context. Throws meter::Error where they are no
// dimensions.
std::string_view canonical_text(const Members& members);

// The canonical form of `dimensions` (jsonb). Throws meter::Error where they are none.
CanonicalDimensions canonical_dimensions(Datum dimensions);

// The canonical text of a numeric, in the current memory context, and the numeric without trailing
// zeros. Throws meter::Error out of the bounds of an event's value.
std::string_view canonical_value_text(Datum value);
Datum trimmed_numeric(Datum value);

// A copy of `text` in the current memory context, NUL-terminated, for errmsg() and the like.
const char* shown(std::string_view text);

inline constexpr int64 kUnixToPostgresMicros =
    INT64CONST(86'400'000'000) * (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE);

inline TimestampTz to_timestamptz(int64 unix_micros) {
    return unix_micros - kUnixToPostgresMicros;
}
// Saturates: the infinities, and times near the end of the type, stay far out of any range.
inline int64 to_unix_micros(TimestampTz time) {
    return time > PG_INT64_MAX - kUnixToPostgresMicros ? PG_INT64_MAX
                                                       : time + kUnixToPostgresMicros;
}

// Throws meter::Error unless `metadata` (jsonb) is an object.
void check_metadata(Datum metadata);

// Raises invalid_parameter_value, naming `argument`, where its value is null.
void require_argument(FunctionCallInfo fcinfo, int index, const char* argument);

}  // namespace meter::pg
