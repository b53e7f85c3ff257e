#include "pg/event_ids.hpp"

#include "pg/catalog.hpp"

extern "C" {
#include "access/relation.h"
#include "access/transam.h"
#include "access/xloginsert.h"
#include "catalog/pg_sequence.h"
#include "miscadmin.h"
#include "utils/rel.h"
#include "utils/syscache.h"
}

namespace meter::pg {

namespace {

// How many ids beyond those taken are logged as taken, as in nextval(): no record is needed for
// those, and a crash loses them.
constexpr int64 kLoggedAhead = 32;

// The greatest id of a sequence that counts in ones and keeps none for a session; 0: of another.
int64 greatest_id(Oid sequence) {
    const HeapTuple tuple = SearchSysCache1(SEQRELID, ObjectIdGetDatum(sequence));
    if (!HeapTupleIsValid(tuple))
        return 0;
    const auto* form = reinterpret_cast<const FormData_pg_sequence*>(GETSTRUCT(tuple));
    const bool plain =
        form->seqincrement == 1 && form->seqcache == 1 && !form->seqcycle && form->seqmin > 0;
    const int64 greatest = plain ? form->seqmax : 0;
    ReleaseSysCache(tuple);
    return greatest;
}

// Logs the row of the sequence as it is on the locked page.
void log_sequence(Relation sequence, Buffer buffer, const HeapTupleData& row) {
    xl_seq_rec record = sequence_record(sequence);
    XLogBeginInsert();
    XLogRegisterBuffer(0, buffer, REGBUF_WILL_INIT);
    XLogRegisterData(reinterpret_cast<char*>(&record), sizeof record);
    XLogRegisterData(reinterpret_cast<char*>(row.t_data), static_cast<int>(row.t_len));
    const XLogRecPtr end = XLogInsert(RM_SEQ_ID, XLOG_SEQ_LOG);
    PageSetLSN(BufferGetPage(buffer), end);
}

// Takes the ids on the locked page of the sequence; see take_event_ids().
int64 take_from_page(Relation sequence, Buffer buffer, int64 greatest, int64 count) {
    const Page page = BufferGetPage(buffer);
    const ItemId item = PageGetItemId(page, FirstOffsetNumber);
    HeapTupleData row{};
    row.t_data = reinterpret_cast<HeapTupleHeader>(PageGetItem(page, item));
    row.t_len = ItemIdGetLength(item);
    auto* const data = reinterpret_cast<Form_pg_sequence_data>(GETSTRUCT(&row));
    const int64 first = data->is_called ? data->last_value + 1 : data->last_value;
    if (first < 1 || first > greatest - count - kLoggedAhead)
        return 0;
    const int64 last = first + count - 1;
    // After a checkpoint replay would not know of what was logged before it.
    const bool log =
        !data->is_called || data->log_cnt < count || PageGetLSN(page) <= GetRedoRecPtr();
    // That the commit waits for the record.
    if (log && RelationNeedsWAL(sequence))
        (void)GetTopTransactionId();
    begin_critical_section();
    MarkBufferDirty(buffer);
    if (log && RelationNeedsWAL(sequence)) {
        data->last_value = last + kLoggedAhead;
        data->is_called = true;
        data->log_cnt = 0;
        log_sequence(sequence, buffer, row);
    }
    data->last_value = last;
    data->is_called = true;
    data->log_cnt = log ? kLoggedAhead : data->log_cnt - count;
    end_critical_section();
    return first;
}

}  // namespace

int64 next_event_id() {
    return nextval_internal(relations().event_id_seq, false);
}

// To take them one by one costs each what it costs to find, lock and change the row of the
// sequence.
int64 take_event_ids(int64 count) {
    PreventCommandIfReadOnly("nextval()");
    const Relation sequence = relation_open(relations().event_id_seq, RowExclusiveLock);
    int64 first = 0;
    const int64 greatest = greatest_id(RelationGetRelid(sequence));
    if (sequence->rd_rel->relkind == RELKIND_SEQUENCE && greatest > 0) {
        const Buffer buffer = ReadBuffer(sequence, 0);
        LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
        first = take_from_page(sequence, buffer, greatest, count);
        UnlockReleaseBuffer(buffer);
    }
    relation_close(sequence, NoLock);
    return first;
}

}  // namespace meter::pg
