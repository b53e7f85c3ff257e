// What a set of events adds up to, in a form to which more can be added: a cell of a rollup.
#pragma once

#include <cstdint>
#include <memory_resource>
#include <string_view>
#include <vector>

#include "core/base10k.hpp"
#include "core/digest_sum.hpp"
#include "core/exact_sum.hpp"

namespace meter {

// One cell. Times are microseconds since 1970. Like ExactSum and StoredNumber it does not remember
// its memory resource, and has no destructor: release() gives back what it holds, or the resource
// is dropped with all cells in it.
struct RollupCell {
    std::int64_t event_count = 0;
    ExactSum value_sum;
    StoredNumber value_min;
    StoredNumber value_max;
    StoredNumber last_value;      // of the event with the greatest (timestamp, id):
    std::int64_t last_time = 0;   //   its timestamp, the latest of all
    std::int64_t last_id = 0;     //   its id
    std::int64_t first_time = 0;  // the earliest timestamp
    // The sum of value x (timestamp - origin), in microseconds; the origin is the start of the
    // hour, day or month that the cell is about.
    ExactSum value_time;
    // The sum of the events' digests. Whoever adds an event adds its digest; packed hours are
    // without.
    DigestSum digest;
    // Minimum, maximum, last and the two times are not to be relied on; the times are bounds still.
    bool dirty = false;

    // Whether nothing was added yet. A cell of corrections may count 0 events or fewer and still
    // not be empty.
    bool empty() const { return value_sum.empty(); }
    // Whether a copy of its bytes is a cell of its own: it holds no memory.
    bool is_flat() const {
        return value_sum.is_flat() && value_time.is_flat() && value_min.is_flat() &&
               value_max.is_flat() && last_value.is_flat();
    }

    void add_event(const NumberView& value, std::int64_t time, std::int64_t id, std::int64_t origin,
                   std::pmr::memory_resource* resource);
    // Makes an empty cell what takes that event back.
    void void_event(const NumberView& value, std::int64_t time, std::int64_t id,
                    std::int64_t origin, std::pmr::memory_resource* resource);
    // Adds another cell whose origin lies `shift` microseconds after this one's.
    void merge(const RollupCell& other, std::int64_t shift, std::pmr::memory_resource* resource);
    // Takes back events that were voided: adds a cell of them, which has negative count and sums,
    // while its minimum, maximum and times are those of the voided values. Marks this one dirty
    // unless all of them lie strictly within what is left here: then nothing but count and sums
    // changes. Right in any order, also where a voided event is yet to be added.
    void take_back(const RollupCell& voided, std::int64_t shift,
                   std::pmr::memory_resource* resource);
    void release(std::pmr::memory_resource* resource);
};

// The hours of a day's cell, ascending, each with its own cell, whose origin is the hour's start.
// The cells are of the vector's memory resource: they are large, and would be moved about in it.
struct HourCell {
    int hour;  // of the day, UTC, 0 to 23
    RollupCell* cell;
};
using HourCells = std::pmr::vector<HourCell>;

// The cell of an hour, made where there is none yet.
RollupCell& hour_cell(HourCells& hours, int hour);

// Gives back the cells and what they hold of the same resource; not needed where that is dropped.
void release(HourCells& hours);

// The packed form of the hours of the day that starts at `day`: a version byte, then each hour in
// variable-length integers and base-10000 digits, without what follows from the rest (of an hour
// with one event: minimum, maximum, last). Equal cells have equal bytes.
std::pmr::string encode_hours(const HourCells& hours, std::int64_t day,
                              std::pmr::memory_resource* resource);

// Reads what encode_hours() wrote. Throws Error kCorrupt where it is anything else.
HourCells decode_hours(std::string_view bytes, std::int64_t day,
                       std::pmr::memory_resource* resource);

// a x b, exact. The digits are in `digits`.
NumberView multiply(const NumberView& a, std::int64_t b, DigitBuffer& digits);

}  // namespace meter
