#include "pg/table_writer.hpp"

#include <algorithm>
#include <cstring>

#include "pg/btree_leaves.hpp"
#include "pg/btree_writer.hpp"
#include "pg/catalog.hpp"
#include "pg/memory.hpp"
#include "pg/settings.hpp"

extern "C" {
#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "parser/parse_func.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/inval.h"
#include "utils/syscache.h"
#include "utils/uuid.h"
}

namespace meter::pg {

namespace {

// What was found out about a table, until something about it changes.
struct Known {
    Oid table;
    Oid role;  // on whose behalf rows are written
    bool plain;
};

// The tables of a session: parent, some partitions, ledger and deltas.
constexpr int kMaxKnown = 32;
Known known[kMaxKnown];
int known_count = 0;
int next_victim = 0;
uint64 forgotten = 0;  // how often something was

void on_relation_change(Datum, Oid relation) {
    ++forgotten;
    for (int i = known_count - 1; i >= 0; --i)
        if (relation == InvalidOid || known[i].table == relation)
            known[i] = known[--known_count];
}

// A role's rights come from others too.
void on_role_change(Datum, int, uint32) {
    ++forgotten;
    known_count = 0;
}

void register_callbacks() {
    static bool registered = false;
    if (registered)
        return;
    CacheRegisterRelcacheCallback(on_relation_change, 0);
    CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, on_role_change, 0);
    CacheRegisterSyscacheCallback(AUTHOID, on_role_change, 0);
    registered = true;
}

// Whether the table has these columns in this order, and no others; none is generated.
bool has_columns(Relation relation, const TableShape& shape) {
    const TupleDesc descriptor = RelationGetDescr(relation);
    if (descriptor->natts != shape.column_count)
        return false;
    for (int i = 0; i < descriptor->natts; ++i) {
        const FormData_pg_attribute* column = TupleDescAttr(descriptor, i);
        if (column->attisdropped || column->attgenerated != '\0' || column->attidentity != '\0' ||
            column->atttypid != shape.columns[i].type || column->atttypmod != -1 ||
            (column->attnotnull && shape.columns[i].nullable) ||
            std::strcmp(NameStr(column->attname), shape.columns[i].name) != 0)
            return false;
    }
    return true;
}

// Whether the constraint's text is the call of meter.is_event with the event's columns, and so says
// nothing that was not checked before.
bool is_event_check(const char* expression) {
    static constexpr AttrNumber kArguments[] = {2, 5, 6, 7, 8, 9};
    static constexpr Oid kTypes[] = {TIMESTAMPTZOID, TEXTOID,  NUMERICOID,
                                     TEXTOID,        JSONBOID, JSONBOID};
    const Oid function = LookupFuncName(
        list_make2(makeString(pstrdup("meter")), makeString(pstrdup("is_event"))), 6, kTypes, true);
    const auto* call = static_cast<const FuncExpr*>(stringToNode(expression));
    if (!IsA(call, FuncExpr) || !OidIsValid(function) || call->funcid != function ||
        list_length(call->args) != 6)
        return false;
    for (int i = 0; i < 6; ++i) {
        const auto* argument = static_cast<const Var*>(list_nth(call->args, i));
        if (!IsA(argument, Var) || argument->varattno != kArguments[i])
            return false;
    }
    return true;
}

// Whether every row that we write keeps the table's constraints.
bool has_known_constraints(Relation relation, const TableShape& shape) {
    const TupleConstr* constraints = RelationGetDescr(relation)->constr;
    const int checks = constraints == nullptr ? 0 : constraints->num_check;
    if (!shape.has_event_check)
        return checks == 0;
    return checks == 1 && is_event_check(constraints->check[0].ccbin);
}

// Whether something else than constraints and indexes has a say in an insertion: triggers (foreign
// keys are some), rules, row security, rights.
bool is_untouched(Relation relation) {
    const FormData_pg_class* table = relation->rd_rel;
    return relation->trigdesc == nullptr && relation->rd_rules == nullptr &&
           (!table->relrowsecurity ||
            (!table->relforcerowsecurity && table->relowner == GetUserId())) &&
           pg_class_aclcheck(RelationGetRelid(relation), GetUserId(), ACL_INSERT) == ACLCHECK_OK;
}

// Whether the index asks no more than to be kept up, or is the primary key we know.
bool is_plain_index(Relation index, const IndexInfo* info, const TableShape& shape) {
    if (info->ii_Expressions != NIL || info->ii_Predicate != NIL ||
        info->ii_ExclusionOps != nullptr)
        return false;
    if (!info->ii_Unique)
        return true;
    int columns = 0;
    for (; shape.key[columns] != 0; ++columns)
        if (columns == info->ii_NumIndexKeyAttrs ||
            info->ii_IndexAttrNumbers[columns] != shape.key[columns])
            return false;
    return columns > 0 && columns == info->ii_NumIndexKeyAttrs && index->rd_index->indisprimary &&
           index->rd_index->indimmediate && index->rd_index->indisvalid &&
           index->rd_rel->relam == BTREE_AM_OID;
}

bool find_out(Relation relation, const TableShape& shape) {
    return is_untouched(relation) && has_columns(relation, shape) &&
           has_known_constraints(relation, shape);
}

// The answer of find_out(), remembered.
bool is_plain(Relation relation, const TableShape& shape) {
    register_callbacks();
    const Oid table = RelationGetRelid(relation);
    const Oid role = GetUserId();
    for (int i = 0; i < known_count; ++i)
        if (known[i].table == table && known[i].role == role)
            return known[i].plain;
    const uint64 before = forgotten;
    const bool plain = find_out(relation, shape);
    if (forgotten != before)
        return plain && find_out(relation, shape);
    const int slot = known_count < kMaxKnown ? known_count++ : next_victim++ % kMaxKnown;
    known[slot] = {table, role, plain};
    return plain;
}

// For whoever wonders why recording is slow, and for tests.
void report_not_plain(Relation relation) {
    ereport(DEBUG1, (errmsg_internal("rows of \"%s\" are written by SQL: the table is not plain",
                                     RelationGetRelationName(relation))));
}

}  // namespace

