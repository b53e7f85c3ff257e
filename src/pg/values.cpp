#include "pg/values.hpp"

#include <cstring>
#include <string>

#include "core/decimal.hpp"
#include "core/dimensions.hpp"
#include "core/error.hpp"
#include "pg/guard.hpp"
#include "pg/memory.hpp"
#include "pg/numeric.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
}

namespace meter::pg {

namespace {

std::string_view numeric_text(Numeric number) {
    return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(number)));
}

// The builder's result is copied out before anything of PostgreSQL is called again.
std::string build_dimensions(const Members& members) {
    DimensionsBuilder builder;
    for (int i = 0; i < members.count; ++i) {
        const Member& member = members.items[i];
        switch (member.type) {
            case Member::Type::kNull:
                builder.add_null(member.name);
                break;
            case Member::Type::kString:
                builder.add_string(member.name, member.text);
                break;
            case Member::Type::kNumber:
                builder.add_number(member.name, member.text);
                break;
            case Member::Type::kBool:
                builder.add_bool(member.name, member.truth);
                break;
            case Member::Type::kNested:
                builder.add_nested(member.name);
        }
    }
    return builder.finish();
}

// Whether a member is stored as it came.
bool is_canonical(const Member& member) {
    switch (member.type) {
        case Member::Type::kNull:
        case Member::Type::kNested:
            return false;
        case Member::Type::kNumber:
            return member.text.find('.') == std::string_view::npos || member.text.back() != '0';
        default:
            return true;
    }
}

bool is_name(std::string_view text) {
    return !text.empty() && text.size() <= kMaxNameBytes;
}

bool is_value(Datum value) {
    try {
        canonical_value(numeric_text(DatumGetNumeric(value)));
    } catch (const Error&) {
        return false;
    }
    return true;
}

bool is_canonical_dimensions(Jsonb* object) {
    const Members members = read_members(object);
    for (int i = 0; i < members.count; ++i)
        if (!is_canonical(members.items[i]))
            return false;
    try {
        build_dimensions(members);
    } catch (const Error&) {
        return false;
    }
    return members.count >= 0;
}

}  // namespace

Members read_members(Jsonb* object) {
    Members members{-1, nullptr};
    if (!JB_ROOT_IS_OBJECT(object))
        return members;
    members.count = 0;
    members.items = static_cast<Member*>(palloc(sizeof(Member) * Max(JB_ROOT_COUNT(object), 1)));
    JsonbIterator* iterator = JsonbIteratorInit(&object->root);
    JsonbValue value;
    JsonbIteratorToken token;
    Member* member = nullptr;
    while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE) {
        if (token == WJB_KEY) {
            member = &members.items[members.count++];
            *member = Member{{value.val.string.val, static_cast<std::size_t>(value.val.string.len)},
                             Member::Type::kNull,
                             {},
                             false};
        } else if (token == WJB_VALUE) {
            switch (value.type) {
                case jbvNull:
                    break;
                case jbvString:
                    member->type = Member::Type::kString;
                    member->text = {value.val.string.val,
                                    static_cast<std::size_t>(value.val.string.len)};
                    break;
                case jbvNumeric:
                    member->type = Member::Type::kNumber;
                    member->text = numeric_text(value.val.numeric);
                    break;
                case jbvBool:
                    member->type = Member::Type::kBool;
                    member->truth = value.val.boolean;
                    break;
                default:
                    member->type = Member::Type::kNested;
            }
        }
    }
    return members;
}

// Room for the text is allocated first, so that no string is alive where palloc can fail.
std::string_view canonical_text(const Members& members) {
    auto* buffer = static_cast<char*>(palloc(kMaxDimensionsBytes + 1));
    const std::string text = build_dimensions(members);
    std::memcpy(buffer, text.data(), text.size());
    buffer[text.size()] = '\0';
    return {buffer, text.size()};
}

