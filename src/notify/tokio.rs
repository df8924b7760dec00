//! The tokio face: the endpoint's poll set registered once per runtime, lazily, at the first park.
//!
//! A descriptor registered on a runtime that nobody drives never wakes another one, so the id of the
//! current runtime is compared whenever an operation is about to park, and only then.

use crate::error::{Fault, FaultKind};
use crate::notify::Endpoint;
use crate::region::Region;
use crate::sys::fd::Fd;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::Interest;
pub(crate) use tokio::io::unix::AsyncFd;
use tokio::runtime::{Handle, Id};

/// A poll set as `AsyncFd` wants it.
#[derive(Debug)]
pub(crate) struct Pollable(Arc<Fd>);

impl Pollable {
    /// For a set that is not an endpoint's.
    pub(crate) fn new(set: Arc<Fd>) -> Pollable {
        Pollable(set)
    }
}

impl AsRawFd for Pollable {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Where the poll set is registered.
#[derive(Debug, Default)]
pub(crate) struct TokioFace {
    registered: Option<(Id, AsyncFd<Pollable>)>,
}

impl TokioFace {
    /// Step 5 and 6: pending while nothing fired; ready after a harvest.
    pub(crate) fn poll_park(
        &mut self,
        cx: &mut Context<'_>,
        endpoint: &mut Endpoint,
    ) -> Poll<Result<(), Fault>> {
        for _ in 0..2 {
            let fd = match self.on_this_runtime(endpoint) {
                Ok(fd) => fd,
                Err(fault) => return Poll::Ready(Err(fault)),
            };
            match fd.poll_read_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(mut guard)) => {
                    // In this order: what fires after the harvest makes a new edge, which is not
                    // the one that the guard clears.
                    let harvested = endpoint.harvest();
                    if harvested.is_ok() {
                        guard.clear_ready(); // else something is left that makes no new edge
                    }
                    return Poll::Ready(harvested);
                }
                // The runtime of the registration is shutting down: register with this one anew.
                Poll::Ready(Err(_)) => self.registered = None,
            }
        }
        let cause = "the tokio runtime is shutting down";
        Poll::Ready(Err(endpoint.region.fault(FaultKind::NoRuntime, cause)))
    }

    fn on_this_runtime(&mut self, endpoint: &mut Endpoint) -> Result<&AsyncFd<Pollable>, Fault> {
        let id = current_runtime(&endpoint.region)?;
        if self.registered.as_ref().is_none_or(|(known, _)| *known != id) {
            self.registered = None; // out of the old runtime before it goes into the new one
            let pollable = Pollable(Arc::clone(endpoint.poll_fd()?));
            let fd =
                register(pollable).map_err(|err| endpoint.region.os_fault("epoll_ctl", &err))?;
            self.registered = Some((id, fd));
        }
        match &self.registered {
            Some((_, fd)) => Ok(fd),
            None => Err(endpoint.region.fault(FaultKind::NoRuntime, "not registered")),
        }
    }
}

/// One poll set in several runtimes at once, for the waiters that share an endpoint. Each runtime
/// hears every event; nobody depends on another runtime being driven.
#[derive(Debug, Default)]
pub(crate) struct Registrations {
    list: Vec<(Id, Arc<AsyncFd<Pollable>>)>,
}

impl Registrations {
    /// The registration with the current runtime, made if need be. Those that nobody waits for are
    /// let go when another is made.
    pub(crate) fn here(
        &mut self,
        region: &Region,
        fd: &Arc<Fd>,
    ) -> Result<Arc<AsyncFd<Pollable>>, Fault> {
        let id = current_runtime(region)?;
        if let Some((_, known)) = self.list.iter().find(|(known, _)| *known == id) {
            return Ok(Arc::clone(known));
        }
        self.list.retain(|(_, fd)| Arc::strong_count(fd) > 1);
        let fd =
            register(Pollable(Arc::clone(fd))).map_err(|err| region.os_fault("epoll_ctl", &err))?;
        let fd = Arc::new(fd);
        self.list.push((id, Arc::clone(&fd)));
        Ok(fd)
    }

    /// Forgets a registration whose runtime shuts down. An error when that is the current runtime.
    pub(crate) fn shut_down(
        &mut self,
        region: &Region,
        dead: &Arc<AsyncFd<Pollable>>,
    ) -> Result<(), Fault> {
        let current = current_runtime(region)?;
        let at = self.list.iter().position(|(_, fd)| Arc::ptr_eq(fd, dead));
        match at.map(|at| self.list.swap_remove(at)) {
            Some((id, _)) if id == current => {
                Err(region.fault(FaultKind::NoRuntime, "the tokio runtime is shutting down"))
            }
            _ => Ok(()),
        }
    }
}

fn current_runtime(region: &Region) -> Result<Id, Fault> {
    Handle::try_current().map(|handle| handle.id()).map_err(|_| {
        let cause = "an async verb was awaited outside a tokio runtime; await it inside one, or use \
                     the `blocking_` form";
        region.fault(FaultKind::NoRuntime, cause)
    })
}

/// Registers a set with the current runtime.
#[allow(unsafe_code, reason = "tokio's registration wants a promise about the descriptor")]
pub(crate) fn register(pollable: Pollable) -> std::io::Result<AsyncFd<Pollable>> {
    // SAFETY: `Pollable` owns the descriptor through an `Arc` that the `AsyncFd` holds, so it stays
    // open and the same until it is deregistered; `as_raw_fd` always returns that one. It is an
    // epoll descriptor, which no other process can close or replace here.
    unsafe { AsyncFd::register_with_interest(pollable, Interest::READABLE) }
        .map_err(|err| err.into_parts().1)
}
