// The ids of events, from meter.meter_event_id_seq.
#pragma once

#include "pg/compat.hpp"

namespace meter::pg {

// The next id. Raises what nextval() raises.
int64 next_event_id();

// Takes `count` ids that follow one another, and returns the first. As with nextval(), what an
// aborted transaction took is not given back. 0: the sequence is not as the install script made it,
// or near its end, and none was taken; next_event_id() says what is wrong, if anything. Raises
// read_only_sql_transaction.
int64 take_event_ids(int64 count);

}  // namespace meter::pg
