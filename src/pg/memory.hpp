// C++ objects that live in a MemoryContext, and die with it.
#pragma once

#include "pg/compat.hpp"

#include <algorithm>
#include <cstdint>
#include <memory_resource>
#include <new>
#include <string_view>
#include <utility>
#include <vector>

namespace meter::pg {

// Makes a T in `context`; its destructor runs when the context is reset or deleted, by an error
// too. The cleanup is registered before the constructor runs, which may throw.
template <typename T, typename... Args>
T* make_in(MemoryContext context, Args&&... args) {
    struct Owned {
        MemoryContextCallback callback;
        bool alive;
        alignas(T) unsigned char storage[sizeof(T)];
    };
    static_assert(alignof(T) <= MAXIMUM_ALIGNOF);
    auto* owned = static_cast<Owned*>(MemoryContextAlloc(context, sizeof(Owned)));
    owned->alive = false;
    owned->callback.arg = owned;
    owned->callback.func = [](void* arg) {
        auto* self = static_cast<Owned*>(arg);
        if (self->alive)
            reinterpret_cast<T*>(self->storage)->~T();
    };
    MemoryContextRegisterResetCallback(context, &owned->callback);
    T* object = new (owned->storage) T(std::forward<Args>(args)...);
    owned->alive = true;
    return object;
}

// Lets core containers allocate from a MemoryContext, so that PostgreSQL sees, bounds and frees
// their memory. Never raises a PostgreSQL error: where memory is out it throws std::bad_alloc.
class ContextResource final : public std::pmr::memory_resource {
  public:
    explicit ContextResource(MemoryContext context) noexcept : context_(context) {}

  private:
    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        if (alignment > MAXIMUM_ALIGNOF || !AllocHugeSizeIsValid(bytes))
            throw std::bad_alloc();
        void* memory = MemoryContextAllocExtended(context_, bytes == 0 ? 1 : bytes,
                                                  MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
        if (memory == nullptr)
            throw std::bad_alloc();
        return memory;
    }
    void do_deallocate(void* memory, std::size_t, std::size_t) override { pfree(memory); }
    bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
        return this == &other;
    }

    MemoryContext context_;
};

// Memory for many small things that go all at once, with their context or when it is rewound: a
// pointer moves through blocks, and nothing is given back before.
class ContextArena final : public std::pmr::memory_resource {
  public:
    explicit ContextArena(MemoryContext context) noexcept
        : resource_(context), blocks_(&resource_) {}

    // Forgets all that was allocated, and keeps the blocks for what comes: memory that the kernel
    // has to give, and to clear, once more costs more than filling it.
    void rewind() noexcept {
        used_ = 0;
        left_ = 0;
    }

  private:
    struct Block {
        char* bytes;
        std::size_t size;
    };

    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        std::size_t skipped = padding(alignment);
        while (left_ < bytes + skipped) {
            if (used_ == blocks_.size())
                add_block(bytes + alignment);
            at_ = blocks_[used_].bytes;
            left_ = blocks_[used_].size;
            ++used_;
            skipped = padding(alignment);
        }
        char* memory = at_ + skipped;
        at_ = memory + bytes;
        left_ -= bytes + skipped;
        return memory;
    }
    void do_deallocate(void*, std::size_t, std::size_t) override {}
    bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
        return this == &other;
    }

    std::size_t padding(std::size_t alignment) const {
        return (alignment - reinterpret_cast<std::uintptr_t>(at_)) % alignment;
    }
    void add_block(std::size_t least) {
        block_size_ = std::min(block_size_ * 2, kLargestBlock);
        const std::size_t size = std::max(least, block_size_);
        blocks_.push_back({static_cast<char*>(resource_.allocate(size, MAXIMUM_ALIGNOF)), size});
    }

    static constexpr std::size_t kLargestBlock = 1024 * 1024;
    ContextResource resource_;
    std::pmr::vector<Block> blocks_;
    std::size_t used_ = 0;  // blocks, the one that `at_` is in among them
    std::size_t block_size_ = 4096;
    char* at_ = nullptr;
    std::size_t left_ = 0;
};

// The bytes of a text (detoasted, in the current memory context where that was needed).
inline std::string_view text_view(Datum datum) {
    const text* value = DatumGetTextPP(datum);
    return {VARDATA_ANY(value), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(value))};
}

// A text datum in the current memory context.
inline Datum text_datum(std::string_view bytes) {
    return PointerGetDatum(cstring_to_text_with_len(bytes.data(), static_cast<int>(bytes.size())));
}

}  // namespace meter::pg
