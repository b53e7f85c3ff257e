#include "pg/limit_cache.hpp"

#include <algorithm>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "pg/catalog.hpp"
#include "pg/memory.hpp"
#include "pg/spi.hpp"

extern "C" {
#include "utils/datum.h"
}

namespace meter::pg {

namespace {

// The limits of a meter: the defaults of all users, and of users who have some of their own what
// applies to them. Its methods make no PostgreSQL calls.
struct MeterLimits {
    bool has_own = false;
    HardLimits defaults{};
    std::unordered_map<std::string, HardLimits> users;
};

// All that a session remembers.
struct LimitCache {
    std::unordered_map<int32, std::unique_ptr<MeterLimits>> meters;
    std::size_t users = 0;
    std::string user;  // the last one that was looked up
};

// A bound on what a session keeps, far above what one works with at a time.
constexpr std::size_t kMostUsers = 20'000;
constexpr std::size_t kMostMeters = 10'000;

MemoryContext cache_context = nullptr;
LimitCache* cache = nullptr;
uint64 cached_since = 0;  // by catalog_generation()

LimitCache& fresh_cache() {
    if (cache_context == nullptr)
        cache_context =
            AllocSetContextCreate(CacheMemoryContext, "usage limits", ALLOCSET_SMALL_SIZES);
    if (cache == nullptr || cached_since != catalog_generation() || cache->users > kMostUsers ||
        cache->meters.size() > kMostMeters) {
        cache = nullptr;
        MemoryContextReset(cache_context);
        cache = make_in<LimitCache>(cache_context);
        cached_since = catalog_generation();
    }
    return *cache;
}

// Adds the rows of the last result, (period, kind, time_zone, amount), to the limits; one for a
// period that has one takes its place.
void add_rows(HardLimits* limits) {
    for (uint64 row = 0; row < SPI_processed; ++row) {
        bool null;
        const auto column = [&](int number) { return result(row, number, &null); };
        const LimitPeriod period = find_limit_period(text_view(column(1)));
        int at = 0;
        while (at < limits->count && limits->items[at].period != period)
            ++at;
        if (text_view(column(2)) != "hard") {
            if (at < limits->count)
                limits->items[at] = limits->items[--limits->count];
            continue;
        }
        if (at == limits->count && limits->count++ == HardLimits::kMost)
            elog(ERROR, "too many limits of a user");
        const MemoryContext caller_context = MemoryContextSwitchTo(cache_context);
        const std::string_view zone = text_view(column(3));
        limits->items[at] = {period,
                             {pnstrdup(zone.data(), zone.size()), zone.size()},
                             datumCopy(column(4), false, -1),
                             {0, 0}};
        MemoryContextSwitchTo(caller_context);
    }
    SPI_freetuptable(SPI_tuptable);
    std::sort(limits->items, limits->items + limits->count,
              [](const HardLimit& a, const HardLimit& b) { return a.period < b.period; });
}

MeterLimits& load_meter(LimitCache& into, int32 meter_id) {
    static Statement about = {
        "SELECT aggregation = 'count', EXISTS (SELECT FROM meter.usage_limit l "
        "WHERE l.meter_id = m.id AND l.user_id IS NOT NULL) FROM meter.meter m WHERE id = $1",
        {INT4OID},
        true};
    static Statement select = {
        "SELECT period, kind, time_zone, amount FROM meter.usage_limit "
        "WHERE meter_id = $1 AND user_id IS NULL",
        {INT4OID},
        true};
    const Datum values[] = {Int32GetDatum(meter_id)};
    HardLimits defaults{};
    bool has_own = false;
    if (run(about, values, nullptr, Run::kLatest) > 0) {
        bool null;
        defaults.counts = DatumGetBool(result(0, 1, &null));
        has_own = DatumGetBool(result(0, 2, &null));
    }
    SPI_freetuptable(SPI_tuptable);
    run(select, values, nullptr, Run::kLatest);
    add_rows(&defaults);
    note_remembered();
    auto& entry = into.meters[meter_id];
    entry = std::make_unique<MeterLimits>();
    entry->has_own = has_own;
    entry->defaults = defaults;
    return *entry;
}

}  // namespace

HardLimits& hard_limits_of(int32 meter_id, std::string_view user) {
    LimitCache& known = fresh_cache();
    const auto found = known.meters.find(meter_id);
    MeterLimits& meter = found == known.meters.end() ? load_meter(known, meter_id) : *found->second;
    if (!meter.has_own)
        return meter.defaults;
    known.user.assign(user);
    if (const auto at = meter.users.find(known.user); at != meter.users.end())
        return at->second;
    static Statement select = {
        "SELECT period, kind, time_zone, amount FROM meter.usage_limit "
        "WHERE meter_id = $1 AND user_id = $2",
        {INT4OID, TEXTOID},
        true};
    const Datum values[] = {Int32GetDatum(meter_id), text_datum(user)};
    run(select, values, nullptr, Run::kLatest);
    HardLimits limits = meter.defaults;
    add_rows(&limits);
    note_remembered();
    ++known.users;
    return meter.users.emplace(known.user, limits).first->second;
}

const TimeSpan& span_at(HardLimit& limit, int64 time) {
    if (time < limit.span.start || time >= limit.span.end)
        limit.span = limit_span(limit.period, limit.zone, time);
    return limit.span;
}

}  // namespace meter::pg
