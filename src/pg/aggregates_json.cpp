// Between jsonb and the groups of core/group_key.hpp: from a row's dimensions to its group, and
// from all groups to the result.
#include "pg/aggregates.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/jsonb.h"
}

#include <algorithm>
#include <cstring>
#include <string>

#include "core/group_key.hpp"
#include "pg/numeric.hpp"

namespace meter::pg {

namespace {

Numeric as_numeric(const NumberView& number) {
    return reinterpret_cast<Numeric>(make_numeric(number));
}

// The text of an array or object with all trailing zeros of its numbers cut: equal containers have
// equal text, since jsonb has already ordered the members.
std::string_view canonical_container(JsonbContainer* container) {
    JsonbParseState* parse = nullptr;
    JsonbIterator* iterator = JsonbIteratorInit(container);
    JsonbValue value;
    JsonbValue* result = nullptr;
    for (;;) {
        const JsonbIteratorToken token = JsonbIteratorNext(&iterator, &value, false);
        if (token == WJB_DONE)
            break;
        const bool leaf = token == WJB_KEY || token == WJB_VALUE || token == WJB_ELEM;
        if (leaf && value.type == jbvNumeric)
            value.val.numeric = as_numeric(view_numeric(NumericGetDatum(value.val.numeric)));
        result = pushJsonbValue(&parse, token, leaf ? &value : nullptr);
    }
    Jsonb* jsonb = JsonbValueToJsonb(result);
    return JsonbToCString(nullptr, &jsonb->root, static_cast<int>(VARSIZE(jsonb)));
}

void append_key_value(std::pmr::string& key, const JsonbValue& value) {
    switch (value.type) {
        case jbvNull:
            return append_key_null(key);
        case jbvString:
            return append_key_string(
                key, {value.val.string.val, static_cast<std::size_t>(value.val.string.len)});
        case jbvNumeric:
            return append_key_number(key, view_numeric(NumericGetDatum(value.val.numeric)));
        case jbvBool:
            return append_key_bool(key, value.val.boolean);
        case jbvBinary:
            return append_key_container(key, canonical_container(value.val.binary.data));
        default:
            elog(ERROR, "unexpected jsonb value type %d", static_cast<int>(value.type));
    }
}

// Writes the group's canonical bytes for an object (or no object) into the state's scratch.
void write_key(GroupedState& state, struct varlena* dimensions) {
    state.scratch.clear();
    Jsonb* jsonb = nullptr;
    if (dimensions != nullptr) {
        jsonb = DatumGetJsonbP(PointerGetDatum(dimensions));
        if (!JB_ROOT_IS_OBJECT(jsonb))
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                            errmsg("dimensions is not a JSON object"),
                            errdetail("It is %s.", JB_ROOT_IS_SCALAR(jsonb) ? "a JSON scalar"
                                                                            : "a JSON array")));
    }
    for (const auto& name : state.keys()) {
        JsonbValue value;
        if (jsonb == nullptr ||
            getKeyJsonValueFromContainer(&jsonb->root, name.data(), static_cast<int>(name.size()),
                                         &value) == nullptr)
            append_key_null(state.scratch);
        else
            append_key_value(state.scratch, value);
    }
}

// Takes a keys argument that is not, byte for byte, the row's before: the first row's is the
// state's, a later one has to say the same.
void take_keys(GroupedState& state, ArrayType* array) {
    if (ARR_NDIM(array) > 1)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("keys has more than one dimension")));
    Datum* elements = nullptr;
    bool* nulls = nullptr;
    int count = 0;
    deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &count);
    const bool first = state.keys_argument.empty() && state.table().size() == 0;
    bool same = first || state.keys().size() == static_cast<std::size_t>(count);
    for (int i = 0; i < count; ++i) {
        if (nulls[i])
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                            errmsg("keys has an element that is null")));
        const std::string_view key = text_view(elements[i]);
        if (first)
            state.add_key(key);
        else
            same = same && state.keys()[static_cast<std::size_t>(i)] == key;
    }
    if (!same)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("keys is not the same for every row"),
                        errhint("Group by what keys depends on.")));
    state.keys_argument.assign(reinterpret_cast<const char*>(array), VARSIZE(array));
}

