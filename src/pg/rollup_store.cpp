#include "pg/rollup_store.hpp"

#include "core/calendar.hpp"
#include "pg/cells.hpp"
#include "pg/memory.hpp"
#include "pg/numeric.hpp"
#include "pg/rollup_table.hpp"
#include "pg/settings.hpp"
#include "pg/spi.hpp"
#include "pg/values.hpp"

extern "C" {
#include "storage/itemptr.h"
}

namespace meter::pg {

namespace {

// One of the two tables, with its statements.
struct RollupTable {
    bool by_user;
    Statement load;
    Statement insert;
    Statement update;
};

#define METER_CELL_NUMBERS                                                                  \
    "r.first_timestamp, r.last_timestamp, r.event_count, r.last_id, r.dirty, r.value_sum, " \
    "r.value_min, r.value_max, r.last_value, r.value_time, r.event_digest, r.hours"
#define METER_SET_CELL                                                                          \
    " r SET first_timestamp = k.first, last_timestamp = k.last, event_count = k.n, "            \
    "last_id = k.id, dirty = k.dirty, value_sum = k.s, value_min = k.low, value_max = k.high, " \
    "last_value = k.latest, value_time = k.t, event_digest = k.g, hours = k.hours "             \
    "FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) AS k (tid, first, "    \
    "last, n, id, dirty, s, low, high, latest, t, g, hours) WHERE r.ctid = k.tid"

// Cells are looked up one by one, behind a LIMIT: a join would be planned as if the table were as
// small as when it was last analyzed, and read all of it for each key.

// Sizes of chunks bound the memory that one statement's arrays take.
constexpr int kChunk = 20'000;

constexpr Oid kTidArray = TIDARRAYOID;
constexpr Oid kBoolArray = BOOLARRAYOID;

RollupTable kByUser = {
    true,
    {"SELECT k.ordinality, r.ctid, " METER_CELL_NUMBERS
     " FROM unnest($2, $3, $4, $5) WITH ORDINALITY AS k (meter_id, start, digest, user_id), "
     "LATERAL (SELECT r.ctid, r.* FROM meter.rollup r WHERE r.meter_id = k.meter_id "
     "AND r.grain = $1 AND r.start = k.start AND r.user_id = k.user_id AND r.digest = k.digest "
     "LIMIT 1) AS r",
     {CHAROID, INT4ARRAYOID, TIMESTAMPTZARRAYOID, UUIDARRAYOID, TEXTARRAYOID},
     true},
    {"INSERT INTO meter.rollup (grain, first_timestamp, last_timestamp, event_count, last_id, "
     "dirty, value_sum, value_min, value_max, last_value, value_time, event_digest, hours, start, "
     "digest, meter_id, dimensions, user_id) SELECT $1, * FROM unnest($2, $3, $4, $5, $6, $7, $8, "
     "$9, $10, $11, $12, $13, $14, $15, $16, $17, $18)",
     {CHAROID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID, INT8ARRAYOID, kBoolArray,
      NUMERICARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID,
      UUIDARRAYOID, BYTEAARRAYOID, TIMESTAMPTZARRAYOID, UUIDARRAYOID, INT4ARRAYOID, JSONBARRAYOID,
      TEXTARRAYOID}},
    {"UPDATE meter.rollup" METER_SET_CELL,
     {kTidArray, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID, INT8ARRAYOID, kBoolArray,
      NUMERICARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID,
      UUIDARRAYOID, BYTEAARRAYOID}}};

RollupTable kTotal = {
    false,
    {"SELECT k.ordinality, r.ctid, " METER_CELL_NUMBERS
     " FROM unnest($2, $3, $4) WITH ORDINALITY AS k (meter_id, start, digest), "
     "LATERAL (SELECT r.ctid, r.* FROM meter.rollup_total r WHERE r.meter_id = k.meter_id "
     "AND r.grain = $1 AND r.start = k.start AND r.digest = k.digest LIMIT 1) AS r",
     {CHAROID, INT4ARRAYOID, TIMESTAMPTZARRAYOID, UUIDARRAYOID},
     true},
    {"INSERT INTO meter.rollup_total (grain, first_timestamp, last_timestamp, event_count, "
     "last_id, dirty, value_sum, value_min, value_max, last_value, value_time, event_digest, "
     "hours, start, digest, meter_id, dimensions) SELECT $1, * FROM unnest($2, $3, $4, $5, $6, "
     "$7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
     {CHAROID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID, INT8ARRAYOID, kBoolArray,
      NUMERICARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID,
      UUIDARRAYOID, BYTEAARRAYOID, TIMESTAMPTZARRAYOID, UUIDARRAYOID, INT4ARRAYOID, JSONBARRAYOID}},
    {"UPDATE meter.rollup_total" METER_SET_CELL,
     {kTidArray, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID, INT8ARRAYOID, kBoolArray,
      NUMERICARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID,
      UUIDARRAYOID, BYTEAARRAYOID}}};

// Reads the columns of METER_CELL_NUMBERS but the hours into an empty cell; `next` gives one after
// the other.
template <typename Next>
void read_cell(Next&& next, RollupCell* cell, std::pmr::memory_resource* resource) {
    cell->first_time = to_unix_micros(DatumGetTimestampTz(next()));
    cell->last_time = to_unix_micros(DatumGetTimestampTz(next()));
    cell->event_count = DatumGetInt64(next());
    cell->last_id = DatumGetInt64(next());
    cell->dirty = DatumGetBool(next());
    cell->value_sum.add(view_numeric(next()), resource);
    cell->value_min.assign(view_numeric(next()), resource);
    cell->value_max.assign(view_numeric(next()), resource);
    cell->last_value.assign(view_numeric(next()), resource);
    cell->value_time.add(view_numeric(next()), resource);
    cell->digest = DigestSum::of(digest_of(next()));
}

// Adds a stored cell, with its hours as a bytea where it has any, to the one under way.
void add_stored(CellTable::Entry* entry, char grain, const ItemPointerData* tid,
                const RollupCell& stored, const bytea* hours, std::pmr::memory_resource* resource) {
    entry->second.row = static_cast<std::uint64_t>(ItemPointerGetBlockNumber(tid)) << 16 |
                        ItemPointerGetOffsetNumber(tid);
    if (grain == 'm') {
        entry->second.cell.merge(stored, 0, resource);
        return;
    }
    std::string_view packed;
    if (hours != nullptr)
        packed = {VARDATA_ANY(hours), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(hours))};
    merge_stored_day(entry->second, entry->first.start, stored, packed, resource);
}

// How many entries behind the first have its meter and start.
int more_alike(CellTable::Entry* const* entries, int count) {
    const CellKey& key = entries[0]->first;
    int more = 0;
    while (more + 1 < count && entries[more + 1]->first.meter_id == key.meter_id &&
           entries[more + 1]->first.start == key.start)
        ++more;
    return more;
}

// Adds to `count` cells what is stored for them, without the executor.
void load_cells(CellRows* rows, char grain, CellTable::Entry* const* entries, int count,
                std::pmr::memory_resource* resource) {
    int more = 0;
    for (int i = 0; i < count; ++i) {
        if (i % 256 == 0)
            CHECK_FOR_INTERRUPTS();
        more = more > 0 ? more - 1 : more_alike(entries + i, count - i);
        FoundCell found;
        if (!find_cell(rows, grain, entries[i]->first, more, &found))
            continue;
        RollupCell stored;
        const Datum* number = found.numbers;
        read_cell([&] { return *number++; }, &stored, resource);
        const bytea* hours = found.nulls[kCellNumbers - 1] ? nullptr : DatumGetByteaPP(*number);
        add_stored(entries[i], grain, &found.tid, stored, hours, resource);
    }
}

// Adds to `count` cells what is stored for them.
void load_cells(RollupTable* table, char grain, CellTable::Entry* const* entries, int count,
                std::pmr::memory_resource* resource) {
    Columns keys = make_columns({INT4OID, TIMESTAMPTZOID, UUIDOID, TEXTOID}, count);
    for (; keys.rows < count; ++keys.rows) {
        const CellKey& key = entries[keys.rows]->first;
        put(keys, 0, Int32GetDatum(key.meter_id));
        put(keys, 1, TimestampTzGetDatum(to_timestamptz(key.start)));
        put(keys, 2, uuid_datum(key.digest));
        if (table->by_user)
            put(keys, 3, text_datum(key.user_id));
    }
    keys.count = table->by_user ? 4 : 3;
    Datum values[5] = {CharGetDatum(grain)};
    column_arrays(keys, values + 1);
    const uint64 found = run(table->load, values, nullptr, Run::kWrite);
    for (uint64 row = 0; row < found; ++row) {
        bool null;
        CellTable::Entry* entry = entries[DatumGetInt64(result(row, 1, &null)) - 1];
        const auto* tid = reinterpret_cast<ItemPointer>(DatumGetPointer(result(row, 2, &null)));
        RollupCell stored;
        int column = 3;
        read_cell([&] { return result(row, column++, &null); }, &stored, resource);
        const Datum hours = result(row, column, &null);
        add_stored(entry, grain, tid, stored, null ? nullptr : DatumGetByteaPP(hours), resource);
    }
    SPI_freetuptable(SPI_tuptable);
}

Datum bytea_datum(std::string_view bytes) {
    // A bytea looks like a text.
    return text_datum(bytes);
}

// Fills the twelve columns of a row's numbers, from `first` on.
void put_cell(Columns& columns, int first, const TableCell& entry, char grain, int64 start,
              std::pmr::memory_resource* resource) {
    const RollupCell& cell = entry.cell;
    put(columns, first, TimestampTzGetDatum(to_timestamptz(cell.first_time)));
    put(columns, first + 1, TimestampTzGetDatum(to_timestamptz(cell.last_time)));
    put(columns, first + 2, Int64GetDatum(cell.event_count));
    put(columns, first + 3, Int64GetDatum(cell.last_id));
    put(columns, first + 4, BoolGetDatum(cell.dirty));
    put(columns, first + 5, numeric_datum(cell.value_sum));
    put(columns, first + 6, numeric_datum(cell.value_min));
    put(columns, first + 7, numeric_datum(cell.value_max));
    put(columns, first + 8, numeric_datum(cell.last_value));
    put(columns, first + 9, numeric_datum(cell.value_time));
    const std::string_view packed =
        grain == 'd' ? pack_hours(entry, start, resource) : std::string_view();
    put(columns, first + 10, digest_datum(cell.digest));
    if (packed.empty())
        put_null(columns, first + 11);
    else
        put(columns, first + 11, bytea_datum(packed));
}

void insert_cells(RollupTable* table, CellRows* rows, char grain, CellTable::Entry* const* entries,
                  int count, std::pmr::memory_resource* resource) {
    Columns columns =
        make_columns({TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, INT8OID, BOOLOID, NUMERICOID,
                      NUMERICOID, NUMERICOID, NUMERICOID, NUMERICOID, UUIDOID, BYTEAOID,
                      TIMESTAMPTZOID, UUIDOID, INT4OID, JSONBOID, TEXTOID},
                     count);
    for (int i = 0; i < count; ++i) {
        const CellKey& key = entries[i]->first;
        const TableCell& entry = entries[i]->second;
        if (entry.row != 0)
            continue;
        put_cell(columns, 0, entry, grain, key.start, resource);
        put(columns, 12, TimestampTzGetDatum(to_timestamptz(key.start)));
        put(columns, 13, uuid_datum(key.digest));
        put(columns, 14, Int32GetDatum(key.meter_id));
        put(columns, 15, static_cast<Datum>(entry.dimensions));
        put(columns, 16, table->by_user ? text_datum(key.user_id) : static_cast<Datum>(0));
        ++columns.rows;
    }
    if (columns.rows == 0)
        return;
    columns.count = table->by_user ? 17 : 16;
    if (rows != nullptr) {
        insert_cells(rows, grain, columns);
        return;
    }
    Datum values[18] = {CharGetDatum(grain)};
    column_arrays(columns, values + 1);
    run(table->insert, values, nullptr, Run::kWrite);
}

void update_cells(RollupTable* table, CellRows* rows, char grain, CellTable::Entry* const* entries,
                  int count, std::pmr::memory_resource* resource) {
    Columns columns =
        make_columns({TIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, INT8OID, BOOLOID, NUMERICOID,
                      NUMERICOID, NUMERICOID, NUMERICOID, NUMERICOID, UUIDOID, BYTEAOID},
                     count);
    for (int i = 0; i < count; ++i) {
        const TableCell& entry = entries[i]->second;
        if (entry.row == 0)
            continue;
        auto* tid = static_cast<ItemPointer>(palloc(sizeof(ItemPointerData)));
        ItemPointerSet(tid, static_cast<BlockNumber>(entry.row >> 16),
                       static_cast<OffsetNumber>(entry.row & 0xFFFF));
        put(columns, 0, PointerGetDatum(tid));
        put_cell(columns, 1, entry, grain, entries[i]->first.start, resource);
        ++columns.rows;
    }
    if (columns.rows == 0)
        return;
    bool updated;
    if (rows != nullptr) {
        updated = update_cells(rows, columns);
    } else {
        Datum values[13];
        column_arrays(columns, values);
        updated =
            run(table->update, values, nullptr, Run::kWrite) == static_cast<uint64>(columns.rows);
    }
    // Somebody changed cells without the lock. Nothing of ours is done yet that would stay.
    if (!updated)
        ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                        errmsg("cells of the rollups were changed while they were folded into")));
}

