// What the tests of meter.ingest share: reading a payload, and the items they are made of.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "core/ingest.hpp"

namespace meter_test {

using meter::Error;
using meter::ErrorKind;
using meter::EventInput;
using meter::IngestLimits;

inline constexpr IngestLimits kLimits{1 << 28, 1'000'000, 64};

inline std::vector<EventInput> parse(std::string_view payload,
                                     const IngestLimits& limits = kLimits) {
    std::vector<EventInput> events;
    meter::parse_events(
        payload, limits, [] {}, events);
    return events;
}

// The error of the payload as a whole; a failure where there is none.
inline Error payload_error(std::string_view payload, const IngestLimits& limits = kLimits) {
    try {
        parse(payload, limits);
    } catch (const Error& error) {
        return error;
    }
    ADD_FAILURE() << "no error: " << payload.substr(0, 200);
    return {ErrorKind::kCorrupt, "none"};
}

// The one event of a payload, which is to be valid.
inline EventInput one(std::string_view item) {
    const auto events = parse(item);
    EXPECT_EQ(events.size(), 1u) << item;
    if (events.size() != 1)
        return {};
    if (events[0].error)
        ADD_FAILURE() << item << ": " << events[0].error->message;
    return events[0];
}

// The error of the one item of a payload.
inline Error item_error(std::string_view item, const IngestLimits& limits = kLimits) {
    const auto events = parse(item, limits);
    EXPECT_EQ(events.size(), 1u) << item.substr(0, 200);
    if (events.size() != 1 || !events[0].error) {
        ADD_FAILURE() << "no error: " << item.substr(0, 200);
        return {ErrorKind::kCorrupt, "none"};
    }
    return *events[0].error;
}

inline std::string message(std::string_view item) {
    return item_error(item).message;
}

// An item with event_name and user_id and what `more` adds.
inline std::string with(std::string_view more) {
    return R"({"event_name":"calls","user_id":"u1",)" + std::string(more) + "}";
}

// A CloudEvent with what is required and what `more` adds.
inline std::string cloud(std::string_view more) {
    return R"({"specversion":"1.0","type":"calls","source":"/app","id":"42","subject":"u1")" +
           std::string(more) + "}";
}

inline void expect_equal(const EventInput& a, const EventInput& b) {
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

}  // namespace meter_test
