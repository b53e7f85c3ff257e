#include "pg/event_table.hpp"

#include "pg/catalog.hpp"
#include "pg/memory.hpp"
#include "pg/partitions.hpp"
#include "pg/table_writer.hpp"

extern "C" {
#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "catalog/pg_type.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "utils/fmgroids.h"
#include "utils/partcache.h"
#include "utils/snapmgr.h"
}

namespace meter::pg {

namespace {

enum { kId, kTime, kRecordedAt, kMeter, kUser, kValue, kKey, kDimensions, kMetadata, kColumns };

constexpr TableShape::Column kEventColumns[kColumns] = {{"id", INT8OID},
                                                        {"timestamp", TIMESTAMPTZOID},
                                                        {"recorded_at", TIMESTAMPTZOID},
                                                        {"meter_id", INT4OID},
                                                        {"user_id", TEXTOID},
                                                        {"value", NUMERICOID},
                                                        {"idempotency", TEXTOID, true},
                                                        {"dimensions", JSONBOID},
                                                        {"metadata", JSONBOID}};
constexpr TableShape kEventShape = {kEventColumns, kColumns, {}, true};

// A partition that gets rows.
struct Target {
    Oid partition;
    TableWriter* writer;
    int count;
};

// Where each event goes.
struct Targets {
    int count;
    int capacity;
    Target* items;
    int* of_event;  // which of them
};

// Whether events are told apart by their timestamp alone.
bool is_partitioned_by_time(Relation parent) {
    const PartitionKey key = RelationGetPartitionKey(parent);
    return key->strategy == PARTITION_STRATEGY_RANGE && key->partnatts == 1 &&
           key->partattrs[0] == kTime + 1 && !parent->rd_rel->relispartition;
}

// Finds the partition of each event; false where one has none, or one that is partitioned itself.
bool route(Relation parent, const NewEvent* events, int count, Targets* targets) {
    const PartitionKey key = RelationGetPartitionKey(parent);
    const PartitionDescData* partitions = RelationGetPartitionDesc(parent, true);
    const PartitionBoundInfo bounds = partitions->boundinfo;
    if (partitions->nparts == 0)
        return false;
    targets->count = 0;
    int last_part = -1;
    int last_target = 0;
    for (int i = 0; i < count; ++i) {
        bool is_equal;
        Datum time = TimestampTzGetDatum(events[i].time);
        const int edge = partition_range_datum_bsearch(key->partsupfunc, key->partcollation, bounds,
                                                       1, &time, &is_equal);
        int part = bounds->indexes[edge + 1];
        if (part < 0)
            part = bounds->default_index;
        if (part < 0 || !partitions->is_leaf[part])
            return false;
        if (part != last_part) {
            const Oid oid = partitions->oids[part];
            int target = 0;
            while (target < targets->count && targets->items[target].partition != oid)
                ++target;
            if (target == targets->capacity) {
                targets->capacity *= 2;
                targets->items = static_cast<Target*>(repalloc(
                    targets->items, sizeof(Target) * static_cast<Size>(targets->capacity)));
            }
            if (target == targets->count)
                targets->items[targets->count++] = {oid, nullptr, 0};
            last_part = part;
            last_target = target;
        }
        targets->of_event[i] = last_target;
        ++targets->items[last_target].count;
    }
    return true;
}

void close_targets(const Targets& targets) {
    for (int i = 0; i < targets.count; ++i)
        if (targets.items[i].writer != nullptr)
            close_table(targets.items[i].writer);
}

Targets make_targets(int events) {
    constexpr int kFew = 4;
    return {0, kFew, static_cast<Target*>(palloc(sizeof(Target) * kFew)),
            static_cast<int*>(palloc(sizeof(int) * static_cast<Size>(Max(events, 1))))};
}

// Whether each event goes to the same partition in both.
bool are_same(const Targets& a, const Targets& b, int events) {
    if (a.count != b.count)
        return false;
    for (int i = 0; i < events; ++i)
        if (a.items[a.of_event[i]].partition != b.items[b.of_event[i]].partition)
            return false;
    return true;
}

// Finds and opens the partitions of the events; false where not all of them are plain. Once they
// are locked, none is detached, and none is attached that takes what lies in the default one: what
// was found is true if it is found again under the locks. It need not be looked for again where
// nothing changed meanwhile; that something changes all the time does not keep us here.
bool open_targets(Relation parent, const NewEvent* events, int count, Targets* targets) {
    *targets = make_targets(count);
    uint64 before = catalog_generation();
    if (!route(parent, events, count, targets))
        return false;
    for (;;) {
        bool plain = true;
        for (int i = 0; i < targets->count && plain; ++i) {
            targets->items[i].writer = open_table(targets->items[i].partition, kEventShape);
            plain = targets->items[i].writer != nullptr;
        }
        if (catalog_generation() == before) {
            if (!plain)
                close_targets(*targets);
            return plain;
        }
        Targets again = make_targets(count);
        before = catalog_generation();
        if (!route(parent, events, count, &again)) {
            close_targets(*targets);
            return false;
        }
        if (are_same(*targets, again, count)) {
            if (!plain)
                close_targets(*targets);
            return plain;
        }
        close_targets(*targets);
        *targets = again;
        CHECK_FOR_INTERRUPTS();
    }
}

void put_event(const RowSet& rows, int row, const NewEvent& event, Datum recorded_at) {
    Datum* const values = rows.values + static_cast<Size>(row) * kColumns;
    bool* const nulls = rows.nulls + static_cast<Size>(row) * kColumns;
    values[kId] = Int64GetDatum(event.id);
    values[kTime] = TimestampTzGetDatum(event.time);
    values[kRecordedAt] = recorded_at;
    values[kMeter] = Int32GetDatum(event.meter_id);
    values[kUser] = event.user;
    values[kValue] = event.value;
    values[kKey] = event.key;
    values[kDimensions] = event.dimensions;
    values[kMetadata] = event.metadata;
    for (int i = 0; i < kColumns; ++i)
        nulls[i] = false;
    nulls[kKey] = event.key == 0;
}

// Writes the events of one partition, those of one meter in the order of time: the entries that
// follow each other in that index are then of neighbouring rows, by which PostgreSQL knows that
// they are appended, and fills the index's pages instead of splitting each in half.
void insert_into(const Target& target, int number, const Targets& targets, const NewEvent* events,
                 int count) {
    static constexpr AttrNumber kByTime[] = {kMeter + 1, kTime + 1, kId + 1};
    const Datum recorded_at = TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
    RowSet rows = make_rows(*target.writer, target.count);
    int row = 0;
    for (int i = 0; i < count; ++i)
        if (targets.of_event[i] == number)
            put_event(rows, row++, events[i], recorded_at);
    insert_rows(*target.writer, rows,
                row > 1 ? order_rows(*target.writer, rows, kByTime, lengthof(kByTime)) : nullptr);
}

}  // namespace

bool insert_events_directly(const NewEvent* events, int count) {
    if (!direct_insert_allowed())
        return false;
    const Relation parent = table_open(relations().meter_event, NoLock);
    Targets targets{};
    const bool plain = is_plain_parent(parent, kEventShape) && is_partitioned_by_time(parent) &&
                       open_targets(parent, events, count, &targets);
    if (plain) {
        for (int i = 0; i < targets.count; ++i)
            insert_into(targets.items[i], i, targets, events, count);
        close_targets(targets);
        CommandCounterIncrement();
    }
    table_close(parent, NoLock);
    return plain;
}

namespace {

// The columns of the index that finds a user's events, and the functions that compare them.
struct KeyColumn {
    AttrNumber column;
    Oid equal;
};
constexpr KeyColumn kByUser[] = {
    {kUser + 1, F_TEXTEQ}, {kMeter + 1, F_INT4EQ}, {kTime + 1, F_TIMESTAMPTZ_EQ}};

// Whether every row is found by it, under any snapshot.
bool is_by_user(Relation index) {
    const FormData_pg_index* form = index->rd_index;
    if (index->rd_rel->relam != BTREE_AM_OID || !form->indisvalid || form->indcheckxmin ||
        form->indnkeyatts < static_cast<int>(lengthof(kByUser)) ||
        RelationGetIndexPredicate(index) != NIL)
        return false;
    for (int i = 0; i < static_cast<int>(lengthof(kByUser)); ++i)
        if (form->indkey.values[i] != kByUser[i].column ||
            index->rd_opfamily[i] >= FirstNormalObjectId ||
            index->rd_opcintype[i] != kEventColumns[kByUser[i].column - 1].type)
            return false;
    return true;
}

// The index of the partition that finds a user's events, open; nullptr where there is none.
Relation open_user_index(Relation partition) {
    const ListCell* cell;
    foreach (cell, RelationGetIndexList(partition)) {
        const Relation index = index_open(lfirst_oid(cell), AccessShareLock);
        if (is_by_user(index))
            return index;
        index_close(index, NoLock);
    }
    return nullptr;
}

Datum copy_of(Datum value) {
    return PointerGetDatum(PG_DETOAST_DATUM_COPY(value));
}

// Reads the event by the index.
bool read_by_index(Relation partition, Relation index, NewEvent* event) {
    const Datum wanted[] = {event->user, Int32GetDatum(event->meter_id),
                            TimestampTzGetDatum(event->time)};
    ScanKeyData keys[lengthof(kByUser)];
    for (int i = 0; i < static_cast<int>(lengthof(kByUser)); ++i)
        ScanKeyEntryInitialize(&keys[i], 0, static_cast<AttrNumber>(i + 1), BTEqualStrategyNumber,
                               InvalidOid, index->rd_indcollation[i], kByUser[i].equal, wanted[i]);
    TupleTableSlot* slot = table_slot_create(partition, nullptr);
    const IndexScanDesc scan =
        begin_index_scan(partition, index, GetActiveSnapshot(), lengthof(kByUser));
    index_rescan(scan, keys, lengthof(kByUser), nullptr, 0);
    bool found = false;
    while (!found && index_getnext_slot(scan, ForwardScanDirection, slot)) {
        CHECK_FOR_INTERRUPTS();
        slot_getallattrs(slot);
        const Datum* values = slot->tts_values;
        if (DatumGetInt64(values[kId]) != event->id)
            continue;
        found = true;
        event->value = copy_of(values[kValue]);
        event->key = slot->tts_isnull[kKey] ? 0 : copy_of(values[kKey]);
        event->dimensions = copy_of(values[kDimensions]);
    }
    index_endscan(scan);
    ExecDropSingleTupleTableSlot(slot);
    return found;
}

}  // namespace

bool read_event_directly(NewEvent* event) {
    if (!direct_insert_allowed())
        return false;
    const uint64 before = catalog_generation();
    const Relation parent = table_open(relations().meter_event, NoLock);
    Targets targets = make_targets(1);
    bool found = false;
    if (is_plain_parent(parent, kEventShape) && is_partitioned_by_time(parent) &&
        route(parent, event, 1, &targets)) {
        const Relation partition = try_table_open(targets.items[0].partition, AccessShareLock);
        // Where something has changed until it was locked, it may be another one.
        if (partition != nullptr && catalog_generation() == before &&
            is_plain_table(partition, kEventShape)) {
            if (const Relation index = open_user_index(partition)) {
                found = read_by_index(partition, index, event);
                index_close(index, NoLock);
            }
        }
        if (partition != nullptr)
            table_close(partition, NoLock);
    }
    table_close(parent, NoLock);
    return found;
}

}  // namespace meter::pg
