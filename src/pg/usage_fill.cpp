#include "pg/usage_fill.hpp"

#include <algorithm>
#include <cstdint>

#include "pg/rounding.hpp"
#include "pg/settings.hpp"
#include "pg/values.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
}

namespace meter::pg {

namespace {

// What the filled rows of a group say.
struct Group {
    bool has_user;
    Datum user;
    Datum dimensions;
    Datum level;  // numeric: of a weighted sum, what the values before add up to; 0: 0
};

struct Groups {
    int64 count;
    int64 capacity;
    Group* items;
};

[[noreturn]] void refuse_rows(const char* what) {
    ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                    errmsg("%s would make more than %d rows", what, setting_max_usage_rows),
                    errhint("Ask for a shorter period, a longer bucket or fewer groups, or raise "
                            "meter.max_usage_rows.")));
    pg_unreachable();
}

// How many buckets touch the period, counted to `limit` + 1 at most.
int64 count_buckets(ZoneTransitions* zone, Bucket bucket, Period period, int64 limit) {
    const std::int64_t from = to_unix_micros(period.start);
    const std::int64_t to = to_unix_micros(period.end);
    if (least_buckets(bucket, from, to) > limit)
        return limit + 1;
    const TimeZone& transitions = zone->covering(from, to);
    int64 count = 0;
    for (std::int64_t at = from; at < to && count <= limit; ++count) {
        CHECK_FOR_INTERRUPTS();
        at = bucket_of(transitions, bucket, at).end;
    }
    return count;
}

// Collects the groups of the cells, whose numbers have no gaps; at most `limit` of them.
Groups collect_groups(Tuplestorestate* cells, TupleTableSlot* slot, int64 limit) {
    Groups groups{0, 64, static_cast<Group*>(palloc0(64 * sizeof(Group)))};
    while (tuplestore_gettupleslot(cells, true, false, slot)) {
        CHECK_FOR_INTERRUPTS();
        slot_getallattrs(slot);
        const int64 number = DatumGetInt64(slot->tts_values[kCellGroup]);
        groups.count = Max(groups.count, number);
        if (groups.count > limit)
            return groups;
        while (groups.capacity < groups.count) {
            groups.items = static_cast<Group*>(repalloc_huge(
                groups.items, static_cast<Size>(2 * groups.capacity) * sizeof(Group)));
            std::fill_n(groups.items + groups.capacity, groups.capacity, Group{});
            groups.capacity *= 2;
        }
        Group* group = &groups.items[number - 1];
        if (DatumGetPointer(group->dimensions) != nullptr)
            continue;
        group->has_user = !slot->tts_isnull[kCellUser];
        if (group->has_user)
            group->user = datumCopy(slot->tts_values[kCellUser], false, -1);
        group->dimensions = datumCopy(slot->tts_values[kCellDimensions], false, -1);
    }
    return groups;
}

// The groups of the cells. Where there are more than one, refuses `what` where they have more than
// meter.max_usage_rows rows with the buckets of the period.
Groups find_groups(Tuplestorestate* cells, TupleTableSlot* slot, const UsageQuestion* question,
                   Period period, const char* what) {
    const UsageScope& scope = question->scope;
    if (!scope.by_user && scope.name_count == 0) {
        const Groups one{1, 1, static_cast<Group*>(palloc0(sizeof(Group)))};
        one.items[0].has_user = scope.has_user;
        one.items[0].user = scope.user;
        one.items[0].dimensions = DirectFunctionCall1(jsonb_in, CStringGetDatum("{}"));
        return one;
    }
    const Groups groups = collect_groups(cells, slot, setting_max_usage_rows);
    tuplestore_rescan(cells);
    const int64 most = groups.count == 0 ? 0 : setting_max_usage_rows / groups.count;
    if (groups.count > 0 && count_buckets(scope.zone, scope.bucket, period, most) > most)
        refuse_rows(what);
    return groups;
}

