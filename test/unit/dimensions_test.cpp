#include "core/dimensions.hpp"

#include <gtest/gtest.h>

#include <string>

#include "core/error.hpp"

namespace meter {
namespace {

// Expects `body` to throw an Error of this kind whose message contains `part`.
template <typename Body>
void expect_error(ErrorKind kind, const char* part, const Body& body) {
    try {
        body();
        ADD_FAILURE() << "no error";
    } catch (const Error& error) {
        EXPECT_EQ(error.kind, kind);
        EXPECT_NE(error.message.find(part), std::string::npos) << error.message;
    }
}

TEST(Dimensions, NoneIsAnEmptyObject) {
    DimensionsBuilder builder;
    EXPECT_EQ(builder.finish(), "{}");
}

TEST(Dimensions, AreSortedByTheBytesOfTheirNames) {
    DimensionsBuilder builder;
    builder.add_string("region", "us");
    builder.add_string("model", "gpt-4");
    builder.add_string("Zone", "a");
    builder.add_string("\xC3\xA4", "umlaut");
    EXPECT_EQ(builder.finish(),
              "{\"Zone\":\"a\",\"model\":\"gpt-4\",\"region\":\"us\",\"\xC3\xA4\":\"umlaut\"}");
}

TEST(Dimensions, EqualOnesHaveEqualBytes) {
    DimensionsBuilder one;
    one.add_number("n", "1.0");
    one.add_bool("b", true);
    one.add_null("gone");
    DimensionsBuilder other;
    other.add_bool("b", true);
    other.add_number("n", "10e-1");
    EXPECT_EQ(one.finish(), other.finish());
}

TEST(Dimensions, NumbersAndStringsDiffer) {
    DimensionsBuilder number;
    number.add_number("n", "1");
    DimensionsBuilder string;
    string.add_string("n", "1");
    EXPECT_EQ(number.finish(), "{\"n\":1}");
    EXPECT_EQ(string.finish(), "{\"n\":\"1\"}");
}

TEST(Dimensions, EmptyStringIsNotNull) {
    DimensionsBuilder builder;
    builder.add_string("empty", "");
    builder.add_null("null");
    EXPECT_EQ(builder.finish(), "{\"empty\":\"\"}");
}

TEST(Dimensions, FinishEmptiesTheBuilder) {
    DimensionsBuilder builder;
    builder.add_bool("a", false);
    EXPECT_EQ(builder.finish(), "{\"a\":false}");
    EXPECT_EQ(builder.finish(), "{}");
}

TEST(Dimensions, RefusesANameGivenTwice) {
    DimensionsBuilder builder;
    builder.add_string("model", "a");
    builder.add_string("model", "a");
    expect_error(ErrorKind::kInvalidParameter, "\"model\" is given twice",
                 [&] { builder.finish(); });
    DimensionsBuilder with_null;
    with_null.add_string("model", "a");
    with_null.add_null("model");
    expect_error(ErrorKind::kInvalidParameter, "given twice", [&] { with_null.finish(); });
}

TEST(Dimensions, RefusesNames) {
    DimensionsBuilder builder;
    expect_error(ErrorKind::kInvalidParameter, "user_id", [&] { builder.add_null("user_id"); });
    expect_error(ErrorKind::kInvalidParameter, "must not be empty", [&] { builder.add_null(""); });
    expect_error(ErrorKind::kInvalidParameter, "too long",
                 [&] { builder.add_bool(std::string(256, 'n'), true); });
    builder.add_bool(std::string(255, 'n'), true);
    EXPECT_EQ(builder.members().size(), 1u);
}

TEST(Dimensions, RefusesNesting) {
    DimensionsBuilder builder;
    expect_error(ErrorKind::kInvalidParameter, "\"deep\" is not a scalar",
                 [&] { builder.add_nested("deep"); });
}

TEST(Dimensions, TakesThirtyTwo) {
    DimensionsBuilder builder;
    for (std::size_t i = 0; i < kMaxDimensions; ++i)
        builder.add_bool("d" + std::to_string(i), true);
    builder.add_null("a null is none");
    EXPECT_NO_THROW(builder.finish());
    for (std::size_t i = 0; i <= kMaxDimensions; ++i)
        builder.add_bool("d" + std::to_string(i), true);
    expect_error(ErrorKind::kInvalidParameter, "too large", [&] { builder.finish(); });
}

TEST(Dimensions, TakesTwoKilobytes) {
    // {"d":"..."} has eight bytes besides the value.
    DimensionsBuilder builder;
    builder.add_string("d", std::string(kMaxDimensionsBytes - 8, 'v'));
    EXPECT_EQ(builder.finish().size(), kMaxDimensionsBytes);
    builder.add_string("d", std::string(kMaxDimensionsBytes - 7, 'v'));
    expect_error(ErrorKind::kInvalidParameter, "too large", [&] { builder.finish(); });
}

TEST(Dimensions, BoundsWhatIsCollected) {
    DimensionsBuilder builder;
    expect_error(ErrorKind::kInvalidParameter, "too large",
                 [&] { builder.add_string("d", std::string(kMaxDimensionsBytes + 1, 'v')); });
    expect_error(ErrorKind::kInvalidParameter, "too large",
                 [&] { builder.add_number("d", "1e999999999"); });
    expect_error(ErrorKind::kInvalidParameter, "too large", [&] {
        for (int i = 0; i < 100'000; ++i)
            builder.add_null("n" + std::to_string(i));
    });
    EXPECT_LT(builder.members().size(), 10'000u);
}

TEST(Dimensions, RefusesAMalformedNumber) {
    DimensionsBuilder builder;
    expect_error(ErrorKind::kInvalidText, "\"abc\"", [&] { builder.add_number("d", "abc"); });
}

TEST(CheckName, TakesOneToTwoHundredFiftyFiveBytes) {
    EXPECT_NO_THROW(check_name("x", "event_name"));
    EXPECT_NO_THROW(check_name(std::string(255, 'x'), "event_name"));
    expect_error(ErrorKind::kInvalidParameter, "event_name must not be empty",
                 [] { check_name("", "event_name"); });
    expect_error(ErrorKind::kInvalidParameter, "event_name",
                 [] { check_name(std::string(256, 'x'), "event_name"); });
}

}  // namespace
}  // namespace meter
