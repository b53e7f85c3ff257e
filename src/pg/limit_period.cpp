#include "pg/limit_period.hpp"

#include "core/error.hpp"
#include "core/text.hpp"
#include "core/timestamp.hpp"
#include "pg/memory.hpp"
#include "pg/time_zone.hpp"
#include "pg/values.hpp"

namespace meter::pg {

const TimeSpan kAllTime = {kMinEventTime, kMaxEventTime};

namespace {

struct Named {
    LimitPeriod period;
    const char* name;
};

constexpr Named kPeriods[] = {{LimitPeriod::kHour, "hour"}, {LimitPeriod::kDay, "day"},
                              {LimitPeriod::kWeek, "week"}, {LimitPeriod::kMonth, "month"},
                              {LimitPeriod::kYear, "year"}, {LimitPeriod::kTotal, "total"}};

}  // namespace

LimitPeriod find_limit_period(std::string_view name) {
    for (const Named& known : kPeriods)
        if (name == known.name)
            return known.period;
    throw Error(ErrorKind::kInvalidParameter, "period " + quote_for_message(name) + " is not known",
                {}, "The periods are hour, day, week, month, year and total.");
}

const char* limit_period_name(LimitPeriod period) {
    for (const Named& known : kPeriods)
        if (period == known.period)
            return known.name;
    elog(ERROR, "unknown period %d", static_cast<int>(period));
    pg_unreachable();
}

TimeSpan limit_span(LimitPeriod period, std::string_view zone, int64 time) {
    if (period == LimitPeriod::kTotal)
        return kAllTime;
    const Bucket bucket = *bucket_named(limit_period_name(period));
    if (zone == "UTC") {
        static const TimeZone utc{};
        return bucket == Bucket::kMonth ? utc_month_of(time) : bucket_of(utc, bucket, time);
    }
    // It owns memory, so it lives in a context, which goes at once.
    const MemoryContext context =
        AllocSetContextCreate(CurrentMemoryContext, "time zone", ALLOCSET_SMALL_SIZES);
    auto* transitions = make_in<ZoneTransitions>(context, find_time_zone(zone));
    const TimeSpan span = bucket_of(transitions->covering(time, time + 1), bucket, time);
    MemoryContextDelete(context);
    return span;
}

TimestampTz stored_start(const TimeSpan& span) {
    return span.start == kAllTime.start && span.end == kAllTime.end ? DT_NOBEGIN
                                                                    : to_timestamptz(span.start);
}

TimestampTz stored_end(const TimeSpan& span) {
    return span.start == kAllTime.start && span.end == kAllTime.end ? DT_NOEND
                                                                    : to_timestamptz(span.end);
}

}  // namespace meter::pg
