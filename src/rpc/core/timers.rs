//! Deadlines of many calls over one timer: a heap, from which those that are over fall out lazily.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// Deadlines, the nearest first. A call that ends early leaves its entry behind, to be dropped when it is
/// due or when too many have gathered (its deadline may be weeks away).
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, u64, u64)>>,
    /// Entries from which on it pays to look for those that were left behind.
    limit: usize,
}

/// So few entries are never too many.
const FEW: usize = 64;

impl Timers {
    /// The call `id` of `owner` ends at `at`.
    pub(crate) fn add(&mut self, at: Instant, owner: u64, id: u64) {
        self.heap.push(Reverse((at, owner, id)));
    }

    /// The nearest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    /// One call whose deadline is over at `now`.
    pub(crate) fn due(&mut self, now: Instant) -> Option<(u64, u64)> {
        let Reverse((at, owner, id)) = *self.heap.peek()?;
        if at > now {
            return None;
        }
        self.heap.pop();
        Some((owner, id))
    }

    /// Forgets the calls that are over, once there are twice as many entries as were of use the last time.
    /// Call it after adding some.
    #[inline]
    pub(crate) fn tidy(&mut self, is_alive: impl Fn(u64, u64) -> bool) {
        if self.heap.len() > self.limit.max(FEW) {
            self.heap.retain(|Reverse((_, owner, id))| is_alive(*owner, *id));
            self.limit = 2 * self.heap.len();
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_nearest_comes_first_and_the_dead_are_forgotten() {
        let (start, mut timers) = (Instant::now(), Timers::default());
        for n in (0..100).rev() {
            timers.add(start + Duration::from_millis(n), 0, n);
        }
        assert_eq!(timers.next(), Some(start));
        assert_eq!(timers.due(start), Some((0, 0)));
        assert_eq!(timers.due(start), None);
        timers.tidy(|_, id| id == 50);
        assert_eq!(timers.due(start + Duration::from_secs(1)), Some((0, 50)));
        assert_eq!(timers.next(), None);
    }
}
