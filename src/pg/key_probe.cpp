#include "pg/key_probe.hpp"

#include "pg/cells.hpp"

extern "C" {
#include "access/genam.h"
#include "access/tableam.h"
#include "pgstat.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
}

namespace meter::pg {

namespace {

Relation index_of(const KeyProbe& probe) {
    return probe.ledger->indexes[probe.ledger->key_index];
}

// What the row that was found says of its key.
KeyState read_row(const KeyProbe& probe, const Digest& digest, LedgerEntry* taken) {
    if (TransactionIdIsValid(probe.snapshot.xmin) || TransactionIdIsValid(probe.snapshot.xmax))
        return KeyState::kContested;
    slot_getallattrs(probe.slot);
    const Datum* values = probe.slot->tts_values;
    *taken = {digest, DatumGetInt64(values[kKeyFingerprint]), DatumGetInt64(values[kKeyEventId]),
              DatumGetTimestampTz(values[kKeyEventTime])};
    return KeyState::kTaken;
}

// Who has the key, if anyone. Where several rows say so, all but the one that stands are about to
// give way to it.
KeyState scan_for(KeyProbe& probe, const Digest& digest, LedgerEntry* taken) {
    ScanKeyData key;
    ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_UUID_EQ, uuid_datum(digest));
    if (probe.scan == nullptr)
        probe.scan = begin_index_scan(probe.ledger->relation, index_of(probe), &probe.snapshot, 1);
    index_rescan(probe.scan, &key, 1, nullptr, 0);
    KeyState state = KeyState::kFree;
    while (state != KeyState::kTaken &&
           index_getnext_slot(probe.scan, ForwardScanDirection, probe.slot))
        state = read_row(probe, digest, taken);
    ExecClearTuple(probe.slot);
    return state;
}

// What a leaf says of a key.
enum class Entry : std::uint8_t {
    kNone,     // it is not in the index
    kOne,      // one entry has it, and `tid` is its row
    kUnclear,  // there are several, or the entry has more than one row, or it is known to be dead
    kBeyond,   // it is on another page, or there too
};

// Searches the locked leaf for the key at hand, from offset *low on, which is moved to where the
// key is or would be.
Entry find_entry(const LeafFinder& finder, Page page, OffsetNumber* low, ItemPointerData* tid) {
    const OffsetNumber last = PageGetMaxOffsetNumber(page);
    OffsetNumber end = OffsetNumberNext(last);
    bool equal = false;
    while (*low < end) {
        const auto middle = static_cast<OffsetNumber>(*low + (end - *low) / 2);
        const int32 compared = compare_key(finder, page, middle);
        if (compared > 0) {
            *low = OffsetNumberNext(middle);
        } else {
            end = middle;
            equal = compared == 0;
        }
    }
    const bool at_end = *low + (equal ? 1 : 0) > last;
    if (at_end && !P_RIGHTMOST(opaque_of(page)) && compare_key(finder, page, P_HIKEY) >= 0)
        return Entry::kBeyond;
    if (!equal)
        return Entry::kNone;
    const ItemId item = PageGetItemId(page, *low);
    auto* const entry = reinterpret_cast<IndexTuple>(PageGetItem(page, item));
    if (ItemIdIsDead(item) || BTreeTupleIsPosting(entry) ||
        (!at_end && compare_key(finder, page, OffsetNumberNext(*low)) == 0))
        return Entry::kUnclear;
    *tid = entry->t_tid;
    return Entry::kOne;
}

// The key of an entry's row. The leaf is still pinned: until then no VACUUM can have removed the
// row and let another take its place.
KeyState fetch_row(KeyProbe& probe, ItemPointerData tid, const Digest& digest, LedgerEntry* taken) {
    KeyState state = KeyState::kFree;
    bool more = false;
    do {
        bool dead = false;
        if (!table_index_fetch_tuple(probe.fetch, &tid, &probe.snapshot, probe.slot, &more, &dead))
            break;
        pgstat_count_heap_fetch(index_of(probe));
        state = read_row(probe, digest, taken);
    } while (more && state != KeyState::kTaken);
    return state;
}

// Looks up the first key and those after it whose place is on the same leaf; returns how many.
// Zero: the first is to be scanned for.
int look_up_on_leaf(KeyProbe& probe, const LedgerEntry* mine, int count, KeyState* states,
                    LedgerEntry* taken) {
    set_column(probe.finder, 0, uuid_datum(mine[0].digest), false);
    const Buffer leaf = find_leaf(probe.finder);
    if (!BufferIsValid(leaf)) {
        states[0] = KeyState::kFree;
        return 1;
    }
    const Page page = BufferGetPage(leaf);
    OffsetNumber low = P_FIRSTDATAKEY(opaque_of(page));
    Entry entries[KeyProbe::kAtATime];
    ItemPointerData tids[KeyProbe::kAtATime];
    int done = 0;
    for (; done < count; ++done) {
        if (states[done] == KeyState::kTaken) {
            entries[done] = Entry::kNone;
            continue;
        }
        set_column(probe.finder, 0, uuid_datum(mine[done].digest), false);
        entries[done] = find_entry(probe.finder, page, &low, &tids[done]);
        if (entries[done] == Entry::kBeyond || entries[done] == Entry::kUnclear)
            break;
    }
    _bt_unlockbuf(probe.finder.index, leaf);
    for (int i = 0; i < done; ++i) {
        if (states[i] == KeyState::kTaken)
            continue;
        pgstat_count_index_scan(probe.finder.index);
        states[i] = entries[i] == Entry::kOne ? fetch_row(probe, tids[i], mine[i].digest, &taken[i])
                                              : KeyState::kFree;
    }
    ReleaseBuffer(leaf);
    ExecClearTuple(probe.slot);
    // Where there is an entry without a row, a scan marks it as dead, if nobody sees the row.
    for (int i = 0; i < done; ++i)
        if (entries[i] == Entry::kOne && states[i] == KeyState::kFree)
            states[i] = scan_for(probe, mine[i].digest, &taken[i]);
    return done;
}

}  // namespace

void begin_probe(KeyProbe& probe, const TableWriter& ledger) {
    probe.ledger = &ledger;
    InitDirtySnapshot(probe.snapshot);
    probe.slot = table_slot_create(ledger.relation, nullptr);
    probe.scan = nullptr;
    probe.fetch = table_index_fetch_begin(ledger.relation);
    probe.by_leaf = is_own_btree(index_of(probe));
    if (probe.by_leaf) {
        begin_leaves(probe.finder, index_of(probe), ledger.relation, BT_READ);
        probe.finder.key->scantid = nullptr;
        probe.by_leaf = probe.finder.key->heapkeyspace;
    }
}

void look_up(KeyProbe& probe, const LedgerEntry* mine, int count, KeyState* states,
             LedgerEntry* taken) {
    int at = 0;
    while (at < count) {
        if (states[at] == KeyState::kTaken) {
            ++at;
            continue;
        }
        int done = 0;
        if (probe.by_leaf)
            done = look_up_on_leaf(probe, mine + at, count - at, states + at, taken + at);
        if (done == 0) {
            states[at] = scan_for(probe, mine[at].digest, &taken[at]);
            done = 1;
        }
        at += done;
    }
}

void end_probe(KeyProbe& probe) {
    if (probe.scan != nullptr)
        index_endscan(probe.scan);
    if (is_own_btree(index_of(probe)))
        end_leaves(probe.finder);
    table_index_fetch_end(probe.fetch);
    ExecDropSingleTupleTableSlot(probe.slot);
}

}  // namespace meter::pg
