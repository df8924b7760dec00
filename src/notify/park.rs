//! The handshake of sleeping and waking over one slot, without any I/O.
//!
//! It is Dekker's: each side writes its word, passes a full barrier, and reads the other's. Without
//! the barrier the processor may read first (store-load), on x86 too, and both sides miss each
//! other: the sleeper parks with work before it. Checked by `docs/models/wake.pml` and by loom.

use crate::layout::Slot;
use crate::sync::{AtomicU64, Ordering, fence, load_seqcst, seqcst_store_load};

/// Park numbers of one attachment. Never reused: a waker that was stopped between reading a number
/// and clearing it must not clear a later one (`docs/models/wake.pml`, -DSTEP3). They start at a
/// random place, so those of two owners of one slot do not meet either.
#[derive(Debug)]
pub(crate) struct ParkNumbers {
    next: u64,
}

impl ParkNumbers {
    pub(crate) fn starting_at(random: u64) -> ParkNumbers {
        ParkNumbers { next: random >> 1 }
    }

    /// Steps 1 and 2 of the sleeper: a new number in the slot, then the barrier. After this read
    /// the debtors, watch them, look, and only then park.
    pub(crate) fn begin(&mut self, slot: &Slot) -> u64 {
        self.next += 1;
        self.put(slot)
    }

    /// The same for one who is a reader and a writer at once: the lowest bit of the number says that it
    /// waits for room too, so that a peer which only took something need not ring it ([`wants_room`]).
    pub(crate) fn begin_for(&mut self, slot: &Slot, room: bool) -> u64 {
        self.next = (self.next | 1) + 1 + u64::from(room);
        self.put(slot)
    }

    fn put(&mut self, slot: &Slot) -> u64 {
        // Relaxed: the fence orders it before the looks that follow; pairs with the fence in
        // `waiting`. A store would do (a waker's clear follows the very number it read, so it cannot
        // come after this one), but loom sees that only of a swap, and who parks can afford it.
        slot.waiting.swap(self.next, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.next
    }
}

/// Whether the sleeper of a number made by [`ParkNumbers::begin_for`] waits for room.
pub(crate) fn wants_room(number: u64) -> bool {
    number & 1 == 1
}

/// Before steps 1 and 2, in kinds with many slots: whoever wakes looks at one mask instead of at every
/// slot. Only the owner of the slot changes its bit. A waker that misses the bit published before it
/// was set, so the look that follows `begin` sees the publication: the argument of `begin`, one word
/// earlier. A bit that a killed owner leaves costs wakers a look at its slot.
pub(crate) fn set_bit(parked: &AtomicU64, bit: u64) {
    // SeqCst: pairs with the load in `anybody`.
    parked.fetch_or(bit, Ordering::SeqCst);
}

/// The owner of the slot sleeps no more, or has just got the slot.
pub(crate) fn clear_bit(parked: &AtomicU64, bit: u64) {
    parked.fetch_and(!bit, Ordering::SeqCst);
}

/// After a SeqCst publication: the slots whose owners may sleep.
#[inline]
pub(crate) fn anybody(parked: &AtomicU64) -> u64 {
    seqcst_store_load();
    load_seqcst(parked)
}

/// The sleeper leaves, ready or not: nobody needs to ring it.
#[inline]
pub(crate) fn end(slot: &Slot) {
    // Relaxed: a waker that still sees the number rings once too often. A swap as in `begin`.
    slot.waiting.swap(0, Ordering::Relaxed);
}

/// Steps 2 and 3 of the waker, after it published: the park number of a sleeper that may have
/// missed it, or 0.
#[inline]
pub(crate) fn waiting(slot: &Slot) -> u64 {
    fence(Ordering::SeqCst);
    // Relaxed: the fence above orders it after the publication; pairs with the fence in `begin`.
    slot.waiting.load(Ordering::Relaxed)
}

/// Steps 2 and 3 of a waker that is not attached, after it marked the region as removed: park number and
/// tag of a sleeper that may have missed the mark. Nobody gets a slot of a region that is so marked, so
/// whose tag it is, its owner sleeps by that number or looks after this, and then sees the mark.
#[inline]
pub(crate) fn asleep(slot: &Slot) -> Option<(u64, u64)> {
    let number = waiting(slot);
    let tag = slot.tag.load(Ordering::SeqCst);
    (number != 0 && tag != 0).then_some((number, tag))
}

/// Step 5 of the waker, only after it rang: takes down the number it rang for, and no other. A
/// waker killed before this leaves the number standing for the next waker.
pub(crate) fn rung(slot: &Slot, number: u64) {
    // Relaxed on failure: a later number belongs to a later park.
    let _ = slot.waiting.compare_exchange(number, 0, Ordering::SeqCst, Ordering::Relaxed);
}
