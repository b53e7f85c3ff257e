// Who calls, what they may do, and acting as the owner on their behalf.
#pragma once

#include "pg/compat.hpp"

#include <string_view>

namespace meter::pg {

// kMaintain is an admin's who is bound to no org: it concerns all orgs at once, or takes a lock
// that does. Held in a transaction that is left open, the fold's lock would stop the fold for
// everyone.
enum class Privilege { kRead, kWrite, kAdmin, kMaintain, kReadOrWrite };

// When the search path is pinned: for the whole call, or by run() for each statement. To pin it and
// to put it back takes as long as a tenth of recording an event, which mostly runs no statement.
enum class Pin { kCall, kStatements };

// One call of an entry point. Plain data; an error between begin_call() and end_call() needs no
// clean-up, the end of the (sub)transaction restores user and search path.
struct Call {
    Oid caller;      // the role that called
    Oid saved_user;  // what end_call() restores
    int saved_security;
    int search_path_level;  // kNotPushed: it is the caller's
    bool bound;             // whether the role is bound to its org
    std::string_view org;   // the org to act in; valid until end_call()
};

// Checks that the calling role holds `privilege`, finds its org, switches to the extension's owner,
// pins the search path to pg_catalog and opens an SPI connection. `action` completes "permission
// denied to ..." . Raises insufficient_privilege.
Call begin_call(Privilege privilege, const char* action, Pin pin = Pin::kCall);

// The same for what only the owner and superusers may do.
Call begin_owner_call(const char* action);

// Closes the SPI connection and switches back.
void end_call(const Call& call);

}  // namespace meter::pg
