// What meter.ingest makes of an item: its members, numbers, metadata and errors.
#include <clocale>
#include <cstdint>

#include "core/json_metadata.hpp"
#include "ingest_support.hpp"

namespace {

using namespace meter_test;

TEST(Ingest, ReadsEveryMember) {
    const EventInput e = one(R"({"event_name":"tokens","user_id":"u1","value":12.50,
        "dimensions":{"region":"us","model":"gpt-4","n":1.0,"on":true,"none":null},
        "idempotency":"k1","timestamp":"2026-01-31T12:00:00.25Z",
        "metadata":{"a":[1,{"b":1.50}],"s":"x"}})");
    EXPECT_EQ(e.event_name, "tokens");
    EXPECT_FALSE(e.meter_id);
    EXPECT_EQ(e.user_id, "u1");
    EXPECT_EQ(e.value, "12.5");
    EXPECT_EQ(e.dimensions, R"({"model":"gpt-4","n":1,"on":true,"region":"us"})");
    EXPECT_EQ(e.idempotency, "k1");
    EXPECT_EQ(e.timestamp, 1769860800250000);
    EXPECT_EQ(e.metadata, R"({"a":[1,{"b":1.50}],"s":"x"})");
}

TEST(Ingest, DefaultsAndNulls) {
    for (const std::string& item :
         {std::string(R"({"event_name":"calls","user_id":"u1"})"),
          with(R"("meter_id":null,"value":null,"dimensions":null,"idempotency":null,
                  "timestamp":null,"metadata":null)")}) {
        const EventInput e = one(item);
        EXPECT_EQ(e.value, "1");
        EXPECT_EQ(e.dimensions, "{}");
        EXPECT_EQ(e.metadata, "{}");
        EXPECT_FALSE(e.idempotency);
        EXPECT_FALSE(e.timestamp);
        EXPECT_FALSE(e.meter_id);
    }
}

TEST(Ingest, CamelCase) {
    const EventInput a = one(R"({"eventName":"calls","userId":"u1"})");
    EXPECT_EQ(a.event_name, "calls");
    EXPECT_EQ(a.user_id, "u1");
    EXPECT_EQ(one(R"({"meterId":7,"userId":"u1"})").meter_id, 7);
    EXPECT_EQ(message(R"({"event_name":"a","user_id":"u","userId":"u"})"),
              R"(member "userId" is given twice)");
    EXPECT_EQ(message(R"({"eventName":"a","event_name":"a","user_id":"u"})"),
              R"(member "event_name" is given twice)");
}

TEST(Ingest, NamesTheMeterOnce) {
    EXPECT_EQ(one(R"({"meter_id":9223372036854775807,"user_id":"u"})").meter_id, INT64_MAX);
    EXPECT_EQ(message(with(R"("meter_id":1)")), "event_name and meter_id are both given");
    EXPECT_EQ(message(R"({"user_id":"u"})"), "event_name is missing");
    EXPECT_EQ(message(R"({"event_name":null,"user_id":"u"})"), "event_name is missing");
    EXPECT_EQ(message("{}"), "event_name is missing");
    EXPECT_EQ(message(R"({"event_name":"a"})"), "user_id is missing");
    EXPECT_EQ(message(R"({"event_name":"a","user_id":null})"), "user_id is missing");
    for (const char* id :
         {"9223372036854775808", "18446744073709551616", "1.0", "1e2", "true", "[1]", "{}"})
        EXPECT_TRUE(message(R"({"meter_id":)" + std::string(id) + R"(,"user_id":"u"})")
                        .starts_with("meter_id must be an integer, not "))
            << id;
    EXPECT_EQ(message(R"({"meter_id":"1","user_id":"u"})"),
              R"(meter_id must be an integer, not "1")");
}

TEST(Ingest, NamesHave1To255Bytes) {
    const std::string longest(255, 'x');
    EXPECT_EQ(one(R"({"event_name":")" + longest + R"(","user_id":"u"})").event_name, longest);
    for (const char* member : {"event_name", "user_id"}) {
        const std::string other = member == std::string("user_id") ? "event_name" : "user_id";
        const auto item = [&](const std::string& name) {
            return R"({")" + other + R"(":"a",")" + member + R"(":")" + name + R"("})";
        };
        EXPECT_EQ(message(item("")), std::string(member) + " must not be empty");
        EXPECT_NE(message(item(longest + "x")).find("is too long"), std::string::npos);
    }
    EXPECT_EQ(message(with(R"("idempotency":"")")), "idempotency must not be empty");
    EXPECT_NE(message(with(R"("idempotency":")" + longest + R"(x")")).find("is too long"),
              std::string::npos);
    EXPECT_EQ(message(R"({"event_name":5,"user_id":"u"})"), "event_name must be a string, not 5");
    EXPECT_EQ(message(R"({"event_name":"a","user_id":["u"]})"),
              "user_id must be a string, not an array");
    EXPECT_EQ(message(with(R"("idempotency":{})")), "idempotency must be a string, not an object");
}

TEST(Ingest, ValuesKeepEveryDigit) {
    const auto value = [](const char* text) {
        const std::string number = one(with(R"("value":)" + std::string(text))).value;
        EXPECT_EQ(one(with(R"("value":")" + std::string(text) + '"')).value, number) << text;
        return number;
    };
    EXPECT_EQ(value("123456789012345678901234567890.123456789012345678"),
              "123456789012345678901234567890.123456789012345678");
    EXPECT_EQ(value("18446744073709551615"), "18446744073709551615");
    EXPECT_EQ(value("18446744073709551616"), "18446744073709551616");
    EXPECT_EQ(value("-9223372036854775808"), "-9223372036854775808");
    EXPECT_EQ(value("-9223372036854775809"), "-9223372036854775809");
    EXPECT_EQ(value("-0"), "0");
    EXPECT_EQ(value("-0.0"), "0");
    EXPECT_EQ(value("1E5"), "100000");
    EXPECT_EQ(value("1e+5"), "100000");
    EXPECT_EQ(value("1e-18"), "0.000000000000000001");
    EXPECT_EQ(value("0e400"), "0");
    EXPECT_EQ(value("0.1"), "0.1");
}

TEST(Ingest, ValuesOutOfBoundsAreItemErrors) {
    for (const char* text :
         {"1e400", "1e-400", "-1e400", "1e30", "1e-19", "1e99999999999999999999"})
        EXPECT_EQ(message(with(R"("value":)" + std::string(text))),
                  "value \"" + std::string(text) + "\" is out of bounds");
    EXPECT_EQ(message(with(R"("value":"NaN")")), "value \"NaN\" is out of bounds");
    EXPECT_EQ(message(with(R"("value":"abc")")), "value \"abc\" is not a number");
    EXPECT_EQ(message(with(R"("value":"")")), "value \"\" is not a number");
    EXPECT_EQ(message(with(R"("value":" 1")")), "value \" 1\" is not a number");
    EXPECT_EQ(message(with(R"("value":true)")), "value must be a number, not true");
    EXPECT_EQ(message(with(R"("value":[1])")), "value must be a number, not an array");
    EXPECT_EQ(message(with(R"("value":{"a":1})")), "value must be a number, not an object");
    // The batch goes on.
    const auto events = parse("[" + with(R"("value":1e400)") + "," + with(R"("value":2)") + "]");
    ASSERT_EQ(events.size(), 2u);
    EXPECT_TRUE(events[0].error);
    EXPECT_EQ(events[1].value, "2");
}

TEST(Ingest, NumbersDoNotDependOnTheLocale) {
    const std::string before = std::setlocale(LC_NUMERIC, nullptr);
    bool found = false;
    for (const char* name : {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8"}) {
        if (std::setlocale(LC_NUMERIC, name) == nullptr)
            continue;
        found = true;
        EXPECT_EQ(one(with(R"("value":1.5)")).value, "1.5") << name;
    }
    std::setlocale(LC_NUMERIC, before.c_str());
    if (!found)
        GTEST_SKIP() << "no locale with another decimal point is installed";
}

TEST(Ingest, Dimensions) {
    EXPECT_EQ(one(with(R"("dimensions":{"b":1e2,"a":"\u00e9\n","c":false})")).dimensions,
              "{\"a\":\"\xC3\xA9\\n\",\"b\":100,\"c\":false}");
    EXPECT_EQ(message(with(R"("dimensions":{"a":[1]})")), "dimension \"a\" is not a scalar");
    EXPECT_EQ(message(with(R"("dimensions":{"a":{}})")), "dimension \"a\" is not a scalar");
    EXPECT_EQ(message(with(R"("dimensions":{"a":1,"b":2,"a":1})")),
              "dimension \"a\" is given twice");
    EXPECT_EQ(message(with(R"("dimensions":{"a":1,"a":null})")), "dimension \"a\" is given twice");
    EXPECT_EQ(message(with(R"("dimensions":{"user_id":1})")),
              "\"user_id\" is not a dimension name");
    EXPECT_EQ(message(with(R"("dimensions":{"":1})")), "dimension name must not be empty");
    EXPECT_EQ(message(with(R"("dimensions":[])")), "dimensions must be an object, not an array");
    EXPECT_EQ(message(with(R"("dimensions":"a")")), "dimensions must be an object, not \"a\"");
    // What an invalid item left behind does not get into the next.
    const auto events = parse("[" + with(R"("dimensions":{"a":1,"b":[]})") + "," +
                              with(R"("dimensions":{"c":1})") + "]");
    ASSERT_EQ(events.size(), 2u);
    EXPECT_TRUE(events[0].error);
    EXPECT_EQ(events[1].dimensions, R"({"c":1})");
}

TEST(Ingest, Timestamps) {
    EXPECT_EQ(one(with(R"("timestamp":"1970-01-01T02:00:01+02:00")")).timestamp, 1'000'000);
    const Error number = item_error(with(R"("timestamp":1767225600)"));
    EXPECT_EQ(number.message, "timestamp must be a string, not 1767225600");
    EXPECT_NE(number.hint.find("RFC 3339"), std::string::npos);
    EXPECT_NE(item_error(with(R"("timestamp":"yesterday")")).hint.find("RFC 3339"),
              std::string::npos);
    EXPECT_NE(message(with(R"("timestamp":"2026-01-31T12:00:00")")).find("no time zone"),
              std::string::npos);
}

TEST(Ingest, MetadataKeepsItsText) {
    const auto metadata = [](const std::string& text) {
        return one(with(R"("metadata":)" + text)).metadata;
    };
    EXPECT_EQ(metadata("{ }"), "{}");
    EXPECT_EQ(metadata(R"({ "b" : 1 , "a" : [ ] , "c" : [ [ ] , { } , null , true , false ] })"),
              R"({"b":1,"a":[],"c":[[],{},null,true,false]})");
    EXPECT_EQ(metadata(R"({"n":[18446744073709551616,1e400,1.500,-0.0,1E+5,0.1]})"),
              R"({"n":[18446744073709551616,1e400,1.500,-0.0,1E+5,0.1]})");
    EXPECT_EQ(metadata(R"({"\u0022k\n":"\u0001\u001f\/\\\"\b\f\n\r\t\ud83d\ude00"})"),
              "{\"\\\"k\\n\":\"\\u0001\\u001f/\\\\\\\"\\b\\f\\n\\r\\t\xF0\x9F\x98\x80\"}");
    EXPECT_EQ(message(with(R"("metadata":[])")), "metadata must be an object, not an array");
    EXPECT_EQ(message(with(R"("metadata":"x")")), "metadata must be an object, not \"x\"");
    // Names that are not twice in one object.
    EXPECT_EQ(metadata(R"({"a":{"a":{"b":1}},"b":[{"a":1},{"a":1}]})"),
              R"({"a":{"a":{"b":1}},"b":[{"a":1},{"a":1}]})");
    EXPECT_EQ(message(with(R"("metadata":{"a":1,"a":1})")),
              R"(member "a" of metadata is given twice)");
    EXPECT_EQ(message(with(R"("metadata":{"x":[{"b":{"a":1,"c":{},"\u0061":1}}]})")),
              R"(member "a" of metadata is given twice)");
    std::string many;
    for (int i = 0; i < 1000; ++i)
        many += "\"k" + std::to_string(i) + "\":0,";
    EXPECT_EQ(metadata("{" + many + R"("z":1})"), "{" + many + R"("z":1})");
    EXPECT_EQ(message(with(R"("metadata":{)" + many + R"("k500":1})")),
              R"(member "k500" of metadata is given twice)");
}

TEST(Ingest, MetadataNumbersFitJsonb) {
    const auto fits = [](const std::string& number) {
        try {
            meter::check_jsonb_number(number);
        } catch (const Error&) {
            return false;
        }
        return true;
    };
    EXPECT_TRUE(fits("1e131071"));
    EXPECT_FALSE(fits("1e131072"));
    EXPECT_TRUE(fits("-9.9e131071"));
    EXPECT_FALSE(fits("10e131071"));
    EXPECT_TRUE(fits("0.01e131073"));
    EXPECT_FALSE(fits("0.01e131074"));
    EXPECT_TRUE(fits("1e-16383"));
    EXPECT_FALSE(fits("1e-16384"));
    EXPECT_FALSE(fits("1.0e-16383"));
    EXPECT_FALSE(fits("0e-16384"));
    EXPECT_TRUE(fits("0e1073741822"));
    EXPECT_FALSE(fits("0e1073741823"));
    EXPECT_FALSE(fits("0e-1073741823"));
    EXPECT_FALSE(fits("0e99999999999999999999999"));
    EXPECT_TRUE(fits(std::string(131072, '9')));
    EXPECT_FALSE(fits(std::string(131073, '9')));
    EXPECT_TRUE(fits("0." + std::string(16383, '9')));
    EXPECT_FALSE(fits("0." + std::string(16384, '0')));
    EXPECT_TRUE(fits("0." + std::string(20000, '0') + "1e4000"));
    EXPECT_FALSE(fits("0." + std::string(20000, '0') + "1e3000"));
    EXPECT_EQ(item_error(with(R"("metadata":{"a":1e131072})")).message,
              "number 1e131072 of metadata is out of bounds");
    EXPECT_EQ(message(with(R"("metadata":{"a":[{"b":-1e-16384}]})")),
              "number -1e-16384 of metadata is out of bounds");
}

TEST(Ingest, UnknownMembersAreItemErrors) {
    EXPECT_EQ(message(with(R"("foo":1)")), R"(unknown member "foo")");
    EXPECT_EQ(message(with(R"("Value":1)")), R"(unknown member "Value")");
    EXPECT_EQ(message(with(R"("foo_bar":{"a":[1,2]})")), R"(unknown member "foo_bar")");
    EXPECT_EQ(message(with(R"("foo":{"a":[1,2]})")), R"(unknown member "foo")");
    EXPECT_EQ(message(with(R"("foo":null)")), R"(unknown member "foo")");
    EXPECT_EQ(message(with(R"("":1)")), R"(unknown member "")");
    EXPECT_EQ(message(with(R"("data":{"what":1})")), R"(unknown member "data")");
    EXPECT_NE(item_error(with(R"("id":"1")")).hint.find("specversion"), std::string::npos);
}

TEST(Ingest, FirstErrorOfAnItemWins) {
    EXPECT_EQ(message(R"({"foo":1,"value":"abc","user_id":"u"})"), R"(unknown member "foo")");
    EXPECT_EQ(message(R"({"value":"abc","foo":1,"user_id":5})"), R"(value "abc" is not a number)");
    EXPECT_EQ(message(R"({"user_id":5,"user_id":6})"), "user_id must be a string, not 5");
    EXPECT_EQ(message(R"({"user_id":"a","user_id":6})"), R"(member "user_id" is given twice)");
    EXPECT_EQ(item_error(R"({"value":"abc"})").kind, ErrorKind::kInvalidParameter);
}

TEST(Ingest, ZeroCharacterIsAnItemError) {
    for (const char* more :
         {R"("idempotency":"a\u0000b")", R"("dimensions":{"a":"\u0000"})",
          R"("dimensions":{"\u0000":1})", R"("metadata":{"a":["\u0000"]})",
          R"("metadata":{"\u0000":1})", R"("a\u0000":1)", R"("value":"1\u0000")"})
        EXPECT_EQ(message(with(more)), "the character \\u0000 cannot be stored") << more;
    EXPECT_EQ(message(R"({"specversion":"1.0","x":"\u0000"})"),
              "the character \\u0000 cannot be stored");
}

TEST(Ingest, ItemsThatAreNoObjects) {
    const auto events =
        parse(R"([1,"a\u0000",null,true,[],[[{"a":1}],2],1e400,)" + with(R"("value":3)") + "]");
    ASSERT_EQ(events.size(), 8u);
    const char* is[] = {"1", "\"a\\x00\"", "null", "true", "an array", "an array", "1e400"};
    for (int i = 0; i < 7; ++i) {
        ASSERT_TRUE(events[i].error) << i;
        EXPECT_EQ(events[i].error->message, std::string("an item must be an object, not ") + is[i]);
    }
    EXPECT_EQ(events[7].value, "3");
    EXPECT_EQ(parse("[]").size(), 0u);
    EXPECT_EQ(parse(" [ ] ").size(), 0u);
}

}  // namespace
