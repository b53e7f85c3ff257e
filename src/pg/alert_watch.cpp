#include "pg/alert_watch.hpp"

#include <algorithm>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "pg/cells.hpp"
#include "pg/guard.hpp"
#include "pg/limit_period.hpp"
#include "pg/memory.hpp"
#include "pg/spi.hpp"
#include "pg/time_zone.hpp"
#include "pg/user_usage.hpp"
#include "pg/values.hpp"

extern "C" {
#include "access/xact.h"
#include "utils/snapmgr.h"
}

namespace meter::pg {

namespace {

// Rules that ask for the same: a meter's usage of the periods of a time zone, read once for all of
// them.
struct Group {
    int32 meter_id;
    bool counts;
    LimitPeriod period;
    std::string zone;
    bool known;                      // the time zone is
    bool of_all;                     // some rule is for every user
    std::vector<std::string> users;  // those who have a rule of their own, in order
    TimeSpan span;                   // the period that was asked for last

    bool asks_for(std::string_view user) const {
        return of_all || std::binary_search(users.begin(), users.end(), user);
    }
};

// A user's period that a group has to look at.
struct Watched {
    std::size_t group;
    TimeSpan span;
    std::string user;

    bool operator==(const Watched& other) const {
        return group == other.group && span.start == other.span.start && user == other.user;
    }
};

struct WatchedHash {
    std::size_t operator()(const Watched& watched) const {
        return std::hash<std::string>()(watched.user) ^
               (std::hash<std::int64_t>()(watched.span.start) * 31 + watched.group);
    }
};

// A row of meter.alert_recheck.
struct Recheck {
    int64 id;
    int32 meter_id;
    std::string period;  // empty: each
    std::string zone;    // empty: each
    bool of_all;
    std::string user;
    std::string after;  // users up to this one have been looked at
    bool has_problem;
};

}  // namespace

// It holds what needs destructors, so it lives in a memory context; its methods make no PostgreSQL
// calls.
struct AlertWatch {
    std::vector<Group> groups;
    std::unordered_map<int32, std::vector<std::size_t>> of_meter;
    std::unordered_set<Watched, WatchedHash> watched;
    std::unordered_set<Watched, WatchedHash> retried;  // could not be read before
    std::vector<Recheck> rechecks;
    Watched probe;  // to look up without making a string

    // Adds a rule; those of a group come one after another. An empty user is each. Returns whether
    // it is the first of a group.
    bool add_rule(int32 meter_id, bool counts, LimitPeriod period, std::string_view zone,
                  std::string_view user) {
        const bool first = groups.empty() || groups.back().meter_id != meter_id ||
                           groups.back().counts != counts || groups.back().period != period ||
                           groups.back().zone != zone;
        if (first) {
            of_meter[meter_id].push_back(groups.size());
            groups.push_back(
                {meter_id, counts, period, std::string(zone), true, false, {}, {0, 0}});
        }
        if (user.empty())
            groups.back().of_all = true;
        else
            groups.back().users.emplace_back(user);
        return first;
    }

    const std::vector<std::size_t>* groups_of(int32 meter_id) const {
        const auto found = of_meter.find(meter_id);
        return found == of_meter.end() ? nullptr : &found->second;
    }

