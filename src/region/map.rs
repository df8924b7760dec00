//! The only casts from mapped bytes to atomics. `open` and `create` have checked every offset
//! against the length of the mapping before a [`Region`] exists; the offsets come from our own
//! snapshot, which no peer can change.

#![allow(unsafe_code, reason = "references to atomics inside the mapping")]

use crate::layout::{DoorPath, HEADER_LEN, Header, Shared, Slot};
use crate::region::Region;
use crate::region::spec::SLOT_LEN;
use crate::sync::{AtomicU8, AtomicU64, Ordering};
use crate::sys::map::Mapping;
use std::ops::Deref;
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;

/// A reference to shared words at `offset`, or `None` when they do not fit or are not aligned.
pub(crate) fn view<T: Shared>(mapping: &Mapping, offset: u64) -> Option<&T> {
    let offset = usize::try_from(offset).ok()?;
    let end = offset.checked_add(size_of::<T>())?;
    // SAFETY: `offset` is within the mapping or one past its end; the pointer is only computed.
    let at = unsafe { mapping.as_mut_ptr().add(offset.min(mapping.len())) }.cast::<T>();
    if end > mapping.len() || !at.is_aligned() {
        return None;
    }
    // SAFETY: in bounds and aligned (just checked), mapped for as long as `mapping` lives. `T:
    // Shared` is atomics only, so any bytes are valid and a peer's writes are not data races.
    Some(unsafe { &*at })
}

/// A part of a mapping that is nothing but bytes, for copies in and out.
///
/// The copies are made of atomic words (bytes at the ragged ends), all Relaxed: what others write
/// meanwhile may come torn, but is no data race. Order comes from elsewhere (a version, a lock).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bytes<'a> {
    mapping: &'a Mapping,
    offset: usize,
    len: usize,
}

impl<'a> Bytes<'a> {
    /// Bytes `offset..offset + len` of the mapping, if there are so many.
    pub(crate) fn new(mapping: &'a Mapping, offset: usize, len: usize) -> Option<Bytes<'a>> {
        let end = offset.checked_add(len)?;
        (end <= mapping.len()).then_some(Bytes { mapping, offset, len })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The first byte; mapped for as long as the mapping lives.
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        // SAFETY: within the mapping or one past its end, checked by `new`.
        unsafe { self.mapping.as_mut_ptr().add(self.offset) }
    }

    /// `len` bytes from `at` on; `None` when they do not fit.
    fn part(&self, at: usize, len: usize) -> Option<Bytes<'a>> {
        let end = at.checked_add(len)?;
        (end <= self.len).then_some(Bytes { offset: self.offset + at, len, ..*self })
    }

    /// Splits the part into bytes, aligned words and bytes.
    fn split(&self) -> (&'a [AtomicU8], &'a [AtomicU64], &'a [AtomicU8]) {
        let head = self.as_ptr().align_offset(align_of::<AtomicU64>()).min(self.len);
        let words = (self.len - head) / 8;
        let tail = head + words * 8;
        // SAFETY: `tail` is at most `len`, so all three parts are inside the mapping.
        let [middle, end] = [head, tail].map(|at| unsafe { self.as_ptr().add(at) });
        // SAFETY: `head` bytes inside the mapping, mapped for 'a; an atomic is valid whatever others
        // write there.
        let first = unsafe { slice::from_raw_parts(self.as_ptr().cast::<AtomicU8>(), head) };
        let whole: &[AtomicU64] = match words {
            0 => &[], // `middle` need not be aligned then
            // SAFETY: as above; `middle` is aligned for words.
            _ => unsafe { slice::from_raw_parts(middle.cast::<AtomicU64>(), words) },
        };
        // SAFETY: as above.
        let last = unsafe { slice::from_raw_parts(end.cast::<AtomicU8>(), self.len - tail) };
        (first, whole, last)
    }

    /// Copies from `at` on into `out`; `None`: it does not fit, and nothing was copied.
    pub(crate) fn read(&self, at: usize, out: &mut [u8]) -> Option<()> {
        let (first, words, last) = self.part(at, out.len())?.split();
        let (head, rest) = out.split_at_mut(first.len());
        let (middle, tail) = rest.split_at_mut(words.len() * 8);
        // Relaxed, here and below: see the type.
        let bytes = first.iter().chain(last).map(|byte| byte.load(Ordering::Relaxed));
        head.iter_mut().chain(tail).zip(bytes).for_each(|(to, byte)| *to = byte);
        let (chunks, _) = middle.as_chunks_mut::<8>();
        for (to, word) in chunks.iter_mut().zip(words) {
            *to = word.load(Ordering::Relaxed).to_ne_bytes();
        }
        Some(())
    }

