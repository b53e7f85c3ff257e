// What unique_count counts the distinct values of.
#pragma once

#include "pg/compat.hpp"

#include <string_view>

#include "pg/catalog.hpp"

namespace meter::pg {

// A dimension, a member of an event's metadata, or the user.
struct Property {
    enum class Kind { kNone, kDimension, kMetadata, kUser };
    Kind kind;
    Datum name;  // text: of the dimension, or of the member
};

// Metadata's members are written with this in front.
inline constexpr std::string_view kMetadataPrefix = "metadata.";

inline constexpr const char* kPropertyHint =
    "It is the name of a dimension, or user_id, or metadata.NAME for a member of the metadata.";

// The errors for unique_count without a property, and for another aggregation with one.
[[noreturn]] void raise_property_missing();
[[noreturn]] void raise_property_unused(std::string_view aggregation);

// Reads the argument property. Raises invalid_parameter_value where the meter's events cannot have
// it.
Property read_property(std::string_view text, const MeterDefinition& meter);

}  // namespace meter::pg
