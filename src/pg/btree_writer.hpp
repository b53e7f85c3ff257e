// Entering rows into a B-tree, those that come in its order a leaf page at a time.
//
// index_insert() goes down from the root for each row. Where the rows come in the order of the
// index, one leaf often takes several: those are entered here under one lock on it, and one row by
// a cheaper search. What is done to a leaf, and its WAL record, is what _bt_insertonpg() of
// PostgreSQL's nbtinsert.c does for an entry that fits. All else is left to index_insert(): full
// pages, duplicates in a unique index, posting lists that would have to be split, entries of more
// than an eighth of a page, indexes that are not in the format of PostgreSQL 12 and later.
#pragma once

#include "pg/compat.hpp"

extern "C" {
#include "access/htup.h"
}

namespace meter::pg {

// The rows to be entered: row i of `count` lies at tids[i], and has its columns from
// values[i * column_count] on.
struct BtreeRows {
    const Datum* values;
    const bool* nulls;
    int column_count;
    ItemPointerData* tids;
    const int* order;  // the rows' numbers in the order of the index; nullptr: as they are
    int count;
};

// Enters the rows into an index for which is_own_btree() is true; it and its table are open and
// locked for writing. Fast as far as the rows come in the order of the index, right in any. Returns
// how many were entered and are alone with their keys: all with UNIQUE_CHECK_NO. With
// UNIQUE_CHECK_PARTIAL it ends at the first that may not be alone, which is in the index all the
// same. The transaction has written rows, so it has an id. Raises PostgreSQL errors.
int insert_in_order(Relation index, Relation table, IndexInfo* info, const BtreeRows& rows,
                    IndexUniqueCheck check);

// Writes a row into the table and enters it into the index under its unique key, unless there is an
// entry with the key, or no room on the leaf where it belongs: then it returns false, and nothing
// is written. The row is written while that leaf is locked, so that nobody can enter the same key
// between the look and the entry: no row has to be taken back, as a speculative one has. `rows` is
// the one row, and `tuple` the same, small, as it is to be written. Other indexes are left to the
// caller. As insert_in_order() in all else.
bool insert_under_key(Relation index, Relation table, IndexInfo* info, const BtreeRows& rows,
                      HeapTuple tuple);

}  // namespace meter::pg
