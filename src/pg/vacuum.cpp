#include "pg/vacuum.hpp"

#include <algorithm>

extern "C" {
#include "access/relation.h"
#include "access/transam.h"
#include "commands/extension.h"
#include "nodes/makefuncs.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "utils/backend_status.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

namespace meter::pg {

namespace {

// Deltas that one vacuum is to remove at least: for fewer, reading the table is dearer than they
// are. Autovacuum sees to the last ones.
constexpr uint64 kWorthwhile = 20'000;

// Deltas folded and not vacuumed yet, oldest first. A vacuum removes those whose fold every
// snapshot sees; behind a snapshot held for long it would read the table in vain.
struct Folded {
    TransactionId next_xid;  // above that of the fold and of its subtransactions
    uint64 deltas;
};
constexpr int kMaxFolded = 64;
Folded folded[kMaxFolded];
int folded_count = 0;

uint64 total() {
    uint64 sum = 0;
    for (int i = 0; i < folded_count; ++i)
        sum += folded[i].deltas;
    return sum;
}

// How many entries a vacuum could remove whose horizon is `horizon`.
int removable(TransactionId horizon) {
    int count = 0;
    while (count < folded_count && TransactionIdPrecedesOrEquals(folded[count].next_xid, horizon))
        ++count;
    return count;
}

// The oldest transaction that some snapshot may not see; invalid where the table is not there, or
// is locked.
TransactionId horizon_of(Oid table) {
    Relation relation = ConditionalLockRelationOid(table, AccessShareLock)
                            ? try_relation_open(table, NoLock)
                            : nullptr;
    if (relation == nullptr)
        return InvalidTransactionId;
    const TransactionId horizon = GetOldestNonRemovableTransactionId(relation);
    relation_close(relation, NoLock);
    return horizon;
}

Oid find_pending() {
    const Oid schema = get_namespace_oid("meter", true);
    return OidIsValid(schema) && OidIsValid(get_extension_oid("meter", true))
               ? get_relname_relid("rollup_pending", schema)
               : InvalidOid;
}

// Neither waits for a lock nor gives pages back to the file system: that takes a lock which stops
// recorders and readers, on a standby too, and the pages are needed again at once.
VacuumParams vacuum_params() {
    VacuumParams params{};
    params.options = VACOPT_VACUUM | VACOPT_SKIP_LOCKED | VACOPT_PROCESS_TOAST;
    params.freeze_min_age = -1;
    params.freeze_table_age = -1;
    params.multixact_freeze_min_age = -1;
    params.multixact_freeze_table_age = -1;
    params.log_min_duration = -1;
    params.index_cleanup = VACOPTVALUE_UNSPECIFIED;
    params.truncate = VACOPTVALUE_DISABLED;
    params.nworkers = -1;
    return params;
}

}  // namespace

void note_folded(TransactionId next_xid, uint64 deltas) {
    if (folded_count == kMaxFolded) {
        // The two oldest become one, which counts as the younger of them.
        folded[1].deltas += folded[0].deltas;
        std::copy(folded + 1, folded + folded_count, folded);
        --folded_count;
    }
    folded[folded_count++] = {next_xid, deltas};
}

bool vacuum_pending() {
    if (total() < kWorthwhile)
        return false;
    const MemoryContext context = CurrentMemoryContext;
    StartTransactionCommand();
    const Oid table = find_pending();
    const TransactionId horizon = OidIsValid(table) ? horizon_of(table) : InvalidTransactionId;
    CommitTransactionCommand();
    MemoryContextSwitchTo(context);
    if (!OidIsValid(table)) {
        folded_count = 0;
        return false;
    }
    if (!TransactionIdIsValid(horizon))
        return false;
    const int count = removable(horizon);
    uint64 deltas = 0;
    for (int i = 0; i < count; ++i)
        deltas += folded[i].deltas;
    if (deltas < kWorthwhile)
        return false;

    pgstat_report_activity(STATE_RUNNING, "vacuuming rollup_pending");
    SetCurrentStatementStartTimestamp();
    StartTransactionCommand();
    MemoryContextSwitchTo(context);
    VacuumParams params = vacuum_params();
    run_vacuum(list_make1(makeVacuumRelation(nullptr, table, NIL)), &params, context);
    CommitTransactionCommand();
    MemoryContextSwitchTo(context);
    std::copy(folded + count, folded + folded_count, folded);
    folded_count -= count;
    return true;
}

}  // namespace meter::pg
