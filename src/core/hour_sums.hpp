// What the hours of many days' cells add up to, by bucket.
#pragma once

#include <cstdint>
#include <map>
#include <memory_resource>
#include <string_view>
#include <vector>

#include "core/period_cut.hpp"
#include "core/rollup_cell.hpp"

namespace meter {

// The numbers of an hour; the digits lie elsewhere. Those from minimum to last_id count only where
// an order is asked for, the two that follow where value x time is.
struct HourNumbers {
    std::int64_t event_count;
    std::int64_t first_time;
    NumberView sum;
    NumberView min;
    NumberView max;
    NumberView last;
    std::int64_t last_time;
    std::int64_t last_id;
    NumberView time;      // the sum of value x (timestamp - origin)
    std::int64_t origin;  // of `time`
};

// What of the hours is added up besides count, sum and first timestamp.
struct HourWants {
    bool ordered;  // minimum, maximum and last
    bool timed;    // value x time
};

// Sums by bucket, whose start is the origin of value_time; dirty of the cells is not kept. Memory
// is the resource's, and goes with it.
class HourSums {
  public:
    explicit HourSums(std::pmr::memory_resource* resource)
        : resource_(resource), cells_(resource), product_(resource) {}

    void add(std::int64_t bucket, const HourNumbers& numbers, HourWants wants);

    using Cells = std::pmr::map<std::int64_t, RollupCell>;
    const Cells& cells() const { return cells_; }

  private:
    void add_time(RollupCell& cell, std::int64_t bucket, const HourNumbers& numbers);

    std::pmr::memory_resource* resource_;
    Cells cells_;
    Cells::value_type* latest_ = nullptr;  // what was added to last
    DigitBuffer product_;
};

// Picks hours out of days' cells, and adds them up.
class HourPicker {
  public:
    HourPicker(HourWants wants, std::pmr::memory_resource* resource);

    // A part of which the hours are wanted, after those added before; made of whole hours.
    void add_piece(const BucketPiece& piece) { pieces_.push_back(piece); }

    // Adds an hour that has all of a day's events, if it is wanted.
    void add_hour(std::int64_t hour, const HourNumbers& numbers, HourSums& sums) const;

    // Adds the wanted ones of a day's packed hours. Throws Error kCorrupt.
    void add_day(std::int64_t day, std::string_view packed, HourSums& sums);

  private:
    using Piece = std::pmr::vector<BucketPiece>::const_iterator;

    // The first piece that ends after an instant.
    Piece piece_at(std::int64_t time) const;

    HourWants wants_;
    std::pmr::vector<BucketPiece> pieces_;
    DigitBuffer digits_[5];
};

}  // namespace meter
