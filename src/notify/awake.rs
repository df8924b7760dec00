//! Staying awake: how long to look again before parking. Waking an idle core costs 20 us, staying
//! awake some hundred nanoseconds; but on one core, or with a slow peer, every look is wasted. So
//! the number of looks grows where the last wait ended during them and falls to nothing where it
//! did not.

use crate::layout::Slot;
use crate::sync::Ordering;
use crate::sys::process;

/// How a policy scales: looks are cheap spins in blocking code and turns of the scheduler in async
/// code.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    /// Most looks before a park.
    most: u32,
    /// Looks granted when a policy that had given up tries again.
    probe: u32,
}

/// Turns of the async scheduler, about 350 ns each.
pub(crate) const TURNS: Scale = Scale { most: 64, probe: 4 };
/// Spins of a blocking thread, some 10 to 40 ns each.
pub(crate) const SPINS: Scale = Scale { most: 2048, probe: 128 };

/// A policy that gave up tries again every so many waits.
const PROBE_EVERY: u32 = 32;
/// The cpus that we may run on are counted again every so many waits.
const COUNT_EVERY: u32 = 64;

/// The adaptive policy of one endpoint and one way of waiting.
#[derive(Debug)]
pub(crate) struct Awake {
    scale: Scale,
    /// Looks that a wait gets now.
    budget: u32,
    /// Looks left in the wait under way; `None` between waits.
    left: Option<u32>,
    waits: u32,
    alone: bool,
}

impl Awake {
    pub(crate) fn new(scale: Scale) -> Awake {
        Awake { scale, budget: scale.probe, left: None, waits: 0, alone: false }
    }

    /// One more look instead of a park? `peer` is the slot of whoever owes us the wake.
    pub(crate) fn stay(&mut self, peer: &Slot) -> bool {
        let left = match self.left {
            Some(left) => left,
            None => self.first(peer),
        };
        self.left = Some(left.saturating_sub(1));
        left > 0
    }

    fn first(&mut self, peer: &Slot) -> u32 {
        self.waits = self.waits.wrapping_add(1);
        if self.waits % COUNT_EVERY == 1 {
            self.alone = process::allowed_cpus() < 2;
        }
        let theirs = peer.last_cpu.load(Ordering::Relaxed); // Relaxed: a hint
        if self.alone || theirs == 0 || theirs == process::current_cpu() {
            return 0; // looking again would keep the peer from running
        }
        match self.budget {
            0 if self.waits % PROBE_EVERY == 0 => self.scale.probe,
            budget => budget,
        }
    }

    /// What we waited for came. Cheap when there was no wait.
    #[inline]
    pub(crate) fn came(&mut self) {
        if let Some(left) = self.left.take()
            && left > 0
        {
            self.budget = (self.budget.max(1) * 2).min(self.scale.most);
        }
    }

    /// The looks were in vain: we park.
    pub(crate) fn parks(&mut self) {
        if self.left.is_some() {
            self.budget /= 2;
            if self.budget < self.scale.probe {
                self.budget = 0;
            }
        }
        // What comes after the park was not brought by staying awake.
        self.left = Some(0);
    }
}
