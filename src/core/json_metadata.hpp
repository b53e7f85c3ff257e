// Writes an event's metadata, any JSON object, as JSON text that PostgreSQL's jsonb takes.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "core/json_text.hpp"

namespace meter {

// A name somewhere in a string that may still grow.
struct NameRef {
    std::size_t offset;
    std::size_t length;
};

// Looks for a name that stands twice among names[first..]; nullptr where there is none. Leaves them
// in another order. Takes n log n steps, whatever the names are, and reports them to `progress`.
const NameRef* find_duplicate(std::string_view text, std::vector<NameRef>& names, std::size_t first,
                              Progress& progress);

// Throws Error kInvalidParameter unless jsonb can store `json_number`: its numeric type has at most
// 131072 digits before the point and 16383 after it, the zeros that an exponent stands for
// included.
void check_jsonb_number(std::string_view json_number);

// Takes the parts of one object in order, from start_object() to the end_object() that closes it.
// Numbers keep the digits they came with. Throws Error kInvalidParameter for a name given twice in
// one object, and for a number beyond jsonb.
class MetadataWriter {
  public:
    explicit MetadataWriter(Progress& progress) : progress_(progress) {}

    void clear();
    void start_object();
    void start_array();
    void key(std::string_view name);
    void string(std::string_view value);
    void number(std::string_view json_number);
    void boolean(bool value);
    void null();
    void end_array();

    // Returns the name that stands twice in the object (as JSON text), or an empty view.
    std::string_view end_object();

    bool closed() const { return open_.empty(); }

    // The text; the writer is to be cleared before it is used again.
    std::string take();

  private:
    struct Open {
        std::size_t first_name;  // in names_
        bool is_array;
        bool has_members;
    };

    void before_value();

    Progress& progress_;
    std::string text_;
    std::vector<Open> open_;
    std::vector<NameRef> names_;  // of the open objects, as written, quotes included
};

}  // namespace meter
