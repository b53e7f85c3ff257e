#include "pg/btree_leaves.hpp"

#include <cstring>

extern "C" {
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "catalog/pg_collation.h"
#include "utils/fmgroids.h"
#include "utils/uuid.h"
}

namespace meter::pg {

namespace {

Comparison comparison_of(Relation index, int column) {
    if ((index->rd_indoption[column] & INDOPTION_DESC) != 0)
        return Comparison::kCalled;
    switch (index_getprocid(index, static_cast<AttrNumber>(column + 1), BTORDER_PROC)) {
        case F_BTINT4CMP:
            return Comparison::kInt4;
        case F_BTINT8CMP:
        case F_TIMESTAMP_CMP:
        case F_TIMESTAMPTZ_CMP:
            return Comparison::kInt8;
        case F_UUID_CMP:
            return Comparison::kUuid;
        case F_BTTEXTCMP:
            return index->rd_indcollation[column] == C_COLLATION_OID ? Comparison::kBytes
                                                                     : Comparison::kCalled;
        default:
            return Comparison::kCalled;
    }
}

template <typename Number>
int32 compare_numbers(Number a, Number b) {
    return (a > b) - (a < b);
}

// The next column of an index entry, and `at` moved behind it.
int32 next_int4(const char*& at) {
    at = reinterpret_cast<const char*>(INTALIGN(at));
    const int32 value = *reinterpret_cast<const int32*>(at);
    at += sizeof value;
    return value;
}

int64 next_int8(const char*& at) {
    at = reinterpret_cast<const char*>(DOUBLEALIGN(at));
    int64 value;
    std::memcpy(&value, at, sizeof value);
    at += sizeof value;
    return value;
}

// Compares the columns of the key with those of an entry that has no nulls. Zero: they are equal,
// as far as both have them, or this cannot be told without calling a function.
int32 compare_columns(const LeafFinder& finder, IndexTuple entry) {
    const BTScanInsert key = finder.key;
    const int count = Min(key->keysz, BTreeTupleGetNAtts(entry, finder.index));
    const char* at = reinterpret_cast<const char*>(entry) + IndexInfoFindDataOffset(entry->t_info);
    int32 compared = 0;
    for (int i = 0; i < count && compared == 0; ++i) {
        const Datum value = key->scankeys[i].sk_argument;
        switch (finder.comparisons[i]) {
            case Comparison::kInt4:
                compared = compare_numbers(DatumGetInt32(value), next_int4(at));
                break;
            case Comparison::kInt8:
                compared = compare_numbers(DatumGetInt64(value), next_int8(at));
                break;
            case Comparison::kUuid:
                compared = std::memcmp(DatumGetPointer(value), at, UUID_LEN);
                at += UUID_LEN;
                break;
            case Comparison::kBytes: {
                const auto* mine = reinterpret_cast<const struct varlena*>(DatumGetPointer(value));
                // A short one is not aligned.
                if (*at == 0)
                    at = reinterpret_cast<const char*>(INTALIGN(at));
                const auto* other = reinterpret_cast<const struct varlena*>(at);
                if (is_packed(mine) || is_packed(other))
                    return 0;
                const Size length = VARSIZE_ANY_EXHDR(mine);
                const Size other_length = VARSIZE_ANY_EXHDR(other);
                compared =
                    std::memcmp(VARDATA_ANY(mine), VARDATA_ANY(other), Min(length, other_length));
                if (compared == 0)
                    compared = compare_numbers(length, other_length);
                at += VARSIZE_ANY(other);
                break;
            }
            case Comparison::kCalled:
                return 0;
        }
    }
    return compared;
}

// Whether the key is behind the entry there.
bool is_behind(const LeafFinder& finder, Page page, int offset) {
    return compare_key(finder, page, static_cast<OffsetNumber>(offset)) > 0;
}

// Whether a page, which is locked, is in the tree, and the key belongs on it or below.
bool is_right_page(const LeafFinder& finder, Page page) {
    const BTPageOpaque opaque = opaque_of(page);
    return !P_IGNORE(opaque) && !P_INCOMPLETE_SPLIT(opaque) &&
           (P_RIGHTMOST(opaque) || !is_behind(finder, page, P_HIKEY));
}

BlockNumber child_at(Page page, int offset) {
    return BTreeTupleGetDownLink(reinterpret_cast<IndexTuple>(
        PageGetItem(page, PageGetItemId(page, static_cast<OffsetNumber>(offset)))));
}

// Has the line pointers of a page fetched into the processor's cache: a search goes all over them,
// and would wait for one after the other.
void prefetch_line_pointers(Page page) {
    constexpr Size kCacheLine = 64;
    const Size end = reinterpret_cast<PageHeader>(page)->pd_lower;
    for (Size at = kCacheLine; at < end; at += kCacheLine)
        __builtin_prefetch(reinterpret_cast<const char*>(page) + at);
}

void forget_parent(LeafFinder& finder) {
    if (BufferIsValid(finder.parent))
        ReleaseBuffer(finder.parent);
    finder.parent = InvalidBuffer;
    finder.parent_block = BTREE_METAPAGE;
}

// Finds the leaf from the page above the one before, if the key belongs there or behind; locks it.
// InvalidBuffer: it is to be searched from the root. The first downlink of a page has no key that
// would say whether ours comes behind.
Buffer find_from_parent(LeafFinder& finder) {
    if (!BufferIsValid(finder.parent))
        finder.parent = ReadBuffer(finder.index, finder.parent_block);
    _bt_lockbuf(finder.index, finder.parent, BT_READ);
    const Page page = BufferGetPage(finder.parent);
    const int last = PageGetMaxOffsetNumber(page);
    int at = finder.downlink;
    BlockNumber block = InvalidBlockNumber;
    if (opaque_of(page)->btpo_level == 1 && is_right_page(finder, page) &&
        at > P_FIRSTDATAKEY(opaque_of(page)) && at <= last && is_behind(finder, page, at)) {
        // The last downlink that the key is behind, in steps that grow and then shrink.
        int step = 1;
        for (; at + step <= last && is_behind(finder, page, at + step); step *= 2)
            at += step;
        for (step /= 2; step > 0; step /= 2)
            if (at + step <= last && is_behind(finder, page, at + step))
                at += step;
        finder.downlink = static_cast<OffsetNumber>(at);
        block = child_at(page, at);
    }
    _bt_unlockbuf(finder.index, finder.parent);
    return block == InvalidBlockNumber ? InvalidBuffer
                                       : _bt_getbuf(finder.index, block, finder.access);
}

// Locks the last leaf, if that is where the last entry went, nobody else has it locked, and the key
// belongs behind its first entry, as _bt_search_insert() does. Whether there is room is left to the
// caller. InvalidBuffer: the leaf is to be searched.
Buffer find_last_leaf(LeafFinder& finder) {
    const BlockNumber block = RelationGetTargetBlock(finder.index);
    if (finder.access != BT_WRITE || block == InvalidBlockNumber)
        return InvalidBuffer;
    const Buffer leaf = ReadBuffer(finder.index, block);
    if (_bt_conditionallockbuf(finder.index, leaf)) {
        _bt_checkpage(finder.index, leaf);
        const Page page = BufferGetPage(leaf);
        const BTPageOpaque opaque = opaque_of(page);
        if (P_RIGHTMOST(opaque) && P_ISLEAF(opaque) && !P_IGNORE(opaque) &&
            PageGetMaxOffsetNumber(page) >= P_FIRSTDATAKEY(opaque) &&
            is_behind(finder, page, P_FIRSTDATAKEY(opaque)))
            return leaf;
        _bt_relbuf(finder.index, leaf);
    } else {
        ReleaseBuffer(leaf);
    }
    RelationSetTargetBlock(finder.index, InvalidBlockNumber);
    return InvalidBuffer;
}

// Goes down from the root, as _bt_search() does, and locks the leaf. InvalidBuffer: it is to be
// left to that function, which creates a root, goes right and completes splits.
Buffer find_from_root(LeafFinder& finder) {
    Buffer buffer = btree_root(finder.index, finder.table);
    if (!BufferIsValid(buffer))
        return InvalidBuffer;
    for (;;) {
        const Page page = BufferGetPage(buffer);
        const BTPageOpaque opaque = opaque_of(page);
        if (P_ISLEAF(opaque) || !is_right_page(finder, page)) {
            _bt_relbuf(finder.index, buffer);
            return InvalidBuffer;
        }
        // The last downlink that the key is behind: it is behind the first.
        int at = P_FIRSTDATAKEY(opaque);
        int end = PageGetMaxOffsetNumber(page) + 1;
        while (at + 1 < end) {
            const int middle = at + (end - at) / 2;
            if (is_behind(finder, page, middle))
                at = middle;
            else
                end = middle;
        }
        const bool above_leaf = opaque->btpo_level == 1;
        if (above_leaf) {
            finder.parent_block = BufferGetBlockNumber(buffer);
            finder.downlink = static_cast<OffsetNumber>(at);
        }
        buffer = _bt_relandgetbuf(finder.index, buffer, child_at(page, at),
                                  above_leaf ? finder.access : BT_READ);
        if (above_leaf)
            return buffer;
    }
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

BTPageOpaque opaque_of(Page page) {
    return reinterpret_cast<BTPageOpaque>(PageGetSpecialPointer(page));
}

void begin_leaves(LeafFinder& finder, Relation index, Relation table, int access) {
    finder.index = index;
    finder.table = table;
    finder.access = access;
    finder.key = _bt_mkscankey(index, nullptr);
    _bt_metaversion(index, &finder.key->heapkeyspace, &finder.key->allequalimage);
    finder.key->anynullkeys = false;
    finder.key->keysz = IndexRelationGetNumberOfKeyAttributes(index);
    for (int i = 0; i < finder.key->keysz; ++i)
        finder.comparisons[i] = comparison_of(index, i);
    finder.parent_block = BTREE_METAPAGE;
    finder.parent = InvalidBuffer;
}

void end_leaves(LeafFinder& finder) {
    forget_parent(finder);
    pfree(finder.key);
}

// Most often the columns differ, and to see that takes a few instructions for types as ours, a
// fifth of what it takes by functions that are called for each column. All else is left to nbtree.
int32 compare_key(const LeafFinder& finder, Page page, OffsetNumber offset) {
    auto* const entry =
        reinterpret_cast<IndexTuple>(PageGetItem(page, PageGetItemId(page, offset)));
    if (!finder.key->anynullkeys && !IndexTupleHasNulls(entry))
        if (const int32 compared = compare_columns(finder, entry); compared != 0)
            return compared;
    return _bt_compare(finder.index, finder.key, page, offset);
}

Buffer find_leaf(LeafFinder& finder) {
    const auto is_found = [&](Buffer leaf) {
        if (!BufferIsValid(leaf))
            return false;
        const Page page = BufferGetPage(leaf);
        prefetch_line_pointers(page);
        if (P_ISLEAF(opaque_of(page)) && is_right_page(finder, page))
            return true;
        _bt_relbuf(finder.index, leaf);
        return false;
    };
    Buffer leaf =
        finder.parent_block == BTREE_METAPAGE ? find_last_leaf(finder) : find_from_parent(finder);
    if (is_found(leaf))
        return leaf;
    forget_parent(finder);
    leaf = find_from_root(finder);
    if (is_found(leaf))
        return leaf;
    finder.parent_block = BTREE_METAPAGE;
    const BTStack stack =
        find_btree_leaf(finder.index, finder.table, finder.key, &leaf, finder.access);
    if (stack != nullptr) {
        finder.parent_block = stack->bts_blkno;
        finder.downlink = stack->bts_offset;
        _bt_freestack(stack);
    }
    return leaf;
}

}  // namespace meter::pg