// Writes the binary form of a jsonb array or object, which jsonb.h describes: a header, an entry
// for each child (of an object first all names, then all values), the children. The tree that
// PostgreSQL would build it from takes ten times the memory.
class ContainerWriter {
  public:
    ContainerWriter(StringInfo out, std::uint32_t header, std::uint32_t children) : out_(out) {
        pad(out);
        appendBinaryStringInfo(out, reinterpret_cast<const char*>(&header), sizeof header);
        entry_ = out->len;
        const auto room = static_cast<std::size_t>(children) * sizeof(JEntry);
        if (room > JENTRY_OFFLENMASK)
            too_large();
        enlargeStringInfo(out, static_cast<int>(room));
        out->len += static_cast<int>(room);
        start_ = out->len;
    }

    // Ends a child, which has been written since the child before.
    void end_child(JEntry type) {
        const auto length = static_cast<std::uint32_t>(out_->len - start_);
        total_ += length;
        if (total_ > JENTRY_OFFLENMASK)
            too_large();
        const JEntry entry = index_ % JB_OFFSET_STRIDE == 0
                                 ? type | JENTRY_HAS_OFF | static_cast<JEntry>(total_)
                                 : type | length;
        std::memcpy(out_->data + entry_, &entry, sizeof entry);
        entry_ += static_cast<int>(sizeof entry);
        start_ = out_->len;
        ++index_;
    }

    static void pad(StringInfo out) {
        while (out->len % static_cast<int>(ALIGNOF_INT) != 0)
            appendStringInfoCharMacro(out, '\0');
    }

  private:
    [[noreturn]] static void too_large() {
        throw Error(ErrorKind::kLimitExceeded, "the groups are too many for one jsonb value",
                    "A jsonb array or object has room for 268435455 bytes.");
    }

    StringInfo out_;
    int entry_;
    int start_;
    std::uint32_t index_ = 0;
    std::size_t total_ = 0;
};

void append(StringInfo out, std::string_view bytes) {
    appendBinaryStringInfo(out, bytes.data(), static_cast<int>(bytes.size()));
}

// Writes a number as to_jsonb() does: what is not finite becomes a string.
JEntry write_number(StringInfo out, const NumberView& number) {
    switch (number.kind) {
        case NumberKind::kNaN:
            append(out, "NaN");
            return JENTRY_ISSTRING;
        case NumberKind::kInfinity:
            append(out, "Infinity");
            return JENTRY_ISSTRING;
        case NumberKind::kMinusInfinity:
            append(out, "-Infinity");
            return JENTRY_ISSTRING;
        case NumberKind::kFinite:
            break;
    }
    struct varlena* numeric = make_numeric(number);
    ContainerWriter::pad(out);
    append(out, {reinterpret_cast<const char*>(numeric), VARSIZE(numeric)});
    pfree(numeric);
    return JENTRY_ISNUMERIC;
}

// The array or object that a JSON text says.
Jsonb* parse_container(std::string_view json) {
    char* text = pnstrdup(json.data(), json.size());
    Jsonb* jsonb = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
    pfree(text);
    if (JB_ROOT_IS_SCALAR(jsonb))
        wire::malformed("A container is none.");
    return jsonb;
}

// Writes the value that `reader` reads next.
JEntry write_value(StringInfo out, KeyReader& reader) {
    switch (reader.next()) {
        case KeyPart::kNull:
            break;
        case KeyPart::kFalse:
            return JENTRY_ISBOOL_FALSE;
        case KeyPart::kTrue:
            return JENTRY_ISBOOL_TRUE;
        case KeyPart::kString:
            append(out, reader.text());
            return JENTRY_ISSTRING;
        case KeyPart::kNumber:
            return write_number(out, reader.number());
        case KeyPart::kContainer: {
            Jsonb* jsonb = parse_container(reader.text());
            ContainerWriter::pad(out);
            append(out, {VARDATA(jsonb), VARSIZE(jsonb) - VARHDRSZ});
            pfree(jsonb);
            return JENTRY_ISCONTAINER;
        }
    }
    return JENTRY_ISNULL;
}

// The order of the keys in a jsonb object: by length, then by bytes.
bool name_before(std::string_view a, std::string_view b) {
    return a.size() != b.size() ? a.size() < b.size() : a < b;
}

template <typename T>
T* allocate_many(std::size_t count) {
    return static_cast<T*>(MemoryContextAllocHuge(CurrentMemoryContext, (count + 1) * sizeof(T)));
}

}  // namespace

