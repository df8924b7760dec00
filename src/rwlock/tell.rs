//! Telling those who wait: our own by the process's event, others by their doorbells, and everybody by
//! whatever way is left when the words are damaged. And giving way to whom it has woken.

use super::core::Core;
use super::raw::Left;
use super::word::{Word, owner_bit};
use crate::layout::SEATS;
use crate::notify::park;
use crate::sync::Ordering;
use crate::sys::process;

/// Nanoseconds that one who was woken gets to come.
const TURN: u64 = 100_000;
/// Turns of an event loop that it gets at least, however long they take: one in which its wake is found,
/// one in which its task looks.
#[cfg(any(feature = "tokio", feature = "python"))]
const TURNS: u32 = 4;
/// Nanoseconds between two such turns.
const TURN_EVERY: u64 = 500_000;

impl Core {
    /// After every move of our stake: those of this process who wait on this handle look again. One load
    /// while nobody does.
    #[inline]
    pub(super) fn tell_ours(&self) {
        if park::anybody(&self.header.parked) & owner_bit(self.index) != 0 {
            self.shared.notify_local();
        }
    }

    /// Whether somebody sleeps, here or elsewhere; after a SeqCst change of what they may wait for.
    #[inline]
    pub(crate) fn is_anybody_parked(&self) -> bool {
        park::anybody(&self.header.parked) != 0
    }

    #[inline]
    pub(super) fn tell(&self, left: Left) {
        let parked = park::anybody(&self.header.parked);
        if parked != 0 || left.damaged {
            self.tell_parked(parked, left);
        }
    }

    #[cold]
    #[inline(never)]
    fn tell_parked(&self, parked: u64, left: Left) {
        // A slot that names another is a table that was overwritten: nobody could be found by it.
        let slot = self.region.slot(self.index);
        if left.damaged || slot.tag.load(Ordering::SeqCst) != self.tag {
            self.cry_out();
            return;
        }
        if parked & owner_bit(self.index) != 0 {
            self.shared.notify_local();
        }
        if left.word.owners() == 0 {
            self.tell_others();
            self.owe_turn(); // to our own too: tasks and threads that share a handle
        } else if !left.held_here {
            self.tell_left_behind(parked, left.word);
        }
    }

    /// Others own it still. Should one of them be in a free slot, or asleep for the very lock, then these bits
    /// were written by somebody else, and nobody would ever give them back.
    fn tell_left_behind(&self, parked: u64, word: Word) {
        let free = |index: usize| self.region.slot(index).tag.load(Ordering::SeqCst) == 0;
        let nobody = |index: &usize| word.has(owner_bit(*index)) && free(*index);
        if (0..SEATS).any(|index| nobody(&index)) && self.word() == word {
            self.cry_out();
            return;
        }
        let asleep = parked & word.owners() & !owner_bit(self.index);
        if asleep != 0 {
            let _ = self.shared.with(|endpoint| endpoint.wake_these(asleep));
        }
    }

    /// Whoever was woken needs some time to come. A handle that asks again at once would get ahead of it
    /// for ever, so now and then it gives way. (parking_lot's eventual fairness: a fair unlock every
    /// half of a millisecond.)
    pub(super) fn owe_turn(&self) {
        let now = process::monotonic();
        // Relaxed, here and below: nothing depends on it but who comes first.
        if now.saturating_sub(self.turn_given.load(Ordering::Relaxed)) > TURN_EVERY {
            self.turn_given.store(now, Ordering::Relaxed);
            self.turn_until.store(now + TURN, Ordering::Relaxed);
        }
    }

    /// Whether somebody else should go first.
    #[inline]
    pub(crate) fn owes_turn(&self) -> bool {
        self.turn_until.load(Ordering::Relaxed) != 0
    }

    /// The same, until it came or its time is over.
    #[cold]
    pub(crate) fn still_owes_turn(&self) -> bool {
        let until = self.turn_until.load(Ordering::Relaxed);
        let owes = process::monotonic() < until && self.word().owners() == 0;
        if !owes && until != 0 {
            self.turn_until.store(0, Ordering::Relaxed);
        }
        owes
    }

    /// The same for a task of an event loop that has `given` so many of its turns already.
    #[cfg(any(feature = "tokio", feature = "python"))]
    #[inline]
    pub(crate) fn gives_turn(&self, given: u32) -> bool {
        let begun = (1..TURNS).contains(&given) && self.word().owners() == 0;
        begun || self.owes_turn() && self.still_owes_turn()
    }

    /// Rings every parked one, first those who wait to write.
    pub(super) fn tell_others(&self) {
        let parked = park::anybody(&self.header.parked) & !owner_bit(self.index);
        if parked == 0 {
            return;
        }
        let writers =
            (0..SEATS).filter(|&index| parked & owner_bit(index) != 0 && self.wants(index));
        let writers = writers.fold(0, |mask, index| mask | owner_bit(index));
        // Fails only in a forked child.
        let _ = self.shared.with(|endpoint| {
            endpoint.wake_these(writers);
            endpoint.wake_these(parked & !writers);
        });
    }

    /// Whether the handle in that slot says that it waits to write.
    pub(super) fn wants(&self, index: usize) -> bool {
        let wants = self.area.seats[index].wants.load(Ordering::SeqCst);
        wants != 0 && wants == self.region.slot(index).tag.load(Ordering::SeqCst)
    }

    /// The word did not say that we held the lock: somebody may have been let in beside us. Everybody is
    /// woken, by whatever way is left, and sees that the bytes may be torn.
    #[cold]
    fn cry_out(&self) {
        self.raw().set_poisoned(true);
        self.shared.notify_local();
        let _ = self.shared.with(|endpoint| {
            endpoint.wake_these(u64::MAX);
            endpoint.hang_up();
        });
    }
}
