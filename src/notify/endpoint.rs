//! One attached handle: a slot, a door, links to peers and, before it first sleeps, a doorbell and
//! one pollable descriptor over all of them.

use crate::error::{Fault, FaultKind};
use crate::layout::Slot;
use crate::notify::bells::Bells;
use crate::notify::harvest;
use crate::notify::lifetime;
use crate::notify::link::Link;
use crate::notify::park::{self, ParkNumbers};
use crate::notify::slots;
use crate::region::{self, Region};
use crate::sync::Ordering;
use crate::sys::doorbell::Doorbell;
use crate::sys::failpoint::failpoint;
use crate::sys::fd::{self, Fd};
use crate::sys::fdpass::{self, Answer};
use crate::sys::inode::InodeWatch;
use crate::sys::poll::{Interest, PollSet};
use crate::sys::process;
use std::sync::Arc;

/// What an endpoint has done since it was attached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Times it went to sleep (or told a foreign loop to).
    pub(crate) parks: u64,
    /// Doorbells it rang.
    pub(crate) rings: u64,
    /// Doors it knocked at.
    pub(crate) knocks: u64,
}

/// Descriptors that an endpoint holds for its peers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// To the doors of others.
    pub(crate) connections: usize,
    /// At our own door.
    pub(crate) inbound: usize,
    /// Of the processes behind others.
    pub(crate) pidfds: usize,
    /// Of others.
    pub(crate) doorbells: usize,
}

/// What an endpoint needs to sleep.
#[derive(Debug)]
pub(crate) struct Parking {
    pub(crate) set: PollSet,
    pub(crate) bell: Doorbell,
    /// Connections of wakers, by key.
    pub(crate) inbound: Vec<(u64, Fd)>,
    pub(crate) next_inbound: u64,
    pub(crate) inode: Option<InodeWatch>,
    /// Scratch for the harvest.
    pub(crate) keys: Vec<u64>,
}

/// An attached handle. Exclusive: whoever shares it puts it behind a lock.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) region: Arc<Region>,
    pub(crate) index: usize,
    pub(crate) tag: u64,
    /// `None` once detached.
    pub(crate) door: Option<Fd>,
    pub(crate) links: Vec<Link>,
    pub(crate) parking: Option<Parking>,
    pub(crate) numbers: ParkNumbers,
    pub(crate) counters: Counters,
    pub(crate) bells: Bells,
    /// Our bit in the mask of the parked is set.
    in_mask: bool,
    /// Free slots whose bits in the mask stand, and for which we have hung up on all.
    pub(crate) hung_up_for: u64,
    /// How often we woke others; now and then we look at our door then.
    pub(crate) wakes: u32,
    forks: u64,
}

impl Endpoint {
    pub(crate) fn new(region: Arc<Region>, index: usize, tag: u64, door: Fd, random: u64) -> Self {
        Endpoint {
            region,
            index,
            tag,
            door: Some(door),
            links: Vec::new(),
            parking: None,
            numbers: ParkNumbers::starting_at(random),
            counters: Counters::default(),
            bells: Bells::default(),
            in_mask: false,
            hung_up_for: 0,
            wakes: 0,
            forks: fd::fork_count(),
        }
    }

    pub(crate) fn slot(&self) -> &Slot {
        self.region.slot(self.index)
    }

    /// A fork brought this handle into this process; it belongs to the parent.
    #[inline]
    pub(crate) fn is_inherited(&self) -> bool {
        self.forks != fd::fork_count()
    }

    /// Refuses a handle that a fork brought into this process.
    #[inline]
    pub(crate) fn check_fork(&self) -> Result<(), Fault> {
        if self.is_inherited() { Err(self.inherited()) } else { Ok(()) }
    }

    #[cold]
    fn inherited(&self) -> Fault {
        region::inherited(self.region.subject())
    }

