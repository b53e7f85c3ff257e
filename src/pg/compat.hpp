// PostgreSQL's headers, and what differs between its versions. PG_VERSION_NUM stands here alone.
//
// Every glue file includes this first: PostgreSQL's headers in one extern "C" block, with the
// macros that C++ or the standard library would trip over taken away.
#pragma once

extern "C" {
#include "postgres.h"

#include "access/genam.h"
#include "access/nbtree.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/sequence.h"
#include "commands/vacuum.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "storage/bufmgr.h"
#include "storage/smgr.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif
}

// port.h redirects these to PostgreSQL's own printf family; <string> and <cstdio> need the names.
#undef printf
#undef fprintf
#undef sprintf
#undef snprintf
#undef vprintf
#undef vfprintf
#undef vsprintf
#undef vsnprintf
#undef strerror
#undef strerror_r
// libintl's, under --enable-nls.
#undef gettext
#undef dgettext
#undef ngettext
#undef dngettext

// Before 16, PGDLLEXPORT is empty, and -fvisibility=hidden would hide the entry points.
#if PG_VERSION_NUM < 160000
#undef PGDLLEXPORT
#define PGDLLEXPORT __attribute__((visibility("default")))
#endif

namespace meter::pg {

// Resolves unqualified names in pg_catalog alone until pop_search_path() or the end of the
// (sub)transaction. The search path is part of what a cached plan was made for, so pinning it also
// keeps a client that changes its search_path from throwing our plans away. It is the setting that
// is pinned: what our statements fire, triggers and event triggers, may SET a search_path of its
// own, which PushOverrideSearchPath(), gone in 17, would silently ignore.
inline constexpr char kPinnedSearchPath[] = "pg_catalog, pg_temp";

inline int push_search_path() {
    const int level = NewGUCNestLevel();
    (void)set_config_option("search_path", kPinnedSearchPath, PGC_USERSET, PGC_S_SESSION,
                            GUC_ACTION_SAVE, true, 0, false);
    return level;
}

inline void pop_search_path(int level) {
    AtEOXact_GUC(false, level);
}

// The same for what may or may not run with the search path pinned already; kNotPushed then.
inline constexpr int kNotPushed = 0;

inline int pin_search_path() {
    return strcmp(namespace_search_path, kPinnedSearchPath) == 0 ? kNotPushed : push_search_path();
}

inline void unpin_search_path(int level) {
    if (level != kNotPushed)
        pop_search_path(level);
}

// Makes an unknown setting with this prefix a warning.
inline void reserve_setting_prefix(const char* prefix) {
#if PG_VERSION_NUM >= 150000
    MarkGUCPrefixReserved(prefix);
#else
    EmitWarningsOnPlaceholders(prefix);
#endif
}

// VACUUM for these relations, a list of VacuumRelation. Ends the current transaction, runs its own,
// and begins another. `context` lives longer than any of them. Raises PostgreSQL errors.
inline void run_vacuum(List* relations, VacuumParams* params, MemoryContext context) {
#if PG_VERSION_NUM >= 160000
    params->options |= VACOPT_PROCESS_MAIN | VACOPT_SKIP_DATABASE_STATS;
    vacuum(relations, params, nullptr, context, true);
#else
    // It makes a context of its own, a child of this one.
    PortalContext = context;
    vacuum(relations, params, nullptr, true);
    PortalContext = nullptr;
#endif
}

// index_beginscan() without ORDER BY.
inline IndexScanDesc begin_index_scan(Relation relation, Relation index, Snapshot snapshot,
                                      int keys) {
#if PG_VERSION_NUM >= 180000
    return index_beginscan(relation, index, snapshot, nullptr, keys, 0);
#else
    return index_beginscan(relation, index, snapshot, keys, 0);
#endif
}

// After the last index_insert() with this IndexInfo: since 17 an index may keep pages pinned until
// then, as BRIN does.
inline void end_index_inserts(Relation index, IndexInfo* info) {
#if PG_VERSION_NUM >= 170000
    index_insert_cleanup(index, info);
#endif
}

// START_CRIT_SECTION() and END_CRIT_SECTION(), which count in a volatile variable by operators that
// C++20 deprecates for those. An error in between is a PANIC.
inline void begin_critical_section() {
    CritSectionCount = CritSectionCount + 1;
}

inline void end_critical_section() {
    Assert(CritSectionCount > 0);
    CritSectionCount = CritSectionCount - 1;
}

// The leaf of a B-tree on which the key belongs, or the first of them, locked for BT_READ or
// BT_WRITE. The result is to be freed by _bt_freestack(); nullptr: the leaf is the root.
inline BTStack find_btree_leaf(Relation index, Relation table, BTScanInsert key, Buffer* leaf,
                               int access) {
#if PG_VERSION_NUM >= 170000
    return _bt_search(index, table, key, leaf, access);
#elif PG_VERSION_NUM >= 160000
    return _bt_search(index, table, key, leaf, access, nullptr);
#else
    (void)table;
    return _bt_search(index, key, leaf, access, nullptr);
#endif
}

// The root of a B-tree, locked for BT_READ; InvalidBuffer: the tree is empty.
inline Buffer btree_root(Relation index, Relation table) {
#if PG_VERSION_NUM >= 160000
    return _bt_getroot(index, table, BT_READ);
#else
    (void)table;
    return _bt_getroot(index, BT_READ);
#endif
}

// The head of a WAL record about a sequence.
inline xl_seq_rec sequence_record(Relation sequence) {
    xl_seq_rec record;
#if PG_VERSION_NUM >= 160000
    record.locator = sequence->rd_locator;
#else
    record.node = sequence->rd_node;
#endif
    return record;
}

// The indexes that need an entry for a row that was written over another. Since 16, a heap-only
// row may need one in those that summarize blocks, as BRIN does, and must have none in the others.
enum class NewEntries { kNone, kSummarizing, kAll };

// Enters a row that is stored already into indexes of its table; `update`: its key is that of
// the row before. Raises PostgreSQL errors.
inline void insert_index_entries(ResultRelInfo* result, TupleTableSlot* slot, EState* estate,
                                 bool update, NewEntries entries = NewEntries::kAll) {
    if (entries == NewEntries::kNone)
        return;
#if PG_VERSION_NUM >= 160000
    (void)ExecInsertIndexTuples(result, slot, estate, update, false, nullptr, NIL,
                                entries == NewEntries::kSummarizing);
#else
    (void)ExecInsertIndexTuples(result, slot, estate, update, false, nullptr, NIL);
#endif
}

// Whether a table has the block, without asking the operating system each time: since a table was
// made shorter, which takes a lock that excludes ours, nothing is known of its length.
inline bool has_block(Relation relation, BlockNumber block) {
#if PG_VERSION_NUM >= 150000
    const SMgrRelation storage = RelationGetSmgr(relation);
#else
    RelationOpenSmgr(relation);
    const SMgrRelation storage = relation->rd_smgr;
#endif
    const BlockNumber known = storage->smgr_cached_nblocks[MAIN_FORKNUM];
    return (known != InvalidBlockNumber && block < known) ||
           block < RelationGetNumberOfBlocks(relation);
}

// Writes a row over another; false where that is no longer the latest version.
inline bool update_tuple(Relation relation, ItemPointer tid, TupleTableSlot* slot,
                         Snapshot snapshot, NewEntries* new_entries) {
#if PG_VERSION_NUM >= 160000
    TU_UpdateIndexes update_indexes = TU_None;
#else
    bool update_indexes = false;
#endif
    TM_FailureData failure;
    LockTupleMode lock_mode;
    const TM_Result outcome =
        table_tuple_update(relation, tid, slot, GetCurrentCommandId(true), snapshot,
                           InvalidSnapshot, true, &failure, &lock_mode, &update_indexes);
#if PG_VERSION_NUM >= 160000
    *new_entries = update_indexes == TU_All           ? NewEntries::kAll
                   : update_indexes == TU_Summarizing ? NewEntries::kSummarizing
                                                      : NewEntries::kNone;
#else
    *new_entries = update_indexes ? NewEntries::kAll : NewEntries::kNone;
#endif
    return outcome == TM_Ok;
}

}  // namespace meter::pg
