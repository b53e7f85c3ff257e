// meter.list_events: a meter's events, newest first, a page at a time.
//
// A page is collected from the newest partition backwards, in windows of one partition, then two,
// four and so on: a dense meter fills its page from the first, a sparse one needs few statements.
// Within a window the rows come from an index in their order, so that a page costs what it shows,
// not what there is.
#include "pg/compat.hpp"

#include "core/error.hpp"
#include "pg/caller.hpp"
#include "pg/catalog.hpp"
#include "pg/dimension_filter.hpp"
#include "pg/event_query.hpp"
#include "pg/guard.hpp"
#include "pg/memory.hpp"
#include "pg/query_text.hpp"
#include "pg/retention.hpp"
#include "pg/set_result.hpp"
#include "pg/spi.hpp"
#include "pg/values.hpp"

extern "C" {
#include "access/table.h"
#include "catalog/pg_type.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "utils/rel.h"
}

namespace meter::pg {

namespace {

// The most rows of one page.
constexpr int kMaxRows = 100'000;

enum { kEventName, kPeriodStart, kPeriodEnd, kUserId, kFilter, kMaxRowsArg, kAfterTime, kAfterId };

// What one page asks for.
struct PageQuery {
    int32 meter_id;
    bool has_start;
    TimestampTz start;  // of the period; DT_NOBEGIN: open
    TimestampTz end;    // excluded
    bool has_user;
    Datum user;  // text
    TimestampTz after_time;
    int64 after_id;
    int max_rows;
    bool has_voids;  // some of the meter's events are voided
    DimensionFilters filters;
};

// Where the partitions of meter.meter_event meet, ascending.
struct Edges {
    int count;
    TimestampTz* times;
};

Edges partition_edges() {
    Edges edges{0, nullptr};
    const Relation parent = table_open(relations().meter_event, AccessShareLock);
    if (parent->rd_rel->relkind == RELKIND_PARTITIONED_TABLE) {
        const PartitionBoundInfo bounds = RelationGetPartitionDesc(parent, true)->boundinfo;
        const int most = bounds == nullptr ? 0 : bounds->ndatums;
        edges.times = static_cast<TimestampTz*>(palloc(sizeof(TimestampTz) * Max(most, 1)));
        for (int i = 0; i < most; ++i)
            if (bounds->kind[i][0] == PARTITION_RANGE_DATUM_VALUE)
                edges.times[edges.count++] = DatumGetTimestampTz(bounds->datums[i][0]);
    }
    table_close(parent, NoLock);
    return edges;
}

#define PAGE_SELECT                                                                 \
    "SELECT e.id, e.\"timestamp\", e.recorded_at, e.meter_id, e.user_id, e.value, " \
    "e.idempotency, e.dimensions, e.metadata FROM meter.meter_event e "             \
    "WHERE e.meter_id = $1 AND e.\"timestamp\" >= $2 AND e.\"timestamp\" < $3 "     \
    "AND (e.\"timestamp\", e.id) < ($4, $5)"
#define PAGE_ORDER " ORDER BY e.\"timestamp\" DESC, e.id DESC LIMIT $6"

constexpr int kParameters = 6;
constexpr Oid kTypes[kParameters] = {INT4OID,        TIMESTAMPTZOID, TIMESTAMPTZOID,
                                     TIMESTAMPTZOID, INT8OID,        INT8OID};

// Adds the page's rows in [from, to), at most `limit`, to the result. Returns how many there were.
// With `plan_anew` no plan made earlier is used.
int64 collect(const PageQuery& page, TimestampTz from, TimestampTz to, int limit, bool plan_anew,
              const SetResult& set) {
    const Datum values[] = {Int32GetDatum(page.meter_id),
                            TimestampTzGetDatum(from),
                            TimestampTzGetDatum(to),
                            TimestampTzGetDatum(page.after_time),
                            Int64GetDatum(page.after_id),
                            Int64GetDatum(limit),
                            page.user};
    if (plan_anew || page.filters.count > 0 || page.has_voids) {
        // Filters differ from call to call, and voids are seldom.
        auto* query = static_cast<QueryText*>(palloc(sizeof(QueryText)));
        start_query(query);
        for (int i = 0; i < kParameters; ++i)
            add_parameter(query, kTypes[i], values[i]);
        appendStringInfoString(&query->sql, PAGE_SELECT);
        if (page.has_user)
            appendStringInfo(&query->sql, " AND e.user_id = $%d",
                             add_parameter(query, TEXTOID, page.user));
        append_filters(query, page.filters);
        // Looked up for each row of the page: the offset keeps the planner from joining, which
        // might not keep the order.
        if (page.has_voids)
            appendStringInfoString(&query->sql,
                                   " AND NOT EXISTS (SELECT FROM meter.event_void v WHERE "
                                   "v.user_id = e.user_id AND v.meter_id = e.meter_id AND "
                                   "v.event_timestamp = e.\"timestamp\" AND v.event_id = e.id "
                                   "OFFSET '0')");
        appendStringInfoString(&query->sql, PAGE_ORDER);
        const int64 before = tuplestore_tuple_count(set.store);
        run_query(query, Planning::kEachTime, set.store, set.context);
        return tuplestore_tuple_count(set.store) - before;
    }
    static Statement all_users = {
        PAGE_SELECT PAGE_ORDER,
        {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, INT8OID}};
    static Statement one_user = {
        PAGE_SELECT " AND e.user_id = $7" PAGE_ORDER,
        {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, INT8OID, TEXTOID}};
    const uint64 rows = run(page.has_user ? one_user : all_users, values, nullptr, Run::kCaller);
    put_spi_rows(set);
    SPI_freetuptable(SPI_tuptable);
    return static_cast<int64>(rows);
}

// Keeps the planner from reading a whole window and sorting it, whatever it believes of its size,
// and from planning anew what it has a plan for.
void require_index_order() {
    for (const auto& [name, value] :
         {std::pair{"enable_indexscan", "on"}, std::pair{"enable_incremental_sort", "on"},
          std::pair{"enable_sort", "off"}, std::pair{"enable_seqscan", "off"},
          std::pair{"enable_bitmapscan", "off"},
          std::pair{"plan_cache_mode", "force_generic_plan"}})
        (void)set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
                                false);
}

// Collects the page from `to` backwards, in growing windows.
void collect_windows(const PageQuery& page, TimestampTz to, const SetResult& set) {
    const Edges edges = partition_edges();
    int next = edges.count;
    while (next > 0 && edges.times[next - 1] >= to)
        --next;
    int missing = page.max_rows;
    for (int step = 1; missing > 0 && to > page.start; step *= 2) {
        CHECK_FOR_INTERRUPTS();
        next -= step;
        const TimestampTz from = next < 0 ? page.start : Max(edges.times[next], page.start);
        missing -= static_cast<int>(collect(page, from, to, missing, false, set));
        to = from;
        next = Max(next, 0);
    }
}

// Leaves out what lies before the horizon, even where it is not deleted yet; an older start that
// was asked for is refused. Returns whether the page changed.
bool cut_at_horizon(PageQuery* page) {
    const int64 dropped = horizon();
    if (dropped == PG_INT64_MIN || page->start >= to_timestamptz(dropped))
        return false;
    if (page->has_start)
        throw Error(ErrorKind::kNotInState, "period_start lies before the retention horizon",
                    "Events before " + format_timestamp(dropped) + " have been dropped.",
                    "Without period_start the events that are there are listed.");
    require_known_horizon();
    page->start = to_timestamptz(dropped);
    return true;
}

// Whether events of the meter are voided.
bool has_voids(int32 meter_id) {
    static Statement select = {
        "SELECT FROM meter.event_void WHERE meter_id = $1 LIMIT 1", {INT4OID}, true};
    const Datum values[] = {Int32GetDatum(meter_id)};
    const bool any = run(select, values, nullptr, Run::kCaller) > 0;
    SPI_freetuptable(SPI_tuptable);
    return any;
}

void collect_page(PageQuery* whole, const SetResult& set) {
    cut_at_horizon(whole);
    whole->has_voids = has_voids(whole->meter_id);
    const PageQuery& page = *whole;
    const int guc_level = NewGUCNestLevel();
    require_index_order();
    const TimestampTz to = page.after_time < page.end ? page.after_time + 1 : page.end;
    bool collected = false;
    if (snapshot_knows_partitions()) {
        collect_windows(page, to, set);
        collected = snapshot_knows_partitions();
    }
    if (!collected) {
        tuplestore_clear(set.store);
        read_every_partition();
        collect(page, page.start, to, page.max_rows, true, set);
    }
    AtEOXact_GUC(true, guc_level);
    // Once more, with the partitions locked that were read.
    if (cut_at_horizon(whole)) {
        tuplestore_clear(set.store);
        collect_page(whole, set);
    }
}

}  // namespace

}  // namespace meter::pg

