//! An alarm for one thread that waits: not written for this system yet.

use crate::sys::fd::Fd;
use crate::sys::unsupported::unsupported;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::task::Wake;

/// The alarm; there can be none.
#[derive(Debug)]
pub(crate) struct Alarm {
    never: Infallible,
}

impl Alarm {
    pub(crate) fn new() -> io::Result<Alarm> {
        Err(unsupported("an alarm (CreateEvent)"))
    }

    pub(crate) fn fd(&self) -> &Fd {
        match self.never {}
    }

    pub(crate) fn silence(&self) {
        match self.never {}
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        match self.never {}
    }
}
