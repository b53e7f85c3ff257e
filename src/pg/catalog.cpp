#include "pg/catalog.hpp"

#include <algorithm>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/text.hpp"
#include "pg/guard.hpp"
#include "pg/memory.hpp"
#include "pg/spi.hpp"

extern "C" {
#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "commands/trigger.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
}

namespace meter::pg {

namespace {

Relations known_relations;
bool relations_known = false;
bool meters_stale = true;
uint64 generation = 1;

// Whether something was remembered in a transaction that writes: it may be what the transaction
// itself wrote. The trigger's invalidation covers that only once the statement that wrote it ends.
bool remembered_while_writing = false;

// Definitions of meters by name and by number. Its methods make no PostgreSQL calls.
class MeterCache {
  public:
    // Most often the one that was found before is asked for again.
    const MeterDefinition* find(std::string_view org, std::string_view event_name) {
        if (last_ != nullptr && last_->event_name == event_name && last_->org == org)
            return &last_->definition;
        const auto found = by_name_.find(key(org, event_name));
        if (found == by_name_.end())
            return nullptr;
        last_ = found->second.get();
        return &last_->definition;
    }

    const MeterDefinition* find(std::string_view org, int32 id) const {
        const auto found = by_id_.find(id);
        return found == by_id_.end() || found->second->definition.org != org
                   ? nullptr
                   : &found->second->definition;
    }

    // Copies `source` and what it points to.
    const MeterDefinition* insert(const MeterDefinition& source) {
        // A bound on what a session keeps, far above what one works with at a time.
        constexpr std::size_t kMaxMeters = 10'000;
        last_ = nullptr;
        if (by_id_.size() >= kMaxMeters) {
            by_id_.clear();
            by_name_.clear();
        }
        auto entry = std::make_unique<Entry>();
        entry->org = source.org;
        entry->event_name = source.event_name;
        entry->aggregation = source.aggregation;
        entry->property = source.property;
        entry->rounding = source.rounding;
        entry->names.assign(source.dimensions, source.dimensions + source.dimension_count);
        std::sort(entry->names.begin(), entry->names.end());
        entry->views.assign(entry->names.begin(), entry->names.end());
        entry->definition = source;
        entry->definition.org = entry->org;
        entry->definition.event_name = entry->event_name;
        entry->definition.aggregation = entry->aggregation;
        entry->definition.property = entry->property;
        entry->definition.rounding = entry->rounding;
        entry->definition.dimensions = entry->views.data();
        Entry* plain = entry.get();
        // Under the same name there may be a meter that was dropped since.
        if (const auto found = by_name_.find(key(source.org, source.event_name));
            found != by_name_.end())
            by_id_.erase(found->second->definition.id);
        by_name_[key(source.org, source.event_name)] = std::move(entry);
        by_id_[source.id] = plain;
        return &plain->definition;
    }

  private:
    struct Entry {
        std::string org;
        std::string event_name;
        std::string aggregation;
        std::string property;
        std::string rounding;
        std::vector<std::string> names;
        std::vector<std::string_view> views;
        MeterDefinition definition;
    };

    // Neither part can hold a NUL.
    static std::string key(std::string_view org, std::string_view event_name) {
        std::string joined;
        joined.reserve(org.size() + 1 + event_name.size());
        joined.append(org).append(1, '\0').append(event_name);
        return joined;
    }

