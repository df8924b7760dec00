//! The producing end.

use crate::codec::Tag;
use crate::error::{Fault, FaultKind, OpenError, errno};
use crate::notify::Endpoint;
use crate::ring::error::{PushError, Stop, TryPushError};
use crate::ring::grant::Grant;
use crate::ring::options::Ring;
use crate::ring::raw_frame::EndReason;
use crate::ring::raw_producer::{RawProducer, Reservation, ReserveError};
use crate::ring::side::{self, Base, Side};
use std::time::Duration;

/// The producing end of a [`Ring`]. One at a time: a second live one is refused with the pid of the
/// first.
///
/// `Send`, but neither `Sync` nor `Clone`: holding it is the proof of being the only producer.
///
/// Dropping it ends the stream, as [`Producer::close`] does; [`Producer::detach`] does not.
///
/// # What a crash leaves behind
///
/// Every message that was published, whole. The consumer pops them and then gets
/// [`PopError::PeerDied`](crate::PopError::PeerDied); the next producer takes the place at once.
///
/// # Blocking
///
/// The `blocking_` forms park the thread. Called inside an async task they hold up every other task
/// of that thread until the consumer makes room.
#[derive(Debug)]
pub struct Producer {
    pub(super) raw: RawProducer,
    pub(super) base: Base,
    pub(super) ring: Ring,
    /// Records are staged and not published (a `push_many` was interrupted by its iterator).
    pub(super) staged: bool,
    pub(super) published: usize,
    /// The consumer that was seen last closed or died, and no other came.
    pub(super) deserted: bool,
    /// What the last `try_` verb found no room for; 1 when it found some.
    pub(super) wanted: usize,
    open: bool,
}

/// Waits for room for a message of `len` bytes.
pub(super) struct Room<'a> {
    pub(super) producer: &'a mut Producer,
    pub(super) len: usize,
}

impl Side for Room<'_> {
    type Found = Reservation;

    fn base(&mut self) -> &mut Base {
        &mut self.producer.base
    }

    #[inline]
    fn look(&mut self) -> Result<Option<Reservation>, Stop> {
        self.producer.look(self.len)
    }
}

/// Waits for a consumer.
pub(super) struct Attached<'a>(pub(super) &'a mut Producer);

impl Side for Attached<'_> {
    type Found = ();

    fn base(&mut self) -> &mut Base {
        &mut self.0.base
    }

    fn look(&mut self) -> Result<Option<()>, Stop> {
        if self.0.base.peer_changed() || self.0.base.peer_may_be_gone() {
            self.0.base.meet()?;
            self.0.base.gone = None;
        }
        Ok(self.0.base.has_peer().then_some(()))
    }

    fn tells(&self) -> bool {
        false
    }
}

impl Producer {
    pub(super) fn new(
        ring: Ring,
        endpoint: Box<Endpoint>,
        spin: Option<Duration>,
    ) -> Result<Producer, OpenError> {
        let geometry = Ring::geometry_of(&endpoint.region)?;
        let memory = side::memory_of(&endpoint.region, geometry);
        let tag = endpoint.tag;
        let mut base = Base::new(endpoint, spin);
        let damaged = |base: &Base, damage| match base.damaged(damage) {
            Stop::Fault(fault) => OpenError::Fault(fault),
            _ => OpenError::Fault(base.region().fault(FaultKind::Damaged, "its indices are wrong")),
        };
        let mut raw = RawProducer::new(memory, tag).map_err(|damage| damaged(&base, damage))?;
        crate::sys::failpoint::failpoint!("producer.takeover");
        if raw.begin().map_err(|damage| damaged(&base, damage))? {
            base.wake();
        }
        crate::sys::failpoint::failpoint!("producer.ready");
        let open = true;
        Ok(Producer {
            raw,
            base,
            ring,
            staged: false,
            published: 0,
            deserted: false,
            wanted: 1,
            open,
        })
    }

    /// Room for `len` bytes, or news of the consumer.
    #[inline(always)] // else what it returns goes through memory, a tenth of a `try_push`
    fn look(&mut self, len: usize) -> Result<Option<Reservation>, Stop> {
        let base = &self.base;
        if self.open
            && !self.staged
            && !base.endpoint.is_inherited()
            && !base.peer_changed()
            && base.gone.is_none()
            && let Some(reservation) = self.raw.reserve_quickly(len)
        {
            return Ok(Some(reservation));
        }
        self.look_slowly(len)
    }

    #[cold]
    #[inline(never)]
    fn look_slowly(&mut self, len: usize) -> Result<Option<Reservation>, Stop> {
        self.check_open()?;
        if self.staged {
            self.raw.rollback();
            self.staged = false;
        }
        if self.base.peer_changed() || self.base.gone.is_some() {
            self.peer_news()?;
        }
        match self.raw.reserve(len) {
            Ok(reservation) => Ok(Some(reservation)),
            Err(ReserveError::Full { .. }) => Ok(None),
            Err(ReserveError::Damage(damage)) => Err(self.base.damaged(damage)),
            Err(ReserveError::TooLarge { limit }) => Err(self.too_large(len, limit)),
        }
    }

