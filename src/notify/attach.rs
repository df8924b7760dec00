//! Attaching: the door is open before the slot is taken, so whoever sees the tag can knock; the slot
//! is taken under the inode's lock, so no remover pulls the file away underneath; dead owners are
//! proven and reaped on the way; whoever sleeps is rung before the call returns, so that it watches
//! the newcomer.

use crate::error::{Fault, FaultKind, OpenError, errno};
use crate::notify::link::{self, Proof};
use crate::notify::{Endpoint, slots};
use crate::region::Region;
use crate::sync::{Ordering, fence};
use crate::sys::failpoint::failpoint;
use crate::sys::fd;
use crate::sys::file;
use crate::sys::process;
use std::sync::Arc;

/// Capability bits in the low byte of a tag. None are defined yet; unknown ones are ignored.
const CAPABILITIES: u64 = 0;

/// The slot that a role takes, and the word for it in messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Role {
    pub(crate) index: usize,
    pub(crate) noun: &'static str,
}

/// Takes the owner of a slot out that is proven dead: mends what it left in the words of the kind, frees
/// its slot, and rings whom that may concern.
pub(crate) type Bury = fn(&mut Endpoint, usize, u64) -> Result<(), Fault>;

/// The outcome of an attempt.
#[derive(Debug)]
pub(crate) enum Attach {
    Done(Box<Endpoint>),
    /// The name has been removed (or replaced): open it anew and try again.
    Stale,
}

impl Endpoint {
    /// Takes the slot of `role`. `born` is false while the region has no name yet: then nobody else
    /// can see it, and no lock is needed.
    pub(crate) fn attach(
        region: &Arc<Region>,
        role: Role,
        born: bool,
    ) -> Result<Attach, OpenError> {
        Self::attach_behind(region, role, born, |_| Ok(()))
    }

    /// The same, with `before` run between door and slot: what it opens under the tag is open before
    /// anybody can read the tag.
    pub(crate) fn attach_behind(
        region: &Arc<Region>,
        role: Role,
        born: bool,
        before: impl FnOnce(u64) -> Result<(), OpenError>,
    ) -> Result<Attach, OpenError> {
        Self::enter(region, role.index, born, before, |endpoint| endpoint.take_slot(role))
    }

    /// Takes any free slot, for kinds whose slots are all alike; the dead are taken out by `bury`.
    pub(crate) fn attach_any(
        region: &Arc<Region>,
        born: bool,
        bury: Bury,
    ) -> Result<Attach, OpenError> {
        Self::enter(region, 0, born, |_| Ok(()), |endpoint| endpoint.take_any_slot(bury))
    }

    fn enter(
        region: &Arc<Region>,
        index: usize,
        born: bool,
        before: impl FnOnce(u64) -> Result<(), OpenError>,
        take: impl FnOnce(&mut Endpoint) -> Result<(), OpenError>,
    ) -> Result<Attach, OpenError> {
        region.check_fork()?;
        fd::keep_spare();
        let random = || file::random().map_err(|err| region.os_fault("getrandom", &err));
        let tag = (random()?.max(1) << 8) | CAPABILITIES;
        let door = region
            .doors()
            .listen(tag, region.owner())
            .map_err(|err| region.os_fault("making a door", &err))?;
        failpoint!("attach.door");
        // From here on dropping the endpoint removes the door, and frees the slot if it got it.
        let mut endpoint = Endpoint::new(Arc::clone(region), index, tag, door, random()?);
        before(tag)?;
        if born {
            let claim = region.claim()?;
            failpoint!("attach.locked");
            if !claim.named || region.is_removed() {
                return Ok(Attach::Stale);
            }
            take(&mut endpoint)?;
        } else {
            take(&mut endpoint)?;
        }
        failpoint!("attach.claimed");
        let hints = slots::Hints {
            pid: process::pid(),
            start: process::own_start_time(),
            pid_ns: process::pid_namespace(),
        };
        slots::write_hints(endpoint.slot(), tag, hints);
        endpoint.slot().last_cpu.store(process::current_cpu(), Ordering::Relaxed); // Relaxed: a hint
        fence(Ordering::SeqCst);
        endpoint.wake_all();
        failpoint!("attach.rung");
        Ok(Attach::Done(Box::new(endpoint)))
    }

    /// CAS 0 to tag; an owner that is proven dead is taken out first.
    fn take_slot(&mut self, role: Role) -> Result<(), OpenError> {
        // Bounded: each round that does not return freed a slot or saw it change hands.
        for _ in 0..64 {
            let Err(other) = slots::claim(self.slot(), self.tag) else { return Ok(()) };
            let proof = link::prove(&self.region, other);
            if self.slot().tag.load(Ordering::SeqCst) != other {
                continue;
            }
            match proof {
                Proof::Dead { .. } => link::reap(&self.region, self.index, other),
                Proof::Unknown(fault) => return Err(fault.into()),
                Proof::Alive { pid, .. } => {
                    let pid = match pid {
                        0 => slots::read_hints(self.slot(), other).map_or(0, |hints| hints.pid),
                        pid => pid,
                    };
                    return Err(self.taken(role, pid));
                }
            }
        }
        let cause = "its slots keep changing hands; their bytes may be damaged";
        Err(self.region.fault(FaultKind::Damaged, cause).into())
    }

    /// The first free slot; only when there is none are the owners looked at, and the dead taken out.
    fn take_any_slot(&mut self, bury: Bury) -> Result<(), OpenError> {
        let slots = self.region.kind().slots();
        // Bounded: a round either takes a slot, frees one, or is the last.
        for _ in 0..64 {
            for index in 0..slots {
                if slots::claim(self.region.slot(index), self.tag).is_ok() {
                    self.index = index;
                    self.clear_stale_mask();
                    return Ok(());
                }
            }
            let mut freed = false;
            for index in 0..slots {
                let tag = self.region.slot(index).tag.load(Ordering::SeqCst);
                if tag == 0 {
                    freed = true;
                } else if matches!(link::prove(&self.region, tag), Proof::Dead { .. }) {
                    bury(self, index, tag)?;
                    freed = true;
                }
            }
            if !freed {
                break;
            }
        }
        let cause = format!("all its {slots} places are taken by live handles; close some of them");
        Err(self.region.fault(FaultKind::TooManyAttached, cause).into())
    }

    fn taken(&self, role: Role, pid: u32) -> OpenError {
        let me = if pid == process::pid() { " (this process)" } else { "" };
        let cause = format!(
            "{} is held by live pid {pid}{me}; close it there first, or use another name",
            role.noun
        );
        let fault = Fault::new(FaultKind::Os, self.region.subject(), cause);
        OpenError::RoleTaken { fault: fault.with_errno(errno::EBUSY), pid }
    }
}
