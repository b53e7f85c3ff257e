#include "pg/alert_watch.hpp"

#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "pg/cells.hpp"
#include "pg/limit_period.hpp"
#include "pg/memory.hpp"
#include "pg/spi.hpp"
#include "pg/user_usage.hpp"
#include "pg/values.hpp"

extern "C" {
#include "access/xact.h"
#include "utils/snapmgr.h"
}

namespace meter::pg {

namespace {

// A rule, as far as it says whose usage of which period matters.
struct Rule {
    int32 id;
    int32 meter_id;
    bool counts;
    LimitPeriod period;
    std::string zone;
    std::string user;  // empty: each
    TimeSpan span;     // the period that was asked for last
};

// A user's period that a rule has to look at.
struct Watched {
    std::size_t rule;
    TimeSpan span;
    std::string user;

    bool operator==(const Watched& other) const {
        return rule == other.rule && span.start == other.span.start && user == other.user;
    }
};

struct WatchedHash {
    std::size_t operator()(const Watched& watched) const {
        return std::hash<std::string>()(watched.user) ^
               (std::hash<std::int64_t>()(watched.span.start) * 31 + watched.rule);
    }
};

}  // namespace

// It holds what needs destructors, so it lives in a memory context; its methods make no PostgreSQL
// calls.
struct AlertWatch {
    std::vector<Rule> rules;
    std::unordered_map<int32, std::vector<std::size_t>> of_meter;
    std::unordered_set<Watched, WatchedHash> watched;
    Watched probe;  // to look up without making a string

    void add_rule(int32 id, int32 meter_id, bool counts, LimitPeriod period, std::string_view zone,
                  std::string_view user) {
        of_meter[meter_id].push_back(rules.size());
        rules.push_back(
            {id, meter_id, counts, period, std::string(zone), std::string(user), {0, 0}});
    }

    const std::vector<std::size_t>* rules_of(int32 meter_id) const {
        const auto found = of_meter.find(meter_id);
        return found == of_meter.end() ? nullptr : &found->second;
    }

    // The first rule that asks for the same as rule `number`: itself at the latest.
    std::size_t same_rule(std::size_t number) const {
        const Rule& rule = rules[number];
        std::size_t first = 0;
        while (rules[first].id != rule.id || rules[first].counts != rule.counts ||
               rules[first].period != rule.period || rules[first].zone != rule.zone ||
               rules[first].user != rule.user)
            ++first;
        return first;
    }

