// Decimal numbers as text, exact to the last digit. Nothing here passes through a double.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace meter {

// A number in canonical plain notation: no exponent, no leading zeros, no trailing zeros after
// the point, no "-0". 1.50e1 becomes 15, -0.0 becomes 0.
//
// `text` is a JSON number or what numeric_out writes (a leading '+', ".5" and "5." are not JSON
// and are refused). Throws Error kInvalidText where it is no number, kLimitExceeded where the
// plain notation would be longer than `max_length` bytes: 1e999999999 must not fill the memory.
std::string canonical_number(std::string_view text, std::size_t max_length);

// The bounds of an event's value: |value| < 10^30, at most 18 decimals.
inline constexpr std::size_t kValueIntegerDigits = 30;
inline constexpr std::size_t kValueDecimals = 18;

// The canonical form of an event's value. Throws Error kInvalidParameter, naming the value, where
// it is NaN, an infinity, out of bounds or no number.
std::string canonical_value(std::string_view text);

// Compares two canonical numbers: negative, zero or positive as a <=> b.
int compare_numbers(std::string_view a, std::string_view b);

}  // namespace meter
