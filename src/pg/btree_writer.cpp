#include "pg/btree_writer.hpp"

extern "C" {
#include "access/nbtxlog.h"
#include "access/transam.h"
#include "access/xloginsert.h"
#include "catalog/pg_am.h"
#include "storage/predicate.h"
}

namespace meter::pg {

namespace {

// What is kept from row to row.
struct BtreeWriter {
    Relation index;
    Relation table;
    IndexInfo* info;
    // What the rows are searched by: made of the first, and given the values of each.
    BTScanInsert key;
    // The page above the leaf that was found last, pinned once it is used, and where it leads
    // there: the next leaf is most often found from here, and not from the root. The metapage:
    // there is none.
    BlockNumber parent_block;
    Buffer parent;
    OffsetNumber downlink;
    // The row at hand, if any, and its number.
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

// Takes up the row of that number in the order.
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
    writer.entry = index_form_tuple(RelationGetDescr(writer.index), writer.values, writer.nulls);
    writer.entry->t_tid = rows.tids[row];
    if (writer.key == nullptr)
        writer.key = _bt_mkscankey(writer.index, writer.entry);
    writer.key->anynullkeys = false;
    for (int i = 0; i < writer.key->keysz; ++i) {
        ScanKeyData& part = writer.key->scankeys[i];
        part.sk_argument = writer.values[i];
        part.sk_flags &= ~SK_ISNULL;
        if (writer.nulls[i]) {
            part.sk_flags |= SK_ISNULL;
            writer.key->anynullkeys = true;
        }
    }
}

// Whether the row of that number has a value that is compressed when its entry is formed: that is
// not to be waited for on a locked page.
bool takes_long(const BtreeWriter& writer, const BtreeRows& rows, int number) {
    constexpr Size kCompressed = BLCKSZ / 16;
    const Size first =
        static_cast<Size>(row_of(rows, number)) * static_cast<Size>(rows.column_count);
    const TupleDesc descriptor = RelationGetDescr(writer.index);
    for (int i = 0; i < writer.info->ii_NumIndexAttrs; ++i) {
        const Size at = first + static_cast<Size>(writer.info->ii_IndexAttrNumbers[i]) - 1;
        if (!rows.nulls[at] && TupleDescAttr(descriptor, i)->attlen == -1 &&
            VARSIZE_ANY(DatumGetPointer(rows.values[at])) >= kCompressed)
            return true;
    }
    return false;
}

// What nbtree keeps of an insertion under way, for the entry at hand.
void take_up(const BtreeWriter& writer, BTInsertStateData& state) {
    state.itup = writer.entry;
    state.itemsz = MAXALIGN(IndexTupleSize(writer.entry));
}

// Whether the entry at hand is one of those that are entered here.
bool is_simple(const BtreeWriter& writer, bool unique) {
    return writer.key->heapkeyspace && IndexTupleSize(writer.entry) <= kLargest &&
           !(unique && writer.key->anynullkeys);
}

BTPageOpaque opaque_of(Page page) {
    return reinterpret_cast<BTPageOpaque>(PageGetSpecialPointer(page));
}

// Finds the leaf from the parent of the one before, if the key at hand belongs there or behind;
// locks it for writing. InvalidBuffer: it is to be searched from the root. The first downlink of a
// page has no key that would say whether ours comes behind. As in any descent, the leaf may be
// split until it is locked, and the key be beyond its high key: find_offset() sees that.
Buffer find_leaf_from_parent(BtreeWriter& writer) {
    if (writer.parent_block == BTREE_METAPAGE)
        return InvalidBuffer;
    if (!BufferIsValid(writer.parent))
        writer.parent = ReadBuffer(writer.index, writer.parent_block);
    _bt_lockbuf(writer.index, writer.parent, BT_READ);
    const Page page = BufferGetPage(writer.parent);
    const int last = PageGetMaxOffsetNumber(page);
    int at = writer.downlink;
    const auto is_behind = [&](int offset) {
        return _bt_compare(writer.index, writer.key, page, static_cast<OffsetNumber>(offset)) > 0;
    };
    BlockNumber block = InvalidBlockNumber;
    if (opaque_of(page)->btpo_level == 1 && !P_IGNORE(opaque_of(page)) &&
        (P_RIGHTMOST(opaque_of(page)) ||
         _bt_compare(writer.index, writer.key, page, P_HIKEY) <= 0) &&
        at > P_FIRSTDATAKEY(opaque_of(page)) && at <= last && is_behind(at)) {
        // The last downlink that the key is behind, in steps that grow and then shrink.
        int step = 1;
        for (; at + step <= last && is_behind(at + step); step *= 2)
            at += step;
        for (step /= 2; step > 0; step /= 2)
            if (at + step <= last && is_behind(at + step))
                at += step;
        writer.downlink = static_cast<OffsetNumber>(at);
        block = BTreeTupleGetDownLink(
            reinterpret_cast<IndexTuple>(PageGetItem(page, PageGetItemId(page, writer.downlink))));
    }
    _bt_unlockbuf(writer.index, writer.parent);
    if (block == InvalidBlockNumber)
        return InvalidBuffer;
    const Buffer leaf = _bt_getbuf(writer.index, block, BT_WRITE);
    const BTPageOpaque opaque = opaque_of(BufferGetPage(leaf));
    if (P_ISLEAF(opaque) && !P_IGNORE(opaque) && !P_INCOMPLETE_SPLIT(opaque))
        return leaf;
    _bt_relbuf(writer.index, leaf);
    return InvalidBuffer;
}

void forget_parent(BtreeWriter& writer) {
    if (BufferIsValid(writer.parent))
        ReleaseBuffer(writer.parent);
    writer.parent = InvalidBuffer;
    writer.parent_block = BTREE_METAPAGE;
}

// Finds the leaf where the key at hand belongs, or the first of them, and locks it for writing.
Buffer find_leaf(BtreeWriter& writer) {
    Buffer leaf = find_leaf_from_parent(writer);
    if (BufferIsValid(leaf))
        return leaf;
    forget_parent(writer);
    const BTStack stack = find_btree_leaf(writer.index, writer.table, writer.key, &leaf);
    if (stack != nullptr) {
        writer.parent_block = stack->bts_blkno;
        writer.downlink = stack->bts_offset;
        _bt_freestack(stack);
    }
    return leaf;
}

// Has the line pointers of a page fetched into the processor's cache: a search goes all over them,
// and would wait for one after the other.
void prefetch_line_pointers(Page page) {
    constexpr Size kCacheLine = 64;
    const Size end = reinterpret_cast<PageHeader>(page)->pd_lower;
    for (Size at = kCacheLine; at < end; at += kCacheLine)
        __builtin_prefetch(reinterpret_cast<const char*>(page) + at);
}

// The offset on the locked leaf at which the entry at hand belongs; `low` is known not to be too
// late, and is tried first if `near`. InvalidOffsetNumber where the entry belongs on another page,
// or has to be left to index_insert().
OffsetNumber find_offset(const BtreeWriter& writer, BTInsertStateData& state, OffsetNumber low,
                         bool near, bool unique) {
    const Page page = BufferGetPage(state.buf);
    const OffsetNumber last = PageGetMaxOffsetNumber(page);
    if (PageGetFreeSpace(page) < state.itemsz)
        return InvalidOffsetNumber;
    OffsetNumber at = low;
    int32 compared = 1;
    if (near && low <= last) {
        compared = _bt_compare(writer.index, writer.key, page, low);
        at += compared > 0;
    }
    if (at <= last && compared > 0) {
        state.bounds_valid = true;
        state.low = at;
        state.stricthigh = OffsetNumberNext(last);
        state.postingoff = 0;
        at = _bt_binsrch_insert(writer.index, &state);
        // Within a posting list.
        if (state.postingoff != 0)
            return InvalidOffsetNumber;
        compared = unique && at <= last ? _bt_compare(writer.index, writer.key, page, at) : -1;
    }
    // Equal: a duplicate of a key, or within a posting list.
    if (at <= last)
        return compared < 0 ? at : InvalidOffsetNumber;
    if (P_RIGHTMOST(opaque_of(page)))
        return at;
    // A key that is equal to the high key may be on the next page too.
    const int32 beyond = _bt_compare(writer.index, writer.key, page, P_HIKEY);
    return beyond < 0 || (beyond == 0 && !unique) ? at : InvalidOffsetNumber;
}

// Puts the entry at hand on the locked leaf, which has room for it.
void put_entry(const BtreeWriter& writer, const BTInsertStateData& state, OffsetNumber at) {
    const Page page = BufferGetPage(state.buf);
    begin_critical_section();
    if (PageAddItem(page, reinterpret_cast<Item>(state.itup), state.itemsz, at, false, false) ==
        InvalidOffsetNumber)
        elog(PANIC, "failed to add new item to block %u in index \"%s\"",
             BufferGetBlockNumber(state.buf), RelationGetRelationName(writer.index));
    MarkBufferDirty(state.buf);
    if (RelationNeedsWAL(writer.index)) {
        xl_btree_insert record;
        record.offnum = at;
        XLogBeginInsert();
        XLogRegisterData(reinterpret_cast<char*>(&record), SizeOfBtreeInsert);
        XLogRegisterBuffer(0, state.buf, REGBUF_STANDARD);
        XLogRegisterBufData(0, reinterpret_cast<char*>(state.itup), IndexTupleSize(state.itup));
        const XLogRecPtr end = XLogInsert(RM_BTREE_ID, XLOG_BTREE_INSERT_LEAF);
        PageSetLSN(page, end);
    }
    end_critical_section();
}

// Enters rows from `first` on into the leaf where that one belongs, as many as belong there and may
// be entered; the row at hand is then the first that was not. Returns how many. A unique key is
// searched for without the row's place: any entry that is equal is found so.
int fill_leaf(BtreeWriter& writer, const BtreeRows& rows, int first, bool unique) {
    BTInsertStateData state{};
    state.itup_key = writer.key;
    take_up(writer, state);
    writer.key->scantid = unique ? nullptr : &writer.entry->t_tid;
    state.buf = find_leaf(writer);
    CheckForSerializableConflictIn(writer.index, nullptr, BufferGetBlockNumber(state.buf));
    const Page page = BufferGetPage(state.buf);
    prefetch_line_pointers(page);
    OffsetNumber at = find_offset(writer, state, P_FIRSTDATAKEY(opaque_of(page)), false, unique);
    int entered = 0;
    while (at != InvalidOffsetNumber) {
        put_entry(writer, state, at);
        if (first + ++entered == rows.count || takes_long(writer, rows, first + entered))
            break;
        take_row(writer, rows, first + entered);
        if (!is_simple(writer, unique))
            break;
        take_up(writer, state);
        writer.key->scantid = unique ? nullptr : &writer.entry->t_tid;
        // Behind the one before it is on this page or one to the right. Else it is anywhere.
        if (_bt_compare(writer.index, writer.key, page, at) <= 0)
            break;
        at = find_offset(writer, state, OffsetNumberNext(at), true, unique);
    }
    _bt_relbuf(writer.index, state.buf);
    return entered;
}

}  // namespace

bool is_own_btree(Relation index) {
    if (index->rd_rel->relam != BTREE_AM_OID)
        return false;
    for (int i = 0; i < IndexRelationGetNumberOfKeyAttributes(index); ++i)
        if (index->rd_opfamily[i] >= FirstNormalObjectId ||
            index_getprocid(index, static_cast<AttrNumber>(i + 1), BTORDER_PROC) >=
                FirstNormalObjectId)
            return false;
    return true;
}

int insert_in_order(Relation index, Relation table, IndexInfo* info, const BtreeRows& rows,
                    IndexUniqueCheck check) {
    // A leaf that is given up before it is locked must not come back as another: pages are used
    // again only once no transaction is left that might be on its way to them.
    Assert(TransactionIdIsValid(GetTopTransactionIdIfAny()));
    BtreeWriter writer{};
    writer.index = index;
    writer.table = table;
    writer.info = info;
    const bool unique = check != UNIQUE_CHECK_NO;
    int entered = 0;
    while (entered < rows.count) {
        CHECK_FOR_INTERRUPTS();
        take_row(writer, rows, entered);
        if (is_simple(writer, unique))
            if (const int more = fill_leaf(writer, rows, entered, unique); more > 0) {
                entered += more;
                continue;
            }
        const bool alone = index_insert(writer.index, writer.values, writer.nulls,
                                        &rows.tids[row_of(rows, entered)], writer.table, check,
                                        false, writer.info);
        if (unique && !alone)
            break;
        ++entered;
    }
    forget_parent(writer);
    if (writer.entry != nullptr)
        pfree(writer.entry);
    if (writer.key != nullptr)
        pfree(writer.key);
    return entered;
}

}  // namespace meter::pg
