// Cells by what they are about, while more is added to them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory_resource>
#include <new>
#include <unordered_map>
#include <vector>

#include "core/cell_key.hpp"
#include "core/rollup_cell.hpp"

namespace meter {

// A cell under way. A day's hours are in use where its events lie in several hours: without, all of
// them lie in the hour of the first.
struct TableCell {
    explicit TableCell(std::pmr::memory_resource* resource) : hours(resource) {}

    RollupCell cell;
    HourCells hours;
    const TableCell* voided = nullptr;  // what voided events take back from it, until that is done
    std::uintptr_t dimensions = 0;      // whatever stands for them where the table is used
    std::uint64_t row = 0;              // the stored cell that this one replaces; 0: none
    bool wanted = true;                 // whether it is to be stored
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
    std::int64_t largest = 0;   // the most events of a cell that was added to
    bool stored = false;        // whether a cell that was added to was there before
    bool dense_before = false;  // whether the month before has day cells
    bool dirty = false;

    // Whether day cells pay: where there are at least so many events to a cell and day, by what is
    // known of the month so far, and enough of them to tell.
    bool is_dense(std::int64_t events_to_cell) const;

    // False where it cannot be dense, by the cells alone that were added to: then none of them has
    // as many events as all would have in the mean. A month that is dense is found out when one of
    // its larger cells is added to, which is soon.
    bool may_be_dense() const;
};

// A hash table of cells, by open addressing; they stay where they are. Memory comes from the
// resource and goes with it.
class CellTable {
  public:
    using Entry = std::pair<const CellKey, TableCell>;
    using Entries = std::pmr::deque<Entry>;

    explicit CellTable(std::pmr::memory_resource* resource);

    // The cell of a key, made where there is none yet. The bytes of the key's user must last.
    TableCell& at(const CellKey& key) {
        const std::size_t hash = CellKeyHash{}(key);
        const std::size_t mask = slots_.size() - 1;
        std::size_t at = hash & mask;
        for (; slots_[at].entry != nullptr; at = (at + 1) & mask)
            if (slots_[at].hash == hash && slots_[at].entry->first == key)
                return slots_[at].entry->second;
        return add(key, hash, at);
    }

    // All entries, in the order in which they came.
    Entries& entries() { return entries_; }

    // The entries that are wanted, in the order of their keys.
    std::pmr::vector<Entry*> sorted();

  private:
    // The hash is kept here: of an entry that is not the one looked for nothing is read.
    struct Slot {
        std::size_t hash = 0;
        Entry* entry = nullptr;
    };

    TableCell& add(const CellKey& key, std::size_t hash, std::size_t at);

    std::pmr::memory_resource* resource_;
    std::pmr::vector<Slot> slots_;  // as many as a power of two, two thirds in use at most
    // Not destroyed: what it has goes with the resource, and to visit each cell would take longer.
    Entries& entries_;
};

// The cells by day and by month, by user and over all of them, that deltas add up to.
class RollupTables {
  public:
    explicit RollupTables(std::pmr::memory_resource* resource);

    // Adds what the events of one hour add up to; key.start is the hour's, and so is the origin of
    // the cell. With `voided` it is what voided events take back. Returns the day's cell, whose
    // dimensions are the caller's to set.
    TableCell& add_hour(const CellKey& key, const RollupCell& cell, bool voided);

    // Fills months and totals from the hours that were added.
    void finish();

    using Months = std::pmr::unordered_map<CellKey, MonthSummary, CellKeyHash>;
    // The users' months that were added to, by keys without a digest.
    Months& user_months() { return user_months_; }
    // The meters' months that were added to, by keys without user and digest.
    Months& meter_months() { return meter_months_; }

    // Fills `largest` and `stored` of user_months(), once the months have what is stored.
    void note_stored();

    // Marks in meter_months() those of which a cell became dirty by what was taken back.
    void note_dirty();

    // Counts in meter_months() the cells that have no stored row alone.
    void count_new_cells();

    // Wants the days' cells alone that user_months() says there are to be.
    void choose_days();

    std::pmr::memory_resource* resource() { return resource_; }

    CellTable days;
    CellTable months;
    CellTable total_days;
    CellTable total_months;
    CellTable voided_days;  // what voided events take back, by day; the cells' `voided` point there

  private:
    CellTable voided_months_;
    CellTable voided_total_days_;
    CellTable voided_total_months_;
    std::pmr::memory_resource* resource_;
    Months user_months_;
    Months meter_months_;
};

// Gives a day's cell that has events its hours, which it is without as long as it has but one.
void unfold_hours(TableCell& cell, std::int64_t day, std::pmr::memory_resource* resource);

// Adds to a day's cell what an hour's events add up to, whose origin is the hour's start.
void add_hour(TableCell& cell, std::int64_t day, int hour, const RollupCell& added,
              std::pmr::memory_resource* resource);

// Takes back from a cell under way, of a day or of a month, what its `voided` says; after what is
// stored was added. Where an hour of a day becomes dirty, so does the day.
void take_back_voided(TableCell& cell, std::int64_t start, bool is_day,
                      std::pmr::memory_resource* resource);

// Adds a stored day's cell to one under way: its own numbers, and its hours, which are `packed`, or
// where that is empty all lie in the hour of its first timestamp. Throws Error kCorrupt.
void merge_stored_day(TableCell& cell, std::int64_t day, const RollupCell& stored,
                      std::string_view packed, std::pmr::memory_resource* resource);

// The hours of a day's cell, packed, in memory of the resource; empty where all its events lie in
// one hour.
std::string_view pack_hours(const TableCell& cell, std::int64_t day,
                            std::pmr::memory_resource* resource);

}  // namespace meter
