//! The consuming end.

use crate::error::{Fault, FaultKind, OpenError};
use crate::notify::Endpoint;
use crate::ring::error::{PopError, Stop, TryPopError};
use crate::ring::message::{Batch, Message};
use crate::ring::options::Ring;
use crate::ring::raw_consumer::{Item, RawConsumer, Record};
use crate::ring::raw_frame::EndReason;
use crate::ring::side::{self, Base, Gone, Side};
use crate::ring::stat::{EndStat, Peer};
use serde::de::DeserializeOwned;
use std::time::Duration;

/// Each so many pops in a row that need no wait ask tokio's cooperative budget, so that a ring that
/// is never empty does not starve the other tasks.
#[cfg(feature = "tokio")]
const COOP_EVERY: u32 = 64;

/// The consuming end of a [`Ring`]. One at a time: a second live one is refused with the pid of the
/// first.
///
/// `Send`, but neither `Sync` nor `Clone`: holding it is the proof of being the only consumer.
///
/// Dropping it closes it, as [`Consumer::close`] does; [`Consumer::detach`] does not.
///
/// # What a crash leaves behind
///
/// A killed consumer's unreleased message stays in the ring and is popped again by the next consumer:
/// delivery is at least once across a crash.
///
/// # Blocking
///
/// The `blocking_` forms park the thread. Called inside an async task they hold up every other task
/// of that thread until the producer pushes.
#[derive(Debug)]
pub struct Consumer {
    pub(super) raw: RawConsumer,
    pub(super) base: Base,
    ring: Ring,
    /// The messages of the batch that is lent.
    pub(super) batch: Vec<Record>,
    #[cfg(feature = "tokio")]
    ready_in_a_row: u32,
    ended: bool,
    open: bool,
}

/// Waits for a message.
struct Next<'a>(&'a mut Consumer);

impl Side for Next<'_> {
    type Found = Record;

    fn base(&mut self) -> &mut Base {
        &mut self.0.base
    }

    fn look(&mut self) -> Result<Option<Record>, Stop> {
        self.0.look()
    }
}

/// Waits for a producer.
struct Attached<'a>(&'a mut Consumer);

impl Side for Attached<'_> {
    type Found = ();

    fn base(&mut self) -> &mut Base {
        &mut self.0.base
    }

    fn look(&mut self) -> Result<Option<()>, Stop> {
        if self.0.base.peer_changed() {
            self.0.base.meet()?; // who left is told by the next pop
        }
        Ok(self.0.base.has_peer().then_some(()))
    }
}

impl Consumer {
    pub(super) fn new(
        ring: Ring,
        endpoint: Box<Endpoint>,
        spin: Option<Duration>,
    ) -> Result<Consumer, OpenError> {
        let geometry = Ring::geometry_of(&endpoint.region)?;
        let memory = side::memory_of(&endpoint.region, geometry);
        let base = Base::new(endpoint, spin);
        let raw = RawConsumer::new(memory).map_err(|damage| {
            let cause = format!("{damage}; remove the ring and start again");
            OpenError::Fault(base.region().fault(FaultKind::Damaged, cause))
        })?;
        crate::sys::failpoint::failpoint!("consumer.ready");
        Ok(Consumer {
            raw,
            base,
            ring,
            batch: Vec::new(),
            #[cfg(feature = "tokio")]
            ready_in_a_row: 0,
            ended: false,
            open: true,
        })
    }

    /// The oldest message, or the end of a stream.
    fn look(&mut self) -> Result<Option<Record>, Stop> {
        loop {
            match self.raw.peek() {
                Ok(Some(Item::Data(record))) => {
                    if self.base.peer_changed() {
                        // Before it is given room the producer must be one that we can wake.
                        self.base.meet()?;
                    }
                    return Ok(Some(record));
                }
                Ok(Some(Item::End(end))) => {
                    if self.base.peer_changed() {
                        self.base.meet()?;
                    }
                    let pid = self.pid_of(end.tag());
                    let news = self.raw.take_end(&end);
                    self.base.wake();
                    if !news {
                        continue;
                    }
                    match end.reason() {
                        EndReason::Closed => {
                            self.ended = true;
                            return Err(Stop::Ended);
                        }
                        EndReason::Died => {
                            let gone = Gone { tag: end.tag(), died: true, pid };
                            return Err(self.base.died(gone, "producer"));
                        }
                    }
                }
                Ok(None) => {
                    if !self.base.peer_changed() && self.base.gone.is_none() {
                        return Ok(None);
                    }
                    if !self.peer_news()? {
                        return Ok(None);
                    }
                }
                Err(damage) => return Err(self.base.damaged(damage)),
            }
        }
    }

