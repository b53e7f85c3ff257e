// meter.void_event and meter.amend_event. An event is never changed: a row of meter.event_void says
// that it counts no more, a delta takes it back from the rollups, and an amendment records another
// event, all in one transaction. The ledger keeps the key of the first version: a retry of the
// original payload is a duplicate still, and counts nothing.
#include "pg/correct.hpp"

#include <string>

#include "core/dimensions.hpp"
#include "core/error.hpp"
#include "core/text.hpp"
#include "core/timestamp.hpp"
#include "pg/caller.hpp"
#include "pg/catalog.hpp"
#include "pg/cells.hpp"
#include "pg/delta.hpp"
#include "pg/event.hpp"
#include "pg/event_ids.hpp"
#include "pg/event_query.hpp"
#include "pg/guard.hpp"
#include "pg/ledger.hpp"
#include "pg/limit_usage.hpp"
#include "pg/memory.hpp"
#include "pg/period_close.hpp"
#include "pg/retention.hpp"
#include "pg/settings.hpp"
#include "pg/spi.hpp"
#include "pg/table_writer.hpp"
#include "pg/values.hpp"
#include "pg/void_table.hpp"

extern "C" {
#include "access/xact.h"
#include "storage/lmgr.h"
}

namespace meter::pg {

bool find_void(int32 meter_id, Datum user, const EventPlace& event, EventVoid* found) {
    static Statement select = {
        "SELECT replaced_by, replaced_timestamp, reason, voided_at, voided_by, last_amended, "
        "last_amended_timestamp FROM meter.event_void WHERE user_id = $1 AND meter_id = $2 AND "
        "event_timestamp = $3 "
        "AND event_id = $4",
        {TEXTOID, INT4OID, TIMESTAMPTZOID, INT8OID},
        true};
    const Datum values[] = {user, Int32GetDatum(meter_id), TimestampTzGetDatum(event.time),
                            Int64GetDatum(event.id)};
    if (run(select, values, nullptr, Run::kWrite) == 0)
        return false;
    bool null;
    const Datum id = result(0, 1, &null);
    found->replaced = !null;
    if (found->replaced)
        found->replacement = {DatumGetInt64(id), DatumGetTimestampTz(result(0, 2, &null))};
    found->reason = text_view(result(0, 3, &null));
    found->at = DatumGetTimestampTz(result(0, 4, &null));
    found->by = text_view(result(0, 5, &null));
    const Datum last = result(0, 6, &null);
    found->skips = !null;
    if (found->skips)
        found->last_amended = {DatumGetInt64(last), DatumGetTimestampTz(result(0, 7, &null))};
    return true;
}

void hold_voids() {
    LockRelationOid(relations().event_void, RowExclusiveLock);
}

void lock_voids() {
    LockRelationOid(relations().event_void, ShareRowExclusiveLock);
}

namespace {

// Whose event is to be corrected, and why.
struct Correction {
    std::string_view event_name;  // the meter
    int32 meter_id;
    Datum user;  // text, detoasted
    std::string_view reason;
    Datum role;  // text: who calls
};

// An event with a key as far as it was followed: from the first version to the latest.
struct Versions {
    EventPlace latest;
    bool voided;     // the latest counts no more
    bool corrected;  // there is a void:
    EventVoid last;  // of the latest where it is voided, else of the version before
};

// The meter, held against dropping until the transaction ends. One that is archived takes
// corrections still.
int32 hold_meter(std::string_view org, std::string_view event_name) {
    for (;;) {
        const int32 id = require_meter(org, event_name).id;
        lock_meter_for_recording(id);
        const MeterDefinition* definition = find_meter(org, event_name);
        if (definition != nullptr && definition->id == id)
            return id;
    }
}

// Reads what all corrections are told: event_name, user_id, and the reason at `reason`.
Correction begin_correction(FunctionCallInfo fcinfo, const Call& call, int reason) {
    constexpr std::size_t kMaxReason = 1000;
    Correction correction{};
    correction.user = PointerGetDatum(PG_GETARG_TEXT_PP(1));
    meter::check_name(text_view(correction.user), "user_id");
    correction.reason = text_view(PG_GETARG_DATUM(reason));
    if (correction.reason.empty() || correction.reason.size() > kMaxReason)
        throw Error(ErrorKind::kInvalidParameter, "reason must have 1 to " +
                                                      std::to_string(kMaxReason) + " bytes, not " +
                                                      std::to_string(correction.reason.size()));
    correction.role = text_datum(GetUserNameFromId(call.caller, false));
    correction.event_name = text_view(PG_GETARG_DATUM(0));
    correction.meter_id = hold_meter(call.org, correction.event_name);
    hold_voids();
    return correction;
}

void check_within_horizon(const EventPlace& event, int64 horizon) {
    const int64 time = to_unix_micros(event.time);
    if (time < horizon)
        throw Error(ErrorKind::kNotInState,
                    "an event of " + format_timestamp(time) +
                        " cannot be corrected: it lies before the retention horizon",
                    "Events before " + format_timestamp(horizon) +
                        " have been dropped; what they added up to stays as it is.");
}

// The event that has the key in the ledger: the first version.
EventPlace find_key(const Correction& correction, std::string_view key) {
    static Statement select = {
        "SELECT event_id, event_timestamp FROM meter.event_key WHERE digest = $1", {UUIDOID}, true};
    meter::check_name(key, "idempotency");
    const Digest digest = key_digest(correction.meter_id, text_view(correction.user), key);
    LedgerEntry entry;
    if (find_key_directly(digest, &entry))
        return {entry.event_id, entry.event_time};
    const Datum values[] = {uuid_datum(digest)};
    if (run(select, values, nullptr, Run::kWrite) == 0)
        throw Error(ErrorKind::kUndefinedObject,
                    "there is no event with idempotency key " + quote_for_message(key) +
                        " of user " + quote_for_message(text_view(correction.user)) + " in meter " +
                        quote_for_message(correction.event_name));
    bool null;
    return {DatumGetInt64(result(0, 1, &null)), DatumGetTimestampTz(result(0, 2, &null))};
}

// Follows an event from its first version, which knows the one that was amended last: however many
// versions there are, three are looked at, or as many as others have added meanwhile.
Versions follow_versions(const Correction& correction, const EventPlace& first) {
    Versions versions{first, false, false, {}};
    while (!versions.voided &&
           find_void(correction.meter_id, correction.user, versions.latest, &versions.last)) {
        CHECK_FOR_INTERRUPTS();
        versions.corrected = true;
        if (versions.last.skips)
            versions.latest = versions.last.last_amended;
        else if (versions.last.replaced)
            versions.latest = versions.last.replacement;
        else
            versions.voided = true;
    }
    return versions;
}

// Reads an event. Throws Error kUndefinedObject where it is not there.
NewEvent read_event(const Correction& correction, const EventPlace& place) {
    static Statement select = {
        "SELECT value, dimensions, metadata, idempotency FROM meter.meter_event "
        "WHERE user_id = $1 AND meter_id = $2 AND \"timestamp\" = $3 AND id = $4",
        {TEXTOID, INT4OID, TIMESTAMPTZOID, INT8OID},
        true};
    const Datum values[] = {correction.user, Int32GetDatum(correction.meter_id),
                            TimestampTzGetDatum(place.time), Int64GetDatum(place.id)};
    const bool found = run(select, values, nullptr, Run::kWrite) > 0;
    // The planner looks in the partition that it has moved to.
    if (!found && IsolationUsesXactSnapshot() && !snapshot_knows_partitions())
        ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                        errmsg("partitions were made since the snapshot that is read"),
                        errhint("Try again, in a new transaction.")));
    if (!found)
        throw Error(ErrorKind::kUndefinedObject,
                    "there is no event " + std::to_string(place.id) + " of " +
                        format_timestamp(to_unix_micros(place.time)) + " of user " +
                        quote_for_message(text_view(correction.user)) + " in meter " +
                        quote_for_message(correction.event_name));
    bool null;
    NewEvent event{};
    event.id = place.id;
    event.time = place.time;
    event.meter_id = correction.meter_id;
    event.user = correction.user;
    event.value = result(0, 1, &null);
    const CanonicalDimensions dimensions = canonical_dimensions(result(0, 2, &null));
    event.dimensions = dimensions.stored;
    event.dimensions_digest = dimensions_digest(dimensions.text);
    event.metadata = result(0, 3, &null);
    event.key = result(0, 4, &null);
    if (null)
        event.key = 0;
    return event;
}

