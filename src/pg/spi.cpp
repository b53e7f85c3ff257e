#include "pg/spi.hpp"

extern "C" {
#include "jit/jit.h"
#include "optimizer/cost.h"
#include "utils/snapmgr.h"
#include "utils/typcache.h"
}

namespace meter::pg {

namespace {

// SPI_execute_plan() with sequential scans ruled out, and compiling too: to look up rows takes less
// time than that, whatever the planner says, which rates what is ruled out at a fantastic cost.
int execute_by_index(SPIPlanPtr plan, const Datum* values, const char* nulls, bool read_only,
                     long limit) {
    const bool session_value = enable_seqscan;
    const bool session_jit = jit_enabled;
    volatile int code = 0;
    enable_seqscan = false;
    jit_enabled = false;
    PG_TRY();
    { code = SPI_execute_plan(plan, const_cast<Datum*>(values), nulls, read_only, limit); }
    PG_FINALLY();
    {
        enable_seqscan = session_value;
        jit_enabled = session_jit;
    }
    PG_END_TRY();
    return code;
}

}  // namespace

uint64 run(Statement& statement, const Datum* values, const char* nulls, Run how, long limit) {
    // SPI would leave its own current.
    const MemoryContext caller_context = CurrentMemoryContext;
    if (statement.plan == nullptr) {
        int count = 0;
        while (count < Statement::kMaxArgs && statement.types[count] != InvalidOid)
            ++count;
        SPIPlanPtr plan = SPI_prepare_cursor(statement.sql, count, statement.types,
                                             statement.by_index ? CURSOR_OPT_GENERIC_PLAN : 0);
        if (plan == nullptr || SPI_keepplan(plan) != 0)
            elog(ERROR, "cannot prepare \"%s\": %s", statement.sql,
                 SPI_result_code_string(SPI_result));
        statement.plan = plan;
    }
    if (how == Run::kLatest)
        PushActiveSnapshot(GetLatestSnapshot());
    const bool read_only = how != Run::kWrite;
    const int code =
        statement.by_index
            ? execute_by_index(statement.plan, values, nulls, read_only, limit)
            : SPI_execute_plan(statement.plan, const_cast<Datum*>(values), nulls, read_only, limit);
    if (how == Run::kLatest)
        PopActiveSnapshot();
    MemoryContextSwitchTo(caller_context);
    if (code < 0)
        elog(ERROR, "cannot run \"%s\": %s", statement.sql, SPI_result_code_string(code));
    return SPI_processed;
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
