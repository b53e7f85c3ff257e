#include "pg/event_query.hpp"

#include "pg/catalog.hpp"

extern "C" {
#include "access/genam.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_inherits.h"
#include "partitioning/partdesc.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
}

#include <algorithm>

namespace meter::pg {

namespace {

struct Oids {
    int count;
    Oid* items;
};

// The partitions of `parent` by the active snapshot, ascending.
Oids partitions_by_snapshot(Oid parent) {
    int capacity = 64;
    Oids oids{0, static_cast<Oid*>(palloc(static_cast<Size>(capacity) * sizeof(Oid)))};
    const Relation inherits = table_open(InheritsRelationId, AccessShareLock);
    ScanKeyData key;
    ScanKeyInit(&key, Anum_pg_inherits_inhparent, BTEqualStrategyNumber, F_OIDEQ,
                ObjectIdGetDatum(parent));
    const SysScanDesc scan =
        systable_beginscan(inherits, InheritsParentIndexId, true, GetActiveSnapshot(), 1, &key);
    while (const HeapTuple tuple = systable_getnext(scan)) {
        if (oids.count == capacity) {
            capacity *= 2;
            oids.items =
                static_cast<Oid*>(repalloc(oids.items, static_cast<Size>(capacity) * sizeof(Oid)));
        }
        oids.items[oids.count++] = reinterpret_cast<Form_pg_inherits>(GETSTRUCT(tuple))->inhrelid;
    }
    systable_endscan(scan);
    table_close(inherits, AccessShareLock);
    std::sort(oids.items, oids.items + oids.count);
    return oids;
}

}  // namespace

bool snapshot_knows_partitions() {
    const Relation parent = table_open(relations().meter_event, AccessShareLock);
    bool knows = true;
    if (parent->rd_rel->relkind == RELKIND_PARTITIONED_TABLE) {
        const Oids known = partitions_by_snapshot(RelationGetRelid(parent));
        const PartitionDescData* partitions = RelationGetPartitionDesc(parent, true);
        knows = std::all_of(partitions->oids, partitions->oids + partitions->nparts, [&](Oid oid) {
            return std::binary_search(known.items, known.items + known.count, oid);
        });
        pfree(known.items);
    }
    table_close(parent, NoLock);
    return knows;
}

void read_every_partition() {
    (void)set_config_option("enable_partition_pruning", "off", PGC_USERSET, PGC_S_SESSION,
                            GUC_ACTION_SAVE, true, 0, false);
}

void run_event_query(const QueryText* query, Planning planning, Tuplestorestate* store,
                     MemoryContext store_context) {
    if (snapshot_knows_partitions()) {
        run_query(query, planning, store, store_context);
        if (snapshot_knows_partitions())
            return;
        tuplestore_clear(store);
    }
    const int guc_level = NewGUCNestLevel();
    read_every_partition();
    run_query(query, Planning::kEachTime, store, store_context);
    AtEOXact_GUC(true, guc_level);
}

}  // namespace meter::pg
