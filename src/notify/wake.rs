//! The waker's side: ring the doorbell that is here, else knock; only then take the park number
//! down. The waker never waits for the sleeper.

use crate::error::{Fault, errno};
use crate::notify::Endpoint;
use crate::notify::park;
use crate::region::Region;
use crate::sync::Ordering;
use crate::sys::door::{self, Caller, Knock};
use crate::sys::doorbell::Bell;
use crate::sys::failpoint::failpoint;
use crate::sys::fd::with_spare;
use crate::sys::fdpass::{self, Answer};
use std::io;

/// Wakes between two looks at our own door: it holds 4096 callers, and were each wake to make all 47 others
/// knock anew, these were 3008.
const LOOK_EVERY: u32 = 64;

impl Endpoint {
    /// After a publication that slot `index` may be waiting for: wakes it when it sleeps. One fence
    /// and one load when it does not.
    #[inline]
    pub(crate) fn wake(&mut self, index: usize) {
        let number = park::waiting(self.region.slot(index));
        if number != 0 {
            self.wake_sleeper(index, number);
        }
    }

    /// The same for every other slot.
    pub(crate) fn wake_all(&mut self) {
        let slots = self.region.kind().slots();
        if slots > 2 {
            let parked = park::anybody(&self.region.header().parked);
            self.wake_these(parked);
            return;
        }
        for index in 0..slots {
            if index != self.index {
                self.wake(index);
            }
        }
    }

    /// The same for the slots in a mask, but not our own. Should one of them be out of reach (its slot
    /// overwritten, its door deleted), we hang up on everybody who watches us: all of them wake, look,
    /// and see for themselves.
    pub(crate) fn wake_these(&mut self, mask: u64) {
        if mask == 0 {
            return;
        }
        let mut all = true;
        for index in 0..self.region.kind().slots() {
            let bit = 1 << index;
            if mask & bit == 0 || index == self.index {
                continue;
            }
            let slot = self.region.slot(index);
            let number = park::waiting(slot);
            if slot.tag.load(Ordering::SeqCst) == 0 {
                // The bit of one who was killed asleep; or somebody wiped the slot of one who sleeps. Once
                // is enough for the dead.
                all &= self.hung_up_for & bit != 0;
                self.hung_up_for |= bit;
            } else {
                self.hung_up_for &= !bit;
                all &= number == 0 || self.wake_sleeper(index, number);
            }
        }
        self.wakes = self.wakes.wrapping_add(1);
        if all {
            // Not every time: a connection that stands at our door serves its owner for many waits.
            if self.wakes.is_multiple_of(LOOK_EVERY) {
                self.empty_door();
            }
        } else {
            self.hang_up();
        }
    }

    /// Takes in who stands at our door, also if we never wait: those who wait for us may knock anew for every
    /// wait, and the door must not fill. Closing wakes them, as the ring before did. While somebody waits
    /// here the harvest is theirs.
    pub(crate) fn empty_door(&mut self) {
        if self.is_inherited() || self.is_in_mask() {
            return;
        }
        if self.parking.is_some() {
            // A fault: out of descriptors. The next wait says so.
            let _ = self.harvest();
        } else if let Some(door) = &self.door {
            while let Caller::Some(_conn) = door::accept(door) {}
        }
    }

    /// Closes every connection that others hold to our door. It wakes all who watch us.
    pub(crate) fn hang_up(&mut self) {
        if self.check_fork().is_err() {
            return;
        }
        if let Some(door) = &self.door {
            while let Caller::Some(_conn) = door::accept(door) {}
        }
        if let Some(parking) = &mut self.parking {
            for (_, conn) in parking.inbound.drain(..) {
                parking.set.remove(&conn);
            }
        }
    }

    /// False: it could not be woken.
    #[cold]
    #[inline(never)]
    fn wake_sleeper(&mut self, index: usize, number: u64) -> bool {
        if self.is_inherited() {
            return true; // the doorbells' numbers may be somebody else's files by now
        }
        failpoint!("wake.seen");
        let slot = self.region.slot(index);
        let tag = slot.tag.load(Ordering::SeqCst);
        if tag == 0 {
            return true; // a number left behind by somebody who is gone
        }
        self.counters.rings += 1;
        let rung = if self.region.kind().slots() > 2 {
            self.bells.ring(&self.region, tag)
        } else {
            self.ring_linked(index, tag) || Self::knock_once(&self.region, tag)
        };
        if !rung {
            return false; // the number stands for the next waker
        }
        failpoint!("wake.rung");
        park::rung(self.region.slot(index), number);
        true
    }

    /// Wakes whoever listens at the door of `tag` by knocking, without keeping the connection. A full
    /// door wakes by the callers it has; a refused one has nobody to wake. False: nobody was woken.
    pub(super) fn knock_once(region: &Region, tag: u64) -> bool {
        knock_once(region, tag).is_ok()
    }

    /// Rings over the link to `tag`. False: there is no link that can wake it. A link that fired is
    /// none: its answer may be lost, and silence on it is no knock that still stands.
    fn ring_linked(&mut self, index: usize, tag: u64) -> bool {
        let Some(link) = self.link_mut(index).filter(|link| link.tag == tag && !link.fired) else {
            return false;
        };
        if link.bell.is_none() {
            let Some(conn) = &link.conn else { return false };
            let bell = match fdpass::receive(conn) {
                Answer::Fd(fd) => Bell::new(fd),
                // Our knock still stands in its door, and an open door wakes.
                Answer::NotYet => return true,
                Answer::Broken | Answer::TooManyFiles => None,
            };
            if bell.is_none() {
                // Knock afresh; the link is remade at the next meeting.
                link.fired = true;
                return false;
            }
            link.bell = bell;
        }
        match &link.bell {
            Some(bell) if bell.ring().is_ok() => true,
            _ => {
                link.bell = None;
                link.fired = true;
                false
            }
        }
    }
}

/// Whether a knock woke whoever there was to wake.
pub(super) fn knocked(knock: &Knock) -> bool {
    !matches!(knock, Knock::Failed(_))
}

/// Knocks and hangs up, if need be by means of the spare descriptor.
fn knock_once(region: &Region, tag: u64) -> io::Result<()> {
    let knock = || match region.doors().knock(tag) {
        Knock::Failed(err) => Err(err),
        _ => Ok(()),
    };
    match knock() {
        Err(err) if is_short(&err) => with_spare(knock),
        knocked => knocked,
    }
}

/// Of descriptors: there may be some at another time, or for somebody else.
fn is_short(err: &io::Error) -> bool {
    matches!(errno::of(err), Some(errno::EMFILE | errno::ENFILE))
}

/// Wakes every sleeper of a region, by somebody who is not attached to it.
///
/// # Errors
///
/// `TooManyFiles`: for want of descriptors not all were woken; it has to be repeated. Whom nobody could
/// reach (its door deleted, say) is none.
pub(crate) fn knock_all(region: &Region) -> Result<(), Fault> {
    let mut missed = None;
    for slot in region.slots() {
        let Some((number, tag)) = park::asleep(slot) else { continue };
        match knock_once(region, tag) {
            Ok(()) => park::rung(slot, number),
            Err(err) if is_short(&err) => missed = Some(err),
            Err(_) => {}
        }
    }
    match missed {
        Some(err) => Err(region.os_fault("waking those who wait for it", &err)),
        None => Ok(()),
    }
}
