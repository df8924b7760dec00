//! The memory of a ring: its index words and the only pointer accesses to its payload. No I/O, no
//! slots, no waiting. Framing is in `raw_frame.rs`, the two ends are in `raw_producer.rs` and
//! `raw_consumer.rs`.
#![allow(unsafe_code, reason = "reads and writes the payload, which a peer maps too, by pointer")]

use std::ptr::{self, NonNull};

use super::raw_frame::{Geometry, HEAD};
use crate::layout::RingIndices;
#[cfg(not(ringspan_loom))]
use crate::sync::{AtomicU64, Ordering};

/// Index words and payload area of one mapped ring. Every access is in bounds whatever the
/// arguments: counts are masked, lengths are cut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RingMemory {
    indices: NonNull<RingIndices>,
    base: NonNull<u8>,
    geometry: Geometry,
    /// What loom watches in place of the payload, one cell for 8 bytes.
    #[cfg(ringspan_loom)]
    cells: NonNull<loom::cell::UnsafeCell<()>>,
}

// SAFETY: two addresses and plain numbers. The index words are atomics; of the payload each end
// touches only what the indices give it (the ends are neither Clone nor Sync).
unsafe impl Send for RingMemory {}

impl RingMemory {
    /// The memory of a mapped ring.
    ///
    /// # Safety
    ///
    /// `indices` is valid as a shared reference, `base` is 8-byte aligned and valid for reads and
    /// writes of `geometry.capacity()` bytes, both until the last copy of the value (and the last
    /// end made from one) is gone: the handle that owns it keeps the mapping by an `Arc`. Other
    /// processes may map the same bytes and write them at any time; nothing here relies on what
    /// they write.
    #[cfg(not(ringspan_loom))]
    pub(crate) unsafe fn new(
        indices: NonNull<RingIndices>,
        base: NonNull<u8>,
        geometry: Geometry,
    ) -> Self {
        RingMemory { indices, base, geometry }
    }

    /// As above, for models: `cells` is an array of `capacity / 8` cells.
    #[cfg(ringspan_loom)]
    pub(super) unsafe fn new(
        indices: NonNull<RingIndices>,
        base: NonNull<u8>,
        cells: NonNull<loom::cell::UnsafeCell<()>>,
        geometry: Geometry,
    ) -> Self {
        RingMemory { indices, base, geometry, cells }
    }

    #[inline]
    pub(crate) fn geometry(&self) -> Geometry {
        self.geometry
    }

    #[inline]
    pub(super) fn indices(&self) -> &RingIndices {
        // SAFETY: valid as a shared reference by the contract of `new`; it is made of atomics,
        // so writes of the peer are allowed and every bit pattern is a value.
        unsafe { self.indices.as_ref() }
    }

    /// The address of the 8 bytes at a count.
    #[inline]
    fn word_at(&self, count: u64) -> NonNull<u64> {
        let offset = self.geometry.position(count) & !7;
        // SAFETY: masked, so at most capacity - 8, whatever the peer wrote into an index; the
        // capacity fits a usize (checked by `Geometry`).
        unsafe { self.base.add(offset as usize) }.cast()
    }

    /// One load of the 8 bytes at a count.
    #[inline]
    pub(super) fn word(&self, count: u64) -> u64 {
        self.watch(count, HEAD, false);
        let at = self.word_at(count);
        #[cfg(not(ringspan_loom))]
        {
            // SAFETY: in bounds and 8-byte aligned (the base is); an atomic may be read while a
            // misbehaving peer writes it.
            let word = unsafe { AtomicU64::from_ptr(at.as_ptr()) };
            // Relaxed: ordered by the Acquire load of `tail` in `RawConsumer::refresh`.
            u64::from_le(word.load(Ordering::Relaxed))
        }
        #[cfg(ringspan_loom)]
        // SAFETY: in bounds and aligned; loom runs one thread at a time.
        u64::from_le(unsafe { at.read() })
    }

    /// One store of the 8 bytes at a count. Only the producer, beyond the tail.
    #[inline]
    pub(super) fn set_word(&self, count: u64, word: u64) {
        self.watch(count, HEAD, true);
        let at = self.word_at(count);
        #[cfg(not(ringspan_loom))]
        {
            // SAFETY: as in `word`.
            let place = unsafe { AtomicU64::from_ptr(at.as_ptr()) };
            // Relaxed: ordered by the Release store of `tail` in `RawProducer`.
            place.store(word.to_le(), Ordering::Relaxed);
        }
        #[cfg(ringspan_loom)]
        // SAFETY: in bounds and aligned; loom runs one thread at a time.
        unsafe {
            at.write(word.to_le());
        }
    }

    /// `len` bytes behind `count`, cut at the wrap: their address and how many they are.
    #[inline]
    pub(super) fn span(&self, count: u64, len: usize) -> (NonNull<u8>, usize) {
        let offset = self.geometry.position(count) as usize;
        // SAFETY: masked, so inside the payload area.
        let at = unsafe { self.base.add(offset) };
        (at, len.min(self.geometry.capacity() as usize - offset))
    }

    /// Copies `bytes` behind `count`, cut at the wrap; how many.
    #[inline]
    pub(super) fn copy_in(&self, count: u64, bytes: &[u8]) -> usize {
        let (to, len) = self.span(count, bytes.len());
        self.watch(count, len as u64, true);
        // SAFETY: `span` is in bounds, `bytes` is at least as long and, being borrowed by the
        // caller as a slice, no part that the producer may write. No reference into the payload
        // is made, so a peer that writes there spoils the bytes and nothing else.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to.as_ptr(), len) };
        len
    }

    /// Copies up to `len` bytes behind `count` to `to`, cut at the wrap; how many.
    ///
    /// # Safety
    ///
    /// `to` is valid for writes of `len` bytes, none of them in the payload area.
    #[inline]
    pub(super) unsafe fn copy_out(&self, count: u64, to: *mut u8, len: usize) -> usize {
        let (from, len) = self.span(count, len);
        self.watch(count, len as u64, false);
        // SAFETY: `span` is in bounds, `to` by the contract. Raw bytes: whatever a peer writes
        // meanwhile is a value.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to, len) };
        len
    }

    /// Tells loom about an access, so that it finds one that nothing orders.
    #[cfg(ringspan_loom)]
    fn watch(&self, count: u64, len: u64, write: bool) {
        let first = self.geometry.position(count) / 8;
        for cell in first..first + len.div_ceil(8) {
            // SAFETY: one cell for each 8 bytes of the payload, valid by the contract of `new`.
            let cell = unsafe { self.cells.add(cell as usize).as_ref() };
            if write { cell.with_mut(|_| ()) } else { cell.with(|_| ()) }
        }
    }

    #[cfg(not(ringspan_loom))]
    #[inline(always)]
    fn watch(&self, _count: u64, _len: u64, _write: bool) {}
}

/// Stands before every store to an index word; unit tests stop the caller there, as a kill would.
#[inline(always)]
pub(super) fn step() {
    #[cfg(all(test, not(ringspan_loom)))]
    super::raw_tests::step();
}
