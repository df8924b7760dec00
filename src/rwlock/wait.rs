//! Waiting for the lock: the look of a sleeper, and the blocking and the awaited way to it.
//!
//! Who sleeps watches every owner of its last look. That is enough, since until it is woken the owners
//! only become fewer: a reader waits while somebody writes or waits to write, a writer leaves the hint,
//! and either keeps further readers out. The last one to leave rings all; the dead are seen by who
//! watches them.
//!
//! A reader that only the hint keeps out also watches those who say that they wait to write. When none
//! of them lives (any more), it rings all and takes the hint back: a killed waiter delays nobody. So does
//! a writer that gives up.

use super::core::{Core, LockMode, bury};
use super::lent::Lent;
use super::raw::Busy;
use super::word::{Word, owner_bit};
use crate::error::Fault;
use crate::layout::SEATS;
use crate::notify::Endpoint;
use crate::notify::shared::Blocked;
use crate::sync::{Ordering, lock};
use crate::sys::failpoint::failpoint;
use crate::sys::fd::Fd;
use std::ops::Deref;
use std::time::Instant;

/// How often the lock may change under a sleeper's look before it is called damaged.
const CHANGES: usize = 1000;
/// How often a writer that gives up tries to take its hint back; what it leaves readers see to.
const UNHINTS: usize = 8;
/// Spins between two looks of a thread that stays awake.
const SPINS_PER_LOOK: u32 = 4;

/// One who waits, from its first look to its last; says in our seat that we wait to write.
pub(crate) struct Waiting<C: Deref<Target = Core>> {
    core: C,
    mode: LockMode,
    came: bool,
}

impl<C: Deref<Target = Core>> Waiting<C> {
    pub(crate) fn new(core: C, mode: LockMode) -> Self {
        if mode == LockMode::Write {
            *lock(&core.writers) += 1;
        }
        Waiting { core, mode, came: false }
    }

    pub(crate) fn came(mut self) {
        self.came = true;
    }
}

impl<C: Deref<Target = Core>> Drop for Waiting<C> {
    fn drop(&mut self) {
        if self.core.region.is_inherited() || self.mode == LockMode::Read {
            return; // in a child another thread may hold the lock below for ever
        }
        self.core.leave_writers(self.came);
    }
}

/// The way of a thread to the lock, over all interruptions by signals: its place among those who wait is
/// kept, or a writer that is interrupted often would let every reader pass.
pub(crate) struct Taking<'a> {
    core: &'a Core,
    mode: LockMode,
    waiting: Option<Waiting<&'a Core>>,
    lent: Lent<'a>,
}

impl Taking<'_> {
    /// Parks until the lock is ours or the deadline is over; a signal interrupts, and a readable `bell`.
    pub(crate) fn park(
        &mut self,
        deadline: Option<Instant>,
        bell: Option<&Fd>,
    ) -> Result<Blocked<Word>, Fault> {
        let (core, mode) = (self.core, self.mode);
        core.region.check_fork()?;
        if self.waiting.is_none() {
            if let Some(word) = self.spin()? {
                return Ok(Blocked::Came(word));
            }
            self.waiting = Some(Waiting::new(core, mode));
        }
        let look = |endpoint: &mut Endpoint| core.look(endpoint, mode);
        let ended = core.shared.wait_blocking(deadline, bell, look)?;
        if matches!(ended, Blocked::Came(_)) {
            self.waiting.take().into_iter().for_each(Waiting::came);
            self.lent.came();
        }
        Ok(ended)
    }

    /// Stays awake for about as long as a park would cost, while that has paid of late.
    fn spin(&mut self) -> Result<Option<Word>, Fault> {
        let core = self.core;
        while core.owes_turn() && core.still_owes_turn() {
            (0..SPINS_PER_LOOK).for_each(|_| std::hint::spin_loop());
        }
        loop {
            let busy = match core.take(self.mode) {
                Ok(word) => {
                    self.lent.came();
                    return Ok(Some(word));
                }
                Err(busy) => busy,
            };
            core.refuse_damage(busy)?;
            let owner = core.owner_elsewhere(busy);
            if !owner.is_some_and(|index| self.lent.stay(core.region.slot(index))) {
                return Ok(None);
            }
            (0..SPINS_PER_LOOK).for_each(|_| std::hint::spin_loop());
        }
    }
}

impl Core {
    fn leave_writers(&self, came: bool) {
        let mut writers = lock(&self.writers);
        *writers -= 1;
        let last = *writers == 0;
        if last {
            self.seat().wants.store(0, Ordering::SeqCst);
        }
        drop(writers);
        failpoint!("lock.wait.left");
        if last && !came {
            self.leave_hint();
        }
    }

    /// Our hint may keep readers out for nobody. They are rung in any case: those who sleep for our sake
    /// watch us, and see now that it is no longer us.
    fn leave_hint(&self) {
        for _ in 0..UNHINTS {
            let word = self.word();
            self.tell_all(); // before the hint goes, see `unhint`
            failpoint!("lock.wait.rung");
            let wanted = (0..SEATS).any(|index| self.wants(index));
            if wanted || !word.is_awaited() || self.raw().unhint(word) {
                break; // wanted: the hint is theirs, or that of the dead, which readers see to
            }
        }
    }

    pub(super) fn tell_all(&self) {
        self.shared.notify_local();
        self.tell_others();
    }

