#include "pg/batch_items.hpp"

#include <cstring>

#include "core/conflict.hpp"
#include "core/decimal.hpp"
#include "core/dimensions.hpp"
#include "core/timestamp.hpp"
#include "pg/event.hpp"
#include "pg/numeric.hpp"
#include "pg/retention.hpp"
#include "pg/settings.hpp"
#include "pg/values.hpp"

extern "C" {
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
}

namespace meter::pg {

BatchItem& Batch::append() {
    if (count % kBlock == 0)
        blocks.push_back(static_cast<BatchItem*>(
            arena.allocate(sizeof(BatchItem) * kBlock, alignof(BatchItem))));
    BatchItem& item = this->item(count++);
    item = {};
    item.error = -1;
    return item;
}

std::int32_t Batch::add_error(const Error& error) {
    errors.push_back(error);
    return static_cast<std::int32_t>(errors.size()) - 1;
}

void Batch::set_error(BatchItem& item, const Error& error) {
    item.error = add_error(error);
    item.status = ItemStatus::kInvalid;
}

std::string_view Batch::error_line(const BatchItem& item) {
    Error& error = errors[static_cast<std::size_t>(item.error)];
    for (std::string* more : {&error.detail, &error.hint})
        if (!more->empty()) {
            error.message.append(error.message.back() == '.' ? " " : ". ").append(*more);
            more->clear();
        }
    return error.message;
}

char* Batch::copy(const void* bytes, std::size_t size) {
    auto* memory = static_cast<char*>(arena.allocate(size, MAXIMUM_ALIGNOF));
    std::memcpy(memory, bytes, size);
    return memory;
}

Datum Batch::copy_text(std::string_view bytes) {
    const std::size_t size = VARHDRSZ + bytes.size();
    auto* value = static_cast<struct varlena*>(arena.allocate(size, alignof(std::int32_t)));
    SET_VARSIZE(value, size);
    std::memcpy(VARDATA(value), bytes.data(), bytes.size());
    return PointerGetDatum(value);
}

BatchMeter& Batch::meter_named(std::string_view name) {
    if (last_meter == nullptr || last_name != name) {
        const auto at = names.try_emplace(std::string(name)).first;
        last_meter = &at->second;
        last_name = at->first;
    }
    return *last_meter;
}

BatchMeter& Batch::meter_numbered(std::int64_t number) {
    return numbers[number];
}

void Batch::set_conflict(BatchItem& item, std::string_view given_value, std::string_view value,
                         std::string_view dimensions) {
    item.error = add_error(conflict_error(
        {text_view(item.key), value, dimensions, given_value, item.dimensions->text}));
}

namespace {

// Finds and locks the meter with the name, or where that is nullptr with the number; throws
// meter::Error where it takes no events. Holding the lock, the batch need not look again.
const MeterDefinition& find(Batch& batch, const std::string_view* name, std::int64_t number) {
    if (name != nullptr)
        return meter_for_recording(batch.call.org, *name);
    if (number <= 0 || number > PG_INT32_MAX)
        throw unknown_meter_error(batch.call.org, std::to_string(number));
    return meter_for_recording(batch.call.org, static_cast<int32>(number));
}

// Checks that the meter takes the item, with its dimensions; each meter, and each set of dimensions
// with it, once.
void check_meter(Batch& batch, BatchItem& item, BatchMeter& meter, const std::string_view* name,
                 std::int64_t number) {
    if (meter.error >= 0) {
        item.error = meter.error;
        return;
    }
    if (meter.id == 0 || !item.dimensions->declared) {
        try {
            const MeterDefinition& definition = find(batch, name, number);
            meter.id = definition.id;
            batch.limited = batch.limited || definition.limited;
            check_declared(definition, item.dimensions->text);
            item.dimensions->declared = true;
        } catch (const Error& error) {
            item.error = batch.add_error(error);
            if (meter.id == 0)
                meter.error = item.error;
            return;
        }
    }
    item.meter_id = meter.id;
}

// Checks the time, and computes digest and fingerprint: what is left to do for any item.
void finish(Batch& batch, BatchItem& item, std::string_view value_text) {
    try {
        check_event_time(item.time, batch.now, setting_max_event_lead);
        check_retained(item.time, batch.horizon);
    } catch (const Error& error) {
        batch.set_error(item, error);
        return;
    }
    item.status = ItemStatus::kRecorded;
    if (item.key != 0) {
        item.digest = key_digest(item.meter_id, text_view(item.user), text_view(item.key));
        item.fingerprint = payload_fingerprint(value_text, item.dimensions->text);
    }
}

// The dimensions with the canonical text `text`, that the meter's items share.
BatchDimensions* share_text(Batch& batch, BatchMeter& meter, std::string_view text) {
    const auto found = meter.dimensions.find(text);
    if (found != meter.dimensions.end())
        return found->second;
    auto* shared = reinterpret_cast<BatchDimensions*>(
        batch.arena.allocate(sizeof(BatchDimensions), alignof(BatchDimensions)));
    char* const own = batch.copy(text.data(), text.size());
    shared->text = {own, text.size()};
    shared->declared = false;
    shared->digest = dimensions_digest(shared->text);
    char* const terminated = pnstrdup(text.data(), text.size());
    const Datum stored = DirectFunctionCall1(jsonb_in, CStringGetDatum(terminated));
    shared->stored =
        PointerGetDatum(batch.copy(DatumGetPointer(stored), VARSIZE(DatumGetPointer(stored))));
    meter.dimensions.emplace(shared->text, shared);
    return shared;
}

// The same for a jsonb datum that lives as long as the batch, whatever its form. Throws
// meter::Error where it holds no dimensions.
BatchDimensions* share_jsonb(Batch& batch, BatchMeter& meter, Datum source) {
    Jsonb* object = DatumGetJsonbP(source);
    const std::string_view bytes{VARDATA(object), VARSIZE(object) - VARHDRSZ};
    const auto found = meter.dimensions.find(bytes);
    if (found != meter.dimensions.end())
        return found->second;
    const CanonicalDimensions canonical = canonical_dimensions(source);
    auto* shared = reinterpret_cast<BatchDimensions*>(
        batch.arena.allocate(sizeof(BatchDimensions), alignof(BatchDimensions)));
    const std::string_view text = canonical.text;
    shared->text = {batch.copy(text.data(), text.size()), text.size()};
    shared->declared = false;
    shared->digest = dimensions_digest(text);
    const char* stored = DatumGetPointer(canonical.stored);
    shared->stored = PointerGetDatum(batch.copy(stored, VARSIZE(stored)));
    // Found again by the bytes it came as; those of jsonb begin with a count, no text does so.
    meter.dimensions.emplace(std::string_view(batch.copy(bytes.data(), bytes.size()), bytes.size()),
                             shared);
    return shared;
}

// The value of an array item: checks its bounds, keeps it trimmed, and leaves its canonical text in
// batch.value_text. Throws meter::Error out of bounds.
Datum take_value(Batch& batch, Datum value) {
    const NumberView number = view_numeric(value);
    batch.value_text.clear();
    if (!is_event_value(number)) {
        batch.value_text = canonical_value_text(value);
        return trimmed_numeric(value);
    }
    append_text(batch.value_text, number);
    if (is_trimmed(value, number))
        return value;
    const struct varlena* trimmed = make_numeric(number);
    return PointerGetDatum(batch.copy(trimmed, VARSIZE(trimmed)));
}

// A text datum of an array, of 1 to 255 bytes. Throws meter::Error for another length.
Datum take_name(Datum value, const char* what) {
    check_name(text_view(value), what);
    return PointerGetDatum(DatumGetTextPP(value));
}

// Reads what an array item has, up to the meter. Throws meter::Error for what is wrong with it.
BatchMeter& read_item(Batch& batch, BatchItem& item, const ArrayItem& source) {
    if (!source.event_name)
        throw Error(ErrorKind::kInvalidParameter, "event_name must not be null");
    if (!source.user)
        throw Error(ErrorKind::kInvalidParameter, "user_id must not be null");
    BatchMeter& meter = batch.meter_named(text_view(*source.event_name));
    item.user = take_name(*source.user, "user_id");
    if (source.value) {
        item.value = take_value(batch, *source.value);
    } else {
        item.value = batch.one;
        batch.value_text = "1";
    }
    item.dimensions =
        share_jsonb(batch, meter, source.dimensions ? *source.dimensions : batch.empty_object);
    if (source.key)
        item.key = take_name(*source.key, "idempotency");
    item.metadata = batch.empty_object;
    if (source.metadata) {
        check_metadata(*source.metadata);
        item.metadata = *source.metadata;
    }
    item.time =
        source.time ? to_unix_micros(DatumGetTimestampTz(*source.time)) : batch.transaction_time;
    return meter;
}

}  // namespace

Batch* begin_batch(const Call& call) {
    const MemoryContext scratch =
        AllocSetContextCreate(CurrentMemoryContext, "item of a batch", ALLOCSET_DEFAULT_SIZES);
    const Datum empty = DirectFunctionCall1(jsonb_in, CStringGetDatum("{}"));
    const Datum one = NumericGetDatum(int64_to_numeric(1));
    Batch* batch = make_in<Batch>(CurrentMemoryContext, CurrentMemoryContext, scratch, call);
    batch->now = now_unix_micros();
    batch->horizon = hold_horizon();
    batch->transaction_time = to_unix_micros(GetCurrentTransactionStartTimestamp());
    batch->empty_object = empty;
    batch->one = one;
    return batch;
}

void add_item(Batch& batch, const ArrayItem& source) {
    BatchItem& item = batch.append();
    const MemoryContext caller_context = MemoryContextSwitchTo(batch.scratch);
    BatchMeter* meter = nullptr;
    try {
        meter = &read_item(batch, item, source);
    } catch (const Error& error) {
        batch.set_error(item, error);
    }
    if (meter != nullptr) {
        const std::string_view name = text_view(*source.event_name);
        check_meter(batch, item, *meter, &name, 0);
        if (item.error < 0)
            finish(batch, item, batch.value_text);
    }
    MemoryContextSwitchTo(caller_context);
    MemoryContextReset(batch.scratch);
}

void add_item(Batch& batch, const EventInput& event) {
    BatchItem& item = batch.append();
    if (event.error) {
        batch.set_error(item, *event.error);
        return;
    }
    const MemoryContext caller_context = MemoryContextSwitchTo(batch.scratch);
    BatchMeter& meter = event.meter_id ? batch.meter_numbered(*event.meter_id)
                                       : batch.meter_named(*event.event_name);
    item.dimensions = share_text(batch, meter, event.dimensions);
    const std::string_view name = event.meter_id ? std::string_view() : *event.event_name;
    check_meter(batch, item, meter, event.meter_id ? nullptr : &name, event.meter_id.value_or(0));
    if (item.error < 0) {
        item.user = batch.copy_text(*event.user_id);
        if (event.idempotency)
            item.key = batch.copy_text(*event.idempotency);
        const Datum value = DirectFunctionCall3(numeric_in, CStringGetDatum(event.value.c_str()),
                                                ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
        item.value =
            PointerGetDatum(batch.copy(DatumGetPointer(value), VARSIZE(DatumGetPointer(value))));
        item.metadata = batch.empty_object;
        if (event.metadata != "{}") {
            const Datum metadata =
                DirectFunctionCall1(jsonb_in, CStringGetDatum(event.metadata.c_str()));
            item.metadata = PointerGetDatum(
                batch.copy(DatumGetPointer(metadata), VARSIZE(DatumGetPointer(metadata))));
        }
        item.time = event.timestamp.value_or(batch.transaction_time);
        finish(batch, item, event.value);
    }
    MemoryContextSwitchTo(caller_context);
    MemoryContextReset(batch.scratch);
}

std::string_view value_text_of(const BatchItem& item) {
    return canonical_value_text(item.value);
}

}  // namespace meter::pg