// Raises serialization_failure where what the transaction's snapshot sees of an event is not what
// is there any more: since that snapshot was taken, its user was erased. At READ COMMITTED
// hold_voids() has seen to it, and from then on nobody erases.
void require_event_unchanged(const NewEvent& event) {
    static Statement select = {
        "SELECT FROM meter.meter_event WHERE user_id = $1 AND meter_id = $2 "
        "AND \"timestamp\" = $3 AND id = $4",
        {TEXTOID, INT4OID, TIMESTAMPTZOID, INT8OID},
        true};
    if (!IsolationUsesXactSnapshot())
        return;
    const Datum values[] = {event.user, Int32GetDatum(event.meter_id),
                            TimestampTzGetDatum(event.time), Int64GetDatum(event.id)};
    if (run(select, values, nullptr, Run::kLatest) == 0)
        ereport(ERROR,
                (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                 errmsg("could not serialize access due to a concurrent change of the event"),
                 errdetail("Its user has been erased since the snapshot that is read."),
                 errhint("Try again, in a new transaction.")));
}

// Notes that an amendment replaces an event. False: it was voided already, maybe by a transaction
// that was waited for. Raises serialization_failure at repeatable read and above where that one's
// void is not visible.
bool insert_void(const Correction& correction, const NewEvent& event,
                 const EventPlace& replacement) {
    static Statement insert = {
        "INSERT INTO meter.event_void (event_timestamp, event_id, voided_at, meter_id, user_id, "
        "value, dimensions, reason, voided_by, idempotency, replaced_by, replaced_timestamp) "
        "VALUES ($1, $2, now(), $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING",
        {TIMESTAMPTZOID, INT8OID, INT4OID, TEXTOID, NUMERICOID, JSONBOID, TEXTOID, TEXTOID, TEXTOID,
         INT8OID, TIMESTAMPTZOID}};
    const Datum values[] = {TimestampTzGetDatum(event.time),
                            Int64GetDatum(event.id),
                            Int32GetDatum(event.meter_id),
                            event.user,
                            event.value,
                            event.dimensions,
                            text_datum(correction.reason),
                            correction.role,
                            event.key,
                            Int64GetDatum(replacement.id),
                            TimestampTzGetDatum(replacement.time)};
    return run(insert, values, event.key == 0 ? "        n  " : nullptr, Run::kWrite) == 1;
}

