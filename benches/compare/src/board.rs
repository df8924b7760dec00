//! A page of words beside the subject: what the two sides of a cell tell each other while they
//! work on something that carries no messages, a lock or a value.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::link::{Place, Res};
use crate::os;
use crate::tally::{BUCKETS, Tally};

const WORDS: usize = 64 + BUCKETS;

/// The words of a board.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Word {
    /// The child is there.
    Ready = 0,
    /// Begin.
    Go = 8,
    /// Come to an end.
    Stop = 16,
    /// Who holds the lock: the number of its turn.
    Held = 24,
    /// How much the child did.
    Count = 32,
}

/// The page, mapped until the process ends.
#[derive(Clone, Copy)]
pub struct Board(&'static [AtomicU64; WORDS]);

impl Board {
    /// Makes it in the parent, before the child is started, or opens it in the child.
    pub fn open(place: &Place, parent: bool) -> Res<Self> {
        let len = WORDS * 8;
        let base = os::map(&place.shared("board", len, parent)?, len)?;
        // SAFETY: the mapping is page aligned, as long as the array, and lives as long as the
        // process; every bit pattern is a number.
        Ok(Self(unsafe { &*base.cast() }))
    }

    /// Reads a word.
    #[inline]
    pub fn get(self, word: Word) -> u64 {
        // Acquire: pairs with the Release in `set`.
        self.0[word as usize].load(Ordering::Acquire)
    }

    /// Writes a word.
    #[inline]
    pub fn set(self, word: Word, value: u64) {
        // Release: pairs with the Acquire in `get`.
        self.0[word as usize].store(value, Ordering::Release);
    }

    /// Sleeps until a word has reached a value. Beside a measurement, never inside.
    pub fn wait(self, word: Word, least: u64) -> Res<()> {
        let begin = Instant::now();
        while self.get(word) < least {
            if begin.elapsed() > Duration::from_secs(10) {
                return Err(format!("the other side never said {word:?} {least}").into());
            }
            std::thread::sleep(Duration::from_micros(20));
        }
        Ok(())
    }

    /// Shows the parent what the child counted.
    pub fn show(self, tally: &Tally) {
        for (word, &count) in self.0[64..].iter().zip(tally.buckets()) {
            word.store(count, Ordering::Relaxed); // Relaxed: the child's exit comes after
        }
    }

    /// What the child has shown, once it has ended.
    pub fn shown(self) -> Tally {
        self.0[64..].iter().map(|word| word.load(Ordering::Relaxed)).collect()
    }
}
