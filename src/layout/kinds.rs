//! The kind areas: what each kind of object keeps behind the slots.

use super::{Shared, zeros};
use crate::sync::AtomicU64;

/// Words of a ring that only the producer (or the next one, on attach) writes.
#[repr(C, align(128))]
#[derive(Debug)]
pub(crate) struct RingProducerLine {
    /// Free-running count of bytes published.
    pub(crate) tail: AtomicU64,
    /// The tag whose records are not ended yet; 0 when the stream is at rest.
    pub(crate) writer: AtomicU64,
    /// Where the tail stands once the end record being written is published.
    pub(crate) ending: AtomicU64,
    pad: [AtomicU64; 13],
}

/// Words of a ring that only the consumer writes.
#[repr(C, align(128))]
#[derive(Debug)]
pub(crate) struct RingConsumerLine {
    /// Free-running count of bytes released.
    pub(crate) head: AtomicU64,
    /// The producer tag whose end was delivered last.
    pub(crate) ended: AtomicU64,
    /// The consumer tag that closed its end last.
    pub(crate) closed: AtomicU64,
    pad: [AtomicU64; 13],
}

/// The kind area of a ring.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct RingIndices {
    /// Written by the producer.
    pub(crate) producer: RingProducerLine,
    /// Written by the consumer.
    pub(crate) consumer: RingConsumerLine,
}

/// The kind area of a bytes segment.
#[repr(C, align(128))]
#[derive(Debug)]
pub(crate) struct BytesLine {
    /// Raised by every `notify`.
    pub(crate) version: AtomicU64,
    pad: [AtomicU64; 15],
}

/// Slots of a kind whose endpoints are all alike; a lock has one owner bit for each.
pub(crate) const SEATS: usize = 48;

/// The word of a reader-writer lock; `rwlock/word.rs` has its bits.
#[repr(C, align(128))]
#[derive(Debug)]
pub(crate) struct LockLine {
    /// Owners, mode, hint, poison, count of reapings and hints.
    pub(crate) word: AtomicU64,
    pad: [AtomicU64; 15],
}

/// What the endpoint in the slot of the same number says of its part in a lock. Only the owner of the
/// slot writes it.
#[repr(C, align(128))]
#[derive(Debug)]
pub(crate) struct LockSeat {
    /// The tag of an endpoint that waits to write, else 0.
    pub(crate) wants: AtomicU64,
    /// When it last got the lock, in nanoseconds since the epoch; 0 never. For people.
    pub(crate) since: AtomicU64,
    /// Guards that were left while views of the bytes live on. For people.
    pub(crate) kept: AtomicU64,
    pad: [AtomicU64; 13],
}

/// The kind area of a lock, and the first part of a value's.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct LockArea {
    pub(crate) line: LockLine,
    pub(crate) seats: [LockSeat; SEATS],
}

/// Which buffer of a value holds the latest one.
#[repr(C, align(128))]
#[derive(Debug)]
pub(crate) struct VersionLine {
    /// Raised by every set; the lowest bit names the buffer that holds the value. 0: never set.
    pub(crate) version: AtomicU64,
    pad: [AtomicU64; 15],
}

/// One of the two buffers of a value. Written under the lock, and only while the version names the
/// other one.
#[repr(C, align(128))]
#[derive(Debug)]
pub(crate) struct BufferLine {
    /// Where its bytes begin in the file.
    pub(crate) offset: AtomicU64,
    /// Bytes that it can hold.
    pub(crate) capacity: AtomicU64,
    /// Bytes that it holds.
    pub(crate) len: AtomicU64,
    /// What they are: the tag of a record.
    pub(crate) tag: AtomicU64,
    pad: [AtomicU64; 12],
}

/// The kind area of a value.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct ValueArea {
    pub(crate) lock: LockArea,
    pub(crate) version: VersionLine,
    pub(crate) buffers: [BufferLine; 2],
}

