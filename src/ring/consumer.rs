//! The consuming end.

use crate::error::{Fault, FaultKind, OpenError};
use crate::notify::Endpoint;
use crate::ring::error::{PopError, Stop, TryPopError};
use crate::ring::message::Message;
use crate::ring::options::Ring;
use crate::ring::raw_consumer::{Item, RawConsumer, Record};
use crate::ring::raw_frame::EndReason;
use crate::ring::side::{self, Base, Gone, Side};
use std::time::Duration;

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
    pub(super) ring: Ring,
    /// The messages of the batch that is lent.
    pub(super) batch: Vec<Record>,
    pub(super) ended: bool,
    open: bool,
}

/// Waits for a message.
pub(super) struct Next<'a>(pub(super) &'a mut Consumer);

impl Side for Next<'_> {
    type Found = Record;

    fn base(&mut self) -> &mut Base {
        &mut self.0.base
    }

    #[inline]
    fn look(&mut self) -> Result<Option<Record>, Stop> {
        self.0.look()
    }
}

/// Waits for a producer.
pub(super) struct Attached<'a>(pub(super) &'a mut Consumer);

impl Side for Attached<'_> {
    type Found = ();

    fn base(&mut self) -> &mut Base {
        &mut self.0.base
    }

    fn look(&mut self) -> Result<Option<()>, Stop> {
        if self.0.base.peer_changed() || self.0.base.peer_may_be_gone() {
            self.0.base.meet()?; // who left is told by the next pop
        }
        Ok(self.0.base.has_peer().then_some(()))
    }

    fn tells(&self) -> bool {
        false
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
        let mut base = base;
        base.left_before(raw.writer());
        crate::sys::failpoint::failpoint!("consumer.ready");
        Ok(Consumer { raw, base, ring, batch: Vec::new(), ended: false, open: true })
    }

    /// The oldest message, or the end of a stream.
    #[inline(always)] // else what it returns goes through memory, a tenth of a `try_pop`
    fn look(&mut self) -> Result<Option<Record>, Stop> {
        if !self.base.endpoint.is_inherited()
            && let Some(record) = self.raw.peek_message()
            && !self.base.peer_changed()
        {
            self.ended = false; // of a producer that may have left again unseen
            return Ok(Some(record));
        }
        self.look_slowly()
    }

    #[cold]
    #[inline(never)]
    fn look_slowly(&mut self) -> Result<Option<Record>, Stop> {
        self.base.endpoint.check_fork()?;
        loop {
            match self.raw.peek() {
                Ok(Some(Item::Data(record))) => {
                    if self.base.peer_changed() {
                        // Before it is given room the producer must be one that we can wake.
                        self.base.meet()?;
                    }
                    self.ended = false; // of a producer that may have left again unseen
                    return Ok(Some(record));
                }
                Ok(Some(Item::End(end))) => {
                    if self.base.peer_changed() {
                        self.base.meet()?;
                    }
                    let pid = self.pid_of(end.tag());
                    // What is told now, or was told last, the death does not tell once more.
                    let told = [end.tag(), self.raw.ended()];
                    self.base.gone.take_if(|gone| told.contains(&gone.tag));
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
        // The stream without an end may be of one that died before `gone` came, which was not given
        // the time to end it: then that is told first.
        let writer = self.raw.writer();
        let before = writer != gone.tag && !self.base.is_peer(writer);
        let tag =
            if writer != 0 && before && writer != self.raw.ended() { writer } else { gone.tag };
        match self.raw.cut_short(tag) {
            Ok(true) => {
                self.raw.note_end(tag);
                if tag != gone.tag {
                    self.base.gone = Some(gone);
                    return Err(self.base.died(Gone { tag, died: true, pid: 0 }, "producer"));
                }
            }
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

    pub(super) fn stopped(&self, stop: Stop) -> Option<PopError> {
        PopError::from_stop(stop, &self.base.region().subject())
    }

    /// The end of the stream is `Ok(None)`.
    pub(super) fn outcome<T>(&self, stop: Stop) -> Result<Option<T>, PopError> {
        self.stopped(stop).map_or(Ok(None), Err)
    }

    /// Gives room back and wakes the producer.
    #[inline]
    pub(crate) fn release(&mut self, cursor: u64) {
        if self.base.endpoint.is_inherited() {
            return; // a message that a fork copied: the parent releases its own
        }
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
    pub(super) async fn next(&mut self) -> Result<Record, Stop> {
        if self.base.turn_is_due() {
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
        if self.base.poll_turn(cx).is_pending() {
            return std::task::Poll::Pending;
        }
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

    pub(super) fn shut(&mut self, closed: bool) -> Result<(), Fault> {
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
#[cfg(unix)]
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
