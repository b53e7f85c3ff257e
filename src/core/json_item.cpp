#include "core/json_item.hpp"

#include <algorithm>
#include <charconv>
#include <utility>

#include "core/decimal.hpp"
#include "core/text.hpp"
#include "core/timestamp.hpp"

namespace meter {

namespace {

constexpr const char* kTimestampHint = "Use an RFC 3339 string, for example 2026-01-31T12:00:00Z.";

// Whether `name` can be that of a CloudEvents attribute: lower-case letters and digits.
bool is_attribute_name(std::string_view name) {
    return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    });
}

// Whether a media type says JSON: application/json or anything ending in +json; case and
// parameters do not count.
bool is_json_media_type(std::string_view text) {
    std::string type(text.substr(0, text.find(';')));
    while (!type.empty() && (type.back() == ' ' || type.back() == '\t'))
        type.pop_back();
    for (char& c : type)
        if (c >= 'A' && c <= 'Z')
            c = static_cast<char>(c - 'A' + 'a');
    const std::size_t slash = type.find('/');
    return type == "application/json" ||
           (slash != std::string::npos && slash > 0 && type.ends_with("+json") &&
            type.size() > slash + 1 + std::string_view("+json").size());
}

Error invalid(std::string message, std::string detail = {}, std::string hint = {}) {
    return {ErrorKind::kInvalidParameter, std::move(message), std::move(detail), std::move(hint)};
}

Error unknown_member(std::string_view name) {
    return invalid("unknown member " + quote_for_message(name), {},
                   "An event has event_name or meter_id, user_id, value, dimensions, idempotency, "
                   "timestamp and metadata; put anything else into metadata.");
}

}  // namespace

// The member of an item by that name; kExtension where there is none.
ItemReader::Member ItemReader::member_of(std::string_view name) {
    // Every length has few candidates, so that a name costs one or two comparisons.
    switch (name.size()) {
        case 2:
            return name == "id" ? Member::kId : Member::kExtension;
        case 4:
            return name == "type"   ? Member::kType
                   : name == "time" ? Member::kTime
                   : name == "data" ? Member::kData
                                    : Member::kExtension;
        case 5:
            return name == "value" ? Member::kValue : Member::kExtension;
        case 6:
            return name == "userId"   ? Member::kUserId
                   : name == "source" ? Member::kSource
                                      : Member::kExtension;
        case 7:
            return name == "user_id"   ? Member::kUserId
                   : name == "meterId" ? Member::kMeterId
                   : name == "subject" ? Member::kSubject
                                       : Member::kExtension;
        case 8:
            return name == "metadata"   ? Member::kMetadata
                   : name == "meter_id" ? Member::kMeterId
                                        : Member::kExtension;
        case 9:
            return name == "timestamp"   ? Member::kTimestamp
                   : name == "eventName" ? Member::kEventName
                                         : Member::kExtension;
        case 10:
            return name == "event_name"   ? Member::kEventName
                   : name == "dimensions" ? Member::kDimensions
                   : name == "dataschema" ? Member::kSchema
                                          : Member::kExtension;
        case 11:
            return name == "idempotency"   ? Member::kIdempotency
                   : name == "specversion" ? Member::kSpecVersion
                   : name == "data_base64" ? Member::kDataBase64
                                           : Member::kExtension;
        case 15:
            return name == "datacontenttype" ? Member::kContentType : Member::kExtension;
        default:
            return Member::kExtension;
    }
}

void ItemReader::fail(Error error) {
    if (!error_)
        error_ = std::move(error);
}

// Runs `body`, and makes an Error of it the item's. For checks of values only: nothing in it may
// call the progress callback, whose exceptions are not the item's.
template <typename Body>
void ItemReader::attempt(Body&& body) {
    try {
        body();
    } catch (Error& error) {
        fail(std::move(error));
    }
}

// Says that `what` should have been `wanted`, and what it is.
void ItemReader::fail_type(std::string_view what, const char* wanted, Type type,
                           std::string_view text) {
    std::string is;
    switch (type) {
        case Type::kNull:
            is = "null";
            break;
        case Type::kBoolean:
            is = text;
            break;
        case Type::kNumber:
            is = clip_utf8(text, 80);
            is += text.size() > 80 ? "..." : "";
            break;
        case Type::kString:
            is = quote_for_message(text);
            break;
        case Type::kObject:
            is = "an object";
            break;
        case Type::kArray:
            is = "an array";
            break;
    }
    fail(invalid(std::string(what) + " must be " + wanted + ", not " + is));
}

// PostgreSQL's text cannot hold the character that \u0000 stands for.
bool ItemReader::check_text(std::string_view text) {
    if (text.find('\0') == std::string_view::npos)
        return true;
    fail(invalid("the character \\u0000 cannot be stored"));
    return false;
}

