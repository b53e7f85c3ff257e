#include "core/group_key.hpp"

#include "core/wire.hpp"

namespace meter {

namespace {

// The first byte of each value.
enum Tag : unsigned char {
    kTagNull = 0x10,
    kTagString = 0x20,  // bytes, NUL
    kTagNumber = 0x30,  // a class; then, unless zero, weight and digits
    kTagFalse = 0x40,
    kTagTrue = 0x41,
    kTagContainer = 0x50,  // JSON text, NUL
};

// The byte behind kTagNumber. Behind it the weight, biased, in two bytes, then two bytes for each
// digit plus one, then two zero bytes; of a negative number all those are complemented.
enum NumberClass : unsigned char {
    kClassMinusInfinity,
    kClassNegative,
    kClassZero,
    kClassPositive,
    kClassInfinity,
    kClassNaN,
};

constexpr std::int32_t kWeightBias = 8192;
static_assert(kMinWeight + kWeightBias > 0 && kMaxWeight + kWeightBias < 65536);

void append_byte(std::pmr::string& key, unsigned byte) {
    key += static_cast<char>(byte);
}

}  // namespace

void append_key_null(std::pmr::string& key) {
    append_byte(key, kTagNull);
}

void append_key_string(std::pmr::string& key, std::string_view value) {
    append_byte(key, kTagString);
    key += value;
    append_byte(key, 0);
}

void append_key_number(std::pmr::string& key, const NumberView& number) {
    append_byte(key, kTagNumber);
    switch (number.kind) {
        case NumberKind::kNaN:
            return append_byte(key, kClassNaN);
        case NumberKind::kInfinity:
            return append_byte(key, kClassInfinity);
        case NumberKind::kMinusInfinity:
            return append_byte(key, kClassMinusInfinity);
        case NumberKind::kFinite:
            break;
    }
    if (number.count == 0)
        return append_byte(key, kClassZero);
    append_byte(key, number.negative ? kClassNegative : kClassPositive);
    const unsigned flip = number.negative ? 0xFFFF : 0;
    const auto append_two = [&](unsigned value) {
        append_byte(key, (value ^ flip) >> 8);
        append_byte(key, (value ^ flip) & 0xFF);
    };
    append_two(static_cast<unsigned>(number.weight + kWeightBias));
    for (std::uint32_t i = 0; i < number.count; ++i)
        append_two(static_cast<unsigned>(number.digit(i)) + 1);
    append_two(0);
}

void append_key_bool(std::pmr::string& key, bool value) {
    append_byte(key, value ? kTagTrue : kTagFalse);
}

void append_key_container(std::pmr::string& key, std::string_view json) {
    append_byte(key, kTagContainer);
    key += json;
    append_byte(key, 0);
}

void KeyReader::read_number() {
    wire::Reader reader(rest_);
    number_ = {};
    const unsigned number_class = reader.get<std::uint8_t>();
    switch (number_class) {
        case kClassMinusInfinity:
            number_.kind = NumberKind::kMinusInfinity;
            break;
        case kClassInfinity:
            number_.kind = NumberKind::kInfinity;
            break;
        case kClassNaN:
            number_.kind = NumberKind::kNaN;
            break;
        case kClassZero:
            break;
        case kClassNegative:
        case kClassPositive: {
            number_.negative = number_class == kClassNegative;
            const unsigned flip = number_.negative ? 0xFFFF : 0;
            number_.weight =
                static_cast<std::int32_t>(reader.get<std::uint16_t>() ^ flip) - kWeightBias;
            digits_.clear();
            while (const unsigned digit = reader.get<std::uint16_t>() ^ flip) {
                if (digit > 10000)
                    wire::malformed("A number has a digit out of range.");
                digits_.push_back(static_cast<std::int16_t>(digit - 1));
            }
            if (digits_.empty() || digits_.front() == 0 || digits_.back() == 0 ||
                number_.weight > kMaxWeight ||
                number_.weight - static_cast<std::int64_t>(digits_.size()) + 1 < kMinWeight)
                wire::malformed("A number is not in normal form.");
            number_.count = static_cast<std::uint32_t>(digits_.size());
            number_.digits = digits_.data();
            break;
        }
        default:
            wire::malformed("A number is of no known kind.");
    }
    rest_.remove_prefix(rest_.size() - reader.left());
}

KeyPart KeyReader::next() {
    if (rest_.empty())
        wire::malformed("A group has fewer values than there are keys.");
    const auto tag = static_cast<unsigned char>(rest_.front());
    rest_.remove_prefix(1);
    switch (tag) {
        case kTagNull:
            return KeyPart::kNull;
        case kTagFalse:
            return KeyPart::kFalse;
        case kTagTrue:
            return KeyPart::kTrue;
        case kTagNumber:
            read_number();
            return KeyPart::kNumber;
        case kTagString:
        case kTagContainer: {
            const std::size_t end = rest_.find('\0');
            if (end == std::string_view::npos)
                wire::malformed("It ends too early.");
            text_ = rest_.substr(0, end);
            rest_.remove_prefix(end + 1);
            return tag == kTagString ? KeyPart::kString : KeyPart::kContainer;
        }
        default:
            wire::malformed("A group has a value of no known kind.");
    }
}

bool is_plain_utf8(std::string_view text) {
    for (std::size_t i = 0; i < text.size();) {
        const auto byte = [&](std::size_t at) -> unsigned {
            return at < text.size() ? static_cast<unsigned char>(text[at]) : 0;
        };
        const unsigned lead = byte(i);
        if (lead > 0 && lead < 0x80) {
            ++i;
            continue;
        }
        const std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
        if (lead < 0xC2 || lead > 0xF4)
            return false;
        const unsigned second = byte(i + 1);
        const unsigned least = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
        const unsigned most = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
        if (second < least || second > most)
            return false;
        for (std::size_t k = 2; k < length; ++k)
            if ((byte(i + k) & 0xC0) != 0x80)
                return false;
        i += length;
    }
    return true;
}

}  // namespace meter
