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

    pub(crate) fn private() -> io::Result<Doorbell> {
        Doorbell::new()
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

    pub(crate) fn received(_watched: Fd) -> Option<Doorbell> {
        None
    }

    pub(crate) fn into_bell(self) -> Bell {
        match self.never {}
    }
}

/// A doorbell that a peer handed to us; there can be none.
#[derive(Debug)]
pub(crate) struct Bell {
    never: Infallible,
}

impl Bell {
    pub(crate) fn new(_fd: Fd) -> Option<Bell> {
        None
    }

    pub(crate) fn ring(&self) -> io::Result<()> {
        match self.never {}
    }
}
