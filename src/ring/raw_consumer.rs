//! The consumer's end of the ring algorithm: peek, release, and each end of a stream once.
//!
//! A record is read again until it is released, also by the consumer after a killed one: at least
//! once. An end is different: `ended` names the last producer whose end was taken, and is stored
//! before the head moves on. So each end is taken exactly once while this consumer lives, and at
//! most once if it is killed in between: the next one skips it.
#![allow(unsafe_code, reason = "lends a published message as a slice")]

use std::slice;

use super::raw::{RingMemory, step};
use super::raw_frame::{Damage, END_TOTAL, EndReason, Flaw, Frame, Geometry, HEAD, total};
use super::raw_quota::Tally;
use crate::sync::Ordering;

/// A published message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    start: u64,
    len: u32,
    tag: u8,
    flags: u8,
}

impl Record {
    /// Bytes of payload.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    /// What the payload is, as the codec says.
    #[inline]
    pub(crate) fn tag(&self) -> u8 {
        self.tag
    }

    /// The flags of the caller of `commit`; the two low bits are 0.
    #[inline]
    #[cfg(test)]
    pub(crate) fn flags(&self) -> u8 {
        self.flags
    }

    /// The cursor behind the record: to peek on from, to release up to.
    #[inline]
    pub(crate) fn next(&self) -> u64 {
        self.start.wrapping_add(total(u64::from(self.len)))
    }
}

/// The end of a producer's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    start: u64,
    reason: EndReason,
    tag: u64,
}

impl End {
    /// Whether it was closed or its producer died.
    pub(crate) fn reason(&self) -> EndReason {
        self.reason
    }

    /// The producer whose stream it was.
    pub(crate) fn tag(&self) -> u64 {
        self.tag
    }
}

/// What stands at a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Item {
    /// A message.
    Data(Record),
    /// An end, to be passed to [`RawConsumer::take_end`], which tells whether it is news.
    End(End),
}

/// The consuming end. One per ring at a time: the caller holds the role.
#[derive(Debug)]
pub(crate) struct RawConsumer {
    memory: RingMemory,
    /// What the shared head says; ours alone, never read back.
    head: u64,
    /// The producer's tail when last looked at.
    tail: u64,
    /// What the shared `ended` says; ours alone, never read back.
    ended: u64,
    /// What counts against the quota, once somebody has asked.
    tally: Option<Tally>,
}

impl RawConsumer {
    /// Takes the role over: reads both indices and the record at the head, and checks them.
    pub(crate) fn new(memory: RingMemory) -> Result<Self, Damage> {
        let indices = memory.indices();
        // Acquire: pairs with the Release store in `release` by the consumer before us.
        let head = indices.consumer.head.load(Ordering::Acquire);
        // Acquire: pairs with the Release store in `note_end` by the consumer before us.
        let ended = indices.consumer.ended.load(Ordering::Acquire);
        // Acquire: pairs with the Release stores of `tail` in `RawProducer`.
        let tail = indices.producer.tail.load(Ordering::Acquire);
        memory.geometry().check_indices(head, tail)?;
        let mut this = RawConsumer { memory, head, tail, ended, tally: None };
        this.peek()?;
        Ok(this)
    }

    /// The first record that is not released; `None` when nothing is published.
    #[inline]
    pub(crate) fn peek(&mut self) -> Result<Option<Item>, Damage> {
        self.peek_at(self.head)
    }

    /// The same for the message that nearly every look finds, in few words that stay in registers.
    /// `None`: all else, which is for [`RawConsumer::peek`] to say.
    #[inline(always)]
    pub(crate) fn peek_message(&mut self) -> Option<Record> {
        if self.tail == self.head {
            self.refresh().ok()?;
        }
        let available = self.tail.wrapping_sub(self.head);
        if available == 0 {
            return None;
        }
        // The one read of the header, as in `peek_at`.
        let word = self.memory.word(self.head);
        let (len, tag, flags) = self.memory.geometry().data_frame(word, self.head, available)?;
        Some(Record { start: self.head, len, tag, flags })
    }

