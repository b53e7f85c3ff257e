#include "core/rollup_cell.hpp"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <stdexcept>

#include "core/calendar.hpp"
#include "core/packed_hours.hpp"

namespace meter {

using namespace packed;

namespace {

// Digits that live as long as a call. A buffer that takes its memory from the cell's resource would
// leave it there for good where that resource is one that is dropped as a whole.
class ShortDigits {
  public:
    explicit ShortDigits(std::pmr::memory_resource* resource)
        : resource_(room_, sizeof room_, resource), digits(&resource_) {}

  private:
    alignas(std::max_align_t) std::byte room_[256];
    std::pmr::monotonic_buffer_resource resource_;

  public:
    DigitBuffer digits;
};

// sum += value x factor
void add_product(ExactSum& sum, const NumberView& value, std::int64_t factor,
                 std::pmr::memory_resource* resource) {
    if (sum.add_product(value, factor))
        return;
    ShortDigits product(resource);
    sum.add(multiply(value, factor, product.digits), resource);
}

// sum += other x factor
void add_product(ExactSum& sum, const ExactSum& other, std::int64_t factor,
                 std::pmr::memory_resource* resource) {
    if (sum.add_product(other, factor) || other.empty())
        return;
    ShortDigits total(resource);
    const NumberView number = other.total(total.digits);
    ShortDigits product(resource);
    sum.add(multiply(number, factor, product.digits), resource);
}

// sum += other
void add_sum(ExactSum& sum, const ExactSum& other, std::pmr::memory_resource* resource) {
    if (sum.add_product(other, 1) || other.empty())
        return;
    ShortDigits finite(resource);
    sum.merge(other.seen(), other.finite(finite.digits), resource);
}

// Adds to a cell's count. Throws Error kOutOfRange past 2^63 - 1.
void add_count(std::int64_t& count, std::int64_t more) {
    std::int64_t sum = 0;
    if (__builtin_add_overflow(count, more, &sum))
        throw Error(ErrorKind::kOutOfRange, "a count of events is out of range");
    count = sum;
}

// Whether a cell is what one event makes of it, so that its minimum, maximum, last value, first
// timestamp and value_time follow from its sum and its last timestamp. `sum` is its sum.
bool follows_from_sum(const RollupCell& cell, const NumberView& sum, std::int64_t start,
                      std::pmr::memory_resource* resource) {
    if (cell.event_count != 1 || cell.first_time != cell.last_time ||
        compare(cell.value_min.view(), sum) != 0 || compare(cell.value_max.view(), sum) != 0 ||
        compare(cell.last_value.view(), sum) != 0)
        return false;
    ExactSum rest;
    if (rest.add_product(cell.value_sum, start - cell.last_time) &&
        rest.add_product(cell.value_time, 1))
        return rest.is_zero();
    ShortDigits time(resource);
    ShortDigits product(resource);
    return compare(cell.value_time.total(time.digits),
                   multiply(sum, cell.last_time - start, product.digits)) == 0;
}

std::uint64_t zigzag(std::int64_t value) {
    return static_cast<std::uint64_t>(value) << 1 ^ static_cast<std::uint64_t>(value >> 63);
}

// Writes the packed form, by way of a buffer of its own, until it is flushed.
class Packer {
  public:
    explicit Packer(std::pmr::string& out) : out_(out) {}
    Packer(const Packer&) = delete;
    Packer& operator=(const Packer&) = delete;

