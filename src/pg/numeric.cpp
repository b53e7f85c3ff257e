#include "pg/numeric.hpp"

#include <cstring>

#include "core/decimal.hpp"
#include "core/error.hpp"

namespace meter::pg {

namespace {

// The first two bytes. A short header is all of it: sign, scale and weight are packed in there. A
// long one has sign and scale, and two more bytes for the weight. Behind are the digits.
constexpr unsigned kFlagMask = 0xC000;
constexpr unsigned kLongNegative = 0x4000;
constexpr unsigned kShort = 0x8000;
constexpr unsigned kSpecial = 0xC000;
constexpr unsigned kSpecialMask = 0xF000;
constexpr unsigned kNaN = 0xC000;
constexpr unsigned kInfinity = 0xD000;
constexpr unsigned kMinusInfinity = 0xF000;
constexpr unsigned kShortNegative = 0x2000;
constexpr unsigned kShortScaleShift = 7;
constexpr int kShortScaleMost = 63;
constexpr unsigned kShortWeightSign = 0x0040;
constexpr unsigned kShortWeightMask = 0x003F;
constexpr int kLongScaleMost = 0x3FFF;

std::uint16_t load_two(const char* at) {
    std::uint16_t value;
    std::memcpy(&value, at, sizeof value);
    return value;
}

}  // namespace

NumberView view_numeric(Datum numeric) {
    const struct varlena* packed = PG_DETOAST_DATUM_PACKED(numeric);
    const char* data = VARDATA_ANY(packed);
    const std::size_t size = VARSIZE_ANY_EXHDR(packed);
    if (size < 2)
        throw Error(ErrorKind::kCorrupt, "a numeric value is too short");
    const unsigned header = load_two(data);
    NumberView number;
    std::size_t header_size = 2;
    switch (header & kFlagMask) {
        case kSpecial:
            number.kind = (header & kSpecialMask) == kNaN        ? NumberKind::kNaN
                          : (header & kSpecialMask) == kInfinity ? NumberKind::kInfinity
                                                                 : NumberKind::kMinusInfinity;
            return number;
        case kShort:
            number.negative = (header & kShortNegative) != 0;
            number.weight = static_cast<int>(header & kShortWeightMask) -
                            static_cast<int>(header & kShortWeightSign);
            break;
        default:
            if (size < 4)
                throw Error(ErrorKind::kCorrupt, "a numeric value is too short");
            header_size = 4;
            number.negative = (header & kFlagMask) == kLongNegative;
            number.weight = static_cast<std::int16_t>(load_two(data + 2));
    }
    number.digits = data + header_size;
    number.count = static_cast<std::uint32_t>((size - header_size) / 2);
    return normalise(number);
}

bool is_trimmed(Datum numeric, const NumberView& number) {
    const struct varlena* packed = PG_DETOAST_DATUM_PACKED(numeric);
    if (number.kind != NumberKind::kFinite || VARSIZE_ANY_EXHDR(packed) < 2)
        return false;
    const unsigned header = load_two(VARDATA_ANY(packed));
    const unsigned scale = (header & kFlagMask) == kShort
                               ? header >> kShortScaleShift & kShortScaleMost
                               : header & kLongScaleMost;
    return static_cast<int>(scale) == decimals(number);
}

bool is_event_value(const NumberView& number) {
    // In digits of base 10000.
    return number.kind == NumberKind::kFinite &&
           (number.count == 0 || number.weight < 7 ||
            (number.weight == 7 && number.digit(0) < 100)) &&
           decimals(number) <= static_cast<int>(kValueDecimals);
}

struct varlena* make_numeric(const NumberView& number) {
    const int scale = decimals(number);
    const bool fits_short = scale <= kShortScaleMost && number.weight <= 63 && number.weight >= -64;
    if (number.weight > PG_INT16_MAX || number.weight < PG_INT16_MIN || scale > kLongScaleMost)
        throw Error(ErrorKind::kOutOfRange, "value overflows numeric format");

    std::uint16_t header[2] = {0, 0};
    std::size_t header_size = 2;
    switch (number.kind) {
        case NumberKind::kNaN:
            header[0] = kNaN;
            break;
        case NumberKind::kInfinity:
            header[0] = kInfinity;
            break;
        case NumberKind::kMinusInfinity:
            header[0] = kMinusInfinity;
            break;
        case NumberKind::kFinite:
            if (fits_short) {
                header[0] = static_cast<std::uint16_t>(
                    kShort | (number.negative ? kShortNegative : 0) |
                    (static_cast<unsigned>(scale) << kShortScaleShift) |
                    (static_cast<unsigned>(number.weight) & (kShortWeightSign | kShortWeightMask)));
            } else {
                header[0] = static_cast<std::uint16_t>((number.negative ? kLongNegative : 0) |
                                                       static_cast<unsigned>(scale));
                header[1] = static_cast<std::uint16_t>(number.weight);
                header_size = 4;
            }
    }
    const std::size_t digits_size = number.count * sizeof(std::int16_t);
    const std::size_t size = VARHDRSZ + header_size + digits_size;
    auto* numeric = static_cast<struct varlena*>(palloc(size));
    SET_VARSIZE(numeric, size);
    std::memcpy(VARDATA(numeric), header, header_size);
    if (digits_size > 0)
        std::memcpy(VARDATA(numeric) + header_size, number.digits, digits_size);
    return numeric;
}

}  // namespace meter::pg
