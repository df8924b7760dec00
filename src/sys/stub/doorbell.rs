//! The doorbell: not written for this system yet (it will be a named event).

use crate::sys::fd::Fd;
use crate::sys::unsupported::unsupported;
use std::convert::Infallible;
use std::io;

/// The sleeper's side; there can be none.
#[derive(Debug)]
pub(crate) struct Doorbell {
    never: Infallible,
}

impl Doorbell {
    pub(crate) fn new() -> io::Result<Doorbell> {
        Err(unsupported("a doorbell (CreateEvent)"))
    }

    pub(crate) fn edge_triggered(&self) -> bool {
        match self.never {}
    }

    pub(crate) fn watched(&self) -> &Fd {
        match self.never {}
    }

    pub(crate) fn for_waker(&self) -> &Fd {
        match self.never {}
    }

    pub(crate) fn drain(&self) {
        match self.never {}
    }
}

/// Rings a doorbell that somebody handed to us.
pub(crate) fn ring(_bell: &Fd) -> io::Result<()> {
    Err(unsupported("ringing a doorbell (SetEvent)"))
}

/// Whether what a peer handed to us can be a doorbell.
pub(crate) fn is_bell(_fd: &Fd) -> bool {
    false
}
