//! Framing, geometry and validation of the ring: arithmetic only, no memory touched. The memory is
//! in `raw.rs`, the two ends in `raw_producer.rs` and `raw_consumer.rs`.
//!
//! ```text
//! free-running byte counts      head ............ tail        (position = count mod capacity)
//! record, 8-byte aligned        [len u32 | tag u8 | flags u8 | pad u16 = 0][payload, padded to 8]
//! kind = flags & 3              0 data   1 end {reason u64, tag u64}   2 filler up to the wrap
//! ```
//!
//! A record never crosses the wrap; where it does not fit, a filler takes the rest of the ring.
//!
//! **An end record always fits.** [`end_need`] is what an end takes at a tail: 24 bytes, or the 8
//! or 16 left before the wrap and 24. Data is published only if that much stays free behind it;
//! the head only grows, so it stays free. Committing less than was reserved frees `d` bytes and
//! raises the need by at most `d`. Hence: less than that free means that an end was the last
//! record published.
//!
//! **A message of `max_message` fits at any offset of an empty ring.** With `t` its whole record,
//! the worst is a filler of `t - 8`, `t`, and 24 for an end: `2 t + 16 <= capacity`, so the largest
//! message is `capacity / 2 - 16`.
//!
//! After D. Vyukov's and M. Thompson's single-producer queues: free-running counters on lines of
//! their own, each side keeping a copy of the other's.

use std::fmt;

/// Bytes of a record's header.
pub(super) const HEAD: u64 = 8;
/// Bytes of an end record, header included.
pub(super) const END_TOTAL: u64 = 24;
/// The most that an end record can need, filler included.
pub(super) const END_WORST: u64 = END_TOTAL + 16;
/// Smallest and largest capacity in bytes.
pub(crate) const MIN_CAPACITY: u64 = 4096;
pub(crate) const MAX_CAPACITY: u64 = 1 << 40;

const KIND: u8 = 3;
const DATA: u8 = 0;
const END: u8 = 1;
const FILLER: u8 = 2;
/// Bits that are zero in the header of a data record: the kind and the padding.
const NOT_DATA: u64 = 0xffff << 48 | (KIND as u64) << 40;

/// Header word of a data record; the two kind bits of `flags` are ours and are cleared.
#[inline]
pub(super) fn data_word(len: u32, tag: u8, flags: u8) -> u64 {
    u64::from(len) | u64::from(tag) << 32 | u64::from(flags & !KIND) << 40
}

/// Header word of an end record.
pub(super) fn end_word() -> u64 {
    (END_TOTAL - HEAD) | u64::from(END) << 40
}

/// Header word of a filler of `total` bytes, 8 at least. `Geometry` keeps `total` within 32 bits.
pub(super) fn filler_word(total: u64) -> u64 {
    (total - HEAD) | u64::from(FILLER) << 40
}

/// Bytes that a record with `len` bytes of payload takes. `len` is below 2^33.
#[inline]
pub(super) fn total(len: u64) -> u64 {
    HEAD + ((len + 7) & !7)
}

/// What a validated header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame {
    Data { len: u32, tag: u8, flags: u8 },
    End,
    Filler,
}

/// What is wrong with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// No kind of record, or bits that are always zero.
    Kind,
    /// Longer than what was published, than `max_message`, or running over the wrap.
    Length,
    /// A filler that does not end at the wrap, or has nothing behind it.
    Filler,
    /// An end record of another size, with an unknown reason or without a tag.
    End,
}

