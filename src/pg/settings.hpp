// The settings (GUCs) that start with `meter.`.
#pragma once

namespace meter::pg {

extern char* setting_org;               // meter.org
extern int setting_max_event_lead;      // meter.max_event_lead, seconds
extern int setting_max_payload_kb;      // meter.max_payload_size, kilobytes
extern int setting_max_batch_events;    // meter.max_batch_events
extern int setting_max_json_depth;      // meter.max_json_depth
extern int setting_max_usage_rows;      // meter.max_usage_rows
extern char* setting_worker_databases;  // meter.worker_databases, a list of names
extern int setting_fold_interval;       // meter.fold_interval, milliseconds
extern int setting_fold_batch;          // meter.fold_batch, deltas
extern int setting_max_cells;           // meter.max_cells
extern int setting_dense_events;        // meter.dense_events
extern bool setting_direct_insert;      // meter.direct_insert

// Registers them all; called once, when the library is loaded.
void define_settings();

}  // namespace meter::pg
