#include "pg/delta.hpp"

#include <memory_resource>
#include <unordered_map>

#include "core/cell_key.hpp"
#include "core/rollup_cell.hpp"
#include "pg/catalog.hpp"
#include "pg/cells.hpp"
#include "pg/generation.hpp"
#include "pg/memory.hpp"
#include "pg/numeric.hpp"
#include "pg/spi.hpp"
#include "pg/table_writer.hpp"
#include "pg/values.hpp"

namespace meter::pg {

namespace {

// The columns of meter.rollup_pending.
enum {
    kFirstTime,
    kLastId,
    kEventCount,
    kLastTime,
    kMeter,
    kGeneration,
    kDigest,
    kUser,
    kSum,
    kDimensions,
    kMin,
    kMax,
    kLastValue,
    kValueTime,
    kDirty,
    kFoldError,
    kColumns
};

constexpr TableShape::Column kPendingColumns[kColumns] = {{"first_timestamp", TIMESTAMPTZOID},
                                                          {"last_id", INT8OID},
                                                          {"event_count", INT8OID},
                                                          {"last_timestamp", TIMESTAMPTZOID, true},
                                                          {"meter_id", INT4OID},
                                                          {"generation", INT4OID},
                                                          {"digest", UUIDOID},
                                                          {"user_id", TEXTOID},
                                                          {"value_sum", NUMERICOID},
                                                          {"dimensions", JSONBOID},
                                                          {"value_min", NUMERICOID, true},
                                                          {"value_max", NUMERICOID, true},
                                                          {"last_value", NUMERICOID, true},
                                                          {"value_time", NUMERICOID, true},
                                                          {"dirty", BOOLOID, true},
                                                          {"fold_error", TEXTOID, true}};
constexpr TableShape kPendingShape = {kPendingColumns, kColumns, 0, false};

// What a delta of one event leaves null, and what all do.
constexpr int kNotOfOne[] = {kLastTime, kMin, kMax, kLastValue, kValueTime};
constexpr int kOfNone[] = {kDirty, kFoldError};

// The deltas of a statement under way. It holds what needs destructors, so it lives in a memory
// context; its methods make no PostgreSQL calls.
class Deltas {
  public:
    explicit Deltas(MemoryContext context) : resource_(context) {}

    void add(const NewEvent& event, std::string_view user, const NumberView& value) {
        const int64 time = to_unix_micros(event.time);
        const CellKey key{event.meter_id, hour_start(time), user, event.dimensions_digest};
        const auto [at, fresh] = cells_.try_emplace(key);
        if (fresh)
            at->second.first = &event;
        at->second.cell.add_event(value, time, event.id, key.start, &resource_);
    }

    struct Delta {
        RollupCell cell;
        const NewEvent* first;
    };
    using Map = std::pmr::unordered_map<CellKey, Delta, CellKeyHash>;
    const Map& cells() const { return cells_; }

