#include "pg/set_result.hpp"

#include "pg/spi.hpp"

namespace meter::pg {

SetResult begin_set(FunctionCallInfo fcinfo) {
    auto* info = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
    if (info == nullptr || !IsA(info, ReturnSetInfo) || !(info->allowedModes & SFRM_Materialize))
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("set-valued function called in a context that cannot accept a set"),
                        errhint("Call it in FROM.")));
    // What the query's memory is not to keep for each call, it may be one a row, is made in the
    // caller's. The copy is freed by the executor.
    TupleDesc expected;
    if (get_call_result_type(fcinfo, nullptr, &expected) == TYPEFUNC_SCALAR)
        expected = info->expectedDesc;
    SetResult set;
    set.context = info->econtext->ecxt_per_query_memory;
    const MemoryContext caller_context = MemoryContextSwitchTo(set.context);
    set.descriptor = CreateTupleDescCopy(expected);
    if (expected != info->expectedDesc)
        BlessTupleDesc(set.descriptor);
    set.store =
        tuplestore_begin_heap((info->allowedModes & SFRM_Materialize_Random) != 0, false, work_mem);
    info->returnMode = SFRM_Materialize;
    info->setResult = set.store;
    info->setDesc = set.descriptor;
    MemoryContextSwitchTo(caller_context);
    return set;
}

void put_spi_rows(const SetResult& set) {
    for (uint64 row = 0; row < SPI_processed; ++row)
        tuplestore_puttuple(set.store, SPI_tuptable->vals[row]);
}

}  // namespace meter::pg
