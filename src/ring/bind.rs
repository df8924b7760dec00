//! What the Python binding needs of the two ends beyond the public verbs: one look at a time (the
//! binding's own loop decides when to sleep), the bytes of a record or a reservation, and the steps
//! of the wake protocol without a look in them.

use crate::codec::Tag;
use crate::error::Fault;
use crate::region::Region;
use crate::ring::consumer::{self, Consumer, Next};
use crate::ring::error::Stop;
use crate::ring::producer::{self, Producer, Room};
use crate::ring::raw_consumer::Record;
use crate::ring::raw_producer::Reservation;
use crate::ring::side::{self, Base, Side};
use crate::sys::fd::Fd;
use std::sync::Arc;
use std::time::Duration;

/// Arms and harvests; whoever uses it looks afterwards.
struct Bare<'a>(&'a mut Base);

impl Side for Bare<'_> {
    type Found = ();

    fn base(&mut self) -> &mut Base {
        self.0
    }

    fn look(&mut self) -> Result<Option<()>, Stop> {
        Ok(None)
    }

    fn tells(&self) -> bool {
        false
    }
}

/// How a thread that is parked hears of signals.
pub(crate) struct Signals<'a> {
    /// Readable once a signal came.
    pub(crate) bell: Option<&'a Fd>,
    /// Asked after each signal whether to give up.
    pub(crate) ask: &'a mut dyn FnMut() -> bool,
}

impl Signals<'_> {
    fn wait<S: Side>(&mut self, side: &mut S, timeout: Option<Duration>) -> Result<S::Found, Stop> {
        side::block_find_beside(side, timeout, self.bell, self.ask)
    }
}

/// What both ends offer to the binding.
pub(crate) trait End: Sized + Send + 'static {
    /// Endpoint, peer, ways to wait.
    #[doc(hidden)]
    fn base(&mut self) -> &mut dyn AsBase;

    /// Is the other end there?
    fn attached_now(&mut self) -> Result<Option<()>, Stop>;

    /// Parks the thread until it is.
    fn block_attached(
        &mut self,
        timeout: Option<Duration>,
        signals: &mut Signals<'_>,
    ) -> Result<(), Stop>;

    /// Closes (or only detaches) now.
    fn leave(&mut self, closed: bool) -> Result<(), Fault>;
}

/// [`Base`] behind a trait, since its module keeps it to itself.
pub(crate) trait AsBase {
    /// Refuses a handle that a fork brought here.
    fn check_fork(&self) -> Result<(), Fault>;
    /// The mapping.
    fn region(&self) -> &Arc<Region>;
    /// Steps 1 to 3: true = look, then sleep.
    fn arm_only(&mut self) -> Result<bool, Stop>;
    /// Harvests; nobody needs to ring us.
    fn disarm_only(&mut self) -> Result<(), Fault>;
    /// A duplicate of the pollable descriptor, for our own face.
    fn park_fd(&mut self) -> Result<Fd, Fault>;
}

impl AsBase for Base {
    #[inline]
    fn check_fork(&self) -> Result<(), Fault> {
        self.endpoint.check_fork()
    }

    fn region(&self) -> &Arc<Region> {
        Base::region(self)
    }

    fn arm_only(&mut self) -> Result<bool, Stop> {
        side::arm(&mut Bare(self))
    }

    fn disarm_only(&mut self) -> Result<(), Fault> {
        side::disarm(&mut Bare(self))
    }

    fn park_fd(&mut self) -> Result<Fd, Fault> {
        let made = self.endpoint.poll_fd()?.duplicate();
        made.map_err(|err| Base::region(self).os_fault("dup", &err))
    }
}

impl End for Consumer {
    fn base(&mut self) -> &mut dyn AsBase {
        &mut self.base
    }

    fn attached_now(&mut self) -> Result<Option<()>, Stop> {
        consumer::Attached(self).look()
    }

    fn block_attached(
        &mut self,
        timeout: Option<Duration>,
        signals: &mut Signals<'_>,
    ) -> Result<(), Stop> {
        signals.wait(&mut consumer::Attached(self), timeout)
    }

    fn leave(&mut self, closed: bool) -> Result<(), Fault> {
        self.shut(closed)
    }
}

impl Consumer {
    /// One look for a verb that passes a death over; if there is nothing, the peer is looked after.
    #[inline]
    pub(crate) fn glance(&mut self) -> Result<Option<Record>, Stop> {
        match Next(self).look()? {
            Some(record) => {
                self.base.came();
                Ok(Some(record))
            }
            None => self.glance_again(),
        }
    }

