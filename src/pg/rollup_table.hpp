// The two tables of cells without the executor: looking cells up, writing new ones and changed
// ones.
//
// That is right for a plain table alone, with the columns and the key that the install script gave
// it and nothing else that a writer has to heed: no triggers, rules, row security, checks or
// generated columns. Indexes that someone added are kept up. For any other table open_cells()
// returns nullptr, and the caller goes through SPI.
#pragma once

#include "pg/compat.hpp"

#include "core/cell_key.hpp"
#include "pg/cells.hpp"

namespace meter::pg {

// What is stored in a cell's row beside its key and its dimensions, as the columns of a statement:
// first and last timestamp, count, last id, dirty, sum, minimum, maximum, last value, value_time,
// the events' digest, hours.
inline constexpr int kCellNumbers = 12;

struct CellRows;

// Opens meter.rollup or meter.rollup_total, whose rows are then those that are committed now, until
// close_cells(). The locks stay to the end of the transaction.
CellRows* open_cells(bool by_user);
void close_cells(CellRows* rows);

// The stored cell of a key: its place, and its numbers, which are good until the next call. `more`
// says how many keys of the same meter and start are to be looked up next, in ascending order: many
// of them are found by going through the index once, where that has not many others between them.
struct FoundCell {
    ItemPointerData tid;
    Datum numbers[kCellNumbers];
    bool nulls[kCellNumbers];
};
bool find_cell(CellRows* rows, char grain, const CellKey& key, int more, FoundCell* found);

// Writes new cells. The columns are the twelve numbers, start, digest, meter_id, dimensions and,
// by user, user_id.
void insert_cells(CellRows* rows, char grain, const Columns& columns);

// Writes numbers over stored cells. The columns are the tid and the twelve numbers. False where one
// of them is no longer what it was.
bool update_cells(CellRows* rows, const Columns& columns);

// meter.rollup, to be read by its key, and the numbers of its columns.
struct ReadableCells {
    Relation relation;
    Relation key;  // by meter, grain, start, user and digest
    AttrNumber user;
    AttrNumber count;
    AttrNumber sum;
};

// Opens it; false where it is not plain. The locks stay to the end of the transaction.
bool open_cells_to_read(ReadableCells* cells);
void close_cells(const ReadableCells& cells);

}  // namespace meter::pg
