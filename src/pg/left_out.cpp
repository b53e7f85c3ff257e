// Leaving dimensions out of the rollups: by a fold, by meter.leave_out() and by meter.take_in().
#include "pg/left_out.hpp"

#include <algorithm>
#include <cstring>

#include "core/dimensions.hpp"
#include "core/error.hpp"
#include "core/text.hpp"
#include "pg/caller.hpp"
#include "pg/catalog.hpp"
#include "pg/cells.hpp"
#include "pg/fold.hpp"
#include "pg/guard.hpp"
#include "pg/memory.hpp"
#include "pg/rebuild.hpp"
#include "pg/settings.hpp"
#include "pg/spi.hpp"
#include "pg/values.hpp"

extern "C" {
#include "utils/array.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
}

namespace meter::pg {

namespace {

// Events that a cell has to stand for, on an average of a month, if cells are to pay: as many as
// are asked of a user's month before it gets days. With five, a fold took five times as long as
// without the dimension, and the cells 17 times the room.
constexpr int64 kEventsToCell = 16;
// So many names of dimensions in a month are no dimensions: all are left out. A meter can declare
// half of that.
constexpr int kMostNames = 64;

struct Names {
    int count;
    std::string_view* items;

    bool has(std::string_view name) const {
        return std::find(items, items + count, name) != items + count;
    }
};

// The names in a text[], in the current memory context.
Names read_names(Datum array) {
    Datum* values;
    int count;
    deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &values, nullptr,
                      &count);
    Names names{count, static_cast<std::string_view*>(
                           palloc(sizeof(std::string_view) * static_cast<Size>(Max(count, 1))))};
    for (int i = 0; i < count; ++i)
        names.items[i] = text_view(values[i]);
    return names;
}

Datum text_array(const Names& names) {
    auto* values = static_cast<Datum*>(palloc(sizeof(Datum) * static_cast<Size>(names.count + 1)));
    for (int i = 0; i < names.count; ++i)
        values[i] = text_datum(names.items[i]);
    return PointerGetDatum(construct_array(values, names.count, TEXTOID, -1, false, TYPALIGN_INT));
}

// What a row of meter.rollup_meter says. The empty name is that of no dimension: it stands for all.
struct MeterLeftOut {
    int32 meter_id;
    Names left_out;
    Names kept;

    bool leaves_out(std::string_view name) const {
        return left_out.has(name) || (left_out.has({}) && !kept.has(name));
    }
};

struct DigestHash {
    std::size_t operator()(const Digest& digest) const {
        std::size_t hash;
        std::memcpy(&hash, digest.data(), sizeof hash);
        return hash;
    }
};

// The dimensions (jsonb) that were made, by their digest.
using Made = std::pmr::unordered_map<Digest, Datum, DigestHash>;

}  // namespace

struct LeftOut {
    int count;
    MeterLeftOut* meters;  // by meter_id, ascending
    Made* made;
    MemoryContext context;  // of all of this
    MemoryContext scratch;  // emptied after each call
};

LeftOut* load_left_out() {
    static Statement select = {
        "SELECT meter_id, left_out, kept FROM meter.rollup_meter WHERE left_out <> '{}' "
        "ORDER BY meter_id",
        {}};
    const auto count = static_cast<int>(run(select, nullptr, nullptr, Run::kWrite));
    LeftOut* found = nullptr;
    if (count > 0) {
        found = static_cast<LeftOut*>(palloc(sizeof(LeftOut)));
        found->count = count;
        found->meters =
            static_cast<MeterLeftOut*>(palloc(sizeof(MeterLeftOut) * static_cast<Size>(count)));
        for (int i = 0; i < count; ++i) {
            bool null;
            const auto row = static_cast<uint64>(i);
            found->meters[i] = {
                DatumGetInt32(result(row, 1, &null)),
                read_names(PointerGetDatum(DatumGetArrayTypePCopy(result(row, 2, &null)))),
                read_names(PointerGetDatum(DatumGetArrayTypePCopy(result(row, 3, &null))))};
        }
        found->context = CurrentMemoryContext;
        found->scratch = AllocSetContextCreate(CurrentMemoryContext, "stripped dimensions",
                                               ALLOCSET_DEFAULT_SIZES);
        auto* memory = make_in<ContextArena>(CurrentMemoryContext, CurrentMemoryContext);
        found->made = make_in<Made>(CurrentMemoryContext, memory);
    }
    SPI_freetuptable(SPI_tuptable);
    return found;
}

