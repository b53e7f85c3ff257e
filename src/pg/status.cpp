// meter.status() and meter.system_status(): how meters and the database stand.
#include "pg/compat.hpp"

#include "pg/caller.hpp"
#include "pg/generation.hpp"
#include "pg/guard.hpp"
#include "pg/memory.hpp"
#include "pg/set_result.hpp"
#include "pg/spi.hpp"
#include "pg/values.hpp"

namespace meter::pg {

namespace {

// Deltas that are looked at. Beyond, they are not counted one by one.
#define METER_MOST_DELTAS "20000"

// The deltas of the open generations ($1): those that readers look at, however many dead ones lie
// behind. A delta does not say when it was recorded, but its last event does.
#define METER_PENDING                                                                              \
    "WITH pending AS MATERIALIZED (SELECT meter_id, last_id, "                                     \
    "COALESCE(last_timestamp, first_timestamp) AS at FROM meter.rollup_pending "                   \
    "WHERE generation = ANY ($1) AND generation >= 0 LIMIT " METER_MOST_DELTAS                     \
    "), tail AS MATERIALIZED (SELECT meter_id, count(*) AS n, min(last_id) AS id FROM pending "    \
    "GROUP BY meter_id), "                                                                         \
    "oldest AS MATERIALIZED (SELECT t.meter_id, t.n, min(e.recorded_at) AS recorded_at "           \
    "FROM tail t JOIN pending p ON p.meter_id = t.meter_id AND p.last_id = t.id "                  \
    "LEFT JOIN LATERAL (SELECT e.recorded_at FROM meter.meter_event e "                            \
    "WHERE e.meter_id = p.meter_id AND e.\"timestamp\" = p.at AND e.id = p.last_id) AS e ON true " \
    "GROUP BY t.meter_id, t.n), "                                                                  \
    "total AS MATERIALIZED (SELECT COALESCE(sum(n), 0)::bigint AS n, "                             \
    "COALESCE(sum(n), 0) < " METER_MOST_DELTAS                                                     \
    " AS exact, min(recorded_at) AS recorded_at FROM oldest), "

// Nothing drops events yet. What will, has a table with the instant before which they are gone.
#define METER_HORIZON "horizon AS (SELECT max(horizon) AS at FROM meter.retention), "

#define METER_WORKER                                                   \
    "worker AS MATERIALIZED (SELECT pid, query FROM pg_stat_activity " \
    "WHERE backend_type = 'meter worker' AND datname = current_database() LIMIT 1), "

#define METER_PARTITIONS                                                                        \
    "partition AS MATERIALIZED (SELECT count(*)::int AS n, "                                    \
    "min((regexp_match(bound, 'FROM \\(''([^'']+)''\\)'))[1]::timestamptz) AS first, "          \
    "max((regexp_match(bound, 'TO \\(''([^'']+)''\\)'))[1]::timestamptz) AS until "             \
    "FROM (SELECT pg_get_expr(c.relpartbound, c.oid) AS bound FROM pg_inherits i "              \
    "JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'meter.meter_event'::regclass) " \
    "AS p WHERE bound <> 'DEFAULT') "

}  // namespace

}  // namespace meter::pg

namespace {

// Pins how timestamps are written, until end_call(): the bounds of partitions are read as text.
void pin_timestamps() {
    (void)set_config_option("datestyle", "ISO", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true,
                            0, false);
    (void)set_config_option("timezone", "UTC", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
                            false);
}

}  // namespace

