#include "core/ingest.hpp"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "core/json_item.hpp"
#include "core/json_text.hpp"

namespace {

// A failed assertion must not take the server down: it is thrown like any other error.
[[noreturn]] void json_assertion_failed(const char* condition) {
    throw std::logic_error(std::string("JSON parser: ") + condition);
}

}  // namespace

#define JSON_ASSERT(condition) \
    ((condition) ? static_cast<void>(0) : json_assertion_failed(#condition))
#include <nlohmann/json.hpp>

namespace meter {

namespace {

// What the parser thinks a number is. It refuses those that are not finite as a double, 1e400 say;
// we take the number's text and never its double, so this claims to be zero when asked.
struct RawNumber {
    RawNumber() = default;
    RawNumber(double) {}
    operator double&() { return unused; }
    operator double() const { return 0; }
    double unused;
};

using Json = nlohmann::basic_json<std::map, std::vector, std::string, bool, std::int64_t,
                                  std::uint64_t, RawNumber>;

// The longest string or number, and the longest stretch of text without either, in bytes.
constexpr std::ptrdiff_t kLongestToken = 8 * 1024 * 1024;

// The text that a parse reads, and how far it has come. The parser keeps the bytes it has read
// since the last string or number and, on an error, copies them several times, a control character
// as eight bytes. So their number is bounded, and of white space that follows a line break, a tab
// or a carriage return the parser gets to see nothing. (Inside a string those three are an error at
// once, so that no string is changed.)
struct Source {
    Source(std::string_view text, Progress& pace)
        : at(text.data()),
          end(text.data() + text.size()),
          token(text.data()),
          next_report(pace.next()),
          progress(pace) {}

    void advance() {
        const auto c = static_cast<unsigned char>(*at++);
        if (c < ' ')
            skip_space();
        if (at >= next_report)
            report();
    }

    // The parser has taken a string or a number.
    void token_ended() { token = at; }

    // Tells the caller how far reading has come. Throws Error kLimitExceeded in too long a token.
    void report() {
        if (at - token > kLongestToken)
            throw Error(ErrorKind::kLimitExceeded,
                        "payload has a string, a number or a gap between them of more than " +
                            std::to_string(kLongestToken) + " bytes");
        progress.reached(at);
        next_report = progress.next();
    }

    // Leaves out the white space at `at`.
    void skip_space() {
        const char* const first = at;
        while (at < end && is_json_space(*at)) {
            ++at;
            progress.reached(at);
        }
        next_report = progress.next();
        if (at > first) {
            last_skip = static_cast<std::size_t>(at - first);
            skipped += last_skip;
            skip_end = at;
            token += at - first;
        }
    }

    // The offset of the last byte that the parser has looked at, having read `count` bytes (or
    // one more than there are: the end).
    std::size_t offset_of(std::size_t count) const {
        // What was left out after that byte does not count.
        const std::size_t before = skipped - (at == skip_end && !ended ? last_skip : 0);
        return (count > 0 ? count - 1 : 0) + before;
    }

    const char* at;
    const char* end;
    const char* token;  // where the last string or number ended, more or less
    const char* next_report;
    Progress& progress;
    std::size_t skipped = 0;
    std::size_t last_skip = 0;
    const char* skip_end = nullptr;
    bool ended = false;  // the parser has seen the end
};

// The iterator through which the parser reads. All copies share the source.
class SourceIterator {
  public:
    using iterator_category = std::input_iterator_tag;
    using value_type = char;
    using difference_type = std::ptrdiff_t;
    using pointer = const char*;
    using reference = const char&;

    SourceIterator() = default;  // the end
    explicit SourceIterator(Source* source) : source_(source) {}

    const char& operator*() const { return *source_->at; }
    SourceIterator& operator++() {
        source_->advance();
        return *this;
    }
    // Only ever compared with the end.
    bool operator==(const SourceIterator&) const {
        if (source_->at != source_->end)
            return false;
        source_->ended = true;
        return true;
    }

  private:
    Source* source_ = nullptr;
};

// What is wrong with the text, in the parser's words, without its own position and the copy of the
// text: "while parsing value - unexpected end of input; expected ...".
std::string reason_of(std::string_view what) {
    constexpr std::string_view kStart = "syntax error ";
    constexpr std::size_t kLongestExpectation = 100;
    if (const std::size_t start = what.find(kStart); start != std::string_view::npos)
        what.remove_prefix(start + kStart.size());
    std::string reason(what.substr(0, std::min(what.find("; last read: "), what.size())));
    const std::size_t expected = what.rfind("; expected ");
    if (expected != std::string_view::npos && expected >= reason.size() &&
        what.size() - expected <= kLongestExpectation)
        reason += what.substr(expected);
    return reason;
}

// Passes the parser's events on to the item reader. In the array form the outermost array is not
// part of an item.
class Handler {
  public:
    using number_integer_t = Json::number_integer_t;
    using number_unsigned_t = Json::number_unsigned_t;
    using number_float_t = Json::number_float_t;
    using string_t = Json::string_t;
    using binary_t = Json::binary_t;

    Handler(ItemReader& items, Source& source, bool in_array)
        : items_(items), source_(source), in_array_(in_array) {}

    bool null() {
        items_.null();
        return true;
    }
    bool boolean(bool value) {
        items_.boolean(value);
        return true;
    }
    bool number_integer(number_integer_t value) { return integer(value); }
    bool number_unsigned(number_unsigned_t value) { return integer(value); }
    bool number_float(number_float_t, const string_t& text) {
        // The parser writes the point as the locale does. (PostgreSQL keeps it at "." but other
        // programs need not; a point of several bytes fails one of the parser's assertions.)
        source_.token_ended();
        const auto foreign = [](char c) {
            return !((c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' || c == 'e' ||
                     c == 'E');
        };
        if (std::none_of(text.begin(), text.end(), foreign)) {
            items_.number(text);
        } else {
            std::string plain = text;
            std::replace_if(plain.begin(), plain.end(), foreign, '.');
            items_.number(plain);
        }
        return true;
    }
    bool string(string_t& value) {
        source_.token_ended();
        items_.string(value);
        return true;
    }
    bool binary(binary_t&) { return false; }  // JSON has none
    bool start_object(std::size_t) {
        items_.start_object();
        return true;
    }
    bool key(string_t& name) {
        source_.token_ended();
        items_.key(name);
        return true;
    }
    bool end_object() {
        items_.end_object();
        return true;
    }
    bool start_array(std::size_t) {
        if (in_array_ && !started_)
            started_ = true;
        else
            items_.start_array();
        return true;
    }
    bool end_array() {
        if (items_.inside())
            items_.end_array();
        return true;
    }
    bool parse_error(std::size_t position, const std::string&,
                     const nlohmann::detail::exception& error) {
        error_position_ = position;
        error_reason_ = reason_of(error.what());
        return false;
    }

    std::size_t error_position() const { return error_position_; }
    const std::string& error_reason() const { return error_reason_; }

  private:
    template <typename Integer>
    bool integer(Integer value) {
        source_.token_ended();
        char digits[24];
        const auto [end, code] = std::to_chars(digits, digits + sizeof digits, value);
        items_.number({digits, static_cast<std::size_t>(end - digits)});
        return code == std::errc{};
    }

    ItemReader& items_;
    Source& source_;
    bool in_array_;
    bool started_ = false;  // the outermost array is open
    std::size_t error_position_ = 0;
    std::string error_reason_;
};

// Where and why parsing stopped; the offset counts from the start of the text that was parsed.
struct Malformed {
    std::size_t offset;
    std::string reason;
};

// Feeds the one JSON value that `text` must be to `items`.
std::optional<Malformed> parse(std::string_view text, bool in_array, Progress& progress,
                               ItemReader& items) {
    Source source(text, progress);
    Handler handler(items, source, in_array);
    if (Json::sax_parse(SourceIterator(&source), SourceIterator(), &handler))
        return std::nullopt;
    return Malformed{source.offset_of(handler.error_position()), handler.error_reason()};
}

// The error for a payload that is malformed as a whole.
Error malformed_payload(std::string_view payload, std::size_t offset, const std::string& reason) {
    const TextPosition at = position_of(payload, offset);
    return {ErrorKind::kInvalidText, "malformed JSON",
            "Line " + std::to_string(at.line) + ", column " + std::to_string(at.column) +
                " (byte " + std::to_string(at.byte) + "): " + reason + "."};
}

// Reads one item a line.
void parse_lines(std::string_view payload, std::size_t from, Progress& progress,
                 ItemReader& items) {
    std::size_t number = 1;
    for (std::size_t start = from; start < payload.size(); ++number) {
        progress.reached(payload.data() + start);
        const std::size_t stop = std::min(payload.find('\n', start), payload.size());
        const std::string_view line = payload.substr(start, stop - start);
        if (skip_space(line, 0, progress) < line.size()) {
            const std::size_t items_before = items.items();
            std::optional<Malformed> malformed;
            // The parser would skip a byte order mark before any line.
            if (line.starts_with(kByteOrderMark))
                malformed = Malformed{0, "a byte order mark is taken at the start of all only"};
            else
                malformed = parse(line, false, progress, items);
            if (malformed) {
                const TextPosition at = position_in_line(payload, start + malformed->offset, number,
                                                         number == 1 ? 0 : start);
                items.abandon({ErrorKind::kInvalidText,
                               "malformed JSON at line " + std::to_string(at.line) + ", column " +
                                   std::to_string(at.column),
                               "Byte " + std::to_string(at.byte) + ": " + malformed->reason + "."},
                              items_before);
            }
        }
        start = stop + 1;
    }
}

}  // namespace

void parse_events(std::string_view payload, const IngestLimits& limits,
                  const std::function<void()>& on_progress, std::vector<EventInput>& events,
                  const std::function<void()>& on_events) {
    if (payload.size() > limits.max_bytes)
        throw Error(ErrorKind::kLimitExceeded,
                    "payload has more than " + std::to_string(limits.max_bytes) + " bytes", {},
                    "Send less at a time, or raise meter.max_payload_size.");
    // The parser would take a zero byte for the end.
    if (const std::size_t zero = payload.find('\0'); zero != std::string_view::npos)
        throw malformed_payload(payload, zero, "a zero byte");

    Progress progress(on_progress);
    progress.restart(payload);
    const std::size_t start = payload.starts_with(kByteOrderMark) ? kByteOrderMark.size() : 0;
    const std::size_t first = skip_space(payload, start, progress);
    if (first == payload.size())
        return;

    ItemReader items(limits, progress, events, on_events);
    const auto parse_whole = [&](bool in_array) {
        progress.restart(payload);
        if (const auto malformed = parse(payload.substr(first), in_array, progress, items))
            throw malformed_payload(payload, first + malformed->offset, malformed->reason);
    };
    if (payload[first] == '[')
        return parse_whole(true);
    if (payload[first] == '{') {
        // An object that ends on a line of its own other than the first is one event; if it ends
        // on the first, or not at all since that line is cut short, each line is an event.
        const std::size_t end = find_value_end(payload, first, progress);
        if (end != std::string_view::npos && payload.find('\n', first) < end) {
            const std::size_t rest = skip_space(payload, end, progress);
            if (rest < payload.size())
                throw malformed_payload(payload, rest,
                                        "text after the object; for several events send an array, "
                                        "or one object a line");
            return parse_whole(false);
        }
    }
    progress.restart(payload);
    parse_lines(payload, start, progress, items);
}

}  // namespace meter
