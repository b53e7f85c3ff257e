// SQL from C++: statements prepared once a session, and the handful of ways to run them.
#pragma once

#include "pg/compat.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "executor/spi.h"
}

namespace meter::pg {

// A statement of ours, prepared at its first run and kept for the life of the session. Names in it
// are qualified; operators resolve in pg_catalog, to which the search path is pinned.
struct Statement {
    static constexpr int kMaxArgs = 24;
    const char* sql;
    Oid types[kMaxArgs] = {};
    // Never by a sequential scan, however small the tables were when it was planned: a session
    // keeps the plan, and the tables grow under it. For reads alone, or the triggers of a write
    // would be planned so too.
    bool by_index = false;
    SPIPlanPtr plan = nullptr;
};

// What a statement may see and do.
enum class Run {
    kWrite,   // changes data, under a new snapshot (the transaction's own at repeatable read)
    kCaller,  // reads under the snapshot of the query that called us
    kLatest,  // reads what is committed now, whatever the isolation level
};

// Runs `statement` within an SPI connection; at most `limit` rows (0: all). `nulls` is as SPI wants
// it, a character for each argument, or nullptr. The rows are in SPI_tuptable; returns their
// number, or that of the rows changed. The current memory context stays. Raises PostgreSQL errors.
uint64 run(Statement& statement, const Datum* values, const char* nulls, Run how, long limit = 0);

// Opens a cursor on what a statement finds under a new snapshot: SPI_cursor_fetch() leaves rows in
// SPI_tuptable, SPI_cursor_close() ends it.
Portal open_cursor(Statement& statement, const Datum* values);

// Runs a command that is not to be kept: DDL, put together for the call. Raises PostgreSQL errors.
void execute(const char* sql);

// Column `column` (from 1) of row `row` of the last result.
Datum result(uint64 row, int column, bool* is_null);

// The first row of the last result as a datum of the composite type `row_type`, whose columns it
// has, in the memory context that was current at SPI_connect: what a function that returns a row
// returns. An anonymous record would be unreadable to other sessions, once stored.
Datum result_row_as_datum(Oid row_type);

}  // namespace meter::pg
