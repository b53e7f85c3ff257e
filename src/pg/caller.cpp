#include "pg/caller.hpp"

#include "pg/catalog.hpp"
#include "pg/memory.hpp"
#include "pg/settings.hpp"
#include "pg/spi.hpp"

extern "C" {
#include "utils/acl.h"
#include "utils/inval.h"
}

namespace meter::pg {

namespace {

// What meter.access says of a role, memberships considered.
struct Access {
    Oid role;
    bool reader;
    bool writer;
    bool admin;
    bool bound;
    char org[256];  // where bound; NUL-terminated
};

// A few roles' access: behind a pooler one session serves several.
constexpr int kRemembered = 16;
Access remembered[kRemembered];
int remembered_count = 0;
int next_victim = 0;
uint64 remembered_generation = 0;

// Owners and superusers may do everything in any org.
bool is_owner(Oid role) {
    return superuser_arg(role) || has_privs_of_role(role, relations().owner);
}

// Reads the access of `role`: its own row, or else what it inherits. A role that inherits from
// roles of different orgs has no org of its own, and is refused rather than given one of them.
Access read_access(Oid role) {
    static Statement select = {
        "SELECT role = $1, org, reader, writer, admin FROM meter.access "
        "WHERE role = $1 OR pg_has_role($1, role::oid, 'USAGE') ORDER BY role = $1 DESC",
        {OIDOID}};
    const Datum values[] = {ObjectIdGetDatum(role)};
    const uint64 rows = run(select, values, nullptr, Run::kLatest);
    Access access{};
    access.role = role;
    for (uint64 row = 0; row < rows; ++row) {
        bool null;
        const bool own = DatumGetBool(result(row, 1, &null));
        bool any_org;
        const Datum org_datum = result(row, 2, &any_org);
        const std::string_view org = any_org ? std::string_view{} : text_view(org_datum);
        if (row == 0) {
            access.bound = !any_org;
            org.copy(access.org, sizeof access.org - 1);
        } else if (access.bound == any_org || org != access.org) {
            ereport(
                ERROR,
                (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                 errmsg("role \"%s\" inherits access to more than one org",
                        GetUserNameFromId(role, true)),
                 errhint("SET ROLE to the one to act as, or grant access to this role itself.")));
        }
        access.reader |= DatumGetBool(result(row, 3, &null));
        access.writer |= DatumGetBool(result(row, 4, &null));
        access.admin |= DatumGetBool(result(row, 5, &null));
        if (own)
            break;
    }
    return access;
}

const Access& access_of(Oid role) {
    if (remembered_generation != catalog_generation()) {
        remembered_count = 0;
        remembered_generation = catalog_generation();
    }
    for (int i = 0; i < remembered_count; ++i)
        if (remembered[i].role == role)
            return remembered[i];
    const Access access = read_access(role);
    note_remembered();
    const int slot =
        remembered_count < kRemembered ? remembered_count++ : next_victim++ % kRemembered;
    remembered[slot] = access;
    return remembered[slot];
}

[[noreturn]] void deny(const char* action, const char* hint) {
    ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                    errmsg("permission denied to %s", action), errhint("%s", hint)));
    pg_unreachable();
}

// Switches to the owner, pins the search path where the call is to have it so, and connects to SPI.
Call switch_to_owner(Pin pin) {
    AcceptInvalidationMessages();
    Call call{};
    GetUserIdAndSecContext(&call.saved_user, &call.saved_security);
    call.caller = call.saved_user;
    SetUserIdAndSecContext(relations().owner, call.saved_security | SECURITY_LOCAL_USERID_CHANGE);
    call.search_path_level = pin == Pin::kCall ? push_search_path() : kNotPushed;
    SPI_connect();
    return call;
}

}  // namespace

Call begin_call(Privilege privilege, const char* action, Pin pin) {
    Call call = switch_to_owner(pin);
    if (is_owner(call.caller)) {
        call.org = pstrdup(setting_org);
        return call;
    }
    const Access& access = access_of(call.caller);
    bool allowed = access.admin && !(privilege == Privilege::kMaintain && access.bound);
    if (privilege == Privilege::kRead || privilege == Privilege::kReadOrWrite)
        allowed |= access.reader;
    if (privilege == Privilege::kWrite || privilege == Privilege::kReadOrWrite)
        allowed |= access.writer;
    if (!allowed)
        deny(action, access.admin
                         ? "It holds up what other orgs need: only an admin of all orgs may."
                         : "The owner of the extension grants it by meter.grant_access.");
    call.bound = access.bound;
    call.org = pstrdup(access.bound ? access.org : setting_org);
    return call;
}

Call begin_owner_call(const char* action) {
    Call call = switch_to_owner(Pin::kCall);
    if (!is_owner(call.caller))
        deny(action, "Only the owner of the extension and superusers may.");
    call.org = pstrdup(setting_org);
    return call;
}

void end_call(const Call& call) {
    SPI_finish();
    unpin_search_path(call.search_path_level);
    SetUserIdAndSecContext(call.saved_user, call.saved_security);
}

}  // namespace meter::pg
