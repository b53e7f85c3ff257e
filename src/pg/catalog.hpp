// What a session remembers of the extension's catalog: where its tables are, who owns them, and the
// definitions of meters. Relation cache invalidations keep all of it true.
#pragma once

#include "pg/compat.hpp"

#include <string>
#include <string_view>

#include "core/error.hpp"

namespace meter::pg {

// The extension's own relations.
struct Relations {
    Oid schema;
    Oid meter;         // meter.meter
    Oid meter_event;   // meter.meter_event
    Oid event_key;     // meter.event_key
    Oid pending;       // meter.rollup_pending
    Oid event_id_seq;  // meter.meter_event_id_seq
    Oid access;        // meter.access
    Oid rollup;        // meter.rollup
    Oid generation;    // meter.rollup_generation
    Oid retention;     // meter.retention
    Oid event_void;    // meter.event_void
    Oid usage_limit;   // meter.usage_limit
    Oid limit_usage;   // meter.limit_usage
    Oid owner;         // of meter.meter, on whose behalf entry points act
};

// Looks them up at the first call, and again after a change. Raises undefined_object where the
// extension is not there.
const Relations& relations();

// Grows whenever something remembered may have become untrue. What is derived from this module's
// answers and kept longer than a call is to be thrown away when this number has changed.
uint64 catalog_generation();

// To be called when something is remembered that was read from our tables: where it may be what
// this very transaction wrote, the generation grows should the transaction, or a part, roll back.
void note_remembered();

// A meter's definition. Valid until the next call into this module.
struct MeterDefinition {
    int32 id;
    std::string_view org;
    std::string_view event_name;
    std::string_view aggregation;
    std::string_view property;  // of unique_count; empty: none
    std::string_view rounding;  // empty: none
    int32 rounding_precision;
    bool archived;
    bool limited;         // has hard limits
    int dimension_count;  // 0: any dimension is taken
    const std::string_view* dimensions;

    bool declares(std::string_view dimension) const;
};

// The meter of `org` called `event_name`, or with number `id`; nullptr where there is none. Reads
// the latest committed state, and what this transaction itself did, at every isolation level. Runs
// within an SPI connection, as the owner.
const MeterDefinition* find_meter(std::string_view org, std::string_view event_name);
const MeterDefinition* find_meter(std::string_view org, int32 id);

// The same, raising undefined_object where there is none.
const MeterDefinition& require_meter(std::string_view org, std::string_view event_name);

// The error for a meter that is not there; `what` names it, quoted where it is a name.
Error unknown_meter_error(std::string_view org, const std::string& what);

// Holds off archiving and dropping of the meter until the end of the transaction; recorders do not
// wait for each other. Where catalog_generation() has grown since before the definition was looked
// up, it may have changed meanwhile: look again.
void lock_meter_for_recording(int32 id);

// Waits until every transaction that recorded into the meter has ended, and keeps new ones out
// until the end of this one.
void lock_meter_for_change(int32 id);

// Makes every session forget what it remembers of relation `relation`, once this transaction
// commits, and this one from the next command on.
void forget_relation(Oid relation);

}  // namespace meter::pg
