// What meter.ingest reads: payload forms, members, CloudEvents, numbers, limits, positions.
#include "core/ingest.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <clocale>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/json_metadata.hpp"

namespace {

using meter::Error;
using meter::ErrorKind;
using meter::EventInput;
using meter::IngestLimits;

constexpr IngestLimits kLimits{1 << 28, 1'000'000, 64};

std::vector<EventInput> parse(std::string_view payload, const IngestLimits& limits = kLimits) {
    std::vector<EventInput> events;
    meter::parse_events(
        payload, limits, [] {}, events);
    return events;
}

// The error of the payload as a whole; a failure where there is none.
Error payload_error(std::string_view payload, const IngestLimits& limits = kLimits) {
    try {
        parse(payload, limits);
    } catch (const Error& error) {
        return error;
    }
    ADD_FAILURE() << "no error: " << payload.substr(0, 200);
    return {ErrorKind::kCorrupt, "none"};
}

// The one event of a payload, which is to be valid.
EventInput one(std::string_view item) {
    const auto events = parse(item);
    EXPECT_EQ(events.size(), 1u) << item;
    if (events.size() != 1)
        return {};
    if (events[0].error)
        ADD_FAILURE() << item << ": " << events[0].error->message;
    return events[0];
}

// The error of the one item of a payload.
Error item_error(std::string_view item, const IngestLimits& limits = kLimits) {
    const auto events = parse(item, limits);
    EXPECT_EQ(events.size(), 1u) << item.substr(0, 200);
    if (events.size() != 1 || !events[0].error) {
        ADD_FAILURE() << "no error: " << item.substr(0, 200);
        return {ErrorKind::kCorrupt, "none"};
    }
    return *events[0].error;
}

std::string message(std::string_view item) {
    return item_error(item).message;
}

// An item with event_name and user_id and what `more` adds.
std::string with(std::string_view more) {
    return R"({"event_name":"calls","user_id":"u1",)" + std::string(more) + "}";
}

// A CloudEvent with what is required and what `more` adds.
std::string cloud(std::string_view more) {
    return R"({"specversion":"1.0","type":"calls","source":"/app","id":"42","subject":"u1")" +
           std::string(more) + "}";
}

void expect_equal(const EventInput& a, const EventInput& b) {
    EXPECT_EQ(a.event_name, b.event_name);
    EXPECT_EQ(a.meter_id, b.meter_id);
    EXPECT_EQ(a.user_id, b.user_id);
    EXPECT_EQ(a.value, b.value);
    EXPECT_EQ(a.dimensions, b.dimensions);
    EXPECT_EQ(a.idempotency, b.idempotency);
    EXPECT_EQ(a.timestamp, b.timestamp);
    EXPECT_EQ(a.metadata, b.metadata);
    ASSERT_EQ(a.error.has_value(), b.error.has_value());
    if (a.error) {
        EXPECT_EQ(a.error->message, b.error->message);
    }
}

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

TEST(Ingest, AllFormsGiveTheSame) {
    const std::vector<std::string> items = {
        R"({"event_name":"a","user_id":"u1","value":1.50,"dimensions":{"b":"x","a":null},"idempotency":"k"})",
        R"({"meterId":3,"userId":"u2","timestamp":"2026-01-31T12:00:00Z","metadata":{"n":1e400,"s":"\u00e9"}})",
        R"({"event_name":"a","user_id":"u1","value":"x"})",
        R"([1,2])",
        R"({"specversion":"1.0","type":"t","source":"/s","id":"1","subject":"u","data":{"value":2}})",
        R"("text")",
        R"({"event_name":"last","user_id":"u9"})",
    };
    std::string array = "[";
    std::string pretty = "\n[\n";
    std::string lines;
    std::string dos;
    for (std::size_t i = 0; i < items.size(); ++i) {
        array += (i > 0 ? "," : "") + items[i];
        pretty += (i > 0 ? "\t, \n\n  " : "") + items[i];
        lines += items[i] + "\n";
        dos += "\r\n  " + items[i] + " \r\n\r\n";
    }
    array += "]";
    pretty += "\r\n ]\n";
    const auto expected = parse(array);
    ASSERT_EQ(expected.size(), items.size());
    for (const std::string& payload : {pretty, lines, lines.substr(0, lines.size() - 1), dos,
                                       "\xEF\xBB\xBF" + array, "\xEF\xBB\xBF" + lines}) {
        const auto events = parse(payload);
        ASSERT_EQ(events.size(), expected.size()) << payload;
        for (std::size_t i = 0; i < events.size(); ++i)
            expect_equal(events[i], expected[i]);
    }
    for (const std::size_t i : {0u, 1u, 4u}) {
        std::string spread;
        for (const char c : items[i])
            spread += c == ',' ? std::string(",\n") : std::string(1, c);
        for (const std::string& payload :
             {items[i], " \n" + items[i] + " \n\n", spread, "\n" + spread + "\r\n "}) {
            const auto events = parse(payload);
            ASSERT_EQ(events.size(), 1u) << payload;
            expect_equal(events[0], expected[i]);
        }
    }
}

TEST(Ingest, BlankPayloadHasNoEvents) {
    for (const char* payload : {"", " ", "\n\r\n\t ", "\xEF\xBB\xBF", "\xEF\xBB\xBF \n"})
        EXPECT_EQ(parse(payload).size(), 0u);
}

TEST(Ingest, AppendsToWhatIsThere) {
    std::vector<EventInput> events(2);
    meter::parse_events(with(R"("value":5)"), {1000, 1, 64}, {}, events);
    ASSERT_EQ(events.size(), 3u);
    EXPECT_EQ(events[2].value, "5");
}

TEST(Ingest, MalformedArrayFailsAsAWhole) {
    const Error e = payload_error("[{\"event_name\":\"a\",\n  \"user_id\" \"\xC3\xA9\"}]");
    EXPECT_EQ(e.kind, ErrorKind::kInvalidText);
    EXPECT_EQ(e.message, "malformed JSON");
    EXPECT_TRUE(e.detail.starts_with("Line 2, column 15 (byte 36): while parsing object separator"))
        << e.detail;
    const auto at = [](std::string_view payload) {
        const std::string detail = payload_error(payload).detail;
        return detail.substr(0, detail.find(':'));
    };
    EXPECT_EQ(at("["), "Line 1, column 2 (byte 2)");
    EXPECT_EQ(at("[1,]"), "Line 1, column 4 (byte 4)");
    EXPECT_EQ(at("[1 2]"), "Line 1, column 4 (byte 4)");
    EXPECT_EQ(at("[1\n\n 2]"), "Line 3, column 2 (byte 6)");
    EXPECT_EQ(at("[1] x"), "Line 1, column 5 (byte 5)");
    EXPECT_EQ(at("[1]\n\n   [2]"), "Line 3, column 4 (byte 9)");
    EXPECT_EQ(at("\n\n [1\n\n\n"), "Line 6, column 1 (byte 9)");
    EXPECT_EQ(at("[\"a\n\n\n b\"]"), "Line 1, column 4 (byte 4)");
    EXPECT_EQ(at("[\n\n\n\xFF]"), "Line 4, column 1 (byte 5)");
    EXPECT_EQ(at("[-\n\n\n 5]"), "Line 1, column 3 (byte 3)");
    EXPECT_EQ(at("[tru\n\n e]"), "Line 1, column 5 (byte 5)");
    EXPECT_EQ(at("\xEF\xBB\xBF[x]"), "Line 1, column 2 (byte 5)");
    EXPECT_EQ(at(std::string_view("[1]\0", 4)), "Line 1, column 4 (byte 4)");
    EXPECT_EQ(at(std::string_view("{}\n\0", 4)), "Line 2, column 1 (byte 4)");
    EXPECT_EQ(at("[NaN]"), "Line 1, column 2 (byte 2)");
    EXPECT_EQ(at("[01]"), "Line 1, column 3 (byte 3)");
}

TEST(Ingest, MalformedReasonsAreShort) {
    const Error e = payload_error("[\"" + std::string(100'000, 'x') + "; expected \x01\"]");
    EXPECT_LT(e.detail.size(), 300u);
    EXPECT_NE(e.detail.find("control character"), std::string::npos) << e.detail;
}

TEST(Ingest, InvalidUtf8AndLoneSurrogatesAreMalformed) {
    for (const char* text : {"\"\xFF\"", "\"\xC0\x80\"", "\"\xED\xA0\x80\"", "\"\xF4\x90\x80\x80\"",
                             "\"\xC3\"", R"("\ud800")", R"("\udc00")", R"("\ud800\u0061")",
                             R"("\ud83d\ud83d")", R"("\u12g4")", R"("\x")"})
        EXPECT_EQ(payload_error("[" + std::string(text) + "]").message, "malformed JSON") << text;
}

TEST(Ingest, MalformedLinesAreItemErrors) {
    const auto events = parse(
        "{\"event_name\":\"a\",\"user_id\":\"\xC3\xA9\"}\n"
        "\n"
        "{\"event_name\":\"\xC3\xA9\" 5}\r\n"
        "{\"event_name\":\"a\",\"user_id\":\"u\"\n"
        "{\"user_id\":5} {}\n"
        "nonsense\n"
        "\xEF\xBB\xBF{}\n"
        "{\"event_name\":\"b\",\"user_id\":\"u\"}");
    ASSERT_EQ(events.size(), 7u);
    EXPECT_FALSE(events[0].error);
    const char* messages[] = {"",
                              "malformed JSON at line 3, column 19",
                              "malformed JSON at line 4, column 32",
                              "malformed JSON at line 5, column 15",
                              "malformed JSON at line 6, column 2",
                              "malformed JSON at line 7, column 1"};
    for (int i = 1; i <= 5; ++i) {
        ASSERT_TRUE(events[i].error) << i;
        EXPECT_EQ(events[i].error->kind, ErrorKind::kInvalidText);
        EXPECT_EQ(events[i].error->message, messages[i]);
    }
    EXPECT_TRUE(events[1].error->detail.starts_with("Byte 55: while parsing"))
        << events[1].error->detail;
    EXPECT_EQ(events[6].event_name, "b");
    EXPECT_FALSE(events[6].error);
}

TEST(Ingest, FirstLineMayBeMalformed) {
    // Cut short inside a string, inside an object, by a brace too many.
    for (const char* first : {R"({"event_name":"a","user_id":"u)", R"({"event_name":"a",)",
                              R"({"event_name":"a","user_id":"u\)", R"({"event_name":"a"}})",
                              R"(event_name":"a"})", R"(})"}) {
        const auto events = parse(std::string(first) + "\n" + with(R"("value":1)") + "\n" +
                                  with(R"("value":2)") + "\n");
        ASSERT_EQ(events.size(), 3u) << first;
        EXPECT_TRUE(events[0].error);
        EXPECT_TRUE(events[0].error->message.starts_with("malformed JSON at line 1")) << first;
        EXPECT_EQ(events[1].value, "1");
        EXPECT_EQ(events[2].value, "2");
    }
}