    /// The record at a cursor: the head, or [`Record::next`] of one that is not released. To take
    /// several, peek on and release once.
    #[inline]
    pub(crate) fn peek_at(&mut self, cursor: u64) -> Result<Option<Item>, Damage> {
        let mut available = self.tail.wrapping_sub(cursor);
        if available == 0 {
            self.refresh()?;
            available = self.tail.wrapping_sub(cursor);
            if available == 0 {
                return Ok(None);
            }
        }
        // The one read of the header; everything after works on the copy.
        let word = self.memory.word(cursor);
        match self.memory.geometry().frame(word, cursor, available)? {
            Frame::Data { len, tag, flags } => {
                Ok(Some(Item::Data(Record { start: cursor, len, tag, flags })))
            }
            Frame::End => self.end_at(cursor).map(Some),
            Frame::Filler => self.behind_filler(cursor, available).map(Some),
        }
    }

    /// A filler is followed by a record at the start of the ring, published with it.
    #[cold]
    fn behind_filler(&self, cursor: u64, available: u64) -> Result<Item, Damage> {
        let geometry = self.memory.geometry();
        let room = geometry.room(cursor);
        let start = cursor.wrapping_add(room);
        let word = self.memory.word(start);
        match geometry.frame(word, start, available - room)? {
            Frame::Data { len, tag, flags } => Ok(Item::Data(Record { start, len, tag, flags })),
            Frame::End => self.end_at(start),
            // Refused by `frame` already: at the start of the ring there is none.
            Frame::Filler => Err(Damage::Record { offset: 0, word, flaw: Flaw::Filler }),
        }
    }

    #[cold]
    fn end_at(&self, start: u64) -> Result<Item, Damage> {
        let reason = EndReason::from_code(self.memory.word(start.wrapping_add(8)));
        let tag = self.memory.word(start.wrapping_add(16));
        match reason {
            Some(reason) if tag != 0 => Ok(Item::End(End { start, reason, tag })),
            _ => {
                let offset = self.memory.geometry().position(start);
                Err(Damage::Record { offset, word: self.memory.word(start), flaw: Flaw::End })
            }
        }
    }

    /// Gives the ring back to the producer up to a cursor ([`Record::next`]). The caller fences
    /// and looks whom to wake. A cursor that is not ahead, or beyond the tail, changes nothing.
    #[inline]
    pub(crate) fn release(&mut self, cursor: u64) {
        if cursor.wrapping_sub(self.head) > self.tail.wrapping_sub(self.head) {
            debug_assert!(false, "a cursor outside of what is published");
            return;
        }
        if self.tally.is_some() {
            self.uncount(cursor);
        }
        step();
        // Release: pairs with the Acquire loads of `head` in `RawProducer`: our reads are done.
        self.memory.indices().consumer.head.store(cursor, Ordering::Release);
        self.head = cursor;
    }

    /// Takes off what is about to be released, while it is still there.
    #[cold]
    fn uncount(&mut self, cursor: u64) {
        let Some(tally) = &mut self.tally else { return };
        let ahead = cursor.wrapping_sub(self.head) > tally.to().wrapping_sub(self.head);
        let to = if ahead { cursor } else { tally.to() };
        if tally.count(&self.memory, cursor, to).is_err() {
            self.tally = None; // whoever asks again is told
        }
    }

    /// What everything published and not released counts against the quota. Looks at the shared tail.
    #[cfg(any(test, feature = "python"))]
    pub(crate) fn used(&mut self) -> Result<u64, Damage> {
        self.refresh()?;
        let tally = self.tally.get_or_insert(Tally::new(self.head));
        tally.count(&self.memory, self.head, self.tail)?;
        Ok(tally.sum())
    }

    /// Takes an end that stands at the head (all before it is released): notes it, then releases
    /// it. `false` if that producer's end was taken before; then peek on. Either way room was
    /// given back, as by [`RawConsumer::release`].
    pub(crate) fn take_end(&mut self, end: &End) -> bool {
        let news = end.tag != self.ended;
        if news {
            self.note_end(end.tag);
        }
        self.release(end.start.wrapping_add(END_TOTAL));
        news
    }

    /// Notes that the end of `tag` was told: an end record of it that comes later is no news.
    /// Only for the tag of an end record or one of which [`RawConsumer::cut_short`] was true,
    /// since only the last tag is kept.
    pub(crate) fn note_end(&mut self, tag: u64) {
        step();
        // Release: pairs with the Acquire load in `new`. Comes before the head moves.
        self.memory.indices().consumer.ended.store(tag, Ordering::Release);
        self.ended = tag;
    }

    /// The producer whose stream has no end yet; 0 for none.
    pub(crate) fn writer(&self) -> u64 {
        // Acquire: pairs with the Release stores in `RawProducer::open_stream` and `rest`.
        self.memory.indices().producer.writer.load(Ordering::Acquire)
    }