// What is to be done with a table's cells under way.
enum class Task { kLoad, kWrite, kLoadAndWrite };

// Adds to the cells what is stored for them, or writes them, or both.
void store_entries(RollupTable* table, char grain, Task task, CellTable::Entry* const* entries,
                   int count, std::pmr::memory_resource* resource) {
    if (count == 0)
        return;
    CellRows* rows = open_cells(table->by_user);
    const MemoryContext chunk_context =
        AllocSetContextCreate(CurrentMemoryContext, "rollup chunk", ALLOCSET_DEFAULT_SIZES);
    const MemoryContext caller_context = MemoryContextSwitchTo(chunk_context);
    for (int at = 0; at < count; at += kChunk) {
        CHECK_FOR_INTERRUPTS();
        const int size = Min(kChunk, count - at);
        if (task != Task::kWrite && rows != nullptr)
            load_cells(rows, grain, entries + at, size, resource);
        else if (task != Task::kWrite)
            load_cells(table, grain, entries + at, size, resource);
        if (task != Task::kLoad) {
            for (int i = at; i < at + size; ++i)
                take_back_voided(entries[i]->second, entries[i]->first.start, grain == 'd',
                                 resource);
            insert_cells(table, rows, grain, entries + at, size, resource);
            update_cells(table, rows, grain, entries + at, size, resource);
        }
        MemoryContextReset(chunk_context);
    }
    MemoryContextSwitchTo(caller_context);
    MemoryContextDelete(chunk_context);
    if (rows != nullptr)
        close_cells(rows);
}