using namespace meter::pg;

METER_FUNCTION(meter_list_events) {
    const SetResult set = begin_set(fcinfo);
    require_argument(fcinfo, kEventName, "event_name");
    const Call call = begin_call(Privilege::kRead, "list events");
    auto* page = static_cast<PageQuery*>(palloc0(sizeof(PageQuery)));
    page->start = PG_ARGISNULL(kPeriodStart) ? DT_NOBEGIN : PG_GETARG_TIMESTAMPTZ(kPeriodStart);
    page->has_start = page->start != DT_NOBEGIN;
    page->end = PG_ARGISNULL(kPeriodEnd) ? DT_NOEND : PG_GETARG_TIMESTAMPTZ(kPeriodEnd);
    if (page->end < page->start)
        throw meter::Error(meter::ErrorKind::kInvalidParameter,
                           "period_end lies before period_start", {},
                           "A period is half-open: [period_start, period_end).");
    page->max_rows = PG_ARGISNULL(kMaxRowsArg) ? 100 : PG_GETARG_INT32(kMaxRowsArg);
    if (page->max_rows < 1 || page->max_rows > kMaxRows)
        throw meter::Error(meter::ErrorKind::kInvalidParameter,
                           "max_rows " + std::to_string(page->max_rows) + " is out of range", {},
                           "A page has 1 to " + std::to_string(kMaxRows) + " rows.");
    if (PG_ARGISNULL(kAfterTime) != PG_ARGISNULL(kAfterId))
        throw meter::Error(meter::ErrorKind::kInvalidParameter,
                           "after_time and after_id must be given together", {},
                           "Pass the timestamp and the id of the last row of the page before.");
    page->after_time = PG_ARGISNULL(kAfterTime) ? DT_NOEND : PG_GETARG_TIMESTAMPTZ(kAfterTime);
    page->after_id = PG_ARGISNULL(kAfterId) ? PG_INT64_MAX : PG_GETARG_INT64(kAfterId);
    page->has_user = !PG_ARGISNULL(kUserId);
    if (page->has_user)
        page->user = PG_GETARG_DATUM(kUserId);

    const MeterDefinition& meter = require_meter(call.org, text_view(PG_GETARG_DATUM(kEventName)));
    page->meter_id = meter.id;
    if (!PG_ARGISNULL(kFilter))
        read_filters(PG_GETARG_JSONB_P(kFilter), meter, &page->filters);
    collect_page(page, set);
    end_call(call);
    return static_cast<Datum>(0);
}
