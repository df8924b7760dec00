//! One slot: free or taken, nothing in between, so there is no state in which a process can be
//! killed that others would have to wait for (`docs/models/role.pml`).

use crate::layout::Slot;
use crate::sync::{Ordering, fence};

/// Takes a free slot for `tag`; else says who has it.
pub(crate) fn claim(slot: &Slot, tag: u64) -> Result<(), u64> {
    slot.tag.compare_exchange(0, tag, Ordering::SeqCst, Ordering::SeqCst).map(drop)
}

/// Frees the slot of its owner `tag`. False: it is not (or no longer) ours, and nothing is touched.
pub(crate) fn release(slot: &Slot, tag: u64) -> bool {
    if slot.tag.load(Ordering::SeqCst) != tag {
        return false;
    }
    slot.waiting.store(0, Ordering::SeqCst);
    slot.tag.compare_exchange(tag, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
}

/// Frees the slot of an owner that is proven dead, leaving word that it died. Any number of reapers
/// may do this at once; true for the one that took it out.
///
/// The word is left by CAS from what stood there while `tag` was in the slot: a reaper that is
/// stopped here must not overwrite the word of a later death (`loom_a_late_reaper...`).
pub(crate) fn reap(slot: &Slot, tag: u64) -> bool {
    let before = slot.died.load(Ordering::SeqCst);
    if slot.tag.load(Ordering::SeqCst) != tag {
        return false;
    }
    // Refused: another reaper of this tag was faster, and the word stands.
    let _ = slot.died.compare_exchange(before, tag, Ordering::SeqCst, Ordering::SeqCst);
    slot.tag.compare_exchange(tag, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
}

/// The owner keeps its place for later, and wants nothing of the bytes until it calls [`rouse`]. It must
/// look for a removal after this: a remover that came before has seen it awake, and left it the bytes.
#[cfg(any(feature = "python", ringspan_loom))]
pub(crate) fn rest(slot: &Slot, tag: u64) {
    slot.resting.store(tag, Ordering::SeqCst);
    fence(Ordering::SeqCst);
}

/// The opposite. It must look for a removal after this, and not at the bytes then: a remover that came
/// before has seen it rest.
#[cfg(any(feature = "python", ringspan_loom))]
pub(crate) fn rouse(slot: &Slot) {
    slot.resting.store(0, Ordering::Relaxed); // Relaxed: the fence orders it before the look
    fence(Ordering::SeqCst);
}

/// For a remover after its mark, and for who has left: nobody in this slot wants the bytes.
pub(crate) fn rests(slot: &Slot) -> bool {
    fence(Ordering::SeqCst);
    let tag = slot.tag.load(Ordering::SeqCst);
    tag == 0 || slot.resting.load(Ordering::SeqCst) == tag
}

/// What the owner of a slot said of itself. A hint: nothing but text depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hints {
    pub(crate) pid: u32,
    pub(crate) start: u64,
    pub(crate) pid_ns: u64,
}

/// Leaves our hints in our slot; `hints_for` last, so that a reader who finds its tag there reads
/// what belongs to it.
pub(crate) fn write_hints(slot: &Slot, tag: u64, hints: Hints) {
    slot.hints_for.store(0, Ordering::SeqCst);
    slot.pid.store(hints.pid, Ordering::SeqCst);
    slot.start.store(hints.start, Ordering::SeqCst);
    slot.pid_ns.store(hints.pid_ns, Ordering::SeqCst);
    slot.hints_for.store(tag, Ordering::SeqCst);
}

/// The hints that belong to `tag`, if they are there.
pub(crate) fn read_hints(slot: &Slot, tag: u64) -> Option<Hints> {
    let valid = || slot.hints_for.load(Ordering::SeqCst) == tag && tag != 0;
    if !valid() {
        return None;
    }
    let hints = Hints {
        pid: slot.pid.load(Ordering::SeqCst),
        start: slot.start.load(Ordering::SeqCst),
        pid_ns: slot.pid_ns.load(Ordering::SeqCst),
    };
    valid().then_some(hints)
}
