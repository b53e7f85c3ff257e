// The forms in which a batch arrives: a jsonb array, an array for each field, text.
#include "pg/compat.hpp"

#include "core/error.hpp"
#include "core/ingest.hpp"
#include "pg/batch.hpp"
#include "pg/guard.hpp"
#include "pg/memory.hpp"
#include "pg/settings.hpp"
#include "pg/values.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "utils/array.h"
}

namespace meter::pg {

namespace {

// Parses `payload` and records what it holds.
void ingest(const Call& call, std::string_view payload, bool strict, const SetResult& set) {
    auto* events = make_in<std::vector<EventInput>>(CurrentMemoryContext);
    Batch* batch = begin_batch(call);
    const IngestLimits limits{static_cast<std::size_t>(setting_max_payload_kb) * 1024,
                              static_cast<std::size_t>(setting_max_batch_events),
                              static_cast<std::size_t>(setting_max_json_depth)};
    // Below the parser's frames, which have destructors.
    const auto take = [batch, events] {
        pg::call([batch, events] {
            for (const EventInput& event : *events)
                add_item(*batch, event);
        });
        events->clear();
    };
    parse_events(
        payload, limits, [] { pg::call([] { CHECK_FOR_INTERRUPTS(); }); }, *events, take);
    take();
    record_batch(*batch, strict, set);
}

// One of the arrays that make up a batch; an absent one has no elements and only defaults.
struct Column {
    const char* name;
    Datum* values = nullptr;
    bool* nulls = nullptr;
    int count = -1;  // absent

    bool has(int i) const { return count >= 0 && !nulls[i]; }
};

Column read_column(FunctionCallInfo fcinfo, int index, const char* name, Oid type, int16 length,
                   bool by_value, char align) {
    Column column{name};
    if (PG_ARGISNULL(index))
        return column;
    CHECK_FOR_INTERRUPTS();
    ArrayType* array = PG_GETARG_ARRAYTYPE_P(index);
    if (ARR_NDIM(array) > 1)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("%s must be a one-dimensional array", name)));
    deconstruct_array(array, type, length, by_value, align, &column.values, &column.nulls,
                      &column.count);
    return column;
}

// The columns in the order of the arguments.
enum { kEventNames, kUserIds, kQuantities, kDimensions, kIdempotency, kTimes, kMetadata, kColumns };

// What the columns have of item `i`.
ArrayItem item_of(const Column* columns, int i) {
    const auto of = [&](int column) {
        return columns[column].has(i) ? std::optional<Datum>(columns[column].values[i])
                                      : std::nullopt;
    };
    return {of(kEventNames),  of(kUserIds), of(kQuantities), of(kDimensions),
            of(kIdempotency), of(kTimes),   of(kMetadata)};
}

}  // namespace

}  // namespace meter::pg

using namespace meter::pg;

METER_FUNCTION(meter_ingest) {
    const SetResult set = begin_set(fcinfo);
    require_argument(fcinfo, 0, "payload");
    PreventCommandIfReadOnly("meter.ingest()");
    const Call call = begin_call(Privilege::kWrite, "record events");
    ingest(call, text_view(PG_GETARG_DATUM(0)), !PG_ARGISNULL(1) && PG_GETARG_BOOL(1), set);
    end_call(call);
    return static_cast<Datum>(0);
}

METER_FUNCTION(meter_record_events_json) {
    const SetResult set = begin_set(fcinfo);
    require_argument(fcinfo, 0, "events");
    PreventCommandIfReadOnly("meter.record_events()");
    const Call call = begin_call(Privilege::kWrite, "record events");
    Jsonb* events = PG_GETARG_JSONB_P(0);
    if (!JB_ROOT_IS_ARRAY(events) || JB_ROOT_IS_SCALAR(events))
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("events must be a JSON array"),
                 errhint("For one event use meter.record_event, or put it in brackets.")));
    StringInfoData text;
    initStringInfo(&text);
    JsonbToCString(&text, &events->root, VARSIZE(events));
    ingest(call, {text.data, static_cast<std::size_t>(text.len)},
           !PG_ARGISNULL(1) && PG_GETARG_BOOL(1), set);
    end_call(call);
    return static_cast<Datum>(0);
}

METER_FUNCTION(meter_record_events_arrays) {
    const SetResult set = begin_set(fcinfo);
    require_argument(fcinfo, 0, "event_names");
    require_argument(fcinfo, 1, "user_ids");
    PreventCommandIfReadOnly("meter.record_events()");
    const Call call = begin_call(Privilege::kWrite, "record events");
    const Column columns[kColumns] = {
        read_column(fcinfo, 0, "event_names", TEXTOID, -1, false, TYPALIGN_INT),
        read_column(fcinfo, 1, "user_ids", TEXTOID, -1, false, TYPALIGN_INT),
        read_column(fcinfo, 2, "quantities", NUMERICOID, -1, false, TYPALIGN_INT),
        read_column(fcinfo, 3, "dimensions", JSONBOID, -1, false, TYPALIGN_INT),
        read_column(fcinfo, 4, "idempotency", TEXTOID, -1, false, TYPALIGN_INT),
        read_column(fcinfo, 5, "event_times", TIMESTAMPTZOID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE),
        read_column(fcinfo, 6, "metadata", JSONBOID, -1, false, TYPALIGN_INT)};
    const int count = columns[kEventNames].count;
    for (const Column& column : columns)
        if (column.count >= 0 && column.count != count)
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                            errmsg("the arrays of a batch must have the same length"),
                            errdetail("event_names has %d elements, %s has %d.", count, column.name,
                                      column.count)));
    if (count > setting_max_batch_events)
        ereport(ERROR,
                (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                 errmsg("a batch has at most %d events, not %d", setting_max_batch_events, count),
                 errhint("The setting meter.max_batch_events says how many.")));

    Batch* batch = begin_batch(call);
    for (int i = 0; i < count; ++i) {
        if (i % 1024 == 0)
            CHECK_FOR_INTERRUPTS();
        add_item(*batch, item_of(columns, i));
    }
    record_batch(*batch, !PG_ARGISNULL(7) && PG_GETARG_BOOL(7), set);
    end_call(call);
    return static_cast<Datum>(0);
}
