#include "pg/void_table.hpp"

#include "pg/catalog.hpp"
#include "pg/event_table.hpp"
#include "pg/memory.hpp"
#include "pg/table_writer.hpp"
#include "pg/values.hpp"

extern "C" {
#include "access/genam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
}

namespace meter::pg {

namespace {

enum {
    kTime,
    kId,
    kVoidedAt,
    kReplacedBy,
    kReplacedTime,
    kMeter,
    kUser,
    kValue,
    kDimensions,
    kKey,
    kReason,
    kVoidedBy,
    kLastAmended,
    kLastAmendedTime,
    kColumns
};

constexpr TableShape::Column kVoidColumns[kColumns] = {
    {"event_timestamp", TIMESTAMPTZOID},
    {"event_id", INT8OID},
    {"voided_at", TIMESTAMPTZOID},
    {"replaced_by", INT8OID, true},
    {"replaced_timestamp", TIMESTAMPTZOID, true},
    {"meter_id", INT4OID},
    {"user_id", TEXTOID},
    {"value", NUMERICOID},
    {"dimensions", JSONBOID},
    {"idempotency", TEXTOID, true},
    {"reason", TEXTOID},
    {"voided_by", TEXTOID},
    {"last_amended", INT8OID, true},
    {"last_amended_timestamp", TIMESTAMPTZOID, true}};
constexpr TableShape kVoidShape = {
    kVoidColumns, kColumns, {kUser + 1, kMeter + 1, kTime + 1, kId + 1}, false};

// Whether a row says that the event is voided, committed or not.
bool is_voided(const TableWriter& voids, const NewEvent& event) {
    static constexpr Oid kEqual[] = {F_TEXTEQ, F_INT4EQ, F_TIMESTAMPTZ_EQ, F_INT8EQ};
    constexpr int kKeys = lengthof(kEqual);
    const Relation key = voids.indexes[voids.key_index];
    const Datum wanted[kKeys] = {event.user, Int32GetDatum(event.meter_id),
                                 TimestampTzGetDatum(event.time), Int64GetDatum(event.id)};
    ScanKeyData keys[kKeys];
    for (int i = 0; i < kKeys; ++i)
        ScanKeyEntryInitialize(&keys[i], 0, static_cast<AttrNumber>(i + 1), BTEqualStrategyNumber,
                               InvalidOid, key->rd_indcollation[i], kEqual[i], wanted[i]);
    SnapshotData snapshot;
    InitDirtySnapshot(snapshot);
    TupleTableSlot* slot = table_slot_create(voids.relation, nullptr);
    const IndexScanDesc scan = begin_index_scan(voids.relation, key, &snapshot, kKeys);
    index_rescan(scan, keys, kKeys, nullptr, 0);
    const bool found = index_getnext_slot(scan, ForwardScanDirection, slot);
    index_endscan(scan);
    ExecDropSingleTupleTableSlot(slot);
    return found;
}

void put_void(const RowSet& rows, const NewEvent& event, std::string_view reason, Datum role) {
    Datum* const values = rows.values;
    for (int i = 0; i < kColumns; ++i)
        rows.nulls[i] = kVoidColumns[i].nullable;
    values[kTime] = TimestampTzGetDatum(event.time);
    values[kId] = Int64GetDatum(event.id);
    values[kVoidedAt] = TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
    values[kMeter] = Int32GetDatum(event.meter_id);
    values[kUser] = event.user;
    values[kValue] = event.value;
    values[kDimensions] = event.dimensions;
    values[kKey] = event.key;
    rows.nulls[kKey] = event.key == 0;
    values[kReason] = text_datum(reason);
    values[kVoidedBy] = role;
}

}  // namespace

bool void_directly(NewEvent* event, std::string_view reason, Datum role) {
    // Under one snapshot for the whole transaction, what others have done since is an error.
    if (!direct_insert_allowed() || IsolationUsesXactSnapshot())
        return false;
    CommandCounterIncrement();
    PushActiveSnapshot(GetTransactionSnapshot());
    const bool there = read_event_directly(event);
    PopActiveSnapshot();
    if (!there)
        return false;
    TableWriter* voids = open_table(relations().event_void, kVoidShape);
    if (voids == nullptr)
        return false;
    // Looked for first: a void that is repeated would leave a row and entries for VACUUM.
    bool written = false;
    if (!is_voided(*voids, *event)) {
        RowSet rows = make_rows(*voids, 1);
        put_void(rows, *event, reason, role);
        rows.count = 1;
        written = insert_unless_taken(*voids, rows, 0);
    }
    close_table(voids);
    CommandCounterIncrement();
    return written;
}

}  // namespace meter::pg
