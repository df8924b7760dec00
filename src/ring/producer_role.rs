//! The producer as a party: its peer, foreign event loops, leaving.

use crate::error::Fault;
use crate::ring::error::PushError;
use crate::ring::options::Ring;
use crate::ring::producer::{Attached, Producer, Room};
use crate::ring::side;
use crate::ring::stat::{EndStat, Peer};
use std::time::Duration;

impl Producer {
    /// Waits until a consumer is attached.
    ///
    /// # Errors
    ///
    /// Faults, as in [`Producer::push`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it changes nothing.
    #[cfg(feature = "tokio")]
    pub async fn attached(&mut self) -> Result<(), PushError> {
        let mut wait = Attached(self);
        let done = std::future::poll_fn(|cx| side::poll_find(&mut wait, cx)).await;
        done.map_err(|stop| self.stopped(stop))
    }

    /// As [`Producer::attached`], parking the thread.
    ///
    /// # Errors
    ///
    /// As [`Producer::attached`], and [`PushError::Timeout`].
    pub fn blocking_attached(
        &mut self,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<(), PushError> {
        let done = side::block_find(&mut Attached(self), timeout.into(), &mut || false);
        done.map_err(|stop| self.stopped(stop))
    }

    /// Steps 1 to 4 of the wake protocol, for foreign event loops: true = sleep on
    /// [`AsFd`](std::os::fd::AsFd) until it is readable, then call [`Producer::disarm`] and try
    /// again; false = try again now. It waits for room for what the last `try_` verb found none for
    /// (for one byte, when it found some).
    ///
    /// # Errors
    ///
    /// As [`Producer::push`].
    pub fn arm(&mut self) -> Result<bool, PushError> {
        let len = self.wanted;
        side::arm(&mut Room { producer: self, len }).map_err(|stop| self.stopped(stop))
    }

    /// Takes in what made the descriptor readable. Call it after every wake and before giving up a
    /// sleep.
    ///
    /// # Errors
    ///
    /// A fault, when the system fails.
    pub fn disarm(&mut self) -> Result<(), Fault> {
        side::disarm(&mut Room { producer: self, len: 1 })
    }

    /// The descriptor for foreign event loops: readable when this end should look again. Made on the
    /// first call, owned by the handle; take it out of your loop before the handle goes.
    ///
    /// # Errors
    ///
    /// A fault, when the system gives none.
    #[cfg(unix)]
    pub fn fileno(&mut self) -> Result<std::os::fd::RawFd, Fault> {
        self.base.public_fd()
    }

    /// The ring that this is an end of.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// The consumer that is attached now, as it described itself.
    pub fn peer(&self) -> Option<Peer> {
        Peer::in_slot(self.base.region(), 1)
    }

    /// True once the consumer closed or died and no other has been seen.
    pub fn is_closed(&mut self) -> bool {
        if self.base.peer_changed() || self.base.endpoint.look_at(1) {
            // What is told here is told to this caller only; the next push tells it again.
            let _ = self.base.meet();
        }
        match self.base.gone {
            Some(gone) => (gone.died || self.raw.closed_by() == gone.tag) && !self.base.has_peer(),
            None => self.deserted,
        }
    }

    /// Bytes in the ring, headers included.
    pub fn len(&self) -> u64 {
        self.ring.stat().len
    }

    /// Whether the consumer has released everything.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of room for messages and their headers.
    pub fn capacity(&self) -> u64 {
        self.raw.geometry().capacity()
    }

    /// Bytes of the largest message.
    pub fn max_message(&self) -> u64 {
        self.raw.geometry().max_message()
    }

    /// What this end has done since it was attached.
    pub fn stat(&self) -> EndStat {
        self.base.stat()
    }

    /// Ends the stream: the consumer pops what is there and then gets the end. Never waits.
    ///
    /// # Errors
    ///
    /// A fault, when the ring is damaged.
    pub fn close(mut self) -> Result<(), Fault> {
        self.shut(true)
    }

    /// Gives the role up *without* ending the stream: the next producer goes on with it.
    ///
    /// # Errors
    ///
    /// A fault, when the handle was inherited by fork.
    pub fn detach(mut self) -> Result<(), Fault> {
        self.shut(false)
    }
}