// Notes with the first version that another one, a later one, is the one that was amended last.
// Two who amend one event have waited for each other before.
void note_last_amended(const Correction& correction, const EventPlace& first,
                       const EventPlace& last) {
    static Statement update = {
        "UPDATE meter.event_void SET last_amended = $5, last_amended_timestamp = $6 "
        "WHERE user_id = $1 AND meter_id = $2 AND event_timestamp = $3 AND event_id = $4",
        {TEXTOID, INT4OID, TIMESTAMPTZOID, INT8OID, INT8OID, TIMESTAMPTZOID}};
    if (first.id == last.id)
        return;
    const Datum values[] = {correction.user,
                            Int32GetDatum(correction.meter_id),
                            TimestampTzGetDatum(first.time),
                            Int64GetDatum(first.id),
                            Int64GetDatum(last.id),
                            TimestampTzGetDatum(last.time)};
    run(update, values, nullptr, Run::kWrite);
}

// Voids the event at a place, where it is there and not voided yet, and reads what is to be taken
// back: one statement, since this is all that most voids need. Waits, and raises, as insert_void().
bool void_at(const Correction& correction, const EventPlace& place, NewEvent* event) {
    static Statement insert = {
        "INSERT INTO meter.event_void (event_timestamp, event_id, voided_at, meter_id, user_id, "
        "value, dimensions, idempotency, reason, voided_by) SELECT e.\"timestamp\", e.id, now(), "
        "e.meter_id, e.user_id, e.value, e.dimensions, e.idempotency, $5, $6 "
        "FROM meter.meter_event e WHERE e.user_id = $1 AND e.meter_id = $2 "
        "AND e.\"timestamp\" = $3 AND e.id = $4 ON CONFLICT DO NOTHING RETURNING value, dimensions",
        {TEXTOID, INT4OID, TIMESTAMPTZOID, INT8OID, TEXTOID, TEXTOID},
        true};
    *event = NewEvent{};
    event->id = place.id;
    event->time = place.time;
    event->meter_id = correction.meter_id;
    event->user = correction.user;
    if (!void_directly(event, correction.reason, correction.role)) {
        const Datum values[] = {correction.user,
                                Int32GetDatum(correction.meter_id),
                                TimestampTzGetDatum(place.time),
                                Int64GetDatum(place.id),
                                text_datum(correction.reason),
                                correction.role};
        if (run(insert, values, nullptr, Run::kWrite) == 0)
            return false;
        bool null;
        event->value = result(0, 1, &null);
        event->dimensions = result(0, 2, &null);
    }
    const CanonicalDimensions dimensions = canonical_dimensions(event->dimensions);
    event->dimensions = dimensions.stored;
    event->dimensions_digest = dimensions_digest(dimensions.text);
    require_event_unchanged(*event);
    return true;
}