    /// The ring was empty and the slot of the producer changed hands: who left, and how? True: look
    /// at the ring again, for it may have pushed before it left.
    #[cold]
    fn peer_news(&mut self) -> Result<bool, Stop> {
        if self.base.peer_changed() {
            self.base.meet()?;
            self.ended &= !self.base.has_peer();
            return Ok(true); // and come back with `gone` set, if somebody is
        }
        let Some(gone) = self.base.gone.take() else { return Ok(false) };
        if !gone.died || self.raw.ended() == gone.tag {
            return Ok(false);
        }
        match self.raw.cut_short(gone.tag) {
            Ok(true) => self.raw.note_end(gone.tag),
            Ok(false) if !self.raw.is_drained() => {
                self.base.gone = Some(gone);
                return Ok(true);
            }
            // It died before it published anything: told to whoever watched it, and to nobody else.
            Ok(false) => {}
            Err(damage) => return Err(self.base.damaged(damage)),
        }
        Err(self.base.died(gone, "producer"))
    }

    fn pid_of(&self, tag: u64) -> u32 {
        match self.base.gone {
            Some(gone) if gone.tag == tag => gone.pid,
            _ => 0,
        }
    }

    fn stopped(&self, stop: Stop) -> Option<PopError> {
        PopError::from_stop(stop, &self.base.region().subject())
    }

    /// The end of the stream is `Ok(None)`.
    fn outcome<T>(&self, stop: Stop) -> Result<Option<T>, PopError> {
        self.stopped(stop).map_or(Ok(None), Err)
    }

    /// Gives room back and wakes the producer.
    #[inline]
    pub(crate) fn release(&mut self, cursor: u64) {
        crate::sys::failpoint::failpoint!("pop.read");
        self.raw.release(cursor);
        crate::sys::failpoint::failpoint!("pop.released");
        self.base.wake();
    }

    /// The oldest message, now or never. It stays in the ring until it is released.
    pub(crate) fn try_next(&mut self) -> Result<Option<Record>, Stop> {
        let mut found = self.look()?;
        if found.is_none() && self.base.tried()? {
            found = self.look()?;
        }
        if found.is_some() {
            self.base.came();
        }
        Ok(found)
    }

    /// The oldest message, parking the thread for it.
    pub(crate) fn block_next(
        &mut self,
        timeout: Option<Duration>,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<Record, Stop> {
        side::block_find(&mut Next(self), timeout, interrupted)
    }

    #[cfg(feature = "tokio")]
    async fn next(&mut self) -> Result<Record, Stop> {
        self.ready_in_a_row = self.ready_in_a_row.wrapping_add(1);
        if self.ready_in_a_row % COOP_EVERY == 0 {
            tokio::task::coop::consume_budget().await;
        }
        if let Some(record) = self.look()? {
            return Ok(record);
        }
        self.wait().await
    }

    #[cfg(feature = "tokio")]
    async fn wait(&mut self) -> Result<Record, Stop> {
        let mut next = Next(self);
        std::future::poll_fn(move |cx| side::poll_find(&mut next, cx)).await
    }

    /// Poll form of the wait, for `Stream`.
    #[cfg(feature = "tokio")]
    pub(super) fn poll_next_record(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<Option<Record>, PopError>> {
        side::poll_find(&mut Next(self), cx).map(|found| match found {
            Ok(record) => Ok(Some(record)),
            Err(stop) => self.outcome(stop),
        })
    }

    /// The oldest message, waiting for one. `None` is the end of the stream: the producer closed it;
    /// the next pop waits for another producer.
    ///
    /// # Errors
    ///
    /// See [`PopError`]. Everything that a dead producer published is popped before its death is
    /// told, once.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped pop takes nothing. The message itself is taken when it is dropped.
    ///
    /// # Panics
    ///
    /// In a tokio runtime built without `enable_io`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// # let name = format!("/doc-pop-{}", std::process::id());
    /// let ring = ringspan::Ring::options().create(&name)?;
    /// let (mut tx, mut rx) = (ring.producer()?, ring.consumer()?);
    /// tx.push(b"one").await?;
    /// tx.close()?;
    /// while let Some(message) = rx.pop().await? {
    ///     assert_eq!(&*message, b"one");
    /// }
    /// # ringspan::remove(&name)?; Ok(())
    /// # }
    /// ```
    #[cfg(feature = "tokio")]
    pub async fn pop(&mut self) -> Result<Option<Message<'_>>, PopError> {
        match self.next().await {
            Ok(record) => Ok(Some(Message::new(self, record))),
            Err(stop) => self.outcome(stop),
        }
    }

    /// The oldest message, if one is there now.
    ///
    /// # Errors
    ///
    /// [`TryPopError::Empty`], [`TryPopError::Closed`] at the end of a stream; the rest as in
    /// [`Consumer::pop`].
    pub fn try_pop(&mut self) -> Result<Message<'_>, TryPopError> {
        match self.try_next() {
            Ok(Some(record)) => Ok(Message::new(self, record)),
            Ok(None) => Err(TryPopError::Empty),
            Err(stop) => Err(TryPopError::from_stop(stop, &self.base.region().subject())),
        }
    }