CanonicalDimensions canonical_dimensions(Datum dimensions) {
    Jsonb* object = DatumGetJsonbP(dimensions);
    const Members members = read_members(object);
    if (members.count < 0)
        throw Error(ErrorKind::kInvalidParameter, "dimensions must be a JSON object", {},
                    "For example '{\"model\": \"gpt-4\", \"region\": \"us\"}'.");
    if (members.count == 0)
        return {"{}", JsonbPGetDatum(object)};
    CanonicalDimensions canonical;
    canonical.text = canonical_text(members);
    bool as_it_is = true;
    for (int i = 0; i < members.count; ++i)
        as_it_is = as_it_is && is_canonical(members.items[i]);
    canonical.stored = as_it_is
                           ? JsonbPGetDatum(object)
                           : DirectFunctionCall1(jsonb_in, CStringGetDatum(canonical.text.data()));
    return canonical;
}

// Of a value within bounds the digits tell the text; for any other canonical_value() has the error.
std::string_view canonical_value_text(Datum value) {
    const NumberView number = view_numeric(value);
    const bool good = is_event_value(number);
    const std::string_view text = good ? "" : numeric_text(DatumGetNumeric(value));
    constexpr std::size_t kLongest = 64;
    auto* buffer = static_cast<char*>(palloc(kLongest));
    std::pmr::string canonical;
    if (good)
        append_text(canonical, number);
    else
        canonical = canonical_value(text);
    std::memcpy(buffer, canonical.data(), canonical.size());
    buffer[canonical.size()] = '\0';
    return {buffer, canonical.size()};
}

Datum trimmed_numeric(Datum value) {
    const Datum plain = PointerGetDatum(PG_DETOAST_DATUM_PACKED(value));
    return is_trimmed(plain, view_numeric(plain)) ? plain
                                                  : DirectFunctionCall1(numeric_trim_scale, plain);
}

const char* shown(std::string_view text) {
    return pnstrdup(text.data(), text.size());
}

void check_metadata(Datum metadata) {
    if (!JB_ROOT_IS_OBJECT(DatumGetJsonbP(metadata)))
        throw Error(ErrorKind::kInvalidParameter, "metadata must be a JSON object");
}

void require_argument(FunctionCallInfo fcinfo, int index, const char* argument) {
    if (PG_ARGISNULL(index))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("%s must not be null", argument)));
}

}  // namespace meter::pg

METER_FUNCTION(meter_is_event) {
    using namespace meter::pg;
    if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2) || PG_ARGISNULL(4) || PG_ARGISNULL(5))
        PG_RETURN_BOOL(false);
    const int64 time = to_unix_micros(PG_GETARG_TIMESTAMPTZ(0));
    PG_RETURN_BOOL(time >= meter::kMinEventTime && time < meter::kMaxEventTime &&
                   is_name(text_view(PG_GETARG_DATUM(1))) &&
                   (PG_ARGISNULL(3) || is_name(text_view(PG_GETARG_DATUM(3)))) &&
                   JB_ROOT_IS_OBJECT(PG_GETARG_JSONB_P(5)) && is_value(PG_GETARG_DATUM(2)) &&
                   is_canonical_dimensions(PG_GETARG_JSONB_P(4)));
}

METER_FUNCTION(meter_is_dimension_names) {
    using namespace meter::pg;
    ArrayType* array = PG_GETARG_ARRAYTYPE_P(0);
    if (ARR_NDIM(array) > 1 || ARR_HASNULL(array))
        PG_RETURN_BOOL(false);
    Datum* names;
    int count;
    deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &names, nullptr, &count);
    if (count > static_cast<int>(meter::kMaxDimensions))
        PG_RETURN_BOOL(false);
    auto* views = static_cast<std::string_view*>(palloc(sizeof(std::string_view) * Max(count, 1)));
    for (int i = 0; i < count; ++i) {
        views[i] = text_view(names[i]);
        if (!is_name(views[i]) || views[i] == "user_id")
            PG_RETURN_BOOL(false);
        for (int j = 0; j < i; ++j)
            if (views[j] == views[i])
                PG_RETURN_BOOL(false);
    }
    PG_RETURN_BOOL(true);
}
