#include "core/dimensions.hpp"

#include <algorithm>

#include "core/decimal.hpp"
#include "core/error.hpp"
#include "core/text.hpp"

namespace meter {

namespace {

[[noreturn]] void throw_too_large() {
    throw Error(ErrorKind::kInvalidParameter, "dimensions are too large",
                "At most " + std::to_string(kMaxDimensions) + " dimensions and " +
                    std::to_string(kMaxDimensionsBytes) + " bytes of them are taken.",
                "Put what is not grouped or filtered by into metadata.");
}

}  // namespace

void check_name(std::string_view text, const char* what) {
    if (text.empty())
        throw Error(ErrorKind::kInvalidParameter, std::string(what) + " must not be empty");
    if (text.size() > kMaxNameBytes)
        throw Error(ErrorKind::kInvalidParameter,
                    std::string(what) + " " + quote_for_message(text) + " is too long",
                    "It has " + std::to_string(text.size()) + " bytes, at most " +
                        std::to_string(kMaxNameBytes) + " are taken.");
}

void check_dimension_name(std::string_view name) {
    check_name(name, "dimension name");
    if (name == "user_id")
        throw Error(ErrorKind::kInvalidParameter, "\"user_id\" is not a dimension name", {},
                    "Pass it as the user_id of the event, or of the query.");
}

void DimensionsBuilder::add(std::string_view name, std::string encoded) {
    check_dimension_name(name);
    // A bound on what is collected, nulls included, so that a hostile object cannot fill memory.
    bytes_ += name.size() + encoded.size() + 4;
    if (bytes_ > 16 * kMaxDimensionsBytes)
        throw_too_large();
    members_.emplace_back(std::string(name), std::move(encoded));
}

void DimensionsBuilder::add_string(std::string_view name, std::string_view value) {
    if (value.size() > kMaxDimensionsBytes)
        throw_too_large();
    std::string encoded;
    append_json_string(encoded, value);
    add(name, std::move(encoded));
}

void DimensionsBuilder::add_number(std::string_view name, std::string_view json_number) {
    std::string encoded;
    try {
        encoded = canonical_number(json_number, kMaxDimensionsBytes);
    } catch (const Error& error) {
        if (error.kind == ErrorKind::kLimitExceeded)
            throw_too_large();
        throw;
    }
    add(name, std::move(encoded));
}

void DimensionsBuilder::add_bool(std::string_view name, bool value) {
    add(name, value ? "true" : "false");
}

void DimensionsBuilder::add_null(std::string_view name) {
    add(name, {});
}

void DimensionsBuilder::add_nested(std::string_view name) {
    throw Error(ErrorKind::kInvalidParameter,
                "dimension " + quote_for_message(name) + " is not a scalar",
                "A dimension is a string, a number, a boolean or null.");
}

std::string DimensionsBuilder::finish() {
    std::sort(members_.begin(), members_.end());
    for (std::size_t i = 1; i < members_.size(); ++i)
        if (members_[i - 1].first == members_[i].first)
            throw Error(ErrorKind::kInvalidParameter,
                        "dimension " + quote_for_message(members_[i].first) + " is given twice");

    std::string out = "{";
    std::size_t count = 0;
    for (const auto& [name, value] : members_) {
        if (value.empty())
            continue;
        if (count++ > 0)
            out += ',';
        append_json_string(out, name);
        out += ':';
        out += value;
    }
    out += '}';
    clear();
    if (count > kMaxDimensions || out.size() > kMaxDimensionsBytes)
        throw_too_large();
    return out;
}

std::string_view take_json_string(std::string_view& text, std::string& buffer) {
    std::size_t end = 1;
    bool escaped = false;
    while (text[end] != '"') {
        escaped |= text[end] == '\\';
        end += text[end] == '\\' ? 2 : 1;
    }
    const std::string_view literal = text.substr(1, end - 1);
    text.remove_prefix(end + 1);
    if (!escaped)
        return literal;
    buffer.clear();
    for (std::size_t i = 0; i < literal.size(); ++i) {
        if (literal[i] != '\\') {
            buffer += literal[i];
            continue;
        }
        switch (literal[++i]) {
            case 'b':
                buffer += '\b';
                break;
            case 'f':
                buffer += '\f';
                break;
            case 'n':
                buffer += '\n';
                break;
            case 'r':
                buffer += '\r';
                break;
            case 't':
                buffer += '\t';
                break;
            case 'u':  // a control character: append_json_string() writes no other so
                buffer += static_cast<char>(
                    std::stoi(std::string(literal.substr(i + 1, 4)), nullptr, 16));
                i += 4;
                break;
            default:
                buffer += literal[i];
        }
    }
    return buffer;
}

}  // namespace meter
