//! One attached handle of a lock: taking and giving with all that follows from it, but no waiting. A
//! [`Value`](crate::Value) has the same lock in front of its buffers.

use super::raw::{Busy, RawLock, Reaped, Why, reap};
use super::stake::{Mode, Stake};
use super::word::{Word, owner_bit};
use crate::error::{Fault, FaultKind};
use crate::layout::{Header, Kind, LockArea, LockSeat};
#[cfg(feature = "tokio")]
use crate::notify::awake::TURNS;
use crate::notify::awake::{Awake, SPINS};
use crate::notify::shared::Shared;
use crate::notify::{Endpoint, Meeting};
use crate::region::Region;
use crate::region::map::Words;
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering, lock};
use crate::sys::failpoint::failpoint;
use crate::sys::process;
use std::sync::Arc;

/// Failed attempts in a row after which a `try_` verb asks whether those who keep it out live.
const PROVE_EVERY: u64 = 64;

/// How the lock is (to be) held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LockMode {
    /// With other readers.
    Read,
    /// Alone.
    Write,
}

/// An attached handle.
#[derive(Debug)]
pub(crate) struct Core {
    pub(super) region: Arc<Region>,
    pub(super) header: Words<Header>,
    /// The words of the lock; a value's kind area begins with them too.
    pub(super) area: Words<LockArea>,
    pub(super) shared: Shared,
    stake: Stake,
    pub(super) index: usize,
    pub(super) tag: u64,
    /// Those of this handle who wait to write.
    pub(super) writers: Mutex<usize>,
    /// Attempts of `try_` verbs that failed, in a row.
    failures: AtomicU64,
    /// The next release looks at our door.
    door_due: AtomicBool,
    /// Guards that were left while views of them live.
    #[cfg(feature = "python")]
    kept: AtomicU64,
    /// Somebody was woken: until then whoever of this handle asks next lets it go first; 0: no.
    pub(super) turn_until: AtomicU64,
    /// When that was last so.
    pub(super) turn_given: AtomicU64,
    /// Lent to the one who stays awake.
    pub(super) spins: Mutex<Option<Awake>>,
    #[cfg(feature = "tokio")]
    pub(super) turns: Mutex<Option<Awake>>,
}

/// Takes the dead owner of a slot out of a lock; see `notify::Bury`. Every step may be done by several
/// at once, and be left undone by a reaper that dies.
pub(crate) fn bury(endpoint: &mut Endpoint, index: usize, tag: u64) -> Result<(), Fault> {
    let region = Arc::clone(&endpoint.region);
    let slot = region.slot(index);
    let still_theirs = || slot.tag.load(Ordering::SeqCst) == tag;
    failpoint!("lock.reap.proven");
    // A value's dead writer leaves the old value whole.
    let poisons = region.kind() != Kind::Value;
    let word = &region.kind_area::<LockArea>().line.word; // a value's begins with it
    match reap(word, owner_bit(index), poisons, still_theirs) {
        Reaped::TooLate => return Ok(()),
        Reaped::Nothing => {}
        Reaped::Cleared(_) => {
            failpoint!("lock.reap.cleared");
            endpoint.wake_all();
            failpoint!("lock.reap.rung");
        }
    }
    endpoint.bury_plain(index, tag)
}

/// Whether the owner of a slot was dead; then it is taken out. Who asks again and again asks over one
/// connection: every knock stays at the door of one who never waits.
fn found_dead(endpoint: &mut Endpoint, index: usize) -> Result<bool, Fault> {
    endpoint.look_at(index);
    match endpoint.meet(index) {
        Ok(Meeting::Dead { tag, .. }) => bury(endpoint, index, tag).map(|()| true),
        _ => Ok(false), // nothing was proven, for whatever reason; who waits is told it
    }
}

