#include "core/hour_sums.hpp"

#include <algorithm>

#include "core/packed_hours.hpp"

namespace meter {

using namespace packed;

void HourSums::add_time(RollupCell& cell, std::int64_t bucket, const HourNumbers& numbers) {
    cell.value_time.add(numbers.time, resource_);
    const std::int64_t shift = numbers.origin - bucket;
    if (cell.value_time.add_product(numbers.sum, shift))
        return;
    cell.value_time.add(multiply(numbers.sum, shift, product_), resource_);
}

void HourSums::add(std::int64_t bucket, const HourNumbers& numbers, HourWants wants) {
    if (latest_ == nullptr || latest_->first != bucket)
        latest_ = &*cells_.try_emplace(bucket).first;
    RollupCell& cell = latest_->second;
    const bool first = cell.empty();
    if (__builtin_add_overflow(cell.event_count, numbers.event_count, &cell.event_count))
        throw Error(ErrorKind::kOutOfRange, "a count of events is out of range");
    cell.value_sum.add(numbers.sum, resource_);
    if (first || numbers.first_time < cell.first_time)
        cell.first_time = numbers.first_time;
    if (wants.timed)
        add_time(cell, bucket, numbers);
    if (!wants.ordered)
        return;
    if (first || compare(numbers.min, cell.value_min.view()) < 0)
        cell.value_min.assign(numbers.min, resource_);
    if (first || compare(numbers.max, cell.value_max.view()) > 0)
        cell.value_max.assign(numbers.max, resource_);
    if (first || numbers.last_time > cell.last_time ||
        (numbers.last_time == cell.last_time && numbers.last_id > cell.last_id)) {
        cell.last_value.assign(numbers.last, resource_);
        cell.last_time = numbers.last_time;
        cell.last_id = numbers.last_id;
    }
}

HourPicker::HourPicker(HourWants wants, std::pmr::memory_resource* resource)
    : wants_(wants),
      pieces_(resource),
      digits_{DigitBuffer(resource), DigitBuffer(resource), DigitBuffer(resource),
              DigitBuffer(resource), DigitBuffer(resource)} {}

HourPicker::Piece HourPicker::piece_at(std::int64_t time) const {
    return std::upper_bound(
        pieces_.begin(), pieces_.end(), time,
        [](std::int64_t instant, const BucketPiece& piece) { return instant < piece.span.end; });
}

void HourPicker::add_hour(std::int64_t hour, const HourNumbers& numbers, HourSums& sums) const {
    const Piece piece = piece_at(hour);
    if (piece != pieces_.end() && piece->span.start <= hour)
        sums.add(piece->bucket, numbers, wants_);
}

void HourPicker::add_day(std::int64_t day, std::string_view packed, HourSums& sums) {
    static constexpr char kOutside[] = "A timestamp lies outside its hour.";
    Unpacker unpacker(packed);
    if (unpacker.byte() != kVersion)
        corrupt("It is of a version that is not known here.");
    Piece piece = piece_at(day);
    const std::int64_t day_end = day + kDayMicros;
    for (int before = -1; !unpacker.at_end();) {
        const auto hour = static_cast<int>(unpacker.byte());
        if (hour >= kHoursOfDay || hour <= before)
            corrupt("Its hours are not in ascending order.");
        before = hour;
        const std::int64_t start = day + hour * kHourMicros;
        while (piece != pieces_.end() && piece->span.end <= start)
            ++piece;
        if (piece == pieces_.end() || piece->span.start >= day_end)
            return;
        const bool wanted = piece->span.start <= start;
        const unsigned flags = unpacker.byte();
        if (flags > kFlags)
            corrupt("An hour has flags that are not known here.");
        const bool single = (flags & kSingle) != 0;
        HourNumbers numbers{};
        numbers.event_count = single ? 1 : unpacker.integer();
        numbers.first_time = start + unpacker.up_to(kHourMicros - 1, kOutside);
        numbers.last_time = numbers.first_time;
        if (!single)
            numbers.last_time += unpacker.up_to(kHourMicros - 1, kOutside);
        numbers.last_id = unpacker.integer();
        if (!wanted) {
            for (int i = single ? 4 : 0; i < 5; ++i)
                unpacker.skip_number();
            continue;
        }
        numbers.sum = unpacker.number(digits_[0]);
        numbers.origin = single ? numbers.first_time : start;
        if (single) {
            numbers.min = numbers.max = numbers.last = numbers.sum;
        } else {
            if (wants_.ordered) {
                numbers.min = unpacker.number(digits_[1]);
                numbers.max = unpacker.number(digits_[2]);
                numbers.last = unpacker.number(digits_[3]);
            } else {
                for (int i = 0; i < 3; ++i)
                    unpacker.skip_number();
            }
            if (wants_.timed)
                numbers.time = unpacker.number(digits_[4]);
            else
                unpacker.skip_number();
        }
        sums.add(piece->bucket, numbers, wants_);
    }
}

}  // namespace meter
