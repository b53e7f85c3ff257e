#include "core/grouped_state.hpp"

#include <algorithm>
#include <memory>

#include "core/group_key.hpp"
#include "core/text.hpp"

namespace meter {

namespace {

const char* name_of(StateKind kind) {
    switch (kind) {
        case StateKind::kSumBy:
            return "sum_by";
        case StateKind::kCountBy:
            return "count_by";
        case StateKind::kLastBy:
            return "last_by";
        case StateKind::kLast:
            return "last";
        case StateKind::kLastTiebreak:
            return "last with a tiebreak";
        case StateKind::kFirst:
            return "first";
        case StateKind::kFirstTiebreak:
            return "first with a tiebreak";
        case StateKind::kFirstBy:
            return "first_by";
    }
    return "?";
}

}  // namespace

StateKind get_state_head(wire::Reader& reader) {
    if (reader.get<std::uint8_t>() != kStateMagic)
        wire::malformed("It does not start as an aggregate state does.");
    if (reader.get<std::uint8_t>() != kStateVersion)
        wire::malformed("It is of a version that is not known here.");
    const auto kind = reader.get<std::uint8_t>();
    if (kind < static_cast<std::uint8_t>(StateKind::kSumBy) ||
        kind > static_cast<std::uint8_t>(StateKind::kFirstBy))
        wire::malformed("It is of no known kind.");
    return static_cast<StateKind>(kind);
}

void throw_other_kind(StateKind wanted, StateKind given) {
    throw Error(ErrorKind::kInvalidParameter, std::string("a state of the aggregate ") +
                                                  name_of(given) + " is none of the aggregate " +
                                                  name_of(wanted));
}

GroupedState::GroupedState(StateKind kind, std::pmr::memory_resource* resource)
    : keys_argument(resource),
      cache(resource),
      scratch(resource),
      digits(resource),
      kind_(kind),
      resource_(resource),
      keys_(resource),
      table_(resource),
      sums_(resource),
      counts_(resource),
      lasts_(resource) {}

GroupedState::~GroupedState() {
    for (ExactSum& sum : sums_)
        sum.release(resource_);
    for (Last& last : lasts_)
        last.value.release(resource_);
}

void GroupedState::add_key(std::string_view key) {
    if (std::find(keys_.begin(), keys_.end(), key) != keys_.end())
        throw Error(ErrorKind::kInvalidParameter,
                    "keys has the element " + quote_for_message(key) + " twice");
    if (keys_.size() >= kMostKeys)
        throw Error(ErrorKind::kLimitExceeded,
                    "keys has more than " + std::to_string(kMostKeys) + " elements");
    keys_.emplace_back(key);
}

std::uint32_t GroupedState::cells() const {
    switch (kind_) {
        case StateKind::kSumBy:
            return static_cast<std::uint32_t>(sums_.size());
        case StateKind::kCountBy:
            return static_cast<std::uint32_t>(counts_.size());
        default:
            return static_cast<std::uint32_t>(lasts_.size());
    }
}

void GroupedState::add_cell() {
    switch (kind_) {
        case StateKind::kSumBy:
            sums_.emplace_back();
            break;
        case StateKind::kCountBy:
            counts_.push_back(0);
            break;
        default:
            lasts_.emplace_back();
    }
}

void GroupedState::add_count(std::uint32_t group, std::int64_t rows) {
    std::int64_t count = 0;
    if (__builtin_add_overflow(counts_[group], rows, &count))
        throw Error(ErrorKind::kOutOfRange, "a count is out of range");
    counts_[group] = count;
}

void GroupedState::add_last(std::uint32_t group, std::int64_t time, const NumberView& value) {
    Last& last = lasts_[group];
    if (last.present) {
        int order = time < last.time ? -1 : time > last.time ? 1 : 0;
        if (order == 0)
            order = compare(value, last.value.view());
        if (is_first(kind_) ? order >= 0 : order <= 0)
            return;
    }
    last.value.assign(value, resource_);
    last.time = time;
    last.present = true;
}

bool GroupedState::value(std::uint32_t group, DigitBuffer& buffer, NumberView& out) const {
    switch (kind_) {
        case StateKind::kSumBy:
            if (sums_[group].empty())
                return false;
            out = sums_[group].total(buffer);
            return true;
        case StateKind::kCountBy: {
            buffer.clear();
            for (std::int64_t left = counts_[group]; left != 0; left /= 10000)
                buffer.push_back(static_cast<std::int16_t>(left % 10000));
            std::reverse(buffer.begin(), buffer.end());
            out = normalise({.weight = static_cast<std::int32_t>(buffer.size()) - 1,
                             .count = static_cast<std::uint32_t>(buffer.size()),
                             .digits = buffer.data()});
            return true;
        }
        default:
            if (!lasts_[group].present)
                return false;
            out = lasts_[group].value.view();
            return true;
    }
}

void GroupedState::absorb_keys(wire::Reader& reader) {
    const auto count = reader.get<std::uint32_t>();
    if (count > kMostKeys)
        wire::malformed("It has too many keys.");
    const bool fresh = keys_.empty() && table_.size() == 0;
    bool same = fresh || count == keys_.size();
    for (std::uint32_t i = 0; i < count && same; ++i) {
        const std::string_view key = reader.get_text();
        if (!is_plain_utf8(key))
            wire::malformed("A key is not UTF-8.");
        if (!fresh)
            same = keys_[i] == key;
        else if (std::find(keys_.begin(), keys_.end(), key) != keys_.end())
            wire::malformed("A key stands twice.");
        else
            keys_.emplace_back(key);
    }
    if (!same)
        throw Error(ErrorKind::kInvalidParameter, "aggregate states with different keys meet",
                    "keys has to be the same for every row.");
}

// Throws where the bytes are no group of this state's keys.
void GroupedState::check_group(std::string_view canonical) {
    KeyReader reader(canonical, digits);
    for (std::size_t i = 0; i < keys_.size(); ++i) {
        const KeyPart part = reader.next();
        if ((part == KeyPart::kString || part == KeyPart::kContainer) &&
            !is_plain_utf8(reader.text()))
            wire::malformed("A string is not UTF-8.");
    }
    if (!reader.at_end())
        wire::malformed("A group has more values than there are keys.");
}

void GroupedState::absorb_cell(wire::Reader& reader, std::uint32_t group) {
    switch (kind_) {
        case StateKind::kSumBy: {
            const auto seen = reader.get<std::uint8_t>();
            if (seen == 0)
                return;
            if (seen > 15 || (seen & ExactSum::kAny) == 0)
                wire::malformed("A sum is of no known kind.");
            const NumberView finite = decode(reader, digits);
            if (finite.kind != NumberKind::kFinite)
                wire::malformed("A sum's finite part is not finite.");
            sums_[group].merge(seen, finite, resource_);
            return;
        }
        case StateKind::kCountBy: {
            const auto rows = reader.get<std::int64_t>();
            if (rows < 0)
                wire::malformed("A count is negative.");
            add_count(group, rows);
            return;
        }
        default: {
            const auto present = reader.get<std::uint8_t>();
            if (present > 1)
                wire::malformed("A flag is neither 0 nor 1.");
            if (present == 0)
                return;
            const auto time = reader.get<std::int64_t>();
            add_last(group, time, decode(reader, digits));
        }
    }
}

void GroupedState::absorb(std::string_view bytes, Pause pause) {
    wire::Reader reader(bytes);
    expect_kind(kind_, get_state_head(reader));
    absorb_keys(reader);
    const std::uint32_t before = table_.size();
    const auto count = reader.get<std::uint32_t>();
    for (std::uint32_t i = 0; i < count; ++i) {
        if (i % kGroupsToPause == 0)
            pause();
        const std::string_view canonical = reader.get_text();
        check_group(canonical);
        absorb_cell(reader, group(canonical));
    }
    reader.expect_end();
    if (before == 0 && table_.size() != count)
        wire::malformed("A group stands twice.");
}

bool LastRow::is_after(const LastRow& other) const {
    if (time != other.time)
        return time > other.time;
    if (has_tiebreak != other.has_tiebreak)
        return has_tiebreak;
    if (tiebreak != other.tiebreak)
        return tiebreak > other.tiebreak;
    return compare(value, other.value) > 0;
}

LastRow read_last(std::string_view bytes, StateKind kind, DigitBuffer& digits) {
    wire::Reader reader(bytes);
    expect_kind(kind, get_state_head(reader));
    LastRow row;
    row.time = reader.get<std::int64_t>();
    if (has_tiebreak(kind)) {
        const auto flag = reader.get<std::uint8_t>();
        if (flag > 1)
            wire::malformed("A flag is neither 0 nor 1.");
        row.has_tiebreak = flag == 1;
        row.tiebreak = reader.get<std::int64_t>();
        if (!row.has_tiebreak && row.tiebreak != 0)
            wire::malformed("A tiebreak is there and is not.");
    }
    row.value = decode(reader, digits);
    reader.expect_end();
    return row;
}

}  // namespace meter
