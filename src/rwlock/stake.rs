//! The stake of one handle in the lock: how many of its tasks and threads read, whether one writes.
//!
//! They share the owner bit of the handle. The stake is a word of our own memory, which no other
//! process can touch, and decides who of us may change the bit:
//!
//! ```text
//!            first reader                     last reader leaves
//!   Idle ------------------> Readers(n) ------------------------> Idle, next era
//!     |      then sets the bit             then clears the bit
//!     `--- writer -> Writer: sets bit and mode ... clears them ---^
//! ```
//!
//! Stake and bit are two words, changed one after the other without a lock around them; what makes
//! that sound is the *era*, raised whenever readers leave for good and whenever somebody joins who may
//! still have to set the bit. It is compared with the rest in one CAS, so that nobody acts on a bit
//! that belongs to another era (`loom_tests.rs` has the twins that lose the lock without it).

use crate::sync::{AtomicU64, Ordering, load_seqcst, store_release};

/// What the handle holds, or is about to take or to give back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nothing; the bit of the last era may still be on its way out.
    Idle,
    /// So many read, or try to.
    Readers(u32),
    /// One writes, or tries to.
    Writer,
}

const WRITER: u32 = u32::MAX;

/// A snapshot of the stake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) mode: Mode,
    pub(crate) era: u32,
}

impl Snapshot {
    fn of(word: u64) -> Snapshot {
        let mode = match (word & 0xffff_ffff) as u32 {
            0 => Mode::Idle,
            WRITER => Mode::Writer,
            count => Mode::Readers(count),
        };
        Snapshot { mode, era: (word >> 32) as u32 }
    }

    fn word(self) -> u64 {
        let low = match self.mode {
            Mode::Idle => 0,
            Mode::Readers(count) => count,
            Mode::Writer => WRITER,
        };
        u64::from(low) | u64::from(self.era) << 32
    }

    /// The same era with another mode.
    pub(crate) fn with(self, mode: Mode) -> Snapshot {
        Snapshot { mode, ..self }
    }

    /// The next era.
    pub(crate) fn next(self, mode: Mode) -> Snapshot {
        Snapshot { mode, era: self.era.wrapping_add(1) }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Stake {
    word: AtomicU64,
    /// The last era whose bit is known to be cleared; tells damage from a bit on its way out.
    settled: AtomicU64,
}

impl Stake {
    pub(crate) fn new() -> Stake {
        Stake { word: AtomicU64::new(0), settled: AtomicU64::new(0) }
    }

    #[inline]
    pub(crate) fn load(&self) -> Snapshot {
        Snapshot::of(load_seqcst(&self.word))
    }

    /// From exactly this to that.
    #[inline]
    pub(crate) fn swap(&self, from: Snapshot, to: Snapshot) -> bool {
        let (from, to) = (from.word(), to.word());
        self.word.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// For the one who writes (nobody else changes a writer's stake).
    #[inline]
    pub(crate) fn set(&self, to: Snapshot) {
        self.word.swap(to.word(), Ordering::SeqCst);
    }

    /// For the one who writes, and clears its bit in the word next.
    #[inline]
    pub(crate) fn leave(&self, to: Snapshot) {
        // Release: pairs with the loads of the stake by who has met that bit cleared.
        store_release(&self.word, to.word());
    }

    /// The bit of this era has been cleared, or was never set.
    #[inline]
    pub(crate) fn settle(&self, idle: Snapshot) {
        let known = self.settled.load(Ordering::Relaxed) as u32; // Relaxed: only its age matters
        if idle.era.wrapping_sub(known) < 1 << 31 {
            // Release: pairs with the Acquire below.
            self.settled.store(u64::from(idle.era), Ordering::Release);
        }
    }

    /// Nobody of us is about to clear a bit of this era.
    pub(crate) fn is_settled(&self, idle: Snapshot) -> bool {
        // Acquire: who sees this sees the word after the bit was cleared.
        self.settled.load(Ordering::Acquire) == u64::from(idle.era)
    }
}
