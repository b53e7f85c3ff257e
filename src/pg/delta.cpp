#include "pg/delta.hpp"

#include <memory_resource>
#include <unordered_map>

#include "core/cell_key.hpp"
#include "core/rollup_cell.hpp"
#include "pg/cells.hpp"
#include "pg/generation.hpp"
#include "pg/memory.hpp"
#include "pg/numeric.hpp"
#include "pg/spi.hpp"
#include "pg/values.hpp"

namespace meter::pg {

namespace {

// The deltas of a statement under way. It holds what needs destructors, so it lives in a memory
// context; its methods make no PostgreSQL calls.
class Deltas {
  public:
    explicit Deltas(MemoryContext context) : resource_(context) {}

    void add(const NewEvent& event, const NumberView& value) {
        const int64 time = to_unix_micros(event.time);
        const CellKey key{event.meter_id, hour_start(time), event.user_id, event.dimensions_digest};
        const auto [at, fresh] = cells_.try_emplace(key);
        if (fresh)
            at->second.dimensions = event.dimensions;
        at->second.cell.add_event(value, time, event.id, key.start, &resource_);
    }

    struct Delta {
        RollupCell cell;
        Datum dimensions;
    };
    using Map = std::pmr::unordered_map<CellKey, Delta, CellKeyHash>;
    const Map& cells() const { return cells_; }

  private:
    ContextArena resource_;
    Map cells_{&resource_};
};

}  // namespace

void write_delta(const NewEvent& event) {
    static Statement insert = {
        "INSERT INTO meter.rollup_pending (first_timestamp, last_id, event_count, meter_id, "
        "generation, digest, user_id, value_sum, dimensions) "
        "VALUES ($1, $2, 1, $3, $4, $5, $6, $7, $8)",
        {TIMESTAMPTZOID, INT8OID, INT4OID, INT4OID, UUIDOID, TEXTOID, NUMERICOID, JSONBOID}};
    const Datum values[] = {TimestampTzGetDatum(event.time),
                            Int64GetDatum(event.id),
                            Int32GetDatum(event.meter_id),
                            Int32GetDatum(hold_generation()),
                            uuid_datum(event.dimensions_digest),
                            text_datum(event.user_id),
                            event.value,
                            event.dimensions};
    run(insert, values, nullptr, Run::kWrite);
}

void write_deltas(const NewEvent* events, int count) {
    Deltas& deltas = *make_in<Deltas>(CurrentMemoryContext, CurrentMemoryContext);
    for (int i = 0; i < count; ++i)
        deltas.add(events[i], view_numeric(events[i].value));
    Columns columns = make_delta_columns(static_cast<int>(deltas.cells().size()));
    for (const auto& [key, delta] : deltas.cells())
        put_delta(columns, key, delta.cell, delta.dimensions, delta.cell.event_count == 1);
    insert_deltas(columns, hold_generation());
}

Columns make_delta_columns(int capacity) {
    return make_columns(
        {TIMESTAMPTZOID, INT8OID, INT8OID, TIMESTAMPTZOID, INT4OID, UUIDOID, TEXTOID, NUMERICOID,
         JSONBOID, NUMERICOID, NUMERICOID, NUMERICOID, NUMERICOID, BOOLOID},
        capacity);
}

void put_delta(Columns& columns, const CellKey& key, const RollupCell& cell, Datum dimensions,
               bool is_event) {
    put(columns, 0, TimestampTzGetDatum(to_timestamptz(cell.first_time)));
    put(columns, 1, Int64GetDatum(cell.last_id));
    put(columns, 2, Int64GetDatum(cell.event_count));
    put(columns, 4, Int32GetDatum(key.meter_id));
    put(columns, 5, uuid_datum(key.digest));
    put(columns, 6, text_datum(key.user_id));
    put(columns, 7, numeric_datum(cell.value_sum));
    put(columns, 8, dimensions);
    if (is_event) {
        for (const int column : {3, 9, 10, 11, 12})
            put_null(columns, column);
    } else {
        put(columns, 3, TimestampTzGetDatum(to_timestamptz(cell.last_time)));
        put(columns, 9, numeric_datum(cell.value_min));
        put(columns, 10, numeric_datum(cell.value_max));
        put(columns, 11, numeric_datum(cell.last_value));
        put(columns, 12, numeric_datum(cell.value_time));
    }
    if (cell.dirty)
        put(columns, 13, BoolGetDatum(true));
    else
        put_null(columns, 13);
    ++columns.rows;
}

void insert_deltas(const Columns& columns, int32 generation) {
    static Statement insert = {
        "INSERT INTO meter.rollup_pending (generation, first_timestamp, last_id, event_count, "
        "last_timestamp, meter_id, digest, user_id, value_sum, dimensions, value_min, value_max, "
        "last_value, value_time, dirty) SELECT $1, * FROM unnest($2, $3, $4, $5, $6, $7, $8, $9, "
        "$10, $11, $12, $13, $14, $15)",
        {INT4OID, TIMESTAMPTZARRAYOID, INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID,
         INT4ARRAYOID, UUIDARRAYOID, TEXTARRAYOID, NUMERICARRAYOID, JSONBARRAYOID, NUMERICARRAYOID,
         NUMERICARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID, BOOLARRAYOID}};
    Datum values[15] = {Int32GetDatum(generation)};
    column_arrays(columns, values + 1);
    run(insert, values, nullptr, Run::kWrite);
}

}  // namespace meter::pg
