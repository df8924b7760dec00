//! What the Python binding needs of a segment: an attached endpoint of its own for a loop that polls
//! by itself, the mapping without the handle, and names deleted as `shm_unlink` does.

use crate::error::{Fault, OpenError};
use crate::name::Name;
use crate::notify::{Attach, Endpoint};
use crate::region::{Region, raw};
use crate::segment::handle::Segment;
use crate::segment::{version, wait};
use crate::sys::fd::Fd;
use crate::sys::file::FileId;
use std::sync::Arc;

/// An endpoint for one event loop. It is a peer like any other: the handle's own `notify` rings it.
#[derive(Debug)]
pub(crate) struct Watcher {
    endpoint: Box<Endpoint>,
}

impl Watcher {
    /// Attaches one more endpoint.
    pub(crate) fn attach(segment: &Segment) -> Result<Watcher, Fault> {
        let region = &segment.named()?.region;
        region.check_fork()?;
        match Endpoint::attach_any(region, true, Endpoint::bury_plain) {
            Ok(Attach::Done(endpoint)) => Ok(Watcher { endpoint }),
            Ok(Attach::Stale) => Err(version::removed(region)),
            Err(err) => Err(err.fault().clone()),
        }
    }

    /// A duplicate of the pollable descriptor.
    pub(crate) fn park_fd(&mut self) -> Result<Fd, Fault> {
        let made = self.endpoint.poll_fd()?.duplicate();
        made.map_err(|err| self.endpoint.region.os_fault("dup", &err))
    }

    /// Steps 1 and 2; look after it.
    pub(crate) fn arm(&mut self) -> Result<(), Fault> {
        self.endpoint.check_fork()?;
        self.endpoint.begin()
    }

    /// Steps 3 and 4: the version, if it differs from `since`.
    pub(crate) fn look(&mut self, since: u64) -> Result<Option<u64>, Fault> {
        self.endpoint.check_fork()?;
        wait::look(&mut self.endpoint, since)
    }

    /// Harvests; nobody needs to ring us.
    pub(crate) fn disarm(&mut self) -> Result<(), Fault> {
        self.endpoint.check_fork()?;
        let harvested = self.endpoint.harvest();
        self.endpoint.end();
        harvested
    }
}

/// A mapping that outlives its handle.
#[derive(Debug)]
pub(crate) enum Kept {
    /// The region; slot and door are the handle's.
    Named(#[allow(dead_code, reason = "held, not read")] Arc<Region>),
    /// A raw segment has nothing but its mapping.
    Raw(#[allow(dead_code, reason = "held, not read")] Segment),
}

impl Kept {
    /// The mapping of a segment.
    pub(crate) fn of(segment: &Segment) -> Kept {
        match segment.named() {
            Ok(named) => Kept::Named(Arc::clone(&named.region)),
            Err(_) => Kept::Raw(segment.clone()),
        }
    }
}

/// Deletes a name that leads to that raw file, whatever is in it; false when it does not. Never waits,
/// and needs no descriptor.
pub(crate) fn unlink_file(name: &str, (dev, ino): (u64, u64)) -> Result<bool, OpenError> {
    Ok(raw::unlink_file(&Name::raw(name)?, FileId { dev, ino })?)
}

/// Deletes a name as `shm_unlink` does, whatever it leads to: nobody who waits is woken.
pub(crate) fn unlink_any(name: &str) -> Result<(), OpenError> {
    raw::unlink_any(&Name::raw(name)?)
}