void ItemReader::begin() {
    if (items_ == limits_.max_events)
        throw Error(ErrorKind::kLimitExceeded,
                    "payload holds more than " + std::to_string(limits_.max_events) + " events", {},
                    "Send fewer at a time, or raise meter.max_batch_events.");
    if (on_events_ && events_.size() >= kEventsAtOnce)
        on_events_();
    ++items_;
    place_ = Place::kItem;
    in_data_ = false;
    is_cloud_event_ = false;
    seen_ = 0;
    seen_data_ = 0;
    first_plain_.clear();
    first_cloud_.clear();
    source_.clear();
    id_.clear();
    extensions_.clear();
    extension_names_.clear();
    error_.reset();
    event_ = EventInput{};
}

// Appends event_. A vector that doubles would move a million events in one go, out of reach of a
// cancel request, and hold them twice meanwhile; so it grows to what the whole payload is likely to
// need, but never more than 64 times what is there, should the payload be made to mislead.
void ItemReader::append() {
    constexpr std::size_t kFew = 1024;
    const std::size_t size = events_.size();
    if (size == events_.capacity() && size >= kFew) {
        const std::size_t likely =
            std::min({progress_.estimate(items_), limits_.max_events, 64 * size});
        const std::size_t more = likely > items_ ? likely - items_ + 1 : 1;
        events_.reserve(size + std::max(more, size / 2));
    }
    finished_ = items_;
    events_.push_back(std::move(event_));
}

void ItemReader::abandon(Error error, std::size_t items_before) {
    if (items_ == items_before)
        begin();
    depth_ = 0;
    event_ = EventInput{};
    event_.error = std::move(error);
    // What is malformed may come after the item's closing brace.
    if (finished_ == items_)
        events_.pop_back();
    append();
}

void ItemReader::finish() {
    // A member of the other form, where one is remembered, came before any other error: past an
    // error no more are remembered.
    if (is_cloud_event_ && !first_plain_.empty()) {
        error_ = invalid("member " + quote_for_message(first_plain_) + " is not a CloudEvent's", {},
                         "A CloudEvent has type, subject, id, source and time, and in its data "
                         "value, dimensions and metadata.");
    } else if (!is_cloud_event_ && !first_cloud_.empty()) {
        error_ = unknown_member(first_cloud_);
        const Member member = member_of(first_cloud_);
        if (member != Member::kExtension)
            error_->hint = "It is taken in a CloudEvent, which has a specversion.";
    } else if (!error_ && is_cloud_event_) {
        finish_cloud_event();
    } else if (!error_) {
        finish_plain();
    }
    if (error_) {
        event_ = EventInput{};
        event_.error = std::move(error_);
        error_.reset();
    }
    append();
}

void ItemReader::finish_plain() {
    if (event_.event_name && event_.meter_id)
        return fail(invalid("event_name and meter_id are both given", {}, "Give one of the two."));
    if (!event_.event_name && !event_.meter_id)
        return fail(invalid("event_name is missing", {}, "Give event_name or meter_id."));
    if (!event_.user_id)
        return fail(invalid("user_id is missing"));
}

void ItemReader::finish_cloud_event() {
    if (const NameRef* twice = find_duplicate(extensions_, extension_names_, 0, progress_)) {
        const auto name = std::string_view(extensions_).substr(twice->offset, twice->length);
        return fail(invalid("member " + quote_for_message(name) + " is given twice"));
    }
    const char* missing = !event_.event_name ? "type"
                          : !event_.user_id  ? "subject"
                          : source_.empty()  ? "source"
                          : id_.empty()      ? "id"
                                             : nullptr;
    if (missing != nullptr)
        return fail(invalid(std::string(missing) + " is missing", {},
                            "A CloudEvent needs type, subject, source and id."));
    std::string key = std::move(source_);
    key += ' ';
    key += id_;
    if (key.size() > kMaxNameBytes)
        return fail(invalid("source and id are too long",
                            "With a space between them they have " + std::to_string(key.size()) +
                                " bytes, at most " + std::to_string(kMaxNameBytes) +
                                " are taken."));
    event_.idempotency = std::move(key);
}

void ItemReader::start_object() {
    start(Type::kObject);
}

void ItemReader::start_array() {
    start(Type::kArray);
}

void ItemReader::start(Type type) {
    if (depth_ == 0) {
        begin();
        depth_ = 1;
        if (type != Type::kObject)
            fail_type("an item", "an object", type, {});
        return;
    }
    ++depth_;
    if (error_)
        return;
    if (depth_ > limits_.max_depth)
        return fail({ErrorKind::kLimitExceeded,
                     "item is nested deeper than " + std::to_string(limits_.max_depth) + " levels",
                     {},
                     "Send it flatter, or raise meter.max_json_depth."});
    value(type, {});
}

