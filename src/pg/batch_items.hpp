// The items of a batch: read, checked, and brought into the form in which they are written.
#pragma once

#include "pg/compat.hpp"

#include <deque>
#include <memory_resource>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/digest.hpp"
#include "core/event.hpp"
#include "pg/caller.hpp"
#include "pg/memory.hpp"

namespace meter::pg {

// How an item ended.
enum class ItemStatus : std::uint8_t { kInvalid, kRecorded, kDuplicate, kConflict, kOverLimit };

// Dimensions that items of one meter share.
struct BatchDimensions {
    std::string_view text;  // canonical
    Datum stored;           // jsonb
    Digest digest;
    bool declared;  // the meter was found to take them
};

// An item of a batch, as plain data; what it points to lives as long as the batch.
struct BatchItem {
    Digest digest;  // of the key, where there is one
    std::int64_t fingerprint;
    std::int64_t event_id;
    std::int64_t time;  // microseconds since 1970
    BatchDimensions* dimensions;
    Datum user;      // text
    Datum key;       // text; 0: none
    Datum value;     // numeric, trimmed
    Datum metadata;  // jsonb
    std::int32_t meter_id;
    std::int32_t error;  // its number in Batch::errors; -1: none
    ItemStatus status;
};

// What an array form has of an item; absent is a datum that is not there.
struct ArrayItem {
    std::optional<Datum> event_name;
    std::optional<Datum> user;
    std::optional<Datum> value;
    std::optional<Datum> dimensions;
    std::optional<Datum> key;
    std::optional<Datum> time;
    std::optional<Datum> metadata;
};

// A meter by the name (or number) that items call it by, and the dimensions they have with it.
struct BatchMeter {
    std::int32_t id = 0;      // 0: not looked up yet
    std::int32_t error = -1;  // why it takes no events
    std::unordered_map<std::string_view, BatchDimensions*> dimensions;
};

// A batch under way. It holds what needs destructors, so it lives in a memory context; its methods
// make no PostgreSQL calls.
struct Batch {
    Batch(MemoryContext context, MemoryContext scratch_context, const Call& caller)
        : arena(context), scratch(scratch_context), call(caller) {}

    std::size_t size() const { return count; }
    BatchItem& item(std::size_t i) { return blocks[i / kBlock][i % kBlock]; }

    // A new item at the end, invalid until it is filled in.
    BatchItem& append();
    // Notes what is wrong with an item, or several.
    std::int32_t add_error(const Error& error);
    void set_error(BatchItem& item, const Error& error);
    // What is wrong with an item, in one line: the result has one column for it.
    std::string_view error_line(const BatchItem& item);

    // A copy that lives as long as the batch.
    char* copy(const void* bytes, std::size_t size);
    Datum copy_text(std::string_view text);

    BatchMeter& meter_named(std::string_view name);
    BatchMeter& meter_numbered(std::int64_t number);

    // Where item `index` conflicts with the payload (value, dimensions) that its key stands for.
    void set_conflict(BatchItem& item, std::string_view given_value, std::string_view value,
                      std::string_view dimensions);

    // In blocks: a vector that grows would move a million items in one go.
    static constexpr std::size_t kBlock = 8192;
    std::vector<BatchItem*> blocks;
    std::size_t count = 0;
    std::deque<Error> errors;
    std::unordered_map<std::string, BatchMeter> names;
    std::unordered_map<std::int64_t, BatchMeter> numbers;
    BatchMeter* last_meter = nullptr;  // by name
    std::string_view last_name;
    ContextArena arena;
    MemoryContext scratch;  // for one item, then reset
    const Call& call;
    std::int64_t now = 0;               // microseconds since 1970, as the next
    std::int64_t transaction_time = 0;  // the timestamp of items without
    bool limited = false;               // a meter of it has hard limits
    std::int64_t horizon = 0;           // before which none is taken
    Datum empty_object = 0;
    Datum one = 0;
    std::pmr::string value_text;
};

// A new batch in the current memory context.
Batch* begin_batch(const Call& call);

// Adds an item as a client's text or a row of arrays has it. What is wrong with it is its error.
// The datums of an array item live as long as the batch.
void add_item(Batch& batch, const EventInput& event);
void add_item(Batch& batch, const ArrayItem& source);

// The canonical text of an item's value, in the current memory context.
std::string_view value_text_of(const BatchItem& item);

}  // namespace meter::pg
