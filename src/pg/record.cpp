// meter.record_event: one event.
#include "pg/compat.hpp"

#include "core/conflict.hpp"
#include "core/dimensions.hpp"
#include "core/error.hpp"
#include "core/timestamp.hpp"
#include "pg/caller.hpp"
#include "pg/dimension_cache.hpp"
#include "pg/event.hpp"
#include "pg/event_ids.hpp"
#include "pg/guard.hpp"
#include "pg/ledger.hpp"
#include "pg/limit_usage.hpp"
#include "pg/memory.hpp"
#include "pg/retention.hpp"
#include "pg/settings.hpp"
#include "pg/table_writer.hpp"
#include "pg/values.hpp"

extern "C" {
#include "utils/numeric.h"
}

namespace meter::pg {

namespace {

// The id of the event that has the key, provided it was recorded with the same payload.
int64 answer_retry(const LedgerEntry& taken, const LedgerEntry& mine, const NewEvent& event,
                   std::string_view value, std::string_view dimensions) {
    if (taken.fingerprint == mine.fingerprint)
        return taken.event_id;
    PayloadConflict conflict{text_view(event.key), "(unknown)", "(unknown)", value, dimensions};
    RecordedPayload recorded;
    if (read_payload(taken, event.meter_id, &recorded)) {
        conflict.recorded_value = recorded.value;
        conflict.recorded_dimensions = recorded.dimensions;
    }
    throw conflict_error(conflict);
}

Datum empty_object() {
    return DirectFunctionCall1(jsonb_in, CStringGetDatum("{}"));
}

}  // namespace

}  // namespace meter::pg

using namespace meter::pg;

METER_FUNCTION(meter_record_event) {
    require_argument(fcinfo, 0, "event_name");
    require_argument(fcinfo, 1, "user_id");
    PreventCommandIfReadOnly("meter.record_event()");
    const bool directly = direct_insert_allowed() && !IsolationUsesXactSnapshot();
    const Call call =
        begin_call(Privilege::kWrite, "record events", directly ? Pin::kStatements : Pin::kCall);

    const std::string_view event_name = text_view(PG_GETARG_DATUM(0));
    NewEvent event{};
    event.user = PointerGetDatum(PG_GETARG_TEXT_PP(1));
    meter::check_name(text_view(event.user), "user_id");

    std::string_view value = "1";
    if (PG_ARGISNULL(2)) {
        event.value = NumericGetDatum(int64_to_numeric(1));
    } else {
        value = canonical_value_text(PG_GETARG_DATUM(2));
        event.value = trimmed_numeric(PG_GETARG_DATUM(2));
    }
    const RecordedDimensions dimensions =
        recorded_dimensions(PG_ARGISNULL(3) ? empty_object() : PG_GETARG_DATUM(3));
    const std::string_view dimensions_text = dimensions.canonical.text;
    event.dimensions = dimensions.canonical.stored;
    event.dimensions_digest = dimensions.digest;
    if (!PG_ARGISNULL(4)) {
        event.key = PointerGetDatum(PG_GETARG_TEXT_PP(4));
        meter::check_name(text_view(event.key), "idempotency");
    }
    event.time = PG_ARGISNULL(5) ? GetCurrentTransactionStartTimestamp() : PG_GETARG_TIMESTAMPTZ(5);
    meter::check_event_time(to_unix_micros(event.time), now_unix_micros(), setting_max_event_lead);
    event.metadata = PG_ARGISNULL(6) ? empty_object() : PG_GETARG_DATUM(6);
    check_metadata(event.metadata);

    const MeterDefinition& definition = meter_for_recording(call.org, event_name);
    check_declared(definition, dimensions);
    check_retained(to_unix_micros(event.time), hold_horizon());
    event.meter_id = definition.id;
    const bool limited = definition.limited;
    event.id = next_event_id();

    if (event.key != 0) {
        const LedgerEntry mine{
            meter::key_digest(event.meter_id, text_view(event.user), text_view(event.key)),
            meter::payload_fingerprint(value, dimensions_text), event.id, event.time};
        LedgerEntry taken;
        if (!claim_key(mine, &taken)) {
            const int64 id = answer_retry(taken, mine, event, value, dimensions_text);
            secure_duplicates();
            end_call(call);
            PG_RETURN_INT64(id);
        }
    }
    if (limited)
        charge_event(event.meter_id, event_name, event.user, to_unix_micros(event.time),
                     event.value);
    insert_event(event);
    end_call(call);
    PG_RETURN_INT64(event.id);
}