void ItemReader::end_object() {
    --depth_;
    if (depth_ == 0)
        return finish();
    if (error_)
        return;
    switch (place_) {
        case Place::kItem:
            break;
        case Place::kData:
            place_ = Place::kItem;
            break;
        case Place::kDimensions:
            attempt([&] { event_.dimensions = dimensions_.finish(); });
            place_ = in_data_ ? Place::kData : Place::kItem;
            break;
        case Place::kMetadata:
            if (const std::string_view twice = metadata_.end_object(); !twice.empty())
                return fail(invalid("member " + std::string(clip_utf8(twice, 80)) +
                                    " of metadata is given twice"));
            if (metadata_.closed()) {
                event_.metadata = metadata_.take();
                place_ = in_data_ ? Place::kData : Place::kItem;
            }
            break;
    }
}

void ItemReader::end_array() {
    --depth_;
    if (depth_ == 0)
        return finish();
    if (!error_)
        metadata_.end_array();  // an array stands nowhere else
}

void ItemReader::key(std::string_view name) {
    if (error_) {
        // Past an error it still matters which form the item has.
        if (depth_ == 1 && name == "specversion")
            is_cloud_event_ = true;
        return;
    }
    if (!check_text(name))
        return;
    switch (place_) {
        case Place::kItem:
            return item_key(name);
        case Place::kData:
            return data_key(name);
        case Place::kDimensions:
            name_ = name;
            return;
        case Place::kMetadata:
            metadata_.key(name);
            return;
    }
}

// Notes that `member` was given, under the name `name`; another time is an error.
void ItemReader::see(Member member, std::uint32_t& seen, std::string_view name) {
    const std::uint32_t bit = std::uint32_t{1} << static_cast<unsigned>(member);
    if ((seen & bit) != 0)
        fail(invalid("member " + quote_for_message(name) + " is given twice", {},
                     member <= Member::kUserId ? "A name in camel case and one with an underscore "
                                                 "are one member."
                                               : ""));
    seen |= bit;
    member_ = member;
}

void ItemReader::item_key(std::string_view name) {
    const Member member = member_of(name);
    if (member == Member::kSpecVersion)
        is_cloud_event_ = true;
    else if (!of_cloud_event(member) && first_plain_.empty())
        first_plain_ = name;
    else if (of_cloud_event(member) && first_cloud_.empty() &&
             (member != Member::kExtension || is_attribute_name(name)))
        first_cloud_ = name;
    if (member == Member::kExtension)
        extension_key(name);
    else
        see(member, seen_, name);
}

// A CloudEvent may have attributes of its maker's own, which are read over.
void ItemReader::extension_key(std::string_view name) {
    if (!is_attribute_name(name))
        return fail(unknown_member(name));
    name_ = name;
    member_ = Member::kExtension;
    extension_names_.push_back({extensions_.size(), name.size()});
    extensions_ += name;
}

void ItemReader::data_key(std::string_view name) {
    const Member member = member_of(name);
    if (member != Member::kValue && member != Member::kDimensions && member != Member::kMetadata)
        return fail(invalid("unknown member " + quote_for_message(name) + " of data",
                            "The data of a CloudEvent has value, dimensions and metadata.",
                            "Put anything else into metadata."));
    see(member, seen_data_, name);
}

void ItemReader::string(std::string_view text) {
    if (!error_ && (depth_ == 0 || check_text(text)))
        value(Type::kString, text);
}

void ItemReader::number(std::string_view json_number) {
    if (!error_)
        value(Type::kNumber, json_number);
}

void ItemReader::boolean(bool is) {
    if (!error_)
        value(Type::kBoolean, is ? "true" : "false");
}

void ItemReader::null() {
    if (!error_)
        value(Type::kNull, "null");
}

void ItemReader::value(Type type, std::string_view text) {
    if (depth_ == 0) {
        begin();
        fail_type("an item", "an object", type, text);
        return finish();
    }
    switch (place_) {
        case Place::kItem:
        case Place::kData:
            return member_value(type, text);
        case Place::kDimensions:
            return attempt([&] { dimension_value(type, text); });
        case Place::kMetadata:
            return metadata_value(type, text);
    }
}

void ItemReader::dimension_value(Type type, std::string_view text) {
    switch (type) {
        case Type::kNull:
            return dimensions_.add_null(name_);
        case Type::kBoolean:
            return dimensions_.add_bool(name_, text == "true");
        case Type::kNumber:
            return dimensions_.add_number(name_, text);
        case Type::kString:
            return dimensions_.add_string(name_, text);
        case Type::kObject:
        case Type::kArray:
            dimensions_.add_nested(name_);
    }
}

