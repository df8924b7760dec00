//! What a server counts.

use crate::sync::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets of the histogram: powers of two of microseconds.
pub(crate) const BUCKETS: usize = 32;

/// A look at what a server has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Calls read.
    pub calls: u64,
    /// Calls answered with an error, cancelled ones among them.
    pub errors: u64,
    /// Calls read and not answered.
    pub in_flight: u64,
    /// Handlers at work (those that did not finish at once).
    pub running: u64,
    /// Clients connected.
    pub clients: u64,
    /// Clients thrown out because they broke the protocol.
    pub violations: u64,
    /// Callers turned away: too many clients, no descriptors left, another user.
    pub refused: u64,
    /// How long calls took from the read to the answer: place `n` counts those below 2^n microseconds.
    pub latency: [u64; BUCKETS],
}

impl ServerStats {
    /// A bound for the latency of that share of the calls (0.5 is the median), within a factor of two.
    ///
    /// ```
    /// # fn f(stats: ringspan::rpc::ServerStats) {
    /// println!("p99 below {:?}", stats.percentile(0.99));
    /// # }
    /// ```
    pub fn percentile(&self, share: f64) -> Option<Duration> {
        let total: u64 = self.latency.iter().sum();
        if total == 0 {
            return None;
        }
        let wanted = (total as f64 * share.clamp(0.0, 1.0)).ceil().max(1.0) as u64;
        let mut seen = 0;
        let at = self.latency.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        at.map(|n| Duration::from_micros(1 << n))
    }
}

/// The counters themselves.
#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) calls: AtomicU64,
    pub(crate) errors: AtomicU64,
    pub(crate) answered: AtomicU64,
    pub(crate) running: AtomicU64,
    pub(crate) clients: AtomicU64,
    pub(crate) violations: AtomicU64,
    pub(crate) refused: AtomicU64,
    latency: [AtomicU64; BUCKETS],
}

impl Default for Counters {
    fn default() -> Counters {
        let zero = || AtomicU64::new(0);
        Counters {
            calls: zero(),
            errors: zero(),
            answered: zero(),
            running: zero(),
            clients: zero(),
            violations: zero(),
            refused: zero(),
            latency: std::array::from_fn(|_| zero()),
        }
    }
}

/// One more. Relaxed, as all of these: a count orders nothing.
#[inline]
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    /// A call was answered.
    #[inline]
    pub(crate) fn answered(&self, took: Duration, error: bool) {
        count(&self.answered);
        if error {
            count(&self.errors);
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = (u64::BITS - micros.leading_zeros()) as usize;
        count(&self.latency[bucket.min(BUCKETS - 1)]);
    }

    pub(crate) fn snapshot(&self) -> ServerStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed); // Relaxed: see `count`
        // Answers first: a call is counted before its answer.
        let answered = get(&self.answered);
        let calls = get(&self.calls);
        ServerStats {
            calls,
            errors: get(&self.errors),
            in_flight: calls.saturating_sub(answered),
            running: get(&self.running),
            clients: get(&self.clients),
            violations: get(&self.violations),
            refused: get(&self.refused),
            latency: std::array::from_fn(|n| get(&self.latency[n])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_bound_from_above() {
        let counters = Counters::default();
        for micros in [0, 1, 3, 100] {
            count(&counters.calls);
            counters.answered(Duration::from_micros(micros), micros == 3);
        }
        let stats = counters.snapshot();
        assert_eq!((stats.calls, stats.errors, stats.in_flight), (4, 1, 0));
        assert_eq!(stats.percentile(0.5), Some(Duration::from_micros(2)));
        assert_eq!(stats.percentile(1.0), Some(Duration::from_micros(128)));
    }
}
