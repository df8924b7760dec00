//! The producer's end of the ring algorithm: reserve, stage, publish, end.
//!
//! `writer` names the tag whose stream has no end yet, 0 for none. `ending == tail` says that
//! nothing is owed an end: the end stands before the tail, or nothing was written. The stores of
//! each act, in order; a kill between any two leaves one of these states to the next producer:
//!
//! ```text
//! first publication    ending := tail     writer := tag      tail := behind the records
//! end                  (record)           ending := behind   tail := behind   writer := 0
//! ```
#![allow(unsafe_code, reason = "lends the reserved bytes as a slice")]

use std::slice;

use super::raw::{RingMemory, step};
use super::raw_frame::{
    Damage, END_TOTAL, END_WORST, EndReason, Geometry, HEAD, data_word, end_word, filler_word,
    total,
};
use super::raw_quota::{Tally, largest};
use crate::sync::Ordering;

/// Room for one message, not published. It belongs to the end that gave it and is good until that
/// end stages something; dropping it gives the room back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reservation {
    start: u64,
    len: usize,
}

impl Reservation {
    /// Bytes reserved.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

/// Why [`RawProducer::reserve`] gave nothing. The ring is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReserveError {
    /// `needs` bytes must be free, `free` are; or it does not fit under the quota.
    Full { needs: u64, free: u64 },
    /// Longer than `limit`, which is `max_message` or what the quota leaves for one.
    TooLarge { limit: u64 },
    /// The peer, or somebody, wrote an index that cannot be.
    Damage(Damage),
}

impl From<Damage> for ReserveError {
    fn from(damage: Damage) -> Self {
        ReserveError::Damage(damage)
    }
}

/// The producing end. One per ring at a time: the caller holds the role.
#[derive(Debug)]
pub(crate) struct RawProducer {
    memory: RingMemory,
    tag: u64,
    /// `writer` names us: something of ours is published and has no end.
    begun: bool,
    /// Our end is in the ring.
    ended: bool,
    /// What the shared tail says; ours alone, never read back.
    published: u64,
    /// Behind the last staged record.
    tail: u64,
    /// The consumer's head when last looked at.
    head: u64,
    /// A record of up to so many bytes needs no look: it fits before the wrap and leaves what an
    /// end can need at most, and it fits under the quota.
    quick: u64,
    /// What counts against the quota, where the ring has one.
    tally: Option<Tally>,
}

impl RawProducer {
    /// Takes the role over: reads both indices and the record at the head, and checks them.
    pub(crate) fn new(memory: RingMemory, tag: u64) -> Result<Self, Damage> {
        let geometry = memory.geometry();
        let indices = memory.indices();
        // Acquire: pairs with the Release stores of `tail` by the producer before us.
        let tail = indices.producer.tail.load(Ordering::Acquire);
        // Acquire: pairs with the Release store in `RawConsumer::release`.
        let head = indices.consumer.head.load(Ordering::Acquire);
        geometry.check_indices(head, tail)?;
        if head != tail {
            // Nobody else writes before the tail, so the record stands still also if a live
            // consumer has gone past it since.
            geometry.frame(memory.word(head), head, tail.wrapping_sub(head))?;
        }
        let mut tally = geometry.quota().map(|_| Tally::new(head));
        if let Some(tally) = &mut tally {
            tally.count(&memory, head, tail)?;
        }
        let (begun, ended, published, quick) = (false, false, tail, 0);
        let mut this =
            RawProducer { memory, tag, begun, ended, published, tail, head, quick, tally };
        this.find_quick();
        Ok(this)
    }

    /// Ends the stream of a producer that died: `true` if its end record was written now. Call
    /// once, before the first reservation. Killed at any step, the next producer finishes it.
    pub(crate) fn begin(&mut self) -> Result<bool, Damage> {
        let words = &self.memory.indices().producer;
        // Acquire: pairs with the Release store of `writer` in `open_stream`: `ending` is as new.
        let writer = words.writer.load(Ordering::Acquire);
        // Relaxed: ordered by the load before.
        let owed = writer != 0 && words.ending.load(Ordering::Relaxed) != self.published;
        if writer == self.tag {
            self.begun = owed;
            return Ok(false);
        }
        if owed && !self.write_end(writer, EndReason::Died)? {
            return Err(Damage::NoRoomForEnd { head: self.head, tail: self.published });
        }
        if writer != 0 && !owed {
            self.rest();
        }
        Ok(owed)
    }