bool direct_insert_allowed() {
    return setting_direct_insert;
}

bool is_plain_parent(Relation relation, const TableShape& shape) {
    const bool plain =
        relation->rd_rel->relkind == RELKIND_PARTITIONED_TABLE && is_plain(relation, shape);
    if (!plain)
        report_not_plain(relation);
    return plain;
}

bool is_plain_table(Relation relation, const TableShape& shape) {
    return relation->rd_rel->relkind == RELKIND_RELATION &&
           relation->rd_rel->relam == HEAP_TABLE_AM_OID && is_plain(relation, shape);
}

TableWriter* open_table(Oid table, const TableShape& shape) {
    const Relation relation = try_table_open(table, RowExclusiveLock);
    if (relation == nullptr)
        return nullptr;
    if (!is_plain_table(relation, shape)) {
        report_not_plain(relation);
        table_close(relation, NoLock);
        return nullptr;
    }
    const List* indexes = RelationGetIndexList(relation);
    auto* writer = static_cast<TableWriter*>(palloc0(sizeof(TableWriter)));
    writer->relation = relation;
    writer->column_count = shape.column_count;
    writer->key_index = -1;
    const Size count = static_cast<Size>(Max(list_length(indexes), 1));
    writer->indexes = static_cast<Relation*>(palloc(sizeof(Relation) * count));
    writer->index_infos = static_cast<IndexInfo**>(palloc(sizeof(IndexInfo*) * count));
    bool plain = true;
    const ListCell* cell;
    foreach (cell, indexes) {
        const Relation index = index_open(lfirst_oid(cell), RowExclusiveLock);
        IndexInfo* info = BuildIndexInfo(index);
        if (info->ii_Unique)
            writer->key_index = writer->index_count;
        writer->indexes[writer->index_count] = index;
        writer->index_infos[writer->index_count++] = info;
        plain = plain && is_plain_index(index, info, shape);
    }
    if (plain && (shape.key[0] == 0 || writer->key_index >= 0))
        return writer;
    report_not_plain(relation);
    close_table(writer);
    return nullptr;
}

void close_table(TableWriter* writer) {
    for (int i = 0; i < writer->index_count; ++i) {
        end_index_inserts(writer->indexes[i], writer->index_infos[i]);
        index_close(writer->indexes[i], NoLock);
    }
    table_close(writer->relation, NoLock);
    if (writer->scratch != nullptr)
        MemoryContextDelete(writer->scratch);
    pfree(writer);
}

RowSet make_rows(const TableWriter& writer, int count) {
    const Size rows = static_cast<Size>(Max(count, 1));
    const Size fields = rows * static_cast<Size>(writer.column_count);
    return {
        count,
        static_cast<Datum*>(MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Datum) * fields)),
        static_cast<bool*>(MemoryContextAllocHuge(CurrentMemoryContext, fields)),
        static_cast<ItemPointerData*>(
            MemoryContextAllocHuge(CurrentMemoryContext, sizeof(ItemPointerData) * rows))};
}