void strip_dimensions(LeftOut* left_out, int32 meter_id, Datum* dimensions, Digest* digest) {
    MeterLeftOut* const end = left_out->meters + left_out->count;
    const MeterLeftOut* const meter =
        std::lower_bound(left_out->meters, end, meter_id,
                         [](const MeterLeftOut& a, int32 id) { return a.meter_id < id; });
    if (meter == end || meter->meter_id != meter_id)
        return;
    const MemoryContext caller_context = MemoryContextSwitchTo(left_out->scratch);
    Members members = read_members(DatumGetJsonbP(*dimensions));
    const int before = members.count;
    members.count = 0;
    for (int i = 0; i < before; ++i)
        if (!meter->leaves_out(members.items[i].name))
            members.items[members.count++] = members.items[i];
    if (members.count < before) {
        const std::string_view text = canonical_text(members);
        *digest = dimensions_digest(text);
        const auto [at, fresh] = left_out->made->try_emplace(*digest);
        if (fresh) {
            const Datum made = DirectFunctionCall1(jsonb_in, CStringGetDatum(text.data()));
            MemoryContextSwitchTo(left_out->context);
            at->second = PointerGetDatum(PG_DETOAST_DATUM_COPY(made));
        }
        *dimensions = at->second;
    }
    MemoryContextSwitchTo(caller_context);
    MemoryContextReset(left_out->scratch);
}

