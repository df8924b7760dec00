//! What an endpoint holds of a peer: a connection to its door, its doorbell once it answered, a
//! pidfd. The connection ends with the peer's exit, exec or detach, in every pid namespace; the
//! pidfd catches a dead parent whose forked child still holds the door.
//!
//! **Death is a refused door or a readable pidfd, nothing else.** A missing door, a permission, a
//! full backlog, a lack of descriptors and time prove nothing.

use crate::error::{Fault, FaultKind, errno};
use crate::notify::slots;
use crate::notify::{Bury, Endpoint};
use crate::region::Region;
use crate::sync::Ordering;
use crate::sys::door::{self, Knock};
use crate::sys::doorbell::Bell;
use crate::sys::failpoint::failpoint;
use crate::sys::fd::Fd;
use crate::sys::poll;
use crate::sys::process;

/// One peer, known by its tag.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) index: usize,
    pub(crate) tag: u64,
    pub(crate) pid: u32,
    /// `None` when the door was full: it has callers enough to wake it.
    pub(crate) conn: Option<Fd>,
    pub(crate) bell: Option<Bell>,
    pub(crate) pidfd: Option<Fd>,
    /// Connection and pidfd are in our poll set.
    pub(crate) watched: bool,
    /// A watch fired: prove before believing.
    pub(crate) fired: bool,
}

/// What stands behind a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meeting {
    /// The slot is free.
    Nobody,
    /// A live endpoint, linked.
    Live {
        /// Its tag.
        tag: u64,
    },
    /// The owner of the slot is proven dead and not reaped yet.
    Dead {
        /// Its tag.
        tag: u64,
        /// Its process, 0 when unknown.
        pid: u32,
    },
}

/// How often a slot may change hands while we look at it before we call it unreachable.
const CHANGES: usize = 64;

/// A knock at the door of a tag, turned into a proof.
pub(crate) enum Proof {
    Alive { conn: Option<Fd>, pidfd: Option<Fd>, pid: u32 },
    Dead { pid: u32 },
    Unknown(Fault),
}

/// Knocks at the door of `tag` and says what that proves.
pub(crate) fn prove(region: &Region, tag: u64) -> Proof {
    let unreachable = |err: &std::io::Error| {
        let cause = format!(
            "its other end ({tag:016x}) cannot be reached at {}: {err}; it can be neither woken nor \
             proven dead",
            region.doors().door_path(tag).display()
        );
        let kind = match errno::of(err) {
            Some(errno::EMFILE | errno::ENFILE) => FaultKind::TooManyFiles,
            _ => FaultKind::PeerUnreachable,
        };
        let fault = region.fault(kind, cause);
        match errno::of(err) {
            Some(errno) => fault.with_errno(errno),
            None => fault,
        }
    };
    match region.doors().knock(tag) {
        Knock::Refused => Proof::Dead { pid: 0 },
        Knock::Full => {
            let (pid, pidfd) = hinted(region, tag).unwrap_or((0, None));
            Proof::Alive { conn: None, pidfd, pid }
        }
        Knock::Failed(err) => Proof::Unknown(unreachable(&err)),
        Knock::Open(conn) => match door::credentials(&conn) {
            Err(err) => Proof::Unknown(unreachable(&err)),
            Ok(cred) if cred.uid != region.owner() && cred.uid != 0 => {
                let cause =
                    format!("the other end runs as uid {}, not as the owner or root", cred.uid);
                Proof::Unknown(region.fault(FaultKind::PermissionDenied, cause))
            }
            Ok(cred) => {
                let pidfd = match door::peer_pidfd(&conn) {
                    Ok(pidfd) => pidfd,
                    Err(err) => return Proof::Unknown(unreachable(&err)),
                };
                if pidfd.as_ref().is_some_and(poll::is_readable) {
                    return Proof::Dead { pid: cred.pid };
                }
                Proof::Alive { conn: Some(conn), pidfd, pid: cred.pid }
            }
        },
    }
}