    #[cold]
    fn glance_again(&mut self) -> Result<Option<Record>, Stop> {
        if self.base.look_after()? { self.look_once() } else { Ok(None) }
    }

    /// The oldest message, at one look.
    #[inline]
    pub(crate) fn look_once(&mut self) -> Result<Option<Record>, Stop> {
        let found = Next(self).look()?;
        if found.is_some() {
            self.base.came();
        }
        Ok(found)
    }

    /// The same, kept up for as long as `spin=` says.
    pub(crate) fn look_long(&mut self) -> Result<Option<Record>, Stop> {
        side::spin(&mut Next(self))
    }

    /// Parks the thread until there is something to pop.
    pub(crate) fn park(
        &mut self,
        timeout: Option<Duration>,
        signals: &mut Signals<'_>,
    ) -> Result<(), Stop> {
        signals.wait(&mut Next(self), timeout).map(drop)
    }

    /// The bytes of a message.
    #[inline]
    pub(crate) fn bytes(&self, record: &Record) -> &[u8] {
        self.raw.slice(record)
    }

    /// What the messages in the ring count as against its quota.
    pub(crate) fn used(&mut self) -> Result<u64, Stop> {
        self.raw.used().map_err(|damage| self.base.damaged(damage))
    }
}

impl End for Producer {
    fn base(&mut self) -> &mut dyn AsBase {
        &mut self.base
    }

    fn attached_now(&mut self) -> Result<Option<()>, Stop> {
        producer::Attached(self).look()
    }

    fn block_attached(
        &mut self,
        timeout: Option<Duration>,
        signals: &mut Signals<'_>,
    ) -> Result<(), Stop> {
        signals.wait(&mut producer::Attached(self), timeout)
    }

    fn leave(&mut self, closed: bool) -> Result<(), Fault> {
        self.shut(closed)
    }
}

impl Producer {
    /// One look for a verb that passes a death over; the peer is looked after now and then.
    #[inline]
    pub(crate) fn glance(&mut self, len: usize) -> Result<Option<Reservation>, Stop> {
        match (Room { producer: self, len }).look()? {
            Some(reservation) => {
                self.base.came();
                self.wanted = 1;
                Ok(Some(reservation))
            }
            None => self.glance_again(len),
        }
    }

    #[cold]
    fn glance_again(&mut self, len: usize) -> Result<Option<Reservation>, Stop> {
        self.wanted = len;
        if self.base.missed()? { self.look_once(len) } else { Ok(None) }
    }

    /// Room for `len` bytes, at one look.
    #[inline]
    pub(crate) fn look_once(&mut self, len: usize) -> Result<Option<Reservation>, Stop> {
        let found = Room { producer: self, len }.look()?;
        if found.is_some() {
            self.base.came();
            self.wanted = 1;
        }
        Ok(found)
    }

    /// Parks the thread until there is room for `len` bytes.
    pub(crate) fn park(
        &mut self,
        len: usize,
        timeout: Option<Duration>,
        signals: &mut Signals<'_>,
    ) -> Result<(), Stop> {
        signals.wait(&mut Room { producer: self, len }, timeout).map(drop)
    }

    /// A `try_` verb found no room for so many bytes: what the next [`Producer::arm`] waits for.
    pub(crate) fn lacks(&mut self, len: usize) {
        self.wanted = len;
    }

    /// The same, kept up for as long as `spin=` says.
    pub(crate) fn look_long(&mut self, len: usize) -> Result<Option<Reservation>, Stop> {
        side::spin(&mut Room { producer: self, len })
    }

    /// The bytes of a reservation.
    #[inline]
    pub(crate) fn room_bytes(&mut self, reservation: &Reservation) -> &mut [u8] {
        self.raw.slice_mut(reservation)
    }

    /// Room behind what is staged; unlike [`Producer::look_once`] it takes nothing back.
    pub(crate) fn look_behind_staged(&mut self, len: usize) -> Result<Option<Reservation>, Stop> {
        self.room_to_stage(len)
    }

    /// Stages one message, to be published with others.
    pub(crate) fn stage_filled(&mut self, reservation: Reservation, used: usize, tag: Tag) {
        self.raw.stage(reservation, used, tag.byte(), 0);
        self.staged = true;
    }

    /// Publishes `count` staged messages and wakes the consumer once.
    pub(crate) fn publish_all(&mut self, count: usize) {
        self.publish_staged(count);
    }

    /// Sets what [`Producer::published`] tells.
    pub(crate) fn restart_count(&mut self) {
        self.start_many();
    }

    /// What the messages in the ring count as against its quota.
    pub(crate) fn used(&mut self) -> Result<u64, Stop> {
        self.raw.used().map_err(|damage| self.base.damaged(damage))
    }
}
