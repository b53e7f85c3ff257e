#include "pg/dimension_filter.hpp"

#include "pg/memory.hpp"
#include "pg/values.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "utils/array.h"
}

namespace meter::pg {

namespace {

// The most values that a filter may list, all names together.
constexpr int kMaxFilterValues = 10'000;

[[noreturn]] void refuse_filter(std::string_view name) {
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("filter: the values of \"%s\" are nested", shown(name)),
                    errhint("A dimension is filtered by a scalar or an array of scalars.")));
    pg_unreachable();
}

// Reads the values that the filter has for one name: a scalar, or an array of them, of which the
// iterator has just returned `value` or the array's start.
Datum read_filter_values(JsonbIterator** iterator, JsonbIteratorToken token, JsonbValue* value,
                         std::string_view name, int* left) {
    ArrayBuildState* built = initArrayResult(JSONBOID, CurrentMemoryContext, false);
    const bool is_array = token == WJB_BEGIN_ARRAY;
    if (token == WJB_BEGIN_OBJECT)
        refuse_filter(name);
    if (is_array)
        token = JsonbIteratorNext(iterator, value, false);
    for (; token == WJB_ELEM || token == WJB_VALUE;
         token = JsonbIteratorNext(iterator, value, false)) {
        if (--*left < 0)
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                            errmsg("filter has more than %d values", kMaxFilterValues)));
        CHECK_FOR_INTERRUPTS();
        accumArrayResult(built, JsonbPGetDatum(JsonbValueToJsonb(value)), false, JSONBOID,
                         CurrentMemoryContext);
        if (!is_array)
            break;
    }
    if (is_array && token != WJB_END_ARRAY)
        refuse_filter(name);
    return makeArrayResult(built, CurrentMemoryContext);
}

}  // namespace

void check_dimension(const MeterDefinition& meter, std::string_view name, const char* argument,
                     const char* advice) {
    if (meter.dimension_count == 0)
        check_dimension_name(name);
    if (meter.dimension_count == 0 || meter.declares(name))
        return;
    StringInfoData declared;
    initStringInfo(&declared);
    for (int i = 0; i < meter.dimension_count; ++i)
        appendStringInfo(&declared, "%s\"%s\"", i == 0 ? "" : ", ", shown(meter.dimensions[i]));
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("%s: dimension \"%s\" is not declared by meter \"%s\"", argument,
                           shown(name), shown(meter.event_name)),
                    errhint("The meter declares %s.%s%s", declared.data,
                            advice == nullptr ? "" : " ", advice == nullptr ? "" : advice)));
}

void read_filters(Jsonb* filter, const MeterDefinition& meter, DimensionFilters* filters) {
    if (!JB_ROOT_IS_OBJECT(filter))
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("filter must be a JSON object"),
                 errhint("For example '{\"model\": \"gpt-4\", \"region\": [\"us\", "
                         "\"eu\"]}'.")));
    if (JB_ROOT_COUNT(filter) > kMaxDimensions)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("filter has more than %d names", static_cast<int>(kMaxDimensions))));
    int left = kMaxFilterValues;
    JsonbValue value;
    JsonbIterator* iterator = JsonbIteratorInit(&filter->root);
    for (JsonbIteratorToken token = JsonbIteratorNext(&iterator, &value, false); token != WJB_DONE;
         token = JsonbIteratorNext(&iterator, &value, false)) {
        if (token != WJB_KEY)
            continue;
        const std::string_view name(value.val.string.val,
                                    static_cast<std::size_t>(value.val.string.len));
        if (name == "user_id")
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                            errmsg("filter: \"user_id\" is not a dimension"),
                            errhint("Use the argument user_id.")));
        check_dimension(meter, name, "filter");
        DimensionFilter* added = &filters->items[filters->count++];
        added->name = text_datum(name);
        token = JsonbIteratorNext(&iterator, &value, false);
        added->values = read_filter_values(&iterator, token, &value, name, &left);
    }
}

void append_filters(QueryText* query, const DimensionFilters& filters) {
    for (int i = 0; i < filters.count; ++i) {
        const int name = add_parameter(query, TEXTOID, filters.items[i].name);
        const int values = add_parameter(query, JSONBARRAYOID, filters.items[i].values);
        appendStringInfo(&query->sql,
                         " AND COALESCE(e.dimensions -> $%d, 'null'::pg_catalog.jsonb) = ANY ($%d)",
                         name, values);
    }
}

}  // namespace meter::pg
