// How usage is rounded: results only, never what is stored or added up.
#pragma once

#include "pg/compat.hpp"

#include <string_view>

#include "pg/catalog.hpp"

namespace meter::pg {

// A way to round, and to how many decimals; a negative precision: to tens, hundreds and so on.
struct Rounding {
    enum class Mode { kNone, kRound, kCeil, kFloor };
    Mode mode;
    int32 precision;
};

inline constexpr int32 kLeastPrecision = -30;
inline constexpr int32 kMostPrecision = 18;

// The mode of that name: round, ceil, floor, or none. Raises invalid_parameter_value.
Rounding::Mode find_rounding_mode(std::string_view name);
const char* rounding_mode_name(Rounding::Mode mode);

// What the arguments `rounding` and `rounding_precision` of a call, by position, make of `own`:
// null leaves as it is. Raises invalid_parameter_value where they are out of bounds, or a precision
// is given and nothing is rounded.
Rounding read_rounding(FunctionCallInfo fcinfo, int rounding, int precision, Rounding own);

// A meter's own rounding.
Rounding rounding_of(const MeterDefinition& meter);

// A numeric rounded, without trailing zeros, in the current memory context. Half is rounded away
// from zero.
Datum round_numeric(Datum value, Rounding rounding);

}  // namespace meter::pg