/// The process that the owner of `tag` said it is, and a pidfd of it. A hint: what fires there has to be
/// proven at the door.
pub(crate) fn hinted(region: &Region, tag: u64) -> Option<(u32, Option<Fd>)> {
    let slot = region.slots().find(|slot| slot.tag.load(Ordering::SeqCst) == tag)?;
    let hints = slots::read_hints(slot, tag)?;
    let same_space = hints.pid_ns == process::pid_namespace();
    let pidfd = if same_space { process::pidfd_of(hints.pid, hints.start) } else { None };
    Some((hints.pid, pidfd))
}

/// Takes a dead owner out of its slot and removes its door.
pub(crate) fn reap(region: &Region, index: usize, tag: u64) {
    failpoint!("reap.proven");
    if slots::reap(region.slot(index), tag) {
        failpoint!("reap.freed");
        region.unlink_doors(tag);
    }
}

impl Endpoint {
    /// Takes a dead owner out of its slot, in kinds where it leaves nothing else to mend.
    pub(crate) fn bury_plain(&mut self, index: usize, tag: u64) -> Result<(), Fault> {
        reap(&self.region, index, tag);
        self.drop_link(index);
        Ok(())
    }

    /// Whether somebody lives in the slot; a dead one is taken out first.
    pub(crate) fn meet_alive(&mut self, index: usize, bury: Bury) -> Result<bool, Fault> {
        for _ in 0..CHANGES {
            match self.meet(index)? {
                Meeting::Nobody => return Ok(false),
                Meeting::Live { .. } => return Ok(true),
                Meeting::Dead { tag, .. } => bury(self, index, tag)?,
            }
        }
        let cause = format!("slot {index} keeps changing hands; its bytes may be damaged");
        Err(self.region.fault(FaultKind::Damaged, cause))
    }

    /// Steps 3 of a sleeper that any endpoint may owe its wake: meets and watches all. With nobody
    /// there but who rests it watches the inode too, and says so: true. Who rests does not look at the file,
    /// and leaves when it finds the name gone.
    pub(crate) fn watch_everybody(&mut self, bury: Bury) -> Result<bool, Fault> {
        let mut alone = true;
        for index in 0..self.region.kind().slots() {
            if index != self.index && self.meet_alive(index, bury)? {
                self.watch(index)?;
                alone &= slots::rests(self.region.slot(index));
            }
        }
        if alone {
            self.watch_inode();
        } else {
            self.unwatch_inode();
        }
        Ok(alone)
    }

    /// Our slot still names us; else its bytes were overwritten.
    pub(crate) fn check_slot(&self) -> Result<(), Fault> {
        if self.slot().tag.load(Ordering::SeqCst) == self.tag {
            return Ok(());
        }
        let cause = format!(
            "slot {} of this handle was overwritten by somebody; remove the object and make it anew",
            self.index
        );
        Err(self.region.fault(FaultKind::Damaged, cause))
    }

    /// The link to the endpoint that is in slot `index` now, made if need be. Costs one load when
    /// the slot has not changed hands and no watch fired.
    pub(crate) fn meet(&mut self, index: usize) -> Result<Meeting, Fault> {
        self.check_fork()?;
        for _ in 0..CHANGES {
            let tag = self.region.slot(index).tag.load(Ordering::SeqCst);
            if tag == 0 {
                self.drop_link(index);
                return Ok(Meeting::Nobody);
            }
            if let Some(link) = self.link(index).filter(|link| link.tag == tag) {
                // A door that was full may have room by now, and without a connection it cannot be
                // watched.
                if !link.fired && link.conn.is_some() {
                    return Ok(Meeting::Live { tag });
                }
                // That of a full door is only hinted at, and proves nothing.
                if link.conn.is_some() && link.pidfd.as_ref().is_some_and(poll::is_readable) {
                    return Ok(Meeting::Dead { tag, pid: link.pid });
                }
            }
            let known_pid = self.link(index).filter(|link| link.tag == tag).map_or(0, |l| l.pid);
            self.drop_link(index);
            failpoint!("meet.knock");
            let proof = prove(&self.region, tag);
            if self.region.slot(index).tag.load(Ordering::SeqCst) != tag {
                continue; // left in good order between the two looks; nothing was proven of the next
            }
            match proof {
                Proof::Dead { pid } => {
                    let hinted = slots::read_hints(self.region.slot(index), tag);
                    let pid = [pid, known_pid, hinted.map_or(0, |hints| hints.pid)];
                    let pid = pid.into_iter().find(|&pid| pid != 0).unwrap_or(0);
                    return Ok(Meeting::Dead { tag, pid });
                }
                Proof::Alive { conn, pidfd, pid } => {
                    self.counters.knocks += 1;
                    let link = Link {
                        index,
                        tag,
                        pid,
                        conn,
                        bell: None,
                        pidfd,
                        watched: false,
                        fired: false,
                    };
                    self.links.push(link);
                    return Ok(Meeting::Live { tag });
                }
                Proof::Unknown(fault) => return Err(fault),
            }
        }
        let cause = format!("slot {index} keeps changing hands; its bytes may be damaged");
        Err(self.region.fault(FaultKind::Damaged, cause))
    }

