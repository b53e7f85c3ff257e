#include "pg/spi.hpp"

extern "C" {
#include "utils/snapmgr.h"
#include "utils/typcache.h"
}

namespace meter::pg {

uint64 run(Statement& statement, const Datum* values, const char* nulls, Run how, long limit) {
    if (statement.plan == nullptr) {
        int count = 0;
        while (count < Statement::kMaxArgs && statement.types[count] != InvalidOid)
            ++count;
        SPIPlanPtr plan = SPI_prepare(statement.sql, count, statement.types);
        if (plan == nullptr || SPI_keepplan(plan) != 0)
            elog(ERROR, "cannot prepare \"%s\": %s", statement.sql,
                 SPI_result_code_string(SPI_result));
        statement.plan = plan;
    }
    if (how == Run::kLatest)
        PushActiveSnapshot(GetLatestSnapshot());
    const int code = SPI_execute_plan(statement.plan, const_cast<Datum*>(values), nulls,
                                      how != Run::kWrite, limit);
    if (how == Run::kLatest)
        PopActiveSnapshot();
    if (code < 0)
        elog(ERROR, "cannot run \"%s\": %s", statement.sql, SPI_result_code_string(code));
    return SPI_processed;
}

Datum result(uint64 row, int column, bool* is_null) {
    return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, is_null);
}

Datum result_row_as_datum(Oid row_type) {
    const TupleDesc descriptor = lookup_rowtype_tupdesc_copy(row_type, -1);
    return PointerGetDatum(SPI_returntuple(SPI_tuptable->vals[0], descriptor));
}

}  // namespace meter::pg
