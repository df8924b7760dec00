//! Staying awake: how long to look again before parking. Waking an idle core costs 20 us or more,
//! staying awake some hundred nanoseconds; but on one core, or with a slow peer, every look is
//! wasted. So a wait stays awake for about as long as a park would cost, and only while the waits of
//! late were short enough for that to pay: their running mean decides, parked time included, so the
//! policy finds back by itself when a slow peer becomes fast.
//!
//! Spinning for as long as the alternative costs is at most twice as dear as knowing the future
//! (Karlin, Li, Manasse, Owicki: Empirical studies of competitive spinning, SOSP 1991).

use crate::layout::Slot;
use crate::sync::Ordering;
use crate::sys::process;
use std::time::{Duration, Instant};

/// How many looks a wait gets: spins in blocking code, turns of the scheduler in async code.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    looks: u32,
}

/// Turns of the async scheduler, about 350 ns each.
pub(crate) const TURNS: Scale = Scale { looks: 100 };
/// Turns of a Python event loop, 1 to 3 us each.
#[cfg(feature = "python")]
pub(crate) const LOOPS: Scale = Scale { looks: 32 };
/// Spins of a blocking thread, 15 to 40 ns each.
pub(crate) const SPINS: Scale = Scale { looks: 2000 };

/// For who would rather sleep at once: it costs no cpu, and each wake its microseconds.
pub(crate) const NEVER: Scale = Scale { looks: 0 };

/// Waits longer than this are better slept through.
const WORTH: Duration = Duration::from_micros(90);
/// One long wait counts for no more than this, so that a few short ones outweigh it.
const LONGEST: Duration = Duration::from_micros(400);
/// A policy that gave up tries again every so many waits.
const PROBE_EVERY: u32 = 64;

/// Whether the peer last ran on this cpu, or nobody knows where. Where only one cpu is allowed to both, it
/// is this one.
pub(crate) fn is_on_our_cpu(peer: &Slot) -> bool {
    let theirs = peer.last_cpu.load(Ordering::Relaxed); // Relaxed: a hint
    theirs == 0 || theirs == process::current_cpu()
}

/// The adaptive policy of one endpoint and one way of waiting.
#[derive(Debug)]
pub(crate) struct Awake {
    scale: Scale,
    /// Running mean of the waits, in nanoseconds.
    mean: u64,
    /// The wait under way: looks left, and when it began.
    wait: Option<(u32, Instant)>,
    waits: u32,
}

impl Awake {
    pub(crate) fn new(scale: Scale) -> Awake {
        Awake { scale, mean: 0, wait: None, waits: 0 }
    }

    /// One more look instead of a park? `peer` is the slot of whoever owes us the wake.
    pub(crate) fn stay(&mut self, peer: &Slot) -> bool {
        let (left, since) = match self.wait {
            Some(wait) => wait,
            None => (self.looks_for(peer), Instant::now()),
        };
        self.wait = Some((left.saturating_sub(1), since));
        left > 0
    }

    fn looks_for(&mut self, peer: &Slot) -> u32 {
        self.waits = self.waits.wrapping_add(1);
        if is_on_our_cpu(peer) {
            return 0; // looking again would keep it from running
        }
        let pays = Duration::from_nanos(self.mean) < WORTH;
        if pays || self.waits.is_multiple_of(PROBE_EVERY) { self.scale.looks } else { 0 }
    }

    /// What we waited for came. Nothing to do when there was no wait.
    #[inline]
    pub(crate) fn came(&mut self) {
        if let Some((_, since)) = self.wait.take() {
            self.learn(since.elapsed().min(LONGEST));
        }
    }

    fn learn(&mut self, waited: Duration) {
        let waited = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
        self.mean = (self.mean * 3 + waited) / 4;
    }

    /// The wait is over, and nothing came of it.
    pub(crate) fn gave_up(&mut self) {
        self.wait = None;
    }

    /// We park: no more looks in this wait.
    pub(crate) fn parks(&mut self) {
        let since = self.wait.map_or_else(Instant::now, |(_, since)| since);
        self.wait = Some((0, since));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer on some other cpu than ours.
    fn elsewhere() -> Slot {
        let slot = Slot::new();
        slot.last_cpu.store(u32::MAX, Ordering::SeqCst);
        slot
    }

    fn looks(awake: &mut Awake, peer: &Slot) -> u32 {
        let mut count = 0;
        while awake.stay(peer) {
            count += 1;
        }
        count
    }

    #[test]
    fn long_waits_end_it_and_short_ones_bring_it_back() {
        let peer = elsewhere();
        let mut awake = Awake::new(SPINS);
        assert_eq!(looks(&mut awake, &peer), SPINS.looks);
        awake.wait = None;
        for _ in 0..8 {
            awake.learn(LONGEST);
        }
        assert_eq!(looks(&mut awake, &peer), 0);
        awake.wait = None;
        for _ in 0..8 {
            awake.learn(Duration::from_micros(40));
        }
        assert_eq!(looks(&mut awake, &peer), SPINS.looks);
    }

    #[test]
    fn a_peer_on_our_core_or_unknown_is_not_waited_for_awake() {
        let mut awake = Awake::new(TURNS);
        assert_eq!(looks(&mut awake, &Slot::new()), 0);
        awake.wait = None;
        let peer = Slot::new();
        // The test thread may move between the two calls; then the policy may look.
        peer.last_cpu.store(process::current_cpu(), Ordering::SeqCst);
        let before = process::current_cpu();
        let count = looks(&mut awake, &peer);
        assert!(count == 0 || before != process::current_cpu());
    }
}
