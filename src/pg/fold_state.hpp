// What a fold leaves for readers and for the folds to come: meter.rollup_state.
#pragma once

#include "pg/compat.hpp"

extern "C" {
#include "datatype/timestamp.h"
}

namespace meter::pg {

// The first number of a generation that is a run; others follow downwards.
inline constexpr int32 kFirstRun = -2;

// Where deltas that were added up lie, until they are folded into cells.
struct DeltaRun {
    int32 generation;
    int64 deltas;  // roughly
};

// The one row of meter.rollup_state that counts, the latest. It is replaced, never updated, and
// looked up from the end of its index: there, unlike in a chain of versions, no reader passes those
// that an old snapshot keeps.
struct FoldState {
    static constexpr int kMostRuns = 64;
    static constexpr int kMostFolds = 512;

    int64 version;  // of the row, 0 where there is none
    // The open generations that recorders wrote into, ascending, in the memory context that was
    // current when this was read.
    int recorded_count;
    int32* recorded;
    int32 last_generation;  // the last number given to a run; they go down from kFirstRun
    int run_count;
    DeltaRun runs[kMostRuns];  // the oldest first
    int fold_count;
    struct {
        uint64 next_xid;  // above those of the fold
        TimestampTz at;
    } folds[kMostFolds];  // into cells, the oldest first, whose versions are still kept
};

// Reads it, as the fold lock's holder: a new snapshot is used. Folds whose versions nobody keeps
// any more are left out. Runs within an SPI connection.
FoldState load_fold_state();

// Replaces it.
void store_fold_state(const FoldState& state);

// Whether to fold into cells. Each such fold leaves a version of every cell it changes, and while
// an old snapshot keeps them, readers pass by all. So there are a few, and then one each time the
// snapshot has become an eighth older: their number grows with the logarithm of its age.
//
// Only a guess hangs on transaction numbers and clocks: numbers of another cluster, as after a
// restore, at worst put off a fold into cells.
bool may_fold_into_cells(const FoldState& state);

// Whether a snapshot has been held for some folds: then generations are to be short, since what was
// folded is in readers' way.
bool is_held_back(const FoldState& state);

// Notes a fold into cells that left `versions` versions of a cell at most.
void note_cell_fold(FoldState* state, int versions);

// Adds an open generation that recorders write into.
void add_recorded(FoldState* state, int32 generation);

// A number for a new run.
int32 next_run(FoldState* state);

}  // namespace meter::pg
