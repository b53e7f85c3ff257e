#include "pg/query_text.hpp"

extern "C" {
#include "executor/spi.h"
#include "executor/tstoreReceiver.h"
#include "tcop/dest.h"
}

namespace meter::pg {

void start_query(QueryText* query) {
    initStringInfo(&query->sql);
    query->count = 0;
}

int add_parameter(QueryText* query, Oid type, Datum value) {
    if (query->count == QueryText::kMaxParameters)
        elog(ERROR, "too many parameters");
    query->types[query->count] = type;
    query->values[query->count] = value;
    return ++query->count;
}

void run_query(const QueryText* query, Tuplestorestate* store, MemoryContext store_context) {
    ParamListInfo parameters = makeParamList(query->count);
    for (int i = 0; i < query->count; ++i) {
        ParamExternData* parameter = &parameters->params[i];
        parameter->value = query->values[i];
        parameter->isnull = false;
        // Constants to the planner: it can leave out partitions, and hash a long list of values.
        parameter->pflags = PARAM_FLAG_CONST;
        parameter->ptype = query->types[i];
    }
    DestReceiver* receiver = CreateDestReceiver(DestTuplestore);
    SetTuplestoreDestReceiverParams(receiver, store, store_context, false, nullptr, nullptr);
    SPIExecuteOptions options{};
    options.params = parameters;
    options.read_only = true;
    options.dest = receiver;
    const int code = SPI_execute_extended(query->sql.data, &options);
    if (code != SPI_OK_SELECT)
        elog(ERROR, "cannot run \"%s\": %s", query->sql.data, SPI_result_code_string(code));
    receiver->rDestroy(receiver);
}

}  // namespace meter::pg
