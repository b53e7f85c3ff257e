// Feeds arbitrary payloads to parse_events and checks what must hold of every result. Build with
// clang++ -fsanitize=fuzzer,address,undefined; seeds are in test/fuzz/corpus/ingest.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "check.hpp"
#include "core/decimal.hpp"
#include "core/ingest.hpp"
#include "core/text.hpp"
#include "core/timestamp.hpp"

namespace {

using meter::Error;
using meter::ErrorKind;
using meter::EventInput;

constexpr meter::IngestLimits kLimits{1 << 20, 500, 16};

void check_name(const std::optional<std::string>& name) {
    check(!name ||
          (!name->empty() && name->size() <= 255 && name->find('\0') == std::string::npos));
}

// What every EventInput promises.
void check_event(const EventInput& event) {
    if (event.error) {
        check(!event.error->message.empty());
        check(event.error->kind == ErrorKind::kInvalidParameter ||
              event.error->kind == ErrorKind::kInvalidText ||
              event.error->kind == ErrorKind::kLimitExceeded);
        return;
    }
    check(event.user_id.has_value());
    check(event.event_name.has_value() != event.meter_id.has_value());
    check_name(event.event_name);
    check_name(event.user_id);
    check_name(event.idempotency);
    check(meter::canonical_value(event.value) == event.value);
    check(!event.timestamp ||
          (*event.timestamp >= meter::kMinEventTime && *event.timestamp < meter::kMaxEventTime));
    check(event.dimensions.find('\0') == std::string::npos);
    check(event.metadata.find('\0') == std::string::npos);
}

// A valid event written as an item again.
std::string item_of(const EventInput& event) {
    std::string item = "{\"user_id\":";
    meter::append_json_string(item, *event.user_id);
    if (event.event_name) {
        item += ",\"event_name\":";
        meter::append_json_string(item, *event.event_name);
    } else {
        item += ",\"meter_id\":" + std::to_string(*event.meter_id);
    }
    item += ",\"value\":" + event.value + ",\"dimensions\":" + event.dimensions +
            ",\"metadata\":" + event.metadata;
    if (event.idempotency) {
        item += ",\"idempotency\":";
        meter::append_json_string(item, *event.idempotency);
    }
    return item + "}";
}

void check_same(const EventInput& a, const EventInput& b) {
    check(!b.error);
    check(a.event_name == b.event_name && a.meter_id == b.meter_id && a.user_id == b.user_id);
    check(a.value == b.value && a.dimensions == b.dimensions && a.metadata == b.metadata);
    check(a.idempotency == b.idempotency);
}

// Reads a payload that must be good as a whole.
std::vector<EventInput> read(const std::string& payload) {
    std::vector<EventInput> events;
    meter::parse_events(payload, {1 << 24, 1000, 32}, {}, events);
    return events;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view payload(reinterpret_cast<const char*>(data), size);
    std::vector<EventInput> events;
    try {
        meter::parse_events(payload, kLimits, {}, events);
    } catch (const Error& error) {
        check(error.kind == ErrorKind::kInvalidText || error.kind == ErrorKind::kLimitExceeded);
        return 0;
    }
    check(events.size() <= kLimits.max_events);

    // Written again, in each form, valid events read the same.
    std::string array = "[";
    std::string lines;
    std::vector<const EventInput*> valid;
    for (const EventInput& event : events) {
        check_event(event);
        if (event.error)
            continue;
        const std::string item = item_of(event);
        array += (valid.empty() ? "" : ",\n") + item;
        lines += item + "\r\n";
        valid.push_back(&event);
    }
    array += "]";
    for (const std::string& text : {array, lines}) {
        const auto again = read(text);
        check(again.size() == valid.size());
        for (std::size_t i = 0; i < again.size(); ++i)
            check_same(*valid[i], again[i]);
    }
    return 0;
}
