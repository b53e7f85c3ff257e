// Whether the worker may fold in its database now, or is to leave it alone.
#pragma once

#include "pg/compat.hpp"

namespace meter::pg {

enum class Readiness {
    kReady,
    kNotInstalled,  // there is no extension, or one without rollups
    kNoMeters,      // and so nothing to fold: not yet, or a restore has just begun
    kReadOnly,      // default_transaction_read_only is on
    kSubscriber,    // a subscription writes the rollups
    kRestoring,  // the sequence of the meters' numbers is behind: it is restored after the tables
    kWritten,    // others write the rollups, or have been writing meter's tables for long
    kSettling,   // nothing of the kind, but not for long enough yet
    kLocked,     // a table of the rollups cannot be locked without waiting
};

// Looks, without waiting for any lock. Where it says kReady, the extension cannot be dropped before
// the end of the transaction. Runs in a transaction, outside of begin_owner_call(), as a
// superuser.
Readiness readiness();

// Whether a subscription, enabled or not, writes the rollups. What a fold wrote here too, the
// publisher's changes would meet.
bool is_subscriber();

// Locks the tables that a fold writes until the end of the transaction, unless one of them cannot
// be had without waiting: then returns false. So a fold of the worker never stands in the queue for
// a table's lock, where it could be part of a deadlock.
bool lock_rollups();

// In words, for pg_stat_activity and the log.
const char* describe(Readiness readiness);

}  // namespace meter::pg