namespace {

// A meter's month that has many cells, and few events to each.
struct Crowded {
    int32 meter_id;
    TimestampTz month;
    int64 event_count;
    Datum fresh;     // jsonb[]: the dimensions of the cells that are about to be stored
    Datum left_out;  // text[]
    Datum kept;      // text[]
};

bool pays(int64 event_count, int64 cells) {
    return cells < setting_max_cells || event_count >= kEventsToCell * cells;
}

// Whether a month is to be judged that gets up to `fresh` of its cells just now: when it gets past
// the limit, twice the limit, four times and so on. So a month costs a few looks at its cells,
// whatever comes of them.
bool is_due(int64 cells, int64 fresh) {
    int64 step = setting_max_cells;
    while (step <= cells / 2)
        step *= 2;
    return cells >= step && cells - fresh < step;
}

// The dimensions of a month's cells, those that are there and those that are about to be.
#define METER_MONTH_DIMENSIONS                                        \
    "(SELECT dimensions FROM meter.rollup_total WHERE meter_id = $1 " \
    "AND grain = 'm' AND start = $2 UNION ALL SELECT unnest($3)) AS r"

// How many cells a month would have without the dimensions `left_out` (text[]).
int64 count_cells(const Crowded& month, Datum left_out) {
    static Statement count = {
        "SELECT count(*) FROM (SELECT DISTINCT dimensions - $4 FROM " METER_MONTH_DIMENSIONS
        ") AS d",
        {INT4OID, TIMESTAMPTZOID, JSONBARRAYOID, TEXTARRAYOID}};
    const Datum values[] = {Int32GetDatum(month.meter_id), TimestampTzGetDatum(month.month),
                            month.fresh, left_out};
    run(count, values, nullptr, Run::kWrite);
    bool null;
    const int64 cells = DatumGetInt64(result(0, 1, &null));
    SPI_freetuptable(SPI_tuptable);
    return cells;
}

// Chooses what a month's cells are to be without, in addition to what they are already: the
// dimensions with the most values, one after another, until the cells pay. Returns the same names
// where nothing is to be changed.
Names choose_names(const Crowded& month) {
    static Statement values_by_name = {
        "SELECT name, count(*) FROM (SELECT DISTINCT e.key COLLATE \"C\" AS name, e.value "
        "FROM " METER_MONTH_DIMENSIONS
        ", jsonb_each(r.dimensions) AS e "
        "WHERE e.key <> ALL ($4) AND e.key <> ALL ($5)) AS v "
        "GROUP BY name ORDER BY 2 DESC, 1 LIMIT $6",
        {INT4OID, TIMESTAMPTZOID, JSONBARRAYOID, TEXTARRAYOID, TEXTARRAYOID, INT4OID}};
    const Names before = read_names(month.left_out);
    if (before.has({}) || read_names(month.kept).has({}) ||
        pays(month.event_count, count_cells(month, month.left_out)))
        return before;
    const Datum values[] = {Int32GetDatum(month.meter_id),
                            TimestampTzGetDatum(month.month),
                            month.fresh,
                            month.left_out,
                            month.kept,
                            Int32GetDatum(kMostNames + 1)};
    const auto count = static_cast<int>(run(values_by_name, values, nullptr, Run::kWrite));
    Names chosen{before.count,
                 static_cast<std::string_view*>(palloc(
                     sizeof(std::string_view) * static_cast<Size>(before.count + count + 1)))};
    std::copy(before.items, before.items + before.count, chosen.items);
    if (count > kMostNames) {
        chosen.items[0] = {};
        chosen.count = 1;
        SPI_freetuptable(SPI_tuptable);
        return chosen;
    }
    SPITupleTable* const found = SPI_tuptable;
    for (int i = 0; i < count; ++i) {
        bool null;
        const auto row = static_cast<uint64>(i);
        // One value makes no cells.
        if (DatumGetInt64(SPI_getbinval(found->vals[row], found->tupdesc, 2, &null)) < 2)
            break;
        const char* name = SPI_getvalue(found->vals[row], found->tupdesc, 1);
        chosen.items[chosen.count++] = {name, std::strlen(name)};
        if (pays(month.event_count, count_cells(month, text_array(chosen)))) {
            SPI_freetuptable(found);
            return chosen;
        }
    }
    // Those that are kept make too many cells by themselves: the others have nothing to do with it.
    SPI_freetuptable(found);
    return before;
}

// Judges a month, and writes down what is to be left out in addition to what is. Returns whether
// there is anything.
bool leave_out_of(Crowded* month) {
    static Statement upsert = {
        "INSERT INTO meter.rollup_meter AS r (meter_id, left_out) VALUES ($1, $2) "
        "ON CONFLICT (meter_id) DO UPDATE SET left_out = $2",
        {INT4OID, TEXTARRAYOID}};
    const Names before = read_names(month->left_out);
    const Names chosen = choose_names(*month);
    if (std::equal(chosen.items, chosen.items + chosen.count, before.items,
                   before.items + before.count))
        return false;
    month->left_out = text_array(chosen);
    const Datum values[] = {Int32GetDatum(month->meter_id), month->left_out};
    run(upsert, values, nullptr, Run::kWrite);
    ereport(LOG, (errmsg("the rollups of meter %d leave out dimensions with too many values",
                         month->meter_id),
                  errdetail("Left out are %s, where \"\" stands for all.",
                            OidOutputFunctionCall(F_ARRAY_OUT, month->left_out)),
                  errhint("See meter.status. Questions about these are answered from the events; "
                          "meter.take_in takes a dimension in again.")));
    return true;
}

// The dimensions of a meter's month's cells of all users, as a jsonb[].
Datum dimensions_of(RollupTables* tables, int32 meter_id, int64 start) {
    Columns column =
        make_columns({JSONBOID}, static_cast<int>(tables->total_months.entries().size()));
    for (const auto& [key, cell] : tables->total_months.entries()) {
        if (key.meter_id != meter_id || key.start != start)
            continue;
        put(column, 0, static_cast<Datum>(cell.dimensions));
        ++column.rows;
    }
    Datum array[1];
    column_arrays(column, array);
    return array[0];
}

}  // namespace