namespace {

HeapTuple form_row(const TableWriter& writer, const RowSet& rows, int row) {
    const Size first = static_cast<Size>(row) * static_cast<Size>(writer.column_count);
    return heap_form_tuple(RelationGetDescr(writer.relation), rows.values + first,
                           rows.nulls + first);
}

HeapTuple form_row_to_write(const TableWriter& writer, const RowSet& rows, int row) {
    const HeapTuple tuple = form_row(writer, rows, row);
    tuple->t_tableOid = RelationGetRelid(writer.relation);
    return tuple;
}

// Writes one row into the heap.
void insert_heap_row(const TableWriter& writer, RowSet& rows, int row, int options, uint32 token) {
    const HeapTuple tuple = form_row_to_write(writer, rows, row);
    if (options & HEAP_INSERT_SPECULATIVE)
        HeapTupleHeaderSetSpeculativeToken(tuple->t_data, token);
    heap_insert(writer.relation, tuple, GetCurrentCommandId(true), options, nullptr);
    rows.tids[row] = tuple->t_self;
    heap_freetuple(tuple);
}

// Some pages full at a time: each page is logged once.
constexpr int kAtOnce = 128;

// Sees that there are slots for `count` rows, and the scratch context.
void provide_slots(TableWriter& writer, int count) {
    const MemoryContext context = GetMemoryChunkContext(&writer);
    if (writer.scratch == nullptr)
        writer.scratch =
            AllocSetContextCreate(context, "rows to be inserted", ALLOCSET_DEFAULT_SIZES);
    const MemoryContext caller_context = MemoryContextSwitchTo(context);
    if (writer.slots == nullptr)
        writer.slots = static_cast<TupleTableSlot**>(palloc(sizeof(TupleTableSlot*) * kAtOnce));
    // Of a copy of the descriptor, which is not counted: the relation's own would be noted with the
    // resource owner for each slot.
    if (writer.slot_count < count) {
        const TupleDesc descriptor = CreateTupleDescCopy(RelationGetDescr(writer.relation));
        for (; writer.slot_count < count; ++writer.slot_count) {
            TupleTableSlot* slot = MakeTupleTableSlot(descriptor, &TTSOpsHeapTuple);
            slot->tts_tableOid = RelationGetRelid(writer.relation);
            writer.slots[writer.slot_count] = slot;
        }
    }
    MemoryContextSwitchTo(caller_context);
}

// Writes the rows into the heap.
void insert_heap(TableWriter& writer, RowSet& rows, const int* order) {
    provide_slots(writer, Min(rows.count, kAtOnce));
    const CommandId command = GetCurrentCommandId(true);
    for (int start = 0; start < rows.count; start += kAtOnce) {
        CHECK_FOR_INTERRUPTS();
        const int count = Min(kAtOnce, rows.count - start);
        const MemoryContext caller_context = MemoryContextSwitchTo(writer.scratch);
        for (int i = 0; i < count; ++i) {
            const int row = order == nullptr ? start + i : order[start + i];
            ExecStoreHeapTuple(form_row(writer, rows, row), writer.slots[i], false);
        }
        heap_multi_insert(writer.relation, writer.slots, count, command, 0, nullptr);
        for (int i = 0; i < count; ++i) {
            const int row = order == nullptr ? start + i : order[start + i];
            rows.tids[row] = writer.slots[i]->tts_tid;
            ExecClearTuple(writer.slots[i]);
        }
        MemoryContextSwitchTo(caller_context);
        MemoryContextReset(writer.scratch);
    }
}

// Whether an index, for which is_own_btree() is false, calls code that is not PostgreSQL's.
bool has_own_code(Relation index, const IndexInfo* info) {
    if (index->rd_rel->relam == BTREE_AM_OID || index->rd_rel->relam >= FirstNormalObjectId)
        return true;
    for (int i = 0; i < info->ii_NumIndexKeyAttrs; ++i)
        if (index->rd_opfamily[i] >= FirstNormalObjectId)
            return true;
    return false;
}

// The row alone.
BtreeRows only_row(const TableWriter& writer, const RowSet& rows, int row) {
    const Size start = static_cast<Size>(row) * static_cast<Size>(writer.column_count);
    return {
        rows.values + start, rows.nulls + start, writer.column_count, rows.tids + row, nullptr, 1};
}

// Enters a row into an index.
bool insert_entry(const TableWriter& writer, int index, RowSet& rows, int row,
                  IndexUniqueCheck check) {
    const Relation relation = writer.indexes[index];
    if (is_own_btree(relation))
        return insert_in_order(relation, writer.relation, writer.index_infos[index],
                               only_row(writer, rows, row), check) == 1;
    Datum values[INDEX_MAX_KEYS];
    bool nulls[INDEX_MAX_KEYS];
    IndexInfo* const info = writer.index_infos[index];
    const Size start = static_cast<Size>(row) * static_cast<Size>(writer.column_count);
    for (int i = 0; i < info->ii_NumIndexAttrs; ++i) {
        const Size at = start + static_cast<Size>(info->ii_IndexAttrNumbers[i]) - 1;
        values[i] = rows.values[at];
        nulls[i] = rows.nulls[at];
    }
    // Code that is not PostgreSQL's may look names up.
    const int search_path = has_own_code(relation, info) ? pin_search_path() : kNotPushed;
    const bool inserted =
        index_insert(relation, values, nulls, &rows.tids[row], writer.relation, check, false, info);
    unpin_search_path(search_path);
    return inserted;
}

// Enters the rows into an index, in the order given; false where a key may not be alone, the rows
// after it then are not entered.
bool insert_entries(const TableWriter& writer, int index, RowSet& rows, const int* order,
                    IndexUniqueCheck check) {
    if (is_own_btree(writer.indexes[index]))
        return insert_in_order(
                   writer.indexes[index], writer.relation, writer.index_infos[index],
                   {rows.values, rows.nulls, writer.column_count, rows.tids, order, rows.count},
                   check) == rows.count;
    for (int i = 0; i < rows.count; ++i) {
        if (i % 256 == 0)
            CHECK_FOR_INTERRUPTS();
        const bool alone =
            insert_entry(writer, index, rows, order == nullptr ? i : order[i], check);
        if (check != UNIQUE_CHECK_NO && !alone)
            return false;
    }
    return true;
}

// What order_rows() sorts: the beginning of a row's key, to be compared as numbers.
struct SortKey {
    static constexpr int kWords = 3;
    uint64 words[kWords];
    int number;  // where the row stood before