impl Core {
    /// The handle behind an endpoint that has just been attached.
    pub(crate) fn new(endpoint: Endpoint) -> Result<Core, Fault> {
        let region = Arc::clone(&endpoint.region);
        let (index, tag) = (endpoint.index, endpoint.tag);
        let area = region.kind_words::<LockArea>();
        let seat = &area.seats[index];
        for word in [&seat.wants, &seat.since, &seat.kept] {
            word.store(0, Ordering::SeqCst); // of the last owner of the slot
        }
        let core = Core {
            shared: Shared::new(endpoint),
            stake: Stake::new(),
            index,
            tag,
            writers: Mutex::new(0),
            failures: AtomicU64::new(0),
            door_due: AtomicBool::new(false),
            #[cfg(feature = "python")]
            kept: AtomicU64::new(0),
            turn_until: AtomicU64::new(0),
            turn_given: AtomicU64::new(0),
            spins: Mutex::new(Some(Awake::new(SPINS))),
            #[cfg(feature = "tokio")]
            turns: Mutex::new(Some(Awake::new(TURNS))),
            header: region.header_words(),
            area,
            region,
        };
        if core.raw().load().has(owner_bit(index)) {
            return Err(core.damaged("it names an owner in a slot that was free"));
        }
        Ok(core)
    }