    void byte(unsigned value) {
        make_room();
        room_[used_++] = static_cast<char>(value);
    }
    // Seven bits a byte, the lowest first; the highest bit says that more follow.
    void varint(std::uint64_t value) {
        make_room();
        for (; value >= 0x80; value >>= 7)
            room_[used_++] = static_cast<char>(value | 0x80);
        room_[used_++] = static_cast<char>(value);
    }
    void integer(std::int64_t value) { varint(zigzag(value)); }
    // A digit as a varint has one byte or two, never more than it would have in fixed width.
    void number(const NumberView& number) {
        if (number.kind != NumberKind::kFinite)
            throw Error(ErrorKind::kOutOfRange, "a rollup cell cannot hold NaN or an infinity");
        const std::uint32_t count = std::min(number.count, kMostShortCount);
        varint(zigzag(number.weight) << (kCountBits + 1) | count << 1 |
               (number.negative ? 1U : 0U));
        if (count == kMostShortCount)
            varint(number.count - count);
        for (std::uint32_t i = 0; i < number.count; ++i)
            varint(static_cast<std::uint64_t>(number.digit(i)));
    }
    void flush() {
        out_.append(room_, used_);
        used_ = 0;
    }

  private:
    // For one more varint.
    void make_room() {
        constexpr std::size_t kLongest = 10;
        if (used_ > sizeof room_ - kLongest)
            flush();
    }