// Plain data of a vector that lives in the current memory context.
template <typename T>
struct Span {
    T* items;
    int count;
};

Span<CellTable::Entry*> sorted_entries(CellTable* table) {
    auto* entries =
        make_in<std::pmr::vector<CellTable::Entry*>>(CurrentMemoryContext, table->sorted());
    return {entries->data(), static_cast<int>(entries->size())};
}

using MonthEntry = RollupTables::Months::value_type;

Span<MonthEntry*> entries_of(RollupTables::Months* months) {
    auto* entries = make_in<std::pmr::vector<MonthEntry*>>(CurrentMemoryContext);
    for (MonthEntry& entry : *months)
        entries->push_back(&entry);
    return {entries->data(), static_cast<int>(entries->size())};
}

// Meter, month, user and the month before of each as arrays.
void key_arrays(const Span<MonthEntry*>& entries, Datum* arrays) {
    Columns keys = make_columns({INT4OID, TIMESTAMPTZOID, TEXTOID, TIMESTAMPTZOID}, entries.count);
    for (; keys.rows < entries.count; ++keys.rows) {
        const CellKey& key = entries.items[keys.rows]->first;
        put(keys, 0, Int32GetDatum(key.meter_id));
        put(keys, 1, TimestampTzGetDatum(to_timestamptz(key.start)));
        put(keys, 2, text_datum(key.user_id));
        put(keys, 3, TimestampTzGetDatum(to_timestamptz(utc_month_of(key.start - 1).start)));
    }
    column_arrays(keys, arrays);
}