METER_FUNCTION(meter_status) {
    using namespace meter::pg;
    static Statement select = {
        METER_PENDING METER_HORIZON METER_WORKER METER_PARTITIONS
        "SELECT m.event_name, COALESCE(o.n, 0), total.exact, "
        "CASE WHEN o.n IS NULL OR o.recorded_at > now() THEN '0' ELSE now() - o.recorded_at END, "
        "COALESCE(aside.n, 0), aside.error, "
        "r.month, r.cells, round(r.event_count::numeric / nullif(r.cells, 0), 1), "
        "COALESCE(l.left_out, '{}'), COALESCE(l.kept, '{}'), "
        "(SELECT count(*) FROM (SELECT FROM meter.rollup_days d WHERE d.meter_id = m.id "
        "AND d.month = r.month LIMIT 10000) AS d), "
        "partition.until, horizon.at, (SELECT query FROM worker) "
        "FROM total, horizon, partition, meter.meter m LEFT JOIN oldest o ON o.meter_id = m.id "
        "LEFT JOIN (SELECT meter_id, count(*) AS n, min(fold_error) AS error "
        "FROM meter.rollup_pending WHERE generation = -1 GROUP BY meter_id) AS aside "
        "ON aside.meter_id = m.id "
        "LEFT JOIN LATERAL (SELECT month, cells, event_count FROM meter.rollup_month "
        "WHERE meter_id = m.id ORDER BY month DESC LIMIT 1) AS r ON true "
        "LEFT JOIN meter.rollup_meter l ON l.meter_id = m.id "
        "WHERE m.org = $2 ORDER BY m.event_name",
        {INT4ARRAYOID, TEXTOID},
        true};
    const SetResult set = begin_set(fcinfo);
    const Call call = begin_call(Privilege::kRead, "see the status");
    pin_timestamps();
    const Datum values[] = {open_generations(Run::kCaller), text_datum(call.org)};
    run(select, values, nullptr, Run::kCaller);
    put_spi_rows(set);
    end_call(call);
    return static_cast<Datum>(0);
}

METER_FUNCTION(meter_system_status) {
    using namespace meter::pg;
    // A transaction with a number of its own holds back as much as a snapshot does.
    static Statement select = {
        METER_PENDING METER_HORIZON METER_WORKER
        "holder AS MATERIALIZED (SELECT * FROM ("
        "SELECT greatest(age(backend_xmin), age(backend_xid)) AS age, xact_start AS since, "
        "'process ' || pid || COALESCE(' of ' || usename, '') || "
        "COALESCE(', ' || nullif(application_name, ''), '') AS name FROM pg_stat_activity "
        "WHERE pid <> pg_backend_pid() AND (datname = current_database() OR datname IS NULL) "
        "AND backend_type <> 'autovacuum worker' "
        "UNION ALL SELECT age(transaction), prepared, 'prepared transaction ' || gid "
        "FROM pg_prepared_xacts WHERE database = current_database() "
        "UNION ALL SELECT age(xmin), NULL, 'replication slot ' || slot_name "
        "FROM pg_replication_slots) AS h WHERE age IS NOT NULL ORDER BY age DESC, since LIMIT "
        "1), " METER_PARTITIONS
        "SELECT CASE WHEN total.exact THEN total.n "
        "ELSE greatest(total.n, pg_stat_get_live_tuples('meter.rollup_pending'::regclass)) END, "
        "total.exact, CASE WHEN total.n = 0 OR total.recorded_at > now() THEN '0' ELSE now() - "
        "total.recorded_at END, "
        "(SELECT count(*) FROM meter.rollup_pending WHERE generation = -1), "
        "pg_stat_get_dead_tuples('meter.rollup_pending'::regclass), "
        "pg_total_relation_size('meter.rollup_pending'), "
        "(SELECT sum(pg_total_relation_size(t))::bigint FROM unnest('{meter.rollup,"
        "meter.rollup_total,meter.rollup_days,meter.rollup_month,meter.rollup_meter,"
        "meter.rollup_generation,meter.rollup_state}'::regclass[]) AS t), "
        "cardinality($1) - 1, "
        "(SELECT name FROM holder), (SELECT greatest(now() - since, '0') FROM holder), "
        "partition.n, partition.first, partition.until, partition.until - now(), "
        "EXISTS (SELECT FROM meter.meter_event_default), horizon.at, "
        "(SELECT pid FROM worker), (SELECT query FROM worker) "
        "FROM total, horizon, partition",
        {INT4ARRAYOID},
        true};
    const SetResult set = begin_set(fcinfo);
    const Call call = begin_call(Privilege::kRead, "see the system's status");
    pin_timestamps();
    if (call.bound)
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("permission denied to see the system's status"),
                        errhint("It is about all orgs. See meter.status.")));
    const Datum values[] = {open_generations(Run::kCaller)};
    run(select, values, nullptr, Run::kCaller);
    put_spi_rows(set);
    end_call(call);
    return static_cast<Datum>(0);
}
