#include "core/conflict.hpp"

#include <string>

#include "core/text.hpp"

namespace meter {

Error conflict_error(const PayloadConflict& conflict) {
    std::string detail;
    const auto differ = [&](const char* field, std::string_view recorded, std::string_view given) {
        if (recorded == given)
            return;
        if (!detail.empty())
            detail += ' ';
        detail.append("It was recorded with ")
            .append(field)
            .append(" ")
            .append(recorded)
            .append(", and comes with ")
            .append(given)
            .append(".");
    };
    differ("value", conflict.recorded_value, conflict.given_value);
    differ("dimensions", conflict.recorded_dimensions, conflict.given_dimensions);
    return Error(ErrorKind::kUniqueViolation,
                 "idempotency key " + quote_for_message(conflict.key) +
                     " was used for another event of this meter and user",
                 std::move(detail),
                 "A retry must repeat value and dimensions; a new event needs a new key.");
}

}  // namespace meter