// Adds the months under way to meter.rollup_month. To be called once the cells' rows are known.
void store_months(RollupTables* tables) {
    static Statement upsert = {
        "INSERT INTO meter.rollup_month AS r (meter_id, month, first_timestamp, last_timestamp, "
        "event_count, cells, dirty) SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7) "
        "ON CONFLICT (meter_id, month) DO UPDATE SET "
        "first_timestamp = least(r.first_timestamp, excluded.first_timestamp), "
        "last_timestamp = greatest(r.last_timestamp, excluded.last_timestamp), "
        "event_count = r.event_count + excluded.event_count, "
        "cells = r.cells + excluded.cells, dirty = r.dirty OR excluded.dirty",
        {INT4ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID,
         INT8ARRAYOID, BOOLARRAYOID}};
    tables->count_new_cells();
    tables->note_dirty();
    const Span<MonthEntry*> entries = entries_of(&tables->meter_months());
    Columns rows = make_columns(
        {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, INT8OID, BOOLOID},
        entries.count);
    for (; rows.rows < entries.count; ++rows.rows) {
        const auto& [key, month] = *entries.items[rows.rows];
        put(rows, 0, Int32GetDatum(key.meter_id));
        put(rows, 1, TimestampTzGetDatum(to_timestamptz(key.start)));
        put(rows, 2, TimestampTzGetDatum(to_timestamptz(month.first_time)));
        put(rows, 3, TimestampTzGetDatum(to_timestamptz(month.last_time)));
        put(rows, 4, Int64GetDatum(month.event_count));
        put(rows, 5, Int64GetDatum(month.cells));
        put(rows, 6, BoolGetDatum(month.dirty));
    }
    Datum values[7];
    column_arrays(rows, values);
    run(upsert, values, nullptr, Run::kWrite);
}

}  // namespace

