//! The end of a region: removed by name, or (ephemeral ones) by the last one out, the next opener or
//! a sweep when all its users died. Every step may be killed and is repeated by whoever comes next.

use crate::error::Fault;
use crate::layout::{Kind, Slot};
use crate::notify::link::{self, Proof};
use crate::notify::slots;
use crate::notify::wake;
use crate::region::{Claim, Region};
use crate::sync::Ordering;
use crate::sys::door;
use crate::sys::fd;

/// Marks, rings everybody who sleeps, unlinks last. False: the name leads elsewhere by now.
pub(crate) fn remove(region: &Region) -> Result<bool, Fault> {
    let claim = region.claim()?;
    if !claim.named {
        return Ok(false);
    }
    // Before anything changes: without one more descriptor nobody could be rung.
    fd::take_spare().map_err(|err| region.os_fault("keeping a spare descriptor", &err))?;
    bury(region, &claim)?;
    Ok(true)
}

fn bury(region: &Region, claim: &Claim) -> Result<(), Fault> {
    region.mark_removed(claim);
    finish(region, claim)
}

/// What follows the mark. While the name is there somebody will repeat it, so it stays until all was done;
/// should descriptors be wanting for a knock, for whoever comes next.
fn finish(region: &Region, claim: &Claim) -> Result<(), Fault> {
    wake::knock_all(region)?;
    // Nobody comes to a region that is marked, and who looks at it without a place looks at the mark last.
    give_back_unused(region);
    reap_left(region);
    region.unlink(claim)
}

/// Of a region that was removed: takes out the dead, so that their doors go with the name. Where a dead owner
/// may leave more to mend than its slot, only once nobody is left who would have to mend it.
fn reap_left(region: &Region) {
    let all_free = region.slots().all(|slot| slot.tag.load(Ordering::SeqCst) == 0);
    if all_free || !(is_plain(region.kind()) || is_left_to(region, slots::rests)) {
        return;
    }
    let listening = door::listening();
    reap_where(region, |tag| !listening.contains(&tag));
}

/// Of a value that was removed: gives back what it grew by, once nobody is in it but who rests.
pub(crate) fn give_back_unused(region: &Region) {
    if region.kind() == Kind::Value
        && region.is_removed()
        && region.has_grown()
        && is_left_to(region, slots::rests)
    {
        region.give_back_grown();
    }
}

/// After leaving an ephemeral region: removes it when nobody else is in it.
pub(crate) fn remove_if_last(region: &Region) -> Result<bool, Fault> {
    if !region.is_ephemeral() {
        return Ok(false);
    }
    end(region, &region.claim()?)
}

/// Removes an ephemeral region whose users all died. Skips one that somebody holds the lock of.
pub(crate) fn sweep_if_dead(region: &Region) -> Result<bool, Fault> {
    if !region.is_ephemeral() || !was_used(region) {
        return Ok(false);
    }
    match region.try_claim()? {
        Some(claim) => end(region, &claim),
        None => Ok(false),
    }
}

/// Removes any region, ephemeral or not, in which nobody lives.
pub(crate) fn sweep_if_deserted(region: &Region) -> Result<bool, Fault> {
    match region.try_claim()? {
        Some(claim) => end(region, &claim),
        None => Ok(false),
    }
}

fn end(region: &Region, claim: &Claim) -> Result<bool, Fault> {
    if !claim.named || !is_deserted(region) {
        return Ok(false);
    }
    bury(region, claim)?;
    Ok(true)
}

/// What an opener does before it uses a region: finishes a removal that somebody began and did not
/// live to end, and removes an ephemeral region whose users all died. True: look for the name anew.
pub(crate) fn is_gone(region: &Region) -> Result<bool, Fault> {
    if region.is_removed() {
        let claim = region.claim()?; // a living remover has it until it is through
        if claim.named {
            finish(region, &claim)?; // a dead one may not have come to that
        }
        return Ok(true);
    }
    if !region.is_ephemeral() || !was_used(region) || !is_deserted(region) {
        return Ok(false);
    }
    Ok(end(region, &region.claim()?)? || region.is_nameless())
}

/// Somebody has been attached at some time. A region that is only just made is not deserted.
fn was_used(region: &Region) -> bool {
    let used = |word: &crate::sync::AtomicU64| word.load(Ordering::SeqCst) != 0;
    region.slots().any(|slot| used(&slot.tag) || used(&slot.hints_for) || used(&slot.died))
}

/// Every slot is free or its owner proven dead.
fn is_deserted(region: &Region) -> bool {
    is_left_to(region, |_| false)
}

/// The same but for slots which `spared` does not mind.
fn is_left_to(region: &Region, spared: impl Fn(&Slot) -> bool) -> bool {
    let mut listening = None;
    region.slots().all(|slot| {
        if spared(slot) {
            return true;
        }
        let tag = slot.tag.load(Ordering::SeqCst);
        // Only those that the kernel does not list are knocked at: a knock at the door of one that never
        // waits stands there for ever.
        let mut lives = |tag| listening.get_or_insert_with(door::listening).contains(tag);
        tag == 0 || (!lives(&tag) && matches!(link::prove(region, tag), Proof::Dead { .. }))
    })
}

/// Takes out the owners that are proven dead, where a dead owner leaves nothing to mend but its
/// slot; a lock has its own repair. Tags in `alive` are not knocked at.
pub(crate) fn reap_dead(region: &Region, alive: impl Fn(u64) -> bool) {
    if is_plain(region.kind()) {
        reap_where(region, |tag| !alive(tag));
    }
}

/// A dead owner leaves nothing to mend but its slot.
fn is_plain(kind: Kind) -> bool {
    matches!(kind, Kind::Bytes | Kind::Ring | Kind::Function)
}

fn reap_where(region: &Region, ask: impl Fn(u64) -> bool) {
    for (index, slot) in region.slots().enumerate() {
        let tag = slot.tag.load(Ordering::SeqCst);
        if tag != 0 && ask(tag) && matches!(link::prove(region, tag), Proof::Dead { .. }) {
            link::reap(region, index, tag);
        }
    }
}