bool judge_dimensions(RollupTables* tables) {
    // What is there already of the months, and what is left out.
    static Statement select = {
        "SELECT k.meter_id, k.month, k.event_count + COALESCE(r.event_count, 0), k.cells, "
        "k.cells + COALESCE(r.cells, 0), COALESCE(l.left_out, '{}'), COALESCE(l.kept, '{}') "
        "FROM unnest($1, $2, $3, $4) AS k (meter_id, month, event_count, cells) "
        "LEFT JOIN meter.rollup_month r ON r.meter_id = k.meter_id AND r.month = k.month "
        "LEFT JOIN meter.rollup_meter l ON l.meter_id = k.meter_id "
        "WHERE k.cells + COALESCE(r.cells, 0) >= $5 ORDER BY 1, 2",
        {INT4ARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8OID},
        true};
    const RollupTables::Months& months = tables->meter_months();
    Columns keys =
        make_columns({INT4OID, TIMESTAMPTZOID, INT8OID, INT8OID}, static_cast<int>(months.size()));
    for (const auto& [key, month] : months) {
        put(keys, 0, Int32GetDatum(key.meter_id));
        put(keys, 1, TimestampTzGetDatum(to_timestamptz(key.start)));
        put(keys, 2, Int64GetDatum(month.event_count));
        put(keys, 3, Int64GetDatum(month.cells));
        ++keys.rows;
    }
    Datum values[5];
    column_arrays(keys, values);
    values[4] = Int64GetDatum(setting_max_cells);
    const auto count = static_cast<int>(run(select, values, nullptr, Run::kWrite));
    auto* crowded = static_cast<Crowded*>(palloc(sizeof(Crowded) * static_cast<Size>(count + 1)));
    int due = 0;
    for (int i = 0; i < count; ++i) {
        bool null;
        const auto row = static_cast<uint64>(i);
        const int64 event_count = DatumGetInt64(result(row, 3, &null));
        const int64 cells = DatumGetInt64(result(row, 5, &null));
        if (pays(event_count, cells) || !is_due(cells, DatumGetInt64(result(row, 4, &null))))
            continue;
        const int32 meter_id = DatumGetInt32(result(row, 1, &null));
        const TimestampTz month = DatumGetTimestampTz(result(row, 2, &null));
        crowded[due++] = {meter_id,
                          month,
                          event_count,
                          dimensions_of(tables, meter_id, to_unix_micros(month)),
                          PointerGetDatum(DatumGetArrayTypePCopy(result(row, 6, &null))),
                          PointerGetDatum(DatumGetArrayTypePCopy(result(row, 7, &null)))};
    }
    SPI_freetuptable(SPI_tuptable);
    bool changed = false;
    for (int i = 0; i < due; ++i) {
        // What was found for a meter's month before is in force already.
        if (i > 0 && crowded[i].meter_id == crowded[i - 1].meter_id)
            crowded[i].left_out = crowded[i - 1].left_out;
        changed |= leave_out_of(&crowded[i]);
    }
    return changed;
}

namespace {

// The argument that names a dimension of the meter; null is the empty name, which stands for all.
Datum dimension_argument(FunctionCallInfo fcinfo, int index, const MeterDefinition& meter) {
    if (PG_ARGISNULL(index))
        return text_datum({});
    const std::string_view name = text_view(PG_GETARG_DATUM(index));
    check_dimension_name(name);
    const std::string_view* const end = meter.dimensions + meter.dimension_count;
    if (meter.dimension_count > 0 && std::find(meter.dimensions, end, name) == end)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("dimension \"%s\" is not declared", shown(name)),
                        errhint("See meter.meter.dimensions.")));
    return PG_GETARG_DATUM(index);
}

