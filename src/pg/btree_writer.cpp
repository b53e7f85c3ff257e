#include "pg/btree_writer.hpp"

#include "pg/btree_leaves.hpp"

extern "C" {
#include "access/heapam.h"
#include "access/nbtxlog.h"
#include "access/transam.h"
#include "access/xloginsert.h"
#include "storage/predicate.h"
}

namespace meter::pg {

namespace {

// What is kept from row to row.
struct BtreeWriter {
    LeafFinder finder;
    IndexInfo* info;
    bool unique;
    HeapTuple unwritten;  // the row at hand, if it is to be written before its entry
    // The row at hand, if any: its entry, its number, and the values of the entry.
    IndexTuple entry;
    int number;
    Datum values[INDEX_MAX_KEYS];
    bool nulls[INDEX_MAX_KEYS];
};

// A larger entry, which nothing of ours has, is left to index_insert(): it says when one is too
// large.
constexpr Size kLargest = BLCKSZ / 8;

int row_of(const BtreeRows& rows, int number) {
    return rows.order == nullptr ? number : rows.order[number];
}

// Whether a column of the row at hand has to be fetched or unpacked to be compared.
bool is_packed_column(const BtreeWriter& writer, int column) {
    return !writer.nulls[column] &&
           TupleDescAttr(RelationGetDescr(writer.finder.index), column)->attlen == -1 &&
           is_packed(
               reinterpret_cast<const struct varlena*>(DatumGetPointer(writer.values[column])));
}

// Takes up the row of that number in the order: its entry, and its key. A unique key is searched
// for without the row's place: any entry that is equal is found so.
void take_row(BtreeWriter& writer, const BtreeRows& rows, int number) {
    if (writer.entry != nullptr) {
        if (writer.number == number)
            return;
        pfree(writer.entry);
    }
    writer.number = number;
    const int row = row_of(rows, number);
    const Size first = static_cast<Size>(row) * static_cast<Size>(rows.column_count);
    for (int i = 0; i < writer.info->ii_NumIndexAttrs; ++i) {
        const Size at = first + static_cast<Size>(writer.info->ii_IndexAttrNumbers[i]) - 1;
        writer.values[i] = rows.values[at];
        writer.nulls[i] = rows.nulls[at];
    }
    const TupleDesc descriptor = RelationGetDescr(writer.finder.index);
    writer.entry = index_form_tuple(descriptor, writer.values, writer.nulls);
    writer.entry->t_tid = rows.tids[row];
    const BTScanInsert key = writer.finder.key;
    key->anynullkeys = false;
    for (int i = 0; i < key->keysz; ++i) {
        // In the entry nothing has to be fetched.
        bool null = writer.nulls[i];
        const Datum value = is_packed_column(writer, i)
                                ? index_getattr(writer.entry, i + 1, descriptor, &null)
                                : writer.values[i];
        set_column(writer.finder, i, value, null);
        key->anynullkeys = key->anynullkeys || null;
    }
    key->scantid = writer.unique ? nullptr : &rows.tids[row];
}

// Whether the entry of the row of that number takes long to form, since a value is fetched,
// unpacked or compressed for it: that is not to be done, or waited for, on a locked page.
bool takes_long(const BtreeWriter& writer, const BtreeRows& rows, int number) {
    constexpr Size kCompressed = BLCKSZ / 16;
    const Size first =
        static_cast<Size>(row_of(rows, number)) * static_cast<Size>(rows.column_count);
    const TupleDesc descriptor = RelationGetDescr(writer.finder.index);
    for (int i = 0; i < writer.info->ii_NumIndexAttrs; ++i) {
        const Size at = first + static_cast<Size>(writer.info->ii_IndexAttrNumbers[i]) - 1;
        if (rows.nulls[at] || TupleDescAttr(descriptor, i)->attlen != -1)
            continue;
        const auto* value =
            reinterpret_cast<const struct varlena*>(DatumGetPointer(rows.values[at]));
        if (is_packed(value) || VARSIZE_ANY(value) >= kCompressed)
            return true;
    }
    return false;
}

// Whether the entry at hand is one of those that are entered here.
bool is_simple(const BtreeWriter& writer) {
    return writer.finder.key->heapkeyspace && IndexTupleSize(writer.entry) <= kLargest &&
           !(writer.unique && writer.finder.key->anynullkeys);
}

bool has_room(const BtreeWriter& writer, Buffer leaf) {
    return PageGetFreeSpace(BufferGetPage(leaf)) >= MAXALIGN(IndexTupleSize(writer.entry));
}

// The offset on the locked leaf at which the entry at hand belongs; `low` is known not to be too
// late, and is tried first if `near`. InvalidOffsetNumber where the entry belongs on another page,
// or has to be left to index_insert().
OffsetNumber find_offset(const BtreeWriter& writer, Buffer leaf, OffsetNumber low, bool near) {
    const Page page = BufferGetPage(leaf);
    const OffsetNumber last = PageGetMaxOffsetNumber(page);
    OffsetNumber end = OffsetNumberNext(last);
    const auto half = [&] { return static_cast<OffsetNumber>(low + (end - low) / 2); };
    // What is newest is most often behind all else.
    OffsetNumber at = near ? low : P_RIGHTMOST(opaque_of(page)) ? last : half();
    for (; low < end; at = half()) {
        const int32 compared = compare_key(writer.finder, page, at);
        // A duplicate of a key, or within a posting list.
        if (compared == 0)
            return InvalidOffsetNumber;
        if (compared > 0)
            low = OffsetNumberNext(at);
        else
            end = at;
    }
    if (low <= last || P_RIGHTMOST(opaque_of(page)))
        return low;
    // A key that is equal to the high key may be on the next page too.
    const int32 beyond = compare_key(writer.finder, page, P_HIKEY);
    return beyond < 0 || (beyond == 0 && !writer.unique) ? low : InvalidOffsetNumber;
}

// Writes the row at hand into the table, while the leaf is locked on which its entry belongs:
// others wait for the leaf as they would while nbtree looks a row up, or extends the index for a
// split. Nobody who has a page of the table locked, or its extension, waits for a page of an index.
void write_row(const BtreeWriter& writer) {
    heap_insert(writer.finder.table, writer.unwritten, GetCurrentCommandId(true), 0, nullptr);
    writer.entry->t_tid = writer.unwritten->t_self;
}

// Puts the entry at hand on the locked leaf, which has room for it.
void put_entry(const BtreeWriter& writer, Buffer leaf, OffsetNumber at) {
    const Relation index = writer.finder.index;
    const Page page = BufferGetPage(leaf);
    const Size size = IndexTupleSize(writer.entry);
    begin_critical_section();
    if (PageAddItem(page, reinterpret_cast<Item>(writer.entry), MAXALIGN(size), at, false, false) ==
        InvalidOffsetNumber)
        elog(PANIC, "failed to add new item to block %u in index \"%s\"",
             BufferGetBlockNumber(leaf), RelationGetRelationName(index));
    MarkBufferDirty(leaf);
    if (RelationNeedsWAL(index)) {
        xl_btree_insert record;
        record.offnum = at;
        XLogBeginInsert();
        XLogRegisterData(reinterpret_cast<char*>(&record), SizeOfBtreeInsert);
        XLogRegisterBuffer(0, leaf, REGBUF_STANDARD);
        XLogRegisterBufData(0, reinterpret_cast<char*>(writer.entry), size);
        const XLogRecPtr end = XLogInsert(RM_BTREE_ID, XLOG_BTREE_INSERT_LEAF);
        PageSetLSN(page, end);
    }
    end_critical_section();
    // As _bt_insertonpg() leaves word for the next entry behind all others; it does not for trees
    // of one or two levels, where less is gained.
    if (P_RIGHTMOST(opaque_of(page)) && !P_ISROOT(opaque_of(page)))
        RelationSetTargetBlock(index, BufferGetBlockNumber(leaf));
}

// Enters rows from `first` on, which is at hand, into the leaf where that one belongs, as many as
// belong there and may be entered; the row at hand is then the first that was not. Returns how
// many.
int fill_leaf(BtreeWriter& writer, const BtreeRows& rows, int first) {
    const Buffer leaf = find_leaf(writer.finder);
    const Relation index = writer.finder.index;
    CheckForSerializableConflictIn(index, nullptr, BufferGetBlockNumber(leaf));
    const Page page = BufferGetPage(leaf);
    OffsetNumber at = P_FIRSTDATAKEY(opaque_of(page));
    bool near = false;
    int entered = 0;
    while (has_room(writer, leaf)) {
        at = find_offset(writer, leaf, at, near);
        if (at == InvalidOffsetNumber)
            break;
        if (writer.unwritten != nullptr)
            write_row(writer);
        put_entry(writer, leaf, at);
        if (first + ++entered == rows.count || takes_long(writer, rows, first + entered))
            break;
        take_row(writer, rows, first + entered);
        // Behind the one before it is on this page or one to the right. Else it is anywhere.
        if (!is_simple(writer) || compare_key(writer.finder, page, at) <= 0)
            break;
        at = OffsetNumberNext(at);
        near = true;
    }
    _bt_relbuf(index, leaf);
    return entered;
}

BtreeWriter begin_writer(Relation index, Relation table, IndexInfo* info, bool unique) {
    // What find_leaf() asks for.
    Assert(TransactionIdIsValid(GetTopTransactionIdIfAny()));
    BtreeWriter writer{};
    begin_leaves(writer.finder, index, table, BT_WRITE);
    writer.info = info;
    writer.unique = unique;
    return writer;
}

void end_writer(BtreeWriter& writer) {
    end_leaves(writer.finder);
    if (writer.entry != nullptr)
        pfree(writer.entry);
}

}  // namespace

int insert_in_order(Relation index, Relation table, IndexInfo* info, const BtreeRows& rows,
                    IndexUniqueCheck check) {
    BtreeWriter writer = begin_writer(index, table, info, check != UNIQUE_CHECK_NO);
    int entered = 0;
    while (entered < rows.count) {
        CHECK_FOR_INTERRUPTS();
        take_row(writer, rows, entered);
        if (is_simple(writer))
            if (const int more = fill_leaf(writer, rows, entered); more > 0) {
                entered += more;
                continue;
            }
        const bool alone =
            index_insert(index, writer.values, writer.nulls, &rows.tids[row_of(rows, entered)],
                         table, check, false, info);
        if (writer.unique && !alone)
            break;
        ++entered;
    }
    end_writer(writer);
    return entered;
}

bool insert_under_key(Relation index, Relation table, IndexInfo* info, const BtreeRows& rows,
                      HeapTuple tuple) {
    Assert(rows.count == 1 && rows.order == nullptr && !HeapTupleHasExternal(tuple));
    BtreeWriter writer = begin_writer(index, table, info, true);
    writer.unwritten = tuple;
    ItemPointerSetInvalid(rows.tids);
    take_row(writer, rows, 0);
    const bool entered = is_simple(writer) && fill_leaf(writer, rows, 0) == 1;
    *rows.tids = tuple->t_self;
    end_writer(writer);
    return entered;
}

}  // namespace meter::pg