    /// Room for a message of `len` bytes, in one piece. Publishes nothing.
    #[inline]
    pub(crate) fn reserve(&mut self, len: usize) -> Result<Reservation, ReserveError> {
        let limit = self.memory.geometry().max_message();
        if len as u64 > limit {
            return Err(ReserveError::TooLarge { limit });
        }
        match self.reserve_quickly(len) {
            Some(reservation) => Ok(reservation),
            None => self.reserve_slowly(len),
        }
    }

    /// The same where nothing has to be looked at, in few words that stay in registers. `None`: all else.
    #[inline(always)]
    pub(crate) fn reserve_quickly(&self, len: usize) -> Option<Reservation> {
        let fits = len as u64 <= self.memory.geometry().max_message();
        (fits && total(len as u64) <= self.quick).then_some(Reservation { start: self.tail, len })
    }

    #[cold]
    #[inline(never)]
    fn reserve_slowly(&mut self, len: usize) -> Result<Reservation, ReserveError> {
        let needs = self.needs(len);
        if needs > self.cached_free() || !self.is_in_quota(len)? {
            self.refresh()?;
            self.find_quick();
            let free = self.cached_free();
            if needs > free || !self.is_in_quota(len)? {
                return Err(self.refused(len, needs, free));
            }
        }
        let room = self.geometry().room(self.tail);
        let mut start = self.tail;
        if total(len as u64) > room {
            // Free and ours, as `needs` counts it; published with the record behind it.
            self.memory.set_word(start, filler_word(room));
            start = start.wrapping_add(room);
        }
        Ok(Reservation { start, len })
    }

    /// Why a message that found no room has none.
    fn refused(&self, len: usize, needs: u64, free: u64) -> ReserveError {
        let most = self.geometry().quota().map_or(Some(u64::MAX), largest);
        match most {
            Some(limit) if len as u64 <= limit => ReserveError::Full { needs, free },
            most => ReserveError::TooLarge { limit: most.unwrap_or(0) },
        }
    }

    /// Whether a message fits under the quota, as far as we know the head.
    fn is_in_quota(&mut self, len: usize) -> Result<bool, Damage> {
        let (Some(tally), Some(quota)) = (&mut self.tally, self.memory.geometry().quota()) else {
            return Ok(true);
        };
        tally.count(&self.memory, self.head, self.tail)?;
        Ok(tally.fits(len as u64, quota))
    }

    /// The bytes of a reservation, with whatever was in the ring before.
    #[inline]
    pub(crate) fn slice_mut(&mut self, reservation: &Reservation) -> &mut [u8] {
        let len = if self.is_good(reservation) { reservation.len } else { 0 };
        let (at, len) = self.memory.span(reservation.start.wrapping_add(HEAD), len);
        // SAFETY: in bounds (`span`), mapped file memory, so initialised. The bytes lie between
        // tail and head + capacity, where the protocol lets nobody but this producer write or
        // read; it is borrowed mutably for as long. A process of the same user that breaks the
        // protocol there is the one agreement that the crate states (docs: trust).
        unsafe { slice::from_raw_parts_mut(at.as_ptr(), len) }
    }

    /// The bytes of a reservation, to look at.
    pub(crate) fn slice(&self, reservation: &Reservation) -> &[u8] {
        let len = if self.is_good(reservation) { reservation.len } else { 0 };
        let (at, len) = self.memory.span(reservation.start.wrapping_add(HEAD), len);
        // SAFETY: as in `slice_mut`; nobody but this producer, which is borrowed, writes there.
        unsafe { slice::from_raw_parts(at.as_ptr(), len) }
    }

    /// Copies `bytes` into a reservation from its start, cut at its length; how many.
    #[inline]
    pub(crate) fn write(&mut self, reservation: &Reservation, bytes: &[u8]) -> usize {
        let len = bytes.len().min(reservation.len);
        self.memory.copy_in(reservation.start.wrapping_add(HEAD), &bytes[..len])
    }