    /// The oldest message, parking the thread while there is none, for at most `timeout` (`None`: as
    /// long as it takes). `Ok(None)` is the end of the stream.
    ///
    /// # Errors
    ///
    /// [`PopError::Timeout`]; the rest as in [`Consumer::pop`].
    pub fn blocking_pop(
        &mut self,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<Option<Message<'_>>, PopError> {
        match self.block_next(timeout.into(), &mut || false) {
            Ok(record) => Ok(Some(Message::new(self, record))),
            Err(stop) => self.outcome(stop),
        }
    }

    /// As [`Consumer::pop`], copied and released at once.
    ///
    /// # Errors
    ///
    /// As [`Consumer::pop`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped pop takes nothing.
    #[cfg(feature = "tokio")]
    pub async fn pop_owned(&mut self) -> Result<Option<Vec<u8>>, PopError> {
        Ok(self.pop().await?.map(|message| message.to_vec()))
    }

    /// The oldest message as a msgpack value, waiting for one.
    ///
    /// # Errors
    ///
    /// As [`Consumer::pop`], and a fault when the message is not a `T`; it is then released all the
    /// same, so that one bad message does not stop the stream.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped pop takes nothing.
    #[cfg(feature = "tokio")]
    pub async fn pop_value<T: DeserializeOwned>(&mut self) -> Result<Option<T>, PopError> {
        match self.pop().await? {
            None => Ok(None),
            Some(message) => Ok(Some(message.value()?)),
        }
    }

    /// The oldest message as a msgpack value, if one is there now.
    ///
    /// # Errors
    ///
    /// As [`Consumer::try_pop`] and [`Message::value`].
    pub fn try_pop_value<T: DeserializeOwned>(&mut self) -> Result<T, TryPopError> {
        Ok(self.try_pop()?.value()?)
    }

    /// The oldest message as a msgpack value, parking the thread while there is none.
    ///
    /// # Errors
    ///
    /// As [`Consumer::blocking_pop`] and [`Message::value`].
    pub fn blocking_pop_value<T: DeserializeOwned>(
        &mut self,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<Option<T>, PopError> {
        match self.blocking_pop(timeout)? {
            None => Ok(None),
            Some(message) => Ok(Some(message.value()?)),
        }
    }

    /// Collects up to `most` messages that are there, `first` being the oldest.
    pub(crate) fn collect(&mut self, first: Record, most: usize) {
        self.batch.clear();
        let mut cursor = first.next();
        self.batch.push(first);
        while self.batch.len() < most {
            // An end, or damage, is told by the next pop.
            let Ok(Some(Item::Data(record))) = self.raw.peek_at(cursor) else { return };
            cursor = record.next();
            self.batch.push(record);
        }
    }

    /// The messages that [`Consumer::collect`] found.
    pub(crate) fn collected(&self) -> &[Record] {
        &self.batch
    }

    /// One to `most` messages, waiting for the first one only. They are released together.
    /// `None` is the end of the stream.
    ///
    /// # Errors
    ///
    /// As [`Consumer::pop`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped pop takes nothing.
    #[cfg(feature = "tokio")]
    pub async fn pop_many(&mut self, most: usize) -> Result<Option<Batch<'_>>, PopError> {
        match self.next().await {
            Ok(first) => {
                self.collect(first, most);
                Ok(Some(Batch::new(self)))
            }
            Err(stop) => self.outcome(stop),
        }
    }

    /// One to `most` messages, if any are there now.
    ///
    /// # Errors
    ///
    /// As [`Consumer::try_pop`].
    pub fn try_pop_many(&mut self, most: usize) -> Result<Batch<'_>, TryPopError> {
        match self.try_next() {
            Ok(Some(first)) => {
                self.collect(first, most);
                Ok(Batch::new(self))
            }
            Ok(None) => Err(TryPopError::Empty),
            Err(stop) => Err(TryPopError::from_stop(stop, &self.base.region().subject())),
        }
    }

    /// One to `most` messages, parking the thread while there is none.
    ///
    /// # Errors
    ///
    /// As [`Consumer::blocking_pop`].
    pub fn blocking_pop_many(
        &mut self,
        most: usize,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<Option<Batch<'_>>, PopError> {
        match self.block_next(timeout.into(), &mut || false) {
            Ok(first) => {
                self.collect(first, most);
                Ok(Some(Batch::new(self)))
            }
            Err(stop) => self.outcome(stop),
        }
    }

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
        match side::arm(&mut Next(self)) {
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

    fn shut(&mut self, closed: bool) -> Result<(), Fault> {
        if !std::mem::take(&mut self.open) {
            return Ok(());
        }
        self.base.endpoint.check_fork()?;
        if closed {
            self.raw.close(self.base.endpoint.tag);
        }
        crate::sys::failpoint::failpoint!("consumer.closed");
        self.base.endpoint.detach();
        Ok(())
    }
}

/// # Panics
///
/// Before [`Consumer::fileno`] was called once.
impl std::os::fd::AsFd for Consumer {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.base.made_fd()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let _ = self.shut(true);
    }
}
