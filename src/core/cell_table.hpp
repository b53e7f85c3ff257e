// Cells by what they are about, while more is added to them.
#pragma once

#include <cstdint>
#include <memory_resource>
#include <unordered_map>
#include <vector>

#include "core/cell_key.hpp"
#include "core/rollup_cell.hpp"

namespace meter {

// A cell under way. Its hours are in use where it is a day's.
struct TableCell {
    explicit TableCell(std::pmr::memory_resource* resource) : hours(resource) {}

    RollupCell cell;
    HourCells hours;
    std::uintptr_t dimensions = 0;  // whatever stands for them where the table is used
    std::uint64_t row = 0;          // the stored cell that this one replaces; 0: none
    bool wanted = true;             // whether it is to be stored
};

// A month of a user, or of all, under way: how dense its usage is, and from when on it has day
// cells.
struct MonthSummary {
    static constexpr std::int64_t kNever = INT64_MAX;

    std::int64_t cells = 0;
    std::int64_t event_count = 0;
    std::int64_t first_time = INT64_MAX;
    std::int64_t last_time = INT64_MIN;
    std::int64_t days_from = kNever;
    bool dirty = false;

    // Whether day cells pay: where there are at least two events to a cell, by what is known of the
    // month so far, and enough of them to tell.
    bool is_dense() const;
};

// A hash table of cells; they stay where they are. Memory comes from the resource and goes with it.
class CellTable {
  public:
    using Entry = std::pair<const CellKey, TableCell>;

    explicit CellTable(std::pmr::memory_resource* resource)
        : resource_(resource), cells_(resource) {}

    // The cell of a key, made where there is none yet. The bytes of the key's user must last.
    TableCell& at(const CellKey& key) { return cells_.try_emplace(key, resource_).first->second; }

    using Map = std::pmr::unordered_map<CellKey, TableCell, CellKeyHash>;

    // All entries, in no order.
    Map& entries() { return cells_; }

    // The entries that are wanted, in the order of their keys.
    std::pmr::vector<Entry*> sorted();

  private:
    std::pmr::memory_resource* resource_;
    Map cells_;
};

// The cells by day and by month, by user and over all of them, that deltas add up to.
class RollupTables {
  public:
    explicit RollupTables(std::pmr::memory_resource* resource);

    // Adds what the events of one hour add up to; key.start is the hour's, and so is the origin of
    // the cell.
    void add_hour(const CellKey& key, const RollupCell& cell, std::uintptr_t dimensions);

    // Fills months, totals and the days' own cells from the hours that were added.
    void finish();

    using Months = std::pmr::unordered_map<CellKey, MonthSummary, CellKeyHash>;
    // The users' months that were added to, by keys without a digest.
    Months& user_months() { return user_months_; }
    // The meters' months that were added to, by keys without user and digest.
    Months& meter_months() { return meter_months_; }

    // Counts in meter_months() the cells that have no stored row alone.
    void count_new_cells();

    // Wants the days' cells alone that user_months() says there are to be.
    void choose_days();

    std::pmr::memory_resource* resource() { return resource_; }

    CellTable days;
    CellTable months;
    CellTable total_days;
    CellTable total_months;

  private:
    std::pmr::memory_resource* resource_;
    Months user_months_;
    Months meter_months_;
};

// Adds a stored day's cell to one under way: its own numbers, and its hours, which are `packed`, or
// where that is empty all lie in the hour of its first timestamp. Throws Error kCorrupt.
void merge_stored_day(TableCell& cell, std::int64_t day, const RollupCell& stored,
                      std::string_view packed, std::pmr::memory_resource* resource);

// The hours of a day's cell, packed, in memory of the resource; empty where all its events lie in
// one hour.
std::string_view pack_hours(const TableCell& cell, std::int64_t day,
                            std::pmr::memory_resource* resource);

}  // namespace meter