    /// Makes the first `used` bytes of a reservation a message, to be published later. The two
    /// low bits of `flags` are dropped.
    #[inline]
    pub(crate) fn stage(&mut self, reservation: Reservation, used: usize, tag: u8, flags: u8) {
        debug_assert!(!self.ended, "a message after the end of the stream");
        debug_assert!(used <= reservation.len, "more used than reserved");
        let used = used.min(reservation.len);
        debug_assert!(self.is_good(&reservation), "a reservation from before another message");
        let start = reservation.start;
        // Fits: at most `max_message`, which is below 2^32.
        self.memory.set_word(start, data_word(used as u32, tag, flags));
        let next = start.wrapping_add(total(used as u64));
        let spent = next.wrapping_sub(self.tail);
        self.tail = next;
        if spent <= self.quick {
            self.quick -= spent;
        } else {
            self.find_quick();
        }
    }

    /// Publishes what is staged. The caller fences and looks whom to wake.
    #[inline]
    pub(crate) fn publish(&mut self) {
        if !self.begun {
            self.open_stream();
        }
        step();
        // Release: pairs with the Acquire load in `RawConsumer::refresh`; publishes the records.
        self.memory.indices().producer.tail.store(self.tail, Ordering::Release);
        self.published = self.tail;
    }

    /// [`RawProducer::stage`] and [`RawProducer::publish`].
    #[inline]
    pub(crate) fn commit(&mut self, reservation: Reservation, used: usize, tag: u8, flags: u8) {
        self.stage(reservation, used, tag, flags);
        self.publish();
    }

    /// Takes back what is staged and not published.
    pub(crate) fn rollback(&mut self) {
        self.tail = self.published;
        let counted = self.tally.as_ref().map_or(self.head, Tally::to);
        if counted.wrapping_sub(self.head) > self.tail.wrapping_sub(self.head) {
            self.tally = Some(Tally::new(self.head)); // counted anew when it is asked for
        }
        self.find_quick();
    }

    /// Publishes what is staged and ends our stream; `true` if an end was written now. It is not
    /// when it was before, and not for a stream without messages when less room is left than an
    /// end needs: another stream's end is then the last record, so the consumer has one to read.
    pub(crate) fn close(&mut self, reason: EndReason) -> Result<bool, Damage> {
        if self.ended {
            return Ok(false);
        }
        self.publish();
        let written = self.write_end(self.tag, reason)?;
        if !written && self.begun {
            return Err(Damage::NoRoomForEnd { head: self.head, tail: self.published });
        }
        self.ended = true;
        self.begun = false;
        Ok(written)
    }

    /// Publishes what is staged and gives the role up without an end.
    pub(crate) fn detach(&mut self) {
        self.publish();
        if self.begun {
            self.rest();
            self.begun = false;
        }
    }

    /// What everything published and not released (and what is staged) counts against the quota; 0
    /// where there is none. Looks at the shared head.
    #[cfg(any(test, feature = "python"))]
    pub(crate) fn used(&mut self) -> Result<u64, Damage> {
        self.refresh()?;
        Ok(self.tally.as_ref().map_or(0, Tally::sum))
    }

    /// Bytes published and not released, headers and fillers included. Looks at the shared head.
    #[cfg(test)]
    pub(crate) fn len(&mut self) -> Result<u64, Damage> {
        self.refresh()?;
        Ok(self.published.wrapping_sub(self.head))
    }

    /// Free bytes behind what is staged. Looks at the shared head.
    #[cfg(test)]
    pub(crate) fn free(&mut self) -> Result<u64, Damage> {
        self.refresh()?;
        self.find_quick();
        Ok(self.cached_free())
    }

    /// Free bytes with which a message of `len` bytes fits now; never more than the capacity for
    /// one up to `max_message`.
    pub(crate) fn needs(&self, len: usize) -> u64 {
        self.geometry().message_need(self.tail, len as u64)
    }

    /// Where the tail will stand once everything staged is published.
    pub(crate) fn staged_end(&self) -> u64 {
        self.tail
    }