std::uint32_t group_of_row(GroupedState& state, FunctionCallInfo fcinfo, int dimensions_argument,
                           int keys_argument) {
    if (PG_ARGISNULL(keys_argument))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("keys must not be null")));
    ArrayType* keys = PG_GETARG_ARRAYTYPE_P(keys_argument);
    if (state.keys_argument != std::string_view(reinterpret_cast<const char*>(keys), VARSIZE(keys)))
        take_keys(state, keys);

    // A NULL is an object without members. No jsonb is empty, so neither are its bytes.
    struct varlena* dimensions = nullptr;
    std::string_view raw;
    if (!PG_ARGISNULL(dimensions_argument)) {
        dimensions = PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(dimensions_argument));
        raw = {VARDATA_ANY(dimensions), VARSIZE_ANY_EXHDR(dimensions)};
    }
    std::uint32_t group = state.cache.find(raw);
    if (group == kNoGroup) {
        write_key(state, dimensions);
        group = state.group(state.scratch);
        state.cache.remember(raw, group);
        constexpr std::size_t kScratchKept = 8192;
        if (state.scratch.capacity() > kScratchKept) {
            state.scratch.clear();
            state.scratch.shrink_to_fit();
        }
    }
    return group;
}

Datum groups_to_jsonb(GroupedState& state) {
    const GroupTable& table = state.table();
    const std::uint32_t count = table.size();
    auto* order = allocate_many<std::uint32_t>(count);
    for (std::uint32_t i = 0; i < count; ++i)
        order[i] = i;
    // Many groups take seconds to sort. The sort's frames hold plain numbers alone, so an error may
    // pass them.
    std::uint32_t compared = 0;
    std::sort(order, order + count, [&](std::uint32_t a, std::uint32_t b) {
        if (++compared % 4096 == 0)
            CHECK_FOR_INTERRUPTS();
        return table.key(a) < table.key(b);
    });

    const auto& keys = state.keys();
    const auto key_count = static_cast<std::uint32_t>(keys.size());
    auto* members = allocate_many<std::uint32_t>(key_count);
    for (std::uint32_t i = 0; i < key_count; ++i)
        members[i] = i;
    std::sort(members, members + key_count,
              [&keys](std::uint32_t a, std::uint32_t b) { return name_before(keys[a], keys[b]); });
    // Where each key's value starts in a group.
    auto* values = allocate_many<std::string_view>(key_count);

    StringInfoData out;
    initStringInfo(&out);
    enlargeStringInfo(&out, VARHDRSZ);
    out.len = VARHDRSZ;
    ContainerWriter array(&out, JB_FARRAY | count, count);
    for (std::uint32_t i = 0; i < count; ++i) {
        CHECK_FOR_INTERRUPTS();
        const std::uint32_t group = order[i];
        ContainerWriter element(&out, JB_FOBJECT | 2, 4);
        append(&out, "value");
        element.end_child(JENTRY_ISSTRING);
        append(&out, "dimensions");
        element.end_child(JENTRY_ISSTRING);

        NumberView number;
        element.end_child(state.value(group, state.digits, number) ? write_number(&out, number)
                                                                   : JENTRY_ISNULL);

        ContainerWriter object(&out, JB_FOBJECT | key_count, 2 * key_count);
        for (std::uint32_t k = 0; k < key_count; ++k) {
            append(&out, keys[members[k]]);
            object.end_child(JENTRY_ISSTRING);
        }
        KeyReader reader(table.key(group), state.digits);
        for (std::uint32_t k = 0; k < key_count; ++k) {
            values[k] = reader.rest();
            reader.next();
        }
        for (std::uint32_t k = 0; k < key_count; ++k) {
            KeyReader value(values[members[k]], state.digits);
            object.end_child(write_value(&out, value));
        }
        element.end_child(JENTRY_ISCONTAINER);
        array.end_child(JENTRY_ISCONTAINER);
    }
    SET_VARSIZE(out.data, out.len);
    return PointerGetDatum(out.data);
}

void check_containers(GroupedState& state) {
    for (std::uint32_t group = 0; group < state.table().size(); ++group) {
        CHECK_FOR_INTERRUPTS();
        KeyReader reader(state.table().key(group), state.digits);
        while (!reader.at_end())
            if (reader.next() == KeyPart::kContainer &&
                canonical_container(&parse_container(reader.text())->root) != reader.text())
                wire::malformed("A container is not in canonical form.");
    }
}

}  // namespace meter::pg
