// Big-endian bytes, written to a counter or to memory, and read with every length checked.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "core/error.hpp"

namespace meter::wire {

// Counts what would be written.
class Counter {
  public:
    void bytes(const void*, std::size_t length) { size_ += length; }
    std::size_t size() const { return size_; }

  private:
    std::size_t size_ = 0;
};

// Writes to memory that a Counter has measured.
class Memory {
  public:
    explicit Memory(char* at) : at_(at) {}
    void bytes(const void* from, std::size_t length) {
        if (length > 0)
            std::memcpy(at_, from, length);
        at_ += length;
    }
    const char* end() const { return at_; }

  private:
    char* at_;
};

// Writes an integer, most significant byte first.
template <std::integral T, typename Sink>
void put(Sink& sink, T value) {
    unsigned char out[sizeof(T)];
    auto rest = static_cast<std::uint64_t>(value);
    for (std::size_t i = sizeof(T); i-- > 0; rest >>= 8)
        out[i] = static_cast<unsigned char>(rest & 0xFF);
    sink.bytes(out, sizeof out);
}

// Writes a length and the bytes.
template <typename Sink>
void put_text(Sink& sink, std::string_view text) {
    put(sink, static_cast<std::uint32_t>(text.size()));
    sink.bytes(text.data(), text.size());
}

// Throws the one error for bytes that are no aggregate state.
[[noreturn]] inline void malformed(const char* detail) {
    throw Error(ErrorKind::kInvalidBinary, "malformed aggregate state", detail);
}

// Reads what put() wrote. Throws Error kInvalidBinary where the bytes end too early.
class Reader {
  public:
    explicit Reader(std::string_view bytes) : rest_(bytes) {}

    std::string_view take(std::size_t length) {
        if (length > rest_.size())
            malformed("It ends too early.");
        const std::string_view out = rest_.substr(0, length);
        rest_.remove_prefix(length);
        return out;
    }
    template <std::integral T>
    T get() {
        std::uint64_t value = 0;
        for (const char c : take(sizeof(T)))
            value = value << 8 | static_cast<unsigned char>(c);
        return static_cast<T>(value);
    }
    std::string_view get_text() { return take(get<std::uint32_t>()); }
    std::size_t left() const { return rest_.size(); }
    void expect_end() const {
        if (!rest_.empty())
            malformed("It goes on behind its end.");
    }

  private:
    std::string_view rest_;
};

}  // namespace meter::wire