// Changes the counters of limits, after what is counted was written. A correction is never refused
// for a limit.
void count_for_limits(const NewEvent& event, Datum value, int64 count) {
    adjust_limit_usage(event.meter_id, event.user, to_unix_micros(event.time), value, count);
}

// Takes an event back from everything that is counted as events are recorded.
void take_back(const NewEvent& event) {
    write_void_delta(event);
    count_for_limits(event, DirectFunctionCall1(numeric_uminus, event.value), -1);
}

std::string told(const EventVoid& done) {
    return "at " + format_timestamp(to_unix_micros(done.at)) + " by role " +
           quote_for_message(done.by) + ": " + std::string(done.reason);
}

[[noreturn]] void refuse_voided(const EventPlace& event, const EventVoid& done) {
    throw Error(ErrorKind::kNotInState, "event " + std::to_string(event.id) + " is voided already",
                "It was voided " + told(done),
                "To count it after all, record it under a new key. The same void, with the same "
                "reason, is harmless.");
}

// Voids the latest version of the event with the key. Returns its id.
int64 void_by_key(const Correction& correction, std::string_view key) {
    const int64 horizon = hold_horizon();
    const EventPlace first = find_key(correction, key);
    // Most events have one version.
    Versions versions{first, false, false, {}};
    for (;;) {
        NewEvent event;
        if (to_unix_micros(versions.latest.time) >= horizon &&
            void_at(correction, versions.latest, &event)) {
            take_back(event);
            return event.id;
        }
        CHECK_FOR_INTERRUPTS();
        versions = follow_versions(correction, first);
        if (versions.voided) {
            if (versions.last.reason == correction.reason)
                return versions.latest.id;
            refuse_voided(versions.latest, versions.last);
        }
        check_within_horizon(versions.latest, horizon);
        (void)read_event(correction, versions.latest);
    }
}

// Voids the event at a place. Returns its id.
int64 void_by_place(const Correction& correction, const EventPlace& place) {
    const int64 horizon = hold_horizon();
    check_within_horizon(place, horizon);
    for (;;) {
        NewEvent event;
        if (void_at(correction, place, &event)) {
            take_back(event);
            return event.id;
        }
        CHECK_FOR_INTERRUPTS();
        EventVoid done{};
        if (!find_void(correction.meter_id, correction.user, place, &done)) {
            (void)read_event(correction, place);
            continue;
        }
        if (done.replaced)
            throw Error(ErrorKind::kNotInState, "event " + std::to_string(place.id) + " is amended",
                        "It was amended " + told(done),
                        "Event " + std::to_string(done.replacement.id) + " of " +
                            format_timestamp(to_unix_micros(done.replacement.time)) +
                            " took its place.");
        if (done.reason == correction.reason)
            return place.id;
        refuse_voided(place, done);
    }
}

// What an amendment is to change; the numbers of arguments of meter.amend_event.
enum AmendArgument { kValue = 3, kDimensions, kEventTime, kMetadata, kReason };

// The event as the amendment wants it, with the id of the one it is made from.
NewEvent amended(FunctionCallInfo fcinfo, const NewEvent& event, std::string_view* dimensions) {
    NewEvent wanted = event;
    if (!PG_ARGISNULL(kValue)) {
        (void)canonical_value_text(PG_GETARG_DATUM(kValue));
        wanted.value = trimmed_numeric(PG_GETARG_DATUM(kValue));
    }
    if (!PG_ARGISNULL(kDimensions)) {
        const CanonicalDimensions canonical = canonical_dimensions(PG_GETARG_DATUM(kDimensions));
        wanted.dimensions = canonical.stored;
        wanted.dimensions_digest = dimensions_digest(canonical.text);
        *dimensions = canonical.text;
    }
    if (!PG_ARGISNULL(kEventTime)) {
        wanted.time = PG_GETARG_TIMESTAMPTZ(kEventTime);
        check_event_time(to_unix_micros(wanted.time), now_unix_micros(), setting_max_event_lead);
    }
    if (!PG_ARGISNULL(kMetadata)) {
        check_metadata(PG_GETARG_DATUM(kMetadata));
        wanted.metadata = PG_GETARG_DATUM(kMetadata);
    }
    return wanted;
}