    #[inline]
    pub(crate) fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// The endpoint, for waits of another kind on the same handle.
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    #[inline]
    pub(super) fn raw(&self) -> RawLock<'_> {
        RawLock { word: &self.area.line.word, stake: &self.stake, bit: owner_bit(self.index) }
    }

    #[inline]
    pub(super) fn seat(&self) -> &LockSeat {
        &self.area.seats[self.index]
    }

    pub(super) fn word(&self) -> Word {
        self.raw().load()
    }

    /// Takes the lock if nobody keeps it from us. In a forked child it is never called, nor with the
    /// endpoint locked.
    #[inline]
    pub(super) fn take(&self, mode: LockMode) -> Result<Word, Busy> {
        let taken = self.take_silently(mode);
        if let Err(Busy { freed: true, .. }) = taken {
            self.tell_others();
        }
        taken
    }

    /// The same with the endpoint locked: who is told that the lock is `freed` must ring all.
    #[inline]
    pub(super) fn take_silently(&self, mode: LockMode) -> Result<Word, Busy> {
        let mut joined = false;
        let taken = match mode {
            LockMode::Read => self.raw().read(&mut joined),
            LockMode::Write => self.raw().write(),
        };
        match taken {
            Ok(_) => {
                failpoint!("lock.taken");
                if !joined {
                    self.note_since();
                }
                self.tell_ours();
            }
            Err(busy) if busy.stirred => self.tell_ours(),
            Err(_) => {}
        }
        taken
    }

    /// For `holders`; of the readers of a handle the first one counts.
    #[inline]
    fn note_since(&self) {
        // Relaxed: for people.
        let (now, since) = (process::coarse_wall_clock(), &self.seat().since);
        if since.load(Ordering::Relaxed) != now {
            since.store(now, Ordering::Relaxed);
            self.door_due.store(true, Ordering::Relaxed); // once a tick of that clock is often enough
        }
    }

    /// As [`take`](Core::take), for verbs that never wait: if they fail again and again they ask whether
    /// those live who keep them out.
    ///
    /// # Errors
    ///
    /// Faults of the lock; `Ok(None)` while others hold it.
    #[inline]
    pub(crate) fn try_take(&self, mode: LockMode) -> Result<Option<Word>, Fault> {
        self.region.check_fork()?;
        match self.take(mode) {
            Ok(word) => {
                self.failures.store(0, Ordering::Relaxed); // Relaxed, here and below: a mere count
                Ok(Some(word))
            }
            Err(busy) => self.prove_owners(mode, busy),
        }
    }

    #[cold]
    fn prove_owners(&self, mode: LockMode, busy: Busy) -> Result<Option<Word>, Fault> {
        self.refuse_damage(busy)?;
        if !self.failures.fetch_add(1, Ordering::Relaxed).is_multiple_of(PROVE_EVERY) {
            return Ok(None);
        }
        let hint_only = busy.is_hint_only(mode == LockMode::Read);
        let mut awaited = *lock(&self.writers) > 0;
        let mut buried = false;
        for (index, slot) in self.region.slots().enumerate().filter(|(it, _)| *it != self.index) {
            let tag = slot.tag.load(Ordering::SeqCst);
            let wants = hint_only && self.wants(index);
            if tag == 0 || !wants && !busy.word.has(owner_bit(index)) {
                continue;
            }
            if self.shared.with(|endpoint| found_dead(endpoint, index))?? {
                buried = true;
            } else {
                awaited |= wants;
            }
        }
        self.shared.rest();
        let mended = hint_only && !awaited;
        if mended {
            self.tell_all();
            self.raw().unhint(busy.word); // seen before the seats
        }
        Ok(if buried || mended { self.take(mode).ok() } else { None })
    }

    /// Takes out whoever is proven dead. It knocks at every door, so it is nothing for each call.
    #[cfg(feature = "python")]
    pub(crate) fn bury_dead(&self) -> Result<(), Fault> {
        for (index, slot) in self.region.slots().enumerate().filter(|(it, _)| *it != self.index) {
            if slot.tag.load(Ordering::SeqCst) != 0 {
                self.shared.with(|endpoint| found_dead(endpoint, index))??;
            }
        }
        self.shared.rest();
        Ok(())
    }

    /// Gives the lock back. `torn`: the writer did not get to the end of what it did.
    #[inline]
    pub(crate) fn give(&self, mode: LockMode, torn: bool) {
        if self.region.is_inherited() {
            return; // the lock is the parent's
        }
        failpoint!("lock.give");
        let left = match mode {
            LockMode::Read => self.raw().leave_read(),
            LockMode::Write => self.raw().leave_write(torn),
        };
        failpoint!("lock.given");
        self.tell(left);
        if self.door_due.load(Ordering::Relaxed) {
            self.look_at_door();
        }
    }

    /// A handle that never waits has to take in now and then who came to its door and went.
    #[cold]
    fn look_at_door(&self) {
        self.door_due.store(false, Ordering::Relaxed); // Relaxed: one look more or less
        let _ = self.shared.with(Endpoint::empty_door);
    }

    /// The writer reads on.
    pub(crate) fn downgrade(&self) {
        if !self.region.is_inherited() {
            let left = self.raw().downgrade();
            failpoint!("lock.downgraded");
            self.tell(left);
            self.tell_others();
        }
    }

    /// The only reader writes from now on.
    pub(crate) fn try_upgrade(&self) -> bool {
        if self.region.is_inherited() {
            return false;
        }
        let upgraded = self.raw().try_upgrade();
        if upgraded {
            self.note_since();
        } else {
            self.tell_ours();
        }
        upgraded
    }

    /// Sets or clears the mark that the bytes may be half written.
    pub(crate) fn set_poisoned(&self, poisoned: bool) -> Result<(), Fault> {
        self.region.check_fork()?;
        self.raw().set_poisoned(poisoned);
        Ok(())
    }

    /// Counts the guards that were left while views of them live, for `holders`.
    #[cfg(feature = "python")]
    pub(crate) fn count_kept(&self, more: bool) {
        let before = match more {
            true => self.kept.fetch_add(1, Ordering::SeqCst) + 1,
            false => self.kept.fetch_sub(1, Ordering::SeqCst) - 1,
        };
        if !self.region.is_inherited() {
            self.seat().kept.store(before, Ordering::SeqCst);
        }
    }

    /// The fault for a word that correct handles cannot have left.
    pub(super) fn damaged(&self, what: &str) -> Fault {
        let cause = format!(
            "its lock word is damaged ({what}): something wrote over it; remove it and make it anew"
        );
        self.region.fault(FaultKind::Damaged, cause)
    }
}

impl Drop for Core {
    /// A guard that was leaked (`mem::forget`) is given back with its handle.
    fn drop(&mut self) {
        match self.stake.load().mode {
            Mode::Idle => {}
            Mode::Readers(count) => (0..count).for_each(|_| self.give(LockMode::Read, false)),
            Mode::Writer => self.give(LockMode::Write, false),
        }
        if !self.region.is_inherited() {
            // A wait that was leaked keeps the endpoint; it must not keep others out.
            self.seat().wants.store(0, Ordering::SeqCst);
            let _ = self.shared.with(Endpoint::detach);
        }
    }
}

impl Core {
    /// An error if an attempt met damage.
    pub(super) fn refuse_damage(&self, busy: Busy) -> Result<(), Fault> {
        if busy.why != Why::Damaged {
            return Ok(());
        }
        Err(self.damaged(&format!("{:?}", busy.word)))
    }
}
