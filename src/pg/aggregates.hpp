// The aggregates over dimension JSONB: what their parts share.
//
// A state is the SQL type meter.aggregate_state. Its flat form is what core/grouped_state.hpp
// writes, in a varlena. In memory the state of a *_by aggregate is an expanded object: while it is
// aggregated, PostgreSQL keeps a read-write pointer to it, and flattens it where it has to travel.
#pragma once

#include "pg/compat.hpp"

extern "C" {
#include "utils/expandeddatum.h"
}

#include <string_view>

#include "core/grouped_state.hpp"
#include "pg/memory.hpp"

namespace meter::pg {

// A grouped state in a memory context of its own. All its memory is there, so that deleting the
// context frees it; its destructor does not run.
struct ExpandedState {
    ExpandedObjectHeader header;
    ContextResource resource;
    GroupedState state;
};

// Digits that outlive a call, for decode().
struct DigitScratch {
    explicit DigitScratch(MemoryContext context)
        : resource(context), first(&resource), second(&resource) {}

    ContextResource resource;
    DigitBuffer first;
    DigitBuffer second;
};

// Makes an empty state below `parent`.
ExpandedState* make_state(MemoryContext parent, StateKind kind);

// Throws PgError where the query is to be cancelled: for core code to call.
void pause_for_interrupts();

// The bytes of a flat state in a datum; in the current memory context where that is toasted.
std::string_view state_bytes(Datum datum);

// The context that the aggregate's states live in. Raises an error outside an aggregate.
MemoryContext aggregate_context(FunctionCallInfo fcinfo);

// The group of a row: of a jsonb (or no jsonb) and the keys argument.
std::uint32_t group_of_row(GroupedState& state, FunctionCallInfo fcinfo, int dimensions_argument,
                           int keys_argument);

// The result of the *_by aggregates as a jsonb.
Datum groups_to_jsonb(GroupedState& state);

// Throws Error kInvalidBinary where a container in a state's groups is not as group_of_row() would
// have written it.
void check_containers(GroupedState& state);

}  // namespace meter::pg
