#include "pg/delta_chunk.hpp"

#include <algorithm>
#include <cstring>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "core/error.hpp"
#include "pg/cells.hpp"
#include "pg/delta.hpp"
#include "pg/memory.hpp"
#include "pg/numeric.hpp"
#include "pg/spi.hpp"
#include "pg/values.hpp"

extern "C" {
#include "access/htup_details.h"
}

namespace meter::pg {

namespace {

// Where the columns are.
enum {
    kMeter,
    kUser,
    kDigest,
    kDimensions,
    kFirstTime,
    kLastTime,
    kLastId,
    kEventCount,
    kDirty,
    kSum,
    kMin,
    kMax,
    kLastValue,
    kValueTime,
    kEventDigest,
    kVoided
};
static_assert(kVoided + 1 == kDeltaColumns);

// A number that a delta of several events, or of corrections, must have.
NumberView required_number(const DeltaColumns& delta, int column) {
    if (delta.nulls[column])
        throw Error(ErrorKind::kCorrupt, "a delta lacks columns");
    return view_numeric(delta.values[column]);
}

// Reads a delta's numbers; the origin of the cell is the start of its hour.
RollupCell read_delta(const DeltaColumns& delta, std::pmr::memory_resource* resource) {
    const int64 first = to_unix_micros(DatumGetTimestampTz(delta.values[kFirstTime]));
    const int64 id = DatumGetInt64(delta.values[kLastId]);
    const int64 count = DatumGetInt64(delta.values[kEventCount]);
    const NumberView sum = view_numeric(delta.values[kSum]);
    const bool is_dirty = !delta.nulls[kDirty] && DatumGetBool(delta.values[kDirty]);
    const bool has_digest = !delta.nulls[kEventDigest];
    RollupCell cell;
    if (delta.nulls[kValueTime]) {
        // Of one event: all follows from its value and timestamp.
        if (count != 1)
            throw Error(ErrorKind::kCorrupt, "a delta of several events lacks columns");
        cell.add_event(sum, first, id, hour_start(first), resource);
        cell.digest = DigestSum::of(
            has_digest ? digest_of(delta.values[kEventDigest])
                       : event_digest(id, first, sum, digest_of(delta.values[kDigest])));
        cell.dirty = is_dirty;
        return cell;
    }
    if (!has_digest)
        throw Error(ErrorKind::kCorrupt, "a delta lacks columns");
    cell.digest = DigestSum::of(digest_of(delta.values[kEventDigest]));
    cell.first_time = first;
    cell.last_time = delta.nulls[kLastTime]
                         ? first
                         : to_unix_micros(DatumGetTimestampTz(delta.values[kLastTime]));
    cell.last_id = id;
    cell.event_count = count;
    cell.dirty = is_dirty;
    cell.value_sum.add(sum, resource);
    cell.value_min.assign(required_number(delta, kMin), resource);
    cell.value_max.assign(required_number(delta, kMax), resource);
    cell.last_value.assign(required_number(delta, kLastValue), resource);
    cell.value_time.add(required_number(delta, kValueTime), resource);
    return cell;
}

// Adds a delta to the tables; `user` and the dimensions have to last as long as they. Returns the
// day's cell.
TableCell& add_delta(RollupTables* tables, LeftOut* left_out, const DeltaColumns& delta,
                     std::string_view user, Datum* dimensions, Digest* digest) {
    const RollupCell cell = read_delta(delta, tables->resource());
    const int32 meter = DatumGetInt32(delta.values[kMeter]);
    *digest = digest_of(delta.values[kDigest]);
    *dimensions = delta.values[kDimensions];
    if (left_out != nullptr)
        strip_dimensions(left_out, meter, dimensions, digest);
    return tables->add_hour({meter, hour_start(cell.first_time), user, *digest}, cell,
                            !delta.nulls[kVoided] && DatumGetBool(delta.values[kVoided]));
}

// An hour under way, and what it is about.
struct Hour {
    CellKey key;
    const RollupCell* cell;
    std::uintptr_t dimensions;
    bool voided;
};

// All hours, in the order of the index on deltas. The vector lives in the current memory context.
std::vector<Hour>* sorted_hours(RollupTables* tables) {
    auto* hours = make_in<std::vector<Hour>>(CurrentMemoryContext);
    for (CellTable* days : {&tables->days, &tables->voided_days})
        for (auto& [key, day] : days->entries()) {
            unfold_hours(day, key.start, tables->resource());
            for (const HourCell& hour : day.hours)
                hours->push_back(
                    {{key.meter_id, key.start + hour.hour * kHourMicros, key.user_id, key.digest},
                     hour.cell,
                     day.dimensions,
                     days == &tables->voided_days});
        }
    std::sort(hours->begin(), hours->end(), [](const Hour& a, const Hour& b) {
        if (const int order = a.key.user_id.compare(b.key.user_id))
            return order < 0;
        return a.key < b.key;
    });
    return hours;
}

struct DigestHash {
    std::size_t operator()(const Digest& digest) const {
        std::size_t hash;
        std::memcpy(&hash, digest.data(), sizeof hash);
        return hash;
    }
};
using KeptDimensions = std::pmr::unordered_map<Digest, Datum, DigestHash>;

}  // namespace

struct DeltaAdder {
    RollupTables* tables;
    LeftOut* left_out;
    MemoryContext context;
    std::pmr::unordered_set<std::string_view>* users;
    std::string_view last_user;  // one of them; many deltas of one user lie together
    KeptDimensions* dimensions;
};

DeltaAdder* make_adder(RollupTables* tables, LeftOut* left_out) {
    auto* adder =
        static_cast<DeltaAdder*>(MemoryContextAllocZero(CurrentMemoryContext, sizeof(DeltaAdder)));
    adder->tables = tables;
    adder->left_out = left_out;
    adder->context = CurrentMemoryContext;
    adder->users = make_in<std::pmr::unordered_set<std::string_view>>(CurrentMemoryContext,
                                                                      tables->resource());
    adder->dimensions = make_in<KeptDimensions>(CurrentMemoryContext, tables->resource());
    return adder;
}

// The user's bytes, kept with the tables.
static std::string_view kept_user(DeltaAdder* adder, std::string_view user) {
    const auto kept = adder->users->find(user);
    if (kept != adder->users->end())
        return *kept;
    auto* bytes = static_cast<char*>(adder->tables->resource()->allocate(user.size() + 1, 1));
    std::memcpy(bytes, user.data(), user.size());
    return *adder->users->emplace(bytes, user.size()).first;
}

void add_passing_delta(DeltaAdder* adder, const DeltaColumns& delta) {
    const std::string_view user = text_view(delta.values[kUser]);
    if (user != adder->last_user || adder->last_user.data() == nullptr)
        adder->last_user = kept_user(adder, user);
    Datum dimensions;
    Digest digest;
    TableCell& cell =
        add_delta(adder->tables, adder->left_out, delta, adder->last_user, &dimensions, &digest);
    if (cell.dimensions != 0)
        return;
    const auto [kept, fresh] = adder->dimensions->try_emplace(digest);
    if (fresh) {
        const MemoryContext caller_context = MemoryContextSwitchTo(adder->context);
        kept->second = PointerGetDatum(PG_DETOAST_DATUM_COPY(dimensions));
        MemoryContextSwitchTo(caller_context);
    }
    cell.dimensions = static_cast<std::uintptr_t>(kept->second);
}

void add_deltas(RollupTables* tables, LeftOut* left_out) {
    for (uint64 row = 0; row < SPI_processed; ++row) {
        if (row % 1024 == 0)
            CHECK_FOR_INTERRUPTS();
        DeltaColumns delta;
        heap_deform_tuple(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, delta.values,
                          delta.nulls);
        Datum dimensions;
        Digest digest;
        TableCell& cell = add_delta(tables, left_out, delta, text_view(delta.values[kUser]),
                                    &dimensions, &digest);
        cell.dimensions = static_cast<std::uintptr_t>(dimensions);
    }
}

int64 write_hours_as_deltas(RollupTables* tables, int32 generation) {
    // Bounds the memory that one step takes.
    constexpr int kPiece = 20'000;
    const std::vector<Hour>& hours = *sorted_hours(tables);
    const auto count = static_cast<int>(hours.size());
    const MemoryContext piece_context =
        AllocSetContextCreate(CurrentMemoryContext, "deltas", ALLOCSET_DEFAULT_SIZES);
    const MemoryContext caller_context = MemoryContextSwitchTo(piece_context);
    for (int at = 0; at < count; at += kPiece) {
        CHECK_FOR_INTERRUPTS();
        const int piece = Min(kPiece, count - at);
        auto* rows = static_cast<DeltaRow*>(palloc(sizeof(DeltaRow) * static_cast<Size>(piece)));
        for (int i = 0; i < piece; ++i) {
            const Hour& hour = hours[static_cast<std::size_t>(at + i)];
            rows[i] = {&hour.key,
                       hour.cell,
                       text_datum(hour.key.user_id),
                       static_cast<Datum>(hour.dimensions),
                       0,
                       hour.voided};
        }
        insert_deltas(rows, piece, generation);
        MemoryContextReset(piece_context);
    }
    MemoryContextSwitchTo(caller_context);
    MemoryContextDelete(piece_context);
    return count;
}

}  // namespace meter::pg
