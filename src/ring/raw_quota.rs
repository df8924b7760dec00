//! The quota of a ring: a bound on what its messages count as, each for its payload and 4 bytes, below
//! the bytes that the ring has.
//!
//! Of all this only the bound stands in shared memory. What counts against it is what the records
//! between head and tail say, and each end keeps a sum of them: a record is added once, when it is
//! met, and taken off when the head goes past it, before anybody may write over it. A new end counts
//! what it finds. So there is no count that a kill could leave wrong.

use super::raw::RingMemory;
use super::raw_frame::{Damage, END_TOTAL, Frame, total};

/// What a message counts as besides its payload.
pub(crate) const BESIDES: u64 = 4;

/// What the data records between two counts, which stand between records, count as.
fn counted(memory: &RingMemory, from: u64, to: u64) -> Result<u64, Damage> {
    let geometry = memory.geometry();
    let (mut at, mut sum) = (from, 0);
    while at != to {
        // No frame is longer than what is left, and none shorter than its header.
        let taken = match geometry.frame(memory.word(at), at, to.wrapping_sub(at))? {
            Frame::Data { len, .. } => {
                sum += u64::from(len) + BESIDES;
                total(u64::from(len))
            }
            Frame::End => END_TOTAL,
            Frame::Filler => geometry.room(at),
        };
        at = at.wrapping_add(taken);
    }
    Ok(sum)
}

/// The sum of the records from one count to another.
#[derive(Debug)]
pub(super) struct Tally {
    from: u64,
    to: u64,
    sum: u64,
}

impl Tally {
    /// Of nothing yet.
    pub(super) fn new(at: u64) -> Self {
        Tally { from: at, to: at, sum: 0 }
    }

    /// Goes on to `tail`, then leaves what lies before `head`. Neither goes back.
    pub(super) fn count(
        &mut self,
        memory: &RingMemory,
        head: u64,
        tail: u64,
    ) -> Result<(), Damage> {
        self.sum += counted(memory, self.to, tail)?;
        self.to = tail;
        // Saturating: somebody may have written over a length since it was added.
        self.sum = self.sum.saturating_sub(counted(memory, self.from, head)?);
        self.from = head;
        Ok(())
    }

    /// What they count as.
    #[cfg(any(test, feature = "python"))]
    pub(super) fn sum(&self) -> u64 {
        self.sum
    }

    /// How far it has come.
    pub(super) fn to(&self) -> u64 {
        self.to
    }

    /// Whether a message fits under the quota beside them.
    pub(super) fn fits(&self, len: u64, quota: u64) -> bool {
        self.sum.saturating_add(len + BESIDES) <= quota
    }

    /// Bytes of records that surely fit under the quota with the tail there: a record takes more bytes
    /// than it counts as.
    pub(super) fn left(&self, tail: u64, quota: u64) -> u64 {
        quota.saturating_sub(self.sum).saturating_sub(tail.wrapping_sub(self.to))
    }
}

/// The largest message that fits under a quota; `None`: not even an empty one.
pub(super) fn largest(quota: u64) -> Option<u64> {
    quota.checked_sub(BESIDES)
}

/// What somebody sees of the sum who has no part in the ring.
#[cfg(all(not(ringspan_loom), feature = "python"))]
#[derive(Debug)]
pub(super) enum Glance {
    /// Nothing was released meanwhile.
    Still(u64),
    /// Records were released meanwhile, and perhaps written over.
    Moved(Option<u64>),
    Damaged(Damage),
}

#[cfg(all(not(ringspan_loom), feature = "python"))]
pub(super) fn glance(memory: &RingMemory) -> Glance {
    use crate::sync::{Ordering, fence};
    let words = memory.indices();
    // Acquire, the head first: pair with the Release stores of both ends; the records before the
    // tail are there.
    let head = words.consumer.head.load(Ordering::Acquire);
    let tail = words.producer.tail.load(Ordering::Acquire);
    let sum = memory.geometry().check_indices(head, tail);
    let sum = sum.and_then(|()| counted(memory, head, tail));
    // Acquire: the records were read before the head is looked at again. The producer writes over
    // them only behind its Acquire load of a later head.
    fence(Ordering::Acquire);
    if words.consumer.head.load(Ordering::Relaxed) != head {
        return Glance::Moved(sum.ok());
    }
    sum.map_or_else(Glance::Damaged, Glance::Still)
}