    /// Steps 3 and 4 of a sleeper, with the endpoint locked: takes the lock, or leaves everything so that
    /// a ring or a death will wake us.
    pub(crate) fn look(
        &self,
        endpoint: &mut Endpoint,
        mode: LockMode,
    ) -> Result<Option<Word>, Fault> {
        for _ in 0..CHANGES {
            endpoint.check_fork()?;
            endpoint.check_slot()?;
            let busy = match self.take_silently(mode) {
                Ok(word) => return Ok(Some(word)),
                Err(busy) => busy,
            };
            if busy.freed {
                endpoint.wake_all();
            }
            self.refuse_damage(busy)?;
            if mode == LockMode::Write {
                // Before the hint, so that who finds the hint finds out whose it is.
                self.seat().wants.store(self.tag, Ordering::SeqCst);
                failpoint!("lock.wait.wanted");
                if !self.raw().hint(busy.word) {
                    continue;
                }
                failpoint!("lock.wait.hinted");
            }
            if self.watch_debtors(endpoint, mode, busy)? {
                failpoint!("lock.wait.armed");
                return Ok(None);
            }
        }
        Err(self.damaged("it changes without end, or names an owner in a free slot"))
    }

    /// False: something has changed meanwhile, look again.
    fn watch_debtors(
        &self,
        endpoint: &mut Endpoint,
        mode: LockMode,
        busy: Busy,
    ) -> Result<bool, Fault> {
        let word = busy.word;
        for index in 0..SEATS {
            if word.has(owner_bit(index)) && index != self.index {
                if !endpoint.meet_alive(index, bury)? {
                    return Ok(false);
                }
                endpoint.watch(index)?;
            }
        }
        if !busy.is_hint_only(mode == LockMode::Read) {
            return Ok(true);
        }
        let mut awaited = *lock(&self.writers) > 0;
        for index in (0..SEATS).filter(|&index| index != self.index) {
            if self.wants(index) && endpoint.meet_alive(index, bury)? && self.wants(index) {
                endpoint.watch(index)?;
                awaited = true;
            }
        }
        if !awaited {
            self.shared.notify_local();
            endpoint.wake_all();
            failpoint!("lock.hint.rung");
            self.raw().unhint(word); // seen before the seats
        }
        Ok(awaited)
    }

    /// The slot of somebody else who keeps the lock from us.
    fn owner_elsewhere(&self, busy: Busy) -> Option<usize> {
        (0..SEATS).find(|&index| busy.word.has(owner_bit(index)) && index != self.index)
    }

    /// Begins to take the lock, parking the thread.
    pub(crate) fn taking(&self, mode: LockMode) -> Taking<'_> {
        Taking { core: self, mode, waiting: None, lent: Lent::from(&self.spins) }
    }

    /// Takes the lock if that can be done on the spot; `None`: whatever it is, look closer.
    #[inline]
    pub(crate) fn take_at_once(&self, mode: LockMode) -> Option<Word> {
        let direct = !self.region.is_inherited() && !self.owes_turn();
        if direct { self.take(mode).ok() } else { None }
    }

    /// Takes the lock. Dropped, it has taken nothing: the lock is taken in the very poll that is ready.
    #[cfg(feature = "tokio")]
    pub(crate) async fn take_async(&self, mode: LockMode) -> Result<Word, Fault> {
        self.region.check_fork()?;
        let mut lent = Lent::none(&self.turns);
        if let Some(word) = self.take_turns(mode, &mut lent).await? {
            return Ok(word);
        }
        let waiting = Waiting::new(self, mode);
        let word = self.shared.wait_async(|endpoint| self.look(endpoint, mode)).await?;
        waiting.came();
        lent.came();
        Ok(word)
    }

    /// Stays awake as [`Taking::spin`] does, giving other tasks their turn between the looks.
    #[cfg(feature = "tokio")]
    async fn take_turns(&self, mode: LockMode, lent: &mut Lent<'_>) -> Result<Option<Word>, Fault> {
        let mut given = 0;
        while self.gives_turn(given) {
            given += 1;
            tokio::task::yield_now().await;
        }
        loop {
            let busy = match self.take(mode) {
                Ok(word) => {
                    lent.came();
                    return Ok(Some(word));
                }
                Err(busy) => busy,
            };
            self.refuse_damage(busy)?;
            lent.borrow();
            let owner = self.owner_elsewhere(busy);
            if !owner.is_some_and(|index| lent.stay(self.region.slot(index))) {
                return Ok(None);
            }
            tokio::task::yield_now().await;
        }
    }

    /// Who owns the lock, in words, for messages.
    pub(crate) fn owners_in_words(&self) -> String {
        let word = self.word();
        let how = if word.is_written() { "written" } else { "read" };
        let pids: Vec<String> = (0..SEATS)
            .filter(|&index| word.has(owner_bit(index)))
            .filter_map(|index| {
                let slot = self.region.slot(index);
                let tag = slot.tag.load(Ordering::SeqCst);
                if tag == 0 {
                    return None; // gone meanwhile, or never there
                }
                let pid = crate::notify::slots::read_hints(slot, tag).map_or(0, |hints| hints.pid);
                let kept = self.area.seats[index].kept.load(Ordering::SeqCst);
                let kept = if kept > 0 { " (kept by views)" } else { "" };
                let me = if index == self.index { " (this handle)" } else { "" };
                Some(format!("pid {pid}{me}{kept}"))
            })
            .collect();
        match pids.as_slice() {
            [] => "nobody holds it any more".to_owned(),
            pids => format!("it is {how} by {}", pids.join(", ")),
        }
    }
}
