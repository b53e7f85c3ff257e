// An event that is about to be written, and the steps that every way of recording shares.
#pragma once

#include "pg/compat.hpp"

#include <string_view>

#include "core/digest.hpp"
#include "pg/catalog.hpp"

extern "C" {
#include "datatype/timestamp.h"
}

namespace meter::pg {

// A row of meter.meter_event, as plain data.
struct NewEvent {
    int64 id;
    TimestampTz time;
    int32 meter_id;
    Datum user;                // text, detoasted
    Datum key;                 // the idempotency key, text, detoasted; 0: none
    Datum value;               // numeric, trimmed
    Datum dimensions;          // jsonb, canonical
    Datum metadata;            // jsonb
    Digest dimensions_digest;  // of the canonical text
};

// The meter to record into, held against archiving and dropping until the transaction ends. Throws
// meter::Error where it is unknown or archived. Valid until the next look at the catalog.
const MeterDefinition& meter_for_recording(std::string_view org, std::string_view event_name);
const MeterDefinition& meter_for_recording(std::string_view org, int32 id);

// Throws meter::Error where `canonical` has a dimension that the meter does not declare.
void check_declared(const MeterDefinition& definition, std::string_view canonical);

// When the running statement started, which is what bounds an event's timestamp.
int64 now_unix_micros();

// Writes one event and its delta.
void insert_event(const NewEvent& event);

// Writes `count` events and their deltas: straight into the tables where these are plain, else in
// one statement each.
void insert_events(const NewEvent* events, int count);

}  // namespace meter::pg