    /// Something is staged and not published.
    #[inline]
    pub(crate) fn has_staged(&self) -> bool {
        self.tail != self.published
    }

    /// The consumer tag that closed its end last.
    pub(crate) fn closed_by(&self) -> u64 {
        // Acquire: pairs with the Release store in `RawConsumer::close`.
        self.memory.indices().consumer.closed.load(Ordering::Acquire)
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.memory.geometry()
    }

    /// Given at this tail, so nothing was staged since.
    #[inline]
    fn is_good(&self, reservation: &Reservation) -> bool {
        let skipped = reservation.start.wrapping_sub(self.tail);
        skipped == 0 || skipped == self.geometry().room(self.tail)
    }

    fn cached_free(&self) -> u64 {
        self.geometry().capacity() - self.tail.wrapping_sub(self.head)
    }

    fn find_quick(&mut self) {
        let room = self.geometry().room(self.tail);
        let left = match (&self.tally, self.geometry().quota()) {
            (Some(tally), Some(quota)) => tally.left(self.tail, quota),
            _ => u64::MAX,
        };
        self.quick = room.min(self.cached_free().saturating_sub(END_WORST)).min(left);
    }

    /// Looks at the shared head. It may only have grown, and never past what is published.
    fn refresh(&mut self) -> Result<(), Damage> {
        // Acquire: pairs with the Release store in `RawConsumer::release`: the consumer is done
        // with the bytes that are ours again.
        let head = self.memory.indices().consumer.head.load(Ordering::Acquire);
        let filled = self.published.wrapping_sub(head);
        if filled > self.published.wrapping_sub(self.head) || head & 7 != 0 {
            let capacity = self.geometry().capacity();
            return Err(Damage::Indices { head, tail: self.published, capacity });
        }
        if let Some(tally) = &mut self.tally {
            // Before the bytes of what was released are ours to write over.
            tally.count(&self.memory, head, self.tail)?;
        }
        self.head = head;
        Ok(())
    }

    /// Names us as the one whose stream has no end yet.
    #[cold]
    #[inline(never)]
    fn open_stream(&mut self) {
        if self.tail == self.published {
            return;
        }
        let words = &self.memory.indices().producer;
        step();
        // Relaxed: ordered by the Release below. Nothing is owed an end at this tail, whatever
        // an unfinished end left here.
        words.ending.store(self.published, Ordering::Relaxed);
        step();
        // Release: pairs with the Acquire loads in `begin` and `RawConsumer::cut_short`. The
        // Release store of `tail` that follows keeps it before the first record.
        words.writer.store(self.tag, Ordering::Release);
        self.begun = true;
    }

    /// Writes and publishes an end at the tail; `false` if there is no room.
    fn write_end(&mut self, tag: u64, reason: EndReason) -> Result<bool, Damage> {
        let need = self.geometry().end_need(self.tail);
        if need > self.cached_free() {
            self.refresh()?;
            if need > self.cached_free() {
                return Ok(false);
            }
        }
        let room = self.geometry().room(self.tail);
        let mut start = self.tail;
        if room < END_TOTAL {
            self.memory.set_word(start, filler_word(room));
            start = start.wrapping_add(room);
        }
        self.memory.set_word(start, end_word());
        self.memory.set_word(start.wrapping_add(8), reason.code());
        self.memory.set_word(start.wrapping_add(16), tag);
        let next = start.wrapping_add(END_TOTAL);
        let words = &self.memory.indices().producer;
        step();
        // Relaxed: ordered by the Release below: who sees the end published sees this too.
        words.ending.store(next, Ordering::Relaxed);
        step();
        // Release: pairs with the Acquire load in `RawConsumer::refresh`; publishes the end.
        words.tail.store(next, Ordering::Release);
        self.tail = next;
        self.published = next;
        self.find_quick();
        self.rest();
        Ok(true)
    }

    /// No stream is without an end.
    fn rest(&self) {
        step();
        // Release: pairs with the Acquire loads in `begin` and `RawConsumer::cut_short`.
        self.memory.indices().producer.writer.store(0, Ordering::Release);
    }
}
