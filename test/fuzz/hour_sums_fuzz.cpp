// Feeds arbitrary bytes as a day's packed hours to HourPicker. It reads less of them than
// decode_hours() and so refuses less, but what that takes it has to take, and to add up to the
// same.
#include <cstdint>
#include <memory_resource>
#include <string_view>
#include <vector>

#include "check.hpp"
#include "core/calendar.hpp"
#include "core/error.hpp"
#include "core/hour_sums.hpp"
#include "core/rollup_cell.hpp"

namespace {

using meter::Error;
using meter::ErrorKind;
using meter::kHourMicros;

constexpr std::int64_t kDay = INT64_C(20'500) * 86'400 * 1'000'000;

constexpr meter::BucketPiece piece(int from, int to, int bucket) {
    return {{kDay + from * kHourMicros, kDay + to * kHourMicros}, kDay + bucket * kHourMicros};
}

// Which hours are wanted: all, some in two buckets, those around the day's edges, none.
const std::vector<std::vector<meter::BucketPiece>> kPieces = {
    {piece(0, 24, 0)},
    {piece(1, 3, 0), piece(3, 4, 0), piece(7, 20, 7)},
    {piece(-30, 1, -30), piece(23, 40, 23)},
    {piece(-30, 0, -30), piece(24, 40, 24)},
};

bool wanted(const std::vector<meter::BucketPiece>& pieces, int hour, std::int64_t bucket) {
    const std::int64_t start = kDay + hour * kHourMicros;
    for (const auto& one : pieces)
        if (one.span.start <= start && start < one.span.end)
            return one.bucket == bucket;
    return false;
}

// What the picker made of one bucket, against the hours themselves.
void compare_bucket(const std::vector<meter::BucketPiece>& pieces, meter::HourWants wants,
                    const meter::HourSums::Cells::value_type& entry, const meter::HourCells& hours,
                    std::pmr::memory_resource* resource) {
    meter::RollupCell expected;
    for (const meter::HourCell& hour : hours) {
        if (!wanted(pieces, hour.hour, entry.first))
            continue;
        expected.merge(*hour.cell, kDay + hour.hour * kHourMicros - entry.first, resource);
    }
    const meter::RollupCell& cell = entry.second;
    meter::DigitBuffer a(resource);
    meter::DigitBuffer b(resource);
    check(cell.event_count == expected.event_count);
    check(compare(cell.value_sum.total(a), expected.value_sum.total(b)) == 0);
    check(cell.first_time == expected.first_time);
    if (wants.timed)
        check(compare(cell.value_time.total(a), expected.value_time.total(b)) == 0);
    if (!wants.ordered)
        return;
    check(compare(cell.value_min.view(), expected.value_min.view()) == 0);
    check(compare(cell.value_max.view(), expected.value_max.view()) == 0);
    check(compare(cell.last_value.view(), expected.last_value.view()) == 0);
    check(cell.last_time == expected.last_time && cell.last_id == expected.last_id);
}

void try_pieces(std::string_view bytes, const std::vector<meter::BucketPiece>& pieces,
                meter::HourWants wants, bool well_formed, const meter::HourCells& hours,
                std::pmr::memory_resource* resource) {
    meter::HourPicker picker(wants, resource);
    for (const auto& one : pieces)
        picker.add_piece(one);
    meter::HourSums sums(resource);
    try {
        picker.add_day(kDay, bytes, sums);
    } catch (const Error& error) {
        check(error.kind == ErrorKind::kOutOfRange ||
              (error.kind == ErrorKind::kCorrupt && !well_formed));
        return;
    }
    if (!well_formed)
        return;
    for (const auto& entry : sums.cells()) {
        try {
            compare_bucket(pieces, wants, entry, hours, resource);
        } catch (const Error& error) {
            // The sum of value x time, which the picker may not make, may be too large.
            check(error.kind == ErrorKind::kOutOfRange);
        }
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    std::pmr::monotonic_buffer_resource arena;
    meter::HourCells hours(&arena);
    bool well_formed = true;
    try {
        hours = meter::decode_hours(bytes, kDay, &arena);
    } catch (const Error&) {
        well_formed = false;
    }
    for (const auto& pieces : kPieces)
        for (const auto wants : {meter::HourWants{false, false}, meter::HourWants{true, false},
                                 meter::HourWants{false, true}, meter::HourWants{true, true}})
            try_pieces(bytes, pieces, wants, well_formed, hours, &arena);
    return 0;
}
