//! When a verb that parks gives up.

use std::time::{Duration, Instant};

/// What is left of a time-out.
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    pub(crate) fn after(timeout: Option<Duration>) -> Self {
        Deadline(timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
    }

    pub(crate) fn at(&self) -> Option<Instant> {
        self.0
    }

    pub(crate) fn left(&self) -> Option<Duration> {
        self.0.map(|at| at.saturating_duration_since(Instant::now()))
    }
}
