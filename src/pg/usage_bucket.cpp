// meter.bucket_start() and meter.bucket_end(): the calendar for SQL.
#include "pg/usage_bucket.hpp"

#include <cstring>

#include "pg/guard.hpp"
#include "pg/memory.hpp"
#include "pg/time_zone.hpp"
#include "pg/values.hpp"

namespace meter::pg {

namespace {

// What a call site remembers from one call to the next: its arguments, the zone, and the last
// bucket, which the next event most often lies in too.
struct CallSite {
    explicit CallSite(const pg_tz* tz) noexcept : zone(tz) {}

    ZoneTransitions zone;
    Bucket bucket = Bucket::kDay;
    char bucket_name[16] = {};
    char zone_name[TZ_STRLEN_MAX + 1] = {};
    std::size_t bucket_length = 0;
    std::size_t zone_length = 0;
    TimeSpan span = {0, 0};  // start == end: none yet
};

// Remembers the arguments of a call site's first call, or of one that has others than the last.
CallSite* enter_site(FmgrInfo* function, std::string_view bucket_name, std::string_view zone_name) {
    const Bucket bucket = find_bucket(bucket_name);
    const pg_tz* tz = find_time_zone(zone_name);
    auto* site = static_cast<CallSite*>(function->fn_extra);
    if (site == nullptr) {
        site = make_in<CallSite>(function->fn_mcxt, tz);
        function->fn_extra = site;
    }
    site->zone = ZoneTransitions(tz);
    site->bucket = bucket;
    site->bucket_length = bucket_name.copy(site->bucket_name, sizeof site->bucket_name);
    site->zone_length = zone_name.copy(site->zone_name, sizeof site->zone_name);
    site->span = {0, 0};
    return site;
}

// The bucket of the first argument by the other two.
TimeSpan bucket_of_arguments(FunctionCallInfo fcinfo) {
    const std::string_view bucket_name = text_view(PG_GETARG_DATUM(1));
    const std::string_view zone_name = text_view(PG_GETARG_DATUM(2));
    auto* site = static_cast<CallSite*>(fcinfo->flinfo->fn_extra);
    if (site == nullptr ||
        bucket_name != std::string_view(site->bucket_name, site->bucket_length) ||
        zone_name != std::string_view(site->zone_name, site->zone_length))
        site = enter_site(fcinfo->flinfo, bucket_name, zone_name);
    const std::int64_t at = calendar_time(PG_GETARG_TIMESTAMPTZ(0), "at");
    if (at < site->span.start || at >= site->span.end)
        site->span = bucket_of(site->zone.covering(at, at + 1), site->bucket, at);
    return site->span;
}

}  // namespace

Bucket find_bucket(std::string_view name) {
    const std::optional<Bucket> bucket = bucket_named(name);
    if (!bucket.has_value())
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("bucket \"%s\" is not known", shown(name)),
                        errhint("The buckets are %s.", kBucketNames)));
    return *bucket;
}

std::int64_t calendar_time(TimestampTz time, const char* argument) {
    if (TIMESTAMP_NOT_FINITE(time))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("%s must be finite, not %s", argument, timestamptz_to_str(time))));
    if (time < to_timestamptz(kMinCalendarTime) || time > to_timestamptz(kMaxCalendarTime))
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                 errmsg("%s is out of range: %s", argument, timestamptz_to_str(time)),
                 errhint("The calendar covers the years 1 to 10000; events are from 1970 on.")));
    return to_unix_micros(time);
}

}  // namespace meter::pg

METER_FUNCTION(meter_bucket_start) {
    using namespace meter::pg;
    PG_RETURN_TIMESTAMPTZ(to_timestamptz(bucket_of_arguments(fcinfo).start));
}

METER_FUNCTION(meter_bucket_end) {
    using namespace meter::pg;
    PG_RETURN_TIMESTAMPTZ(to_timestamptz(bucket_of_arguments(fcinfo).end));
}