void ItemReader::metadata_value(Type type, std::string_view text) {
    switch (type) {
        case Type::kNull:
            return metadata_.null();
        case Type::kBoolean:
            return metadata_.boolean(text == "true");
        case Type::kNumber:
            return attempt([&] { metadata_.number(text); });
        case Type::kString:
            return metadata_.string(text);
        case Type::kObject:
            return metadata_.start_object();
        case Type::kArray:
            return metadata_.start_array();
    }
}

// A string of 1 to 255 bytes; null leaves it absent.
void ItemReader::name_value(std::optional<std::string>& target, const char* what, Type type,
                            std::string_view text) {
    if (type == Type::kNull)
        return;
    if (type != Type::kString)
        return fail_type(what, "a string", type, text);
    attempt([&] { check_name(text, what); });
    if (!error_)
        target.emplace(text);
}

void ItemReader::time_value(const char* what, Type type, std::string_view text) {
    if (type == Type::kNull)
        return;
    if (type == Type::kString)
        return attempt([&] { event_.timestamp = parse_timestamp(text); });
    fail_type(what, "a string", type, text);
    error_->hint = kTimestampHint;
}

void ItemReader::meter_id_value(Type type, std::string_view text) {
    if (type == Type::kNull)
        return;
    std::int64_t id = 0;
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), id);
    if (type != Type::kNumber || end != text.data() + text.size() || code != std::errc{})
        return fail_type("meter_id", "an integer", type, text);
    event_.meter_id = id;
}

// JavaScript has no numbers beyond a double, so a string that holds a number is taken, too.
void ItemReader::quantity_value(Type type, std::string_view text) {
    if (type == Type::kNull)
        return;
    if (type != Type::kNumber && type != Type::kString)
        return fail_type("value", "a number", type, text);
    attempt([&] { event_.value = canonical_value(text); });
}

// The value of member_, in the item or in `data`. An object opens the place that it is read in.
void ItemReader::member_value(Type type, std::string_view text) {
    // A required part of a CloudEvent's identity; absent or null is found out at the end.
    const auto identity = [&](std::string& target, const char* what) {
        std::optional<std::string> taken;
        name_value(taken, what, type, text);
        if (taken)
            target = std::move(*taken);
    };
    switch (member_) {
        case Member::kEventName:
            return name_value(event_.event_name, "event_name", type, text);
        case Member::kMeterId:
            return meter_id_value(type, text);
        case Member::kUserId:
            return name_value(event_.user_id, "user_id", type, text);
        case Member::kValue:
            return quantity_value(type, text);
        case Member::kDimensions:
        case Member::kMetadata:
        case Member::kData: {
            if (type == Type::kNull)
                return;
            if (type != Type::kObject)
                return fail_type(member_ == Member::kDimensions ? "dimensions"
                                 : member_ == Member::kMetadata ? "metadata"
                                                                : "data",
                                 "an object", type, text);
            if (member_ == Member::kData) {
                place_ = Place::kData;
                return;
            }
            in_data_ = place_ == Place::kData;
            if (member_ == Member::kDimensions) {
                dimensions_.clear();
                place_ = Place::kDimensions;
            } else {
                metadata_.clear();
                metadata_.start_object();
                place_ = Place::kMetadata;
            }
            return;
        }
        case Member::kIdempotency:
            return name_value(event_.idempotency, "idempotency", type, text);
        case Member::kTimestamp:
            return time_value("timestamp", type, text);
        case Member::kSpecVersion:
            if (type != Type::kString || text != "1.0")
                fail_type("specversion", "\"1.0\"", type, text);
            return;
        case Member::kType:
            return name_value(event_.event_name, "type", type, text);
        case Member::kSubject:
            return name_value(event_.user_id, "subject", type, text);
        case Member::kSource:
            identity(source_, "source");
            // The first space of the idempotency key is to be the one between source and id.
            if (std::any_of(source_.begin(), source_.end(),
                            [](char c) { return (c >= 0 && c <= ' ') || c == '\x7F'; }))
                fail(invalid("source " + quote_for_message(source_) + " is not valid",
                             "It is a URI reference, without white space or control characters."));
            return;
        case Member::kId:
            return identity(id_, "id");
        case Member::kTime:
            return time_value("time", type, text);
        case Member::kContentType:
            if (type == Type::kNull)
                return;
            if (type != Type::kString || !is_json_media_type(text))
                fail_type("datacontenttype", "a JSON media type", type, text);
            return;
        case Member::kDataBase64:
            if (type != Type::kNull)
                fail(invalid("data_base64 is not taken", {}, "Send data as a JSON object."));
            return;
        case Member::kSchema:
            if (type != Type::kNull && type != Type::kString)
                fail_type("dataschema", "a string", type, text);
            return;
        case Member::kExtension:
            if (type == Type::kObject || type == Type::kArray)
                fail_type(clip_utf8(name_, 80), "a string, a number or a boolean", type, text);
            return;
    }
}

}  // namespace meter
