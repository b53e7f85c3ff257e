// Where the rows of a usage query come from: cells of the rollups, deltas that are not folded yet,
// and for what no cell covers the events themselves. All are read under one snapshot, and each
// event is in exactly one of them.
#pragma once

#include "pg/compat.hpp"

extern "C" {
#include "datatype/timestamp.h"
}

#include "core/period_cut.hpp"
#include "pg/dimension_filter.hpp"
#include "pg/property.hpp"
#include "pg/query_text.hpp"
#include "pg/time_zone.hpp"

namespace meter::pg {

// A half-open period.
struct Period {
    TimestampTz start;
    TimestampTz end;
};

// Which events are asked for, and what has to be told apart.
struct UsageScope {
    int meter_count;
    const int32* meters;
    Period period;
    bool has_user;
    Datum user;  // text
    bool by_user;
    bool by_meter;
    int name_count;
    const Datum* names;  // text: the dimensions to group by
    const DimensionFilters* filters;
    bool has_bucket;
    Bucket bucket;
    Datum bucket_name;  // text
    Datum zone_name;    // text
    ZoneTransitions* zone;
    bool needs_order;  // minimum, maximum, last or first is asked for, which a dirty cell cannot
                       // tell, or what a void does not have: voided events are left out, not taken
                       // back
    bool needs_first;
    bool needs_time;    // the sum of value x time is asked for
    Property property;  // that is told apart like a dimension; of no kind: none
    bool needs_digest;  // the sum of the events' digests is asked for, which hours do not have
    bool explains;      // each row is to say what it is
};

// How a scope's period is cut.
struct UsageSource {
    const UsageScope* scope;
    Datum generations;                      // int4[]
    PeriodCut* cut;                         // in the current memory context
    std::vector<BucketPiece>* hour_pieces;  // the cut's hours, by bucket
    // Months of which some users have no day cells while others do; empty where the cut has taken
    // that into account.
    std::vector<TimeSpan>* mixed_months;
    bool has_voids;  // some of the events may be voided
};

// The scope's meters as an int4[].
Datum meter_array(const UsageScope* scope);

// Whether users are told apart.
bool tells_users(const UsageScope* scope);

// Finds out what the rollups cover of a scope. Runs within an SPI connection, under the snapshot of
// the query that called us.
UsageSource find_source(const UsageScope* scope);

// One user's rows, and cells and deltas, are read by index whatever the period is. The events of
// all users are best read one way or another.
Planning planning_of(const UsageSource& source);

// Whether the source has no cells and no deltas, but events alone.
bool reads_events_alone(const UsageSource& source);

// Whether it has nothing.
bool is_empty(const UsageSource& source);

// The condition on meter, user and dimensions for rows of alias e; `meter` and `user` are the
// numbers of the parameters with the meter (an int4, or an int4[] where there are several) and the
// user.
void append_scope(QueryText* query, const UsageScope* scope, int meter, int user);

// Adds a subquery, in parentheses, with a row for each cell, delta or event and the columns
//   b (timestamptz) the start of its bucket, u (text) its user, m (int4) its meter and d1, d2, ...
//   (jsonb) its dimensions, each where they are told apart;
//   n events, of which s, lo and hi are sum, minimum and maximum of the values; v is the value of
//   the last one, whose timestamp and id are at and id;
//   p (jsonb, of the user text) the property, null where it is missing; f, where the first event is
//   asked for, the timestamp of the first; w, where value x time is, the sum of value x
//   microseconds since 1970; g, where it is, the sum of the events' digests;
//   where the scope explains: k (text) what the row is, et (timestamptz) when, eu (text) whose, ed
//   (jsonb) its dimensions, and ei (int8) the event that it is.
// Voided events are left out where an order is asked for, else taken back by rows of their own.
// `bucket`, `zone` and `names` are the numbers of the parameters with the names.
void append_source(QueryText* query, const UsageSource& source, int bucket, int zone,
                   const int* names);

}  // namespace meter::pg