    bool operator<(const SortKey& other) const {
        for (int i = 0; i < kWords; ++i)
            if (words[i] != other.words[i])
                return words[i] < other.words[i];
        return number < other.number;
    }
};

// Appends the value, as bytes that compare as the values do, to the `size` bytes at `out` that are
// taken of `room`; returns how many are then.
int append_key(unsigned char* out, int size, int room, Oid type, Datum value, bool is_null) {
    unsigned char number[16];
    const unsigned char* bytes = number;
    int length = 0;
    const auto big_endian = [&](uint64 bits, int count) {
        for (int i = count - 1; i >= 0; --i, bits >>= 8)
            number[i] = static_cast<unsigned char>(bits);
        length = count;
    };
    if (is_null)
        return size;
    switch (type) {
        case INT4OID:
            big_endian(static_cast<uint32>(DatumGetInt32(value)) ^ 0x80000000U, 4);
            break;
        case INT8OID:
        case TIMESTAMPTZOID:
            big_endian(static_cast<uint64>(DatumGetInt64(value)) ^ (UINT64CONST(1) << 63), 8);
            break;
        case UUIDOID:
            std::memcpy(number, DatumGetPointer(value), UUID_LEN);
            length = UUID_LEN;
            break;
        case TEXTOID: {
            // The columns of ours that are indexed are in the order of their bytes, and no text has
            // a zero byte: a zero after it makes the shorter text the lesser.
            const auto* text = reinterpret_cast<const struct varlena*>(DatumGetPointer(value));
            bytes = reinterpret_cast<const unsigned char*>(VARDATA_ANY(text));
            length = static_cast<int>(VARSIZE_ANY_EXHDR(text));
            break;
        }
        default:
            return size;
    }
    const int taken = Min(length, room - size);
    std::memcpy(out + size, bytes, static_cast<std::size_t>(taken));
    return Min(size + taken + (type == TEXTOID ? 1 : 0), room);
}

}  // namespace

