// Makes one EventInput of each item, out of the parts of its JSON in the order they come. Knows
// the members of an event and of a CloudEvent, and no JSON parser.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/dimensions.hpp"
#include "core/event.hpp"
#include "core/ingest.hpp"
#include "core/json_metadata.hpp"
#include "core/json_text.hpp"

namespace meter {

// Fed with an item's parts, appends an EventInput when the item ends. The first thing wrong with an
// item is its error, and the rest of it is skipped. An item is a CloudEvent if it has
// `specversion`, which may come last: until then members of both forms are read, and the first
// member of each is remembered, to be the error if the item turns out to be of the other form.
//
// Throws Error kLimitExceeded where there are more than limits.max_events items, and what the
// caller's progress callback throws; nothing else that is an Error.
class ItemReader {
  public:
    ItemReader(const IngestLimits& limits, Progress& progress, std::vector<EventInput>& events,
               const std::function<void()>& on_events)
        : limits_(limits),
          progress_(progress),
          events_(events),
          on_events_(on_events),
          metadata_(progress) {}

    void start_object();
    void end_object();
    void start_array();
    void end_array();
    void key(std::string_view name);
    void string(std::string_view value);
    void number(std::string_view json_number);
    void boolean(bool value);
    void null();

    // Whether an item has begun and not ended.
    bool inside() const { return depth_ > 0; }

    // The items that have begun so far.
    std::size_t items() const { return items_; }

    // Makes the one item that has begun since there were `items_before` of them, or one that could
    // not even begin, invalid for being malformed: whatever it was taken for.
    void abandon(Error error, std::size_t items_before);

  private:
    enum class Type { kNull, kBoolean, kNumber, kString, kObject, kArray };
    enum class Place { kItem, kData, kDimensions, kMetadata };
    enum class Member : std::uint8_t {
        kEventName,
        kMeterId,
        kUserId,
        kValue,
        kDimensions,
        kIdempotency,
        kTimestamp,
        kMetadata,
        kSpecVersion,
        kType,
        kSource,
        kSubject,
        kId,
        kTime,
        kContentType,
        kSchema,
        kData,
        kDataBase64,
        kExtension,  // or a member that is none
    };

    static Member member_of(std::string_view name);
    static bool of_cloud_event(Member member) { return member >= Member::kSpecVersion; }

    void begin();
    void finish();
    void append();
    void finish_cloud_event();
    void finish_plain();
    void start(Type type);
    void item_key(std::string_view name);
    void data_key(std::string_view name);
    void extension_key(std::string_view name);
    void see(Member member, std::uint32_t& seen, std::string_view name);
    void value(Type type, std::string_view text);
    void member_value(Type type, std::string_view text);
    void dimension_value(Type type, std::string_view text);
    void metadata_value(Type type, std::string_view text);
    void name_value(std::optional<std::string>& target, const char* what, Type type,
                    std::string_view text);
    void time_value(const char* what, Type type, std::string_view text);
    void meter_id_value(Type type, std::string_view text);
    void quantity_value(Type type, std::string_view text);
    bool check_text(std::string_view text);
    void fail(Error error);
    void fail_type(std::string_view what, const char* wanted, Type type, std::string_view text);
    template <typename Body>
    void attempt(Body&& body);

    const IngestLimits& limits_;
    Progress& progress_;
    std::vector<EventInput>& events_;
    const std::function<void()>& on_events_;
    std::size_t items_ = 0;     // that have begun
    std::size_t finished_ = 0;  // that are in events_

    // Of the item that has begun.
    std::size_t depth_ = 0;  // of open objects and arrays, its own counting one
    Place place_ = Place::kItem;
    bool in_data_ = false;  // dimensions or metadata belong to `data`
    bool is_cloud_event_ = false;
    Member member_ = Member::kExtension;  // whose value comes next, in kItem and kData
    std::string name_;                    // of the extension or dimension whose value comes next
    std::uint32_t seen_ = 0;              // members of the item, a bit each
    std::uint32_t seen_data_ = 0;         // members of `data`
    std::string first_plain_;             // the first member that no CloudEvent has, or empty
    std::string first_cloud_;             // the first member that no plain item has, or empty
    std::string source_;
    std::string id_;
    std::string extensions_;  // the names of all, and where each stands
    std::vector<NameRef> extension_names_;
    DimensionsBuilder dimensions_;
    MetadataWriter metadata_;
    std::optional<Error> error_;
    EventInput event_;
};

}  // namespace meter