    /// A sink that was closed keeps its producer, which has no role any more.
    #[inline]
    pub(super) fn check_open(&self) -> Result<(), Fault> {
        self.base.endpoint.check_fork()?;
        if self.open { Ok(()) } else { Err(self.shut_before()) }
    }

    #[cold]
    fn shut_before(&self) -> Fault {
        let cause = "this producer end was closed; attach a new one";
        self.base.region().fault(FaultKind::Os, cause).with_errno(errno::EPIPE)
    }

    /// Who came, who left: a consumer that closed or died is told once.
    #[cold]
    pub(super) fn peer_news(&mut self) -> Result<(), Stop> {
        if self.base.peer_changed() {
            self.base.meet()?;
        }
        let Some(gone) = self.base.gone.take() else {
            self.deserted = false;
            return Ok(());
        };
        let closed = self.raw.closed_by() == gone.tag;
        self.deserted = (closed || gone.died) && !self.base.has_peer();
        if closed {
            return Err(Stop::Closed);
        }
        if gone.died {
            return Err(self.base.died(gone, "consumer"));
        }
        Ok(())
    }

    pub(super) fn too_large(&self, len: usize, limit: u64) -> Stop {
        let max = usize::try_from(limit).unwrap_or(usize::MAX);
        let cause = format!(
            "a message of {len} bytes is larger than max_message, {max}; send it in parts, or make \
             the ring with a larger capacity and max_message"
        );
        let fault = self.base.region().fault(FaultKind::InvalidOption, cause);
        Stop::TooLarge { fault: fault.with_errno(errno::EMSGSIZE), len, max }
    }

    pub(super) fn stopped(&self, stop: Stop) -> PushError {
        PushError::from_stop(stop, &self.base.region().subject())
    }

    /// Room for `len` bytes, now or never.
    pub(crate) fn try_room(&mut self, len: usize) -> Result<Option<Reservation>, Stop> {
        let mut found = self.look(len)?;
        if found.is_none() && self.base.tried()? {
            found = self.look(len)?;
        }
        if found.is_some() {
            self.base.came();
        }
        self.wanted = if found.is_some() { 1 } else { len };
        Ok(found)
    }