int* order_rows(const TableWriter& writer, const RowSet& rows, const AttrNumber* columns,
                int column_count, const int* before) {
    constexpr int kRoom = static_cast<int>(sizeof(SortKey::words));
    const TupleDesc descriptor = RelationGetDescr(writer.relation);
    auto* keys = static_cast<SortKey*>(MemoryContextAllocHuge(
        CurrentMemoryContext, sizeof(SortKey) * static_cast<Size>(Max(rows.count, 1))));
    for (int number = 0; number < rows.count; ++number) {
        const int row = before == nullptr ? number : before[number];
        unsigned char bytes[kRoom] = {};
        int size = 0;
        for (int i = 0; i < column_count && size < kRoom; ++i) {
            const Size at = static_cast<Size>(row) * static_cast<Size>(writer.column_count) +
                            static_cast<Size>(columns[i]) - 1;
            size =
                append_key(bytes, size, kRoom, TupleDescAttr(descriptor, columns[i] - 1)->atttypid,
                           rows.values[at], rows.nulls[at]);
        }
        std::memcpy(keys[number].words, bytes, kRoom);
        for (uint64& word : keys[number].words)
            word = __builtin_bswap64(word);
        keys[number].number = number;
    }
    // `before` may have them in this order.
    if (!std::is_sorted(keys, keys + rows.count))
        std::sort(keys, keys + rows.count);
    auto* order = static_cast<int*>(MemoryContextAllocHuge(
        CurrentMemoryContext, sizeof(int) * static_cast<Size>(Max(rows.count, 1))));
    for (int i = 0; i < rows.count; ++i)
        order[i] = before == nullptr ? keys[i].number : before[keys[i].number];
    pfree(keys);
    return order;
}

namespace {

bool is_kept_up(const TableWriter& writer, int index) {
    return index != writer.key_index && writer.index_infos[index]->ii_ReadyForInserts;
}

// Enters a row into all indexes but that of the primary key.
void insert_other_entries(const TableWriter& writer, RowSet& rows, int row) {
    for (int index = 0; index < writer.index_count; ++index)
        if (is_kept_up(writer, index))
            insert_entry(writer, index, rows, row, UNIQUE_CHECK_NO);
}

}  // namespace

void insert_rows(TableWriter& writer, RowSet& rows, const int* order) {
    if (rows.count == 0)
        return;
    if (rows.count == 1) {
        insert_heap_row(writer, rows, 0, 0, 0);
        insert_other_entries(writer, rows, 0);
        return;
    }
    insert_heap(writer, rows, order);
    for (int index = 0; index < writer.index_count; ++index) {
        if (!is_kept_up(writer, index))
            continue;
        const IndexInfo* info = writer.index_infos[index];
        const MemoryContext caller_context = MemoryContextSwitchTo(writer.scratch);
        const int* sorted =
            order_rows(writer, rows, info->ii_IndexAttrNumbers, info->ii_NumIndexKeyAttrs, order);
        insert_entries(writer, index, rows, sorted, UNIQUE_CHECK_NO);
        MemoryContextSwitchTo(caller_context);
        MemoryContextReset(writer.scratch);
    }
}

bool insert_keys(const TableWriter& writer, RowSet& rows) {
    return insert_entries(writer, writer.key_index, rows, nullptr, UNIQUE_CHECK_PARTIAL);
}

bool insert_if_absent(const TableWriter& writer, RowSet& rows, int row) {
    if (!is_own_btree(writer.indexes[writer.key_index]))
        return false;
    GetCurrentTransactionId();
    const HeapTuple tuple = form_row_to_write(writer, rows, row);
    const bool inserted =
        insert_under_key(writer.indexes[writer.key_index], writer.relation,
                         writer.index_infos[writer.key_index], only_row(writer, rows, row), tuple);
    heap_freetuple(tuple);
    if (inserted)
        insert_other_entries(writer, rows, row);
    return inserted;
}

bool insert_unless_taken(const TableWriter& writer, RowSet& rows, int row) {
    // As the executor does for ON CONFLICT: until its row is confirmed, others who find it in the
    // index wait for the token, and not for our transaction.
    const TransactionId transaction = GetCurrentTransactionId();
    const uint32 token = SpeculativeInsertionLockAcquire(transaction);
    insert_heap_row(writer, rows, row, HEAP_INSERT_SPECULATIVE, token);
    const bool inserted = insert_entry(writer, writer.key_index, rows, row, UNIQUE_CHECK_PARTIAL);
    if (inserted) {
        insert_other_entries(writer, rows, row);
        heap_finish_speculative(writer.relation, &rows.tids[row]);
    } else {
        heap_abort_speculative(writer.relation, &rows.tids[row]);
    }
    SpeculativeInsertionLockRelease(transaction);
    return inserted;
}

}  // namespace meter::pg
