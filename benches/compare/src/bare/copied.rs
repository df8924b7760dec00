//! A value that is only copied: two places in shared memory that take turns, and a number that says
//! which one it is. Who reads it while it is set sees anything.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::latest::Latest;
use crate::link::{Place, Res};
use crate::os;

const BYTES: usize = 4096;

/// The number in the first page, the two places behind it.
pub struct Copied {
    base: *mut u8,
    size: usize,
}

impl Copied {
    fn number(&self) -> &AtomicUsize {
        // SAFETY: aligned, and mapped until the process ends.
        unsafe { &*self.base.cast() }
    }

    fn place(&self, number: usize) -> *mut u8 {
        // SAFETY: the mapping holds both places.
        unsafe { self.base.add(BYTES + (number & 1) * self.size) }
    }
}

impl Latest for Copied {
    const WHOLE: bool = false;

    fn open(place: &Place, parent: bool) -> Res<Self> {
        let len = BYTES + 2 * place.size.next_multiple_of(BYTES);
        let base = os::map(&place.shared("value", len, parent)?, len)?;
        Ok(Self { base, size: place.size })
    }

    #[inline]
    fn set(&mut self, bytes: &[u8]) -> Res<()> {
        let next = self.number().load(Ordering::Relaxed) + 1; // Relaxed: only we write it
        // SAFETY: the place is mapped and as long as the bytes. Somebody may be reading it: it is
        // bytes, and what they are then is nobody's business (no safe lock may do this).
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.place(next), self.size) };
        // Release: pairs with the Acquire in `get`.
        self.number().store(next, Ordering::Release);
        Ok(())
    }

    #[inline]
    fn get(&mut self, bytes: &mut Vec<u8>) -> Res<()> {
        let number = self.number().load(Ordering::Acquire);
        bytes.resize(self.size, 0);
        // SAFETY: as in `set`.
        unsafe { std::ptr::copy_nonoverlapping(self.place(number), bytes.as_mut_ptr(), self.size) };
        Ok(())
    }
}
