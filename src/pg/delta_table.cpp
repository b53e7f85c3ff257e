#include "pg/delta_table.hpp"

#include <cstring>

#include "pg/catalog.hpp"
#include "pg/memory.hpp"

extern "C" {
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "utils/acl.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
}

namespace meter::pg {

struct DeltaTable {
    Relation relation;
    TupleTableSlot* slot;
    int places[kDeltaColumns];  // where in a row the columns of METER_DELTA_COLUMNS are
};

namespace {

// Finds METER_DELTA_COLUMNS among the table's columns; false where one is not as it was made.
bool find_columns(Relation relation, int* places) {
    const TupleDesc descriptor = RelationGetDescr(relation);
    for (int i = 0; i < kDeltaColumns; ++i) {
        places[i] = -1;
        for (int at = 0; at < descriptor->natts; ++at) {
            const FormData_pg_attribute* column = TupleDescAttr(descriptor, at);
            if (!column->attisdropped && column->atttypid == kDeltaShape[i].type &&
                std::strcmp(NameStr(column->attname), kDeltaShape[i].name) == 0)
                places[i] = at;
        }
        if (places[i] < 0)
            return false;
    }
    return true;
}

bool is_plain(Relation relation) {
    const FormData_pg_class* table = relation->rd_rel;
    constexpr AclMode kRights = ACL_SELECT | ACL_DELETE;
    return table->relkind == RELKIND_RELATION && table->relam == HEAP_TABLE_AM_OID &&
           table->relreplident == REPLICA_IDENTITY_FULL && relation->trigdesc == nullptr &&
           relation->rd_rules == nullptr && !table->relrowsecurity && !table->relhassubclass &&
           pg_class_aclmask(RelationGetRelid(relation), GetUserId(), kRights, ACLMASK_ALL) ==
               kRights;
}

// The delta in the slot, in the order of METER_DELTA_COLUMNS.
DeltaColumns columns_of(const DeltaTable* table) {
    slot_getallattrs(table->slot);
    DeltaColumns columns;
    for (int i = 0; i < kDeltaColumns; ++i) {
        columns.values[i] = table->slot->tts_values[table->places[i]];
        columns.nulls[i] = table->slot->tts_isnull[table->places[i]];
    }
    return columns;
}

// Adds deltas; with `take` it deletes them too.
template <typename Take>
uint64 add_rows(DeltaTable* table, const ItemPointerData* tids, int count, Snapshot snapshot,
                RollupTables* tables, LeftOut* left_out, Take&& take) {
    DeltaAdder* adder = make_adder(tables, left_out);
    // As an index scan would: it keeps a page as long as the next row is on it, and finds the
    // latest version of a row that was changed by hand.
    IndexFetchTableData* fetch = table_index_fetch_begin(table->relation);
    uint64 found = 0;
    for (int i = 0; i < count; ++i) {
        if (i % 1024 == 0)
            CHECK_FOR_INTERRUPTS();
        ItemPointerData tid = tids[i];
        bool more = false;
        if (!table_index_fetch_tuple(fetch, &tid, snapshot, table->slot, &more, nullptr))
            continue;
        add_passing_delta(adder, columns_of(table));
        take(&table->slot->tts_tid);
        ++found;
    }
    ExecClearTuple(table->slot);
    table_index_fetch_end(fetch);
    return found;
}

}  // namespace

DeltaTable* open_deltas(Snapshot snapshot) {
    const Relation relation = table_open(relations().pending, RowExclusiveLock);
    auto* table = static_cast<DeltaTable*>(palloc(sizeof(DeltaTable)));
    if (!is_plain(relation) || !find_columns(relation, table->places)) {
        table_close(relation, NoLock);
        pfree(table);
        return nullptr;
    }
    table->relation = relation;
    table->slot = table_slot_create(relation, nullptr);
    CommandCounterIncrement();
    PushActiveSnapshot(snapshot);
    return table;
}

void close_deltas(DeltaTable* table) {
    ExecDropSingleTupleTableSlot(table->slot);
    PopActiveSnapshot();
    CommandCounterIncrement();
    table_close(table->relation, NoLock);
    pfree(table);
}

uint64 take_deltas(DeltaTable* table, const ItemPointerData* tids, int count, RollupTables* tables,
                   LeftOut* left_out) {
    const CommandId command = GetCurrentCommandId(true);
    const Snapshot snapshot = GetActiveSnapshot();
    return add_rows(table, tids, count, snapshot, tables, left_out, [&](ItemPointer tid) {
        TM_FailureData failure;
        // Who changes deltas has the lock that we have.
        if (table_tuple_delete(table->relation, tid, command, snapshot, InvalidSnapshot, true,
                               &failure, false) != TM_Ok)
            ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                            errmsg("deltas of the rollups were changed while they were folded")));
    });
}

void add_taken_deltas(DeltaTable* table, const ItemPointerData* tids, int count,
                      RollupTables* tables, LeftOut* left_out) {
    // The snapshot from before they were deleted.
    add_rows(table, tids, count, GetActiveSnapshot(), tables, left_out, [](ItemPointer) {});
}

}  // namespace meter::pg
