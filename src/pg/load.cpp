// Bulk loading: the triggers of the views meter.event_load and meter.event_load_json, which take
// what COPY and INSERT bring, and record it in batches.
#include "pg/compat.hpp"

#include <optional>
#include <string>
#include <vector>

#include "core/error.hpp"
#include "core/event.hpp"
#include "core/ingest.hpp"
#include "pg/batch.hpp"
#include "pg/caller.hpp"
#include "pg/guard.hpp"
#include "pg/memory.hpp"
#include "pg/settings.hpp"

extern "C" {
#include "access/htup_details.h"
#include "commands/trigger.h"
#include "executor/tuptable.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

namespace meter::pg {

namespace {

// What is buffered before it is recorded. More at a time gains nothing.
constexpr std::size_t kMaxEvents = 10'000;
constexpr std::size_t kMaxBytes = 16 * 1024 * 1024;

// The columns of meter.event_load.
enum {
    kEventNameColumn,
    kUserIdColumn,
    kValueColumn,
    kDimensionsColumn,
    kIdempotencyColumn,
    kTimestampColumn,
    kMetadataColumn,
    kEventColumns
};

// A statement that loads. It lives in a memory context of the subtransaction that it runs in, and
// so is gone when that is rolled back.
struct Load {
    explicit Load(Oid view) : relation(view), outer(innermost) { innermost = this; }
    Load(const Load&) = delete;
    Load& operator=(const Load&) = delete;
    ~Load() {
        for (Load** at = &innermost; *at != nullptr; at = &(*at)->outer)
            if (*at == this) {
                *at = outer;
                return;
            }
    }

    std::size_t buffered() const { return rows.size() + events.size(); }

    MemoryContext context = nullptr;
    MemoryContext row_context = nullptr;  // of the datums of the buffered rows
    Oid relation;                         // the view
    std::vector<ArrayItem> rows;          // of meter.event_load, or
    std::vector<EventInput> events;       // of meter.event_load_json
    std::size_t bytes = 0;                // of what is buffered, roughly
    std::int64_t finished = 0;            // events before those in the buffer
    std::int64_t duplicates = 0;
    Load* outer;  // of a statement that this one runs within

    static Load* innermost;
};

Load* Load::innermost = nullptr;

void begin_load(Oid view) {
    const MemoryContext context =
        AllocSetContextCreate(CurTransactionContext, "load", ALLOCSET_DEFAULT_SIZES);
    Load* load = make_in<Load>(context, view);
    load->context = context;
    load->row_context = AllocSetContextCreate(context, "load: rows", ALLOCSET_DEFAULT_SIZES);
}

// The load that the view's trigger belongs to.
Load* current_load(Oid view) {
    Load* load = Load::innermost;
    while (load != nullptr && load->relation != view)
        load = load->outer;
    if (load == nullptr)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("trigger begin_load of \"%s\" did not run", get_rel_name(view)),
                        errhint("All triggers of the view have to be enabled.")));
    return load;
}

// Records what is in the buffer.
void flush(Load* load) {
    const std::size_t count = load->buffered();
    if (count == 0)
        return;
    const MemoryContext context =
        AllocSetContextCreate(CurrentMemoryContext, "load: a batch", ALLOCSET_DEFAULT_SIZES);
    const MemoryContext caller_context = MemoryContextSwitchTo(context);
    const Call call = begin_call(Privilege::kWrite, "record events");
    Batch* batch = begin_batch(call);
    for (const ArrayItem& row : load->rows)
        add_item(*batch, row);
    for (const EventInput& event : load->events)
        add_item(*batch, event);
    load->duplicates += record_all(*batch, load->finished);
    end_call(call);
    MemoryContextSwitchTo(caller_context);
    MemoryContextDelete(context);
    load->finished += static_cast<std::int64_t>(count);
    load->rows.clear();
    load->events.clear();
    MemoryContextReset(load->row_context);
    load->bytes = 0;
}

void end_load(Load* load) {
    flush(load);
    if (load->duplicates > 0)
        ereport(NOTICE,
                (errmsg("%lld of %lld events had been recorded before",
                        static_cast<long long>(load->duplicates),
                        static_cast<long long>(load->finished)),
                 errdetail("They have the same keys, values and dimensions, and count once.")));
    MemoryContextDelete(load->context);
}

// Throws an error for event `index` of the buffer, unless it has a key.
void require_key(const Load& load, std::size_t index, bool has_key) {
    if (!has_key)
        throw Error(ErrorKind::kInvalidParameter,
                    "event " +
                        std::to_string(load.finished + static_cast<std::int64_t>(index) + 1) +
                        ": idempotency must not be null",
                    {},
                    "What is loaded needs keys, so that a load that was interrupted can be run "
                    "again. The number of the line can be one.");
}

void add_row(Load* load, const Datum* values, const bool* nulls) {
    // They live as long as the batch, and are written as they are.
    const MemoryContext caller_context = MemoryContextSwitchTo(load->row_context);
    std::optional<Datum> columns[kEventColumns];
    for (int i = 0; i < kEventColumns; ++i) {
        if (nulls[i])
            continue;
        columns[i] = values[i];
        if (i != kTimestampColumn) {
            columns[i] = PointerGetDatum(PG_DETOAST_DATUM_COPY(values[i]));
            load->bytes += VARSIZE(DatumGetPointer(*columns[i]));
        }
    }
    MemoryContextSwitchTo(caller_context);
    require_key(*load, load->rows.size(), columns[kIdempotencyColumn].has_value());
    load->rows.push_back({columns[kEventNameColumn], columns[kUserIdColumn], columns[kValueColumn],
                          columns[kDimensionsColumn], columns[kIdempotencyColumn],
                          columns[kTimestampColumn], columns[kMetadataColumn]});
}

void add_line(Load* load, std::string_view line) {
    const std::size_t first = load->events.size();
    const IngestLimits limits{static_cast<std::size_t>(setting_max_payload_kb) * 1024,
                              static_cast<std::size_t>(setting_max_batch_events),
                              static_cast<std::size_t>(setting_max_json_depth)};
    parse_events(
        line, limits, [] { call([] { CHECK_FOR_INTERRUPTS(); }); }, load->events, [] {});
    for (std::size_t i = first; i < load->events.size(); ++i) {
        const EventInput& event = load->events[i];
        require_key(*load, i, event.error || event.idempotency);
        load->bytes += sizeof(EventInput) + event.dimensions.size() + event.metadata.size();
    }
}

}  // namespace

}  // namespace meter::pg

