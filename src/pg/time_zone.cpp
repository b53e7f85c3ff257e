#include "pg/time_zone.hpp"

#include <algorithm>
#include <cstring>

namespace meter::pg {

namespace {

constexpr std::int64_t kSecond = 1'000'000;

// The zone's offset at an instant, both in seconds.
std::int64_t offset_at(pg_time_t seconds, const pg_tz* tz) {
    const pg_tm* local = pg_localtime(&seconds, tz);
    return local == nullptr ? 0 : local->tm_gmtoff;
}

// Whether pg_tzset() took this name for a POSIX specification rather than finding a file. Those
// have a digit, and come back in upper case; so do a few old names, which mean the same both ways.
bool is_posix_notation(const char* canonical) {
    bool has_digit = false;
    for (const char* c = canonical; *c != '\0'; ++c) {
        if (*c >= 'a' && *c <= 'z')
            return false;
        has_digit = has_digit || (*c >= '0' && *c <= '9');
    }
    if (!has_digit)
        return false;
    for (const char* known : {"EST5EDT", "CST6CDT", "MST7MDT", "PST8PDT", "GMT0", "GMT+0", "GMT-0"})
        if (std::strcmp(canonical, known) == 0)
            return false;
    return true;
}

// The zone of that name; nullptr where there is none.
pg_tz* look_up(const char* name) {
    // A leading ':' or '/' would leave the database; an empty name is UTC to pg_tzset().
    if (*name == '\0' || *name == ':' || *name == '/')
        return nullptr;
    pg_tz* tz = pg_tzset(name);
    return tz == nullptr || is_posix_notation(pg_get_timezone_name(tz)) ? nullptr : tz;
}

}  // namespace

const pg_tz* find_time_zone(std::string_view name) {
    char* terminated = pnstrdup(name.data(), name.size());
    pg_tz* tz = look_up(terminated);
    if (tz == nullptr)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("time_zone \"%s\" is not known", terminated),
                        errhint("Use a name from pg_timezone_names, for example UTC, Europe/Berlin "
                                "or, for a fixed offset, Etc/GMT-3 (three hours east).")));
    if (!pg_tz_acceptable(tz))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("time_zone \"%s\" counts leap seconds", terminated),
                        errhint("Use the name without \"right/\".")));
    pfree(terminated);
    return tz;
}

bool is_time_zone(std::string_view name) {
    char* terminated = pnstrdup(name.data(), name.size());
    pg_tz* tz = look_up(terminated);
    pfree(terminated);
    return tz != nullptr && pg_tz_acceptable(tz);
}

const TimeZone& ZoneTransitions::covering(std::int64_t from, std::int64_t to) {
    if (from_ >= to_ || from < from_ || to > to_) {
        // Take as much again on both sides, and a year at least: then instants in any order cost no
        // more than a few loads.
        constexpr std::int64_t kYear = 366 * 86'400 * kSecond;
        if (from_ < to_) {
            from = std::min(from, from_);
            to = std::max(to, to_);
        }
        const std::int64_t more = std::max(to - from, kYear);
        load(std::max(from - more, std::min(from, kMinCalendarTime)),
             std::min(to + more, std::max(to, kMaxCalendarTime)));
    }
    return zone_;
}

void ZoneTransitions::load(std::int64_t from, std::int64_t to) {
    from_ = to_ = 0;
    zone_.transitions.clear();
    auto now = static_cast<pg_time_t>((from - kZoneMargin) / kSecond - 1);
    const auto last = static_cast<pg_time_t>((to + kZoneMargin) / kSecond + 1);
    std::int64_t offset = offset_at(now, tz_);
    zone_.first_offset = offset * kSecond;
    while (now < last) {
        long before_offset = 0;
        long after_offset = 0;
        int before_dst = 0;
        int after_dst = 0;
        pg_time_t boundary = 0;
        if (pg_next_dst_boundary(&now, &before_offset, &before_dst, &boundary, &after_offset,
                                 &after_dst, tz_) != 1 ||
            boundary > last)
            break;
        // A boundary may change the name or the flag alone. What counts is local time; asked about
        // an instant before the first transition, the function has another idea of it.
        const std::int64_t next = offset_at(boundary, tz_);
        if (next != offset)
            zone_.transitions.push_back({boundary * kSecond, next * kSecond});
        offset = next;
        // Asked at the last transition of its table it knows of no later one; a second on, it
        // repeats the table's rules for ever.
        now = boundary + 1;
    }
    from_ = from;
    to_ = to;
}

}  // namespace meter::pg
