//! The word of the lock: who owns it, how, and what is known of it. Plain arithmetic.
//!
//! ```text
//! bits 0..48   one for each slot: its handle owns the lock     48  the owner writes
//! 49  somebody waits to write (a hint)                         50  poisoned
//! 51..55  how many looks of writers left or confirmed the hint, modulo 16
//! 55..64  how many owners were reaped, modulo 512
//! ```
//!
//! The owner's identity is *in* the word, so a death at any instruction can be mended: the bit names
//! the slot, the slot names the process. The count of reaped owners makes every reaping visible to a slow
//! reaper, which would else rob the next owner of the slot (`docs/models/reap.pml`, without -DGEN); it moves
//! by nothing else, so that a reaper that was stopped meets it again after 512 deaths, not after so many
//! looks. The count of looks makes every writer that goes to sleep visible to whoever is about to take the
//! hint back (`docs/models/lock.pml`, -DCOUNT); there a wrap costs the writer its precedence, not the lock.

use crate::layout::SEATS;
use std::fmt;

const OWNERS: u64 = (1 << SEATS) - 1;
const WRITER: u64 = 1 << 48;
const WAITING: u64 = 1 << 49;
const POISONED: u64 = 1 << 50;
const LOOKED_ONE: u64 = 1 << 51;
const LOOKED: u64 = 15 * LOOKED_ONE;
const REAPED_ONE: u64 = 1 << 55;

/// A snapshot of the word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word(pub(crate) u64);

/// The bit of the handle in slot `index`.
#[inline]
pub(crate) fn owner_bit(index: usize) -> u64 {
    1 << index
}

impl Word {
    /// One bit for each owner.
    #[inline]
    pub(crate) fn owners(self) -> u64 {
        self.0 & OWNERS
    }

    #[inline]
    pub(crate) fn has(self, bit: u64) -> bool {
        self.0 & bit != 0
    }

    #[inline]
    pub(crate) fn is_written(self) -> bool {
        self.has(WRITER)
    }

    #[inline]
    pub(crate) fn is_awaited(self) -> bool {
        self.has(WAITING)
    }

    #[inline]
    pub(crate) fn is_poisoned(self) -> bool {
        self.has(POISONED)
    }

    /// Whether correct handles can have brought it here: who writes is the only owner.
    #[inline]
    pub(crate) fn is_sane(self) -> bool {
        !self.is_written() || self.owners().is_power_of_two()
    }

    /// Nobody owns it.
    #[inline]
    pub(crate) fn is_free(self) -> bool {
        self.0 & (OWNERS | WRITER) == 0
    }

    /// A free word with `bit` as its only owner, without the hint.
    #[inline]
    pub(crate) fn as_first(self, bit: u64, writes: bool) -> Word {
        Word((self.0 | bit | if writes { WRITER } else { 0 }) & !WAITING)
    }

    /// With `bit` among the readers. The hint counts only while somebody owns the lock, so whoever
    /// finds it free clears the hint. `None`: it cannot be read now.
    #[inline]
    pub(crate) fn with_reader(self, bit: u64) -> Option<Word> {
        if self.is_written() {
            None
        } else if self.owners() == 0 {
            Some(self.as_first(bit, false))
        } else if self.is_awaited() {
            None
        } else {
            Some(Word(self.0 | bit))
        }
    }

    /// With `bit` as the writer. `None`: it cannot be written now.
    #[inline]
    pub(crate) fn with_writer(self, bit: u64) -> Option<Word> {
        self.is_free().then_some(self.as_first(bit, true))
    }

    /// With the only reader `bit` as the writer. `None`: others read.
    pub(crate) fn upgraded(self, bit: u64) -> Option<Word> {
        (self.owners() == bit && !self.is_written()).then_some(Word(self.0 | WRITER))
    }

    /// With the writer as a reader.
    #[inline]
    pub(crate) fn downgraded(self) -> Word {
        Word(self.0 & !WRITER)
    }

