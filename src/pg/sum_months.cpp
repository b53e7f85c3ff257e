// meter.sum_months(): what the cells of months add up to, by meter and user.
//
// There is one for each set of dimensions, made when it was first used, so that the index leads
// from page to page and back: here the places are taken from the index, and the pages visited in
// order.
#include "pg/compat.hpp"

#include <memory_resource>
#include <string_view>
#include <unordered_map>

#include "core/error.hpp"
#include "core/exact_sum.hpp"
#include "pg/array_elements.hpp"
#include "pg/cells.hpp"
#include "pg/guard.hpp"
#include "pg/memory.hpp"
#include "pg/numeric.hpp"
#include "pg/rollup_table.hpp"
#include "pg/set_result.hpp"
#include "pg/tid_order.hpp"
#include "pg/values.hpp"

extern "C" {
#include "access/genam.h"
#include "access/relscan.h"
#include "access/skey.h"
#include "access/tableam.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
}

namespace meter::pg {

namespace {

// Sums by meter and user. It lives in a memory context; its methods make no PostgreSQL calls.
class MonthSums {
  public:
    explicit MonthSums(MemoryContext context) : resource_(context) {}

    struct Key {
        int32 meter_id;
        std::string_view user;
        bool operator==(const Key&) const = default;
    };
    struct Sum {
        int64 event_count = 0;
        ExactSum value;
    };

    // Throws Error kOutOfRange past 2^63 - 1 events.
    void add(const Key& key, int64 event_count, const NumberView& value) {
        auto at = sums_.find(key);
        if (at == sums_.end()) {
            auto* bytes = static_cast<char*>(resource_.allocate(key.user.size() + 1, 1));
            key.user.copy(bytes, key.user.size());
            at = sums_.try_emplace({key.meter_id, {bytes, key.user.size()}}).first;
        }
        if (__builtin_add_overflow(at->second.event_count, event_count, &at->second.event_count))
            throw Error(ErrorKind::kOutOfRange, "a count of events is out of range");
        at->second.value.add(value, &resource_);
    }

    struct KeyHash {
        std::size_t operator()(const Key& key) const {
            return std::hash<std::string_view>{}(key.user) ^
                   static_cast<std::uint32_t>(key.meter_id) * 0x9E3779B97F4A7C15U;
        }
    };
    using Sums = std::pmr::unordered_map<Key, Sum, KeyHash>;
    const Sums& sums() const { return sums_; }

  private:
    ContextArena resource_;
    Sums sums_{&resource_};
};

// Writes the sums out: user_id, meter_id, event_count, value_sum.
void put_sums(const SetResult& set, const MonthSums& sums) {
    const MemoryContext row_context =
        AllocSetContextCreate(CurrentMemoryContext, "sum of months", ALLOCSET_DEFAULT_SIZES);
    const MemoryContext caller_context = MemoryContextSwitchTo(row_context);
    int64 rows = 0;
    for (const auto& [key, sum] : sums.sums()) {
        if (++rows % 1024 == 0) {
            CHECK_FOR_INTERRUPTS();
            MemoryContextReset(row_context);
        }
        const Datum values[] = {text_datum(key.user), Int32GetDatum(key.meter_id),
                                Int64GetDatum(sum.event_count), numeric_datum(sum.value)};
        const bool nulls[lengthof(values)] = {};
        put_row(set, values, nulls);
    }
    MemoryContextSwitchTo(caller_context);
    MemoryContextDelete(row_context);
}

// Sums under way, and where they go. Their number is bounded, as memory is: a user may come out in
// parts, which whoever asks adds up.
struct Totals {
    SetResult set;
    MemoryContext context;  // of the sums
    MonthSums* sums;
};

// How many cells are taken at a time, and how many sums are kept beyond them.
constexpr int kAtOnce = 100'000;

void begin_sums(Totals* totals) {
    MemoryContextReset(totals->context);
    totals->sums = make_in<MonthSums>(totals->context, totals->context);
}

void flush_sums(Totals* totals) {
    put_sums(totals->set, *totals->sums);
    begin_sums(totals);
}

// Adds the cells of a meter's month that the active snapshot sees.
void add_month(const ReadableCells& cells, int32 meter_id, Datum month, Totals* totals) {
    ScanKeyData keys[3];
    ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(meter_id));
    ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_CHAREQ, CharGetDatum('m'));
    ScanKeyInit(&keys[2], 3, BTEqualStrategyNumber, F_TIMESTAMPTZ_EQ, month);
    const Snapshot snapshot = GetActiveSnapshot();
    const IndexScanDesc scan =
        begin_index_scan(cells.relation, cells.key, snapshot, lengthof(keys));
    index_rescan(scan, keys, lengthof(keys), nullptr, 0);
    IndexFetchTableData* fetch = table_index_fetch_begin(cells.relation);
    TupleTableSlot* slot = table_slot_create(cells.relation, nullptr);
    auto* tids = static_cast<ItemPointerData*>(palloc(sizeof(ItemPointerData) * kAtOnce));
    const int last = Max(cells.user, Max(cells.count, cells.sum));
    int count = kAtOnce;
    while (count == kAtOnce) {
        count = 0;
        while (count < kAtOnce) {
            if (count % 1024 == 0)
                CHECK_FOR_INTERRUPTS();
            const ItemPointer tid = index_getnext_tid(scan, ForwardScanDirection);
            if (tid == nullptr)
                break;
            tids[count++] = *tid;
        }
        sort_by_page(tids, count);
        for (int i = 0; i < count; ++i) {
            if (i % 1024 == 0)
                CHECK_FOR_INTERRUPTS();
            bool more = false;
            if (!table_index_fetch_tuple(fetch, &tids[i], snapshot, slot, &more, nullptr))
                continue;
            slot_getsomeattrs(slot, last);
            const Datum* values = slot->tts_values;
            totals->sums->add({meter_id, text_view(values[cells.user - 1])},
                              DatumGetInt64(values[cells.count - 1]),
                              view_numeric(values[cells.sum - 1]));
        }
        if (totals->sums->sums().size() > kAtOnce)
            flush_sums(totals);
    }
    pfree(tids);
    ExecDropSingleTupleTableSlot(slot);
    table_index_fetch_end(fetch);
    index_endscan(scan);
}

}  // namespace

}  // namespace meter::pg

METER_FUNCTION(meter_sum_months) {
    using namespace meter::pg;
    const SetResult set = begin_set(fcinfo);
    const Elements meters = elements_of(PG_GETARG_DATUM(0), INT4OID, 4);
    const Elements months = elements_of(PG_GETARG_DATUM(1), TIMESTAMPTZOID, 8);
    ReadableCells cells;
    if (!open_cells_to_read(&cells))
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("meter.rollup is not as it was made")));
    Totals totals{set,
                  AllocSetContextCreate(CurrentMemoryContext, "months", ALLOCSET_DEFAULT_SIZES),
                  nullptr};
    begin_sums(&totals);
    for (int i = 0; i < meters.count; ++i)
        for (int k = 0; k < months.count; ++k)
            add_month(cells, DatumGetInt32(meters.items[i]), months.items[k], &totals);
    close_cells(cells);
    put_sums(set, *totals.sums);
    return static_cast<Datum>(0);
}