/// The kind area of an array: bytes under a lock that can be awaited, too.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct ArrayArea {
    pub(crate) lock: LockArea,
    pub(crate) bytes: BytesLine,
}

/// The kind area of a shared int, float or bool.
#[repr(C, align(128))]
#[derive(Debug)]
pub(crate) struct ScalarLine {
    /// The bits of the number.
    pub(crate) value: AtomicU64,
    /// Raised after every change.
    pub(crate) version: AtomicU64,
    pad: [AtomicU64; 14],
}

#[allow(unsafe_code, reason = "the marker that the casts in region/map.rs rely on")]
mod shared {
    use super::*;
    // SAFETY: repr(C), two structs of atomics.
    unsafe impl Shared for RingIndices {}
    // SAFETY: repr(C), atomics and arrays of atomics only.
    unsafe impl Shared for BytesLine {}
    // SAFETY: repr(C), structs of atomics and arrays of them.
    unsafe impl Shared for LockArea {}
    // SAFETY: repr(C), structs of atomics and arrays of them.
    unsafe impl Shared for ValueArea {}
    // SAFETY: repr(C), structs of atomics and arrays of them.
    unsafe impl Shared for ArrayArea {}
    // SAFETY: repr(C), atomics and arrays of atomics only.
    unsafe impl Shared for ScalarLine {}
}

#[allow(dead_code, reason = "tests and loom models only")]
impl RingIndices {
    pub(crate) fn new() -> Self {
        let word = || AtomicU64::new(0);
        RingIndices {
            producer: RingProducerLine {
                tail: word(),
                writer: word(),
                ending: word(),
                pad: zeros(),
            },
            consumer: RingConsumerLine {
                head: word(),
                ended: word(),
                closed: word(),
                pad: zeros(),
            },
        }
    }
}

#[allow(dead_code, reason = "tests and loom models only")]
impl LockLine {
    pub(crate) fn new() -> Self {
        LockLine { word: AtomicU64::new(0), pad: zeros() }
    }
}

#[allow(dead_code, reason = "tests and loom models only")]
impl VersionLine {
    pub(crate) fn new() -> Self {
        VersionLine { version: AtomicU64::new(0), pad: zeros() }
    }
}

#[allow(dead_code, reason = "tests and loom models only")]
impl BufferLine {
    pub(crate) fn new() -> Self {
        let word = || AtomicU64::new(0);
        BufferLine { offset: word(), capacity: word(), len: word(), tag: word(), pad: zeros() }
    }
}

#[cfg(not(ringspan_loom))]
const _: () = {
    use std::mem::{offset_of, size_of};
    assert!(size_of::<RingIndices>() == 256 && offset_of!(RingIndices, consumer) == 128);
    assert!(
        offset_of!(RingProducerLine, writer) == 8 && offset_of!(RingProducerLine, ending) == 16
    );
    assert!(offset_of!(RingConsumerLine, ended) == 8 && offset_of!(RingConsumerLine, closed) == 16);
    assert!(size_of::<BytesLine>() == 128);
    assert!(size_of::<LockLine>() == 128 && size_of::<LockSeat>() == 128);
    assert!(offset_of!(LockSeat, since) == 8 && offset_of!(LockSeat, kept) == 16);
    assert!(size_of::<LockArea>() == 6272 && offset_of!(LockArea, seats) == 128);
    assert!(size_of::<ValueArea>() == 6656 && offset_of!(ValueArea, version) == 6272);
    assert!(offset_of!(ValueArea, buffers) == 6400);
    assert!(offset_of!(BufferLine, capacity) == 8 && offset_of!(BufferLine, len) == 16);
    assert!(size_of::<BufferLine>() == 128 && offset_of!(BufferLine, tag) == 24);
    assert!(size_of::<ArrayArea>() == 6400 && offset_of!(ArrayArea, bytes) == 6272);
    assert!(size_of::<ScalarLine>() == 128 && offset_of!(ScalarLine, version) == 8);
};