    void add(std::size_t rule, const TimeSpan& span, std::string_view user) {
        probe.rule = rule;
        probe.span = span;
        probe.user.assign(user);
        watched.insert(probe);
    }
};

namespace {

// Adds the rules of the last result: id, meter_id, whether it counts, period, time_zone, user_id.
void add_rules(AlertWatch* watch) {
    for (uint64 row = 0; row < SPI_processed; ++row) {
        bool null;
        const auto column = [&](int number) { return result(row, number, &null); };
        const Datum user = column(6);
        const std::string_view name = null ? std::string_view() : text_view(user);
        watch->add_rule(DatumGetInt32(column(1)), DatumGetInt32(column(2)), DatumGetBool(column(3)),
                        find_limit_period(text_view(column(4))), text_view(column(5)), name);
    }
    SPI_freetuptable(SPI_tuptable);
}

const TimeSpan& span_of(Rule& rule, int64 time) {
    if (time < rule.span.start || time >= rule.span.end)
        rule.span = limit_span(rule.period, rule.zone, time);
    return rule.span;
}

// Puts the current period of all users under watch, for rules that have to be looked at.
void watch_fresh_rules(AlertWatch* watch) {
    // What is changed from here on, or is just being changed, is left to the next fold.
    static Statement take = {
        "UPDATE meter.alert_rule r SET evaluated = true FROM meter.meter m "
        "WHERE r.id = ANY (ARRAY(SELECT id FROM meter.alert_rule WHERE NOT evaluated "
        "FOR UPDATE SKIP LOCKED)) AND m.id = r.meter_id "
        "RETURNING r.id, r.meter_id, m.aggregation = 'count', r.period, r.time_zone, r.user_id",
        {}};
    static Statement users = {
        "SELECT user_id FROM meter.rollup WHERE meter_id = $1 AND grain = 'm' "
        "AND first_timestamp < $3 AND last_timestamp >= $2 "
        "UNION SELECT user_id FROM meter.rollup_pending WHERE meter_id = $1 "
        "AND first_timestamp < $3 AND COALESCE(last_timestamp, first_timestamp) >= $2",
        {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID}};
    const std::size_t first = watch->rules.size();
    run(take, nullptr, nullptr, Run::kWrite);
    add_rules(watch);
    const int64 now = to_unix_micros(GetCurrentTransactionStartTimestamp());
    for (std::size_t i = first; i < watch->rules.size(); ++i) {
        const TimeSpan span = span_of(watch->rules[i], now);
        const std::size_t known = watch->same_rule(i);
        if (!watch->rules[i].user.empty()) {
            watch->add(known, span, watch->rules[i].user);
            continue;
        }
        const Datum values[] = {Int32GetDatum(watch->rules[i].meter_id),
                                TimestampTzGetDatum(to_timestamptz(span.start)),
                                TimestampTzGetDatum(to_timestamptz(span.end))};
        const uint64 count = run(users, values, nullptr, Run::kWrite);
        for (uint64 row = 0; row < count; ++row) {
            bool null;
            watch->add(known, span, text_view(result(row, 1, &null)));
        }
        SPI_freetuptable(SPI_tuptable);
    }
}

// Writes and notifies what users have reached. The rows of the columns are rule, user, start and
// end of the period, period, time zone and usage. The payload is the number alone: whoever may
// connect may LISTEN, and is to learn nothing of others.
void write_alerts(const Columns& columns) {
    static Statement fire = {
        "WITH reached AS (SELECT k.*, r.meter_id, r.name, v.kind, v.threshold, v.amount "
        "FROM unnest($1, $2, $3, $4, $5, $6, $7) AS k "
        "(rule_id, user_id, period_start, period_end, period, time_zone, usage) "
        "JOIN meter.alert_rule r ON r.id = k.rule_id AND r.period = k.period "
        "AND r.time_zone = k.time_zone, "
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
        "WHERE a.rule_id = k.rule_id AND a.user_id = k.user_id "
        "AND a.period_start = k.period_start AND a.kind = 'recurring'), 0)) AS v "
        "WHERE NOT EXISTS (SELECT FROM meter.alert a WHERE a.rule_id = k.rule_id "
        "AND a.user_id = k.user_id AND a.period_start = k.period_start AND a.kind = v.kind "
        "AND a.threshold = v.threshold)), "
        "fired AS (INSERT INTO meter.alert (period_start, period_end, fired_at, rule_id, meter_id, "
        "user_id, name, kind, threshold, amount, usage) "
        "SELECT period_start, period_end, now(), rule_id, meter_id, user_id, name, kind, "
        "trim_scale(threshold), trim_scale(amount), usage FROM reached "
        "ORDER BY user_id, rule_id, period_start, amount, kind ON CONFLICT DO NOTHING RETURNING "
        "id) "
        "SELECT pg_notify('meter_alert', json_build_object('alert', id)::text) FROM fired",
        {INT4ARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID,
         TEXTARRAYOID, NUMERICARRAYOID}};
    Datum values[7];
    column_arrays(columns, values);
    run(fire, values, nullptr, Run::kWrite);
    SPI_freetuptable(SPI_tuptable);
}

}  // namespace

AlertWatch* begin_watch() {
    static Statement select = {
        "SELECT r.id, r.meter_id, m.aggregation = 'count', r.period, r.time_zone, r.user_id "
        "FROM meter.alert_rule r JOIN meter.meter m ON m.id = r.meter_id",
        {}};
    if (run(select, nullptr, nullptr, Run::kWrite) == 0) {
        SPI_freetuptable(SPI_tuptable);
        return nullptr;
    }
    AlertWatch* watch = make_in<AlertWatch>(CurrentMemoryContext);
    add_rules(watch);
    return watch;
}

namespace {

// Notes what happened to a user's hour, from its first to its last event.
void note_hour(AlertWatch* watch, const std::vector<std::size_t>& rules, std::string_view user,
               const RollupCell& hour) {
    for (const std::size_t number : rules) {
        Rule& rule = watch->rules[number];
        if (!rule.user.empty() && rule.user != user)
            continue;
        // Within an hour there is one period, or two.
        watch->add(number, span_of(rule, hour.first_time), user);
        if (hour.last_time >= rule.span.end)
            watch->add(number, span_of(rule, hour.last_time), user);
    }
}

}  // namespace

void note_hours(AlertWatch* watch, RollupTables& tables) {
    int64 seen = 0;
    for (CellTable* days : {&tables.days, &tables.voided_days})
        for (const auto& [key, day] : days->entries()) {
            if (++seen % 1024 == 0)
                CHECK_FOR_INTERRUPTS();
            const std::vector<std::size_t>* rules = watch->rules_of(key.meter_id);
            if (rules == nullptr)
                continue;
            if (day.hours.empty() && !day.cell.empty())
                note_hour(watch, *rules, key.user_id, day.cell);
            for (const HourCell& hour : day.hours)
                note_hour(watch, *rules, key.user_id, hour.cell);
        }
}

void fire_alerts(AlertWatch* watch) {
    // Rows that are written at a time.
    constexpr int kAtOnce = 1'000;
    watch_fresh_rules(watch);
    const MemoryContext context =
        AllocSetContextCreate(CurrentMemoryContext, "alerts", ALLOCSET_DEFAULT_SIZES);
    const MemoryContext caller_context = MemoryContextSwitchTo(context);
    auto at = watch->watched.begin();
    while (at != watch->watched.end()) {
        Columns columns = make_columns(
            {INT4OID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, NUMERICOID},
            kAtOnce);
        for (; columns.rows < kAtOnce && at != watch->watched.end(); ++at) {
            CHECK_FOR_INTERRUPTS();
            const Rule& rule = watch->rules[at->rule];
            const Datum user = text_datum(at->user);
            Datum usage = 0;
            // Of a period that is partly dropped nobody can tell what was reached.
            if (!tell_latest_usage(rule.meter_id, user, at->span, rule.counts, &usage))
                continue;
            put(columns, 0, Int32GetDatum(rule.id));
            put(columns, 1, user);
            put(columns, 2, TimestampTzGetDatum(stored_start(at->span)));
            put(columns, 3, TimestampTzGetDatum(stored_end(at->span)));
            put(columns, 4, text_datum(limit_period_name(rule.period)));
            put(columns, 5, text_datum(rule.zone));
            put(columns, 6, usage);
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
