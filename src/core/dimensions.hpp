// The canonical form of an event's dimensions: a flat JSON object of scalars.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace meter {

inline constexpr std::size_t kMaxDimensions = 32;
inline constexpr std::size_t kMaxDimensionsBytes = 2048;
inline constexpr std::size_t kMaxNameBytes = 255;

// Throws Error kInvalidParameter unless `text` has 1 to 255 bytes. `what` names the argument.
void check_name(std::string_view text, const char* what);

// Throws Error kInvalidParameter where `name` cannot be a dimension's: its length, or "user_id".
void check_dimension_name(std::string_view name);

// Collects members in any order and writes them in canonical form: sorted by name (bytewise), null
// members removed, numbers canonical, no white space. Equal dimensions have equal bytes, so this
// text is what fingerprints and digests are made of.
class DimensionsBuilder {
  public:
    void add_string(std::string_view name, std::string_view value);
    void add_number(std::string_view name, std::string_view json_number);
    void add_bool(std::string_view name, bool value);
    void add_null(std::string_view name);
    // Refuses a nested member: always throws Error kInvalidParameter.
    [[noreturn]] void add_nested(std::string_view name);

    // The canonical text; leaves the builder empty. Throws Error kInvalidParameter where a name
    // stands twice, or a bound is passed.
    std::string finish();

    // The names that will be written, in no order; valid until finish().
    const std::vector<std::pair<std::string, std::string>>& members() const { return members_; }

    void clear() {
        members_.clear();
        bytes_ = 0;
    }

  private:
    void add(std::string_view name, std::string encoded);

    // Name and its value as JSON text; a null member has an empty value and is not written.
    std::vector<std::pair<std::string, std::string>> members_;
    std::size_t bytes_ = 0;
};

// Calls `visit(name)` for each member of `canonical`, which DimensionsBuilder::finish() wrote.
template <typename Visit>
void for_each_dimension(std::string_view canonical, Visit&& visit);

// Takes the JSON string literal at the front of `text` off it, and returns what it says. `text` is
// canonical; `buffer` holds the result where it has escapes.
std::string_view take_json_string(std::string_view& text, std::string& buffer);

template <typename Visit>
void for_each_dimension(std::string_view canonical, Visit&& visit) {
    std::string name_buffer;
    std::string value_buffer;
    canonical.remove_prefix(1);
    while (canonical.front() != '}') {
        if (canonical.front() == ',')
            canonical.remove_prefix(1);
        visit(take_json_string(canonical, name_buffer));
        canonical.remove_prefix(1);  // the colon
        if (canonical.front() == '"')
            take_json_string(canonical, value_buffer);
        else
            canonical.remove_prefix(canonical.find_first_of(",}"));
    }
}

}  // namespace meter
