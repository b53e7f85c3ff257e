// The canonical form of a group: one JSON value per grouping key, as bytes that sort right.
//
// Equal JSON values have equal bytes (1 and 1.0; never 1 and "1"), and comparing the bytes of two
// groups orders them: value by value, null < strings (bytewise) < numbers (by value) < false <
// true < containers. The bytes are part of the aggregate states' format.
#pragma once

#include <cstdint>
#include <memory_resource>
#include <string>
#include <string_view>

#include "core/base10k.hpp"

namespace meter {

// Append one value. A string has no NUL byte: JSON in PostgreSQL knows none.
void append_key_null(std::pmr::string& key);
void append_key_string(std::pmr::string& key, std::string_view value);
void append_key_number(std::pmr::string& key, const NumberView& number);
void append_key_bool(std::pmr::string& key, bool value);
// `json` is the text of an array or object, numbers within it canonical and members in one order.
void append_key_container(std::pmr::string& key, std::string_view json);

enum class KeyPart { kNull, kString, kNumber, kFalse, kTrue, kContainer };

// Takes a group apart again.
class KeyReader {
  public:
    // `digits` keeps the digits of the number read last.
    KeyReader(std::string_view key, DigitBuffer& digits) : rest_(key), digits_(digits) {}

    // Reads one value. Throws Error kInvalidBinary where the bytes are not what was appended:
    // malformed, not normalised, or not UTF-8.
    KeyPart next();
    bool at_end() const { return rest_.empty(); }
    std::string_view rest() const { return rest_; }

    std::string_view text() const { return text_; }       // of a string or container
    const NumberView& number() const { return number_; }  // of a number

  private:
    void read_number();

    std::string_view rest_;
    DigitBuffer& digits_;
    std::string_view text_;
    NumberView number_;
};

// Whether the bytes are well-formed UTF-8 without NUL.
bool is_plain_utf8(std::string_view text);

}  // namespace meter
