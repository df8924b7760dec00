//! Who holds a lock: a look from the side, for people and their tools.

use super::core::{Core, LockMode};
use super::word::{Word, owner_bit};
use crate::error::Fault;
use crate::layout::{LockArea, Slot};
use crate::notify::shared::Shared;
use crate::notify::slots;
use crate::region::Region;
use crate::sync::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A handle that holds a lock, as it described itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// Its process, as that process's own pid namespace counts; 0 in the moment before it said so.
    pub pid: u32,
    /// The random name of its attachment.
    pub tag: u64,
    /// How it holds the lock.
    pub mode: LockMode,
    /// When it got it (the first of its readers), some milliseconds coarse.
    pub since: Option<SystemTime>,
    /// Guards that Python code has left while views of the bytes live on; the lock is given back with
    /// the last view.
    pub kept_by_views: u64,
}

/// What a handle of a lock, a value or a scalar holds and has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandleStat {
    /// Handles that are attached, in all processes.
    pub attached: usize,
    /// Times this handle went to sleep.
    pub parks: u64,
    /// Sleepers that this handle woke.
    pub rings: u64,
    /// Connections to the doors of others; held while somebody waits on this handle, and while a doorbell is
    /// asked for. One at a door at which its owner has not looked yet stays for the next wait: closed, it
    /// would stand there all the same.
    pub connections: usize,
    /// Connections of others at our door.
    pub inbound: usize,
    /// Process descriptors; held only while somebody waits on this handle.
    pub pidfds: usize,
    /// Doorbells of those whom this handle wakes again and again, eight at most.
    pub doorbells: usize,
}

impl Core {
    pub(crate) fn holders(&self) -> Vec<Holder> {
        of(&self.region, &self.area, self.word())
    }
}

/// Those whom the word names; for handles that are not attached, too.
pub(crate) fn of(region: &Region, area: &LockArea, word: Word) -> Vec<Holder> {
    let mode = if word.is_written() { LockMode::Write } else { LockMode::Read };
    let mut holders = Vec::new();
    for (index, slot) in region.slots().enumerate() {
        let tag = slot.tag.load(Ordering::SeqCst);
        if !word.has(owner_bit(index)) || tag == 0 {
            continue;
        }
        let seat = &area.seats[index];
        let since = match seat.since.load(Ordering::SeqCst) {
            0 => None,
            nanos => UNIX_EPOCH.checked_add(Duration::from_nanos(nanos)),
        };
        let kept_by_views = seat.kept.load(Ordering::SeqCst);
        let pid = slots::read_hints(slot, tag).map_or(0, |hints| hints.pid);
        holders.push(Holder { pid, tag, mode, since, kept_by_views });
    }
    holders
}

impl HandleStat {
    pub(crate) fn of(shared: &Shared) -> Result<Self, Fault> {
        shared.with(|endpoint| {
            let (held, counters) = (endpoint.held(), endpoint.counters);
            let taken = |slot: &&Slot| slot.tag.load(Ordering::SeqCst) != 0;
            HandleStat {
                attached: endpoint.region.slots().filter(taken).count(),
                parks: counters.parks,
                rings: counters.rings,
                connections: held.connections,
                inbound: held.inbound,
                pidfds: held.pidfds,
                doorbells: held.doorbells,
            }
        })
    }
}