    /// Makes doorbell and poll set, once.
    pub(crate) fn ready_to_park(&mut self) -> Result<(), Fault> {
        if self.parking.is_some() {
            return Ok(());
        }
        self.check_fork()?;
        let os = |call: &'static str| {
            let region = &self.region;
            move |err: std::io::Error| region.os_fault(call, &err)
        };
        let set = PollSet::new().map_err(os("epoll_create1"))?;
        let bell = Doorbell::new().map_err(os("making the doorbell"))?;
        let how = if bell.edge_triggered() { Interest::Edge } else { Interest::Level };
        set.add(bell.watched(), harvest::BELL, how).map_err(os("epoll_ctl"))?;
        if let Some(door) = &self.door {
            set.add(door, harvest::DOOR, Interest::Level).map_err(os("epoll_ctl"))?;
        }
        self.parking = Some(Parking {
            set,
            bell,
            inbound: Vec::new(),
            next_inbound: 0,
            inode: None,
            keys: Vec::new(),
        });
        Ok(())
    }

    /// The one descriptor that is readable when this endpoint should look again.
    pub(crate) fn poll_fd(&mut self) -> Result<&Arc<Fd>, Fault> {
        self.ready_to_park()?;
        let missing = || self.region.fault(FaultKind::Os, "no poll set");
        self.parking.as_ref().map(|parking| parking.set.fd()).ok_or_else(missing)
    }

    /// Our bit in the mask of the parked; none in kinds that do without the mask.
    fn mask_bit(&self) -> Option<u64> {
        (self.region.kind().slots() > 2).then(|| 1 << self.index)
    }

    /// Steps 1 and 2 of the sleeper.
    pub(crate) fn begin(&mut self) -> Result<(), Fault> {
        self.check_fork()?; // the slot is the parent's
        if self.door.is_none() {
            let cause = "its handle was dropped while this waited; open it again";
            return Err(self.region.fault(FaultKind::Removed, cause)); // the slot may be another's
        }
        self.ready_to_park()?;
        if !self.in_mask
            && let Some(bit) = self.mask_bit()
        {
            park::set_bit(&self.region.header().parked, bit);
            self.in_mask = true;
        }
        let cpu = process::current_cpu();
        let slot = self.region.slot(self.index);
        slot.last_cpu.store(cpu, Ordering::Relaxed); // Relaxed: a hint
        self.numbers.begin(slot);
        failpoint!("park.begun");
        Ok(())
    }

    /// The sleeper leaves without (or after) having slept.
    pub(crate) fn end(&mut self) {
        if self.is_inherited() {
            return;
        }
        park::end(self.slot());
        if std::mem::take(&mut self.in_mask)
            && let Some(bit) = self.mask_bit()
        {
            park::clear_bit(&self.region.header().parked, bit);
        }
    }

    /// Keeps the place for later. False: it was removed, and is to be left.
    #[cfg(feature = "python")]
    pub(crate) fn rest(&mut self) -> bool {
        slots::rest(self.slot(), self.tag);
        !self.region.is_removed()
    }

    /// The opposite. False: it was removed, and the bytes may be gone, or its name leads elsewhere.
    #[cfg(feature = "python")]
    pub(crate) fn rouse(&mut self) -> bool {
        slots::rouse(self.slot());
        !self.region.is_removed() && self.region.has_its_name()
    }

    /// Somebody waits here.
    pub(crate) fn is_in_mask(&self) -> bool {
        self.in_mask
    }

    /// The slot is ours now: its last owner may have been killed asleep.
    pub(crate) fn clear_stale_mask(&self) {
        if let Some(bit) = self.mask_bit()
            && self.region.header().parked.load(Ordering::SeqCst) & bit != 0
        {
            park::clear_bit(&self.region.header().parked, bit);
        }
    }

    /// Stops watching, and lets go of what is held for that: nobody waits here any more. A connection that
    /// the peer has not taken in yet is kept for the next wait: closed, it would stand at the peer's door
    /// all the same until the peer looks, which one that never waits never does, and a door that is full
    /// of the gone turns us away.
    pub(crate) fn let_go(&mut self) {
        for link in std::mem::take(&mut self.links) {
            let link = self.unwatch(link);
            let stands = |conn: &Fd| matches!(fdpass::receive(conn), Answer::NotYet);
            if !link.fired && link.conn.as_ref().is_some_and(stands) {
                self.links.push(Link { pidfd: None, bell: None, ..link });
            }
        }
        self.unwatch_inode();
    }

    /// Forgets every peer.
    fn drop_links(&mut self) {
        while let Some(link) = self.links.last() {
            self.drop_link(link.index);
        }
    }

    /// Descriptors that are held for peers: connections made and taken, pidfds, doorbells of others.
    pub(crate) fn held(&self) -> Held {
        let count = |held: bool| usize::from(held);
        let inbound = self.parking.as_ref().map_or(0, |parking| parking.inbound.len());
        Held {
            connections: self.links.iter().map(|link| count(link.conn.is_some())).sum::<usize>()
                + self.bells.connections(),
            inbound,
            pidfds: self.links.iter().map(|link| count(link.pidfd.is_some())).sum(),
            doorbells: self.links.iter().map(|link| count(link.bell.is_some())).sum::<usize>()
                + self.bells.doorbells(),
        }
    }

    /// A sleeper with no peer at all watches its inode, so that a deletion of the name from outside
    /// wakes it. Where the user has no inotify instance left, only `remove` wakes it.
    pub(crate) fn watch_inode(&mut self) {
        let Some(parking) = &mut self.parking else { return };
        if parking.inode.is_none()
            && let Ok(watch) = InodeWatch::new(self.region.file())
            && parking.set.add(watch.fd(), harvest::INODE, Interest::Level).is_ok()
        {
            parking.inode = Some(watch);
        }
    }

    /// Lets the watch of the inode go, once there is a peer.
    pub(crate) fn unwatch_inode(&mut self) {
        if let Some(parking) = &mut self.parking
            && let Some(watch) = parking.inode.take()
        {
            parking.set.remove(watch.fd());
        }
    }

    /// Gives the slot back and tells everybody who sleeps. Nothing is done in a forked child, whose
    /// parent still owns the slot. The peer sees a free slot and no death.
    pub(crate) fn detach(&mut self) {
        let Some(door) = self.door.take() else { return };
        if self.check_fork().is_err() {
            return;
        }
        failpoint!("detach.begin");
        if self.in_mask {
            self.end(); // else the slot may be somebody else's: an attach that failed ends here too
        }
        let held = slots::release(self.slot(), self.tag);
        failpoint!("detach.freed");
        self.wake_all();
        failpoint!("detach.rung");
        self.region.unlink_doors(self.tag);
        self.drop_links();
        self.unwatch_inode();
        self.parking = None; // out of the poll set before the door is closed
        drop(door);
        if held {
            lifetime::give_back_unused(&self.region);
            // A fault leaves it to the next opener or to gc.
            let _ = lifetime::remove_if_last(&self.region);
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.detach();
    }
}