/// Bytes in shared memory that no correct peer writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Damage {
    /// The two indices cannot both be right.
    Indices { head: u64, tail: u64, capacity: u64 },
    /// The record at this offset of the payload.
    Record { offset: u64, word: u64, flaw: Flaw },
    /// A stream without an end, and less room behind it than an end needs.
    NoRoomForEnd { head: u64, tail: u64 },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Indices { head, tail, capacity } => {
                write!(f, "head {head} and tail {tail} are impossible with {capacity} bytes")
            }
            Damage::Record { offset, word, flaw } => {
                let what = match flaw {
                    Flaw::Kind => "is of no known kind",
                    Flaw::Length => "is longer than it can be",
                    Flaw::Filler => "is a filler that does not lead to the wrap",
                    Flaw::End => "is a malformed end",
                };
                write!(f, "the record at payload offset {offset} (header {word:#018x}) {what}")
            }
            Damage::NoRoomForEnd { head, tail } => {
                write!(f, "no room is left for an end record (head {head}, tail {tail})")
            }
        }
    }
}

/// A capacity or `max_message` that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GeometryError {
    Capacity { asked: u64 },
    MaxMessage { asked: u64, limit: u64, capacity: u64 },
}

impl fmt::Display for GeometryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GeometryError::Capacity { asked } => write!(
                f,
                "a capacity of {asked} bytes; it is a power of two from {MIN_CAPACITY} to \
                 {MAX_CAPACITY}"
            ),
            GeometryError::MaxMessage { asked, limit, capacity } => write!(
                f,
                "max_message {asked}; a ring of {capacity} bytes takes 1 to {limit}, a larger \
                 capacity more"
            ),
        }
    }
}

/// The sizes of one ring, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    capacity: u64,
    max_message: u64,
    quota: Option<u64>,
}

impl Geometry {
    /// The capacity for a user's wish: the next power of two, [`MIN_CAPACITY`] at least.
    pub(crate) fn capacity_for(asked: u64) -> Result<u64, GeometryError> {
        asked
            .max(MIN_CAPACITY)
            .checked_next_power_of_two()
            .filter(|capacity| *capacity <= MAX_CAPACITY)
            .ok_or(GeometryError::Capacity { asked })
    }

    /// The largest `max_message` of a capacity: it fits at any offset of an empty ring, and its
    /// length and that of the filler before it fit 32 bits.
    pub(crate) fn limit(capacity: u64) -> u64 {
        (capacity / 2).saturating_sub(16).min(u64::from(u32::MAX) & !7)
    }

    /// Checks a capacity (an exact one, see [`Geometry::capacity_for`]) and a `max_message`;
    /// `None` is a quarter of the capacity.
    pub(crate) fn new(capacity: u64, max_message: Option<u64>) -> Result<Self, GeometryError> {
        Self::above(MIN_CAPACITY, capacity, max_message)
    }

    /// [`Geometry::new`] with another lower bound (64 or more); models shrink the ring by it.
    pub(super) fn above(
        minimum: u64,
        capacity: u64,
        max_message: Option<u64>,
    ) -> Result<Self, GeometryError> {
        let fits = usize::try_from(capacity).is_ok_and(|bytes| bytes <= isize::MAX as usize);
        if !capacity.is_power_of_two() || !(minimum..=MAX_CAPACITY).contains(&capacity) || !fits {
            return Err(GeometryError::Capacity { asked: capacity });
        }
        let limit = Self::limit(capacity);
        let max_message = max_message.unwrap_or_else(|| (capacity / 4).min(limit));
        if !(1..=limit).contains(&max_message) {
            return Err(GeometryError::MaxMessage { asked: max_message, limit, capacity });
        }
        Ok(Geometry { capacity, max_message, quota: None })
    }

    /// The same with a bound on what the messages in the ring count as; see `raw_quota.rs`.
    pub(crate) fn with_quota(self, quota: Option<u64>) -> Self {
        Geometry { quota, ..self }
    }

    /// Bytes of payload area.
    #[inline]
    pub(crate) fn capacity(self) -> u64 {
        self.capacity
    }

    /// The largest message in bytes.
    #[inline]
    pub(crate) fn max_message(self) -> u64 {
        self.max_message
    }