    /// Whether the stream of `dead`, a producer proven dead, is drained and has no end: the caller
    /// then notes and tells it. When it is `false` and [`RawConsumer::is_drained`] is `false` too,
    /// peek on: the end, which a successor may have written just now, is in what is published.
    pub(crate) fn cut_short(&mut self, dead: u64) -> Result<bool, Damage> {
        if self.peek()?.is_some() || dead == 0 || dead == self.ended {
            return Ok(false);
        }
        let words = &self.memory.indices().producer;
        // Acquire: pairs with the Release stores in `RawProducer::open_stream`: `ending` is as
        // new, and in `RawProducer::rest`: an end that a successor wrote is in the tail.
        if words.writer.load(Ordering::Acquire) != dead {
            self.refresh()?;
            return Ok(false);
        }
        // Relaxed: ordered by the load before. A newer value, of a successor that is writing the
        // end, is beyond our head too.
        Ok(words.ending.load(Ordering::Relaxed) != self.head)
    }

    /// The producer tag whose end was told last.
    pub(crate) fn ended(&self) -> u64 {
        self.ended
    }

    /// Whether everything up to the tail that was looked at last is released.
    pub(crate) fn is_drained(&self) -> bool {
        self.tail == self.head
    }

    /// Says that the consumer `tag` takes no more.
    pub(crate) fn close(&mut self, tag: u64) {
        step();
        // Release: pairs with the Acquire load in `RawProducer::closed_by`.
        self.memory.indices().consumer.closed.store(tag, Ordering::Release);
    }

    /// The cursor of the first record that is not released.
    #[inline]
    #[cfg(test)]
    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// Bytes published and not released, headers and fillers included. Looks at the shared tail.
    #[cfg(test)]
    pub(crate) fn len(&mut self) -> Result<u64, Damage> {
        self.refresh()?;
        Ok(self.tail.wrapping_sub(self.head))
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.memory.geometry()
    }

    /// The bytes of a message that is not released; else none.
    #[inline]
    pub(crate) fn slice(&self, record: &Record) -> &[u8] {
        let held = record.next().wrapping_sub(self.head) <= self.tail.wrapping_sub(self.head);
        let len = if held { record.len() } else { 0 };
        let (at, len) = self.memory.span(record.start.wrapping_add(HEAD), len);
        // SAFETY: in bounds (`span`), mapped file memory, so initialised. Published and not
        // released (`held`; releasing takes `&mut self`), so the protocol lets nobody write
        // there. A process of the same user that breaks it there is the one agreement that the
        // crate states (docs: trust); `copy_to` and `append_to` do without it.
        unsafe { slice::from_raw_parts(at.as_ptr(), len) }
    }

    /// Copies a message, cut at the length of `to`; how many bytes.
    #[inline]
    pub(crate) fn copy_to(&self, record: &Record, to: &mut [u8]) -> usize {
        let len = record.len().min(to.len());
        // SAFETY: `to` is a borrowed slice of at least `len` bytes; no slice of the payload can
        // be borrowed mutably with this end alive except by the producer, beyond the tail.
        unsafe { self.memory.copy_out(record.start.wrapping_add(HEAD), to.as_mut_ptr(), len) }
    }

    /// Appends a message to a vector.
    #[inline]
    pub(crate) fn append_to(&self, record: &Record, to: &mut Vec<u8>) {
        to.reserve(record.len());
        let free = to.spare_capacity_mut().as_mut_ptr().cast::<u8>();
        let from = record.start.wrapping_add(HEAD);
        // SAFETY: `reserve` made room for `record.len()` bytes of private heap.
        let copied = unsafe { self.memory.copy_out(from, free, record.len()) };
        // SAFETY: that many bytes behind the old length were just written.
        unsafe { to.set_len(to.len() + copied) };
    }

    /// Looks at the shared tail. It may only have grown, and never past a capacity.
    #[inline]
    fn refresh(&mut self) -> Result<(), Damage> {
        // Acquire: pairs with the Release stores of `tail` in `RawProducer`: the records are
        // there.
        let tail = self.memory.indices().producer.tail.load(Ordering::Acquire);
        self.memory.geometry().check_indices(self.head, tail)?;
        if tail.wrapping_sub(self.head) < self.tail.wrapping_sub(self.head) {
            let capacity = self.memory.geometry().capacity();
            return Err(Damage::Indices { head: self.head, tail, capacity });
        }
        self.tail = tail;
        Ok(())
    }
}