TEST(Ingest, ObjectOverSeveralLines) {
    const Error rest = payload_error("{\"event_name\":\"a\",\n\"user_id\":\"u\"}\n {\n}\n");
    EXPECT_EQ(rest.kind, ErrorKind::kInvalidText);
    EXPECT_EQ(rest.message, "malformed JSON");
    EXPECT_TRUE(rest.detail.starts_with("Line 3, column 2 (byte 36): text after the object"))
        << rest.detail;
    const Error inside = payload_error("\n{\n\"a\":1,\n}");
    EXPECT_TRUE(inside.detail.starts_with("Line 4, column 1 (byte 11): ")) << inside.detail;
    // Braces and quotes in strings do not count.
    EXPECT_EQ(one("{\"event_name\":\"}}{\\\"\",\n\"user_id\":\"]\\\\\"}").event_name, "}}{\"");
}

TEST(Ingest, CloudEvents) {
    const EventInput e = one(R"({"specversion":"1.0","type":"com.example.calls","source":"/app/1",
        "id":"A 1","subject":"u1","time":"2026-01-31T12:00:00Z",
        "datacontenttype":"application/json; charset=utf-8","dataschema":"http://x/y",
        "traceparent":"00-ab","sampled":true,"n1":3,
        "data":{"value":"2.50","dimensions":{"b":1,"a":"x"},"metadata":{"k":[1.0]}}})");
    EXPECT_EQ(e.event_name, "com.example.calls");
    EXPECT_EQ(e.user_id, "u1");
    EXPECT_EQ(e.idempotency, "/app/1 A 1");
    EXPECT_EQ(e.timestamp, 1769860800000000);
    EXPECT_EQ(e.value, "2.5");
    EXPECT_EQ(e.dimensions, R"({"a":"x","b":1})");
    EXPECT_EQ(e.metadata, R"({"k":[1.0]})");

    for (const char* more :
         {"", R"(,"data":null)", R"(,"data":{})",
          R"(,"data":{"value":null,"dimensions":null,"metadata":null},"time":null,"x":null,
              "data_base64":null,"dataschema":null,"datacontenttype":null)"}) {
        const EventInput d = one(cloud(more));
        EXPECT_EQ(d.value, "1");
        EXPECT_EQ(d.dimensions, "{}");
        EXPECT_EQ(d.metadata, "{}");
        EXPECT_EQ(d.idempotency, "/app 42");
        EXPECT_FALSE(d.timestamp);
    }
    // specversion last, and the batch format mixed with plain items.
    const auto events = parse(R"([{"type":"t","data":{"value":7,"dimensions":{"a":1}},"ext":1,
        "source":"s","id":"i","subject":"u","specversion":"1.0"},)" +
                              with(R"("value":8)") + "," + cloud("") + "]");
    ASSERT_EQ(events.size(), 3u);
    for (const EventInput& event : events)
        EXPECT_FALSE(event.error);
    EXPECT_EQ(events[0].value, "7");
    EXPECT_EQ(events[0].dimensions, R"({"a":1})");
    EXPECT_EQ(events[0].idempotency, "s i");
    EXPECT_EQ(events[1].value, "8");
    EXPECT_FALSE(events[1].idempotency);
    EXPECT_EQ(events[2].value, "1");
}

