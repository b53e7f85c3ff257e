#include "pg/delta_chunk.hpp"

#include <algorithm>
#include <vector>

#include "core/error.hpp"
#include "pg/cells.hpp"
#include "pg/delta.hpp"
#include "pg/memory.hpp"
#include "pg/numeric.hpp"
#include "pg/spi.hpp"
#include "pg/values.hpp"

namespace meter::pg {

namespace {

// A number that a delta of several events, or of corrections, must have.
NumberView required_number(uint64 row, int column) {
    bool null;
    const Datum value = result(row, column, &null);
    if (null)
        throw Error(ErrorKind::kCorrupt, "a delta lacks columns");
    return view_numeric(value);
}

// Reads a row's numbers; the origin of the cell is the start of its hour.
RollupCell read_delta(uint64 row, std::pmr::memory_resource* resource) {
    bool null;
    const auto column = [&](int number) { return result(row, number, &null); };
    const int64 first = to_unix_micros(DatumGetTimestampTz(column(5)));
    const int64 id = DatumGetInt64(column(7));
    const int64 count = DatumGetInt64(column(8));
    const NumberView sum = view_numeric(column(10));
    const Datum dirty = column(9);
    const bool is_dirty = !null && DatumGetBool(dirty);
    const DigestSum digest = DigestSum::of(digest_of(column(15)));
    RollupCell cell;
    (void)column(14);
    if (null) {
        // Of one event: all follows from its value and timestamp.
        if (count != 1)
            throw Error(ErrorKind::kCorrupt, "a delta of several events lacks columns");
        cell.add_event(sum, first, id, hour_start(first), resource);
        cell.digest = digest;
        cell.dirty = is_dirty;
        return cell;
    }
    const Datum last = column(6);
    cell.first_time = first;
    cell.last_time = null ? first : to_unix_micros(DatumGetTimestampTz(last));
    cell.last_id = id;
    cell.digest = digest;
    cell.event_count = count;
    cell.dirty = is_dirty;
    cell.value_sum.add(sum, resource);
    cell.value_min.assign(required_number(row, 11), resource);
    cell.value_max.assign(required_number(row, 12), resource);
    cell.last_value.assign(required_number(row, 13), resource);
    cell.value_time.add(required_number(row, 14), resource);
    return cell;
}

// An hour under way, and what it is about.
struct Hour {
    CellKey key;
    const RollupCell* cell;
    std::uintptr_t dimensions;
    bool voided;
};

// All hours, in the order of the index on deltas. The vector lives in the current memory context.
std::vector<Hour>* sorted_hours(RollupTables* tables) {
    auto* hours = make_in<std::vector<Hour>>(CurrentMemoryContext);
    for (CellTable* days : {&tables->days, &tables->voided_days})
        for (auto& [key, day] : days->entries()) {
            unfold_hours(day, key.start, tables->resource());
            for (const HourCell& hour : day.hours)
                hours->push_back(
                    {{key.meter_id, key.start + hour.hour * kHourMicros, key.user_id, key.digest},
                     &hour.cell,
                     day.dimensions,
                     days == &tables->voided_days});
        }
    std::sort(hours->begin(), hours->end(), [](const Hour& a, const Hour& b) {
        if (const int order = a.key.user_id.compare(b.key.user_id))
            return order < 0;
        return a.key < b.key;
    });
    return hours;
}

}  // namespace

void add_deltas(RollupTables* tables, LeftOut* left_out) {
    for (uint64 row = 0; row < SPI_processed; ++row) {
        if (row % 1024 == 0)
            CHECK_FOR_INTERRUPTS();
        const RollupCell cell = read_delta(row, tables->resource());
        bool null;
        CellKey key{DatumGetInt32(result(row, 1, &null)), hour_start(cell.first_time),
                    text_view(result(row, 2, &null)), digest_of(result(row, 3, &null))};
        Datum dimensions = result(row, 4, &null);
        if (left_out != nullptr)
            strip_dimensions(left_out, key.meter_id, &dimensions, &key.digest);
        const Datum voided = result(row, 16, &null);
        tables->add_hour(key, cell, static_cast<std::uintptr_t>(dimensions),
                         !null && DatumGetBool(voided));
    }
}

int64 write_hours_as_deltas(RollupTables* tables, int32 generation) {
    // Bounds the memory that one step takes.
    constexpr int kPiece = 20'000;
    const std::vector<Hour>& hours = *sorted_hours(tables);
    const auto count = static_cast<int>(hours.size());
    const MemoryContext piece_context =
        AllocSetContextCreate(CurrentMemoryContext, "deltas", ALLOCSET_DEFAULT_SIZES);
    const MemoryContext caller_context = MemoryContextSwitchTo(piece_context);
    for (int at = 0; at < count; at += kPiece) {
        CHECK_FOR_INTERRUPTS();
        const int piece = Min(kPiece, count - at);
        auto* rows = static_cast<DeltaRow*>(palloc(sizeof(DeltaRow) * static_cast<Size>(piece)));
        for (int i = 0; i < piece; ++i) {
            const Hour& hour = hours[static_cast<std::size_t>(at + i)];
            rows[i] = {&hour.key,
                       hour.cell,
                       text_datum(hour.key.user_id),
                       static_cast<Datum>(hour.dimensions),
                       0,
                       hour.voided};
        }
        insert_deltas(rows, piece, generation);
        MemoryContextReset(piece_context);
    }
    MemoryContextSwitchTo(caller_context);
    MemoryContextDelete(piece_context);
    return count;
}

}  // namespace meter::pg
