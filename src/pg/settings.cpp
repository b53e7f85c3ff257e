#include "pg/compat.hpp"

#include "pg/settings.hpp"

#include <cstring>

#include "core/dimensions.hpp"

extern "C" {
#include "utils/varlena.h"
}

namespace meter::pg {

char* setting_org = nullptr;
int setting_max_event_lead = 86'400;
int setting_max_payload_kb = 256 * 1024;
int setting_max_batch_events = 1'000'000;
int setting_max_json_depth = 64;
int setting_max_usage_rows = 1'000'000;
char* setting_worker_databases = nullptr;
int setting_fold_interval = 1'000;
int setting_fold_batch = 100'000;
int setting_max_cells = 10'000;
int setting_dense_events = 8;
bool setting_direct_insert = true;

namespace {

bool check_org(char** new_value, void**, GucSource) {
    const std::size_t length = std::strlen(*new_value);
    if (length >= 1 && length <= kMaxNameBytes)
        return true;
    GUC_check_errdetail("An org has 1 to %d bytes.", static_cast<int>(kMaxNameBytes));
    return false;
}

bool check_names(char** new_value, void**, GucSource) {
    List* names = NIL;
    const bool valid = SplitIdentifierString(pstrdup(*new_value), ',', &names);
    list_free(names);
    if (!valid)
        GUC_check_errdetail("List syntax is invalid.");
    return valid;
}

}  // namespace

void define_settings() {
    DefineCustomStringVariable("meter.org", "The org (tenant) whose meters are used.",
                               "A role that is bound to an org by meter.grant_access ignores it.",
                               &setting_org, "default", PGC_USERSET, 0, check_org, nullptr,
                               nullptr);
    DefineCustomIntVariable("meter.max_event_lead",
                            "How far an event's timestamp may lie in the future.", nullptr,
                            &setting_max_event_lead, 86'400, 0, INT_MAX, PGC_SUSET, GUC_UNIT_S,
                            nullptr, nullptr, nullptr);
    DefineCustomIntVariable("meter.max_payload_size",
                            "The largest payload that meter.ingest takes.", nullptr,
                            &setting_max_payload_kb, 256 * 1024, 1, 1024 * 1024, PGC_SUSET,
                            GUC_UNIT_KB, nullptr, nullptr, nullptr);
    DefineCustomIntVariable("meter.max_batch_events", "The most events that one call takes.",
                            nullptr, &setting_max_batch_events, 1'000'000, 1, 100'000'000,
                            PGC_SUSET, 0, nullptr, nullptr, nullptr);
    DefineCustomIntVariable("meter.max_json_depth", "The deepest nesting of a JSON event.", nullptr,
                            &setting_max_json_depth, 64, 2, 10'000, PGC_SUSET, 0, nullptr, nullptr,
                            nullptr);
    DefineCustomIntVariable(
        "meter.max_usage_rows", "The most rows that one usage query may be asked to fill.",
        "Counts buckets times groups, where buckets without events are filled in.",
        &setting_max_usage_rows, 1'000'000, 1, 100'000'000, PGC_USERSET, 0, nullptr, nullptr,
        nullptr);
    // Where the library is not preloaded there is no worker, and nothing to be fixed at start.
    DefineCustomStringVariable(
        "meter.worker_databases", "The databases that a background worker looks after.",
        "Takes effect where shared_preload_libraries has meter; one worker for each.",
        &setting_worker_databases, "",
        process_shared_preload_libraries_in_progress ? PGC_POSTMASTER : PGC_SIGHUP, GUC_LIST_INPUT,
        check_names, nullptr, nullptr);
    DefineCustomIntVariable("meter.fold_interval",
                            "How long the worker waits before it looks for deltas again.", nullptr,
                            &setting_fold_interval, 1'000, 10, 3'600'000, PGC_SIGHUP, GUC_UNIT_MS,
                            nullptr, nullptr, nullptr);
    DefineCustomIntVariable(
        "meter.fold_batch", "The most deltas that one transaction of the worker folds.", nullptr,
        &setting_fold_batch, 100'000, 1, 10'000'000, PGC_SUSET, 0, nullptr, nullptr, nullptr);
    DefineCustomIntVariable(
        "meter.max_cells", "The most sets of dimensions of a meter's month that are not judged.",
        "Where there are more, and few events to each, a fold leaves out of the rollups the "
        "dimensions that have too many values.",
        &setting_max_cells, 10'000, 10, 1'000'000'000, PGC_SUSET, 0, nullptr, nullptr, nullptr);
    DefineCustomIntVariable(
        "meter.dense_events",
        "How many events to a cell and day a user's month has from which on it gets cells by day.",
        "Fewer take more space and time to fold; days without cells are read from the events.",
        &setting_dense_events, 8, 1, 1'000'000, PGC_SUSET, 0, nullptr, nullptr, nullptr);
    DefineCustomBoolVariable(
        "meter.direct_insert", "Whether events are written straight into tables that allow it.",
        "Off, each is written by an SQL statement: slower, with the same result. For tests.",
        &setting_direct_insert, true, PGC_USERSET, GUC_NOT_IN_SAMPLE, nullptr, nullptr, nullptr);
    reserve_setting_prefix("meter");
}

}  // namespace meter::pg
