// Corrections: events that are voided, and those that replace them.
#pragma once

#include "pg/compat.hpp"

#include <string_view>

extern "C" {
#include "datatype/timestamp.h"
}

namespace meter::pg {

// Where an event lies.
struct EventPlace {
    int64 id;
    TimestampTz time;
};

// What meter.event_void says of an event.
struct EventVoid {
    bool replaced;           // by an amendment
    EventPlace replacement;  // where it was
    std::string_view reason;
    TimestampTz at;
    std::string_view by;
    bool skips;               // of a first version:
    EventPlace last_amended;  // the version that was amended last, after it
};

// Whether an event of the meter and user (text) was voided or amended. Runs within an SPI
// connection; what it finds lives as long as that.
bool find_void(int32 meter_id, Datum user, const EventPlace& event, EventVoid* found);

// Keeps meter.erase_user from renaming events, and it from us, until the end of the transaction:
// a void and its event must have one user.
void hold_voids();
void lock_voids();

}  // namespace meter::pg
