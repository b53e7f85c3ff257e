#include "core/cell_table.hpp"

#include <algorithm>
#include <cstddef>
#include <tuple>
#include <utility>

#include "core/calendar.hpp"

namespace meter {

namespace {

// The hour of a day that all events of a cell without hours lie in. Throws Error kCorrupt where
// that is another day's.
int only_hour(const RollupCell& cell, std::int64_t day) {
    const std::int64_t since = cell.first_time - day;
    if (since < 0 || since >= kDayMicros)
        throw Error(ErrorKind::kCorrupt, "a day's cell has a timestamp of another day");
    return static_cast<int>(since / kHourMicros);
}

// Adds a day's numbers and hours to another cell of the same day.
void merge_day(TableCell& into, const TableCell& added, std::int64_t day,
               std::pmr::memory_resource* resource) {
    unfold_hours(into, day, resource);
    if (added.hours.empty()) {
        const int hour = only_hour(added.cell, day);
        hour_cell(into.hours, hour).merge(added.cell, -hour * kHourMicros, resource);
    }
    for (const HourCell& hour : added.hours)
        hour_cell(into.hours, hour.hour).merge(*hour.cell, 0, resource);
    into.cell.merge(added.cell, 0, resource);
}

void summarise(CellTable& cells, RollupTables::Months& months) {
    for (const auto& [key, entry] : cells.entries()) {
        MonthSummary& month = months[{key.meter_id, key.start, key.user_id, {}}];
        ++month.cells;
        for (const TableCell* part = &entry; part != nullptr; part = part->voided) {
            if (part->cell.empty())
                continue;
            month.event_count += part->cell.event_count;
            month.first_time = std::min(month.first_time, part->cell.first_time);
            month.last_time = std::max(month.last_time, part->cell.last_time);
            month.dirty = month.dirty || part->cell.dirty;
        }
    }
}

// Fills months and totals from days.
void add_up(CellTable& days, CellTable& months, CellTable& total_days, CellTable& total_months,
            std::pmr::memory_resource* resource) {
    for (const auto& [key, day] : days.entries()) {
        const std::int64_t month = utc_month_of(key.start).start;
        TableCell& in_month = months.at({key.meter_id, month, key.user_id, key.digest});
        in_month.dimensions = day.dimensions;
        in_month.cell.merge(day.cell, key.start - month, resource);
        TableCell& total = total_days.at({key.meter_id, key.start, {}, key.digest});
        total.dimensions = day.dimensions;
        merge_day(total, day, key.start, resource);
    }
    // There are fewer of them than days.
    for (const auto& [key, month] : months.entries()) {
        TableCell& total = total_months.at({key.meter_id, key.start, {}, key.digest});
        total.dimensions = month.dimensions;
        total.cell.merge(month.cell, 0, resource);
    }
}

// Tells cells what voided events take back from them.
void link(CellTable& voided, CellTable& cells) {
    for (const auto& [key, entry] : voided.entries()) {
        TableCell& cell = cells.at(key);
        cell.dimensions = entry.dimensions;
        cell.voided = &entry;
    }
}

}  // namespace

void unfold_hours(TableCell& cell, std::int64_t day, std::pmr::memory_resource* resource) {
    if (!cell.hours.empty() || cell.cell.empty())
        return;
    const int hour = only_hour(cell.cell, day);
    hour_cell(cell.hours, hour).merge(cell.cell, -hour * kHourMicros, resource);
}

// A power of two; most tables have few cells.
static constexpr std::size_t kFirstSlots = 16;

CellTable::CellTable(std::pmr::memory_resource* resource)
    : resource_(resource),
      slots_(kFirstSlots, resource),
      entries_(*new (resource->allocate(sizeof(Entries), alignof(Entries))) Entries(resource)) {}

TableCell& CellTable::add(const CellKey& key, std::size_t hash, std::size_t at) {
    if ((entries_.size() + 1) * 3 > slots_.size() * 2) {
        std::pmr::vector<Slot> old(slots_.size() * 4, resource_);
        old.swap(slots_);
        const std::size_t mask = slots_.size() - 1;
        const auto free_slot = [&](std::size_t wanted) {
            std::size_t slot = wanted & mask;
            while (slots_[slot].entry != nullptr)
                slot = (slot + 1) & mask;
            return slot;
        };
        for (const Slot& slot : old)
            if (slot.entry != nullptr)
                slots_[free_slot(slot.hash)] = slot;
        at = free_slot(hash);
    }
    Entry& entry = entries_.emplace_back(std::piecewise_construct, std::forward_as_tuple(key),
                                         std::forward_as_tuple(resource_));
    slots_[at] = {hash, &entry};
    return entry.second;
}

std::pmr::vector<CellTable::Entry*> CellTable::sorted() {
    std::pmr::vector<Entry*> entries(resource_);
    entries.reserve(entries_.size());
    for (Entry& entry : entries_)
        if (entry.second.wanted)
            entries.push_back(&entry);
    std::sort(entries.begin(), entries.end(),
              [](const Entry* a, const Entry* b) { return a->first < b->first; });
    return entries;
}

RollupTables::RollupTables(std::pmr::memory_resource* resource)
    : days(resource),
      months(resource),
      total_days(resource),
      total_months(resource),
      voided_days(resource),
      voided_months_(resource),
      voided_total_days_(resource),
      voided_total_months_(resource),
      resource_(resource),
      user_months_(resource),
      meter_months_(resource) {}

TableCell& RollupTables::add_hour(const CellKey& key, const RollupCell& cell, bool voided) {
    const std::int64_t day = day_start(key.start);
    TableCell& entry =
        (voided ? voided_days : days).at({key.meter_id, day, key.user_id, key.digest});
    meter::add_hour(entry, day, static_cast<int>((key.start - day) / kHourMicros), cell, resource_);
    return entry;
}

void RollupTables::finish() {
    add_up(days, months, total_days, total_months, resource_);
    add_up(voided_days, voided_months_, voided_total_days_, voided_total_months_, resource_);
    link(voided_days, days);
    link(voided_months_, months);
    link(voided_total_days_, total_days);
    link(voided_total_months_, total_months);
    summarise(months, user_months_);
    summarise(total_months, meter_months_);
}

void RollupTables::note_stored() {
    for (const auto& [key, entry] : months.entries()) {
        MonthSummary& month = user_months_[{key.meter_id, key.start, key.user_id, {}}];
        month.largest = std::max(month.largest, entry.cell.event_count);
        month.stored = month.stored || entry.row != 0;
    }
}

void RollupTables::note_dirty() {
    const auto note = [&](CellTable& voided, CellTable& cells) {
        for (const auto& [key, entry] : voided.entries())
            if (cells.at(key).cell.dirty) {
                const std::int64_t month = utc_month_of(key.start).start;
                meter_months_[{key.meter_id, month, {}, {}}].dirty = true;
            }
    };
    note(voided_days, days);
    note(voided_months_, months);
    note(voided_total_days_, total_days);
    note(voided_total_months_, total_months);
}

void RollupTables::count_new_cells() {
    for (auto& [key, month] : meter_months_)
        month.cells = 0;
    for (const auto& [key, entry] : total_months.entries())
        if (entry.row == 0)
            ++meter_months_[{key.meter_id, key.start, {}, {}}].cells;
}

void RollupTables::choose_days() {
    for (auto& [key, day] : days.entries()) {
        const std::int64_t month = utc_month_of(key.start).start;
        const auto found = user_months_.find({key.meter_id, month, key.user_id, {}});
        day.wanted = found != user_months_.end() && key.start >= found->second.days_from;
    }
}

// So many events to a cell are enough to tell whether usage is dense.
static constexpr std::int64_t kEnough = 16;

bool MonthSummary::may_be_dense() const {
    return largest >= kEnough || (dense_before && !stored);
}

bool MonthSummary::is_dense(std::int64_t events_to_cell) const {
    const std::int64_t days = last_time / kDayMicros - first_time / kDayMicros + 1;
    return event_count >= kEnough * cells && event_count >= events_to_cell * cells * days;
}

void add_hour(TableCell& cell, std::int64_t day, int hour, const RollupCell& added,
              std::pmr::memory_resource* resource) {
    if (!cell.hours.empty() || (!cell.cell.empty() && only_hour(cell.cell, day) != hour)) {
        unfold_hours(cell, day, resource);
        hour_cell(cell.hours, hour).merge(added, 0, resource);
    }
    cell.cell.merge(added, hour * kHourMicros, resource);
}

void take_back_voided(TableCell& cell, std::int64_t start, bool is_day,
                      std::pmr::memory_resource* resource) {
    const TableCell* voided = cell.voided;
    if (voided == nullptr)
        return;
    cell.voided = nullptr;
    if (is_day) {
        unfold_hours(cell, start, resource);
        const auto take_back = [&](int hour, const RollupCell& from_hour, std::int64_t shift) {
            RollupCell& into = hour_cell(cell.hours, hour);
            into.take_back(from_hour, shift, resource);
            cell.cell.dirty = cell.cell.dirty || into.dirty;
        };
        if (voided->hours.empty()) {
            const int hour = only_hour(voided->cell, start);
            take_back(hour, voided->cell, -hour * kHourMicros);
        }
        for (const HourCell& hour : voided->hours)
            take_back(hour.hour, *hour.cell, 0);
    }
    cell.cell.take_back(voided->cell, 0, resource);
}

void merge_stored_day(TableCell& cell, std::int64_t day, const RollupCell& stored,
                      std::string_view packed, std::pmr::memory_resource* resource) {
    if (packed.empty()) {
        const int hour = only_hour(stored, day);
        if (!cell.hours.empty() || (!cell.cell.empty() && only_hour(cell.cell, day) != hour)) {
            unfold_hours(cell, day, resource);
            hour_cell(cell.hours, hour).merge(stored, -hour * kHourMicros, resource);
        }
    } else {
        unfold_hours(cell, day, resource);
        // For a moment only, unlike all that comes from the resource.
        alignas(std::max_align_t)
            std::byte room[kDayMicros / kHourMicros * (sizeof(RollupCell) + 4 * sizeof(HourCell))];
        std::pmr::monotonic_buffer_resource passing(room, sizeof room, resource);
        for (const HourCell& hour : decode_hours(packed, day, &passing))
            hour_cell(cell.hours, hour.hour).merge(*hour.cell, 0, resource);
    }
    cell.cell.merge(stored, 0, resource);
}

std::string_view pack_hours(const TableCell& cell, std::int64_t day,
                            std::pmr::memory_resource* resource) {
    if (cell.hours.size() <= 1)
        return {};
    const std::pmr::string packed = encode_hours(cell.hours, day, resource);
    auto* bytes = static_cast<char*>(resource->allocate(packed.size(), 1));
    packed.copy(bytes, packed.size());
    return {bytes, packed.size()};
}

}  // namespace meter
