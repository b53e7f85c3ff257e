#include "core/decimal.hpp"

#include <gtest/gtest.h>

#include <string>

#include "core/error.hpp"

namespace meter {
namespace {

// The kind of error that `body` throws; fails the test where it throws none.
template <typename Body>
ErrorKind kind_of(const Body& body) {
    try {
        body();
    } catch (const Error& error) {
        EXPECT_FALSE(error.message.empty());
        return error.kind;
    }
    ADD_FAILURE() << "no error";
    return ErrorKind::kCorrupt;
}

std::string canonical(const char* text) {
    return canonical_number(text, 100);
}

TEST(CanonicalNumber, KeepsWhatIsCanonical) {
    for (const char* text : {"0", "1", "-1", "10", "0.1", "-0.000001", "123.456", "100000"})
        EXPECT_EQ(canonical(text), text);
}

TEST(CanonicalNumber, DropsZerosThatSayNothing) {
    EXPECT_EQ(canonical("1.0"), "1");
    EXPECT_EQ(canonical("1.50"), "1.5");
    EXPECT_EQ(canonical("007"), "7");
    EXPECT_EQ(canonical("00.100"), "0.1");
    EXPECT_EQ(canonical("0.000"), "0");
    EXPECT_EQ(canonical("100.00"), "100");
}

TEST(CanonicalNumber, HasOneZero) {
    for (const char* text : {"0", "-0", "0.0", "-0.0", "0e5", "0e-99999999999999999999", "00"})
        EXPECT_EQ(canonical(text), "0") << text;
}

TEST(CanonicalNumber, ResolvesExponents) {
    EXPECT_EQ(canonical("1.50e1"), "15");
    EXPECT_EQ(canonical("1e3"), "1000");
    EXPECT_EQ(canonical("1E+3"), "1000");
    EXPECT_EQ(canonical("1e-3"), "0.001");
    EXPECT_EQ(canonical("123e-2"), "1.23");
    EXPECT_EQ(canonical("-12.5e-1"), "-1.25");
    EXPECT_EQ(canonical("0.001e3"), "1");
    EXPECT_EQ(canonical("0.0010e2"), "0.1");
    EXPECT_EQ(canonical("1200e-2"), "12");
}

TEST(CanonicalNumber, IsExactWhereADoubleIsNot) {
    EXPECT_EQ(canonical("9007199254740993"), "9007199254740993");
    EXPECT_EQ(canonical("0.1000000000000000055511151231257827"),
              "0.1000000000000000055511151231257827");
}

TEST(CanonicalNumber, RefusesWhatIsNoNumber) {
    for (const char* text : {"", "-", "+1", ".5", "5.", "1e", "1e+", "--1", " 1", "1 ", "0x1",
                             "1,0", "NaN", "Infinity", "1.2.3", "1e1.0", "e1", "-.5", "١"})
        EXPECT_EQ(kind_of([&] { canonical(text); }), ErrorKind::kInvalidText) << text;
}

TEST(CanonicalNumber, BoundsTheLengthBeforeItAllocates) {
    for (const char* text : {"1e999999999", "-1e-999999999", "1e99999999999999999999999999",
                             "1e-99999999999999999999999999"})
        EXPECT_EQ(kind_of([&] { canonical(text); }), ErrorKind::kLimitExceeded) << text;
}

TEST(CanonicalNumber, BoundsTheLengthToTheByte) {
    EXPECT_EQ(canonical_number("12345", 5), "12345");
    EXPECT_EQ(kind_of([] { canonical_number("123456", 5); }), ErrorKind::kLimitExceeded);
    EXPECT_EQ(canonical_number("-1234", 5), "-1234");
    EXPECT_EQ(kind_of([] { canonical_number("-12345", 5); }), ErrorKind::kLimitExceeded);
    EXPECT_EQ(canonical_number("0.123", 5), "0.123");
    EXPECT_EQ(kind_of([] { canonical_number("0.1234", 5); }), ErrorKind::kLimitExceeded);
    EXPECT_EQ(canonical_number("1.234", 5), "1.234");
    EXPECT_EQ(kind_of([] { canonical_number("1.2345", 5); }), ErrorKind::kLimitExceeded);
    EXPECT_EQ(canonical_number("1e4", 5), "10000");
    EXPECT_EQ(kind_of([] { canonical_number("1e5", 5); }), ErrorKind::kLimitExceeded);
    EXPECT_EQ(canonical_number("1e-3", 5), "0.001");
    EXPECT_EQ(kind_of([] { canonical_number("1e-4", 5); }), ErrorKind::kLimitExceeded);
}

TEST(CanonicalValue, TakesTheWholeRange) {
    const std::string digits(30, '9');
    const std::string decimals(18, '9');
    EXPECT_EQ(canonical_value(digits + "." + decimals), digits + "." + decimals);
    EXPECT_EQ(canonical_value("-" + digits + "." + decimals), "-" + digits + "." + decimals);
    EXPECT_EQ(canonical_value("9223372036854775807"), "9223372036854775807");
    EXPECT_EQ(canonical_value("-9223372036854775808"), "-9223372036854775808");
    EXPECT_EQ(canonical_value("1e29"), "1" + std::string(29, '0'));
    EXPECT_EQ(canonical_value("1e-18"), "0." + std::string(17, '0') + "1");
    EXPECT_EQ(canonical_value("0.1000000000000000000000000"), "0.1");
}

TEST(CanonicalValue, RefusesWhatIsOutOfBounds) {
    for (const char* text : {"1e30", "-1e30", "1e-19", "0.1234567890123456789", "NaN", "Infinity",
                             "-Infinity", "1e400", "1e-400", "abc", ""})
        EXPECT_EQ(kind_of([&] { canonical_value(text); }), ErrorKind::kInvalidParameter) << text;
}

TEST(CanonicalValue, NamesTheValue) {
    try {
        canonical_value("1e31");
        FAIL();
    } catch (const Error& error) {
        EXPECT_NE(error.message.find("\"1e31\""), std::string::npos) << error.message;
        EXPECT_NE(error.detail.find("10^30"), std::string::npos) << error.detail;
    }
}

TEST(CompareNumbers, OrdersAsNumbersDo) {
    const char* const ordered[] = {"-100", "-99.5", "-10", "-9",   "-1.01", "-1",
                                   "-0.5", "-0.05", "0",   "0.05", "0.5",   "1",
                                   "1.01", "9",     "10",  "99.5", "100"};
    const int count = static_cast<int>(std::size(ordered));
    for (int i = 0; i < count; ++i)
        for (int j = 0; j < count; ++j) {
            const int found = compare_numbers(ordered[i], ordered[j]);
            EXPECT_EQ((found > 0) - (found < 0), (i > j) - (i < j))
                << ordered[i] << " and " << ordered[j];
        }
}

}  // namespace
}  // namespace meter