    /// What the messages in the ring may count as.
    #[inline]
    pub(crate) fn quota(self) -> Option<u64> {
        self.quota
    }

    /// Where in the payload area a count stands.
    #[inline]
    pub(super) fn position(self, count: u64) -> u64 {
        count & (self.capacity - 1)
    }

    /// Bytes from there to the wrap, 1 at least.
    #[inline]
    pub(super) fn room(self, count: u64) -> u64 {
        self.capacity - self.position(count)
    }

    /// Free bytes that an end record needs with the tail there.
    pub(super) fn end_need(self, tail: u64) -> u64 {
        let room = self.room(tail);
        if room >= END_TOTAL { END_TOTAL } else { room + END_TOTAL }
    }

    /// Free bytes that a message of `len` bytes needs with the tail there: filler, record, and
    /// what keeps an end record possible.
    pub(super) fn message_need(self, tail: u64, len: u64) -> u64 {
        let total = total(len);
        let room = self.room(tail);
        let filler = if total <= room { 0 } else { room };
        let taken = filler + total;
        taken + self.end_need(tail.wrapping_add(taken))
    }

    /// Both indices aligned and at most a capacity apart.
    pub(super) fn check_indices(self, head: u64, tail: u64) -> Result<(), Damage> {
        if (head | tail) & 7 == 0 && tail.wrapping_sub(head) <= self.capacity {
            return Ok(());
        }
        Err(Damage::Indices { head, tail, capacity: self.capacity })
    }

    /// Validates a header word that was read once, `available` published bytes before the tail.
    #[inline]
    pub(super) fn frame(self, word: u64, at: u64, available: u64) -> Result<Frame, Damage> {
        match self.data_frame(word, at, available) {
            Some((len, tag, flags)) => Ok(Frame::Data { len, tag, flags }),
            None => self.rare_frame(word, at, available),
        }
    }

    /// The same for a message; length, tag and flags. `None` for all else.
    #[inline(always)]
    pub(super) fn data_frame(self, word: u64, at: u64, available: u64) -> Option<(u32, u8, u8)> {
        let len = word & 0xffff_ffff;
        let limit = available.min(self.room(at));
        if word & NOT_DATA != 0 || total(len) > limit || len > self.max_message {
            return None;
        }
        let [l0, l1, l2, l3, tag, flags, _, _] = word.to_le_bytes();
        Some((u32::from_le_bytes([l0, l1, l2, l3]), tag, flags))
    }

    #[cold]
    fn rare_frame(self, word: u64, at: u64, available: u64) -> Result<Frame, Damage> {
        let [.., flags, pad0, pad1] = word.to_le_bytes();
        let total = total(word & 0xffff_ffff);
        let room = self.room(at);
        let damage = |flaw| Err(Damage::Record { offset: self.position(at), word, flaw });
        match flags & KIND {
            _ if pad0 | pad1 != 0 => damage(Flaw::Kind),
            DATA => damage(Flaw::Length),
            END if word != end_word() => damage(Flaw::End),
            END if total > available.min(room) => damage(Flaw::Length),
            END => Ok(Frame::End),
            // With nothing behind it no producer published it: that is done with a record. So
            // there is none at the start of the ring either, where it would be all of the ring.
            FILLER if word != filler_word(room) => damage(Flaw::Filler),
            FILLER if total >= available => damage(Flaw::Filler),
            FILLER => Ok(Frame::Filler),
            _ => damage(Flaw::Kind),
        }
    }
}

/// Why a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndReason {
    /// The producer closed it.
    Closed,
    /// The producer died; its successor says so.
    Died,
}

impl EndReason {
    pub(super) fn code(self) -> u64 {
        match self {
            EndReason::Closed => 1,
            EndReason::Died => 2,
        }
    }

    pub(super) fn from_code(code: u64) -> Option<Self> {
        [EndReason::Closed, EndReason::Died].into_iter().find(|reason| reason.code() == code)
    }
}
