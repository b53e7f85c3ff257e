#include "pg/usage_fill.hpp"

#include <algorithm>
#include <cstdint>

#include "pg/settings.hpp"
#include "pg/values.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
}

namespace meter::pg {

namespace {

// The columns of a cell.
enum CellColumn { kStart, kEnd, kUser, kDimensions, kValue, kCount, kGroup, kCellColumns };

TupleDesc cell_descriptor() {
    TupleDesc descriptor = CreateTemplateTupleDesc(kCellColumns);
    const Oid types[] = {TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, JSONBOID,
                         NUMERICOID,     INT8OID,        INT8OID};
    for (int i = 0; i < kCellColumns; ++i)
        TupleDescInitEntry(descriptor, static_cast<AttrNumber>(i + 1), nullptr, types[i], -1, 0);
    return descriptor;
}

// What the filled rows of a group say.
struct Group {
    bool has_user;
    Datum user;
    Datum dimensions;
};

struct Groups {
    int64 count;
    int64 capacity;
    Group* items;
};

[[noreturn]] void refuse_fill() {
    ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                    errmsg("fill would make more than %d rows", setting_max_usage_rows),
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
        const int64 number = DatumGetInt64(slot->tts_values[kGroup]);
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
        group->has_user = !slot->tts_isnull[kUser];
        if (group->has_user)
            group->user = datumCopy(slot->tts_values[kUser], false, -1);
        group->dimensions = datumCopy(slot->tts_values[kDimensions], false, -1);
    }
    return groups;
}

}  // namespace

void check_bucket_count(ZoneTransitions* zone, Bucket bucket, Period period) {
    if (count_buckets(zone, bucket, period, setting_max_usage_rows) > setting_max_usage_rows)
        refuse_fill();
}

void fill_usage(const SetResult& set, Tuplestorestate* cells, const UsageQuestion* question,
                ZoneTransitions* zone) {
    const std::int64_t from = to_unix_micros(question->scope.period.start);
    const std::int64_t to = to_unix_micros(question->scope.period.end);
    TupleTableSlot* slot = MakeSingleTupleTableSlot(cell_descriptor(), &TTSOpsMinimalTuple);
    Groups groups;
    if (question->scope.by_user || question->scope.name_count > 0) {
        groups = collect_groups(cells, slot, setting_max_usage_rows);
        tuplestore_rescan(cells);
        const int64 most = groups.count == 0 ? 0 : setting_max_usage_rows / groups.count;
        if (groups.count > 0 &&
            count_buckets(zone, question->scope.bucket, question->scope.period, most) > most)
            refuse_fill();
    } else {
        groups = {1, 1, static_cast<Group*>(palloc0(sizeof(Group)))};
        groups.items[0] = {question->scope.has_user, question->scope.user,
                           DirectFunctionCall1(jsonb_in, CStringGetDatum("{}"))};
    }

    const Datum zero = DirectFunctionCall1(int8_numeric, Int64GetDatum(0));
    Datum values[kCellColumns];
    bool nulls[kCellColumns] = {};
    const TimeZone& transitions = zone->covering(from, to);
    // Cells come in the order in which rows are made, so the next cell is this row's, or no row's
    // yet.
    bool has_cell = tuplestore_gettupleslot(cells, true, false, slot);
    for (std::int64_t at = from; at < to && groups.count > 0;) {
        const TimeSpan span = bucket_of(transitions, question->scope.bucket, at);
        values[kStart] = TimestampTzGetDatum(to_timestamptz(span.start));
        values[kEnd] = TimestampTzGetDatum(to_timestamptz(span.end));
        for (int64 number = 1; number <= groups.count; ++number) {
            CHECK_FOR_INTERRUPTS();
            if (has_cell) {
                slot_getallattrs(slot);
                if (DatumGetTimestampTz(slot->tts_values[kStart]) == to_timestamptz(span.start) &&
                    DatumGetInt64(slot->tts_values[kGroup]) == number) {
                    put_row(set, slot->tts_values, slot->tts_isnull);
                    has_cell = tuplestore_gettupleslot(cells, true, false, slot);
                    continue;
                }
            }
            const Group* group = &groups.items[number - 1];
            values[kUser] = group->user;
            nulls[kUser] = !group->has_user;
            values[kDimensions] = group->dimensions;
            values[kValue] = zero;
            nulls[kValue] = !question->aggregation->zero_for_nothing;
            values[kCount] = Int64GetDatum(0);
            put_row(set, values, nulls);
        }
        at = span.end;
    }
    if (has_cell)
        elog(ERROR, "usage was found in a bucket that its period does not have");
    ExecDropSingleTupleTableSlot(slot);
}

}  // namespace meter::pg