    /// Room for `len` bytes, parking the thread for it.
    pub(crate) fn block_room(
        &mut self,
        len: usize,
        timeout: Option<Duration>,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<Reservation, Stop> {
        side::block_find(&mut Room { producer: self, len }, timeout, interrupted)
    }

    #[cfg(feature = "tokio")]
    pub(super) async fn room(&mut self, len: usize) -> Result<Reservation, Stop> {
        if self.base.turn_is_due() {
            tokio::task::coop::consume_budget().await;
        }
        if let Some(reservation) = self.look(len)? {
            return Ok(reservation);
        }
        let mut room = Room { producer: self, len };
        std::future::poll_fn(move |cx| side::poll_find(&mut room, cx)).await
    }

    /// Makes the reserved bytes a message and wakes the consumer.
    #[inline]
    pub(crate) fn finish(&mut self, reservation: Reservation, used: usize, tag: Tag) {
        if self.base.endpoint.is_inherited() {
            return; // a grant that a fork copied: the parent commits its own
        }
        crate::sys::failpoint::failpoint!("push.copied");
        self.raw.commit(reservation, used, tag.byte(), 0);
        crate::sys::failpoint::failpoint!("push.published");
        self.base.wake();
    }

    pub(super) fn put(&mut self, reservation: Reservation, bytes: &[u8], tag: Tag) {
        self.raw.write(&reservation, bytes);
        self.finish(reservation, bytes.len(), tag);
    }

    /// Publishes a copy of `bytes`, waiting for room.
    ///
    /// # Errors
    ///
    /// See [`PushError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped push has published nothing.
    ///
    /// # Panics
    ///
    /// In a tokio runtime built without `enable_io`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// # let name = format!("/doc-push-{}", std::process::id());
    /// let ring = ringspan::Ring::options().ephemeral(true).create(&name)?;
    /// let (mut tx, mut rx) = (ring.producer()?, ring.consumer()?);
    /// tx.push(b"hello").await?;
    /// assert_eq!(rx.pop().await?.as_deref(), Some(&b"hello"[..]));
    /// # drop((tx, rx)); ringspan::remove(&name).ok(); Ok(())
    /// # }
    /// ```
    #[cfg(feature = "tokio")]
    pub async fn push(&mut self, bytes: &[u8]) -> Result<(), PushError> {
        match self.room(bytes.len()).await {
            Ok(reservation) => {
                self.put(reservation, bytes, Tag::RAW);
                Ok(())
            }
            Err(stop) => Err(self.stopped(stop)),
        }
    }

    /// Publishes a copy of `bytes` if there is room now.
    ///
    /// # Errors
    ///
    /// [`TryPushError::Full`]; the rest as in [`Producer::push`].
    pub fn try_push(&mut self, bytes: &[u8]) -> Result<(), TryPushError> {
        self.try_put(bytes, Tag::RAW)
    }

    pub(super) fn try_put(&mut self, bytes: &[u8], tag: Tag) -> Result<(), TryPushError> {
        match self.try_room(bytes.len()) {
            Ok(Some(reservation)) => {
                self.put(reservation, bytes, tag);
                Ok(())
            }
            Ok(None) => Err(TryPushError::Full),
            Err(stop) => Err(TryPushError::from_stop(stop, &self.base.region().subject())),
        }
    }

    /// Publishes a copy of `bytes`, parking the thread while there is no room, for at most
    /// `timeout` (`None`: as long as it takes).
    ///
    /// # Errors
    ///
    /// [`PushError::Timeout`]; the rest as in [`Producer::push`].
    pub fn blocking_push(
        &mut self,
        bytes: &[u8],
        timeout: impl Into<Option<Duration>>,
    ) -> Result<(), PushError> {
        match self.block_room(bytes.len(), timeout.into(), &mut || false) {
            Ok(reservation) => {
                self.put(reservation, bytes, Tag::RAW);
                Ok(())
            }
            Err(stop) => Err(self.stopped(stop)),
        }
    }

    /// Refuses what no ring of this geometry takes.
    #[cfg(feature = "tokio")]
    pub(super) fn check_len(&self, len: usize) -> Result<(), PushError> {
        let limit = self.max_message();
        if len as u64 <= limit {
            return Ok(());
        }
        Err(self.stopped(self.too_large(len, limit)))
    }

    /// Poll form of `push`, for `Sink`.
    #[cfg(feature = "tokio")]
    pub(super) fn poll_put(
        &mut self,
        bytes: &[u8],
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), PushError>> {
        if self.base.poll_turn(cx).is_pending() {
            return std::task::Poll::Pending;
        }
        let room = &mut Room { producer: self, len: bytes.len() };
        side::poll_find(room, cx).map(|found| match found {
            Ok(reservation) => {
                self.put(reservation, bytes, Tag::RAW);
                Ok(())
            }
            Err(stop) => Err(self.stopped(stop)),
        })
    }

    /// Room for a message of up to `len` bytes, to be filled in place. Nothing is published until
    /// [`Grant::commit`]; a dropped (or forgotten) grant publishes nothing.
    ///
    /// # Errors
    ///
    /// As [`Producer::push`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is published.
    #[cfg(feature = "tokio")]
    pub async fn reserve(&mut self, len: usize) -> Result<Grant<'_>, PushError> {
        match self.room(len).await {
            Ok(reservation) => Ok(Grant::new(self, reservation)),
            Err(stop) => Err(self.stopped(stop)),
        }
    }

    /// As [`Producer::reserve`], if there is room now.
    ///
    /// # Errors
    ///
    /// As [`Producer::try_push`].
    pub fn try_reserve(&mut self, len: usize) -> Result<Grant<'_>, TryPushError> {
        match self.try_room(len) {
            Ok(Some(reservation)) => Ok(Grant::new(self, reservation)),
            Ok(None) => Err(TryPushError::Full),
            Err(stop) => Err(TryPushError::from_stop(stop, &self.base.region().subject())),
        }
    }

    /// As [`Producer::reserve`], parking the thread while there is no room.
    ///
    /// # Errors
    ///
    /// As [`Producer::blocking_push`].
    pub fn blocking_reserve(
        &mut self,
        len: usize,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<Grant<'_>, PushError> {
        match self.block_room(len, timeout.into(), &mut || false) {
            Ok(reservation) => Ok(Grant::new(self, reservation)),
            Err(stop) => Err(self.stopped(stop)),
        }
    }

    pub(super) fn shut(&mut self, end: bool) -> Result<(), Fault> {
        if !std::mem::take(&mut self.open) {
            return Ok(());
        }
        self.base.endpoint.check_fork()?;
        if self.staged {
            self.raw.rollback();
        }
        crate::sys::failpoint::failpoint!("close.begin");
        let ended = if end {
            self.raw.close(EndReason::Closed).map(drop)
        } else {
            self.raw.detach();
            Ok(())
        };
        crate::sys::failpoint::failpoint!("close.ended");
        self.base.wake();
        self.base.endpoint.detach();
        match ended.map_err(|damage| self.base.damaged(damage)) {
            Err(Stop::Fault(fault)) => Err(fault),
            _ => Ok(()),
        }
    }
}

/// # Panics
///
/// Before [`Producer::fileno`] was called once.
#[cfg(unix)]
impl std::os::fd::AsFd for Producer {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.base.made_fd()
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        let _ = self.shut(true);
    }
}