    std::pmr::string& out_;
    std::size_t used_ = 0;
    char room_[512];
};

// Writes an hour's cell.
void encode_cell(Packer& packer, const RollupCell& cell, std::int64_t start, DigitBuffer& digits,
                 std::pmr::memory_resource* resource) {
    if (cell.first_time < start || cell.last_time < cell.first_time ||
        cell.last_time - start >= kHourMicros)
        throw std::logic_error("an event of a rollup cell lies outside its hour");
    const NumberView sum = cell.value_sum.total(digits);
    const bool single = follows_from_sum(cell, sum, start, resource);
    packer.byte((single ? kSingle : 0) | (cell.dirty ? kDirty : 0));
    if (!single)
        packer.integer(cell.event_count);
    packer.varint(static_cast<std::uint64_t>(cell.first_time - start));
    if (!single)
        packer.varint(static_cast<std::uint64_t>(cell.last_time - cell.first_time));
    packer.integer(cell.last_id);
    packer.number(sum);
    if (single)
        return;
    packer.number(cell.value_min.view());
    packer.number(cell.value_max.view());
    packer.number(cell.last_value.view());
    packer.number(cell.value_time.total(digits));
}

// Reads an hour's cell into one that is empty.
void decode_cell(Unpacker& unpacker, RollupCell& cell, std::int64_t start, DigitBuffer& digits,
                 std::pmr::memory_resource* resource) {
    static constexpr char kOutside[] = "A timestamp lies outside its hour.";
    const unsigned flags = unpacker.byte();
    if (flags > kFlags)
        corrupt("An hour has flags that are not known here.");
    const bool single = (flags & kSingle) != 0;
    const std::int64_t count = single ? 1 : unpacker.integer();
    const std::int64_t first = unpacker.up_to(kHourMicros - 1, kOutside);
    const std::int64_t length = single ? 0 : unpacker.up_to(kHourMicros - 1 - first, kOutside);
    const std::int64_t last_id = unpacker.integer();
    const NumberView sum = unpacker.number(digits);
    if (single) {
        cell.add_event(sum, start + first, last_id, start, resource);
        cell.dirty = (flags & kDirty) != 0;
        return;
    }
    cell.event_count = count;
    cell.first_time = start + first;
    cell.last_time = start + first + length;
    cell.last_id = last_id;
    cell.dirty = (flags & kDirty) != 0;
    cell.value_sum.add(sum, resource);
    cell.value_min.assign(unpacker.number(digits), resource);
    cell.value_max.assign(unpacker.number(digits), resource);
    cell.last_value.assign(unpacker.number(digits), resource);
    cell.value_time.add(unpacker.number(digits), resource);
    if (count == 1 && follows_from_sum(cell, cell.value_sum.total(digits), start, resource))
        corrupt("An hour of one event is written as one of many.");
}

RollupCell* make_cell(std::pmr::memory_resource* resource) {
    return new (resource->allocate(sizeof(RollupCell), alignof(RollupCell))) RollupCell();
}

// Reads all hours into `hours`; where it throws they hold what was read before.
void decode_all(HourCells& hours, std::string_view bytes, std::int64_t day,
                std::pmr::memory_resource* resource) {
    Unpacker unpacker(bytes);
    if (unpacker.byte() != kVersion)
        corrupt("It is of a version that is not known here.");
    DigitBuffer digits(resource);
    while (!unpacker.at_end()) {
        const auto hour = static_cast<int>(unpacker.byte());
        if (hour >= kHoursOfDay || (!hours.empty() && hour <= hours.back().hour))
            corrupt("Its hours are not in ascending order.");
        hours.push_back({hour, nullptr});
        hours.back().cell = make_cell(resource);
        decode_cell(unpacker, *hours.back().cell, day + hour * kHourMicros, digits, resource);
    }
}

}  // namespace

void RollupCell::add_event(const NumberView& value, std::int64_t time, std::int64_t id,
                           std::int64_t origin, std::pmr::memory_resource* resource) {
    const bool first = empty();
    add_count(event_count, 1);
    value_sum.add(value, resource);
    add_product(value_time, value, time - origin, resource);
    if (first || compare(value, value_min.view()) < 0)
        value_min.assign(value, resource);
    if (first || compare(value, value_max.view()) > 0)
        value_max.assign(value, resource);
    if (first || time > last_time || (time == last_time && id > last_id)) {
        last_value.assign(value, resource);
        last_time = time;
        last_id = id;
    }
    if (first || time < first_time)
        first_time = time;
}

void RollupCell::void_event(const NumberView& value, std::int64_t time, std::int64_t id,
                            std::int64_t origin, std::pmr::memory_resource* resource) {
    NumberView taken = value;
    taken.negative = !value.negative && value.count > 0;
    event_count = -1;
    value_sum.add(taken, resource);
    add_product(value_time, taken, time - origin, resource);
    value_min.assign(value, resource);
    value_max.assign(value, resource);
    last_value.assign(value, resource);
    first_time = last_time = time;
    last_id = id;
}

void RollupCell::merge(const RollupCell& other, std::int64_t shift,
                       std::pmr::memory_resource* resource) {
    dirty = dirty || other.dirty;
    if (other.empty())
        return;
    const bool first = empty();
    if (first && other.is_flat()) {
        const bool was_dirty = dirty;
        *this = other;
        dirty = was_dirty;
        if (shift != 0)
            add_product(value_time, other.value_sum, shift, resource);
        return;
    }
    add_count(event_count, other.event_count);
    digest.add(other.digest);
    add_sum(value_time, other.value_time, resource);
    if (shift != 0)
        add_product(value_time, other.value_sum, shift, resource);
    add_sum(value_sum, other.value_sum, resource);
    if (first || compare(other.value_min.view(), value_min.view()) < 0)
        value_min.assign(other.value_min.view(), resource);
    if (first || compare(other.value_max.view(), value_max.view()) > 0)
        value_max.assign(other.value_max.view(), resource);
    if (first || other.last_time > last_time ||
        (other.last_time == last_time && other.last_id > last_id)) {
        last_value.assign(other.last_value.view(), resource);
        last_time = other.last_time;
        last_id = other.last_id;
    }
    if (first || other.first_time < first_time)
        first_time = other.first_time;
}

void RollupCell::take_back(const RollupCell& voided, std::int64_t shift,
                           std::pmr::memory_resource* resource) {
    if (voided.empty())
        return;
    const bool inside = !empty() && compare(voided.value_min.view(), value_min.view()) > 0 &&
                        compare(voided.value_max.view(), value_max.view()) < 0 &&
                        voided.first_time > first_time &&
                        (voided.last_time < last_time ||
                         (voided.last_time == last_time && voided.last_id < last_id));
    merge(voided, shift, resource);
    dirty = dirty || !inside;
}

void RollupCell::release(std::pmr::memory_resource* resource) {
    value_sum.release(resource);
    value_min.release(resource);
    value_max.release(resource);
    last_value.release(resource);
    value_time.release(resource);
    *this = RollupCell{};
}

RollupCell& hour_cell(HourCells& hours, int hour) {
    // Events come in the order of time, mostly: look from the end.
    auto at = hours.end();
    while (at != hours.begin() && std::prev(at)->hour >= hour)
        --at;
    if (at != hours.end() && at->hour == hour)
        return *at->cell;
    at = hours.insert(at, {hour, nullptr});
    at->cell = make_cell(hours.get_allocator().resource());
    return *at->cell;
}

void release(HourCells& hours) {
    std::pmr::memory_resource* const resource = hours.get_allocator().resource();
    for (HourCell& hour : hours) {
        if (hour.cell == nullptr)
            continue;
        hour.cell->release(resource);
        resource->deallocate(hour.cell, sizeof(RollupCell), alignof(RollupCell));
    }
    hours.clear();
}

std::pmr::string encode_hours(const HourCells& hours, std::int64_t day,
                              std::pmr::memory_resource* resource) {
    std::pmr::string out(resource);
    Packer packer(out);
    DigitBuffer digits(resource);
    packer.byte(kVersion);
    for (const HourCell& hour : hours) {
        if (hour.cell->empty())
            continue;
        packer.byte(static_cast<unsigned>(hour.hour));
        encode_cell(packer, *hour.cell, day + hour.hour * kHourMicros, digits, resource);
    }
    packer.flush();
    return out;
}

HourCells decode_hours(std::string_view bytes, std::int64_t day,
                       std::pmr::memory_resource* resource) {
    HourCells hours(resource);
    try {
        decode_all(hours, bytes, day, resource);
    } catch (const Error& error) {
        release(hours);
        // From arithmetic, where a number is too large for anything that we write.
        if (error.kind == ErrorKind::kOutOfRange)
            corrupt("A number is out of range.");
        throw;
    } catch (...) {
        release(hours);
        throw;
    }
    return hours;
}

NumberView multiply(const NumberView& a, std::int64_t b, DigitBuffer& digits) {
    switch (a.kind) {
        case NumberKind::kNaN:
            return a;
        case NumberKind::kInfinity:
        case NumberKind::kMinusInfinity:
            if (b == 0)
                return {.kind = NumberKind::kNaN};
            return {.kind = (a.kind == NumberKind::kInfinity) == (b > 0)
                                ? NumberKind::kInfinity
                                : NumberKind::kMinusInfinity};
        case NumberKind::kFinite:
            break;
    }
    if (a.count == 0 || b == 0)
        return {};
    // The digits of b, the lowest first.
    std::uint64_t factor[5];
    std::uint32_t factors = 0;
    auto left = b < 0 ? ~static_cast<std::uint64_t>(b) + 1 : static_cast<std::uint64_t>(b);
    for (; left > 0; left /= 10000)
        factor[factors++] = left % 10000;
    // From the lowest digit of the product, k, up to its highest: all that meets in it, and the
    // carry. That is below 5 x 10^8 and a 10000th of the same.
    const std::uint32_t count = a.count + factors;
    digits.resize(count);
    std::uint64_t over = 0;
    for (std::uint32_t k = 0; k < count; ++k) {
        for (std::uint32_t j = k < a.count ? 0 : k - a.count + 1; j < factors && j <= k; ++j)
            over += static_cast<std::uint64_t>(a.digit(a.count - 1 - (k - j))) * factor[j];
        digits[count - 1 - k] = static_cast<std::int16_t>(over % 10000);
        over /= 10000;
    }
    return normalise({.negative = a.negative != (b < 0),
                      .weight = a.weight + static_cast<std::int32_t>(factors),
                      .count = count,
                      .digits = digits.data()});
}

}  // namespace meter
