//! The spinning ping-pong: one word per direction, each on its own cache lines.

use std::fs::File;
use std::hint::spin_loop;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::link::{Link, Place, Res};
use crate::os;

/// Two words; a message is the number of the turn.
pub struct Line {
    out: &'static AtomicU64,
    back: &'static AtomicU64,
    sent: u64,
    seen: u64,
}

impl Line {
    fn over(file: &File, parent: bool) -> Res<Self> {
        let base = os::map(file, 4096)?;
        // SAFETY: both words are inside the page, aligned, and mapped until the process ends.
        let (a, b) = unsafe { (&*base.cast(), &*base.add(256).cast()) };
        let (out, back) = if parent { (a, b) } else { (b, a) };
        Ok(Self { out, back, sent: 0, seen: 0 })
    }
}

impl Link for Line {
    const SIGNAL_ONLY: bool = true;

    async fn parent(place: &Place) -> Res<Self> {
        let file = os::shared_file(4096)?;
        place.start(&[os::inherit(&file)?.to_string()])?;
        Self::over(&file, true)
    }

    async fn child(place: &Place) -> Res<Self> {
        Self::over(&os::inherited(place.extra::<RawFd>(0)?), false)
    }

    #[inline(always)]
    async fn send(&mut self, _message: &[u8]) -> Res<()> {
        self.sent += 1;
        // Release: pairs with the Acquire in `recv`.
        self.out.store(self.sent, Ordering::Release);
        Ok(())
    }

    #[inline(always)]
    async fn recv(&mut self, _most: u64, mut see: impl FnMut(&[u8])) -> Res<u64> {
        self.seen += 1;
        // Acquire: pairs with the Release in `send`.
        while self.back.load(Ordering::Acquire) != self.seen {
            spin_loop();
        }
        see(&self.seen.to_le_bytes());
        Ok(1)
    }
}