    /// Without the owner `bit`.
    #[inline]
    pub(crate) fn without(self, bit: u64) -> Word {
        let left = Word(self.0 & !bit);
        if left.owners() == 0 { left.downgraded() } else { left }
    }

    /// With the hint that somebody waits to write; never the same word, also when the hint is there.
    pub(crate) fn hinted(self) -> Word {
        let looks = self.0.wrapping_add(LOOKED_ONE) & LOOKED;
        Word((self.0 & !LOOKED) | looks | WAITING)
    }

    /// Without the hint.
    pub(crate) fn unhinted(self) -> Word {
        Word(self.0 & !WAITING)
    }

    pub(crate) fn poisoned(self, poisoned: bool) -> Word {
        Word(if poisoned { self.0 | POISONED } else { self.0 & !POISONED })
    }

    /// Without the dead owner `bit`. A dead writer poisons, where `poisons` says so.
    pub(crate) fn reaped(self, bit: u64, poisons: bool) -> Word {
        let torn = self.is_written() && poisons;
        let left = self.without(bit);
        let left = if torn { left.poisoned(true) } else { left };
        Word(left.0.wrapping_add(REAPED_ONE)) // the topmost bits, so the carry is lost
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Word(owners {:012x}", self.owners())?;
        let flags = [
            (self.is_written(), ", written"),
            (self.is_awaited(), ", awaited"),
            (self.is_poisoned(), ", poisoned"),
        ];
        for (_, text) in flags.iter().filter(|(set, _)| *set) {
            f.write_str(text)?;
        }
        write!(f, ", looks {}, reaped {})", (self.0 & LOOKED) >> 51, self.0 >> 55)
    }
}

#[cfg(all(test, not(ringspan_loom)))]
mod tests {
    use super::*;

    #[test]
    fn readers_share_and_a_writer_is_alone() {
        let free = Word(0);
        let one = free.with_reader(1).unwrap();
        let two = one.with_reader(2).unwrap();
        assert_eq!((two.owners(), two.is_written()), (3, false));
        assert_eq!(two.with_writer(4), None);
        let written = free.with_writer(4).unwrap();
        assert_eq!((written.owners(), written.is_written()), (4, true));
        assert_eq!((written.with_reader(1), written.with_writer(1)), (None, None));
        assert_eq!(written.without(4), free);
        assert_eq!(two.without(1).without(2), free);
    }

    #[test]
    fn the_hint_counts_only_while_somebody_owns_it() {
        let awaited = Word(0).with_reader(1).unwrap().hinted();
        assert_eq!(awaited.with_reader(2), None);
        let free = awaited.without(1);
        assert!(free.is_awaited());
        assert!(!free.with_reader(2).unwrap().is_awaited());
        assert!(awaited.hinted() != awaited && awaited.hinted().is_awaited());
        let wrapped = (0..16).fold(awaited, |word, _| word.hinted());
        assert_eq!(wrapped, awaited, "the count of looks stays in its bits");
        assert!(!awaited.unhinted().is_awaited());
        assert!(!free.with_writer(2).unwrap().is_awaited());
    }

    #[test]
    fn reaping_counts_and_wraps_without_touching_the_rest() {
        let written = Word(0).with_writer(8).unwrap().hinted();
        let reaped = written.reaped(8, true);
        assert_eq!((reaped.owners(), reaped.is_written()), (0, false));
        assert!(reaped.is_poisoned() && reaped.is_awaited() && reaped.0 >> 55 == 1);
        assert!(!written.reaped(8, false).is_poisoned());
        let mut word = Word(0).with_reader(1).unwrap();
        for _ in 0..512 {
            word = word.with_reader(2).unwrap().reaped(2, true);
        }
        assert_eq!(word, Word(1));
    }

    #[test]
    fn a_writer_beside_others_is_not_sane() {
        assert!(Word(0).is_sane() && Word(7).is_sane() && Word(4 | WRITER).is_sane());
        assert!(!Word(WRITER).is_sane() && !Word(3 | WRITER).is_sane());
        assert_eq!(Word(WRITER).with_reader(1), None);
        assert_eq!(Word(WRITER).with_writer(1), None);
    }
}