TEST(Ingest, CloudEventErrors) {
    EXPECT_EQ(message(R"({"specversion":"0.3","type":"t"})"),
              R"(specversion must be "1.0", not "0.3")");
    EXPECT_EQ(message(R"({"specversion":1.0})"), R"(specversion must be "1.0", not 1.0)");
    EXPECT_EQ(message(R"({"specversion":null})"), R"(specversion must be "1.0", not null)");
    const auto without = [](const std::string& member) {
        std::string item = R"({"specversion":"1.0")";
        for (const char* name : {"type", "source", "id", "subject"})
            if (name != member)
                item += std::string(",\"") + name + "\":\"x\"";
        return item;
    };
    for (const char* name : {"type", "source", "id", "subject"}) {
        const std::string item = without(name);
        EXPECT_EQ(message(item + "}"), std::string(name) + " is missing");
        EXPECT_EQ(message(item + ",\"" + name + "\":null}"), std::string(name) + " is missing");
        EXPECT_EQ(message(item + ",\"" + name + "\":\"\"}"),
                  std::string(name) + " must not be empty");
        EXPECT_EQ(message(item + ",\"" + name + "\":5}"),
                  std::string(name) + " must be a string, not 5");
    }
    for (const char* source : {"a b", " a", "a\\t", "\\u007f", "\\n", "\\u0001"})
        EXPECT_TRUE(message(without("source") + R"(,"source":")" + source + "\"}")
                        .ends_with("is not valid"))
            << source;
    const std::string longest = without("id") + R"(,"id":")" + std::string(253, 'i');
    EXPECT_EQ(one(longest + "\"}").idempotency, "x " + std::string(253, 'i'));
    EXPECT_EQ(message(longest + "i\"}"), "source and id are too long");

    EXPECT_EQ(message(cloud(R"(,"data_base64":"AAAA")")), "data_base64 is not taken");
    EXPECT_EQ(message(cloud(R"(,"data":[1])")), "data must be an object, not an array");
    EXPECT_EQ(message(cloud(R"(,"data":"x")")), "data must be an object, not \"x\"");
    EXPECT_EQ(message(cloud(R"(,"data":{"tokens":1})")), R"(unknown member "tokens" of data)");
    EXPECT_EQ(message(cloud(R"(,"data":{"user_id":1})")), R"(unknown member "user_id" of data)");
    EXPECT_EQ(message(cloud(R"(,"data":{"value":1,"value":1})")),
              R"(member "value" is given twice)");
    EXPECT_EQ(message(cloud(R"(,"time":5)")), "time must be a string, not 5");
    EXPECT_EQ(message(cloud(R"(,"id":"43")")), R"(member "id" is given twice)");
    EXPECT_EQ(message(cloud(R"(,"ext":1,"other":2,"ext":3)")), R"(member "ext" is given twice)");
    EXPECT_EQ(message(cloud(R"(,"ext":{"a":1})")),
              "ext must be a string, a number or a boolean, not an object");
    EXPECT_EQ(message(cloud(R"(,"my_ext":1)")), R"(unknown member "my_ext")");
    EXPECT_EQ(message(cloud(R"(,"myExt":1)")), R"(unknown member "myExt")");
    for (const char* type : {"application/json", "Application/JSON", "application/json ;a=b",
                             "application/vnd.x+json", "text/x+JSON;charset=utf-8"})
        one(cloud(R"(,"datacontenttype":")" + std::string(type) + '"'));
    for (const char* type : {"text/plain", "application/jsonx", "json", "+json", "a/+json", "",
                             "application/xml;x=+json"})
        EXPECT_EQ(message(cloud(R"(,"datacontenttype":")" + std::string(type) + '"')),
                  "datacontenttype must be a JSON media type, not \"" + std::string(type) + '"');
}

TEST(Ingest, FormsDoNotMixInOneItem) {
    const char* is_none = " is not a CloudEvent's";
    for (const char* member : {"event_name", "eventName", "meter_id", "user_id", "userId", "value",
                               "dimensions", "idempotency", "timestamp", "metadata"}) {
        const std::string expected = "member \"" + std::string(member) + "\"" + is_none;
        EXPECT_EQ(message(cloud(",\"" + std::string(member) + "\":null")), expected);
        // Also where the form comes out last, and where its value is wrong in itself.
        EXPECT_EQ(
            message("{\"" + std::string(member) + R"(":[{}],"type":"t","specversion":"1.0"})"),
            expected);
    }
    for (const char* member : {"type", "source", "id", "subject", "time", "datacontenttype",
                               "dataschema", "data", "data_base64"})
        for (const char* value : {"null", "\"x\"", "[5]"})
            EXPECT_EQ(message(with("\"" + std::string(member) + "\":" + value)),
                      "unknown member \"" + std::string(member) + "\"");
    // Whichever came first.
    EXPECT_EQ(message(R"({"type":5,"value":"x","specversion":"1.0"})"),
              "type must be a string, not 5");
    EXPECT_EQ(message(R"({"value":"x","type":5})"), "value \"x\" is not a number");
}

