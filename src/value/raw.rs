//! The value in its two buffers: the algorithm over versions, descriptors and bytes, without locks and
//! without waiting.
//!
//! The version says which buffer holds the value: the one of its lowest bit. A writer (one at a time,
//! under the lock) fills the other one and raises the version; killed anywhere before that it has
//! changed nothing that anybody reads. A reader copies, and keeps the copy only if the version has not
//! moved *at all* meanwhile: one step further, and the next writer may be in the buffer that it copied.
//!
//! ```text
//! writer                                     reader
//! fence(Release)                             v := version (Acquire)
//! descriptor and bytes of buffer v+1 & 1     descriptor and bytes of buffer v & 1 (Relaxed)
//! version := v+1                             fence(Acquire)
//!                                            version = v? else again
//! ```
//!
//! The fences pair: a reader that saw any word of the set after v+1 sees a version above v. Without the
//! writer's, its bytes may be seen before the version that came before them (`loom_value_tests.rs` has
//! the twin). This is a sequence lock of two slots, so that a reader is only disturbed by the second set
//! after it began. Source: Boehm, Can seqlocks get along with programming language memory models?, MSPC
//! 2012, section 5.

use crate::layout::BufferLine;
use crate::sync::{AtomicU64, Ordering, fence};

/// Bytes of the smallest buffer, and what every buffer is a multiple of: a page.
pub(crate) const LEAST: u64 = 4096;

/// Where the bytes lie.
pub(crate) trait Store {
    /// What can be wrong with it.
    type Fault;

    /// Whether so many bytes are there to be read, whatever the words of the region say.
    fn is_there(&self, offset: u64, len: u64) -> Result<(), Self::Fault>;

    /// Copies out; what is written meanwhile may come torn.
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Self::Fault>;

    /// Makes a place of `len` bytes at `from`, behind all that is in use.
    fn grow(&self, from: u64, len: u64) -> Result<(), Self::Fault>;

    /// Whether `len` bytes at `offset` may be a buffer.
    fn may_hold(&self, offset: u64, len: u64) -> bool;

    /// The reader has no memory for a copy.
    fn no_memory(&self, len: usize) -> Self::Fault;

    /// Whether `grow` failed for want of room.
    fn is_full(fault: &Self::Fault) -> bool;

    /// The descriptor of a buffer cannot be right.
    fn damaged(&self, what: &str) -> Self::Fault;
}

/// Where a value is copied to: gives room for so many bytes.
pub(crate) trait Sink {
    /// Exactly `len` bytes, of any content; `None`: there is no memory for it.
    fn room(&mut self, len: usize) -> Option<&mut [u8]>;
}

impl Sink for Vec<u8> {
    fn room(&mut self, len: usize) -> Option<&mut [u8]> {
        if len > self.len() {
            self.try_reserve_exact(len - self.len()).ok()?;
        }
        self.resize(len, 0);
        Some(self)
    }
}

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Read {
    /// The version at that time.
    pub(crate) version: u64,
    /// What the bytes are; `None`: nothing was ever set.
    pub(crate) tag: Option<u8>,
}

/// A set under way.
#[derive(Debug)]
pub(crate) struct Prepared {
    next: u64,
    /// Where its bytes go.
    pub(crate) offset: u64,
    len: u64,
    /// The place that the buffer had before, which nobody reads any more.
    pub(crate) left: Option<(u64, u64)>,
}

/// The words of a value.
#[derive(Debug)]
pub(crate) struct RawValue<'a, S> {
    pub(crate) version: &'a AtomicU64,
    pub(crate) buffers: &'a [BufferLine; 2],
    pub(crate) store: &'a S,
}

/// A snapshot of a descriptor.
#[derive(Debug, Clone, Copy)]
struct Descriptor {
    offset: u64,
    capacity: u64,
    len: u64,
    tag: u64,
}

impl Descriptor {
    fn end(self) -> u64 {
        self.offset.saturating_add(self.capacity)
    }
}

fn descriptor(line: &BufferLine) -> Descriptor {
    // Relaxed: the version and the fences decide whether it counts.
    Descriptor {
        offset: line.offset.load(Ordering::Relaxed),
        capacity: line.capacity.load(Ordering::Relaxed),
        len: line.len.load(Ordering::Relaxed),
        tag: line.tag.load(Ordering::Relaxed),
    }
}

