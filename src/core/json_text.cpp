#include "core/json_text.hpp"

#include <algorithm>

namespace meter {

void Progress::restart(std::string_view text) {
    begin_ = text.data();
    end_ = begin_ + text.size();
    steps_ = 0;
    next_ = text.data() + std::min<std::ptrdiff_t>(kBytes, end_ - text.data());
}

void Progress::call(const char* at) {
    steps_ = 0;
    if (at != nullptr)
        next_ = end_ - at > kBytes ? at + kBytes : end_;
    if (callback_)
        callback_();
}

std::size_t Progress::estimate(std::size_t so_far) const {
    // At least this much was read; guessing too high costs address space, too low a move of all.
    const auto read = static_cast<double>(std::max<std::ptrdiff_t>(next_ - begin_ - kBytes, 1));
    const double share = static_cast<double>(end_ - begin_) / read;
    return static_cast<std::size_t>(static_cast<double>(so_far) * share * 1.02) + 16;
}

std::size_t skip_space(std::string_view text, std::size_t from, Progress& progress) {
    while (from < text.size() && is_json_space(text[from])) {
        ++from;
        progress.reached(text.data() + from);
    }
    return from;
}

std::size_t find_value_end(std::string_view text, std::size_t from, Progress& progress) {
    std::size_t depth = 0;
    bool in_string = false;
    for (std::size_t at = from; at < text.size(); ++at) {
        progress.reached(text.data() + at);
        const char c = text[at];
        if (in_string) {
            if (c == '\\')
                ++at;
            else if (c == '"')
                in_string = false;
            if (c == '\n' || (c == '\\' && at < text.size() && text[at] == '\n'))
                return std::string_view::npos;
            continue;
        }
        switch (c) {
            case '"':
                in_string = true;
                break;
            case '{':
            case '[':
                ++depth;
                break;
            case '}':
            case ']':
                if (--depth == 0)
                    return at + 1;
                break;
            default:
                break;
        }
    }
    return std::string_view::npos;
}

TextPosition position_in_line(std::string_view text, std::size_t offset, std::size_t line,
                              std::size_t line_start) {
    if (line_start == 0 && offset >= kByteOrderMark.size() && text.starts_with(kByteOrderMark))
        line_start = kByteOrderMark.size();
    const std::string_view before = text.substr(line_start, offset - line_start);
    // Bytes that continue a UTF-8 character are no characters of their own.
    const auto characters = std::count_if(before.begin(), before.end(), [](char c) {
        return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
    });
    return {line, static_cast<std::size_t>(characters) + 1, offset + 1};
}

TextPosition position_of(std::string_view text, std::size_t offset) {
    const std::string_view before = text.substr(0, offset);
    const auto breaks = std::count(before.begin(), before.end(), '\n');
    const std::size_t last = before.rfind('\n');
    return position_in_line(text, offset, static_cast<std::size_t>(breaks) + 1,
                            last == std::string_view::npos ? 0 : last + 1);
}

}  // namespace meter
