//! The waker's side: ring the doorbell that is here, else knock; only then take the park number
//! down. The waker never waits for the sleeper.

use crate::error::errno;
use crate::notify::Endpoint;
use crate::notify::park;
use crate::region::Region;
use crate::sync::Ordering;
use crate::sys::door::Knock;
use crate::sys::doorbell::Bell;
use crate::sys::failpoint::failpoint;
use crate::sys::fd::with_spare;
use crate::sys::fdpass::{self, Answer};

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
        for index in 0..self.region.kind().slots() {
            if index != self.index {
                self.wake(index);
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn wake_sleeper(&mut self, index: usize, number: u64) {
        if self.is_inherited() {
            return; // the doorbells' numbers may be somebody else's files by now
        }
        failpoint!("wake.seen");
        let slot = self.region.slot(index);
        let tag = slot.tag.load(Ordering::SeqCst);
        if tag == 0 {
            return; // a number left behind by somebody who is gone
        }
        self.counters.rings += 1;
        if !self.ring_linked(index, tag) && !knock_once(&self.region, tag) {
            return; // not rung: the number stands for the next waker
        }
        failpoint!("wake.rung");
        park::rung(self.region.slot(index), number);
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

/// Wakes whoever listens at the door of `tag` by knocking, without keeping the connection. A full
/// door wakes by the callers it has; a refused one has nobody to wake. False: nobody was woken.
fn knock_once(region: &Region, tag: u64) -> bool {
    let knocked = |knock: &Knock| !matches!(knock, Knock::Failed(_));
    match region.doors().knock(tag) {
        Knock::Failed(err) if matches!(errno::of(&err), Some(errno::EMFILE | errno::ENFILE)) => {
            with_spare(|| knocked(&region.doors().knock(tag)))
        }
        knock => knocked(&knock),
    }
}

/// Wakes every sleeper of a region, by somebody who is not attached to it.
pub(crate) fn knock_all(region: &Region) {
    for slot in region.slots() {
        let number = park::waiting(slot);
        let tag = slot.tag.load(Ordering::SeqCst);
        if number != 0 && tag != 0 && knock_once(region, tag) {
            park::rung(slot, number);
        }
    }
}