// Whether two events are the same but for their ids.
bool are_same(const NewEvent& a, const NewEvent& b) {
    return a.time == b.time && a.dimensions_digest == b.dimensions_digest &&
           DatumGetBool(DirectFunctionCall2(numeric_eq, a.value, b.value)) &&
           DatumGetBool(DirectFunctionCall2(jsonb_eq, a.metadata, b.metadata));
}

// Amends the latest version of the event with the key. Returns the id of the new one.
int64 amend_by_key(FunctionCallInfo fcinfo, const Call& call, const Correction& correction,
                   std::string_view key) {
    const int64 horizon = hold_horizon();
    const EventPlace first = find_key(correction, key);
    for (;;) {
        const Versions versions = follow_versions(correction, first);
        if (versions.voided)
            refuse_voided(versions.latest, versions.last);
        check_within_horizon(versions.latest, horizon);
        const NewEvent event = read_event(correction, versions.latest);
        std::string_view dimensions = "{}";
        NewEvent wanted = amended(fcinfo, event, &dimensions);
        if (are_same(event, wanted)) {
            if (versions.corrected && versions.last.reason == correction.reason)
                return event.id;
            throw Error(ErrorKind::kInvalidParameter,
                        "the amendment of event " + std::to_string(event.id) + " changes nothing",
                        {},
                        "Give a value, dimensions or a time other than the event's. "
                        "meter.void_event takes the event back.");
        }
        check_declared(require_meter(call.org, text_view(PG_GETARG_DATUM(0))), dimensions);
        check_retained(to_unix_micros(wanted.time), horizon);
        check_not_moved_into_closed(correction.meter_id, event.time, wanted.time);
        wanted.id = next_event_id();
        const EventPlace place{wanted.id, wanted.time};
        if (insert_void(correction, event, place)) {
            require_event_unchanged(event);
            note_last_amended(correction, first, versions.latest);
            take_back(event);
            insert_event(wanted);
            count_for_limits(wanted, wanted.value, 1);
            return wanted.id;
        }
        CHECK_FOR_INTERRUPTS();
    }
}

// A void may need no SQL, and then no search path.
Pin pinned() {
    return direct_insert_allowed() && !IsolationUsesXactSnapshot() ? Pin::kStatements : Pin::kCall;
}

void require_arguments(FunctionCallInfo fcinfo, std::initializer_list<const char*> names) {
    int index = 0;
    for (const char* name : names)
        require_argument(fcinfo, index++, name);
}

// Raises invalid_parameter_value where the argument reason is null.
void require_reason(FunctionCallInfo fcinfo, int index) {
    if (PG_ARGISNULL(index))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("reason must not be null"),
                        errhint("Say why, as in reason => 'sent twice': it is kept with the "
                                "correction.")));
}

}  // namespace

}  // namespace meter::pg

using namespace meter::pg;

METER_FUNCTION(meter_void_event) {
    require_arguments(fcinfo, {"event_name", "user_id", "idempotency"});
    require_reason(fcinfo, 3);
    PreventCommandIfReadOnly("meter.void_event()");
    const Call call = begin_call(Privilege::kAdmin, "void events", pinned());
    const Correction correction = begin_correction(fcinfo, call, 3);
    const int64 id = void_by_key(correction, text_view(PG_GETARG_DATUM(2)));
    end_call(call);
    PG_RETURN_INT64(id);
}

METER_FUNCTION(meter_void_event_by_id) {
    require_arguments(fcinfo, {"event_name", "user_id", "event_id", "event_time"});
    require_reason(fcinfo, 4);
    PreventCommandIfReadOnly("meter.void_event()");
    const Call call = begin_call(Privilege::kAdmin, "void events", pinned());
    const Correction correction = begin_correction(fcinfo, call, 4);
    const EventPlace place{PG_GETARG_INT64(2), PG_GETARG_TIMESTAMPTZ(3)};
    meter::check_event_time(to_unix_micros(place.time), PG_INT64_MAX / 2, 0);
    const int64 id = void_by_place(correction, place);
    end_call(call);
    PG_RETURN_INT64(id);
}

METER_FUNCTION(meter_amend_event) {
    require_arguments(fcinfo, {"event_name", "user_id", "idempotency"});
    require_reason(fcinfo, kReason);
    PreventCommandIfReadOnly("meter.amend_event()");
    const Call call = begin_call(Privilege::kAdmin, "amend events");
    const Correction correction = begin_correction(fcinfo, call, kReason);
    const int64 id = amend_by_key(fcinfo, call, correction, text_view(PG_GETARG_DATUM(2)));
    end_call(call);
    PG_RETURN_INT64(id);
}
