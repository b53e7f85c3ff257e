// The aggregates last and first: their state is flat, and is written anew only by a row that takes
// the place of the one before.
#include "pg/aggregates.hpp"

#include "pg/guard.hpp"
#include "pg/numeric.hpp"

namespace meter::pg {

namespace {

// Room for digits that is kept from row to row.
DigitScratch* scratch_of(FunctionCallInfo fcinfo) {
    if (fcinfo->flinfo->fn_extra == nullptr)
        fcinfo->flinfo->fn_extra =
            make_in<DigitScratch>(fcinfo->flinfo->fn_mcxt, fcinfo->flinfo->fn_mcxt);
    return static_cast<DigitScratch*>(fcinfo->flinfo->fn_extra);
}

// Writes a state over `old` where that has its size, else into the current memory context.
Datum store_row(Datum old, StateKind kind, const LastRow& row) {
    wire::Counter counter;
    write_last(counter, kind, row);
    const Size size = VARHDRSZ + counter.size();
    auto* state = reinterpret_cast<struct varlena*>(DatumGetPointer(old));
    if (state == nullptr || !VARATT_IS_4B_U(state) || VARSIZE(state) != size)
        state = static_cast<struct varlena*>(palloc(size));
    SET_VARSIZE(state, size);
    wire::Memory memory(VARDATA(state));
    write_last(memory, kind, row);
    return PointerGetDatum(state);
}

// Takes a row (state, value, event_time [, tiebreak]) into a state of that kind.
Datum add_row(FunctionCallInfo fcinfo, StateKind kind) {
    aggregate_context(fcinfo);
    if (PG_ARGISNULL(1) || PG_ARGISNULL(2)) {
        if (PG_ARGISNULL(0))
            PG_RETURN_NULL();
        PG_RETURN_DATUM(PG_GETARG_DATUM(0));
    }
    LastRow row;
    row.time = PG_GETARG_INT64(2);
    if (has_tiebreak(kind) && !PG_ARGISNULL(3)) {
        row.has_tiebreak = true;
        row.tiebreak = PG_GETARG_INT64(3);
    }
    if (PG_ARGISNULL(0)) {
        row.value = view_numeric(PG_GETARG_DATUM(1));
        PG_RETURN_DATUM(store_row(0, kind, row));
    }
    const Datum datum = PG_GETARG_DATUM(0);
    const LastRow old = read_last(state_bytes(datum), kind, scratch_of(fcinfo)->first);
    if (is_first(kind) ? row.time > old.time : row.time < old.time)
        PG_RETURN_DATUM(datum);
    row.value = view_numeric(PG_GETARG_DATUM(1));
    PG_RETURN_DATUM(row.replaces(old, kind) ? store_row(datum, kind, row) : datum);
}

}  // namespace

}  // namespace meter::pg

using namespace meter;
using namespace meter::pg;

// meter.last_add(state, value, event_time [, tiebreak])
METER_FUNCTION(meter_last_add) {
    PG_RETURN_DATUM(add_row(fcinfo, PG_NARGS() == 4 ? StateKind::kLastTiebreak : StateKind::kLast));
}

// meter.first_add(state, value, event_time [, tiebreak])
METER_FUNCTION(meter_first_add) {
    PG_RETURN_DATUM(
        add_row(fcinfo, PG_NARGS() == 4 ? StateKind::kFirstTiebreak : StateKind::kFirst));
}

// meter.last_combine(state, state)
METER_FUNCTION(meter_last_combine) {
    aggregate_context(fcinfo);
    if (PG_ARGISNULL(0) && PG_ARGISNULL(1))
        PG_RETURN_NULL();
    const Datum first = PG_ARGISNULL(0) ? PG_GETARG_DATUM(1) : PG_GETARG_DATUM(0);
    const Datum second = PG_ARGISNULL(1) ? PG_GETARG_DATUM(0) : PG_GETARG_DATUM(1);
    const std::string_view bytes = state_bytes(first);
    wire::Reader reader(bytes);
    StateKind kind = get_state_head(reader);
    if (!is_single_row(kind))
        expect_kind(StateKind::kLast, kind);
    DigitScratch* scratch = scratch_of(fcinfo);
    const LastRow one = read_last(bytes, kind, scratch->first);
    const LastRow other = read_last(state_bytes(second), kind, scratch->second);
    PG_RETURN_DATUM(other.replaces(one, kind) ? second : first);
}

// meter.last_final(state)
METER_FUNCTION(meter_last_final) {
    if (PG_ARGISNULL(0))
        PG_RETURN_NULL();
    const std::string_view bytes = state_bytes(PG_GETARG_DATUM(0));
    wire::Reader reader(bytes);
    StateKind kind = get_state_head(reader);
    if (!is_single_row(kind))
        kind = StateKind::kLast;
    PG_RETURN_POINTER(make_numeric(read_last(bytes, kind, scratch_of(fcinfo)->first).value));
}
