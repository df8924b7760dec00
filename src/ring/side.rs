//! What both ends of a ring do alike: know the peer, tell its end once, arm, and wait in each of the
//! three ways. The ends differ in what they look for ([`Side::look`]).

use crate::error::{Fault, FaultKind, errno};
use crate::layout::{RingIndices, Slot};
use crate::notify::awake::{Awake, SPINS, TURNS};
#[cfg(feature = "tokio")]
use crate::notify::tokio::TokioFace;
use crate::notify::{Endpoint, Meeting, link};
use crate::region::Region;
use crate::ring::error::Stop;
use crate::ring::raw::RingMemory;
use crate::ring::raw_frame::{Damage, Geometry};
use crate::ring::stat::EndStat;
use crate::sync::Ordering;
use crate::sys::fd::Fd;
use crate::sys::poll::Waited;
use crate::sys::process;
#[cfg(unix)]
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::ptr::NonNull;
use std::sync::Arc;
#[cfg(feature = "tokio")]
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// A peer that is not there any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) tag: u64,
    pub(super) died: bool,
    pub(super) pid: u32,
}

/// An attached end: endpoint, peer, and how it waits.
#[derive(Debug)]
pub(super) struct Base {
    // Before the endpoint: out of the runtime before the descriptor goes.
    #[cfg(feature = "tokio")]
    face: TokioFace,
    pub(super) endpoint: Box<Endpoint>,
    /// The slot of the other end.
    other: usize,
    /// Tag and process of the peer we deal with; 0 for none.
    known: u64,
    pid: u32,
    /// A peer that left and is not told about yet.
    pub(super) gone: Option<Gone>,
    turns: Awake,
    spins: Awake,
    spin: Option<Duration>,
    /// Consecutive failures of `try_` verbs.
    fails: u32,
    /// Failures of verbs that look after the peer now and then only.
    #[cfg(feature = "python")]
    misses: u32,
    /// A task went to sleep on the poll set, and nothing was taken in since.
    #[cfg(feature = "tokio")]
    asleep: bool,
    /// Async verbs since the last turn for the other tasks.
    #[cfg(feature = "tokio")]
    verbs: u32,
    /// The duplicate for foreign loops.
    #[cfg(unix)]
    public_fd: Option<Fd>,
}

/// How many async verbs ask for one turn of the budget.
#[cfg(feature = "tokio")]
const COOP_EVERY: u32 = 64;
/// Each so many failures in a row a `try_` verb looks whether the peer lives.
const LOOK_EVERY: u32 = 64;
/// The same for those who pass a death over: they see to their door, and that the dead are taken out.
#[cfg(feature = "python")]
const MISS_EVERY: u32 = 256;

/// The part of a verb that differs between the ends.
pub(super) trait Side {
    /// What is looked for, and found.
    type Found;
    /// The common part.
    fn base(&mut self) -> &mut Base;
    /// Is it there? Also tells, once, of a peer that is gone.
    fn look(&mut self) -> Result<Option<Self::Found>, Stop>;
    /// Whether `look` tells of a peer that is gone, so that there is no sleep before it did.
    fn tells(&self) -> bool {
        true
    }
}

/// The memory of a ring, for as long as the endpoint keeps the region.
#[allow(unsafe_code, reason = "the one place where a mapping becomes ring memory")]
pub(super) fn memory_of(region: &Arc<Region>, geometry: Geometry) -> RingMemory {
    let indices = NonNull::from(region.kind_area::<RingIndices>());
    let (base, len) = region.payload();
    assert!(len as u64 >= geometry.capacity(), "payload smaller than the geometry");
    // SAFETY: both lie in the mapping of `region`, in bounds (just checked) and page or 128-byte
    // aligned; the ends keep the region in their endpoint, next to the value made here, and drop it
    // last. What other processes write there is validated on every use.
    unsafe { RingMemory::new(indices, base, geometry) }
}

impl Base {
    pub(super) fn new(endpoint: Box<Endpoint>, spin: Option<Duration>) -> Base {
        Base {
            #[cfg(feature = "tokio")]
            face: TokioFace::default(),
            other: 1 - endpoint.index,
            endpoint,
            known: 0,
            pid: 0,
            gone: None,
            turns: Awake::new(TURNS),
            spins: Awake::new(SPINS),
            spin,
            fails: 0,
            #[cfg(feature = "python")]
            misses: 0,
            #[cfg(feature = "tokio")]
            asleep: false,
            #[cfg(feature = "tokio")]
            verbs: 0,
            #[cfg(unix)]
            public_fd: None,
        }
    }

