#include "pg/spi.hpp"

extern "C" {
#include "jit/jit.h"
#include "optimizer/cost.h"
#include "utils/snapmgr.h"
#include "utils/typcache.h"
}

namespace meter::pg {

namespace {

// Calls `body` with sequential scans ruled out, and compiling too: to look up rows takes less time
// than that, whatever the planner says, which rates what is ruled out at a fantastic cost.
template <typename Body>
void plan_by_index(Body&& body) {
    const bool session_value = enable_seqscan;
    const bool session_jit = jit_enabled;
    enable_seqscan = false;
    jit_enabled = false;
    PG_TRY();
    { body(); }
    PG_FINALLY();
    {
        enable_seqscan = session_value;
        jit_enabled = session_jit;
    }
    PG_END_TRY();
}

void prepare(Statement& statement) {
    if (statement.plan != nullptr)
        return;
    int count = 0;
    while (count < Statement::kMaxArgs && statement.types[count] != InvalidOid)
        ++count;
    SPIPlanPtr plan = SPI_prepare_cursor(statement.sql, count, statement.types,
                                         statement.by_index ? CURSOR_OPT_GENERIC_PLAN : 0);
    if (plan == nullptr || SPI_keepplan(plan) != 0)
        elog(ERROR, "cannot prepare \"%s\": %s", statement.sql, SPI_result_code_string(SPI_result));
    statement.plan = plan;
}

}  // namespace

uint64 run(Statement& statement, const Datum* values, const char* nulls, Run how, long limit) {
    // SPI would leave its own current.
    const MemoryContext caller_context = CurrentMemoryContext;
    const int search_path = pin_search_path();
    prepare(statement);
    if (how == Run::kLatest)
        PushActiveSnapshot(GetLatestSnapshot());
    const bool read_only = how != Run::kWrite;
    int code = 0;
    const auto execute = [&] {
        code =
            SPI_execute_plan(statement.plan, const_cast<Datum*>(values), nulls, read_only, limit);
    };
    if (statement.by_index)
        plan_by_index(execute);
    else
        execute();
    if (how == Run::kLatest)
        PopActiveSnapshot();
    unpin_search_path(search_path);
    MemoryContextSwitchTo(caller_context);
    if (code < 0)
        elog(ERROR, "cannot run \"%s\": %s", statement.sql, SPI_result_code_string(code));
    return SPI_processed;
}

Portal open_cursor(Statement& statement, const Datum* values) {
    const MemoryContext caller_context = CurrentMemoryContext;
    prepare(statement);
    Portal portal = nullptr;
    const auto open = [&] {
        portal =
            SPI_cursor_open(nullptr, statement.plan, const_cast<Datum*>(values), nullptr, false);
    };
    if (statement.by_index)
        plan_by_index(open);
    else
        open();
    MemoryContextSwitchTo(caller_context);
    return portal;
}

void execute(const char* sql) {
    const int code = SPI_execute(sql, false, 0);
    if (code < 0)
        elog(ERROR, "cannot run \"%s\": %s", sql, SPI_result_code_string(code));
}

Datum result(uint64 row, int column, bool* is_null) {
    return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, is_null);
}

Datum result_row_as_datum(Oid row_type) {
    const TupleDesc descriptor = lookup_rowtype_tupdesc_copy(row_type, -1);
    return PointerGetDatum(SPI_returntuple(SPI_tuptable->vals[0], descriptor));
}

}  // namespace meter::pg
