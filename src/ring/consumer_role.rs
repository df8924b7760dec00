//! The consumer as a party: its peer, foreign event loops, leaving.

use crate::error::Fault;
use crate::ring::consumer::{Attached, Consumer, Next};
use crate::ring::error::{PopError, Stop};
use crate::ring::options::Ring;
use crate::ring::side::{self, Base, Side};
use crate::ring::stat::{EndStat, Peer};
use std::time::Duration;

/// Whether the next pop finds something: a message or an end, which stays for that pop to tell.
struct Anything<'a>(&'a mut Consumer);

impl Side for Anything<'_> {
    type Found = ();

    fn base(&mut self) -> &mut Base {
        &mut self.0.base
    }

    fn look(&mut self) -> Result<Option<()>, Stop> {
        match self.0.raw.peek() {
            Ok(item) => Ok(item.map(drop)),
            Err(damage) => Err(self.0.base.damaged(damage)),
        }
    }
}

impl Consumer {
    /// Waits until a producer is attached.
    ///
    /// # Errors
    ///
    /// Faults, as in [`Consumer::pop`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it changes nothing.
    #[cfg(feature = "tokio")]
    pub async fn attached(&mut self) -> Result<(), PopError> {
        let mut wait = Attached(self);
        let done = std::future::poll_fn(|cx| side::poll_find(&mut wait, cx)).await;
        match done {
            Ok(()) => Ok(()),
            Err(stop) => self.outcome(stop).map(|_: Option<()>| ()),
        }
    }

    /// As [`Consumer::attached`], parking the thread.
    ///
    /// # Errors
    ///
    /// As [`Consumer::attached`], and [`PopError::Timeout`].
    pub fn blocking_attached(
        &mut self,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<(), PopError> {
        match side::block_find(&mut Attached(self), timeout.into(), &mut || false) {
            Ok(()) => Ok(()),
            Err(stop) => self.outcome(stop).map(|_: Option<()>| ()),
        }
    }

    /// Steps 1 to 4 of the wake protocol, for foreign event loops: true = sleep on
    /// [`AsFd`](std::os::fd::AsFd) until it is readable, then call [`Consumer::disarm`] and try
    /// again; false = try again now.
    ///
    /// # Errors
    ///
    /// As [`Consumer::pop`].
    pub fn arm(&mut self) -> Result<bool, PopError> {
        match side::arm(&mut Anything(self)) {
            Ok(armed) => Ok(armed),
            Err(stop) => self.outcome(stop).map(|_: Option<()>| false),
        }
    }

    /// Takes in what made the descriptor readable. Call it after every wake and before giving up a
    /// sleep.
    ///
    /// # Errors
    ///
    /// A fault, when the system fails.
    pub fn disarm(&mut self) -> Result<(), Fault> {
        side::disarm(&mut Next(self))
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

    /// The producer that is attached now, as it described itself.
    pub fn peer(&self) -> Option<Peer> {
        Peer::in_slot(self.base.region(), 0)
    }

    /// True once the producer closed its stream (and the end was popped) and no other has been seen.
    pub fn is_closed(&mut self) -> bool {
        self.ended && !self.base.peer_changed()
    }

    /// Bytes in the ring, headers included.
    pub fn len(&self) -> u64 {
        self.ring.stat().len
    }

    /// Whether everything was popped.
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

    /// Gives the role up: a push by the producer fails once with
    /// [`PushError::Closed`](crate::PushError::Closed). What is in the ring stays for the next
    /// consumer.
    ///
    /// # Errors
    ///
    /// A fault, when the handle was inherited by fork.
    pub fn close(mut self) -> Result<(), Fault> {
        self.shut(true)
    }

    /// Gives the role up without telling the producer, for another consumer to go on.
    ///
    /// # Errors
    ///
    /// A fault, when the handle was inherited by fork.
    pub fn detach(mut self) -> Result<(), Fault> {
        self.shut(false)
    }
}
