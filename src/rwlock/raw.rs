//! Taking and giving the lock: the algorithm over its word and the stake of our handle, without I/O and
//! without waiting. Whoever calls tells others about it (`core.rs`).
//!
//! Every access is SeqCst: the CAS that gives the lock up stands before the load of the mask of the
//! parked in the one order of such operations, and a sleeper's entry into that mask before its look at
//! these words. The CAS that takes it reads what was written under the lock before.

use super::stake::{Mode, Snapshot, Stake};
use super::word::Word;
use crate::sync::{AtomicU64, Ordering, load_seqcst};
use std::cell::Cell;

/// The lock as one handle sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawLock<'a> {
    pub(crate) word: &'a AtomicU64,
    pub(crate) stake: &'a Stake,
    /// The owner bit of the handle.
    pub(crate) bit: u64,
}

/// Readers of one handle.
const MOST: u32 = u32::MAX - 2;

/// Why the lock cannot be had now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// Its owners, or one who waits to write: they ring when that changes.
    Owned,
    /// Others of this handle hold it, or are in the middle of something: they notify afterwards.
    Ours,
    /// The word cannot have come from correct handles.
    Damaged,
}

/// The lock was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Busy {
    pub(crate) word: Word,
    pub(crate) why: Why,
    /// Our stake was moved on the way: the waiters of this handle have to look again.
    pub(crate) stirred: bool,
    /// On the way we were the last of this handle and gave back what another of us had taken; nobody
    /// owns the lock now, and the parked have to be rung.
    pub(crate) freed: bool,
}

impl Busy {
    /// Nobody writes: a reader is kept out by the hint alone.
    pub(crate) fn is_hint_only(self, reads: bool) -> bool {
        reads && self.why == Why::Owned && !self.word.is_written()
    }
}

/// The lock was given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Left {
    /// The word afterwards.
    pub(crate) word: Word,
    /// Others of this handle still read.
    pub(crate) held_here: bool,
    /// The word did not say that we held it as we did: somebody overwrote it.
    pub(crate) damaged: bool,
}

/// A dead owner, and what became of its bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reaped {
    /// It owned nothing.
    Nothing,
    /// Its bit was cleared; the word afterwards.
    Cleared(Word),
    /// Its slot belongs to somebody else by now, and nothing was touched.
    TooLate,
}