    void add(std::size_t group, const TimeSpan& span, std::string_view user) {
        probe.group = group;
        probe.span = span;
        probe.user.assign(user);
        watched.insert(probe);
    }
};

namespace {

constexpr int kRechecksAtOnce = 1'000;

// Users' periods that one fold looks at beside those with new usage, about: the next goes on.
constexpr std::size_t kMostReviewed = 5'000;

std::string_view text_or_empty(Datum value, bool null) {
    return null ? std::string_view() : text_view(value);
}

// Reads what has to be looked at whoever used; what could not be looked at before comes last.
void load_rechecks(AlertWatch* watch) {
    bool null;
    const auto column = [&](uint64 row, int number) { return result(row, number, &null); };
    for (uint64 row = 0; row < SPI_processed; ++row) {
        Recheck& recheck = watch->rechecks.emplace_back();
        recheck.id = DatumGetInt64(column(row, 1));
        recheck.meter_id = DatumGetInt32(column(row, 2));
        Datum value = column(row, 3);
        recheck.period = text_or_empty(value, null);
        value = column(row, 4);
        recheck.zone = text_or_empty(value, null);
        value = column(row, 5);
        recheck.of_all = null;
        recheck.user = text_or_empty(value, null);
        recheck.after = text_view(column(row, 6));
        recheck.has_problem = DatumGetBool(column(row, 7));
    }
    SPI_freetuptable(SPI_tuptable);
}

// Reads the rules: meter_id, whether it counts, period, time_zone, user_id.
void load_rules(AlertWatch* watch) {
    for (uint64 row = 0; row < SPI_processed; ++row) {
        if (row % 1024 == 0)
            CHECK_FOR_INTERRUPTS();
        bool null;
        const auto column = [&](int number) { return result(row, number, &null); };
        const Datum user = column(5);
        const std::string_view name = text_or_empty(user, null);
        if (watch->add_rule(DatumGetInt32(column(1)), DatumGetBool(column(2)),
                            find_limit_period(text_view(column(3))), text_view(column(4)), name))
            watch->groups.back().known = is_time_zone(text_view(column(4)));
    }
    SPI_freetuptable(SPI_tuptable);
}

const TimeSpan& span_of(Group& group, int64 time) {
    if (time < group.span.start || time >= group.span.end)
        group.span = limit_span(group.period, group.zone, time);
    return group.span;
}

// Notes that a group cannot be looked at, or a user's usage: `user` is 0 for all. It is tried again
// with folds to come.
void note_problem(const Group& group, Datum user, const char* problem) {
    static Statement insert = {
        "INSERT INTO meter.alert_recheck (meter_id, period, time_zone, user_id, problem) "
        "SELECT $1, $2, $3, $4, $5 WHERE NOT EXISTS (SELECT FROM meter.alert_recheck "
        "WHERE meter_id = $1 AND period = $2 AND time_zone = $3 "
        "AND user_id IS NOT DISTINCT FROM $4 AND problem IS NOT NULL)",
        {INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID}};
    const Datum values[] = {Int32GetDatum(group.meter_id),
                            text_datum(limit_period_name(group.period)), text_datum(group.zone),
                            user, CStringGetTextDatum(problem)};
    run(insert, values, user == 0 ? "   n " : nullptr, Run::kWrite);
}

// Warns of the groups whose time zone is not known any more, and leaves them for later.
void put_off_unknown_zones(AlertWatch* watch) {
    for (std::size_t i = 0; i < watch->groups.size(); ++i) {
        const Group& group = watch->groups[i];
        if (group.known)
            continue;
        bool told = false;
        for (const Recheck& recheck : watch->rechecks)
            told |= recheck.has_problem && recheck.of_all && recheck.meter_id == group.meter_id &&
                    recheck.zone == group.zone && recheck.period == limit_period_name(group.period);
        const char* problem = psprintf("time_zone \"%s\" is not known", group.zone.c_str());
        if (!told)
            ereport(WARNING,
                    (errmsg("alerts of meter %d are not looked at: %s", group.meter_id, problem),
                     errhint("Set them anew with meter.set_alert, or drop them.")));
        note_problem(group, 0, problem);
    }
}

// Puts the current period of all users after `*after` under watch, `most` at most, for the groups,
// which are for every user. Returns whether these are all; else `*after` is the last one.
bool watch_users(AlertWatch* watch, const std::vector<std::size_t>& groups, int64 now,
                 std::size_t most, std::string* after) {
    static Statement users = {
        "(SELECT DISTINCT user_id FROM meter.rollup WHERE meter_id = $1 AND grain = 'm' "
        "AND start >= date_trunc('month', $2, 'UTC') AND start < $3 "
        "AND first_timestamp < $3 AND last_timestamp >= $2 AND user_id > $4 ORDER BY 1 LIMIT $5) "
        "UNION (SELECT DISTINCT user_id FROM meter.rollup_pending WHERE meter_id = $1 "
        "AND first_timestamp < $3 AND COALESCE(last_timestamp, first_timestamp) >= $2 "
        "AND user_id > $4 ORDER BY 1 LIMIT $5) ORDER BY 1 LIMIT $5",
        {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, INT8OID}};
    TimeSpan span = span_of(watch->groups[groups.front()], now);
    for (const std::size_t number : groups) {
        const TimeSpan& other = span_of(watch->groups[number], now);
        span.start = Min(span.start, other.start);
        span.end = Max(span.end, other.end);
    }
    const Datum values[] = {Int32GetDatum(watch->groups[groups.front()].meter_id),
                            TimestampTzGetDatum(to_timestamptz(span.start)),
                            TimestampTzGetDatum(to_timestamptz(span.end)), text_datum(*after),
                            Int64GetDatum(static_cast<int64>(most))};
    const uint64 count = run(users, values, nullptr, Run::kWrite);
    for (uint64 row = 0; row < count; ++row) {
        bool null;
        const std::string_view user = text_view(result(row, 1, &null));
        for (const std::size_t number : groups)
            watch->add(number, watch->groups[number].span, user);
        if (row + 1 == count)
            after->assign(user);
    }
    SPI_freetuptable(SPI_tuptable);
    return count < most;
}

// The groups that a recheck is about; those whose time zone is not known are left out.
void find_groups(AlertWatch* watch, const Recheck& recheck, std::vector<std::size_t>* groups) {
    groups->clear();
    const std::vector<std::size_t>* all = watch->groups_of(recheck.meter_id);
    if (all == nullptr)
        return;
    for (const std::size_t number : *all) {
        const Group& group = watch->groups[number];
        if (group.known &&
            (recheck.period.empty() || recheck.period == limit_period_name(group.period)) &&
            (recheck.zone.empty() || recheck.zone == group.zone))
            groups->push_back(number);
    }
}

// Whether a recheck waits for a time zone to be known again.
bool waits_for_zone(const AlertWatch* watch, const Recheck& recheck) {
    const std::vector<std::size_t>* all = watch->groups_of(recheck.meter_id);
    if (all != nullptr && recheck.has_problem)
        for (const std::size_t number : *all)
            if (!watch->groups[number].known && watch->groups[number].zone == recheck.zone &&
                recheck.period == limit_period_name(watch->groups[number].period))
                return true;
    return false;
}

// What watch_rechecked() works with; it owns memory.
struct Scratch {
    std::vector<std::size_t> groups;
    std::vector<std::size_t> of_all;
};

// Puts what has to be looked at whoever used under watch, in its current period: so much that a
// fold does not take for ever.
void watch_rechecked(AlertWatch* watch) {
    static Statement remove = {"DELETE FROM meter.alert_recheck WHERE id = $1", {INT8OID}};
    static Statement advance = {
        "UPDATE meter.alert_recheck SET after_user = $2, problem = NULL WHERE id = $1",
        {INT8OID, TEXTOID}};
    auto* scratch = make_in<Scratch>(CurrentMemoryContext);
    const int64 now = to_unix_micros(GetCurrentTransactionStartTimestamp());
    const std::size_t most = watch->watched.size() + kMostReviewed;
    for (Recheck& recheck : watch->rechecks) {
        CHECK_FOR_INTERRUPTS();
        if (watch->watched.size() >= most)
            break;
        if (waits_for_zone(watch, recheck))
            continue;
        find_groups(watch, recheck, &scratch->groups);
        scratch->of_all.clear();
        for (const std::size_t number : scratch->groups) {
            Group& group = watch->groups[number];
            if (!recheck.of_all) {
                if (!group.asks_for(recheck.user))
                    continue;
                watch->add(number, span_of(group, now), recheck.user);
                if (recheck.has_problem)
                    watch->retried.insert(watch->probe);
            } else if (group.of_all) {
                scratch->of_all.push_back(number);
            } else if (recheck.after.empty()) {
                for (const std::string& user : group.users)
                    watch->add(number, span_of(group, now), user);
            }
        }
        const Datum values[] = {Int64GetDatum(recheck.id), 0};
        // Each user at a time counts for all groups.
        if (scratch->of_all.empty() ||
            watch_users(watch, scratch->of_all, now,
                        Max(1, (most - Min(most, watch->watched.size())) / scratch->of_all.size()),
                        &recheck.after)) {
            run(remove, values, nullptr, Run::kWrite);
        } else {
            const Datum further[] = {values[0], text_datum(recheck.after)};
            run(advance, further, nullptr, Run::kWrite);
        }
    }
}

// Writes and notifies what users have reached. The rows of the columns are meter, whether it
// counts, period, time zone, user, start and end of the period, and usage. Rules are those that
// there are now. The payload is the number alone: whoever may connect may LISTEN, and is to learn
// nothing of others.
void write_alerts(const Columns& columns) {
    static Statement fire = {
        "WITH reached AS (SELECT r.id AS rule_id, k.user_id, k.period_start, k.period_end, "
        "k.usage, r.meter_id, r.name, v.kind, v.threshold, v.amount "
        "FROM unnest($1, $2, $3, $4, $5, $6, $7, $8) AS k "
        "(meter_id, counts, period, time_zone, user_id, period_start, period_end, usage) "
        "JOIN meter.meter m ON m.id = k.meter_id "
        "AND m.aggregation = CASE WHEN k.counts THEN 'count' ELSE 'sum' END "
        "JOIN meter.alert_rule r ON r.meter_id = k.meter_id AND r.period = k.period "
        "AND r.time_zone = k.time_zone AND (r.user_id IS NULL OR r.user_id = k.user_id), "
        "LATERAL (SELECT COALESCE((SELECT max(t) FROM unnest(r.thresholds) AS t), 0) AS top) AS g, "
        "LATERAL (SELECT 'threshold' AS kind, t AS threshold, t AS amount "
        "FROM unnest(r.thresholds) AS t WHERE t <= k.usage "
        "UNION ALL SELECT 'percent', p, p * l.amount / 100 FROM unnest(r.percents) AS p, "
        "(SELECT amount FROM meter.usage_limit u WHERE u.meter_id = r.meter_id "
        "AND u.period = r.period AND (u.user_id = k.user_id OR u.user_id IS NULL) "
        "ORDER BY u.user_id NULLS LAST LIMIT 1) AS l WHERE l.amount > 0 "
        "AND p * l.amount / 100 <= k.usage "
        // The last hundred steps at most, and none below the last one that fired.
        "UNION ALL SELECT 'recurring', s.t, s.t FROM (SELECT g.top + n * r.recurring AS t "
        "FROM generate_series(GREATEST(1, div(k.usage - g.top, r.recurring) - 99), "
        "div(k.usage - g.top, r.recurring)) AS n WHERE k.usage >= g.top) AS s "
        "WHERE s.t > COALESCE((SELECT max(a.threshold) FROM meter.alert a "
        "WHERE a.rule_id = r.id AND a.user_id = k.user_id "
        "AND a.period_start = k.period_start AND a.kind = 'recurring'), 0)) AS v "
        "WHERE NOT EXISTS (SELECT FROM meter.alert a WHERE a.rule_id = r.id "
        "AND a.user_id = k.user_id AND a.period_start = k.period_start AND a.kind = v.kind "
        "AND a.threshold = v.threshold)), "
        "fired AS (INSERT INTO meter.alert (period_start, period_end, fired_at, rule_id, meter_id, "
        "user_id, name, kind, threshold, amount, usage) "
        "SELECT period_start, period_end, now(), rule_id, meter_id, user_id, name, kind, "
        "trim_scale(threshold), trim_scale(amount), usage FROM reached "
        "ORDER BY user_id, rule_id, period_start, amount, kind "
        "ON CONFLICT (rule_id, user_id, period_start, kind, threshold) DO NOTHING RETURNING id) "
        // A queue that is full would fail the fold, and every other, when it commits.
        "SELECT q.has_room, CASE WHEN q.has_room THEN "
        "pg_notify('meter_alert', json_build_object('alert', f.id)::text) END FROM fired f, "
        "(SELECT pg_notification_queue_usage() < 0.9 AS has_room OFFSET 0) AS q",
        {INT4ARRAYOID, BOOLARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID,
         TIMESTAMPTZARRAYOID, NUMERICARRAYOID}};
    Datum values[8];
    column_arrays(columns, values);
    const uint64 fired = run(fire, values, nullptr, Run::kWrite);
    bool null;
    if (fired > 0 && !DatumGetBool(result(0, 1, &null)))
        ereport(WARNING,
                (errmsg("alerts are not notified: the queue of notifications is nearly full"),
                 errdetail("They are in meter.alert, as always."),
                 errhint("A session that listens to some channel is in a transaction for "
                         "too long.")));
    SPI_freetuptable(SPI_tuptable);
}

// Whether an error says nothing about the user whose usage was read: others would fail too, or it
// would be well the next time.
bool is_about_circumstances(int sqlstate) {
    const int category = ERRCODE_TO_CATEGORY(sqlstate);
    return category == ERRCODE_TO_CATEGORY(ERRCODE_OPERATOR_INTERVENTION) ||
           category == ERRCODE_TO_CATEGORY(ERRCODE_INSUFFICIENT_RESOURCES) ||
           category == ERRCODE_TO_CATEGORY(ERRCODE_TRANSACTION_ROLLBACK) ||
           category == ERRCODE_TO_CATEGORY(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE);
}

// Reads the usage of a user who is watched, in a subtransaction: false where it cannot be told any
// more. Where it cannot be read `*problem` says why.
bool read_usage(const Group& group, const TimeSpan& span, Datum user, Datum* usage,
                const char** problem) {
    Raised raised{};
    bool told = false;
    if (try_in_subtransaction(
            [&] { told = tell_latest_usage(group.meter_id, user, span, group.counts, usage); },
            &raised))
        return told;
    if (is_about_circumstances(sqlstate_of(raised)))
        raise(raised);
    *problem = message_of(raised);
    return false;
}

}  // namespace

AlertWatch* begin_watch() {
    // First what is to be looked at: what that is for is in the rules that are read after it.
    static Statement rechecks = {
        "SELECT id, meter_id, period, time_zone, user_id, after_user, problem IS NOT NULL "
        "FROM meter.alert_recheck ORDER BY problem IS NOT NULL, id LIMIT $1",
        {INT8OID}};
    static Statement rules = {
        "SELECT r.meter_id, m.aggregation = 'count', r.period, r.time_zone, r.user_id "
        "FROM meter.alert_rule r JOIN meter.meter m ON m.id = r.meter_id "
        "WHERE m.aggregation IN ('sum', 'count') "
        "ORDER BY r.meter_id, r.period, r.time_zone COLLATE \"C\", r.user_id",
        {}};
    AlertWatch* watch = make_in<AlertWatch>(CurrentMemoryContext);
    const Datum most[] = {Int64GetDatum(kRechecksAtOnce)};
    run(rechecks, most, nullptr, Run::kWrite);
    load_rechecks(watch);
    run(rules, nullptr, nullptr, Run::kWrite);
    load_rules(watch);
    return watch->groups.empty() && watch->rechecks.empty() ? nullptr : watch;
}

namespace {

// Notes what happened to a user's hour, from its first to its last event.
void note_hour(AlertWatch* watch, const std::vector<std::size_t>& groups, std::string_view user,
               const RollupCell& hour) {
    for (const std::size_t number : groups) {
        Group& group = watch->groups[number];
        if (!group.known || !group.asks_for(user))
            continue;
        // Within an hour there is one period, or two.
        watch->add(number, span_of(group, hour.first_time), user);
        if (hour.last_time >= group.span.end)
            watch->add(number, span_of(group, hour.last_time), user);
    }
}

}  // namespace

void note_hours(AlertWatch* watch, RollupTables& tables) {
    int64 seen = 0;
    for (CellTable* days : {&tables.days, &tables.voided_days})
        for (const auto& [key, day] : days->entries()) {
            if (++seen % 1024 == 0)
                CHECK_FOR_INTERRUPTS();
            const std::vector<std::size_t>* groups = watch->groups_of(key.meter_id);
            if (groups == nullptr)
                continue;
            if (day.hours.empty() && !day.cell.empty())
                note_hour(watch, *groups, key.user_id, day.cell);
            for (const HourCell& hour : day.hours)
                note_hour(watch, *groups, key.user_id, *hour.cell);
        }
}

void fire_alerts(AlertWatch* watch) {
    // Rows that are written at a time.
    constexpr int kAtOnce = 1'000;
    put_off_unknown_zones(watch);
    watch_rechecked(watch);
    const MemoryContext context =
        AllocSetContextCreate(CurrentMemoryContext, "alerts", ALLOCSET_DEFAULT_SIZES);
    const MemoryContext caller_context = MemoryContextSwitchTo(context);
    auto at = watch->watched.begin();
    while (at != watch->watched.end()) {
        Columns columns = make_columns({INT4OID, BOOLOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID,
                                        TIMESTAMPTZOID, NUMERICOID},
                                       kAtOnce);
        for (; columns.rows < kAtOnce && at != watch->watched.end(); ++at) {
            CHECK_FOR_INTERRUPTS();
            const Group& group = watch->groups[at->group];
            const Datum user = text_datum(at->user);
            Datum usage = 0;
            const char* problem = nullptr;
            // Of a period that is partly dropped nobody can tell what was reached.
            if (!read_usage(group, at->span, user, &usage, &problem)) {
                if (problem == nullptr)
                    continue;
                if (watch->retried.count(*at) == 0)
                    ereport(WARNING,
                            (errmsg("alerts of meter %d are not looked at for user \"%s\": %s",
                                    group.meter_id, at->user.c_str(), problem),
                             errhint("See meter.alert_recheck.")));
                note_problem(group, user, problem);
                continue;
            }
            put(columns, 0, Int32GetDatum(group.meter_id));
            put(columns, 1, BoolGetDatum(group.counts));
            put(columns, 2, text_datum(limit_period_name(group.period)));
            put(columns, 3, text_datum(group.zone));
            put(columns, 4, user);
            put(columns, 5, TimestampTzGetDatum(stored_start(at->span)));
            put(columns, 6, TimestampTzGetDatum(stored_end(at->span)));
            put(columns, 7, usage);
            ++columns.rows;
        }
        if (columns.rows > 0)
            write_alerts(columns);
        MemoryContextReset(context);
    }
    MemoryContextSwitchTo(caller_context);
    MemoryContextDelete(context);
}

}  // namespace meter::pg