    pub(super) fn region(&self) -> &Arc<Region> {
        &self.endpoint.region
    }

    fn other_slot(&self) -> &Slot {
        self.endpoint.region.slot(self.other)
    }

    /// The slot of the other end holds another tag than the one we know. One load of a line that we
    /// look at anyway.
    #[inline]
    pub(super) fn peer_changed(&self) -> bool {
        // Relaxed: `meet` reads it again; a change seen late is seen at the next look.
        self.other_slot().tag.load(Ordering::Relaxed) != self.known
    }

    /// Meets whoever is in the other slot now (so that it can be woken), and remembers who left.
    #[cold]
    pub(super) fn meet(&mut self) -> Result<(), Stop> {
        self.endpoint.check_fork()?;
        let old = (self.known, self.pid);
        match self.endpoint.meet(self.other)? {
            Meeting::Live { tag } => {
                self.pid = self.endpoint.link(self.other).map_or(0, |link| link.pid);
                self.known = tag;
                if old.0 != 0 && old.0 != tag {
                    self.left(old);
                }
            }
            Meeting::Nobody => {
                (self.known, self.pid) = (0, 0);
                if old.0 != 0 {
                    self.left(old);
                }
            }
            Meeting::Dead { tag, pid } => {
                link::reap(&self.endpoint.region, self.other, tag);
                self.endpoint.drop_link(self.other);
                (self.known, self.pid) = (0, 0);
                self.gone = Some(Gone { tag, died: true, pid });
            }
        }
        Ok(())
    }

    /// Whether `tag` is in the slot of the other end now.
    pub(super) fn is_peer(&self, tag: u64) -> bool {
        self.other_slot().tag.load(Ordering::SeqCst) == tag
    }

    /// A stream without an end is there, of `tag`: if that one was reaped before we came, we have its
    /// death to tell, for whoever reaped it may have died before it told.
    pub(super) fn left_before(&mut self, tag: u64) {
        if tag != 0 && !self.is_peer(tag) {
            self.left((tag, 0));
        }
    }

    fn left(&mut self, (tag, pid): (u64, u32)) {
        let died = self.other_slot().died.load(Ordering::SeqCst) == tag;
        self.gone = Some(Gone { tag, died, pid });
    }

    pub(super) fn damaged(&self, damage: Damage) -> Stop {
        let cause = format!("{damage}; remove the ring and start again");
        Stop::Fault(self.region().fault(FaultKind::Damaged, cause))
    }

    pub(super) fn died(&self, gone: Gone, who: &str) -> Stop {
        let pid = (gone.pid != 0).then_some(gone.pid);
        let text = pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
        let cause = format!("the {who}{text} died; another one may attach");
        let fault = self.region().fault(FaultKind::Os, cause).with_errno(errno::EPIPE);
        Stop::PeerDied { fault, pid }
    }

    /// Each so many async verbs, which mostly need no wait, ask tokio's cooperative budget, so that a
    /// ring that is never empty (or never full) does not starve the other tasks.
    #[cfg(feature = "tokio")]
    #[inline]
    pub(super) fn turn_is_due(&mut self) -> bool {
        self.verbs = self.verbs.wrapping_add(1);
        self.verbs.is_multiple_of(COOP_EVERY)
    }

