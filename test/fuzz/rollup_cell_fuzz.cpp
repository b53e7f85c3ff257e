// Feeds arbitrary bytes to decode_hours. What it takes must be what encode_hours writes, to the
// byte; anything else it refuses as corrupt.
#include <cstdint>
#include <cstdlib>
#include <memory_resource>
#include <string_view>

#include "core/error.hpp"
#include "core/rollup_cell.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    auto* resource = std::pmr::new_delete_resource();
    constexpr std::int64_t kDay = INT64_C(20'500) * 86'400 * 1'000'000;
    try {
        meter::HourCells hours = meter::decode_hours(bytes, kDay, resource);
        if (std::string_view(meter::encode_hours(hours, kDay, resource)) != bytes)
            std::abort();
        release(hours);
    } catch (const meter::Error& error) {
        if (error.kind != meter::ErrorKind::kCorrupt)
            std::abort();
    }
    return 0;
}
