#include "pg/rollup_table.hpp"

#include <cstring>

#include "pg/catalog.hpp"
#include "pg/memory.hpp"
#include "pg/values.hpp"

extern "C" {
#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_am.h"
#include "catalog/pg_collation.h"
#include "executor/executor.h"
#include "utils/acl.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
}

namespace meter::pg {

namespace {

struct Column {
    const char* name;
    Oid type;
};

// The columns of both tables, in their order; user_id is in the one by user alone.
constexpr Column kColumns[] = {{"first_timestamp", TIMESTAMPTZOID},
                               {"last_timestamp", TIMESTAMPTZOID},
                               {"start", TIMESTAMPTZOID},
                               {"event_count", INT8OID},
                               {"last_id", INT8OID},
                               {"digest", UUIDOID},
                               {"event_digest", UUIDOID},
                               {"meter_id", INT4OID},
                               {"grain", CHAROID},
                               {"dirty", BOOLOID},
                               {"user_id", TEXTOID},
                               {"value_sum", NUMERICOID},
                               {"value_min", NUMERICOID},
                               {"value_max", NUMERICOID},
                               {"last_value", NUMERICOID},
                               {"value_time", NUMERICOID},
                               {"dimensions", JSONBOID},
                               {"hours", BYTEAOID}};
constexpr int kUserColumn = 10;
constexpr int kCountColumn = 3;
constexpr int kSumColumn = 11;
constexpr int kMostColumns = lengthof(kColumns);

// Where in kColumns what a statement writes goes: the numbers, then what new rows have beside.
constexpr int kNumberColumns[kCellNumbers] = {0, 1, 3, 4, 9, 11, 12, 13, 14, 15, 6, 17};
constexpr int kOtherColumns[] = {2, 5, 7, 16, kUserColumn};
constexpr int kGrainColumn = 8;
constexpr int kWalkUser = 3;  // where the user is in the key, or the digest of all users' cells

// The key, by places in kColumns, and the functions that compare its columns.
struct KeyColumn {
    int column;
    Oid equal;
};
constexpr KeyColumn kKey[] = {{7, F_INT4EQ},
                              {kGrainColumn, F_CHAREQ},
                              {2, F_TIMESTAMPTZ_EQ},
                              {kUserColumn, F_TEXTEQ},
                              {5, F_UUID_EQ}};

}  // namespace

struct CellRows {
    MemoryContext context;  // that it was opened in
    bool by_user;
    Relation relation;
    Relation key;  // the index
    EState* estate;
    ResultRelInfo* result;
    IndexScanDesc scan;
    int key_count;
    ScanKeyData keys[lengthof(kKey)];
    TupleTableSlot* found;
    TupleTableSlot* changed;

