#include "pg/property.hpp"

#include "core/dimensions.hpp"
#include "pg/dimension_filter.hpp"
#include "pg/memory.hpp"
#include "pg/values.hpp"

namespace meter::pg {

void raise_property_missing() {
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("aggregation \"unique_count\" needs a property, whose values it counts"),
                    errhint("Pass property. %s", kPropertyHint)));
    pg_unreachable();
}

void raise_property_unused(std::string_view aggregation) {
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("aggregation \"%s\" takes no property", shown(aggregation)),
                    errhint("A property goes with the aggregation unique_count alone.")));
    pg_unreachable();
}

Property read_property(std::string_view text, const MeterDefinition& meter) {
    if (text == "user_id")
        return {Property::Kind::kUser, static_cast<Datum>(0)};
    if (text.substr(0, kMetadataPrefix.size()) == kMetadataPrefix) {
        const std::string_view name = text.substr(kMetadataPrefix.size());
        check_name(name, "property: the name in metadata");
        return {Property::Kind::kMetadata, text_datum(name)};
    }
    check_dimension(meter, text, "property", "A property may also be user_id, or metadata.NAME.");
    return {Property::Kind::kDimension, text_datum(text)};
}

}  // namespace meter::pg