    std::unordered_map<std::string, std::unique_ptr<Entry>> by_name_;
    std::unordered_map<int32, Entry*> by_id_;
    const Entry* last_ = nullptr;  // found by name
};

MemoryContext meters_context = nullptr;
MeterCache* meters = nullptr;

void on_relation_change(Datum, Oid relation) {
    if (relation == InvalidOid || !relations_known || relation == known_relations.meter ||
        relation == known_relations.meter_event || relation == known_relations.access ||
        relation == known_relations.event_id_seq || relation == known_relations.generation ||
        relation == known_relations.retention || relation == known_relations.usage_limit) {
        relations_known = false;
        meters_stale = true;
        ++generation;
    }
}

// Role memberships and attributes decide what a caller may do.
void on_role_change(Datum, int, uint32) {
    ++generation;
}

void forget_uncommitted() {
    if (remembered_while_writing) {
        meters_stale = true;
        ++generation;
    }
}

void on_transaction_end(XactEvent event, void*) {
    if (event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
        forget_uncommitted();
    if (event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE || event == XACT_EVENT_COMMIT)
        remembered_while_writing = false;
}

void on_subtransaction_end(SubXactEvent event, SubTransactionId, SubTransactionId, void*) {
    if (event == SUBXACT_EVENT_ABORT_SUB)
        forget_uncommitted();
}

void register_callbacks() {
    static bool registered = false;
    if (registered)
        return;
    CacheRegisterRelcacheCallback(on_relation_change, 0);
    CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, on_role_change, 0);
    CacheRegisterSyscacheCallback(AUTHOID, on_role_change, 0);
    RegisterXactCallback(on_transaction_end, nullptr);
    RegisterSubXactCallback(on_subtransaction_end, nullptr);
    registered = true;
}

Oid relation_oid(const char* name, Oid schema) {
    const Oid oid = OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
    if (!OidIsValid(oid))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
                        errmsg("relation meter.%s does not exist", name),
                        errhint("Run CREATE EXTENSION meter in this database.")));
    return oid;
}

// The cache, emptied where it may have become untrue.
MeterCache& fresh_meters() {
    AcceptInvalidationMessages();
    if (meters_context == nullptr)
        meters_context =
            AllocSetContextCreate(CacheMemoryContext, "meter definitions", ALLOCSET_SMALL_SIZES);
    if (meters_stale || meters == nullptr) {
        meters = nullptr;
        MemoryContextReset(meters_context);
        meters = make_in<MeterCache>(meters_context);
        meters_stale = false;
    }
    return *meters;
}

// What a definition is made of.
#define METER_DEFINITION                                                                    \
    "SELECT id, org, event_name, aggregation, archived_at IS NOT NULL, dimensions, "        \
    "property, rounding, rounding_precision, "                                              \
    "EXISTS (SELECT FROM meter.usage_limit l WHERE l.meter_id = m.id AND l.kind = 'hard') " \
    "FROM meter.meter m "

// Puts the only row of the last result into the cache; nullptr where it has none. Frees the result:
// a batch may look up many.
const MeterDefinition* remember_result(MeterCache& cache) {
    if (SPI_processed == 0) {
        SPI_freetuptable(SPI_tuptable);
        return nullptr;
    }
    note_remembered();
    bool null;
    MeterDefinition definition;
    definition.id = DatumGetInt32(result(0, 1, &null));
    definition.org = text_view(result(0, 2, &null));
    definition.event_name = text_view(result(0, 3, &null));
    definition.aggregation = text_view(result(0, 4, &null));
    definition.archived = DatumGetBool(result(0, 5, &null));
    Datum* names;
    int count;
    deconstruct_array(DatumGetArrayTypeP(result(0, 6, &null)), TEXTOID, -1, false, TYPALIGN_INT,
                      &names, nullptr, &count);
    auto* views = static_cast<std::string_view*>(palloc(sizeof(std::string_view) * Max(count, 1)));
    for (int i = 0; i < count; ++i)
        views[i] = text_view(names[i]);
    definition.dimension_count = count;
    definition.dimensions = views;
    const Datum property = result(0, 7, &null);
    definition.property = null ? std::string_view{} : text_view(property);
    const Datum rounding = result(0, 8, &null);
    definition.rounding = null ? std::string_view{} : text_view(rounding);
    definition.rounding_precision = DatumGetInt32(result(0, 9, &null));
    definition.limited = DatumGetBool(result(0, 10, &null));
    const MeterDefinition* remembered = cache.insert(definition);
    SPI_freetuptable(SPI_tuptable);
    return remembered;
}

}  // namespace

