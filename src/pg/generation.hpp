// Generations of deltas: which one to write into, and which ones readers have to look at.
//
// A delta that was folded stays in the table and its index, dead, for as long as a snapshot held
// somewhere might see it, and every reader would pass it by again. So deltas are numbered by
// generation. When many have been folded, a new generation is begun; and once no writer can use an
// old one any more, and all its deltas are folded, it is closed: readers leave it out.
//
// Recorders write into the one that meter.rollup_generation names. Which ones are open is in
// meter.rollup_state: of those from 0 up, which recorders wrote, and of those from kFirstRun down,
// which are runs: deltas that a fold added up and put back, rather than into cells.
#pragma once

#include "pg/compat.hpp"

#include "pg/fold_state.hpp"
#include "pg/spi.hpp"

namespace meter::pg {

// The generation of deltas that could not be folded, and were set aside: always open.
inline constexpr int32 kSetAside = -1;
// The generation to write a delta into. It is not closed before this transaction ends. Runs within
// an SPI connection.
int32 hold_generation();

// The open generations, kSetAside among them, as an int4[] datum in the current memory context.
// Runs within an SPI connection.
Datum open_generations(Run how);

// Whether there is a delta in the generation.
bool has_deltas(int32 generation);

// Notes that deltas were folded, and begins a new generation to record into where there are more
// than `most` since the last. The caller holds the fold lock, and stores the state.
void count_folded(FoldState* state, int64 deltas, int64 most);

// The open generations before the latest that no writer can use any more: a snapshot taken from now
// on sees all that is ever in them. The caller holds the fold lock. Does not wait.
struct QuietGenerations {
    int count;
    int32* items;
};
QuietGenerations find_quiet_generations(const FoldState& state);

// Closes those of them that have no delta left; with `all_folded` the caller knows that none has,
// from a snapshot taken since they were found. The caller holds the fold lock, and stores the state
// where it returns true.
bool close_generations(FoldState* state, const QuietGenerations& quiet, bool all_folded);

}  // namespace meter::pg
