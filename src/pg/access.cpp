// meter.grant_access and meter.revoke_access: who may do what.
#include "pg/compat.hpp"

#include <cstring>

#include "core/dimensions.hpp"
#include "core/error.hpp"
#include "core/text.hpp"
#include "pg/caller.hpp"
#include "pg/catalog.hpp"
#include "pg/guard.hpp"
#include "pg/memory.hpp"
#include "pg/spi.hpp"
#include "pg/values.hpp"

extern "C" {
#include "catalog/pg_authid.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
}

namespace meter::pg {

namespace {

// The columns of a row of meter.access that say what it grants.
struct Privileges {
    bool reader;
    bool writer;
    bool admin;
};

// The functions that each privilege lets a role call. All others are the owner's.
struct FunctionGrant {
    const char* name;
    bool reader;
    bool writer;
    bool admin;
    bool bound = true;  // also where the role is bound to an org
};

constexpr FunctionGrant kFunctionGrants[] = {
    {"list_meters", true, true, true},
    {"list_events", true, false, true},
    {"usage", true, false, true},
    {"usage_report", true, false, true},
    {"bucket_start", true, false, true},
    {"bucket_end", true, false, true},
    {"round_value", true, false, true},
    {"record_event", false, true, true},
    {"record_events", false, true, true},
    {"ingest", false, true, true},
    {"event_history", true, false, true},
    {"void_event", false, false, true},
    {"amend_event", false, false, true},
    {"close_period", false, false, true},
    {"late_usage", true, false, true},
    {"list_statements", true, false, true},
    {"explain_usage", true, false, true},
    {"create_meter", false, false, true},
    {"update_meter", false, false, true},
    {"add_dimension", false, false, true},
    {"archive_meter", false, false, true},
    {"drop_meter", false, false, true},
    {"set_limit", false, false, true},
    {"drop_limit", false, false, true},
    {"list_limits", true, false, true},
    {"remaining", true, false, true},
    {"set_alert", false, false, true},
    {"drop_alert", false, false, true},
    {"list_alert_rules", true, false, true},
    {"list_alerts", true, false, true},
    {"fold", false, false, true, false},
    {"erase_user", false, false, true, false},
    {"leave_out", false, false, true, false},
    {"take_in", false, false, true, false},
    {"status", true, false, true},
    {"system_status", true, false, true, false},
};

// Runs a GRANT or REVOKE: `action` up to the object, the object, then TO or FROM and the role.
void run_grant(const char* action, const char* object, const char* preposition, const char* role) {
    execute(psprintf("%s %s %s %s", action, object, preposition, quote_identifier(role)));
}

// Makes the role's rights on the schema, the functions and the tables what `privileges` says.
// Whoever is bound to an org gets none on the tables: nothing there would keep it to its org.
void apply_grants(const char* role, const Privileges& privileges, bool bound) {
    const bool any = privileges.reader || privileges.writer || privileges.admin;
    run_grant(any ? "GRANT USAGE ON SCHEMA" : "REVOKE USAGE ON SCHEMA", "meter",
              any ? "TO" : "FROM", role);

    static Statement functions = {
        "SELECT proname, oid::regprocedure::text FROM pg_proc WHERE pronamespace = $1 ORDER BY oid",
        {OIDOID}};
    const Datum schema[] = {ObjectIdGetDatum(relations().schema)};
    const uint64 count = run(functions, schema, nullptr, Run::kWrite);
    SPITupleTable* const found = SPI_tuptable;
    for (uint64 row = 0; row < count; ++row) {
        const char* name = SPI_getvalue(found->vals[row], found->tupdesc, 1);
        const char* signature = SPI_getvalue(found->vals[row], found->tupdesc, 2);
        for (const FunctionGrant& grant : kFunctionGrants) {
            if (std::strcmp(grant.name, name) != 0)
                continue;
            const bool wanted = (grant.bound || !bound) && ((grant.reader && privileges.reader) ||
                                                            (grant.writer && privileges.writer) ||
                                                            (grant.admin && privileges.admin));
            run_grant(wanted ? "GRANT EXECUTE ON FUNCTION" : "REVOKE EXECUTE ON FUNCTION",
                      signature, wanted ? "TO" : "FROM", role);
        }
    }
    const bool reads = privileges.reader || privileges.admin;
    const bool writes = privileges.writer || privileges.admin;
    const bool tables = !bound && reads;
    run_grant(
        tables ? "GRANT SELECT ON" : "REVOKE SELECT ON",
        "meter.meter, meter.meter_event, meter.event_void, meter.period_close, meter.statement, "
        "meter.system_status",
        tables ? "TO" : "FROM", role);
    run_grant(reads ? "GRANT SELECT ON" : "REVOKE SELECT ON", "meter.status", reads ? "TO" : "FROM",
              role);
    run_grant(writes ? "GRANT INSERT ON" : "REVOKE INSERT ON",
              "meter.event_load, meter.event_load_json", writes ? "TO" : "FROM", role);
}

// Begins a change of who may do what: one at a time, since two GRANTs on one function at once fail
// with "tuple concurrently updated".
Call begin_change(const char* action) {
    const Call call = begin_owner_call(action);
    LockRelationOid(relations().access, ShareRowExclusiveLock);
    return call;
}

// Removes the rows of roles that were dropped, or a role that happens to get such a one's number
// later would inherit what it had.
void forget_dropped_roles() {
    static Statement remove = {
        "DELETE FROM meter.access a WHERE NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = a.role)",
        {}};
    run(remove, nullptr, nullptr, Run::kWrite);
}

void parse_privilege(std::string_view name, Privileges* privileges) {
    if (name == "reader")
        privileges->reader = true;
    else if (name == "writer")
        privileges->writer = true;
    else if (name == "admin")
        privileges->admin = true;
    else
        throw Error(ErrorKind::kInvalidParameter,
                    "privilege " + quote_for_message(name) + " is not known", {},
                    "A privilege is reader, writer or admin.");
}

}  // namespace

}  // namespace meter::pg