TEST(Ingest, Limits) {
    const std::string item = with(R"("value":1)");
    EXPECT_EQ(parse("[" + item + "," + item + "]", {1000, 2, 64}).size(), 2u);
    for (const std::string& payload : {"[" + item + ",1,2]", item + "\nx\n" + item}) {
        const Error e = payload_error(payload, {1000, 2, 64});
        EXPECT_EQ(e.kind, ErrorKind::kLimitExceeded);
        EXPECT_NE(e.hint.find("meter.max_batch_events"), std::string::npos);
    }
    EXPECT_EQ(parse(item, {item.size(), 1, 64}).size(), 1u);
    const Error bytes = payload_error(item, {item.size() - 1, 1, 64});
    EXPECT_EQ(bytes.kind, ErrorKind::kLimitExceeded);
    EXPECT_NE(bytes.hint.find("meter.max_payload_size"), std::string::npos);

    const IngestLimits depth{1000, 10, 3};
    EXPECT_FALSE(parse(with(R"("metadata":{"a":[1]})"), depth)[0].error);
    const Error deep = item_error(with(R"("metadata":{"a":[[]]})"), depth);
    EXPECT_EQ(deep.kind, ErrorKind::kLimitExceeded);
    EXPECT_NE(deep.hint.find("meter.max_json_depth"), std::string::npos);
    // The outermost array is no item's.
    EXPECT_FALSE(parse("[" + with(R"("metadata":{"a":[1]})") + "]", depth)[0].error);
}

