// Where things stand in a JSON text: positions, the end of a value, white space, and the pace at
// which the caller is asked whether to go on.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

namespace meter {

// Calls the caller back once for each 16 kB of text read or some thousand steps of other work, so
// that a cancel request is honoured within milliseconds wherever the time goes. The callback may
// throw: nothing here or in the readers catches what is not theirs.
class Progress {
  public:
    explicit Progress(const std::function<void()>& callback) : callback_(callback) {}

    // Starts anew over `text`.
    void restart(std::string_view text);

    // The point at which to call reached() next.
    const char* next() const { return next_; }

    // How many items the whole text has, by `so_far` of them in what was read of it.
    std::size_t estimate(std::size_t so_far) const;

    // Reading has come to `at`.
    void reached(const char* at) {
        if (at >= next_)
            call(at);
    }

    // `steps` of work were done that read no text.
    void worked(std::size_t steps) {
        steps_ += steps;
        if (steps_ >= kSteps)
            call(nullptr);
    }

  private:
    static constexpr std::ptrdiff_t kBytes = 16 * 1024;
    static constexpr std::size_t kSteps = 8192;

    void call(const char* at);

    const std::function<void()>& callback_;
    const char* begin_ = nullptr;
    const char* next_ = nullptr;
    const char* end_ = nullptr;
    std::size_t steps_ = 0;
};

// The four characters that JSON calls white space.
inline bool is_json_space(char c) {
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

// The first offset from `from` on that is no white space; text.size() where there is none.
std::size_t skip_space(std::string_view text, std::size_t from, Progress& progress);

// One past the bracket that closes the object or array which opens at `from`. npos where none does,
// or where a line breaks inside a string, which no JSON string may: the text is broken there, and
// what follows must not be taken for more of that string.
std::size_t find_value_end(std::string_view text, std::size_t from, Progress& progress);

// A place in a text, all counted from 1. The column counts characters, not bytes.
struct TextPosition {
    std::size_t line;
    std::size_t column;
    std::size_t byte;
};

// The position of the byte at `offset`, which may be the end. A byte order mark takes no column.
TextPosition position_of(std::string_view text, std::size_t offset);

// The same where the line is known: its number, and the offset at which it begins.
TextPosition position_in_line(std::string_view text, std::size_t offset, std::size_t line,
                              std::size_t line_start);

inline constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

}  // namespace meter
