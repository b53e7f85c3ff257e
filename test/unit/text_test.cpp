#include "core/text.hpp"

#include <gtest/gtest.h>

#include <string>

namespace meter {
namespace {

std::string json(std::string_view text) {
    std::string out = "before ";
    append_json_string(out, text);
    return out.substr(7);
}

TEST(ClipUtf8, EndsAtACharacterBoundary) {
    EXPECT_EQ(clip_utf8("abc", 3), "abc");
    EXPECT_EQ(clip_utf8("abc", 2), "ab");
    EXPECT_EQ(clip_utf8("abc", 0), "");
    EXPECT_EQ(clip_utf8("a\xC3\xA4", 2), "a");
    EXPECT_EQ(clip_utf8("a\xC3\xA4", 3), "a\xC3\xA4");
    EXPECT_EQ(clip_utf8("\xF0\x9F\x98\x80", 3), "");
    EXPECT_EQ(clip_utf8("\xF0\x9F\x98\x80x", 4), "\xF0\x9F\x98\x80");
}

TEST(QuoteForMessage, QuotesAndCuts) {
    EXPECT_EQ(quote_for_message(""), "\"\"");
    EXPECT_EQ(quote_for_message("gpt-4"), "\"gpt-4\"");
    EXPECT_EQ(quote_for_message(std::string(80, 'x')), "\"" + std::string(80, 'x') + "\"");
    EXPECT_EQ(quote_for_message(std::string(81, 'x')), "\"" + std::string(80, 'x') + "...\"");
    EXPECT_EQ(quote_for_message(std::string(79, 'x') + "\xC3\xA4"),
              "\"" + std::string(79, 'x') + "...\"");
}

TEST(QuoteForMessage, ShowsControlCharacters) {
    EXPECT_EQ(quote_for_message("a\nb\x7F"), "\"a\\x0ab\\x7f\"");
    EXPECT_EQ(quote_for_message(std::string_view("\0", 1)), "\"\\x00\"");
}

TEST(AppendJsonString, EscapesWhatPostgresqlEscapes) {
    EXPECT_EQ(json("plain"), "\"plain\"");
    EXPECT_EQ(json("\"\\/"), "\"\\\"\\\\/\"");
    EXPECT_EQ(json("\b\f\n\r\t"), "\"\\b\\f\\n\\r\\t\"");
    EXPECT_EQ(json("\x01\x1F\x7F"), "\"\\u0001\\u001f\x7F\"");
    EXPECT_EQ(json("\xC3\xA4\xF0\x9F\x98\x80"), "\"\xC3\xA4\xF0\x9F\x98\x80\"");
}

}  // namespace
}  // namespace meter