TEST(Ingest, SurvivesDeepNesting) {
    constexpr std::size_t kDeep = 1'000'000;
    const std::string nest = std::string(kDeep, '[') + std::string(kDeep, ']');
    std::string objects;
    for (std::size_t i = 0; i < kDeep / 5; ++i)
        objects += "{\"a\":";
    objects += "1" + std::string(kDeep / 5, '}');
    const auto start = std::chrono::steady_clock::now();
    for (const std::string& payload :
         {"[" + with(R"("metadata":{"a":)" + nest + "}") + "," + with(R"("value":5)") + "]",
          with(R"("metadata":)" + objects) + "\n" + with(R"("value":5)")}) {
        const auto events = parse(payload);
        ASSERT_EQ(events.size(), 2u);
        ASSERT_TRUE(events[0].error);
        EXPECT_EQ(events[0].error->message, "item is nested deeper than 64 levels");
        EXPECT_EQ(events[1].value, "5");
    }
    EXPECT_EQ(payload_error(std::string(kDeep, '[')).message, "malformed JSON");
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

// The longest time between two calls of on_progress while `payload` is read.
std::chrono::milliseconds longest_gap(const std::string& payload) {
    using clock = std::chrono::steady_clock;
    auto last = clock::now();
    clock::duration longest{};
    const auto called = [&] {
        const auto now = clock::now();
        longest = std::max(longest, now - last);
        last = now;
    };
    std::vector<EventInput> events;
    try {
        meter::parse_events(payload, kLimits, called, events);
    } catch (const Error&) {
    }
    called();
    return std::chrono::duration_cast<std::chrono::milliseconds>(longest);
}

TEST(Ingest, ReportsProgressInsideOneItem) {
    constexpr std::size_t kLarge = 20'000'000;
    std::string names = with(R"("metadata":{)");
    names.pop_back();
    for (int i = 0; i < 1'000'000; ++i)
        names += "\"some long enough name " + std::to_string(i) + "\":0,";
    names += "\"z\":0}}";
    std::string lines = with(R"("metadata":{}})");
    for (const std::string& payload :
         {names, with(R"("idempotency":")" + std::string(kLarge, 'x') + '"'),
          "[" + std::string(kLarge, ' ') + "]", std::string(kLarge, '\n'),
          "[" + std::string(kLarge, '\n') + "]", "{\"a\":" + std::string(kLarge, '['),
          "{" + std::string(kLarge, '\n') + "}", with(R"("value":)" + std::string(kLarge, '1'))})
        EXPECT_LT(longest_gap(payload).count(), 50) << payload.substr(0, 60);
}

TEST(Ingest, CancelIsNotAnItemError) {
    struct Cancel {};
    const auto run = [](const std::string& payload, int calls, auto what) {
        std::vector<EventInput> events;
        meter::parse_events(
            payload, kLimits,
            [&] {
                if (--calls < 0)
                    throw what;
            },
            events);
    };
    std::string names = with(R"("metadata":{)");
    names.pop_back();
    for (int i = 0; i < 50'000; ++i)
        names += "\"n" + std::to_string(i * 7919 % 50'000) + "\":0,";
    names += "\"z\":0}}";
    int total = 0;
    std::vector<EventInput> events;
    meter::parse_events(
        names, kLimits, [&] { ++total; }, events);
    ASSERT_FALSE(events[0].error);
    ASSERT_GT(total, 50);  // sorting the names reports too
    for (int calls = 0; calls < total; ++calls) {
        EXPECT_THROW(run(names, calls, Cancel{}), Cancel) << calls;
        EXPECT_THROW(run(names, calls, Error(ErrorKind::kNotInState, "cancelled")), Error) << calls;
    }
}

}  // namespace