void decide_days(RollupTables* tables) {
    // The days of the months, and of the months before.
    static Statement known = {
        "SELECT k.ordinality, d.days_from, d.month = k.month FROM unnest($1, $2, $3, $4) "
        "WITH ORDINALITY AS k (meter_id, month, user_id, before) JOIN meter.rollup_days d "
        "ON d.meter_id = k.meter_id AND d.month = ANY (ARRAY[k.month, k.before]) "
        "AND d.user_id = k.user_id",
        {INT4ARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID},
        true};
    // What is stored of the month.
    static Statement stored = {
        "SELECT r.cells, r.events, r.first, r.last "
        "FROM unnest($1, $2, $3) WITH ORDINALITY AS k (meter_id, month, user_id), "
        "LATERAL (SELECT count(*) AS cells, sum(r.event_count)::bigint AS events, "
        "min(r.first_timestamp) AS first, max(r.last_timestamp) AS last FROM meter.rollup r "
        "WHERE r.meter_id = k.meter_id AND r.grain = 'm' AND r.start = k.month "
        "AND r.user_id = k.user_id) AS r ORDER BY k.ordinality",
        {INT4ARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID},
        true};
    static Statement insert = {
        "INSERT INTO meter.rollup_days (meter_id, month, user_id, days_from) "
        "SELECT * FROM unnest($1, $2, $3, $4)",
        {INT4ARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID}};
    const Span<CellTable::Entry*> months = sorted_entries(&tables->months);
    store_entries(&kByUser, 'm', Task::kLoad, months.items, months.count, tables->resource());
    tables->note_stored();

    Span<MonthEntry*> entries = entries_of(&tables->user_months());
    Datum keys[4];
    key_arrays(entries, keys);
    bool null;
    const uint64 covered = run(known, keys, nullptr, Run::kWrite);
    for (uint64 row = 0; row < covered; ++row) {
        MonthSummary& month = entries.items[DatumGetInt64(result(row, 1, &null)) - 1]->second;
        if (DatumGetBool(result(row, 3, &null)))
            month.days_from = to_unix_micros(DatumGetTimestampTz(result(row, 2, &null)));
        else
            month.dense_before = true;
    }
    SPI_freetuptable(SPI_tuptable);

    int left = 0;
    for (int i = 0; i < entries.count; ++i) {
        const MonthSummary& month = entries.items[i]->second;
        if (month.days_from == MonthSummary::kNever && month.may_be_dense())
            entries.items[left++] = entries.items[i];
    }
    entries.count = left;
    if (left > 0) {
        key_arrays(entries, keys);
        const uint64 count = run(stored, keys, nullptr, Run::kWrite);
        Columns rows =
            make_columns({INT4OID, TIMESTAMPTZOID, TEXTOID, TIMESTAMPTZOID}, entries.count);
        for (uint64 row = 0; row < count; ++row) {
            const CellKey& key = entries.items[row]->first;
            MonthSummary& month = entries.items[row]->second;
            // Days that events were folded for already would be short of those.
            int64 from = key.start;
            const int64 cells = DatumGetInt64(result(row, 1, &null));
            if (cells > 0) {
                const int64 last = to_unix_micros(DatumGetTimestampTz(result(row, 4, &null)));
                from = day_start(last) + kDayMicros;
                month.cells = Max(month.cells, cells);
                month.event_count += DatumGetInt64(result(row, 2, &null));
                month.first_time = Min(month.first_time,
                                       to_unix_micros(DatumGetTimestampTz(result(row, 3, &null))));
                month.last_time = Max(month.last_time, last);
            }
            const bool as_before = cells == 0 && month.dense_before;
            if (!(as_before || month.is_dense(setting_dense_events)) || from >= utc_month_of(key.start).end)
                continue;
            month.days_from = from;
            put(rows, 0, Int32GetDatum(key.meter_id));
            put(rows, 1, TimestampTzGetDatum(to_timestamptz(key.start)));
            put(rows, 2, text_datum(key.user_id));
            put(rows, 3, TimestampTzGetDatum(to_timestamptz(from)));
            ++rows.rows;
        }
        if (rows.rows > 0) {
            Datum values[4];
            column_arrays(rows, values);
            run(insert, values, nullptr, Run::kWrite);
        }
    }
    tables->choose_days();
}

void store_rollups(RollupTables* tables) {
    const struct {
        RollupTable* table;
        char grain;
        Task task;
        CellTable* cells;
    } parts[] = {{&kByUser, 'd', Task::kLoadAndWrite, &tables->days},
                 {&kByUser, 'm', Task::kWrite, &tables->months},
                 {&kTotal, 'd', Task::kLoadAndWrite, &tables->total_days},
                 {&kTotal, 'm', Task::kLoadAndWrite, &tables->total_months}};
    for (const auto& part : parts) {
        const Span<CellTable::Entry*> entries = sorted_entries(part.cells);
        store_entries(part.table, part.grain, part.task, entries.items, entries.count,
                      tables->resource());
    }
    store_months(tables);
}

}  // namespace meter::pg
