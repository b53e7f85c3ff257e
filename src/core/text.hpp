// Small helpers over UTF-8 text.
#pragma once

#include <string>
#include <string_view>

namespace meter {

// The longest prefix of `text` of at most `max_bytes` that ends at a character boundary.
std::string_view clip_utf8(std::string_view text, std::size_t max_bytes);

// `text` in double quotes for an error message, control characters made visible, cut at 80 bytes.
std::string quote_for_message(std::string_view text);

// Appends `text` to `out` as a JSON string literal, quotes included. Escapes exactly what
// PostgreSQL's jsonb output escapes, so both write the same bytes.
void append_json_string(std::string& out, std::string_view text);

}  // namespace meter
