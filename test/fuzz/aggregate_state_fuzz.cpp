// Feeds arbitrary bytes as states to the aggregates: what they take they have to write again to the
// byte, and to combine with itself.
#include <cstdint>
#include <memory_resource>
#include <string>
#include <string_view>

#include "check.hpp"
#include "core/error.hpp"
#include "core/grouped_state.hpp"

namespace {

using meter::DigitBuffer;
using meter::Error;
using meter::ErrorKind;
using meter::GroupedState;
using meter::StateKind;

void no_pause() {}

template <typename Write>
std::string bytes_of(Write&& write) {
    meter::wire::Counter counter;
    write(counter);
    std::string out(counter.size(), '\0');
    meter::wire::Memory memory(out.data());
    write(memory);
    check(memory.end() == out.data() + out.size());
    return out;
}

std::string written(const GroupedState& state) {
    return bytes_of([&](auto& sink) { state.write(sink, no_pause); });
}

// Every group has a value that can be read.
void read_values(const GroupedState& state) {
    DigitBuffer digits;
    for (std::uint32_t group = 0; group < state.table().size(); ++group) {
        meter::NumberView value;
        if (state.value(group, digits, value))
            check(value.kind != meter::NumberKind::kFinite || weights_fit(value));
    }
}

void try_groups(std::string_view bytes, StateKind kind) {
    auto* resource = std::pmr::new_delete_resource();
    GroupedState state(kind, resource);
    state.absorb(bytes, no_pause);
    check(written(state) == bytes);
    read_values(state);
    // The same groups again, and then the whole flat and back.
    state.absorb(bytes, no_pause);
    read_values(state);
    const std::string twice = written(state);
    GroupedState again(kind, resource);
    again.absorb(twice, no_pause);
    check(written(again) == twice);
}

void try_last(std::string_view bytes, StateKind kind) {
    DigitBuffer digits;
    const meter::LastRow row = read_last(bytes, kind, digits);
    check(bytes_of([&](auto& sink) { write_last(sink, kind, row); }) == bytes);
    check(!row.is_after(row) && !row.replaces(row, kind));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    try {
        meter::wire::Reader reader(bytes);
        const StateKind kind = meter::get_state_head(reader);
        if (meter::is_single_row(kind))
            try_last(bytes, kind);
        else
            try_groups(bytes, kind);
    } catch (const Error& error) {
        check(error.kind == ErrorKind::kInvalidBinary || error.kind == ErrorKind::kOutOfRange);
    }
    return 0;
}
