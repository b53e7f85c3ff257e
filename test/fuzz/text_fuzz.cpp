// Feeds arbitrary text to the small parsers: timestamps, numbers, names, dimensions, group keys.
#include <algorithm>
#include <cstdint>
#include <memory_resource>
#include <string>
#include <string_view>

#include "check.hpp"
#include "core/calendar.hpp"
#include "core/decimal.hpp"
#include "core/digest.hpp"
#include "core/dimensions.hpp"
#include "core/error.hpp"
#include "core/group_key.hpp"
#include "core/json_metadata.hpp"
#include "core/text.hpp"
#include "core/timestamp.hpp"

namespace {

using meter::Error;
using meter::ErrorKind;

// Whether the input is text as PostgreSQL hands it over.
bool plain = false;

// Runs `body`, which may throw one of two kinds of Error and nothing else.
template <typename Body>
void attempt(ErrorKind kind, ErrorKind other, Body&& body) {
    try {
        body();
    } catch (const Error& error) {
        check(error.kind == kind || error.kind == other);
        check(!error.message.empty());
        check(!plain || meter::is_plain_utf8(error.message));
    }
}

void try_timestamp(std::string_view text) {
    const std::int64_t time = meter::parse_timestamp(text);
    check(time >= meter::kMinEventTime && time < meter::kMaxEventTime);
    check(meter::parse_timestamp(meter::format_timestamp(time)) == time);
}

void try_number(std::string_view text) {
    const std::string number = meter::canonical_number(text, 1000);
    check(number.size() <= 1000);
    check(meter::canonical_number(number, 1000) == number);
    check(meter::compare_numbers(number, number) == 0);
    check((meter::compare_numbers(number, "0.5") < 0) ==
          (meter::compare_numbers("0.5", number) > 0));
}

void try_value(std::string_view text) {
    const std::string value = meter::canonical_value(text);
    check(meter::canonical_value(value) == value);
}

// Members, one for each two lines: a name, and a value that is a number if it reads as one.
void try_dimensions(std::string_view text) {
    meter::DimensionsBuilder builder;
    std::size_t members = 0;
    while (!text.empty()) {
        const auto line = [&] {
            const std::string_view one = text.substr(0, text.find('\n'));
            text.remove_prefix(std::min(text.size(), one.size() + 1));
            return one;
        };
        const std::string_view name = line();
        const std::string_view value = line();
        if (!meter::is_plain_utf8(name) || !meter::is_plain_utf8(value))
            return;
        ++members;
        if (value.empty())
            builder.add_null(name);
        else if (value == "true" || value == "false")
            builder.add_bool(name, value == "true");
        else if (value.front() >= '0' && value.front() <= '9')
            attempt(ErrorKind::kInvalidText, ErrorKind::kInvalidParameter,
                    [&] { builder.add_number(name, value); });
        else
            builder.add_string(name, value);
    }
    const std::string canonical = builder.finish();
    check(canonical.size() <= meter::kMaxDimensionsBytes && meter::is_plain_utf8(canonical));
    std::size_t visited = 0;
    std::string before;
    meter::for_each_dimension(canonical, [&](std::string_view name) {
        check(visited == 0 || before < name);
        before = name;
        ++visited;
    });
    check(visited <= members && visited <= meter::kMaxDimensions);
}

// As many values as there are; written again they have the same bytes.
void try_key(std::string_view bytes) {
    auto* resource = std::pmr::new_delete_resource();
    meter::DigitBuffer digits(resource);
    meter::KeyReader reader(bytes, digits);
    std::pmr::string again(resource);
    while (!reader.at_end()) {
        switch (reader.next()) {
            case meter::KeyPart::kNull:
                meter::append_key_null(again);
                break;
            case meter::KeyPart::kFalse:
            case meter::KeyPart::kTrue:
                meter::append_key_bool(again, bytes[again.size()] == 0x41);
                break;
            case meter::KeyPart::kString:
                meter::append_key_string(again, reader.text());
                break;
            case meter::KeyPart::kNumber:
                meter::append_key_number(again, reader.number());
                break;
            case meter::KeyPart::kContainer:
                meter::append_key_container(again, reader.text());
        }
        check(bytes.substr(0, again.size()) == std::string_view(again));
        check(reader.rest().size() == bytes.size() - again.size());
    }
}

void try_text(std::string_view text) {
    for (std::size_t bytes = 0; bytes <= text.size() && bytes < 100; bytes += 1 + bytes / 2) {
        const std::string_view clipped = meter::clip_utf8(text, bytes);
        check(clipped.size() <= bytes && text.substr(0, clipped.size()) == clipped);
    }
    const std::string quoted = meter::quote_for_message(text);
    if (meter::is_plain_utf8(text)) {
        check(meter::is_plain_utf8(quoted));
        std::string literal;
        meter::append_json_string(literal, text);
        std::string_view rest = literal;
        std::string buffer;
        check(meter::take_json_string(rest, buffer) == text && rest.empty());
    }
    meter::key_digest(1, text, text);
    meter::payload_fingerprint(text, text);
    meter::bucket_named(text);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0)
        return 0;
    const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
    plain = meter::is_plain_utf8(text);
    constexpr ErrorKind kParameter = ErrorKind::kInvalidParameter;
    switch (data[0] % 8) {
        case 0:
            attempt(kParameter, kParameter, [&] { try_timestamp(text); });
            break;
        case 1:
            attempt(ErrorKind::kInvalidText, ErrorKind::kLimitExceeded, [&] { try_number(text); });
            break;
        case 2:
            attempt(kParameter, kParameter, [&] { try_value(text); });
            break;
        case 3:
            attempt(kParameter, ErrorKind::kInvalidText, [&] { try_dimensions(text); });
            break;
        case 4:
            attempt(ErrorKind::kInvalidBinary, ErrorKind::kInvalidBinary, [&] { try_key(text); });
            break;
        case 5:
            attempt(kParameter, kParameter, [&] { meter::check_name(text, "name"); });
            attempt(kParameter, kParameter, [&] { meter::check_dimension_name(text); });
            break;
        case 6:
            // Only what is a JSON number comes here.
            attempt(ErrorKind::kInvalidText, ErrorKind::kLimitExceeded, [&] {
                meter::canonical_number(text, 200'000);
                attempt(kParameter, kParameter, [&] { meter::check_jsonb_number(text); });
            });
            break;
        default:
            try_text(text);
    }
    return 0;
}