    /// Poll form: pending when the other tasks have their turn first.
    #[cfg(feature = "tokio")]
    pub(super) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.turn_is_due() {
            return Poll::Ready(());
        }
        tokio::task::coop::poll_proceed(cx).map(|turn| turn.made_progress())
    }

    /// The watches of the peer, looked at without sleeping.
    pub(super) fn peer_may_be_gone(&mut self) -> bool {
        self.known != 0 && self.endpoint.look_at(self.other)
    }

    /// The other end is there (as far as we have seen).
    pub(super) fn has_peer(&self) -> bool {
        self.known != 0
    }

    /// After a publication: wakes the other end when it sleeps.
    #[inline]
    pub(super) fn wake(&mut self) {
        self.endpoint.wake(self.other);
    }

    /// What was waited for is there.
    #[inline]
    pub(super) fn came(&mut self) {
        self.turns.came();
        self.spins.came();
        self.fails = 0;
    }

    /// A `try_` verb found nothing. The first time and every 64th time in a row it looks after the
    /// peer and its own door; true: the peer may be gone, look again.
    pub(super) fn tried(&mut self) -> Result<bool, Stop> {
        self.fails = self.fails.wrapping_add(1);
        if self.fails % LOOK_EVERY != 1 {
            return Ok(false);
        }
        self.look_after()
    }

    /// As [`Base::tried`] for verbs that tell nobody of a death: now and then, whatever comes between.
    #[cfg(feature = "python")]
    #[inline]
    pub(super) fn missed(&mut self) -> Result<bool, Stop> {
        self.misses = self.misses.wrapping_add(1);
        if self.misses % MISS_EVERY == 1 { self.look_after() } else { Ok(false) }
    }

    /// Looks after the peer and our own door. True: the peer may be gone, look again.
    #[cold]
    pub(super) fn look_after(&mut self) -> Result<bool, Stop> {
        self.endpoint.check_fork()?;
        self.endpoint.answer_door()?;
        self.meet()?;
        if self.endpoint.look_at(self.other) {
            self.meet()?;
        }
        Ok(self.gone.is_some())
    }

    /// Steps 1 to 3 of the sleeper.
    fn prepare(&mut self, tells: bool) -> Result<bool, Stop> {
        self.endpoint.check_fork()?;
        self.endpoint.begin()?;
        self.meet()?;
        if tells && self.gone.is_some() {
            return Ok(false);
        }
        if self.known != 0 {
            self.endpoint.unwatch_inode();
            self.endpoint.watch(self.other)?;
        } else {
            self.endpoint.watch_inode();
            if self.region().is_nameless() {
                return Err(Stop::Fault(self.removed()));
            }
        }
        Ok(true)
    }

    /// Steps 5 and 6 on tokio: pending = asleep; ready = harvested.
    #[cfg(feature = "tokio")]
    fn poll_park(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Stop> {
        self.endpoint.check_fork()?;
        let polled = self.face.poll_park(cx, &mut self.endpoint);
        self.asleep = polled.is_pending();
        if !self.asleep {
            self.endpoint.end();
        }
        match polled {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(harvested) => Ok(Poll::Ready(harvested?)),
        }
    }

    fn removed(&self) -> Fault {
        let cause =
            "it was removed and nobody else is attached, so nobody can come; open the name anew";
        self.region().fault(FaultKind::Removed, cause)
    }

    /// The duplicate of the poll set for foreign loops, made on first use. Never the one that our
    /// own faces register: a loop keeps one reader for a descriptor.
    #[cfg(unix)]
    pub(super) fn public_fd(&mut self) -> Result<RawFd, Fault> {
        if self.public_fd.is_none() {
            self.endpoint.check_fork()?;
            let made = self.endpoint.poll_fd()?.duplicate();
            self.public_fd = Some(made.map_err(|err| self.region().os_fault("dup", &err))?);
        }
        Ok(self.public_fd.as_ref().map_or(-1, AsRawFd::as_raw_fd))
    }

    /// The duplicate, if `public_fd` made it.
    #[cfg(unix)]
    pub(super) fn made_fd(&self) -> BorrowedFd<'_> {
        self.public_fd.as_ref().expect("call `fileno` once before `as_fd`").as_fd()
    }

    pub(super) fn stat(&self) -> EndStat {
        let counters = self.endpoint.counters;
        EndStat { parks: counters.parks, rings: counters.rings, knocks: counters.knocks }
    }

    /// Blocking spin that the user asked for, unless the peer needs our core to make progress.
    fn spin_for(&self) -> Option<Duration> {
        let theirs = self.other_slot().last_cpu.load(Ordering::Relaxed); // Relaxed: a hint
        self.spin.filter(|_| theirs != process::current_cpu())
    }
}

