// Writing rows into our own tables without the executor, as COPY does.
//
// That is right for a plain table alone: with the columns and the constraint that the install
// script gave it, and nothing else that an insertion has to heed (triggers, rules, row security,
// foreign keys, generated columns, unique or exclusion constraints, indexes on expressions or of a
// part). For any other table open_table() returns nullptr, and the caller goes through SPI. Indexes
// on plain columns that someone added are kept up.
#pragma once

#include "pg/compat.hpp"

extern "C" {
#include "access/attnum.h"
#include "executor/tuptable.h"
#include "nodes/execnodes.h"
#include "storage/itemptr.h"
#include "utils/rel.h"
}

namespace meter::pg {

// What a table of ours looks like, as far as it matters for writing.
struct TableShape {
    struct Column {
        const char* name;
        Oid type;
        bool nullable = false;
    };
    const Column* columns;
    int column_count;
    // The columns, in order, of the primary key, which is the one unique index; 0: no more of them,
    // or none.
    AttrNumber key[5];
    bool has_event_check;  // the one CHECK is meter_event_check; else there is none
};

// A plain table, locked and open for writing. Plain data in the memory context it was made in.
struct TableWriter {
    Relation relation;
    int column_count;
    int index_count;
    Relation* indexes;
    IndexInfo** index_infos;
    int key_index;  // which of the indexes is the primary key; -1: none
    // For writing several rows at a time, made when first needed.
    MemoryContext scratch;  // of tuples and index entries, reset after some
    TupleTableSlot** slots;
    int slot_count;
};

// Rows to write: row i has its columns from values[i * column_count] on, and lies at tids[i] once
// it is written.
struct RowSet {
    int count;
    Datum* values;
    bool* nulls;
    ItemPointerData* tids;
};

// Rows with room for `count`, all columns to be filled in by the caller.
RowSet make_rows(const TableWriter& writer, int count);

// Whether rows may be written without the executor at all: the setting meter.direct_insert.
bool direct_insert_allowed();

// Opens the table for writing with a lock on the table and its indexes that inserting takes;
// nullptr where it is not plain, the lock then stays. The lock is held to the end of the
// transaction.
TableWriter* open_table(Oid table, const TableShape& shape);

// Whether a partitioned table has nothing an insertion into it must heed but its partitions.
// The relation is open and locked.
bool is_plain_parent(Relation relation, const TableShape& shape);

// Whether a table, but for its indexes, is plain. The relation is open and locked.
bool is_plain_table(Relation relation, const TableShape& shape);

// Writes the rows into the table, in the order that `order` lists them (nullptr: as they are), and
// into each index in that index's order. The primary key's index is left to the caller.
void insert_rows(TableWriter& writer, RowSet& rows, const int* order);

// Enters the rows, which come in its order, into the primary key's index. False: one may share its
// key with another row, from a transaction under way perhaps; it is in the index all the same,
// those after it are not, and all have to be rolled back.
bool insert_keys(const TableWriter& writer, RowSet& rows);

// Writes row `row` into table and indexes if that is quickly done: false where there is an entry
// with its key, of whatever row, or no room for one more. Nothing is written then.
bool insert_if_absent(const TableWriter& writer, RowSet& rows, int row);

// Writes row `row` into table and indexes, unless there may be another row with its key, from a
// transaction under way perhaps: then it returns false, and nobody ever sees the row.
bool insert_unless_taken(const TableWriter& writer, RowSet& rows, int row);

// Closes it, keeping the locks.
void close_table(TableWriter* writer);

// The rows' numbers in the order of the columns `columns`, as far as the first 24 bytes of their
// values tell, and else as `before` has them (nullptr: as they are): to write side by side what
// lies side by side. In the current memory context.
int* order_rows(const TableWriter& writer, const RowSet& rows, const AttrNumber* columns,
                int column_count, const int* before = nullptr);

}  // namespace meter::pg