    /// Copies `from` in at `at`; `None`: it does not fit, and nothing was copied.
    pub(crate) fn write(&self, at: usize, from: &[u8]) -> Option<()> {
        let (first, words, last) = self.part(at, from.len())?.split();
        let (head, rest) = from.split_at(first.len());
        let (middle, tail) = rest.split_at(words.len() * 8);
        // Relaxed, here and below: see the type.
        let bytes = first.iter().chain(last).zip(head.iter().chain(tail));
        bytes.for_each(|(to, &byte)| to.store(byte, Ordering::Relaxed));
        let (chunks, _) = middle.as_chunks::<8>();
        for (from, word) in chunks.iter().zip(words) {
            word.store(u64::from_ne_bytes(*from), Ordering::Relaxed);
        }
        Some(())
    }
}

/// Shared words of a region, checked once and found at once from then on: for paths of nanoseconds.
#[derive(Debug)]
pub(crate) struct Words<T: Shared> {
    at: NonNull<T>,
    _region: Arc<Region>,
}

// SAFETY: a shared reference to atomics (`T: Shared`) that `_region` keeps mapped, and that region.
unsafe impl<T: Shared> Send for Words<T> {}
// SAFETY: as above.
unsafe impl<T: Shared> Sync for Words<T> {}

impl<T: Shared> Words<T> {
    /// What `words` picks, which lies in the mapping of `region`.
    fn of(region: &Arc<Region>, words: impl FnOnce(&Region) -> &T) -> Words<T> {
        Words { at: NonNull::from(words(region)), _region: Arc::clone(region) }
    }
}

impl<T: Shared> Deref for Words<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: made from a reference into the mapping, which lives as long as the region, which is
        // ours; `T: Shared` is atomics only, so a peer's writes are not data races.
        unsafe { self.at.as_ref() }
    }
}

impl Region {
    /// The header, for good.
    pub(crate) fn header_words(self: &Arc<Self>) -> Words<Header> {
        Words::of(self, |region| region.header())
    }

    /// The kind area, for good.
    pub(crate) fn kind_words<T: Shared>(self: &Arc<Self>) -> Words<T> {
        Words::of(self, |region| region.kind_area())
    }

    /// The payload, for copies.
    pub(crate) fn bytes(&self) -> Bytes<'_> {
        let offset = self.constants.payload_off as usize;
        let len = self.constants.payload_len as usize;
        Bytes::new(&self.mapping, offset, len).expect("checked when the region was made")
    }

    /// The meta area, for copies.
    pub(crate) fn meta(&self) -> Bytes<'_> {
        let offset = self.constants.meta_off as usize;
        let len = self.constants.meta_len as usize;
        Bytes::new(&self.mapping, offset, len).expect("checked when the region was made")
    }

    /// The header.
    pub(crate) fn header(&self) -> &Header {
        const { assert!(size_of::<Header>() == HEADER_LEN) };
        self.words(0)
    }

    /// Slot `index`; `index` is below the kind's slot count.
    pub(crate) fn slot(&self, index: usize) -> &Slot {
        assert!(index < self.kind.slots(), "slot index out of range");
        self.words(HEADER_LEN as u64 + index as u64 * SLOT_LEN)
    }

    /// All slots.
    pub(crate) fn slots(&self) -> impl Iterator<Item = &Slot> {
        (0..self.kind.slots()).map(|index| self.slot(index))
    }

    /// The kind area as the words of this kind.
    pub(crate) fn kind_area<T: Shared>(&self) -> &T {
        assert!(size_of::<T>() as u64 <= self.constants.kind_len, "kind area is smaller");
        self.words(self.constants.kind_off)
    }

    pub(crate) fn door_path(&self) -> &DoorPath {
        self.words(self.constants.kind_off + self.constants.kind_len)
    }

    /// Start and length of the payload. The memory stays mapped while this region lives.
    #[inline]
    pub(crate) fn payload(&self) -> (NonNull<u8>, usize) {
        let offset = self.constants.payload_off as usize;
        let len = self.constants.payload_len as usize;
        assert!(offset + len <= self.mapping.len(), "payload outside the mapping");
        // SAFETY: in bounds, just checked.
        let at = unsafe { self.mapping.as_mut_ptr().add(offset) };
        (NonNull::new(at).expect("a mapping is never at address zero"), len)
    }

    fn words<T: Shared>(&self, offset: u64) -> &T {
        view(&self.mapping, offset).expect("offsets were checked when the region was made")
    }
}