/// Steps 1 to 4: true = sleep now. Whatever happens before the true, nobody is left to ring us.
pub(super) fn arm<S: Side>(side: &mut S) -> Result<bool, Stop> {
    let tells = side.tells();
    let armed = match side.base().prepare(tells) {
        Ok(true) => side.look().map(|found| found.is_none()),
        other => other,
    };
    match armed {
        Ok(true) => {
            side.base().endpoint.counters.parks += 1;
            crate::sys::failpoint::failpoint!("park.armed");
        }
        _ => side.base().endpoint.end(),
    }
    armed
}

/// After a wake, or instead of one: harvest, and nobody needs to ring us.
pub(super) fn disarm<S: Side>(side: &mut S) -> Result<(), Fault> {
    let base = side.base();
    base.endpoint.check_fork()?;
    let harvested = base.endpoint.harvest();
    base.endpoint.end();
    harvested
}

/// Looks until `spin` is over.
pub(super) fn spin<S: Side>(side: &mut S) -> Result<Option<S::Found>, Stop> {
    let Some(spin) = side.base().spin_for() else { return Ok(None) };
    let until = Instant::now() + spin;
    while Instant::now() < until {
        for _ in 0..16 {
            if let Some(found) = side.look()? {
                return Ok(Some(found));
            }
            std::hint::spin_loop();
        }
    }
    Ok(None)
}

/// The async form: look, stay awake for a few turns, park.
#[cfg(feature = "tokio")]
pub(super) fn poll_find<S: Side>(
    side: &mut S,
    cx: &mut Context<'_>,
) -> Poll<Result<S::Found, Stop>> {
    // Woken: take in what fired before looking, or the next park would find it still standing.
    if side.base().asleep && side.base().poll_park(cx)?.is_pending() {
        side.base().endpoint.end(); // polled for another reason; a new park takes a new number
    }
    loop {
        if let Some(found) = side.look()? {
            side.base().came();
            return Poll::Ready(Ok(found));
        }
        if let Some(found) = spin(side)? {
            return Poll::Ready(Ok(found));
        }
        let base = side.base();
        let slot = base.endpoint.region.slot(base.other);
        if base.spin.is_none() && base.turns.stay(slot) {
            // Back to the scheduler: other tasks run, the I/O driver is polled, then we look again.
            let turn = std::pin::pin!(tokio::task::yield_now());
            if turn.poll(cx).is_pending() {
                return Poll::Pending;
            }
            continue;
        }
        base.turns.parks();
        if !arm(side)? {
            continue;
        }
        if side.base().poll_park(cx)?.is_pending() {
            return Poll::Pending;
        }
    }
}

/// The blocking form: look, spin for a while, park the thread. `interrupted` is asked whether to give
/// up before each park, since a signal that came earlier interrupts none, and after each signal.
pub(super) fn block_find<S: Side>(
    side: &mut S,
    timeout: Option<Duration>,
    interrupted: &mut dyn FnMut() -> bool,
) -> Result<S::Found, Stop> {
    block_find_beside(side, timeout, None, interrupted)
}

/// The same; `interrupted` is also asked when `bell` becomes readable, which a signal between the
/// last look and the sleep rings too.
pub(super) fn block_find_beside<S: Side>(
    side: &mut S,
    timeout: Option<Duration>,
    bell: Option<&Fd>,
    interrupted: &mut dyn FnMut() -> bool,
) -> Result<S::Found, Stop> {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        if let Some(found) = side.look()? {
            side.base().came();
            return Ok(found);
        }
        if let Some(found) = spin(side)? {
            return Ok(found);
        }
        let base = side.base();
        let slot = base.endpoint.region.slot(base.other);
        if base.spin.is_none() && base.spins.stay(slot) {
            std::hint::spin_loop();
            continue;
        }
        base.spins.parks();
        if !arm(side)? {
            continue;
        }
        let given_up = interrupted();
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let base = side.base();
        if given_up {
            base.endpoint.end();
            return Err(Stop::Interrupted);
        }
        let waited = match left {
            Some(Duration::ZERO) => Ok(Waited::TimedOut),
            left => base.endpoint.harvest_beside(left, bell),
        };
        base.endpoint.end();
        match waited? {
            Waited::Ready => {}
            Waited::Interrupted if interrupted() => return Err(Stop::Interrupted),
            Waited::Interrupted => {}
            Waited::TimedOut => {
                return side.look()?.ok_or(Stop::TimedOut);
            }
        }
    }
}
