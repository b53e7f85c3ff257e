#include "pg/event_input.hpp"

#include <string_view>

#include "core/dimensions.hpp"
#include "core/error.hpp"
#include "pg/memory.hpp"
#include "pg/values.hpp"

namespace meter::pg {

namespace {

// The event as plain data, read from its columns by PostgreSQL's functions.
struct PlainEvent {
    std::string_view event_name;
    std::string_view user_id;
    std::string_view value = "1";
    std::string_view dimensions = "{}";
    std::string_view idempotency;
    std::string_view metadata = "{}";
    int64 time = 0;
    bool has_key = false;
    bool has_time = false;
};

// Throws meter::Error for what is wrong with the event.
PlainEvent read_plain(const Datum* values, const bool* nulls) {
    PlainEvent event;
    if (nulls[kEventNameColumn])
        throw Error(ErrorKind::kInvalidParameter, "event_name must not be null");
    event.event_name = text_view(values[kEventNameColumn]);
    if (nulls[kUserIdColumn])
        throw Error(ErrorKind::kInvalidParameter, "user_id must not be null");
    event.user_id = text_view(values[kUserIdColumn]);
    check_name(event.user_id, "user_id");
    if (!nulls[kValueColumn])
        event.value = canonical_value_text(values[kValueColumn]);
    if (!nulls[kDimensionsColumn])
        event.dimensions = canonical_dimensions(values[kDimensionsColumn]).text;
    if (!nulls[kIdempotencyColumn]) {
        event.idempotency = text_view(values[kIdempotencyColumn]);
        check_name(event.idempotency, "idempotency");
        event.has_key = true;
    }
    if (!nulls[kTimestampColumn]) {
        event.time = to_unix_micros(DatumGetTimestampTz(values[kTimestampColumn]));
        event.has_time = true;
    }
    if (!nulls[kMetadataColumn]) {
        check_metadata(values[kMetadataColumn]);
        Jsonb* metadata = DatumGetJsonbP(values[kMetadataColumn]);
        event.metadata = JsonbToCString(nullptr, &metadata->root, VARSIZE(metadata));
    }
    return event;
}

}  // namespace

void read_event(const Datum* values, const bool* nulls, EventInput& event) {
    try {
        const PlainEvent plain = read_plain(values, nulls);
        event.event_name = plain.event_name;
        event.user_id = plain.user_id;
        event.value = plain.value;
        event.dimensions = plain.dimensions;
        event.metadata = plain.metadata;
        if (plain.has_key)
            event.idempotency = plain.idempotency;
        if (plain.has_time)
            event.timestamp = plain.time;
    } catch (const Error& error) {
        event.error = error;
    }
}

}  // namespace meter::pg
