#include "pg/cells.hpp"

#include <cstring>

#include "core/error.hpp"
#include "core/timestamp.hpp"
#include "pg/memory.hpp"
#include "pg/numeric.hpp"
#include "pg/values.hpp"

extern "C" {
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/uuid.h"
}

namespace meter::pg {

static_assert(sizeof(pg_uuid_t) == sizeof(Digest));

Columns make_columns(std::initializer_list<Oid> types, int capacity) {
    Columns columns{};
    columns.capacity = capacity;
    for (const Oid type : types) {
        columns.types[columns.count] = type;
        columns.values[columns.count] = static_cast<Datum*>(MemoryContextAllocHuge(
            CurrentMemoryContext, sizeof(Datum) * static_cast<Size>(Max(capacity, 1))));
        columns.nulls[columns.count++] =
            static_cast<bool*>(palloc(sizeof(bool) * static_cast<Size>(Max(capacity, 1))));
    }
    return columns;
}

void column_arrays(const Columns& columns, Datum* arrays) {
    int dims[] = {columns.rows};
    int lower[] = {1};
    for (int i = 0; i < columns.count; ++i) {
        int16 length;
        bool by_value;
        char align;
        get_typlenbyvalalign(columns.types[i], &length, &by_value, &align);
        arrays[i] =
            PointerGetDatum(construct_md_array(columns.values[i], columns.nulls[i], 1, dims, lower,
                                               columns.types[i], length, by_value, align));
    }
}

int64 cell_time(TimestampTz time) {
    const int64 micros = to_unix_micros(time);
    if (micros < kMinEventTime || micros >= kMaxEventTime)
        throw Error(ErrorKind::kCorrupt, "a time of a rollup cell is out of range");
    return micros;
}

// PostgreSQL reads, and never writes, what a uuid datum points to.
Datum uuid_datum(const Digest& digest) {
    return PointerGetDatum(const_cast<std::uint8_t*>(digest.data()));
}

Datum digest_datum(const DigestSum& sum) {
    auto* uuid = static_cast<pg_uuid_t*>(palloc(sizeof(pg_uuid_t)));
    const Digest bytes = sum.bytes();
    std::memcpy(uuid->data, bytes.data(), bytes.size());
    return UUIDPGetDatum(uuid);
}

Digest digest_of(Datum uuid) {
    Digest digest;
    std::memcpy(digest.data(), DatumGetPointer(uuid), digest.size());
    return digest;
}

namespace {

// Digits for one number; kept, so that no destructor runs where PostgreSQL allocates.
DigitBuffer& digit_buffer() {
    static DigitBuffer digits;
    return digits;
}

}  // namespace

Datum numeric_datum(const ExactSum& sum) {
    return PointerGetDatum(make_numeric(sum.total(digit_buffer())));
}

Datum numeric_datum(const StoredNumber& number) {
    return PointerGetDatum(make_numeric(number.view()));
}

}  // namespace meter::pg