impl<S: Store> RawValue<'_, S> {
    fn buffer(&self, version: u64) -> &BufferLine {
        &self.buffers[(version & 1) as usize]
    }

    pub(crate) fn version(&self) -> u64 {
        // SeqCst: the look of a sleeper, whose entry into the mask of the parked stands before it; and
        // Acquire for the bytes.
        self.version.load(Ordering::SeqCst)
    }

    /// Whether nothing was set since `version` was read; then what was copied after it is whole.
    fn stands(&self, version: u64) -> bool {
        // Pairs with the Release fence in `set`.
        fence(Ordering::Acquire);
        self.version.load(Ordering::Relaxed) == version // Relaxed: the fence above orders it
    }

    /// One attempt to read. `None`: a set came between, try again.
    pub(crate) fn try_read(&self, sink: &mut impl Sink) -> Result<Option<Read>, S::Fault> {
        let version = self.version();
        if version == 0 {
            return Ok(Some(Read { version, tag: None }));
        }
        let found = descriptor(self.buffer(version));
        // Before a length is believed, and room made for it.
        if !self.stands(version) {
            return Ok(None);
        }
        let (Ok(len), Ok(tag)) = (usize::try_from(found.len), u8::try_from(found.tag)) else {
            return Err(self.store.damaged(&format!("{found:?}")));
        };
        if found.len > found.capacity || !self.store.may_hold(found.offset, found.capacity) {
            return Err(self.store.damaged(&format!("{found:?}")));
        }
        self.store.is_there(found.offset, found.len)?; // before memory is asked for it
        let Some(room) = sink.room(len) else {
            return Err(self.store.no_memory(len));
        };
        self.store.read(found.offset, room)?;
        Ok(self.stands(version).then_some(Read { version, tag: Some(tag) }))
    }

    /// Begins a set of `len` bytes: finds room in the buffer that nobody reads. The caller holds the lock
    /// for writing, writes the bytes there, and then publishes them.
    pub(crate) fn prepare(&self, len: u64) -> Result<Prepared, S::Fault> {
        let version = self.version.load(Ordering::SeqCst);
        // The word may hold anything; 0 would say that nothing was ever set.
        let next = if version == u64::MAX { 2 } else { version + 1 };
        // Pairs with the Acquire fence in `stands`: whoever sees a word written after this sees `version`.
        fence(Ordering::Release);
        let line = self.buffer(next);
        let old = descriptor(line);
        let other = descriptor(self.buffer(next ^ 1));
        self.check_rooms(old, other)?;
        if len <= old.capacity {
            return Ok(Prepared { next, offset: old.offset, len, left: None });
        }
        // What a killed setter left behind the two is used again.
        let offset = old.end().max(other.end());
        let room = self.make_room(offset, len)?;
        // Killed between these, the buffer has a place and no room. Release, here and below: in this order,
        // also to who comes after us; pairs with the lock.
        line.capacity.store(0, Ordering::Relaxed);
        line.offset.store(offset, Ordering::Release);
        line.capacity.store(room, Ordering::Release);
        let left = (old.capacity > 0).then_some((old.offset, old.capacity));
        Ok(Prepared { next, offset, len, left })
    }

    /// Room that grows by doubling, so that it seldom has to; where that is not to be had, just enough.
    fn make_room(&self, offset: u64, len: u64) -> Result<u64, S::Fault> {
        let enough = len.checked_next_multiple_of(LEAST).unwrap_or(len);
        let room = len.checked_next_power_of_two().unwrap_or(enough).max(LEAST);
        match self.store.grow(offset, room) {
            Ok(()) => Ok(room),
            Err(fault) if S::is_full(&fault) && enough < room => {
                self.store.grow(offset, enough).map(|()| enough)
            }
            Err(fault) => Err(fault),
        }
    }

    /// Ends a set whose bytes are written; the version afterwards.
    pub(crate) fn publish(&self, prepared: &Prepared, tag: u8) -> u64 {
        let line = self.buffer(prepared.next);
        // Relaxed: the store of the version below publishes them.
        line.len.store(prepared.len, Ordering::Relaxed);
        line.tag.store(tag.into(), Ordering::Relaxed);
        // SeqCst: Release for the bytes, and it stands before the load of the mask of the parked.
        self.version.store(prepared.next, Ordering::SeqCst);
        prepared.next
    }

    /// Both buffers lie where buffers may lie, and not in one another: or a set would write over what it
    /// must not.
    fn check_rooms(&self, ours: Descriptor, other: Descriptor) -> Result<(), S::Fault> {
        // Whatever the header says of the length.
        self.store.is_there(ours.offset, ours.capacity)?;
        self.store.is_there(other.offset, other.capacity)?;
        let apart = ours.end() <= other.offset || other.end() <= ours.offset;
        let held = |room: Descriptor| self.store.may_hold(room.offset, room.capacity);
        if held(ours) && held(other) && (apart || ours.capacity == 0) {
            return Ok(());
        }
        Err(self.store.damaged(&format!("{ours:?} beside {other:?}")))
    }
}
