//! The tokio face where no poll set can be registered with a runtime: every park is refused.

use crate::error::{Fault, FaultKind};
use crate::notify::Endpoint;
use crate::region::Region;
use crate::sys::fd::Fd;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Where the poll set would be registered.
#[derive(Debug, Default)]
pub(crate) struct TokioFace;

impl TokioFace {
    pub(crate) fn poll_park(
        &mut self,
        _cx: &mut Context<'_>,
        endpoint: &mut Endpoint,
    ) -> Poll<Result<(), Fault>> {
        Poll::Ready(Err(unsupported(&endpoint.region)))
    }
}

/// One poll set in several runtimes.
#[derive(Debug, Default)]
pub(crate) struct Registrations;

impl Registrations {
    pub(crate) fn here(
        &mut self,
        region: &Region,
        _fd: &Arc<Fd>,
    ) -> Result<Arc<Registered>, Fault> {
        Err(unsupported(region))
    }

    pub(crate) fn shut_down(
        &mut self,
        _region: &Region,
        dead: &Arc<Registered>,
    ) -> Result<(), Fault> {
        match dead.never {}
    }
}

/// A registration; there can be none.
#[derive(Debug)]
pub(crate) struct Registered {
    never: Infallible,
}

impl Registered {
    pub(crate) async fn readable(&self) -> io::Result<Guard> {
        match self.never {}
    }
}

/// A poll set as `AsyncFd` wants it; there can be none.
#[derive(Debug)]
pub(crate) struct Pollable {
    set: Arc<Fd>,
}

impl Pollable {
    pub(crate) fn new(set: Arc<Fd>) -> Pollable {
        Pollable { set }
    }
}

/// What tokio would make of a descriptor.
#[derive(Debug)]
pub(crate) struct AsyncFd<T> {
    inner: T,
}

impl AsyncFd<Pollable> {
    pub(crate) fn poll_read_ready(&self, _cx: &mut Context<'_>) -> Poll<io::Result<Guard>> {
        match *self.inner.set.never() {}
    }
}

/// Registers with the current runtime; nobody can have a poll set to register.
pub(crate) fn register(pollable: Pollable) -> io::Result<AsyncFd<Pollable>> {
    match *pollable.set.never() {}
}

/// The readiness of a registration.
#[derive(Debug)]
pub(crate) struct Guard {
    never: Infallible,
}

impl Guard {
    pub(crate) fn clear_ready(&mut self) {
        match self.never {}
    }
}

fn unsupported(region: &Region) -> Fault {
    let cause = "waiting in a tokio task (RegisterWaitForSingleObject) is not available on this \
                 system yet";
    region.fault(FaultKind::Unsupported, cause)
}
