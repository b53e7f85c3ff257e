#include "pg/delta.hpp"

#include <memory_resource>
#include <unordered_map>

#include "core/cell_key.hpp"
#include "core/digest_sum.hpp"
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
    kEventDigest,
    kUser,
    kSum,
    kDimensions,
    kMin,
    kMax,
    kLastValue,
    kValueTime,
    kDirty,
    kVoided,
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
                                                          {"event_digest", UUIDOID, true},
                                                          {"user_id", TEXTOID},
                                                          {"value_sum", NUMERICOID},
                                                          {"dimensions", JSONBOID},
                                                          {"value_min", NUMERICOID, true},
                                                          {"value_max", NUMERICOID, true},
                                                          {"last_value", NUMERICOID, true},
                                                          {"value_time", NUMERICOID, true},
                                                          {"dirty", BOOLOID, true},
                                                          {"voided", BOOLOID, true},
                                                          {"fold_error", TEXTOID, true}};
constexpr TableShape kPendingShape = {kPendingColumns, kColumns, {}, false};

// What a delta of one event leaves null, and what all do.
constexpr int kNotOfOne[] = {kLastTime, kEventDigest, kMin, kMax, kLastValue, kValueTime};
constexpr int kOfNone[] = {kDirty, kVoided, kFoldError};

DigestSum digest_of_event(const NewEvent& event) {
    return DigestSum::of(event_digest(event.id, to_unix_micros(event.time),
                                      view_numeric(event.value), event.dimensions_digest));
}

// The deltas of a statement under way. It holds what needs destructors, so it lives in a memory
// context; its methods make no PostgreSQL calls.
class Deltas {
  public:
    explicit Deltas(MemoryContext context) : resource_(context) {}

    void add(const NewEvent& event, std::string_view user, const NumberView& value) {
        const int64 time = to_unix_micros(event.time);
        const CellKey key{event.meter_id, hour_start(time), user, event.dimensions_digest};
        const auto [at, fresh] = cells_.try_emplace(key);
        Delta& delta = at->second;
        if (fresh)
            delta.first = &event;
        else if (delta.cell.event_count == 1)
            delta.cell.digest = digest_of_event(*delta.first);
        delta.cell.add_event(value, time, event.id, key.start, &resource_);
        if (!fresh)
            delta.cell.digest.add(digest_of_event(event));
    }

    // Of the cell, the digest only where there are several events.
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

// Fills in the columns of a delta.
void put_delta(Datum* values, bool* nulls, const DeltaRow& delta, Datum generation) {
    const RollupCell& cell = *delta.cell;
    for (int i = 0; i < kColumns; ++i)
        nulls[i] = false;
    nulls[kDirty] = !cell.dirty;
    nulls[kVoided] = !delta.voided;
    nulls[kFoldError] = true;
    values[kFirstTime] = TimestampTzGetDatum(to_timestamptz(cell.first_time));
    values[kLastId] = Int64GetDatum(cell.last_id);
    values[kEventCount] = Int64GetDatum(cell.event_count);
    values[kMeter] = Int32GetDatum(delta.key->meter_id);
    values[kGeneration] = generation;
    values[kDigest] = uuid_datum(delta.key->digest);
    values[kUser] = delta.user;
    values[kDimensions] = delta.dimensions;
    values[kDirty] = BoolGetDatum(cell.dirty);
    values[kVoided] = BoolGetDatum(delta.voided);
    if (delta.value != 0) {
        values[kSum] = delta.value;
        for (const int column : kNotOfOne)
            nulls[column] = true;
        return;
    }
    values[kEventDigest] = digest_datum(cell.digest);
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

// All columns but the last are filled.
constexpr int kWritten = kFoldError;

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

void write_void_delta(const NewEvent& event) {
    const int64 time = to_unix_micros(event.time);
    const NumberView value = view_numeric(event.value);
    auto& key = *make_in<CellKey>(
        CurrentMemoryContext,
        CellKey{event.meter_id, hour_start(time), text_view(event.user), event.dimensions_digest});
    auto* resource = make_in<ContextArena>(CurrentMemoryContext, CurrentMemoryContext);
    auto& cell = *make_in<RollupCell>(CurrentMemoryContext);
    cell.void_event(value, time, event.id, key.start, resource);
    cell.digest = digest_of_event(event).negated();
    const DeltaRow row{&key, &cell, event.user, event.dimensions, 0, true};
    insert_deltas(&row, 1, hold_generation());
}

void write_deltas(const NewEvent* events, int count) {
    Deltas& deltas = *make_in<Deltas>(CurrentMemoryContext, CurrentMemoryContext);
    for (int i = 0; i < count; ++i) {
        if (i % 1024 == 0)
            CHECK_FOR_INTERRUPTS();
        deltas.add(events[i], text_view(events[i].user), view_numeric(events[i].value));
    }
    auto* rows = static_cast<DeltaRow*>(palloc(sizeof(DeltaRow) * deltas.cells().size()));
    int row_count = 0;
    for (const auto& [key, delta] : deltas.cells())
        rows[row_count++] = {&key,
                             &delta.cell,
                             delta.first->user,
                             delta.first->dimensions,
                             delta.cell.event_count == 1 ? delta.first->value : 0,
                             false};
    insert_deltas(rows, row_count, hold_generation());
}

void insert_deltas(const DeltaRow* deltas, int count, int32 generation) {
    static Statement insert = {
        "INSERT INTO meter.rollup_pending (first_timestamp, last_id, event_count, last_timestamp, "
        "meter_id, generation, digest, event_digest, user_id, value_sum, dimensions, value_min, "
        "value_max, last_value, value_time, dirty, voided) SELECT * FROM unnest($1, $2, $3, $4, "
        "$5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
        {TIMESTAMPTZARRAYOID, INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, INT4ARRAYOID,
         INT4ARRAYOID, UUIDARRAYOID, UUIDARRAYOID, TEXTARRAYOID, NUMERICARRAYOID, JSONBARRAYOID,
         NUMERICARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID, BOOLARRAYOID,
         BOOLARRAYOID}};
    if (TableWriter* writer = open_pending()) {
        static constexpr AttrNumber kOrder[] = {kUser + 1, kMeter + 1, kFirstTime + 1};
        RowSet rows = make_rows(*writer, count);
        for (int i = 0; i < count; ++i)
            put_delta(rows.values + static_cast<Size>(i) * kColumns,
                      rows.nulls + static_cast<Size>(i) * kColumns, deltas[i],
                      Int32GetDatum(generation));
        insert_rows(*writer, rows, order_rows(*writer, rows, kOrder, lengthof(kOrder)));
        close_table(writer);
        CommandCounterIncrement();
        return;
    }
    Columns columns =
        make_columns({TIMESTAMPTZOID, INT8OID, INT8OID, TIMESTAMPTZOID, INT4OID, INT4OID, UUIDOID,
                      UUIDOID, TEXTOID, NUMERICOID, JSONBOID, NUMERICOID, NUMERICOID, NUMERICOID,
                      NUMERICOID, BOOLOID, BOOLOID},
                     count);
    for (int row = 0; row < count; ++row) {
        Datum values[kColumns];
        bool nulls[kColumns];
        put_delta(values, nulls, deltas[row], Int32GetDatum(generation));
        for (int i = 0; i < kWritten; ++i) {
            if (nulls[i])
                put_null(columns, i);
            else
                put(columns, i, values[i]);
        }
        ++columns.rows;
    }
    Datum values[kWritten];
    column_arrays(columns, values);
    run(insert, values, nullptr, Run::kWrite);
}

}  // namespace meter::pg
