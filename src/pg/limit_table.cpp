#include "pg/limit_table.hpp"

#include <cstring>

#include "pg/catalog.hpp"
#include "pg/memory.hpp"
#include "pg/table_writer.hpp"
#include "pg/values.hpp"

extern "C" {
#include "access/heapam.h"
#include "access/relscan.h"
#include "access/table.h"
#include "catalog/pg_am.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "nodes/execnodes.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/numeric.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
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

// What was found out about the table, until something about it, or about a role, changes.
struct Known {
    bool valid;
    Oid table;
    Oid role;  // on whose behalf it is read and written
    Oid key;   // InvalidOid: it is not to be done without the executor
};
Known known;

// Where the index has led to, by hashes of counters: what is there says itself whether it is the
// counter. Most sessions come back to the same ones.
struct Place {
    uint64 hash;
    ItemPointerData tid;
};
constexpr uint64 kPlaces = 8192;
Place places[kPlaces];
bool places_known = false;

void on_relation_change(Datum, Oid relation) {
    if (relation == InvalidOid || relation == known.table || relation == known.key) {
        known.valid = false;
        places_known = false;
    }
}

void on_role_change(Datum, int, uint32) {
    known.valid = false;
}

void register_callbacks() {
    static bool registered = false;
    if (registered)
        return;
    CacheRegisterRelcacheCallback(on_relation_change, 0);
    CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, on_role_change, 0);
    CacheRegisterSyscacheCallback(AUTHOID, on_role_change, 0);
    registered = true;
}

// The index that is our key; InvalidOid where the table, which is open, is not plain.
Oid find_key(Relation relation) {
    register_callbacks();
    const Oid table = RelationGetRelid(relation);
    if (known.valid && known.table == table && known.role == GetUserId())
        return known.key;
    known = {true, table, GetUserId(), InvalidOid};
    (void)RelationGetIndexList(relation);  // finds rd_pkindex
    if (!is_plain(relation) || !OidIsValid(relation->rd_pkindex))
        return InvalidOid;
    const Relation key = index_open(relation->rd_pkindex, RowExclusiveLock);
    const Oid found = is_our_key(key) ? RelationGetRelid(key) : InvalidOid;
    index_close(key, NoLock);
    known.key = found;
    return found;
}

// The table, open, and a look at it for one counter.
struct Look {
    const LimitCounter* counter;
    Relation relation;
    Oid key_index;
    Place* place;
    uint64 hash;
    Relation key;        // what is needed where the place is not known; else nullptr
    IndexScanDesc scan;  // the same
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
    const Oid key_index = find_key(relation);
    if (!OidIsValid(key_index)) {
        table_close(relation, NoLock);
        return nullptr;
    }
    if (!places_known) {
        std::memset(places, 0, sizeof places);
        places_known = true;
    }
    auto* look = static_cast<Look*>(palloc0(sizeof(Look)));
    look->counter = &counter;
    look->relation = relation;
    look->key_index = key_index;
    const std::string_view user = text_view(counter.user);
    const uint64 seed = static_cast<uint64>(counter.span.start) ^
                        (static_cast<uint64>(counter.meter_id) << 32) ^
                        static_cast<uint64>(counter.period);
    look->hash = hash_bytes_extended(reinterpret_cast<const unsigned char*>(user.data()),
                                     static_cast<int>(user.size()), seed);
    look->place = &places[look->hash % kPlaces];
    // It sees what is committed, what this transaction did, and what others are about to do.
    InitDirtySnapshot(look->snapshot);
    look->found = table_slot_create(relation, nullptr);
    return look;
}

// Opens the index.
void begin_scan(Look* look) {
    const LimitCounter& counter = *look->counter;
    look->key = index_open(look->key_index, RowExclusiveLock);
    const Datum values[] = {Int32GetDatum(counter.meter_id), counter.user,
                            CharGetDatum(static_cast<char>(counter.period)),
                            TimestampTzGetDatum(stored_start(counter.span))};
    for (int i = 0; i < static_cast<int>(lengthof(kKey)); ++i)
        ScanKeyEntryInitialize(&look->keys[i], 0, static_cast<AttrNumber>(i + 1),
                               BTEqualStrategyNumber, InvalidOid, look->key->rd_indcollation[i],
                               kKey[i].equal, values[i]);
    look->scan = begin_index_scan(look->relation, look->key, &look->snapshot, lengthof(kKey));
}