impl RawLock<'_> {
    #[inline]
    pub(crate) fn load(&self) -> Word {
        Word(load_seqcst(self.word))
    }

    #[inline]
    fn swap(&self, from: Word, to: Word) -> bool {
        self.word.compare_exchange(from.0, to.0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Changes the word by `to`; before and after. `None` from `to`: left as it is.
    #[inline]
    fn change(&self, to: impl Fn(Word) -> Option<Word>) -> Result<Word, Word> {
        loop {
            let word = self.load();
            let Some(next) = to(word) else { return Err(word) };
            if self.swap(word, next) {
                return Ok(next);
            }
        }
    }

    /// Takes it for reading, or joins those of this handle who read. Short for the lock that nobody has, so
    /// that it stands where it is called. `joined` is set if others of this handle read already.
    #[inline]
    pub(crate) fn read(&self, joined: &mut bool) -> Result<Word, Busy> {
        let stake = self.stake.load();
        let word = self.load(); // after the stake: what it says of our bit belongs to this era
        let free = stake.mode == Mode::Idle && word.is_free();
        if !free || !self.stake.swap(stake, stake.with(Mode::Readers(1))) {
            return self.try_read(joined);
        }
        let taken = word.as_first(self.bit, false);
        if self.swap(word, taken) { Ok(taken) } else { self.set_reader() }
    }

    /// Takes it for writing, as [`read`](RawLock::read).
    #[inline]
    pub(crate) fn write(&self) -> Result<Word, Busy> {
        let stake = self.stake.load();
        let word = self.load(); // after the stake, as above
        let free = stake.mode == Mode::Idle && word.is_free();
        if !free || !self.stake.swap(stake, stake.with(Mode::Writer)) {
            return self.try_write();
        }
        let taken = word.as_first(self.bit, true);
        if self.swap(word, taken) { Ok(taken) } else { self.set_writer(stake) }
    }

    /// The long way of [`read`](RawLock::read).
    #[cold]
    fn try_read(&self, joined: &mut bool) -> Result<Word, Busy> {
        loop {
            let stake = self.stake.load();
            let word = self.load(); // after the stake: what it says of our bit belongs to this era
            let joined = match stake.mode {
                Mode::Writer => return Err(self.busy(word, Why::Ours)),
                Mode::Idle if word.has(self.bit) => match self.left_standing(stake, word) {
                    Some(busy) => return Err(busy),
                    None => continue,
                },
                Mode::Idle => stake.with(Mode::Readers(1)),
                Mode::Readers(count) if word.has(self.bit) => {
                    if word.is_written() {
                        return Err(self.busy(word, Why::Damaged));
                    }
                    if word.is_awaited() {
                        return Err(self.busy(word, Why::Owned)); // no recursive reading past a writer
                    }
                    if count >= MOST {
                        return Err(self.busy(word, Why::Ours)); // so many guards were leaked
                    }
                    // Our bit stands as long as this era counts anybody, and we are counted.
                    if self.stake.swap(stake, stake.with(Mode::Readers(count + 1))) {
                        *joined = true;
                        return Ok(word);
                    }
                    continue;
                }
                // All of this era still try, and so shall we. A new era, or the last one to give up
                // could not know whether the bit is its to clear.
                Mode::Readers(count) => stake.next(Mode::Readers(count + 1)),
            };
            if word.with_reader(self.bit).is_none() {
                return Err(self.busy(word, Why::Owned));
            }
            if self.stake.swap(stake, joined) {
                return self.set_reader();
            }
        }
    }

    /// We are counted; the bit may have to be set.
    pub(super) fn set_reader(&self) -> Result<Word, Busy> {
        let taken = self.change(|word| match word.has(self.bit) {
            true => None,
            false => word.with_reader(self.bit),
        });
        match taken {
            Ok(word) => Ok(word),
            Err(word) if word.has(self.bit) && !word.is_written() => Ok(word),
            Err(word) => {
                let why = if word.has(self.bit) { Why::Damaged } else { Why::Owned };
                // Meanwhile one who joined us may have set the bit, and left it to us.
                let left = self.leave_read();
                let freed = !left.held_here && !left.damaged && left.word.owners() == 0;
                Err(Busy { stirred: true, freed, ..self.busy(word, why) })
            }
        }
    }

    /// The long way of [`write`](RawLock::write).
    #[cold]
    fn try_write(&self) -> Result<Word, Busy> {
        loop {
            let stake = self.stake.load();
            let word = self.load(); // after the stake, as above
            if stake.mode != Mode::Idle {
                return Err(self.busy(word, Why::Ours));
            }
            if word.has(self.bit) {
                match self.left_standing(stake, word) {
                    Some(busy) => return Err(busy),
                    None => continue,
                }
            }
            if word.with_writer(self.bit).is_none() {
                return Err(self.busy(word, Why::Owned));
            }
            if self.stake.swap(stake, stake.with(Mode::Writer)) {
                return self.set_writer(stake);
            }
        }
    }

    /// The stake is ours; bit and mode have to be set.
    fn set_writer(&self, stake: Snapshot) -> Result<Word, Busy> {
        self.change(|word| word.with_writer(self.bit)).map_err(|word| {
            self.idle(stake);
            Busy { stirred: true, ..self.busy(word, Why::Owned) }
        })
    }

    fn busy(&self, word: Word, why: Why) -> Busy {
        let why = if word.is_sane() { why } else { Why::Damaged };
        Busy { word, why, stirred: false, freed: false }
    }

    /// Our bit stands, though our stake is idle: one of us is about to clear it, or somebody else set
    /// it. `None`: look again.
    #[cold]
    fn left_standing(&self, idle: Snapshot, word: Word) -> Option<Busy> {
        if !self.stake.is_settled(idle) {
            return Some(self.busy(word, Why::Ours));
        }
        // The bit of this era is out; one that stands now is of a later era, or of nobody.
        let stands = self.load().has(self.bit);
        (stands && self.stake.load() == idle).then(|| self.busy(word, Why::Damaged))
    }

    fn idle(&self, stake: Snapshot) {
        let idle = stake.next(Mode::Idle);
        self.stake.set(idle);
        self.stake.settle(idle);
    }

    /// One reader of this handle leaves.
    #[inline]
    pub(crate) fn leave_read(&self) -> Left {
        loop {
            let stake = self.stake.load();
            let word = self.load(); // after the stake, as above
            let Mode::Readers(count) = stake.mode else {
                debug_assert!(false, "a reader leaves that is not counted: {stake:?}");
                return Left { word, held_here: true, damaged: true };
            };
            let ours = word.has(self.bit);
            if count > 1 {
                if self.stake.swap(stake, stake.with(Mode::Readers(count - 1))) {
                    return Left { word, held_here: true, damaged: false };
                }
                continue;
            }
            let idle = stake.next(Mode::Idle);
            if !self.stake.swap(stake, idle) {
                continue;
            }
            // If the bit was not set then it never was in this era, and one that is set from now on
            // is not ours to clear.
            let beside_writer = Cell::new(false);
            let cleared = match ours {
                true => self.change(|word| {
                    beside_writer.set(word.is_written());
                    word.has(self.bit).then(|| word.without(self.bit))
                }),
                false => Err(word),
            };
            self.stake.settle(idle);
            let (Ok(word) | Err(word)) = cleared;
            let damaged = cleared.is_err() || beside_writer.get();
            return Left { word, held_here: false, damaged };
        }
    }

    /// The writer leaves; the data is half written if it says so.
    #[inline]
    pub(crate) fn leave_write(&self, torn: bool) -> Left {
        let alone = Cell::new(true);
        // Nobody else changes the stake of one who writes. It goes before the bit, as with the last
        // reader, and needs no barrier of its own: one of us that is about to sleep loads the word
        // before the stake that it goes by (`read` and `write` do, before the long way). If it met our
        // bit there, its entry into the mask of the parked stands before the CAS below, and the caller
        // sees it there. If it did not, it has met that CAS, and its next load meets this stake.
        let idle = self.stake.load().next(Mode::Idle);
        self.stake.leave(idle);
        // Our bit goes in any case: left standing, it would keep out others who see that we live.
        let cleared = self.change(|word| {
            alone.set(word.is_written() && word.is_sane());
            word.has(self.bit).then(|| match torn {
                true => word.without(self.bit).poisoned(true),
                false => word.without(self.bit),
            })
        });
        self.stake.settle(idle);
        let (Ok(word) | Err(word)) = cleared;
        Left { word, held_here: false, damaged: cleared.is_err() || !alone.get() }
    }

    /// The writer becomes a reader, and nobody writes between.
    pub(crate) fn downgrade(&self) -> Left {
        let changed = self
            .change(|word| (word.has(self.bit) && word.is_written()).then(|| word.downgraded()));
        self.stake.set(self.stake.load().next(Mode::Readers(1)));
        let (Ok(word) | Err(word)) = changed;
        Left { word, held_here: true, damaged: changed.is_err() }
    }

    /// The only reader becomes the writer, and nobody writes between. False: others read, and it
    /// still reads; the waiters of this handle have to look again.
    pub(crate) fn try_upgrade(&self) -> bool {
        let stake = self.stake.load();
        if stake.mode != Mode::Readers(1)
            || self.load().upgraded(self.bit).is_none()
            || !self.stake.swap(stake, stake.with(Mode::Writer))
        {
            return false;
        }
        let upgraded = self.change(|word| word.upgraded(self.bit)).is_ok();
        if !upgraded {
            self.stake.set(stake.next(Mode::Readers(1)));
        }
        upgraded
    }

    /// Leaves the hint that somebody waits to write, if the word is still this one. The word is another
    /// one afterwards, also if the hint was there: see `unhint`.
    pub(crate) fn hint(&self, seen: Word) -> bool {
        self.swap(seen, seen.hinted())
    }

    /// Takes the hint back, if the word is still this one. Whoever does rings all the parked *before*,
    /// and after it loaded `seen`: then every writer that sleeps behind this hint has been rung, since
    /// one that went to sleep later changed the word. Rung afterwards, a kill in between would leave a
    /// writer asleep that watches only the owners of its look, while new ones come
    /// (`docs/models/lock.pml`, -DUNRUNG).
    pub(crate) fn unhint(&self, seen: Word) -> bool {
        seen.is_awaited() && self.swap(seen, seen.unhinted())
    }

    pub(crate) fn set_poisoned(&self, poisoned: bool) {
        let _ =
            self.change(|word| (word.is_poisoned() != poisoned).then(|| word.poisoned(poisoned)));
    }
}

/// Takes the bit of a dead owner out. `still_theirs`: its slot still holds its tag; asked after each
/// load of the word, so that the bit in that word is the dead one's. Any number of reapers may do this
/// at once.
pub(crate) fn reap(
    word: &AtomicU64,
    bit: u64,
    poisons: bool,
    still_theirs: impl Fn() -> bool,
) -> Reaped {
    loop {
        let seen = Word(load_seqcst(word));
        if !still_theirs() {
            return Reaped::TooLate;
        }
        if !seen.has(bit) {
            return Reaped::Nothing;
        }
        let next = seen.reaped(bit, poisons);
        if word.compare_exchange(seen.0, next.0, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            return Reaped::Cleared(next);
        }
    }
}