  private:
    ContextArena resource_;
    Map cells_{&resource_};
};

// Fills in the row of a delta.
void put_delta(Datum* values, bool* nulls, const CellKey& key, const Deltas::Delta& delta,
               Datum generation) {
    const RollupCell& cell = delta.cell;
    for (int i = 0; i < kColumns; ++i)
        nulls[i] = false;
    for (const int column : kOfNone)
        nulls[column] = true;
    values[kFirstTime] = TimestampTzGetDatum(to_timestamptz(cell.first_time));
    values[kLastId] = Int64GetDatum(cell.last_id);
    values[kEventCount] = Int64GetDatum(cell.event_count);
    values[kMeter] = Int32GetDatum(key.meter_id);
    values[kGeneration] = generation;
    values[kDigest] = uuid_datum(key.digest);
    values[kUser] = delta.first->user;
    values[kDimensions] = delta.first->dimensions;
    if (cell.event_count == 1) {
        values[kSum] = delta.first->value;
        for (const int column : kNotOfOne)
            nulls[column] = true;
        return;
    }
    values[kSum] = numeric_datum(cell.value_sum);
    values[kLastTime] = TimestampTzGetDatum(to_timestamptz(cell.last_time));
    values[kMin] = numeric_datum(cell.value_min);
    values[kMax] = numeric_datum(cell.value_max);
    values[kLastValue] = numeric_datum(cell.last_value);
    values[kValueTime] = numeric_datum(cell.value_time);
}

// The deltas table, if rows can be written straight into it.
TableWriter* open_pending() {
    return direct_insert_allowed() ? open_table(relations().pending, kPendingShape) : nullptr;
}

// The types of all columns that deltas of events fill, in their order.
constexpr int kWritten = kDirty;

}  // namespace

void write_delta(const NewEvent& event) {
    static Statement insert = {
        "INSERT INTO meter.rollup_pending (first_timestamp, last_id, event_count, meter_id, "
        "generation, digest, user_id, value_sum, dimensions) "
        "VALUES ($1, $2, 1, $3, $4, $5, $6, $7, $8)",
        {TIMESTAMPTZOID, INT8OID, INT4OID, INT4OID, UUIDOID, TEXTOID, NUMERICOID, JSONBOID}};
    const Datum generation = Int32GetDatum(hold_generation());
    if (TableWriter* writer = open_pending()) {
        RowSet rows = make_rows(*writer, 1);
        Datum* const row = rows.values;
        for (int i = 0; i < kColumns; ++i)
            rows.nulls[i] = false;
        for (const int column : kNotOfOne)
            rows.nulls[column] = true;
        for (const int column : kOfNone)
            rows.nulls[column] = true;
        row[kFirstTime] = TimestampTzGetDatum(event.time);
        row[kLastId] = Int64GetDatum(event.id);
        row[kEventCount] = Int64GetDatum(1);
        row[kMeter] = Int32GetDatum(event.meter_id);
        row[kGeneration] = generation;
        row[kDigest] = uuid_datum(event.dimensions_digest);
        row[kUser] = event.user;
        row[kSum] = event.value;
        row[kDimensions] = event.dimensions;
        insert_rows(*writer, rows, nullptr);
        close_table(writer);
        CommandCounterIncrement();
        return;
    }
    const Datum values[] = {TimestampTzGetDatum(event.time),
                            Int64GetDatum(event.id),
                            Int32GetDatum(event.meter_id),
                            generation,
                            uuid_datum(event.dimensions_digest),
                            event.user,
                            event.value,
                            event.dimensions};
    run(insert, values, nullptr, Run::kWrite);
}

void write_deltas(const NewEvent* events, int count) {
    static Statement insert = {
        "INSERT INTO meter.rollup_pending (first_timestamp, last_id, event_count, last_timestamp, "
        "meter_id, generation, digest, user_id, value_sum, dimensions, value_min, value_max, "
        "last_value, value_time) SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, "
        "$11, $12, $13, $14)",
        {TIMESTAMPTZARRAYOID, INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, INT4ARRAYOID,
         INT4ARRAYOID, UUIDARRAYOID, TEXTARRAYOID, NUMERICARRAYOID, JSONBARRAYOID, NUMERICARRAYOID,
         NUMERICARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID}};
    Deltas& deltas = *make_in<Deltas>(CurrentMemoryContext, CurrentMemoryContext);
    for (int i = 0; i < count; ++i) {
        if (i % 1024 == 0)
            CHECK_FOR_INTERRUPTS();
        deltas.add(events[i], text_view(events[i].user), view_numeric(events[i].value));
    }
    const int cells = static_cast<int>(deltas.cells().size());
    const Datum generation = Int32GetDatum(hold_generation());

    if (TableWriter* writer = open_pending()) {
        static constexpr AttrNumber kOrder[] = {kUser + 1, kMeter + 1, kFirstTime + 1};
        RowSet rows = make_rows(*writer, cells);
        Size at = 0;
        for (const auto& [key, delta] : deltas.cells()) {
            put_delta(rows.values + at, rows.nulls + at, key, delta, generation);
            at += kColumns;
        }
        insert_rows(*writer, rows, order_rows(*writer, rows, kOrder, lengthof(kOrder)));
        close_table(writer);
        CommandCounterIncrement();
        return;
    }
    Columns columns = make_columns(
        {TIMESTAMPTZOID, INT8OID, INT8OID, TIMESTAMPTZOID, INT4OID, INT4OID, UUIDOID, TEXTOID,
         NUMERICOID, JSONBOID, NUMERICOID, NUMERICOID, NUMERICOID, NUMERICOID},
        cells);
    for (const auto& [key, delta] : deltas.cells()) {
        Datum row[kColumns];
        bool nulls[kColumns];
        put_delta(row, nulls, key, delta, generation);
        for (int i = 0; i < kWritten; ++i) {
            if (nulls[i])
                put_null(columns, i);
            else
                put(columns, i, row[i]);
        }
        ++columns.rows;
    }
    Datum values[kWritten];
    column_arrays(columns, values);
    run(insert, values, nullptr, Run::kWrite);
}

}  // namespace meter::pg
