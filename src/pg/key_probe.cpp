#include "pg/key_probe.hpp"

#include <cstring>

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
    Assert(std::memcmp(DatumGetPointer(values[kKeyDigest]), digest.data(), digest.size()) == 0);
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
    // Lets go of the leaf, which VACUUM may wait for.
    index_rescan(probe.scan, &key, 1, nullptr, 0);
    return state;
}

// What a leaf says of a key.
enum class Entry : std::uint8_t {
    kNone,     // it is not in the index
    kOne,      // one entry has it, and `tid` is its row
    kUnclear,  // there are several, or one that has more than one row: a scan tells
    kBeyond,   // it is or may be on another page
};

// Searches the locked leaf for the key at hand, from offset *low on, which is moved to where the
// key is or would be.
Entry find_entry(const LeafFinder& finder, Page page, OffsetNumber* low, ItemPointerData* tid) {
    if (!P_RIGHTMOST(opaque_of(page)) && compare_key(finder, page, P_HIKEY) >= 0)
        return Entry::kBeyond;
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
    // The entries that have it: those known to be dead are passed over, as by a scan.
    Entry found = Entry::kNone;
    OffsetNumber at = *low;
    for (; equal; equal = at <= last && compare_key(finder, page, at) == 0) {
        const ItemId item = PageGetItemId(page, at);
        at = OffsetNumberNext(at);
        if (ItemIdIsDead(item))
            continue;
        auto* const entry = reinterpret_cast<IndexTuple>(PageGetItem(page, item));
        if (found == Entry::kOne || BTreeTupleIsPosting(entry))
            return Entry::kUnclear;
        found = Entry::kOne;
        *tid = entry->t_tid;
    }
    return found;
}

// The key of an entry's row. The leaf is still pinned: as long as it is, no VACUUM can remove the
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
    while (done < count) {
        entries[done] = Entry::kNone;
        if (states[done] != KeyState::kTaken) {
            set_column(probe.finder, 0, uuid_datum(mine[done].digest), false);
            entries[done] = find_entry(probe.finder, page, &low, &tids[done]);
        }
        // The first is not left to the next leaf, which may be this one again.
        if (entries[done] == Entry::kBeyond) {
            if (done > 0)
                break;
            entries[done] = Entry::kUnclear;
        }
        ++done;
    }
    _bt_unlockbuf(probe.finder.index, leaf);
    for (int i = 0; i < done; ++i) {
        if (states[i] == KeyState::kTaken)
            continue;
        states[i] = KeyState::kFree;
        if (entries[i] == Entry::kOne) {
            pgstat_count_index_tuples(probe.finder.index, 1);
            states[i] = fetch_row(probe, tids[i], mine[i].digest, &taken[i]);
            // An entry without a row is marked as dead by a scan, if nobody sees the row.
            if (states[i] == KeyState::kFree)
                entries[i] = Entry::kUnclear;
        }
        if (entries[i] != Entry::kUnclear)
            pgstat_count_index_scan(probe.finder.index);
    }
    ReleaseBuffer(leaf);
    ExecClearTuple(probe.slot);
    for (int i = 0; i < done; ++i)
        if (entries[i] == Entry::kUnclear)
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
    }
}

void look_up(KeyProbe& probe, const LedgerEntry* mine, int count, KeyState* states,
             LedgerEntry* taken) {
    int at = 0;
    while (at < count) {
        if (states[at] == KeyState::kTaken) {
            ++at;
        } else if (probe.by_leaf) {
            at += look_up_on_leaf(probe, mine + at, Min(count - at, KeyProbe::kAtATime),
                                  states + at, taken + at);
        } else {
            states[at] = scan_for(probe, mine[at].digest, &taken[at]);
            ++at;
        }
    }
    // Lets go of the last page.
    table_index_fetch_reset(probe.fetch);
}

void end_probe(KeyProbe& probe) {
    if (probe.scan != nullptr)
        index_endscan(probe.scan);
    if (probe.by_leaf)
        end_leaves(probe.finder);
    table_index_fetch_end(probe.fetch);
    ExecDropSingleTupleTableSlot(probe.slot);
}

}  // namespace meter::pg
