//! The harvest: take in everything that fired, so that the next park starts from silence. Done after
//! every wake, of whatever cause, and before a park whose descriptor is readable.
//!
//! Without it a level-triggered outer loop spins (78,000 callbacks for one knock) and an
//! edge-triggered one misses the next knock.

use crate::error::{Fault, FaultKind};
use crate::notify::Endpoint;
use crate::notify::endpoint::Parking;
use crate::region::Region;
use crate::sys::door::{self, Caller};
use crate::sys::failpoint::failpoint;
use crate::sys::fd::{self, Fd};
use crate::sys::fdpass;
use crate::sys::poll::{self, Interest, Waited};
use std::sync::Arc;
use std::time::Duration;

/// Keys of the poll set: the high half says what, the low half which.
pub(crate) const BELL: u64 = 1 << 32;
pub(crate) const DOOR: u64 = 2 << 32;
pub(crate) const INODE: u64 = 3 << 32;
pub(crate) const CONN: u64 = 4 << 32;
pub(crate) const PIDFD: u64 = 5 << 32;
pub(crate) const INBOUND: u64 = 6 << 32;
const WHAT: u64 = 0xffff_ffff << 32;

impl Endpoint {
    /// Takes in what fired, without waiting.
    pub(crate) fn harvest(&mut self) -> Result<(), Fault> {
        self.harvest_within(Some(Duration::ZERO)).map(drop)
    }

    /// Parks the thread until something fires, then takes it in.
    pub(crate) fn harvest_within(&mut self, timeout: Option<Duration>) -> Result<Waited, Fault> {
        self.check_fork()?; // the descriptors' numbers may be somebody else's by now
        let Some(parking) = &mut self.parking else { return Ok(Waited::Ready) };
        failpoint!("harvest.begin");
        let mut keys = std::mem::take(&mut parking.keys);
        let mut timeout = timeout;
        let mut outcome = Waited::Ready;
        let mut emptied = true;
        let result = loop {
            keys.clear();
            match parking.set.collect(&mut keys, timeout) {
                Err(err) => break Err(self.region.os_fault("epoll_wait", &err)),
                Ok((waited, more)) => {
                    if timeout != Some(Duration::ZERO) {
                        outcome = waited;
                    }
                    for &key in &keys {
                        emptied &= take_in(
                            parking,
                            &mut self.links,
                            self.door.as_ref(),
                            &self.region,
                            key,
                        );
                    }
                    if !more {
                        break if emptied { Ok(outcome) } else { Err(beset(&self.region)) };
                    }
                }
            }
            timeout = Some(Duration::ZERO);
        };
        parking.keys = keys;
        failpoint!("harvest.end");
        result
    }

    /// As [`harvest_within`](Endpoint::harvest_within), but a readable `bell` ends the sleep too, as
    /// an interruption. The bell is not read.
    pub(crate) fn harvest_beside(
        &mut self,
        timeout: Option<Duration>,
        bell: Option<&Fd>,
    ) -> Result<Waited, Fault> {
        let Some(bell) = bell else { return self.harvest_within(timeout) };
        let fd = Arc::clone(self.poll_fd()?);
        let (waited, [_, rung]) = poll::wait_any([Some(&*fd), Some(bell)], timeout)
            .map_err(|err| self.region.os_fault("poll", &err))?;
        self.harvest()?;
        Ok(if rung { Waited::Interrupted } else { waited })
    }

    /// Answers whoever knocks, for verbs that never sleep.
    pub(crate) fn answer_door(&mut self) -> Result<(), Fault> {
        self.check_fork()?;
        self.ready_to_park()?;
        if let (Some(parking), Some(door)) = (&mut self.parking, &self.door) {
            accept_all(parking, door, &self.region);
        }
        Ok(())
    }
}

/// Parked now, we would be deaf: who stands at the door makes no further edge, and the waker takes
/// an unanswered knock for a wake.
#[cold]
fn beset(region: &Region) -> Fault {
    let cause = "somebody knocks and no descriptor is left to answer with (raise `ulimit -n`, or \
                 close handles)";
    region.fault(FaultKind::TooManyFiles, cause)
}

/// False: callers are left at the door.
fn take_in(
    parking: &mut Parking,
    links: &mut [crate::notify::link::Link],
    door: Option<&Fd>,
    region: &Region,
    key: u64,
) -> bool {
    let which = (key & !WHAT) as usize;
    match key & WHAT {
        BELL => parking.bell.drain(),
        DOOR => {
            if let Some(door) = door {
                return accept_all(parking, door, region);
            }
        }
        INODE => {
            if let Some(watch) = &parking.inode {
                watch.drain();
            }
        }
        INBOUND => {
            if let Some(at) = parking.inbound.iter().position(|(k, _)| *k == key) {
                let (_, conn) = parking.inbound.swap_remove(at);
                parking.set.remove(&conn);
            }
        }
        CONN | PIDFD => {
            // Level-triggered: out of the set, or it would fire for ever. The proof comes next, when
            // the debtors are read again.
            if let Some(link) = links.iter_mut().find(|link| link.index == which) {
                link.fired = true;
                for fd in [&link.conn, &link.pidfd].into_iter().flatten() {
                    parking.set.remove(fd);
                }
                link.watched = false;
            }
        }
        _ => {}
    }
    true
}

/// Accepts until nobody knocks any more; each caller gets our doorbell, or is closed. False: out of
/// descriptors, the spare one too.
fn accept_all(parking: &mut Parking, door: &Fd, region: &Region) -> bool {
    loop {
        match door::accept(door) {
            Caller::None => return true,
            Caller::Some(conn) => {
                failpoint!("door.accepted");
                answer(parking, conn, region);
            }
            // Out of descriptors: give the spare one to this caller and close it, so that the door
            // is empty afterwards; it knocks afresh.
            Caller::TooManyFiles => {
                // Asked without a descriptor to spare, accept says so at an empty door too.
                let turned_away = fd::with_spare(|| match door::accept(door) {
                    Caller::Some(_) => Some(true),
                    Caller::None => Some(false),
                    Caller::TooManyFiles => None,
                });
                match turned_away {
                    Some(true) => {}
                    Some(false) => return true, // empty; whoever comes now is a new event
                    None => return !poll::is_readable(door),
                }
            }
        }
    }
}

/// One synchronous step: answered and kept, or closed. Held unanswered, it would silence a waker.
fn answer(parking: &mut Parking, conn: Fd, region: &Region) {
    let ours = door::credentials(&conn).is_ok_and(|c| c.uid == region.owner() || c.uid == 0);
    if !ours || fdpass::send(&conn, parking.bell.for_waker()).is_err() {
        return;
    }
    failpoint!("door.answered");
    let key = INBOUND | parking.next_inbound;
    parking.next_inbound = (parking.next_inbound + 1) & !WHAT;
    if parking.set.add(&conn, key, Interest::HangUp).is_ok() {
        parking.inbound.push((key, conn));
    }
}
