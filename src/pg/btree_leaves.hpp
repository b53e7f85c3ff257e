// Finding leaf pages of a B-tree, and comparing keys there.
//
// Most of what an entry of an index costs is the search for its place. _bt_search() of PostgreSQL's
// nbtsearch.c goes down from the root for each, and calls a function for each column that it
// compares. Here keys that come in the order of the index find their leaves from the page above the
// last one, and columns of the types of our own are compared in place.
#pragma once

#include "pg/compat.hpp"

#include <cstdint>

namespace meter::pg {

// Whether the index is PostgreSQL's B-tree, and compares by functions of PostgreSQL's own alone:
// those look no name up.
bool is_own_btree(Relation index);

BTPageOpaque opaque_of(Page page);

// Whether a value has to be fetched or unpacked to be compared.
inline bool is_packed(const struct varlena* value) {
    return VARATT_IS_EXTERNAL(value) || VARATT_IS_COMPRESSED(value);
}

// How a column of a key is compared.
enum class Comparison : std::uint8_t {
    kCalled,  // by the operator class's function
    kInt4,
    kInt8,  // and timestamps
    kUuid,
    kBytes,  // text of the collation "C"
};

// A search of an index, and what is kept from one key to the next.
struct LeafFinder {
    Relation index;
    Relation table;
    int access;
    // What is searched by. set_column() puts the values in.
    BTScanInsert key;
    Comparison comparisons[INDEX_MAX_KEYS];
    // The page above the leaf that was found last, pinned once it is used, and where it leads
    // there. The metapage: there is none.
    BlockNumber parent_block;
    Buffer parent;
    OffsetNumber downlink;
};

// Makes `finder` ready for an open index for which is_own_btree() is true. Leaves are locked for
// `access`, BT_READ or BT_WRITE. To be ended by end_leaves().
void begin_leaves(LeafFinder& finder, Relation index, Relation table, int access);
void end_leaves(LeafFinder& finder);

// Puts a value into the key; nothing else may have been left there of the key before.
inline void set_column(LeafFinder& finder, int column, Datum value, bool is_null) {
    ScanKeyData& part = finder.key->scankeys[column];
    part.sk_argument = value;
    part.sk_flags = is_null ? part.sk_flags | SK_ISNULL : part.sk_flags & ~SK_ISNULL;
}

// Compares the key with an entry of a locked page, not the first downlink of one, as _bt_compare()
// does: negative, zero or positive as the key is before, equal to or behind it.
int32 compare_key(const LeafFinder& finder, Page page, OffsetNumber offset);

// Finds the leaf on which the key belongs, or the first of them, and locks it: the key is not
// beyond its high key, but may be equal to it. Fast as far as keys come in the order of the index,
// right in any order. InvalidBuffer: the index is empty, and `access` is BT_READ. The transaction
// has an id, or the session a snapshot, so that no page that is given up on the way is used again.
// Raises PostgreSQL errors.
Buffer find_leaf(LeafFinder& finder);

}  // namespace meter::pg