using namespace meter::pg;

METER_FUNCTION(meter_load_events) {
    if (!CALLED_AS_TRIGGER(fcinfo))
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                        errmsg("meter.load_events() is a trigger function")));
    const auto* trigger = reinterpret_cast<const TriggerData*>(fcinfo->context);
    const Oid view = RelationGetRelid(trigger->tg_relation);
    if (TRIGGER_FIRED_FOR_STATEMENT(trigger->tg_event)) {
        if (TRIGGER_FIRED_BEFORE(trigger->tg_event))
            begin_load(view);
        else
            end_load(current_load(view));
        return PointerGetDatum(nullptr);
    }
    Load* load = current_load(view);
    TupleTableSlot* row = trigger->tg_trigslot;
    slot_getallattrs(row);
    const int columns = row->tts_tupleDescriptor->natts;
    if (columns == kEventColumns)
        add_row(load, row->tts_values, row->tts_isnull);
    else if (!row->tts_isnull[0])
        add_line(load, text_view(row->tts_values[0]));
    if (load->buffered() >= kMaxEvents || load->bytes >= kMaxBytes)
        flush(load);
    // A copy, in a context that is reset for each row: PostgreSQL keeps a row that comes back as it
    // is to the end of the statement.
    return PointerGetDatum(heap_copytuple(trigger->tg_trigtuple));
}
