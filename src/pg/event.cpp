#include "pg/event.hpp"

#include <string>

#include "core/dimensions.hpp"
#include "core/error.hpp"
#include "core/text.hpp"
#include "pg/memory.hpp"
#include "pg/partitions.hpp"
#include "pg/spi.hpp"
#include "pg/values.hpp"

extern "C" {
#include "access/xact.h"
#include "commands/sequence.h"
#include "utils/array.h"
}

namespace meter::pg {

namespace {

// Finds by `find`, locks, and looks again until nothing changed in between. A change can become
// known while `find` reads, under a snapshot older than the change: so it counts from before.
template <typename Find>
const MeterDefinition* find_and_lock(Find&& find) {
    for (;;) {
        const uint64 before = catalog_generation();
        const MeterDefinition* definition = find();
        if (definition == nullptr || definition->archived)
            return definition;
        lock_meter_for_recording(definition->id);
        if (catalog_generation() == before)
            return definition;
    }
}

const MeterDefinition& check_open(const MeterDefinition* definition, std::string_view org,
                                  const std::string& what) {
    if (definition == nullptr)
        throw unknown_meter_error(org, what);
    if (definition->archived)
        throw Error(ErrorKind::kNotInState, "meter " + what + " is archived",
                    "An archived meter takes no more events.");
    return *definition;
}

// An array of `count` values of a type, none or some of them null.
Datum make_array(Datum* values, bool* nulls, int count, Oid type, int16 length, bool by_value,
                 char align) {
    int dims[] = {count};
    int lower[] = {1};
    return PointerGetDatum(
        construct_md_array(values, nulls, 1, dims, lower, type, length, by_value, align));
}

}  // namespace

const MeterDefinition& meter_for_recording(std::string_view org, std::string_view event_name) {
    const MeterDefinition* definition = find_and_lock([&] { return find_meter(org, event_name); });
    return definition != nullptr && !definition->archived
               ? *definition
               : check_open(definition, org, quote_for_message(event_name));
}

const MeterDefinition& meter_for_recording(std::string_view org, int32 id) {
    const MeterDefinition* definition = find_and_lock([&] { return find_meter(org, id); });
    return definition != nullptr && !definition->archived
               ? *definition
               : check_open(definition, org, std::to_string(id));
}

void check_declared(const MeterDefinition& definition, std::string_view canonical) {
    if (definition.dimension_count == 0)
        return;
    for_each_dimension(canonical, [&](std::string_view name) {
        if (!definition.declares(name))
            throw Error(ErrorKind::kInvalidParameter,
                        "meter " + quote_for_message(definition.event_name) + " has no dimension " +
                            quote_for_message(name),
                        {}, "Declare it with meter.add_dimension, or put it into metadata.");
    });
}

int64 next_event_id() {
    return nextval_internal(relations().event_id_seq, false);
}

int64 now_unix_micros() {
    return to_unix_micros(GetCurrentStatementStartTimestamp());
}

void insert_event(const NewEvent& event) {
    static Statement insert = {
        "INSERT INTO meter.meter_event (id, \"timestamp\", recorded_at, meter_id, user_id, value, "
        "idempotency, dimensions, metadata) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        {INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, TEXTOID, NUMERICOID, TEXTOID, JSONBOID,
         JSONBOID}};
    const bool keyed = !event.idempotency.empty();
    const Datum values[] = {Int64GetDatum(event.id),
                            TimestampTzGetDatum(event.time),
                            TimestampTzGetDatum(GetCurrentTransactionStartTimestamp()),
                            Int32GetDatum(event.meter_id),
                            text_datum(event.user_id),
                            event.value,
                            keyed ? text_datum(event.idempotency) : static_cast<Datum>(0),
                            event.dimensions,
                            event.metadata};
    hold_default_partition(event.time);
    run(insert, values, keyed ? nullptr : "      n  ", Run::kWrite);
}

void insert_events(const NewEvent* events, int count) {
    static Statement insert = {
        "INSERT INTO meter.meter_event (id, \"timestamp\", recorded_at, meter_id, user_id, value, "
        "idempotency, dimensions, metadata) "
        "SELECT e.id, e.time, $9, e.meter_id, e.user_id, e.value, e.idempotency, e.dimensions, "
        "e.metadata FROM unnest($1, $2, $3, $4, $5, $6, $7, $8) "
        "AS e (id, time, meter_id, user_id, value, idempotency, dimensions, metadata)",
        {INT8ARRAYOID, TIMESTAMPTZARRAYOID, INT4ARRAYOID, TEXTARRAYOID, NUMERICARRAYOID,
         TEXTARRAYOID, JSONBARRAYOID, JSONBARRAYOID, TIMESTAMPTZOID}};
    constexpr int kColumns = 8;
    Datum* columns[kColumns];
    for (auto& column : columns)
        column = static_cast<Datum*>(palloc(sizeof(Datum) * static_cast<Size>(count)));
    auto* no_key = static_cast<bool*>(palloc(sizeof(bool) * static_cast<Size>(count)));
    for (int i = 0; i < count; ++i) {
        const NewEvent& event = events[i];
        hold_default_partition(event.time);
        no_key[i] = event.idempotency.empty();
        columns[0][i] = Int64GetDatum(event.id);
        columns[1][i] = TimestampTzGetDatum(event.time);
        columns[2][i] = Int32GetDatum(event.meter_id);
        columns[3][i] = text_datum(event.user_id);
        columns[4][i] = event.value;
        columns[5][i] = no_key[i] ? static_cast<Datum>(0) : text_datum(event.idempotency);
        columns[6][i] = event.dimensions;
        columns[7][i] = event.metadata;
    }
    const Datum values[] = {
        make_array(columns[0], nullptr, count, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE),
        make_array(columns[1], nullptr, count, TIMESTAMPTZOID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE),
        make_array(columns[2], nullptr, count, INT4OID, 4, true, TYPALIGN_INT),
        make_array(columns[3], nullptr, count, TEXTOID, -1, false, TYPALIGN_INT),
        make_array(columns[4], nullptr, count, NUMERICOID, -1, false, TYPALIGN_INT),
        make_array(columns[5], no_key, count, TEXTOID, -1, false, TYPALIGN_INT),
        make_array(columns[6], nullptr, count, JSONBOID, -1, false, TYPALIGN_INT),
        make_array(columns[7], nullptr, count, JSONBOID, -1, false, TYPALIGN_INT),
        TimestampTzGetDatum(GetCurrentTransactionStartTimestamp())};
    run(insert, values, nullptr, Run::kWrite);
}

}  // namespace meter::pg
