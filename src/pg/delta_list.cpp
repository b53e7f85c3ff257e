#include "pg/delta_list.hpp"

#include <cstring>

#include "pg/catalog.hpp"
#include "pg/spi.hpp"
#include "pg/tid_order.hpp"

extern "C" {
#include "access/genam.h"
#include "access/relscan.h"
#include "access/skey.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "catalog/pg_index.h"
#include "utils/array.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
}

namespace meter::pg {

struct DeltaList {
    const int32* generations;
    int count;
    Relation table;
    Relation index;  // nullptr: there is none that is ours, and `portal` has the places
    Snapshot snapshot;
    IndexScanDesc scan;
    ScanKeyData key;
    int at;  // the generation that the scan is at
    bool scanning;
    TupleTableSlot* found;
    int unseen;  // entries to be listed yet without looking whether they are there
    Portal portal;
};

namespace {

// The index whose first column is the generation; nullptr where there is none.
Relation open_our_index(Relation table) {
    ListCell* cell;
    foreach (cell, RelationGetIndexList(table)) {
        const Relation index = index_open(lfirst_oid(cell), AccessShareLock);
        const FormData_pg_index* form = index->rd_index;
        const AttrNumber first = form->indkey.values[0];
        if (form->indisvalid && index->rd_rel->relam == BTREE_AM_OID && first > 0 &&
            index->rd_indoption[0] == 0 && RelationGetIndexPredicate(index) == NIL &&
            std::strcmp(NameStr(TupleDescAttr(RelationGetDescr(table), first - 1)->attname),
                        "generation") == 0)
            return index;
        index_close(index, AccessShareLock);
    }
    return nullptr;
}

Portal open_statement(const int32* generations, int count) {
    static Statement list = {
        "SELECT ctid FROM meter.rollup_pending WHERE generation = ANY ($1)", {INT4ARRAYOID}, true};
    auto* all = static_cast<Datum*>(palloc(sizeof(Datum) * static_cast<Size>(Max(count, 1))));
    for (int i = 0; i < count; ++i)
        all[i] = Int32GetDatum(generations[i]);
    const Datum array =
        PointerGetDatum(construct_array(all, count, INT4OID, 4, true, TYPALIGN_INT));
    return open_cursor(list, &array);
}

int next_of_statement(const DeltaList* list, ItemPointerData* tids, int limit) {
    SPI_cursor_fetch(list->portal, true, limit);
    const auto count = static_cast<int>(SPI_processed);
    for (int i = 0; i < count; ++i) {
        bool null;
        tids[i] = *reinterpret_cast<ItemPointer>(
            DatumGetPointer(result(static_cast<uint64>(i), 1, &null)));
    }
    SPI_freetuptable(SPI_tuptable);
    return count;
}

int next_of_index(DeltaList* list, ItemPointerData* tids, int limit) {
    // After one that is there, so many are taken to be; after one that is gone, none.
    constexpr int kUnseen = 31;
    int count = 0;
    uint64 passed = 0;
    while (count < limit && list->at < list->count) {
        if (!list->scanning) {
            list->key.sk_argument = Int32GetDatum(list->generations[list->at]);
            index_rescan(list->scan, &list->key, 1, nullptr, 0);
            list->scanning = true;
        }
        const ItemPointer tid = index_getnext_tid(list->scan, ForwardScanDirection);
        if (tid == nullptr) {
            list->scanning = false;
            ++list->at;
            continue;
        }
        if (++passed % 1024 == 0)
            CHECK_FOR_INTERRUPTS();
        tids[count] = *tid;
        // To look here marks the entry of what is gone, so that no one passes by it again. Where
        // most is there it is enough to look when it is taken.
        if (list->unseen > 0)
            --list->unseen;
        else if (index_fetch_heap(list->scan, list->found))
            list->unseen = kUnseen;
        else
            continue;
        ++count;
    }
    return count;
}

}  // namespace

DeltaList* begin_delta_list(const int32* generations, int count) {
    auto* list = static_cast<DeltaList*>(palloc0(sizeof(DeltaList)));
    list->generations = generations;
    list->count = count;
    // What this transaction wrote itself is among them.
    CommandCounterIncrement();
    list->snapshot = RegisterSnapshot(GetTransactionSnapshot());
    list->table = table_open(relations().pending, AccessShareLock);
    list->index = open_our_index(list->table);
    if (list->index == nullptr) {
        list->portal = open_statement(generations, count);
        return list;
    }
    list->scan = begin_index_scan(list->table, list->index, list->snapshot, 1);
    list->found = table_slot_create(list->table, nullptr);
    ScanKeyInit(&list->key, 1, BTEqualStrategyNumber, F_INT4EQ, static_cast<Datum>(0));
    return list;
}

int next_deltas(DeltaList* list, ItemPointerData* tids, int limit) {
    const int count = list->index != nullptr ? next_of_index(list, tids, limit)
                                             : next_of_statement(list, tids, limit);
    sort_by_page(tids, count);
    return count;
}

Snapshot snapshot_of(const DeltaList* list) {
    return list->snapshot;
}

void end_delta_list(DeltaList* list) {
    if (list->index != nullptr) {
        index_endscan(list->scan);
        ExecDropSingleTupleTableSlot(list->found);
        index_close(list->index, NoLock);
    } else {
        SPI_cursor_close(list->portal);
    }
    table_close(list->table, NoLock);
    UnregisterSnapshot(list->snapshot);
    pfree(list);
}

}  // namespace meter::pg