// Calls visit(span, group, has_cell) for each bucket of the period and each group; has_cell says
// whether the slot has their cell.
template <typename Visit>
void walk(Tuplestorestate* cells, TupleTableSlot* slot, const UsageQuestion* question,
          Period period, const Groups& groups, Visit visit) {
    const std::int64_t from = to_unix_micros(period.start);
    const std::int64_t to = to_unix_micros(period.end);
    const TimeZone& transitions = question->scope.zone->covering(from, to);
    // Cells come in the order in which rows are made, so the next cell is this row's, or no row's
    // yet.
    bool has_cell = tuplestore_gettupleslot(cells, true, false, slot);
    for (std::int64_t at = from; at < to && groups.count > 0;) {
        const TimeSpan span = bucket_of(transitions, question->scope.bucket, at);
        for (int64 number = 1; number <= groups.count; ++number) {
            CHECK_FOR_INTERRUPTS();
            bool here = false;
            if (has_cell) {
                slot_getallattrs(slot);
                here = DatumGetTimestampTz(slot->tts_values[kCellStart]) ==
                           to_timestamptz(span.start) &&
                       DatumGetInt64(slot->tts_values[kCellGroup]) == number;
            }
            visit(span, &groups.items[number - 1], here);
            if (here)
                has_cell = tuplestore_gettupleslot(cells, true, false, slot);
        }
        at = span.end;
    }
    if (has_cell)
        elog(ERROR, "usage was found in a bucket that its period does not have");
}

// A row without events.
void put_row_without_events(const SetResult& set, const TimeSpan& span, const Group* group,
                            Datum value, bool has_value) {
    const Datum values[] = {TimestampTzGetDatum(to_timestamptz(span.start)),
                            TimestampTzGetDatum(to_timestamptz(span.end)),
                            group->user,
                            group->dimensions,
                            value,
                            Int64GetDatum(0)};
    const bool nulls[] = {false, false, !group->has_user, false, !has_value, false};
    put_row(set, values, nulls);
}

Datum from_int64(int64 value) {
    return NumericGetDatum(int64_to_numeric(value));
}

bool is_zero(Datum number) {
    return DatumGetInt32(DirectFunctionCall2(numeric_cmp, number, from_int64(0))) == 0;
}

// The average over [start, end) of a level that is `level` at its start, is raised by `sum` in all,
// and `weight` is the sum of value x microseconds since 1970: as append_value() in usage_query.cpp
// makes it of a period.
Datum average_level(Datum level, Datum sum, Datum weight, int64 start, int64 end) {
    const Datum length = from_int64(end - start);
    Datum integral = DirectFunctionCall2(numeric_mul, level, length);
    const Datum raised = DirectFunctionCall2(numeric_mul, sum, from_int64(end));
    integral = DirectFunctionCall2(numeric_add, integral, raised);
    integral = DirectFunctionCall2(numeric_sub, integral, weight);
    integral = DirectFunctionCall2(numeric_round, integral, Int32GetDatum(20));
    return DirectFunctionCall1(numeric_trim_scale,
                               DirectFunctionCall2(numeric_div, integral, length));
}

}  // namespace

TupleDesc cell_descriptor(Oid more) {
    TupleDesc descriptor = CreateTemplateTupleDesc(kCellColumns);
    const Oid types[] = {TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, JSONBOID,
                         NUMERICOID,     INT8OID,        INT8OID, more};
    for (int i = 0; i < kCellColumns; ++i)
        TupleDescInitEntry(descriptor, static_cast<AttrNumber>(i + 1), nullptr, types[i], -1, 0);
    return descriptor;
}

TupleDesc usage_descriptor() {
    TupleDesc descriptor = cell_descriptor(INT8OID);
    descriptor->natts = kCellGroup;
    return descriptor;
}

void check_bucket_count(ZoneTransitions* zone, Bucket bucket, Period period) {
    if (count_buckets(zone, bucket, period, setting_max_usage_rows) > setting_max_usage_rows)
        refuse_rows("fill");
}

