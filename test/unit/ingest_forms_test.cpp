// The forms of a payload of meter.ingest: array, NDJSON, single object, CloudEvents; positions of
// errors, limits, and cancelling.
#include <algorithm>

#include "ingest_support.hpp"

namespace {

using namespace meter_test;

TEST(IngestForms, AllFormsGiveTheSame) {
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

TEST(IngestForms, BlankPayloadHasNoEvents) {
    for (const char* payload : {"", " ", "\n\r\n\t ", "\xEF\xBB\xBF", "\xEF\xBB\xBF \n"})
        EXPECT_EQ(parse(payload).size(), 0u);
}

TEST(IngestForms, AppendsToWhatIsThere) {
    std::vector<EventInput> events(2);
    meter::parse_events(with(R"("value":5)"), {1000, 1, 64}, {}, events);
    ASSERT_EQ(events.size(), 3u);
    EXPECT_EQ(events[2].value, "5");
}

TEST(IngestForms, MalformedArrayFailsAsAWhole) {
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

TEST(IngestForms, MalformedReasonsAreShort) {
    const Error e = payload_error("[\"" + std::string(100'000, 'x') + "; expected \x01\"]");
    EXPECT_LT(e.detail.size(), 300u);
    EXPECT_NE(e.detail.find("control character"), std::string::npos) << e.detail;
}

TEST(IngestForms, InvalidUtf8AndLoneSurrogatesAreMalformed) {
    for (const char* text : {"\"\xFF\"", "\"\xC0\x80\"", "\"\xED\xA0\x80\"", "\"\xF4\x90\x80\x80\"",
                             "\"\xC3\"", R"("\ud800")", R"("\udc00")", R"("\ud800\u0061")",
                             R"("\ud83d\ud83d")", R"("\u12g4")", R"("\x")"})
        EXPECT_EQ(payload_error("[" + std::string(text) + "]").message, "malformed JSON") << text;
}

TEST(IngestForms, MalformedLinesAreItemErrors) {
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

TEST(IngestForms, FirstLineMayBeMalformed) {
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

TEST(IngestForms, CutStringDoesNotReachIntoTheNextLine) {
    // Read on across the line break, the brace in the second line's string would close the first
    // line's object.
    for (const char* first : {R"({"event_name":"a)", R"({"event_name":"a\)"}) {
        const auto events =
            parse(std::string(first) + "\n" + R"({"event_name":"}","user_id":"u"})" + "\n");
        ASSERT_EQ(events.size(), 2u) << first;
        EXPECT_TRUE(events[0].error);
        EXPECT_EQ(events[1].event_name, "}");
    }
}

TEST(IngestForms, ObjectOverSeveralLines) {
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

TEST(IngestForms, CloudEvents) {
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

TEST(IngestForms, CloudEventErrors) {
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

TEST(IngestForms, FormsDoNotMixInOneItem) {
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

TEST(IngestForms, Limits) {
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

TEST(IngestForms, SurvivesDeepNesting) {
    constexpr std::size_t kDeep = 1'000'000;
    const std::string nest = std::string(kDeep, '[') + std::string(kDeep, ']');
    std::string objects;
    for (std::size_t i = 0; i < kDeep / 5; ++i)
        objects += "{\"a\":";
    objects += "1" + std::string(kDeep / 5, '}');
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
}

TEST(IngestForms, TokensAreBounded) {
    constexpr std::size_t kTooLong = 9'000'000;
    for (const std::string& payload :
         {with(R"("metadata":{"a":")" + std::string(kTooLong, 'x') + R"("})"),
          with(R"("value":)" + std::string(kTooLong, '1')), "[" + std::string(kTooLong, ' ') + "]",
          "[\"" + std::string(kTooLong, 'x'), "[" + std::string(kTooLong, '[')})
        EXPECT_EQ(payload_error(payload).kind, ErrorKind::kLimitExceeded) << payload.substr(0, 50);
    EXPECT_EQ(parse("[" + std::string(kTooLong, '\n') + "1,\n" + std::string(kTooLong, ' ') + "2]")
                  .size(),
              2u);
    const std::string half(kTooLong / 2, 'x');
    EXPECT_FALSE(
        parse(with(R"("metadata":{"a":")" + half + R"(","b":")" + half + R"("})"))[0].error);
}

// How often on_progress is called while `payload` is read.
std::size_t progress_calls(const std::string& payload) {
    std::size_t calls = 0;
    std::vector<EventInput> events;
    try {
        meter::parse_events(
            payload, kLimits, [&] { ++calls; }, events);
    } catch (const Error&) {
    }
    return calls;
}

TEST(IngestForms, ReportsProgressInsideOneItem) {
    constexpr std::size_t kLarge = 8'000'000;
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
        EXPECT_GE(progress_calls(payload), payload.size() / 65'536) << payload.substr(0, 60);
}

TEST(IngestForms, CancelIsNotAnItemError) {
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
