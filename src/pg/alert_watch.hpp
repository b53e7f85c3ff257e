// Firing alerts: what a fold notes, and what it looks at before it commits.
//
// Every delta that a fold takes says that a user's usage of a period may have changed. Once all is
// moved, and in the same transaction, the usage of those users is read as it is then, and what it
// has reached is written into meter.alert, whose key lets each fire once, and notified. A delta is
// taken once and for all by a fold that commits, so none is passed by; that a fold is rolled back,
// or that a delta is moved twice (into a run, then into cells), does no harm.
//
// A rule that is new or has changed, or whose limit has, is looked at for the current period of all
// users.
#pragma once

#include "pg/compat.hpp"

#include "core/cell_table.hpp"

namespace meter::pg {

struct AlertWatch;

// What the running fold notes, in the current memory context; nullptr where there are no rules. The
// caller holds the fold lock. Runs within an SPI connection.
AlertWatch* begin_watch();

// Notes the users of the hours in the tables, before these are finished.
void note_hours(AlertWatch* watch, RollupTables& tables);

// Looks at the users who were noted, and at rules that have to be looked at whoever used, and
// fires.
void fire_alerts(AlertWatch* watch);

}  // namespace meter::pg