    /// The link to slot `index`, whoever is in that slot now.
    pub(crate) fn link(&self, index: usize) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    pub(crate) fn link_mut(&mut self, index: usize) -> Option<&mut Link> {
        self.links.iter_mut().find(|link| link.index == index)
    }

    /// Forgets a peer: out of the poll set first, closed second.
    pub(crate) fn drop_link(&mut self, index: usize) {
        let Some(at) = self.links.iter().position(|link| link.index == index) else { return };
        let link = self.links.swap_remove(at);
        drop(self.unwatch(link));
    }

    /// Takes the watches of a link out of the poll set.
    pub(super) fn unwatch(&self, mut link: Link) -> Link {
        if let Some(parking) = &self.parking
            && std::mem::take(&mut link.watched)
        {
            for fd in [&link.conn, &link.pidfd].into_iter().flatten() {
                parking.set.remove(fd);
            }
        }
        link
    }

    /// Step 3 of the sleeper for one debtor: puts its watches into the poll set. Call it after
    /// `begin`, never before: a debtor that attaches in between would go unwatched
    /// (`docs/models/val.pml`, -DEARLY).
    pub(crate) fn watch(&mut self, index: usize) -> Result<(), Fault> {
        use crate::notify::harvest::{CONN, PIDFD};
        self.ready_to_park()?;
        let (Some(parking), Some(link)) =
            (&self.parking, self.links.iter_mut().find(|link| link.index == index))
        else {
            return Ok(());
        };
        if link.watched {
            return Ok(());
        }
        let Some(conn) = &link.conn else {
            // Its door is full of callers, perhaps of the gone: it has not looked there for long.
            let Some(pidfd) = &link.pidfd else {
                let cause = "the other end's door is full, so its death could not be noticed";
                return Err(self.region.fault(FaultKind::PeerUnreachable, cause));
            };
            let added = parking.set.add(pidfd, PIDFD | index as u64, poll::Interest::Level);
            link.watched = added.is_ok();
            return added.map_err(|err| self.region.os_fault("epoll_ctl", &err));
        };
        if link.pidfd.is_none() {
            // It was given back after the last wait.
            let pidfd = door::peer_pidfd(conn);
            link.pidfd = pidfd.map_err(|err| self.region.os_fault("SO_PEERPIDFD", &err))?;
        }
        let add = |fd: &Fd, key: u64, interest| {
            let done = parking.set.add(fd, key, interest);
            done.map_err(|err| self.region.os_fault("epoll_ctl", &err))
        };
        add(conn, CONN | index as u64, poll::Interest::HangUp)?;
        if let Some(pidfd) = &link.pidfd
            && let Err(fault) = add(pidfd, PIDFD | index as u64, poll::Interest::Level)
        {
            parking.set.remove(conn); // both or none, so that the next attempt adds both
            return Err(fault);
        }
        link.watched = true;
        Ok(())
    }

    /// Polls the watches of a peer without sleeping, for verbs that never sleep: true when the peer
    /// may be gone (then `meet` proves it).
    pub(crate) fn look_at(&mut self, index: usize) -> bool {
        let Some(link) = self.link_mut(index) else { return false };
        let gone = link.pidfd.as_ref().is_some_and(poll::is_readable)
            || link.conn.as_ref().is_some_and(poll::is_hung_up);
        link.fired |= gone;
        link.fired
    }
}
