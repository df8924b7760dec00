//! A timer that can be watched: not written for kqueue(2)'s EVFILT_TIMER yet.

use crate::sys::fd::Fd;
use crate::sys::unsupported::unsupported;
use std::convert::Infallible;
use std::io;
use std::time::Instant;

/// The timer; there can be none.
#[derive(Debug)]
pub(crate) struct Timer {
    never: Infallible,
}

impl Timer {
    pub(crate) fn new() -> io::Result<Timer> {
        Err(unsupported("a timer (EVFILT_TIMER)"))
    }

    pub(crate) fn fd(&self) -> &Fd {
        match self.never {}
    }

    pub(crate) fn no_later_than(&mut self, _at: Option<Instant>) -> io::Result<()> {
        match self.never {}
    }

    pub(crate) fn fired(&mut self) {
        match self.never {}
    }
}