void end_look(Look* look) {
    ExecDropSingleTupleTableSlot(look->found);
    if (look->scan != nullptr)
        index_endscan(look->scan);
    if (look->key != nullptr)
        index_close(look->key, NoLock);
    table_close(look->relation, NoLock);
    pfree(look);
}

// Reads the row that an entry of the index leads to, and leaves a copy of it: no page is pinned
// then. The table has its pages half empty, and would be tidied with each look at one; here, once
// a page is nearly full.
bool read_row(Look* look, ItemPointerData tid, bool* all_dead) {
    constexpr Size kLittleRoom = BLCKSZ / 8;
    const Buffer buffer = ReadBuffer(look->relation, ItemPointerGetBlockNumber(&tid));
    if (PageGetHeapFreeSpace(BufferGetPage(buffer)) < kLittleRoom)
        heap_page_prune_opt(look->relation, buffer);
    HeapTupleData row;
    LockBuffer(buffer, BUFFER_LOCK_SHARE);
    const bool found =
        heap_hot_search_buffer(&tid, look->relation, buffer, &look->snapshot, &row, all_dead, true);
    if (found) {
        ExecForceStoreHeapTuple(&row, look->found, false);
        look->found->tts_tid = row.t_self;
    }
    UnlockReleaseBuffer(buffer);
    return found;
}

// Whether the row that was read is the counter.
bool is_counter(Look* look) {
    const LimitCounter& counter = *look->counter;
    slot_getallattrs(look->found);
    const Datum* values = look->found->tts_values;
    return DatumGetInt32(values[kMeter]) == counter.meter_id &&
           DatumGetChar(values[kPeriod]) == static_cast<char>(counter.period) &&
           DatumGetTimestampTz(values[kStart]) == stored_start(counter.span) &&
           text_view(values[kUser]) == text_view(counter.user);
}

// Finds the row where it was before. A table that has become shorter has nothing there.
bool find_again(Look* look) {
    if (look->place->hash != look->hash || !ItemPointerIsValid(&look->place->tid) ||
        !has_block(look->relation, ItemPointerGetBlockNumber(&look->place->tid)))
        return false;
    bool all_dead = false;
    return read_row(look, look->place->tid, &all_dead) && is_counter(look);
}

// Finds the row.
bool find_row(Look* look) {
    if (find_again(look))
        return true;
    if (look->scan == nullptr)
        begin_scan(look);
    index_rescan(look->scan, look->keys, lengthof(kKey), nullptr, 0);
    bool found = false;
    while (!found) {
        const ItemPointer entry = index_getnext_tid(look->scan, ForwardScanDirection);
        if (entry == nullptr)
            break;
        const ItemPointerData tid = *entry;
        bool all_dead = false;
        found = read_row(look, tid, &all_dead);
        if (found)
            *look->place = {look->hash, tid};
        look->scan->kill_prior_tuple = all_dead;
    }
    // It has no page pinned, either: VACUUM may need it to itself, while we wait.
    index_rescan(look->scan, look->keys, lengthof(kKey), nullptr, 0);
    return found;
}

// Locks the row that was found, in its latest version, waiting for those who are about to change
// it. False: look again.
bool lock_row(Look* look) {
    const TransactionId writer = look->snapshot.xmin;
    ItemPointerData tid = look->found->tts_tid;
    ExecClearTuple(look->found);
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
    NewEntries new_entries = NewEntries::kNone;
    const bool done =
        update_tuple(look->relation, &tid, changed, GetActiveSnapshot(), &new_entries);
    if (done && new_entries != NewEntries::kNone) {
        // What somebody's index is on may be code that looks names up.
        const int search_path = pin_search_path();
        EState* estate = CreateExecutorState();
        auto* result = makeNode(ResultRelInfo);
        InitResultRelInfo(result, look->relation, 0, nullptr, 0);
        ExecOpenIndices(result, false);
        insert_index_entries(result, changed, estate, true, new_entries);
        ExecCloseIndices(result);
        FreeExecutorState(estate);
        unpin_search_path(search_path);
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
        const Datum sum = DirectFunctionCall2(numeric_add, old, more);
        if (refuse && is_too_much(counter, sum, more)) {
            *usage = datumCopy(old, false, -1);
            outcome = CounterChange::kOver;
            break;
        }
        if (write_usage(look, sum)) {
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
