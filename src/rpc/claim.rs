//! Who serves a name: taking it as the server, and finding the server as a caller.
//!
//! A function is an ephemeral segment with one slot, that of its server. The front door is open before
//! the slot names its tag, so whoever reads the tag can call.

use crate::error::{Fault, FaultKind, OpenError, errno};
use crate::layout::{FLAG_EPHEMERAL, Kind, PARAMS};
use crate::name::Name;
use crate::notify::find::{How, Wanted, restless};
use crate::notify::link::{self, Proof};
use crate::notify::{Endpoint, Role, lifetime, slots};
use crate::region::{Region, Spec};
use crate::rpc::front::FrontDoor;
use crate::sync::Ordering;
use crate::sys::fd::Fd;
use crate::sys::{poll, process};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The slot of the server.
const SERVER: Role = Role { index: 0, noun: "server" };
/// How often a name may change under somebody who looks for it before they give up.
const REOPENS: usize = 64;

/// A name that this process serves. The endpoint goes first: once its slot is free, another server may
/// come.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) endpoint: Box<Endpoint>,
    pub(crate) door: FrontDoor,
}

/// Takes `name` as its server: makes it, or takes it over from a dead one.
pub(crate) fn claim(name: &str) -> Result<Claim, OpenError> {
    let name = Name::new(name)?;
    let spec = Spec {
        kind: Kind::Function,
        kind_len: 0,
        meta_len: 0,
        payload_len: 0,
        params: [0; PARAMS],
        flags: FLAG_EPHEMERAL,
        mode: 0o600,
    };
    let wanted = Wanted {
        name: &name,
        how: How::OpenOrCreate,
        spec: &spec,
        bury: Endpoint::bury_plain,
        lay_out: |_| (),
    };
    // That of the latest attempt.
    let mut door = None;
    let seat = |region: &Arc<Region>, born: bool| {
        Endpoint::attach_behind(region, SERVER, born, |tag| {
            let listening = FrontDoor::listen(region.doors(), tag, region.owner())
                .map_err(|err| region.os_fault("making a front door", &err))?;
            door = Some(listening);
            Ok(())
        })
    };
    let endpoint = wanted.attach_by(|_| Ok(()), seat).map_err(served)?;
    match door {
        Some(door) => Ok(Claim { endpoint: Box::new(endpoint), door }),
        None => Err(endpoint.region.fault(FaultKind::Os, "no front door").into()),
    }
}

/// The words for a name that has its server.
fn served(err: OpenError) -> OpenError {
    let OpenError::RoleTaken { fault, pid } = err else { return err };
    let me = if pid == process::pid() { " (this process)" } else { "" };
    let cause =
        format!("it is served by live pid {pid}{me}; stop that server first, or use another name");
    let fault = Fault::new(FaultKind::Os, fault.object(), cause).with_errno(errno::EBUSY);
    OpenError::RoleTaken { fault, pid }
}

/// A name that was served when it was looked up.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) region: Arc<Region>,
    /// Of the server: the name of its front door.
    pub(crate) tag: u64,
    /// What the server said of itself; 0 in the moment before it did. For messages.
    #[cfg_attr(not(test), allow(dead_code, reason = "for tests"))]
    pub(crate) pid_hint: u32,
}

/// Finds the server of `name`. Does not disturb it, and does not attach. Where the server is not seen to
/// live it is proven; a server that stops right after is found out by the call.
pub(crate) fn find(name: &str) -> Result<Found, OpenError> {
    let name = Name::new(name)?;
    for _ in 0..REOPENS {
        let region = Region::open(&name, Some(Kind::Function))?;
        if region.is_removed() {
            lifetime::is_gone(&region)?; // ends a removal that its remover did not live to end
            continue;
        }
        let slot = region.slot(SERVER.index);
        let tag = slot.tag.load(Ordering::SeqCst);
        let hints = slots::read_hints(slot, tag);
        let found = Found { tag, pid_hint: hints.map_or(0, |hints| hints.pid), region };
        if tag != 0 && found.is_seen() {
            return Ok(found);
        }
        let lost = found.lost()?;
        let region = &found.region;
        if region.slot(SERVER.index).tag.load(Ordering::SeqCst) == tag && !region.is_nameless() {
            return match lost {
                Some(fault) => Err(fault.into()),
                None => Ok(found),
            };
        }
        // It changed hands between the looks.
    }
    Err(restless(Kind::Function, &name))
}

impl Found {
    /// The process that the server said it is runs. No proof that it serves.
    fn is_seen(&self) -> bool {
        let hinted = link::hinted(&self.region, self.tag);
        hinted.and_then(|(_, pidfd)| pidfd).is_some_and(|pidfd| !poll::is_readable(&pidfd))
    }

    /// Sleeps until the server's process ends, for `limit` at most, and no longer than until `deadline`. Not
    /// at all if the name is served by another one by now. True: `cancel` was readable.
    pub(crate) fn ends_within(
        &self,
        limit: Duration,
        deadline: Option<Instant>,
        cancel: &Fd,
    ) -> io::Result<bool> {
        let slot = self.region.slot(SERVER.index);
        if slot.tag.load(Ordering::SeqCst) != self.tag {
            return Ok(false);
        }
        let pidfd = link::hinted(&self.region, self.tag).and_then(|(_, pidfd)| pidfd);
        let left = deadline.map_or(limit, |at| at.saturating_duration_since(Instant::now()));
        let (_, [_, off]) = poll::wait_any([pidfd.as_ref(), Some(cancel)], Some(left.min(limit)))?;
        Ok(off)
    }

    /// Why the server cannot be reached at its front door: it is proven dead, or left. `None`: it lives,
    /// or took a new tag. Knocks at its wake door.
    pub(crate) fn lost(&self) -> Result<Option<Fault>, Fault> {
        let slot = self.region.slot(SERVER.index);
        let refused = |cause: String| {
            let fault = self.region.fault(FaultKind::Os, cause);
            Ok(Some(fault.with_errno(errno::ECONNREFUSED)))
        };
        let died = |pid: u32| match pid {
            0 => refused("its server died; start it again".into()),
            pid => refused(format!("its server (pid {pid}) died; start it again")),
        };
        let tag = slot.tag.load(Ordering::SeqCst);
        if tag == 0 {
            let last = slot.died.load(Ordering::SeqCst);
            return match slots::read_hints(slot, last) {
                Some(hints) => died(hints.pid),
                None => refused("nobody serves it; start its server again".into()),
            };
        }
        match link::prove(&self.region, tag) {
            Proof::Alive { .. } => Ok(None),
            Proof::Dead { pid: 0 } => died(slots::read_hints(slot, tag).map_or(0, |h| h.pid)),
            Proof::Dead { pid } => died(pid),
            Proof::Unknown(fault) => Err(fault),
        }
    }
}
