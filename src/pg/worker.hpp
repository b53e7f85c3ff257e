// The background worker: folds, vacuums what was folded, and makes partitions ahead.
#pragma once

namespace meter::pg {

// Registers a worker for each database that meter.worker_databases names. Does nothing unless the
// library is being preloaded; called once, after define_settings().
void register_workers();

}  // namespace meter::pg
