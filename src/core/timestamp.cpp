#include "core/timestamp.hpp"

#include <chrono>
#include <cstdio>
#include <utility>

#include "core/error.hpp"
#include "core/text.hpp"

namespace meter {

namespace {

// Reads fixed-width fields from the left; `ok` turns false at the first that does not fit.
struct Reader {
    std::string_view rest;
    bool ok = true;

    int number(std::size_t width) {
        if (rest.size() < width)
            return ok = false, 0;
        int value = 0;
        for (const char c : rest.substr(0, width)) {
            if (c < '0' || c > '9')
                return ok = false, 0;
            value = value * 10 + (c - '0');
        }
        rest.remove_prefix(width);
        return value;
    }

    bool take(char c) {
        if (rest.empty() || rest.front() != c)
            return false;
        rest.remove_prefix(1);
        return true;
    }

    void expect(char c) { ok = take(c) && ok; }
};

}  // namespace

std::int64_t parse_timestamp(std::string_view text) {
    using namespace std::chrono;
    Reader in{text};
    const int y = in.number(4);
    in.expect('-');
    const int mo = in.number(2);
    in.expect('-');
    const int d = in.number(2);
    if (!in.take('T') && !in.take('t'))
        in.expect(' ');
    const int h = in.number(2);
    in.expect(':');
    const int mi = in.number(2);
    in.expect(':');
    const int s = in.number(2);

    std::int64_t micros = 0;
    if (in.ok && in.take('.')) {
        std::size_t digits = 0;
        std::int64_t unit = 100'000;
        while (!in.rest.empty() && in.rest.front() >= '0' && in.rest.front() <= '9') {
            micros += unit * (in.rest.front() - '0');
            unit /= 10;
            ++digits;
            in.rest.remove_prefix(1);
        }
        in.ok = digits > 0;
    }

    int offset_minutes = 0;
    bool has_zone = true;
    if (in.ok && !in.take('Z') && !in.take('z')) {
        const int sign = in.take('+') ? 1 : in.take('-') ? -1 : 0;
        if (sign == 0) {
            has_zone = false;
        } else {
            const int zone_hours = in.number(2);
            in.expect(':');
            const int zone_minutes = in.number(2);
            in.ok = in.ok && zone_hours <= 23 && zone_minutes <= 59;
            offset_minutes = sign * (zone_hours * 60 + zone_minutes);
        }
    }

    const year_month_day date{year{y}, month{static_cast<unsigned>(mo)},
                              day{static_cast<unsigned>(d)}};
    // A leap second (60) is the first instant of the next minute, as PostgreSQL reads it.
    if (!in.ok || (has_zone && !in.rest.empty()) || !date.ok() || h > 23 || mi > 59 || s > 60)
        throw Error(ErrorKind::kInvalidParameter,
                    "timestamp " + quote_for_message(text) + " is not valid", {},
                    "Use RFC 3339, for example 2026-01-31T12:00:00Z.");
    if (!has_zone)
        throw Error(ErrorKind::kInvalidParameter,
                    "timestamp " + quote_for_message(text) + " has no time zone", {},
                    "Use RFC 3339, for example 2026-01-31T12:00:00Z or "
                    "2026-01-31T12:00:00+02:00.");

    const std::int64_t days_since = sys_days{date}.time_since_epoch().count();
    const std::int64_t seconds_of_day = h * 3600 + mi * 60 + s - offset_minutes * 60;
    const std::int64_t time = (days_since * 86'400 + seconds_of_day) * 1'000'000 + micros;
    if (time < kMinEventTime || time >= kMaxEventTime)
        throw Error(ErrorKind::kInvalidParameter,
                    "timestamp " + quote_for_message(text) + " is out of range",
                    "A timestamp lies between the years 1970 and 9999.");
    return time;
}

std::string format_timestamp(std::int64_t time) {
    using namespace std::chrono;
    const sys_time<microseconds> instant{microseconds{time}};
    const auto day = floor<days>(instant);
    const year_month_day date{day};
    const hh_mm_ss<microseconds> clock{instant - day};
    char text[64];
    int length = std::snprintf(
        text, sizeof text, "%04d-%02u-%02uT%02d:%02d:%02d", static_cast<int>(date.year()),
        static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
        static_cast<int>(clock.hours().count()), static_cast<int>(clock.minutes().count()),
        static_cast<int>(clock.seconds().count()));
    std::string out(text, static_cast<std::size_t>(length));
    if (clock.subseconds().count() != 0) {
        length =
            std::snprintf(text, sizeof text, ".%06d", static_cast<int>(clock.subseconds().count()));
        out.append(text, static_cast<std::size_t>(length));
        out.erase(out.find_last_not_of('0') + 1);
    }
    out += 'Z';
    return out;
}

namespace {

// A number of seconds in the greatest unit that it is a whole number of: "1 day", "90 seconds".
std::string format_lead(std::int64_t seconds) {
    constexpr std::pair<std::int64_t, const char*> kUnits[] = {
        {86'400, "day"}, {3'600, "hour"}, {60, "minute"}};
    const char* unit = "second";
    for (const auto& [length, name] : kUnits)
        if (seconds > 0 && seconds % length == 0) {
            seconds /= length;
            unit = name;
            break;
        }
    return std::to_string(seconds) + " " + unit + (seconds == 1 ? "" : "s");
}

}  // namespace

void check_event_time(std::int64_t time, std::int64_t now, std::int64_t max_lead_seconds) {
    if (time < kMinEventTime || time >= kMaxEventTime)
        throw Error(ErrorKind::kInvalidParameter, "timestamp is out of range",
                    "A timestamp lies between the years 1970 and 9999.");
    if (time > now + max_lead_seconds * 1'000'000)
        throw Error(ErrorKind::kInvalidParameter,
                    "timestamp " + format_timestamp(time) + " lies too far ahead",
                    "It is " + format_timestamp(now) + " now, and at most " +
                        format_lead(max_lead_seconds) + " ahead is taken.",
                    "The setting meter.max_event_lead says how far.");
}

}  // namespace meter
