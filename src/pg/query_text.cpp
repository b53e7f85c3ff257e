#include "pg/query_text.hpp"

#include <algorithm>
#include <cstring>

extern "C" {
#include "executor/spi.h"
#include "executor/tstoreReceiver.h"
#include "optimizer/cost.h"
#include "tcop/dest.h"
#include "utils/memutils.h"
}

namespace meter::pg {

void start_query(QueryText* query) {
    initStringInfo(&query->sql);
    query->count = 0;
    query->hashes = false;
}

int add_parameter(QueryText* query, Oid type, Datum value) {
    if (query->count == QueryText::kMaxParameters)
        elog(ERROR, "too many parameters");
    query->types[query->count] = type;
    query->values[query->count] = value;
    return ++query->count;
}

namespace {

// A plan that is kept, and what it is of.
struct KeptPlan {
    char* sql;
    int count;
    Oid types[QueryText::kMaxParameters];
    SPIPlanPtr plan;
    uint64 used;  // when last, by a counter of uses
};

// The text says what a question tells apart, not what it asks for: a session has few.
constexpr int kMostPlans = 64;
KeptPlan* kept_plans[kMostPlans];
uint64 uses = 0;

// The slot of the query's plan, or where it has none, of the one that was not used the longest.
KeptPlan** find_slot(const QueryText* query) {
    KeptPlan** oldest = &kept_plans[0];
    for (KeptPlan*& kept : kept_plans) {
        if (kept == nullptr)
            return &kept;
        if (kept->count == query->count && std::strcmp(kept->sql, query->sql.data) == 0 &&
            std::equal(query->types, query->types + query->count, kept->types))
            return &kept;
        if (kept->used < (*oldest)->used)
            oldest = &kept;
    }
    SPI_freeplan((*oldest)->plan);
    pfree((*oldest)->sql);
    pfree(*oldest);
    // No hole is left where preparing the new one fails.
    KeptPlan** last = std::find(kept_plans, kept_plans + kMostPlans, nullptr) - 1;
    *oldest = *last;
    *last = nullptr;
    return last;
}

// The plan of the query, prepared where it was not yet.
SPIPlanPtr plan_of(const QueryText* query) {
    KeptPlan** slot = find_slot(query);
    if (*slot == nullptr) {
        const SPIPlanPtr plan =
            SPI_prepare_cursor(query->sql.data, query->count, const_cast<Oid*>(query->types),
                               CURSOR_OPT_GENERIC_PLAN | CURSOR_OPT_PARALLEL_OK);
        if (plan == nullptr)
            elog(ERROR, "cannot prepare \"%s\": %s", query->sql.data,
                 SPI_result_code_string(SPI_result));
        auto* kept =
            static_cast<KeptPlan*>(MemoryContextAllocZero(TopMemoryContext, sizeof(KeptPlan)));
        kept->sql = MemoryContextStrdup(TopMemoryContext, query->sql.data);
        kept->count = query->count;
        std::copy(query->types, query->types + query->count, kept->types);
        SPI_keepplan(plan);
        kept->plan = plan;
        *slot = kept;
    }
    (*slot)->used = ++uses;
    return (*slot)->plan;
}

// Runs the kept plan, made with sequential scans ruled out: a session keeps it, and the tables grow
// under it.
int execute_kept(const QueryText* query, const SPIExecuteOptions* options) {
    const SPIPlanPtr plan = plan_of(query);
    const bool session_value = enable_seqscan;
    const bool session_sort = enable_sort;
    volatile int code = 0;
    enable_seqscan = false;
    if (query->hashes)
        enable_sort = false;
    PG_TRY();
    { code = SPI_execute_plan_extended(plan, options); }
    PG_FINALLY();
    {
        enable_seqscan = session_value;
        enable_sort = session_sort;
    }
    PG_END_TRY();
    return code;
}

}  // namespace

void run_query(const QueryText* query, Planning planning, Tuplestorestate* store,
               MemoryContext store_context) {
    ParamListInfo parameters = makeParamList(query->count);
    for (int i = 0; i < query->count; ++i) {
        ParamExternData* parameter = &parameters->params[i];
        parameter->value = query->values[i];
        parameter->isnull = false;
        parameter->pflags = PARAM_FLAG_CONST;
        parameter->ptype = query->types[i];
    }
    DestReceiver* receiver = CreateDestReceiver(DestTuplestore);
    SetTuplestoreDestReceiverParams(receiver, store, store_context, false, nullptr, nullptr);
    SPIExecuteOptions options{};
    options.params = parameters;
    options.read_only = true;
    options.dest = receiver;
    const int search_path = pin_search_path();
    const int code = planning == Planning::kOnce ? execute_kept(query, &options)
                                                 : SPI_execute_extended(query->sql.data, &options);
    unpin_search_path(search_path);
    if (code != SPI_OK_SELECT)
        elog(ERROR, "cannot run \"%s\": %s", query->sql.data, SPI_result_code_string(code));
    receiver->rDestroy(receiver);
}

}  // namespace meter::pg