// Begins a change of what a meter's rollups leave out: with the lock of all changes to rollups.
Call begin_change(FunctionCallInfo fcinfo, const char* action, const char* function) {
    require_argument(fcinfo, 0, "event_name");
    PreventCommandIfReadOnly(function);
    PreventCommandDuringRecovery(function);
    const Call call = begin_call(Privilege::kMaintain, action);
    require_read_committed(action);
    return call;
}

}  // namespace

}  // namespace meter::pg

METER_FUNCTION(meter_leave_out) {
    using namespace meter::pg;
    static Statement upsert = {
        "INSERT INTO meter.rollup_meter AS r (meter_id, left_out) VALUES ($1, ARRAY[$2]) "
        "ON CONFLICT (meter_id) DO UPDATE SET left_out = CASE WHEN $2 = '' THEN '{\"\"}' "
        "WHEN $2 = ANY (r.left_out) OR '' = ANY (r.left_out) THEN r.left_out "
        "ELSE r.left_out || $2 END, "
        "kept = CASE WHEN $2 = '' THEN '{}' ELSE array_remove(r.kept, $2) END",
        {INT4OID, TEXTOID}};
    const Call call = begin_change(fcinfo, "leave out a dimension", "meter.leave_out()");
    const MeterDefinition& meter = require_meter(call.org, text_view(PG_GETARG_DATUM(0)));
    const Datum values[] = {Int32GetDatum(meter.id), dimension_argument(fcinfo, 1, meter)};
    take_fold_lock(true);
    run(upsert, values, nullptr, Run::kWrite);
    end_call(call);
    PG_RETURN_VOID();
}

METER_FUNCTION(meter_take_in) {
    using namespace meter::pg;
    static Statement was_left_out = {
        "SELECT FROM meter.rollup_meter WHERE meter_id = $1 AND CASE WHEN $2 = '' "
        "THEN left_out <> '{}' ELSE $2 = ANY (left_out) OR "
        "('' = ANY (left_out) AND $2 <> ALL (kept)) END",
        {INT4OID, TEXTOID}};
    static Statement upsert = {
        "INSERT INTO meter.rollup_meter AS r (meter_id, left_out, kept) "
        "VALUES ($1, '{}', ARRAY[$2]) ON CONFLICT (meter_id) DO UPDATE SET "
        "left_out = CASE WHEN $2 = '' THEN '{}' ELSE array_remove(r.left_out, $2) END, "
        "kept = CASE WHEN $2 = '' THEN '{\"\"}' WHEN $2 = ANY (r.kept) OR '' = ANY (r.kept) "
        "THEN r.kept ELSE r.kept || $2 END",
        {INT4OID, TEXTOID}};
    static Statement covered = {
        "SELECT min(month), max(month) FROM meter.rollup_month WHERE meter_id = $1", {INT4OID}};
    const Call call = begin_change(fcinfo, "take in a dimension", "meter.take_in()");
    const MeterDefinition& meter = require_meter(call.org, text_view(PG_GETARG_DATUM(0)));
    Datum id[] = {Int32GetDatum(meter.id)};
    const Datum values[] = {id[0], dimension_argument(fcinfo, 1, meter)};
    take_fold_lock(true);
    const bool makes_anew = run(was_left_out, values, nullptr, Run::kWrite) > 0;
    run(upsert, values, nullptr, Run::kWrite);
    int64 events = 0;
    if (makes_anew) {
        // Cells that are without the dimension would look like events that have none.
        run(covered, id, nullptr, Run::kWrite);
        bool null;
        const Datum first = result(0, 1, &null);
        const Datum last = result(0, 2, &null);
        if (!null)
            events = rebuild_months(
                PointerGetDatum(construct_array(id, 1, INT4OID, 4, true, TYPALIGN_INT)),
                to_unix_micros(DatumGetTimestampTz(first)),
                to_unix_micros(DatumGetTimestampTz(last)) + 1, "rebuild");
    }
    end_call(call);
    PG_RETURN_INT64(events);
}