void put_cells(const SetResult& set, Tuplestorestate* cells) {
    TupleTableSlot* slot =
        MakeSingleTupleTableSlot(cell_descriptor(TIMESTAMPTZOID), &TTSOpsMinimalTuple);
    while (tuplestore_gettupleslot(cells, true, false, slot)) {
        CHECK_FOR_INTERRUPTS();
        slot_getallattrs(slot);
        put_row(set, slot->tts_values, slot->tts_isnull);
    }
    ExecDropSingleTupleTableSlot(slot);
}

void fill_usage(const SetResult& set, Tuplestorestate* cells, const UsageQuestion* question) {
    TupleTableSlot* slot =
        MakeSingleTupleTableSlot(cell_descriptor(TIMESTAMPTZOID), &TTSOpsMinimalTuple);
    const Period period = question->scope.period;
    const Groups groups = find_groups(cells, slot, question, period, "fill");
    const bool has_zero = question->aggregation->zero_for_nothing;
    const Datum zero = from_int64(0);
    walk(cells, slot, question, period, groups,
         [&](const TimeSpan& span, const Group* group, bool has_cell) {
             if (has_cell)
                 put_row(set, slot->tts_values, slot->tts_isnull);
             else
                 put_row_without_events(set, span, group, zero, has_zero);
         });
    ExecDropSingleTupleTableSlot(slot);
}

void put_levels(const SetResult& set, Tuplestorestate* cells, const UsageQuestion* question,
                bool fill) {
    const UsageScope& scope = question->scope;
    TupleTableSlot* slot =
        MakeSingleTupleTableSlot(cell_descriptor(NUMERICOID), &TTSOpsMinimalTuple);
    Period period = scope.period;
    if (!fill) {
        // All levels are 0 before the first row.
        if (!tuplestore_gettupleslot(cells, true, false, slot)) {
            ExecDropSingleTupleTableSlot(slot);
            return;
        }
        slot_getallattrs(slot);
        period.start = Max(period.start, DatumGetTimestampTz(slot->tts_values[kCellStart]));
        tuplestore_rescan(cells);
        if (count_buckets(scope.zone, scope.bucket, period, setting_max_usage_rows) >
            setting_max_usage_rows)
            refuse_rows("a level in each bucket");
    }
    const Groups groups = find_groups(cells, slot, question, period, "a level in each bucket");
    const Datum zero = from_int64(0);
    for (int64 i = 0; i < groups.count; ++i)
        groups.items[i].level = datumCopy(zero, false, -1);
    const MemoryContext scratch =
        AllocSetContextCreate(CurrentMemoryContext, "meter levels", ALLOCSET_DEFAULT_SIZES);
    walk(cells, slot, question, period, groups,
         [&](const TimeSpan& span, Group* group, bool has_cell) {
             const MemoryContext context = MemoryContextSwitchTo(scratch);
             if (has_cell) {
                 const Datum sum = slot->tts_values[kCellValue];
                 const Datum average = average_level(group->level, sum, slot->tts_values[kCellMore],
                                                     Max(span.start, to_unix_micros(period.start)),
                                                     Min(span.end, to_unix_micros(period.end)));
                 const Datum level = DirectFunctionCall2(numeric_add, group->level, sum);
                 slot->tts_values[kCellValue] = round_numeric(average, question->rounding);
                 put_row(set, slot->tts_values, slot->tts_isnull);
                 MemoryContextSwitchTo(context);
                 pfree(DatumGetPointer(group->level));
                 group->level = datumCopy(level, false, -1);
                 MemoryContextSwitchTo(scratch);
             } else if (fill || !is_zero(group->level))
                 put_row_without_events(
                     set, span, group,
                     round_numeric(DirectFunctionCall1(numeric_trim_scale, group->level),
                                   question->rounding),
                     true);
             MemoryContextSwitchTo(context);
             MemoryContextReset(scratch);
         });
    MemoryContextDelete(scratch);
    ExecDropSingleTupleTableSlot(slot);
}

}  // namespace meter::pg