bool MeterDefinition::declares(std::string_view dimension) const {
    return std::binary_search(dimensions, dimensions + dimension_count, dimension);
}

const Relations& relations() {
    register_callbacks();
    if (relations_known)
        return known_relations;
    const uint64 before = generation;
    Relations found;
    found.schema = get_namespace_oid("meter", true);
    found.meter = relation_oid("meter", found.schema);
    found.meter_event = relation_oid("meter_event", found.schema);
    found.event_key = relation_oid("event_key", found.schema);
    found.pending = relation_oid("rollup_pending", found.schema);
    found.event_id_seq = relation_oid("meter_event_id_seq", found.schema);
    found.access = relation_oid("access", found.schema);
    found.rollup = relation_oid("rollup", found.schema);
    found.generation = relation_oid("rollup_generation", found.schema);
    found.retention = relation_oid("retention", found.schema);
    found.event_void = relation_oid("event_void", found.schema);
    found.usage_limit = relation_oid("usage_limit", found.schema);
    found.limit_usage = relation_oid("limit_usage", found.schema);
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(found.meter));
    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for relation %u", found.meter);
    found.owner = ((Form_pg_class)GETSTRUCT(tuple))->relowner;
    ReleaseSysCache(tuple);
    known_relations = found;
    relations_known = generation == before;
    return known_relations;
}

uint64 catalog_generation() {
    return generation;
}

void note_remembered() {
    if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
        remembered_while_writing = true;
}

const MeterDefinition* find_meter(std::string_view org, std::string_view event_name) {
    MeterCache& cache = fresh_meters();
    if (const MeterDefinition* known = cache.find(org, event_name))
        return known;
    static Statement select = {
        METER_DEFINITION "WHERE org = $1 AND event_name = $2", {TEXTOID, TEXTOID}, true};
    const Datum values[] = {text_datum(org), text_datum(event_name)};
    run(select, values, nullptr, Run::kLatest);
    return remember_result(cache);
}

const MeterDefinition* find_meter(std::string_view org, int32 id) {
    MeterCache& cache = fresh_meters();
    if (const MeterDefinition* known = cache.find(org, id))
        return known;
    static Statement select = {
        METER_DEFINITION "WHERE org = $1 AND id = $2", {TEXTOID, INT4OID}, true};
    const Datum values[] = {text_datum(org), Int32GetDatum(id)};
    run(select, values, nullptr, Run::kLatest);
    return remember_result(cache);
}

Error unknown_meter_error(std::string_view org, const std::string& what) {
    return Error(ErrorKind::kUndefinedObject,
                 "meter " + what + " does not exist in org " + quote_for_message(org), {},
                 "Define it with meter.create_meter, or see meter.list_meters() for those that "
                 "there are.");
}

const MeterDefinition& require_meter(std::string_view org, std::string_view event_name) {
    const MeterDefinition* definition = find_meter(org, event_name);
    if (definition == nullptr)
        throw unknown_meter_error(org, quote_for_message(event_name));
    return *definition;
}

void lock_meter_for_recording(int32 id) {
    LockDatabaseObject(relations().meter, static_cast<Oid>(id), 0, RowExclusiveLock);
}

void lock_meter_for_change(int32 id) {
    LockDatabaseObject(relations().meter, static_cast<Oid>(id), 0, ShareRowExclusiveLock);
}

void forget_relation(Oid relation) {
    CacheInvalidateRelcacheByRelid(relation);
}

}  // namespace meter::pg

METER_FUNCTION(meter_forget_cached) {
    if (!CALLED_AS_TRIGGER(fcinfo))
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                        errmsg("meter.forget_cached() can be called as a trigger only")));
    const auto* trigger = reinterpret_cast<TriggerData*>(fcinfo->context);
    meter::pg::forget_relation(RelationGetRelid(trigger->tg_relation));
    return PointerGetDatum(nullptr);
}
