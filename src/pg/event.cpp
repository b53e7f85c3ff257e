#include "pg/event.hpp"

#include <string>

#include "core/dimensions.hpp"
#include "core/error.hpp"
#include "core/text.hpp"
#include "pg/cells.hpp"
#include "pg/delta.hpp"
#include "pg/event_table.hpp"
#include "pg/limit_usage.hpp"
#include "pg/memory.hpp"
#include "pg/partitions.hpp"
#include "pg/spi.hpp"
#include "pg/values.hpp"

extern "C" {
#include "access/table.h"
#include "access/xact.h"
#include "storage/lmgr.h"
#include "utils/numeric.h"
#include "utils/rel.h"
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
        const int32 locked = definition->id;
        lock_meter_for_recording(locked);
        if (catalog_generation() == before)
            return definition;
        // Found again, under the lock, it is what it is: that something changes all the time does
        // not keep us here.
        definition = find();
        if (definition == nullptr || definition->archived || definition->id == locked)
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

int64 now_unix_micros() {
    return to_unix_micros(GetCurrentStatementStartTimestamp());
}

// The pieces of the statements that write events.
#define METER_INSERT_EVENT                                                                      \
    "INSERT INTO meter.meter_event (id, \"timestamp\", recorded_at, meter_id, user_id, value, " \
    "idempotency, dimensions, metadata) "
#define METER_STORED " RETURNING id, \"timestamp\", meter_id, user_id, value, dimensions"
#define METER_UNNEST_EVENTS                                                                  \
    "SELECT e.id, e.time, $9, e.meter_id, e.user_id, e.value, e.idempotency, e.dimensions, " \
    "e.metadata FROM unnest($1, $2, $3, $4, $5, $6, $7, $8) "                                \
    "AS e (id, time, meter_id, user_id, value, idempotency, dimensions, metadata)"

namespace {

// Whether what was stored of an event counts for limits as what was asked for.
bool counts_the_same(const NewEvent& asked, const NewEvent& stored) {
    return asked.id == stored.id && asked.meter_id == stored.meter_id &&
           asked.time == stored.time && text_view(asked.user) == text_view(stored.user) &&
           DatumGetBool(DirectFunctionCall2(numeric_eq, asked.value, stored.value));
}

// Where rules or triggers changed or suppressed events, forgets the counters of limits, which have
// gone up by what was asked for: both of what was asked for and of what was stored. Whoever needs
// them makes them anew of what there is.
void count_stored(const NewEvent* asked, int asked_count, const NewEvent* stored,
                  int stored_count) {
    bool same = asked_count == stored_count;
    for (int i = 0; same && i < asked_count; ++i)
        same = counts_the_same(asked[i], stored[i]);
    if (same)
        return;
    auto* counters = static_cast<LimitCounter*>(MemoryContextAllocHuge(
        CurrentMemoryContext,
        sizeof(LimitCounter) * HardLimits::kMost * static_cast<Size>(asked_count + stored_count)));
    int count = 0;
    const auto collect = [&](const NewEvent* events, int event_count) {
        for (int i = 0; i < event_count; ++i) {
            lock_meter_for_recording(events[i].meter_id);
            count += counters_of(events[i].meter_id, events[i].user, to_unix_micros(events[i].time),
                                 counters + count);
        }
    };
    collect(asked, asked_count);
    collect(stored, stored_count);
    forget_counters(counters, count);
    pfree(counters);
}

// Writes the deltas of the events that the last statement returned, which had been asked for as
// `asked`.
void write_stored_deltas(const NewEvent* asked, int asked_count) {
    const uint64 count = SPI_processed;
    SPITupleTable* const stored = SPI_tuptable;
    auto* events = static_cast<NewEvent*>(palloc0(sizeof(NewEvent) * Max(count, 1)));
    for (uint64 row = 0; row < count; ++row) {
        const auto column = [&](int number) {
            bool null;
            return SPI_getbinval(stored->vals[row], stored->tupdesc, number, &null);
        };
        const CanonicalDimensions dimensions = canonical_dimensions(column(6));
        events[row].id = DatumGetInt64(column(1));
        events[row].time = DatumGetTimestampTz(column(2));
        events[row].meter_id = DatumGetInt32(column(3));
        events[row].user = column(4);
        events[row].value = column(5);
        events[row].dimensions = dimensions.stored;
        events[row].dimensions_digest = dimensions_digest(dimensions.text);
    }
    if (count > 0)
        write_deltas(events, static_cast<int>(count));
    count_stored(asked, asked_count, events, static_cast<int>(count));
}

// Locks what an event is written into, the table before its partition, as every statement does.
void hold_partitions(const NewEvent* events, int count) {
    LockRelationOid(relations().meter_event, RowExclusiveLock);
    for (int i = 0; i < count; ++i)
        hold_default_partition(events[i].time);
}

}  // namespace

// By SQL, rules and triggers, of a partition too, may change or suppress events: their deltas are
// of what was stored.

void insert_event(const NewEvent& event) {
    static Statement insert = {METER_INSERT_EVENT
                               "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)" METER_STORED,
                               {INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, TEXTOID,
                                NUMERICOID, TEXTOID, JSONBOID, JSONBOID}};
    hold_partitions(&event, 1);
    if (insert_events_directly(&event, 1)) {
        write_delta(event);
        return;
    }
    const bool keyed = event.key != 0;
    const Datum values[] = {Int64GetDatum(event.id),
                            TimestampTzGetDatum(event.time),
                            TimestampTzGetDatum(GetCurrentTransactionStartTimestamp()),
                            Int32GetDatum(event.meter_id),
                            event.user,
                            event.value,
                            event.key,
                            event.dimensions,
                            event.metadata};
    run(insert, values, keyed ? nullptr : "      n  ", Run::kWrite);
    write_stored_deltas(&event, 1);
}

void insert_events(const NewEvent* events, int count) {
    static Statement insert = {
        METER_INSERT_EVENT METER_UNNEST_EVENTS METER_STORED,
        {INT8ARRAYOID, TIMESTAMPTZARRAYOID, INT4ARRAYOID, TEXTARRAYOID, NUMERICARRAYOID,
         TEXTARRAYOID, JSONBARRAYOID, JSONBARRAYOID, TIMESTAMPTZOID}};
    hold_partitions(events, count);
    if (insert_events_directly(events, count)) {
        write_deltas(events, count);
        return;
    }
    Columns columns = make_columns(
        {INT8OID, TIMESTAMPTZOID, INT4OID, TEXTOID, NUMERICOID, TEXTOID, JSONBOID, JSONBOID},
        count);
    for (; columns.rows < count; ++columns.rows) {
        const NewEvent& event = events[columns.rows];
        put(columns, 0, Int64GetDatum(event.id));
        put(columns, 1, TimestampTzGetDatum(event.time));
        put(columns, 2, Int32GetDatum(event.meter_id));
        put(columns, 3, event.user);
        put(columns, 4, event.value);
        if (event.key == 0)
            put_null(columns, 5);
        else
            put(columns, 5, event.key);
        put(columns, 6, event.dimensions);
        put(columns, 7, event.metadata);
    }
    Datum values[9];
    column_arrays(columns, values);
    values[8] = TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
    run(insert, values, nullptr, Run::kWrite);
    write_stored_deltas(events, count);
}

}  // namespace meter::pg