using namespace meter::pg;
using meter::Error;
using meter::ErrorKind;

METER_FUNCTION(meter_grant_access) {
    require_argument(fcinfo, 0, "role");
    require_argument(fcinfo, 1, "privilege");
    const Call call = begin_change("grant access");
    const char* role_name = NameStr(*PG_GETARG_NAME(0));
    const Oid role = get_role_oid(role_name, false);
    Privileges privileges{};
    parse_privilege(text_view(PG_GETARG_DATUM(1)), &privileges);
    const bool bound = !PG_ARGISNULL(2);
    if (bound)
        meter::check_name(text_view(PG_GETARG_DATUM(2)), "org");
    if (superuser_arg(role) || has_privs_of_role(role, relations().owner))
        throw Error(ErrorKind::kInvalidParameter,
                    "role " + meter::quote_for_message(role_name) + " may do everything already",
                    "Superusers and members of the extension's owner are not bound by grants.");

    forget_dropped_roles();
    static Statement upsert = {
        "INSERT INTO meter.access AS a (role, org, reader, writer, admin) "
        "VALUES ($1, $2, $3, $4, $5) ON CONFLICT (role) DO UPDATE "
        "SET reader = a.reader OR $3, writer = a.writer OR $4, admin = a.admin OR $5 "
        "WHERE a.org IS NOT DISTINCT FROM $2 RETURNING reader, writer, admin",
        {OIDOID, TEXTOID, BOOLOID, BOOLOID, BOOLOID}};
    const Datum values[] = {ObjectIdGetDatum(role),
                            bound ? PG_GETARG_DATUM(2) : static_cast<Datum>(0),
                            BoolGetDatum(privileges.reader), BoolGetDatum(privileges.writer),
                            BoolGetDatum(privileges.admin)};
    if (run(upsert, values, bound ? nullptr : " n   ", Run::kWrite) == 0)
        throw Error(
            ErrorKind::kNotInState,
            "role " + meter::quote_for_message(role_name) + " has access to another org, or to all",
            {}, "Take it back first, with meter.revoke_access.");
    bool null;
    privileges = {DatumGetBool(result(0, 1, &null)), DatumGetBool(result(0, 2, &null)),
                  DatumGetBool(result(0, 3, &null))};
    apply_grants(role_name, privileges, bound);
    if (!bound)
        ereport(NOTICE, (errmsg("role \"%s\" may act in every org", role_name),
                         errhint("To bind it to one, revoke this and name the org.")));
    end_call(call);
    PG_RETURN_VOID();
}

METER_FUNCTION(meter_revoke_access) {
    require_argument(fcinfo, 0, "role");
    const Call call = begin_change("revoke access");
    const char* role_name = NameStr(*PG_GETARG_NAME(0));
    const Oid role = get_role_oid(role_name, false);
    Privileges taken{};
    if (PG_ARGISNULL(1))
        taken = {true, true, true};
    else
        parse_privilege(text_view(PG_GETARG_DATUM(1)), &taken);

    static Statement select = {
        "SELECT org IS NOT NULL, reader, writer, admin FROM meter.access WHERE role = $1 FOR "
        "UPDATE",
        {OIDOID}};
    const Datum key[] = {ObjectIdGetDatum(role)};
    if (run(select, key, nullptr, Run::kWrite) == 0)
        throw Error(ErrorKind::kUndefinedObject,
                    "role " + meter::quote_for_message(role_name) + " has no access");
    bool null;
    const bool bound = DatumGetBool(result(0, 1, &null));
    const Privileges left = {DatumGetBool(result(0, 2, &null)) && !taken.reader,
                             DatumGetBool(result(0, 3, &null)) && !taken.writer,
                             DatumGetBool(result(0, 4, &null)) && !taken.admin};
    if (left.reader || left.writer || left.admin) {
        static Statement update = {
            "UPDATE meter.access SET reader = $2, writer = $3, admin = $4 WHERE role = $1",
            {OIDOID, BOOLOID, BOOLOID, BOOLOID}};
        const Datum values[] = {ObjectIdGetDatum(role), BoolGetDatum(left.reader),
                                BoolGetDatum(left.writer), BoolGetDatum(left.admin)};
        run(update, values, nullptr, Run::kWrite);
    } else {
        static Statement remove = {"DELETE FROM meter.access WHERE role = $1", {OIDOID}};
        run(remove, key, nullptr, Run::kWrite);
    }
    apply_grants(role_name, left, bound);
    end_call(call);
    PG_RETURN_VOID();
}
