#include "core/json_metadata.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "core/error.hpp"
#include "core/text.hpp"

namespace meter {

const NameRef* find_duplicate(std::string_view text, std::vector<NameRef>& names, std::size_t first,
                              Progress& progress) {
    const auto compare = [&](const NameRef& a, const NameRef& b) {
        if (a.length != b.length)
            return a.length < b.length ? -1 : 1;
        return std::memcmp(text.data() + a.offset, text.data() + b.offset, a.length);
    };
    constexpr std::size_t kFew = 8;
    const std::size_t count = names.size() - first;
    if (count <= kFew) {
        for (std::size_t i = first + 1; i < names.size(); ++i)
            for (std::size_t j = first; j < i; ++j)
                if (compare(names[i], names[j]) == 0)
                    return &names[i];
        return nullptr;
    }
    std::sort(names.begin() + static_cast<std::ptrdiff_t>(first), names.end(),
              [&](const NameRef& a, const NameRef& b) {
                  progress.worked(1 + std::min(a.length, b.length) / 64);
                  return compare(a, b) < 0;
              });
    for (std::size_t i = first + 1; i < names.size(); ++i)
        if (compare(names[i - 1], names[i]) == 0)
            return &names[i];
    return nullptr;
}

void check_jsonb_number(std::string_view json_number) {
    constexpr std::int64_t kWholeDigits = 131'072;
    constexpr std::int64_t kDecimals = 16'383;
    constexpr std::int64_t kExponent = 1'073'741'823;  // numeric_in refuses it, even of a zero

    std::string_view digits = json_number;
    if (digits.starts_with('-'))
        digits.remove_prefix(1);
    std::int64_t exponent = 0;
    if (const std::size_t e = digits.find_first_of("eE"); e != std::string_view::npos) {
        std::string_view power = digits.substr(e + 1);
        digits = digits.substr(0, e);
        const bool negative = power.starts_with('-');
        if (negative || power.starts_with('+'))
            power.remove_prefix(1);
        for (const char c : power)
            exponent = std::min(kExponent, exponent * 10 + (c - '0'));
        if (negative)
            exponent = -exponent;
    }
    const std::size_t point = std::min(digits.find('.'), digits.size());
    const auto whole = static_cast<std::int64_t>(point);
    const auto decimals = static_cast<std::int64_t>(digits.size() - point) -
                          (point < digits.size() ? 1 : 0) - exponent;

    // How far before the point the first digit other than zero stands; a zero has none.
    std::int64_t whole_digits = 0;
    if (const std::size_t first = digits.find_first_not_of("0."); first != std::string_view::npos)
        whole_digits =
            whole - static_cast<std::int64_t>(first) + (first > point ? 1 : 0) + exponent;

    if (exponent >= kExponent || exponent <= -kExponent || decimals > kDecimals ||
        whole_digits > kWholeDigits)
        throw Error(ErrorKind::kInvalidParameter,
                    "number " + std::string(clip_utf8(json_number, 80)) +
                        (json_number.size() > 80 ? "..." : "") + " of metadata is out of bounds",
                    "A number in metadata has at most 131072 digits before the point and 16383 "
                    "after it.",
                    "Send it as a string.");
}

void MetadataWriter::clear() {
    text_.clear();
    open_.clear();
    names_.clear();
}

void MetadataWriter::before_value() {
    if (open_.empty() || !open_.back().is_array)
        return;
    if (open_.back().has_members)
        text_ += ',';
    open_.back().has_members = true;
}

void MetadataWriter::start_object() {
    before_value();
    text_ += '{';
    open_.push_back({names_.size(), false, false});
}

void MetadataWriter::start_array() {
    before_value();
    text_ += '[';
    open_.push_back({names_.size(), true, false});
}

void MetadataWriter::key(std::string_view name) {
    if (open_.back().has_members)
        text_ += ',';
    open_.back().has_members = true;
    const std::size_t offset = text_.size();
    append_json_string(text_, name);
    names_.push_back({offset, text_.size() - offset});
    text_ += ':';
}

void MetadataWriter::string(std::string_view value) {
    before_value();
    append_json_string(text_, value);
}

void MetadataWriter::number(std::string_view json_number) {
    check_jsonb_number(json_number);
    before_value();
    text_ += json_number;
}

void MetadataWriter::boolean(bool value) {
    before_value();
    text_ += value ? "true" : "false";
}

void MetadataWriter::null() {
    before_value();
    text_ += "null";
}

void MetadataWriter::end_array() {
    text_ += ']';
    open_.pop_back();
}

std::string_view MetadataWriter::end_object() {
    const std::size_t first = open_.back().first_name;
    // Equal names are written alike, so comparing what was written will do.
    if (const NameRef* twice = find_duplicate(text_, names_, first, progress_))
        return std::string_view(text_).substr(twice->offset, twice->length);
    names_.resize(first);
    text_ += '}';
    open_.pop_back();
    return {};
}

std::string MetadataWriter::take() {
    // A copy has no spare capacity and leaves the buffer to the next; a large text is not copied.
    constexpr std::size_t kLarge = 64 * 1024;
    if (text_.size() > kLarge)
        return std::move(text_);
    return text_;
}

}  // namespace meter
