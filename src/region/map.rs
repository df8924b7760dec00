//! The only casts from mapped bytes to atomics. `open` and `create` have checked every offset
//! against the length of the mapping before a [`Region`] exists; the offsets come from our own
//! snapshot, which no peer can change.

#![allow(unsafe_code, reason = "references to atomics inside the mapping")]

use crate::layout::{DoorPath, HEADER_LEN, Header, Shared, Slot};
use crate::region::Region;
use crate::region::spec::SLOT_LEN;
use crate::sys::map::Mapping;
use std::ptr::NonNull;

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

impl Region {
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
