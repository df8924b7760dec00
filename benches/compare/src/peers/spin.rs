//! A lock that is one word in shared memory: tried, spun on, then tried again after each yield. The
//! way Boost.Interprocess keeps its mutexes where it does not use those of POSIX; written here from
//! that idea. Nobody sleeps, and whoever dies in it keeps it for ever.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::link::{Place, Res};
use crate::os;
use crate::turns::{GUARDED, Lock};

const BYTES: usize = 128;
/// Looks before the first yield.
const SPINS: u32 = 32;

/// The word at the start of a page, the bytes behind it.
pub struct Spin {
    word: &'static AtomicU32,
    bytes: *mut u8,
}

impl Lock for Spin {
    fn open(place: &Place, parent: bool) -> Res<Self> {
        let base = os::map(&place.shared("lock", 4096, parent)?, 4096)?;
        // SAFETY: both are inside the page, aligned, and mapped until the process ends.
        let (word, bytes) = unsafe { (&*base.cast(), base.add(BYTES)) };
        Ok(Self { word, bytes })
    }

    #[inline(always)]
    async fn with<R>(&mut self, work: impl FnOnce(&mut [u8]) -> R) -> Res<R> {
        let mut looks = 0;
        // Acquire: pairs with the Release below; the bytes of the last holder are visible.
        while self.word.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            if looks < SPINS {
                looks += 1;
                spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        // SAFETY: mapped until the process ends; the holder of the lock alone has the bytes.
        let done = work(unsafe { std::slice::from_raw_parts_mut(self.bytes, GUARDED) });
        self.word.store(0, Ordering::Release);
        Ok(done)
    }
}