    // Going through the cells of one meter, grain and start, from some user on.
    IndexScanDesc walk;
    int walk_key_count;
    ScanKeyData walk_keys[4];
    bool walking;  // the walk stands at an entry of the index, or behind the last
    bool ended;
    int left;    // keys still to be looked up
    int passed;  // entries that were none of them, less what was found
};

namespace {

// The number, from 0, of a column of kColumns in the table.
int place(bool by_user, int column) {
    return !by_user && column > kUserColumn ? column - 1 : column;
}

bool has_columns(Relation relation, bool by_user) {
    const TupleDesc descriptor = RelationGetDescr(relation);
    if (descriptor->natts != place(by_user, kMostColumns))
        return false;
    for (int i = 0; i < kMostColumns; ++i) {
        if (i == kUserColumn && !by_user)
            continue;
        const FormData_pg_attribute* column = TupleDescAttr(descriptor, place(by_user, i));
        if (column->attisdropped || column->attgenerated != '\0' ||
            column->atttypid != kColumns[i].type || column->atttypmod != -1 ||
            std::strcmp(NameStr(column->attname), kColumns[i].name) != 0)
            return false;
    }
    return true;
}

bool is_plain(Relation relation, bool by_user) {
    const FormData_pg_class* table = relation->rd_rel;
    const TupleConstr* constraints = RelationGetDescr(relation)->constr;
    constexpr AclMode kRights = ACL_SELECT | ACL_INSERT | ACL_UPDATE;
    return table->relkind == RELKIND_RELATION && table->relam == HEAP_TABLE_AM_OID &&
           table->relreplident == REPLICA_IDENTITY_DEFAULT && relation->trigdesc == nullptr &&
           relation->rd_rules == nullptr && !table->relrowsecurity && !table->relhassubclass &&
           (constraints == nullptr || constraints->num_check == 0) &&
           has_columns(relation, by_user) &&
           pg_class_aclmask(RelationGetRelid(relation), GetUserId(), kRights, ACLMASK_ALL) ==
               kRights;
}

// Whether the index is on the columns of kKey, in their order, and every row is found by it, under
// any snapshot.
bool is_our_key(Relation index, bool by_user) {
    const FormData_pg_index* form = index->rd_index;
    int count = 0;
    for (const KeyColumn& key : kKey) {
        if (key.column == kUserColumn && !by_user)
            continue;
        if (count >= form->indnkeyatts ||
            form->indkey.values[count++] != place(by_user, key.column) + 1)
            return false;
    }
    if (by_user && index->rd_indcollation[kWalkUser] != C_COLLATION_OID)
        return false;
    return count == form->indnkeyatts && form->indisvalid && !form->indcheckxmin &&
           index->rd_rel->relam == BTREE_AM_OID;
}

// Puts what the columns have in row `row` into an all-valid slot.
void fill_numbers(const CellRows* rows, TupleTableSlot* slot, const Columns& columns, int first,
                  int row) {
    for (int i = 0; i < kCellNumbers; ++i) {
        const int at = place(rows->by_user, kNumberColumns[i]);
        slot->tts_values[at] = columns.values[first + i][row];
        slot->tts_isnull[at] = columns.nulls[first + i][row];
    }
}

// The index of the table's key, open; nullptr where the table is not plain.
Relation open_key(Relation relation, bool by_user, LOCKMODE mode) {
    if (!is_plain(relation, by_user))
        return nullptr;
    (void)RelationGetIndexList(relation);  // finds rd_pkindex
    if (!OidIsValid(relation->rd_pkindex))
        return nullptr;
    const Relation key = index_open(relation->rd_pkindex, mode);
    if (is_our_key(key, by_user))
        return key;
    index_close(key, NoLock);
    return nullptr;
}

}  // namespace

bool open_cells_to_read(ReadableCells* cells) {
    cells->relation = table_open(relations().rollup, AccessShareLock);
    cells->key = open_key(cells->relation, true, AccessShareLock);
    if (cells->key == nullptr) {
        table_close(cells->relation, NoLock);
        return false;
    }
    cells->user = kUserColumn + 1;
    cells->count = kCountColumn + 1;
    cells->sum = kSumColumn + 1;
    return true;
}

void close_cells(const ReadableCells& cells) {
    index_close(cells.key, NoLock);
    table_close(cells.relation, NoLock);
}

CellRows* open_cells(bool by_user) {
    const Oid table = get_relname_relid(by_user ? "rollup" : "rollup_total", relations().schema);
    if (!OidIsValid(table))
        return nullptr;
    const Relation relation = table_open(table, RowExclusiveLock);
    const Relation key = open_key(relation, by_user, RowExclusiveLock);
    if (key == nullptr) {
        table_close(relation, NoLock);
        return nullptr;
    }
    auto* rows = static_cast<CellRows*>(palloc0(sizeof(CellRows)));
    rows->context = CurrentMemoryContext;
    rows->by_user = by_user;
    rows->relation = relation;
    rows->key = key;
    rows->estate = CreateExecutorState();
    rows->result = makeNode(ResultRelInfo);
    InitResultRelInfo(rows->result, relation, 0, nullptr, 0);
    ExecOpenIndices(rows->result, false);
    for (const KeyColumn& column : kKey) {
        if (column.column == kUserColumn && !by_user)
            continue;
        const int i = rows->key_count++;
        ScanKeyEntryInitialize(&rows->keys[i], 0, static_cast<AttrNumber>(i + 1),
                               BTEqualStrategyNumber, InvalidOid, key->rd_indcollation[i],
                               column.equal, static_cast<Datum>(0));
    }
    // What was committed before, and what this transaction did itself.
    CommandCounterIncrement();
    PushActiveSnapshot(GetTransactionSnapshot());
    rows->scan = begin_index_scan(relation, key, GetActiveSnapshot(), rows->key_count);
    rows->walk_key_count = rows->key_count - 1;
    rows->walk = begin_index_scan(relation, key, GetActiveSnapshot(), rows->walk_key_count);
    rows->walk->xs_want_itup = true;
    for (int i = 0; i < rows->walk_key_count; ++i) {
        rows->walk_keys[i] = rows->keys[i];
        if (by_user && i == kWalkUser)
            ScanKeyEntryInitialize(&rows->walk_keys[i], 0, static_cast<AttrNumber>(i + 1),
                                   BTGreaterEqualStrategyNumber, InvalidOid,
                                   key->rd_indcollation[i], F_TEXT_GE, static_cast<Datum>(0));
    }
    rows->found = table_slot_create(relation, nullptr);
    rows->changed = MakeSingleTupleTableSlot(RelationGetDescr(relation), &TTSOpsVirtual);
    return rows;
}

void close_cells(CellRows* rows) {
    ExecDropSingleTupleTableSlot(rows->changed);
    ExecDropSingleTupleTableSlot(rows->found);
    index_endscan(rows->walk);
    index_endscan(rows->scan);
    PopActiveSnapshot();
    CommandCounterIncrement();
    ExecCloseIndices(rows->result);
    FreeExecutorState(rows->estate);
    index_close(rows->key, NoLock);
    table_close(rows->relation, NoLock);
    pfree(rows);
}

namespace {

// For fewer keys, or past more of the others, it takes less time to look each of them up.
constexpr int kWorthWalking = 16;
constexpr int kMostPassed = 256;
constexpr int kWorthPassing = 12;  // for one that is found

// The order of the entry that the walk stands at and the key.
int compare_entry(const CellRows* rows, const CellKey& key) {
    const IndexScanDesc walk = rows->walk;
    bool null;
    if (rows->by_user) {
        const Datum user = index_getattr(walk->xs_itup, kWalkUser + 1, walk->xs_itupdesc, &null);
        if (const int order = text_view(user).compare(key.user_id))
            return order;
    }
    const Datum digest = index_getattr(walk->xs_itup, rows->key_count, walk->xs_itupdesc, &null);
    return std::memcmp(DatumGetPointer(digest), key.digest.data(), key.digest.size());
}

// Goes on to the next entry.
void step(CellRows* rows) {
    rows->ended = index_getnext_tid(rows->walk, ForwardScanDirection) == nullptr;
}

// Begins to go through the cells of the key's meter and start.
void begin_walk(CellRows* rows, char grain, const CellKey& key, Datum user) {
    rows->walk_keys[0].sk_argument = Int32GetDatum(key.meter_id);
    rows->walk_keys[1].sk_argument = CharGetDatum(grain);
    rows->walk_keys[2].sk_argument = TimestampTzGetDatum(to_timestamptz(key.start));
    if (rows->by_user)
        rows->walk_keys[kWalkUser].sk_argument = user;
    index_rescan(rows->walk, rows->walk_keys, rows->walk_key_count, nullptr, 0);
    rows->walking = true;
    rows->passed = 0;
    step(rows);
}

// Finds the key by going on from where the walk stands. Gives up where too much lies between.
bool walk_to(CellRows* rows, const CellKey& key) {
    while (!rows->ended) {
        const int order = compare_entry(rows, key);
        if (order > 0)
            return false;
        // An entry may be that of a row that was replaced.
        if (order == 0 && index_fetch_heap(rows->walk, rows->found)) {
            rows->passed -= Min(rows->passed, kWorthPassing);
            return true;
        }
        if (++rows->passed > kMostPassed) {
            rows->walking = false;
            return false;
        }
        step(rows);
    }
    return false;
}

// The row of a key, by its own way through the index.
bool look_up(CellRows* rows, char grain, const CellKey& key, Datum user) {
    int i = 0;
    rows->keys[i++].sk_argument = Int32GetDatum(key.meter_id);
    rows->keys[i++].sk_argument = CharGetDatum(grain);
    rows->keys[i++].sk_argument = TimestampTzGetDatum(to_timestamptz(key.start));
    if (rows->by_user)
        rows->keys[i++].sk_argument = user;
    rows->keys[i].sk_argument = uuid_datum(key.digest);
    index_rescan(rows->scan, rows->keys, rows->key_count, nullptr, 0);
    return index_getnext_slot(rows->scan, ForwardScanDirection, rows->found);
}

}  // namespace

bool find_cell(CellRows* rows, char grain, const CellKey& key, int more, FoundCell* found) {
    const Datum user = rows->by_user ? text_datum(key.user_id) : static_cast<Datum>(0);
    // What the scans allocate for themselves, they do when they need it, and keep.
    const MemoryContext caller_context = MemoryContextSwitchTo(rows->context);
    const bool goes_on = rows->left > 0 && more == rows->left - 1;
    if (!goes_on) {
        rows->walking = false;
        if (more + 1 >= kWorthWalking)
            begin_walk(rows, grain, key, user);
    }
    rows->left = more;
    bool any = rows->walking && walk_to(rows, key);
    if (!any && !rows->walking)
        any = look_up(rows, grain, key, user);
    MemoryContextSwitchTo(caller_context);
    if (!any)
        return false;
    slot_getallattrs(rows->found);
    found->tid = rows->found->tts_tid;
    for (int n = 0; n < kCellNumbers; ++n) {
        const int at = place(rows->by_user, kNumberColumns[n]);
        found->numbers[n] = rows->found->tts_values[at];
        found->nulls[n] = rows->found->tts_isnull[at];
    }
    return true;
}

void insert_cells(CellRows* rows, char grain, const Columns& columns) {
    // Some pages full at a time: each page is logged once.
    constexpr int kAtOnce = 256;
    const int slots = Min(columns.rows, kAtOnce);
    auto** slot = static_cast<TupleTableSlot**>(palloc(sizeof(TupleTableSlot*) * kAtOnce));
    for (int i = 0; i < slots; ++i)
        slot[i] = table_slot_create(rows->relation, nullptr);
    const CommandId command = GetCurrentCommandId(true);
    for (int start = 0; start < columns.rows; start += kAtOnce) {
        CHECK_FOR_INTERRUPTS();
        const int count = Min(kAtOnce, columns.rows - start);
        for (int i = 0; i < count; ++i) {
            ExecClearTuple(slot[i]);
            fill_numbers(rows, slot[i], columns, 0, start + i);
            for (int other = kCellNumbers; other < columns.count; ++other) {
                const int at = place(rows->by_user, kOtherColumns[other - kCellNumbers]);
                slot[i]->tts_values[at] = columns.values[other][start + i];
                slot[i]->tts_isnull[at] = false;
            }
            const int at = place(rows->by_user, kGrainColumn);
            slot[i]->tts_values[at] = CharGetDatum(grain);
            slot[i]->tts_isnull[at] = false;
            ExecStoreVirtualTuple(slot[i]);
        }
        // Tuples are made in memory that goes when the slots are cleared, and what indexes need of
        // their own with the tuple's context.
        table_multi_insert(rows->relation, slot, count, command, 0, nullptr);
        for (int i = 0; i < count; ++i) {
            ResetPerTupleExprContext(rows->estate);
            insert_index_entries(rows->result, slot[i], rows->estate, false);
        }
    }
    for (int i = 0; i < slots; ++i)
        ExecDropSingleTupleTableSlot(slot[i]);
    pfree(slot);
}

bool update_cells(CellRows* rows, const Columns& columns) {
    for (int row = 0; row < columns.rows; ++row) {
        if (row % 256 == 0)
            CHECK_FOR_INTERRUPTS();
        auto* tid = reinterpret_cast<ItemPointer>(DatumGetPointer(columns.values[0][row]));
        if (!table_tuple_fetch_row_version(rows->relation, tid, GetActiveSnapshot(), rows->found))
            return false;
        slot_getallattrs(rows->found);
        const auto count = static_cast<Size>(RelationGetDescr(rows->relation)->natts);
        ExecClearTuple(rows->changed);
        std::memcpy(rows->changed->tts_values, rows->found->tts_values, count * sizeof(Datum));
        std::memcpy(rows->changed->tts_isnull, rows->found->tts_isnull, count);
        fill_numbers(rows, rows->changed, columns, 1, row);
        ExecStoreVirtualTuple(rows->changed);
        NewEntries new_entries = NewEntries::kNone;
        if (!update_tuple(rows->relation, tid, rows->changed, GetActiveSnapshot(), &new_entries))
            return false;
        if (new_entries != NewEntries::kNone) {
            ResetPerTupleExprContext(rows->estate);
            insert_index_entries(rows->result, rows->changed, rows->estate, true, new_entries);
        }
    }
    ExecClearTuple(rows->found);
    return true;
}

}  // namespace meter::pg
