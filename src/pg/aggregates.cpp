// The aggregates sum_by, count_by, last_by and first_by: expanded state, transition, combine,
// final.
#include "pg/aggregates.hpp"

#include <cstring>
#include <new>

#include "pg/guard.hpp"
#include "pg/numeric.hpp"

namespace meter::pg {

namespace {

ExpandedState* expanded(ExpandedObjectHeader* header) {
    return reinterpret_cast<ExpandedState*>(header);
}

// The size of the flat form. PostgreSQL calls this, so no exception may leave it.
Size flat_size(ExpandedObjectHeader* header) {
    return enter([header] {
        wire::Counter counter;
        expanded(header)->state.write(counter, pause_for_interrupts);
        const Size size = VARHDRSZ + counter.size();
        if (!AllocSizeIsValid(size))
            throw Error(ErrorKind::kLimitExceeded, "an aggregate state has too many groups");
        return size;
    });
}

// Writes the flat form. PostgreSQL calls this, so no exception may leave it.
void flatten_into(ExpandedObjectHeader* header, void* result, Size size) {
    enter([=] {
        SET_VARSIZE(result, size);
        wire::Memory memory(VARDATA(result));
        expanded(header)->state.write(memory, pause_for_interrupts);
        Assert(memory.end() == static_cast<char*>(result) + size);
    });
}

const ExpandedObjectMethods kMethods = {flat_size, flatten_into};

// Whether a datum points to an expanded object of ours.
bool is_ours(Datum datum) {
    return VARATT_IS_EXTERNAL_EXPANDED(DatumGetPointer(datum)) &&
           DatumGetEOHP(datum)->eoh_methods == &kMethods;
}

// The first argument as a state that may be written to: itself where it is read-write, else a new
// one that starts where it left off.
ExpandedState* writable_state(FunctionCallInfo fcinfo, StateKind kind) {
    const MemoryContext context = aggregate_context(fcinfo);
    if (PG_ARGISNULL(0))
        return make_state(context, kind);
    const Datum datum = PG_GETARG_DATUM(0);
    if (VARATT_IS_EXTERNAL_EXPANDED_RW(DatumGetPointer(datum)) && is_ours(datum)) {
        ExpandedState* state = expanded(DatumGetEOHP(datum));
        expect_kind(kind, state->state.kind());
        return state;
    }
    ExpandedState* state = make_state(context, kind);
    state->state.absorb(state_bytes(datum), pause_for_interrupts);
    return state;
}

// The kind of a state in a datum.
StateKind kind_of(Datum datum) {
    if (is_ours(datum))
        return expanded(DatumGetEOHP(datum))->state.kind();
    wire::Reader reader(state_bytes(datum));
    return get_state_head(reader);
}

// Throws unless this is the kind of a *_by aggregate.
void expect_grouped(StateKind kind) {
    if (is_single_row(kind))
        expect_kind(StateKind::kSumBy, kind);
}

// Takes a row (state, value, event_time, dimensions, keys) into a state of last_by or first_by.
Datum add_timed_row(FunctionCallInfo fcinfo, StateKind kind) {
    ExpandedState* expanded_state = writable_state(fcinfo, kind);
    const std::uint32_t group = group_of_row(expanded_state->state, fcinfo, 3, 4);
    if (!PG_ARGISNULL(1) && !PG_ARGISNULL(2))
        expanded_state->state.add_last(group, PG_GETARG_INT64(2), view_numeric(PG_GETARG_DATUM(1)));
    return EOHPGetRWDatum(&expanded_state->header);
}

}  // namespace

ExpandedState* make_state(MemoryContext parent, StateKind kind) {
    const MemoryContext context =
        AllocSetContextCreate(parent, "meter aggregate state", ALLOCSET_START_SMALL_SIZES);
    auto* state = static_cast<ExpandedState*>(MemoryContextAlloc(context, sizeof(ExpandedState)));
    EOH_init_header(&state->header, &kMethods, context);
    new (&state->resource) ContextResource(context);
    new (&state->state) GroupedState(kind, &state->resource);
    return state;
}

void pause_for_interrupts() {
    if (InterruptPending)
        call([] { CHECK_FOR_INTERRUPTS(); });
}

std::string_view state_bytes(Datum datum) {
    const struct varlena* packed = PG_DETOAST_DATUM_PACKED(datum);
    return {VARDATA_ANY(packed), VARSIZE_ANY_EXHDR(packed)};
}

MemoryContext aggregate_context(FunctionCallInfo fcinfo) {
    MemoryContext context = nullptr;
    if (AggCheckCallContext(fcinfo, &context) == 0)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("this function is a part of an aggregate and is not to be called")));
    return context;
}

}  // namespace meter::pg

using namespace meter;
using namespace meter::pg;

// meter.sum_by_add(state, value, dimensions, keys)
METER_FUNCTION(meter_sum_by_add) {
    ExpandedState* expanded_state = writable_state(fcinfo, StateKind::kSumBy);
    const std::uint32_t group = group_of_row(expanded_state->state, fcinfo, 2, 3);
    if (!PG_ARGISNULL(1))
        expanded_state->state.add_sum(group, view_numeric(PG_GETARG_DATUM(1)));
    PG_RETURN_DATUM(EOHPGetRWDatum(&expanded_state->header));
}

// meter.count_by_add(state, dimensions, keys)
METER_FUNCTION(meter_count_by_add) {
    ExpandedState* expanded_state = writable_state(fcinfo, StateKind::kCountBy);
    expanded_state->state.add_count(group_of_row(expanded_state->state, fcinfo, 1, 2), 1);
    PG_RETURN_DATUM(EOHPGetRWDatum(&expanded_state->header));
}

// meter.last_by_add(state, value, event_time, dimensions, keys)
METER_FUNCTION(meter_last_by_add) {
    PG_RETURN_DATUM(add_timed_row(fcinfo, StateKind::kLastBy));
}

// meter.first_by_add(state, value, event_time, dimensions, keys)
METER_FUNCTION(meter_first_by_add) {
    PG_RETURN_DATUM(add_timed_row(fcinfo, StateKind::kFirstBy));
}

// meter.groups_combine(state, state)
METER_FUNCTION(meter_groups_combine) {
    aggregate_context(fcinfo);
    if (PG_ARGISNULL(1)) {
        if (PG_ARGISNULL(0))
            PG_RETURN_NULL();
        PG_RETURN_DATUM(PG_GETARG_DATUM(0));
    }
    const StateKind kind = kind_of(PG_GETARG_DATUM(PG_ARGISNULL(0) ? 1 : 0));
    expect_grouped(kind);
    ExpandedState* expanded_state = writable_state(fcinfo, kind);
    expanded_state->state.absorb(state_bytes(PG_GETARG_DATUM(1)), pause_for_interrupts);
    PG_RETURN_DATUM(EOHPGetRWDatum(&expanded_state->header));
}

// meter.groups_final(state)
METER_FUNCTION(meter_groups_final) {
    if (PG_ARGISNULL(0))
        PG_RETURN_NULL();
    const Datum datum = PG_GETARG_DATUM(0);
    if (is_ours(datum))
        PG_RETURN_DATUM(groups_to_jsonb(expanded(DatumGetEOHP(datum))->state));
    const StateKind kind = kind_of(datum);
    expect_grouped(kind);
    ExpandedState* expanded_state = make_state(CurrentMemoryContext, kind);
    expanded_state->state.absorb(state_bytes(datum), pause_for_interrupts);
    PG_RETURN_DATUM(groups_to_jsonb(expanded_state->state));
}
