#include "pg/limit_table.hpp"

#include <cstring>

#include "pg/catalog.hpp"
#include "pg/table_writer.hpp"
#include "pg/values.hpp"

extern "C" {
#include "access/table.h"
#include "catalog/pg_am.h"
#include "catalog/pg_type.h"
#include "nodes/execnodes.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/numeric.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
}

namespace meter::pg {

namespace {

enum { kStart, kMeter, kPeriod, kUser, kUsage, kColumns };

struct Column {
    const char* name;
    Oid type;
};
constexpr Column kLimitColumns[kColumns] = {{"period_start", TIMESTAMPTZOID},
                                            {"meter_id", INT4OID},
                                            {"period", CHAROID},
                                            {"user_id", TEXTOID},
                                            {"usage", NUMERICOID}};

// The columns of the key, and the functions that compare them.
struct KeyColumn {
    int column;
    Oid equal;
};
constexpr KeyColumn kKey[] = {
    {kMeter, F_INT4EQ}, {kUser, F_TEXTEQ}, {kPeriod, F_CHAREQ}, {kStart, F_TIMESTAMPTZ_EQ}};

bool is_plain(Relation relation) {
    const FormData_pg_class* table = relation->rd_rel;
    const TupleDesc descriptor = RelationGetDescr(relation);
    constexpr AclMode kRights = ACL_SELECT | ACL_INSERT | ACL_UPDATE;
    // Whether an update may be published, where no key identifies the row, is the executor's
    // matter.
    if (table->relkind != RELKIND_RELATION || table->relam != HEAP_TABLE_AM_OID ||
        table->relreplident != REPLICA_IDENTITY_DEFAULT || relation->trigdesc != nullptr ||
        relation->rd_rules != nullptr || table->relrowsecurity ||
        (descriptor->constr != nullptr && descriptor->constr->num_check != 0) ||
        descriptor->natts != kColumns)
        return false;
    for (int i = 0; i < kColumns; ++i) {
        const FormData_pg_attribute* column = TupleDescAttr(descriptor, i);
        if (column->attisdropped || column->attgenerated != '\0' ||
            column->atttypid != kLimitColumns[i].type || column->atttypmod != -1 ||
            std::strcmp(NameStr(column->attname), kLimitColumns[i].name) != 0)
            return false;
    }
    return pg_class_aclmask(RelationGetRelid(relation), GetUserId(), kRights, ACLMASK_ALL) ==
           kRights;
}

// Whether the index is on the columns of kKey, in their order.
bool is_our_key(Relation index) {
    const FormData_pg_index* form = index->rd_index;
    if (form->indnkeyatts != lengthof(kKey) || !form->indisvalid ||
        index->rd_rel->relam != BTREE_AM_OID)
        return false;
    for (int i = 0; i < static_cast<int>(lengthof(kKey)); ++i)
        if (form->indkey.values[i] != kKey[i].column + 1)
            return false;
    return true;
}

// The table, open, and a look at it for one counter.
struct Look {
    Relation relation;
    Relation key;
    IndexScanDesc scan;
    TupleTableSlot* found;
    SnapshotData snapshot;
    ScanKeyData keys[lengthof(kKey)];
};

// Opens the table; nullptr where it cannot be done without the executor.
Look* begin_look(const LimitCounter& counter) {
    if (!direct_insert_allowed() || IsolationUsesXactSnapshot())
        return nullptr;
    const Relation relation = try_table_open(relations().limit_usage, RowExclusiveLock);
    if (relation == nullptr)
        return nullptr;
    (void)RelationGetIndexList(relation);  // finds rd_pkindex
    const Relation key = is_plain(relation) && OidIsValid(relation->rd_pkindex)
                             ? index_open(relation->rd_pkindex, RowExclusiveLock)
                             : nullptr;
    if (key == nullptr || !is_our_key(key)) {
        if (key != nullptr)
            index_close(key, NoLock);
        table_close(relation, NoLock);
        return nullptr;
    }
    auto* look = static_cast<Look*>(palloc0(sizeof(Look)));
    look->relation = relation;
    look->key = key;
    const Datum values[] = {Int32GetDatum(counter.meter_id), counter.user,
                            CharGetDatum(static_cast<char>(counter.period)),
                            TimestampTzGetDatum(stored_start(counter.span))};
    for (int i = 0; i < static_cast<int>(lengthof(kKey)); ++i)
        ScanKeyEntryInitialize(&look->keys[i], 0, static_cast<AttrNumber>(i + 1),
                               BTEqualStrategyNumber, InvalidOid, key->rd_indcollation[i],
                               kKey[i].equal, values[i]);
    // It sees what is committed, what this transaction did, and what others are about to do.
    InitDirtySnapshot(look->snapshot);
    look->found = table_slot_create(relation, nullptr);
    look->scan = begin_index_scan(relation, key, &look->snapshot, lengthof(kKey));
    return look;
}

void end_look(Look* look) {
    ExecDropSingleTupleTableSlot(look->found);
    index_endscan(look->scan);
    index_close(look->key, NoLock);
    table_close(look->relation, NoLock);
    pfree(look);
}

bool find_row(Look* look) {
    index_rescan(look->scan, look->keys, lengthof(kKey), nullptr, 0);
    return index_getnext_slot(look->scan, ForwardScanDirection, look->found);
}

// Locks the row that was found, in its latest version, waiting for those who are about to change
// it. False: look again.
bool lock_row(Look* look) {
    const TransactionId writer = look->snapshot.xmin;
    ItemPointerData tid = look->found->tts_tid;
    // Who waits has no page pinned: VACUUM may need it to itself.
    ExecClearTuple(look->found);
    index_rescan(look->scan, look->keys, lengthof(kKey), nullptr, 0);
    if (TransactionIdIsValid(writer)) {
        // It is about to be there. Whoever writes it may have a version before it, too.
        XactLockTableWait(writer, look->relation, nullptr, XLTW_None);
        return false;
    }
    TM_FailureData failure;
    return table_tuple_lock(look->relation, &tid, GetActiveSnapshot(), look->found,
                            GetCurrentCommandId(true), LockTupleNoKeyExclusive, LockWaitBlock,
                            TUPLE_LOCK_FLAG_FIND_LAST_VERSION, &failure) == TM_Ok;
}

// Writes `usage` over the row that was found; false where another one was quicker.
bool write_usage(Look* look, Datum usage) {
    TupleTableSlot* changed =
        MakeSingleTupleTableSlot(RelationGetDescr(look->relation), &TTSOpsVirtual);
    ItemPointerData tid = look->found->tts_tid;
    std::memcpy(changed->tts_values, look->found->tts_values, kColumns * sizeof(Datum));
    std::memcpy(changed->tts_isnull, look->found->tts_isnull, kColumns);
    changed->tts_values[kUsage] = usage;
    ExecStoreVirtualTuple(changed);
    bool new_entries = false;
    const bool done =
        update_tuple(look->relation, &tid, changed, GetActiveSnapshot(), &new_entries);
    if (done && new_entries) {
        EState* estate = CreateExecutorState();
        auto* result = makeNode(ResultRelInfo);
        InitResultRelInfo(result, look->relation, 0, nullptr, 0);
        ExecOpenIndices(result, false);
        insert_index_entries(result, changed, estate, true);
        ExecCloseIndices(result);
        FreeExecutorState(estate);
    }
    ExecDropSingleTupleTableSlot(changed);
    return done;
}

}  // namespace

CounterChange raise_directly(const LimitCounter& counter, Datum more, bool refuse, Datum* usage) {
    Look* look = begin_look(counter);
    if (look == nullptr)
        return CounterChange::kUnfit;
    CounterChange outcome = CounterChange::kMissing;
    bool in_line = false;  // to wait for our turn, and not to lose the row once more
    for (;;) {
        CHECK_FOR_INTERRUPTS();
        if (!find_row(look))
            break;
        const bool contested =
            TransactionIdIsValid(look->snapshot.xmin) || TransactionIdIsValid(look->snapshot.xmax);
        if ((contested || in_line) && !lock_row(look))
            continue;
        slot_getallattrs(look->found);
        const Datum old = look->found->tts_values[kUsage];
        if (refuse && exceeds(counter, old, more)) {
            *usage = datumCopy(old, false, -1);
            outcome = CounterChange::kOver;
            break;
        }
        if (write_usage(look, DirectFunctionCall2(numeric_add, old, more))) {
            outcome = CounterChange::kDone;
            break;
        }
        in_line = true;
    }
    end_look(look);
    if (outcome == CounterChange::kDone)
        CommandCounterIncrement();
    return outcome;
}

CounterChange look_for_counter(const LimitCounter& counter) {
    Look* look = begin_look(counter);
    if (look == nullptr)
        return CounterChange::kUnfit;
    // One that is about to be there is not there yet: making it waits for what comes of it.
    const bool found = find_row(look) && !TransactionIdIsValid(look->snapshot.xmin);
    end_look(look);
    return found ? CounterChange::kDone : CounterChange::kMissing;
}

}  // namespace meter::pg
