//! The producing end.

use crate::codec::{self, Tag};
use crate::error::{Fault, FaultKind, OpenError};
use crate::notify::Endpoint;
use crate::ring::error::{PushError, Stop, TryPushError};
use crate::ring::grant::Grant;
use crate::ring::options::Ring;
use crate::ring::raw_frame::EndReason;
use crate::ring::raw_producer::{RawProducer, Reservation, ReserveError};
use crate::ring::side::{self, Base, Side};
use crate::ring::stat::{EndStat, Peer};
use serde::Serialize;
use std::time::Duration;

/// How many messages `push_many` publishes at once.
const BATCH: usize = 32;

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
    ring: Ring,
    /// Records are staged and not published (a `push_many` was interrupted by its iterator).
    staged: bool,
    published: usize,
    /// The consumer that was seen last closed or died, and no other came.
    deserted: bool,
    open: bool,
}

/// Waits for room for a message of `len` bytes.
struct Room<'a> {
    producer: &'a mut Producer,
    len: usize,
}

impl Side for Room<'_> {
    type Found = Reservation;

    fn base(&mut self) -> &mut Base {
        &mut self.producer.base
    }

    fn look(&mut self) -> Result<Option<Reservation>, Stop> {
        self.producer.look(self.len)
    }
}

/// Waits for a consumer.
struct Attached<'a>(&'a mut Producer);

impl Side for Attached<'_> {
    type Found = ();

    fn base(&mut self) -> &mut Base {
        &mut self.0.base
    }

    fn look(&mut self) -> Result<Option<()>, Stop> {
        if self.0.base.peer_changed() {
            self.0.base.meet()?;
            self.0.base.gone = None;
        }
        Ok(self.0.base.has_peer().then_some(()))
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
        Ok(Producer { raw, base, ring, staged: false, published: 0, deserted: false, open })
    }

    /// Room for `len` bytes, or news of the consumer.
    fn look(&mut self, len: usize) -> Result<Option<Reservation>, Stop> {
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

    /// Who came, who left: a consumer that closed or died is told once.
    #[cold]
    fn peer_news(&mut self) -> Result<(), Stop> {
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

    fn too_large(&self, len: usize, limit: u64) -> Stop {
        let max = usize::try_from(limit).unwrap_or(usize::MAX);
        let cause = format!(
            "a message of {len} bytes is larger than max_message, {max}; send it in parts, or make \
             the ring with a larger capacity and max_message"
        );
        let fault = self.base.region().fault(FaultKind::InvalidOption, cause);
        Stop::TooLarge { fault: fault.with_errno(libc::EMSGSIZE), len, max }
    }

    fn stopped(&self, stop: Stop) -> PushError {
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
    async fn room(&mut self, len: usize) -> Result<Reservation, Stop> {
        if let Some(reservation) = self.look(len)? {
            return Ok(reservation);
        }
        let mut room = Room { producer: self, len };
        std::future::poll_fn(move |cx| side::poll_find(&mut room, cx)).await
    }

    /// Makes the reserved bytes a message and wakes the consumer.
    #[inline]
    pub(crate) fn finish(&mut self, reservation: Reservation, used: usize, tag: Tag) {
        crate::sys::failpoint::failpoint!("push.copied");
        self.raw.commit(reservation, used, tag.code(), 0);
        crate::sys::failpoint::failpoint!("push.published");
        self.base.wake();
    }

    fn put(&mut self, reservation: Reservation, bytes: &[u8], tag: Tag) {
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
                self.put(reservation, bytes, Tag::Bytes);
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
        self.try_put(bytes, Tag::Bytes)
    }

    fn try_put(&mut self, bytes: &[u8], tag: Tag) -> Result<(), TryPushError> {
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
                self.put(reservation, bytes, Tag::Bytes);
                Ok(())
            }
            Err(stop) => Err(self.stopped(stop)),
        }
    }

    fn encoded<T: Serialize + ?Sized>(&self, value: &T) -> Result<Vec<u8>, Fault> {
        codec::to_vec(value).map_err(|err| self.base.region().fault(FaultKind::Encode, err))
    }

    /// Publishes a value as msgpack (structs as maps), waiting for room.
    ///
    /// # Errors
    ///
    /// As [`Producer::push`], and a fault when the value cannot be encoded.
    ///
    /// # Cancel safety
    ///
    /// As [`Producer::push`].
    #[cfg(feature = "tokio")]
    pub async fn push_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), PushError> {
        let bytes = self.encoded(value)?;
        match self.room(bytes.len()).await {
            Ok(reservation) => {
                self.put(reservation, &bytes, Tag::Value);
                Ok(())
            }
            Err(stop) => Err(self.stopped(stop)),
        }
    }

    /// Publishes a value as msgpack if there is room now.
    ///
    /// # Errors
    ///
    /// As [`Producer::try_push`], and a fault when the value cannot be encoded.
    pub fn try_push_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), TryPushError> {
        let bytes = self.encoded(value)?;
        self.try_put(&bytes, Tag::Value)
    }

    /// Publishes a value as msgpack, parking the thread while there is no room.
    ///
    /// # Errors
    ///
    /// As [`Producer::blocking_push`], and a fault when the value cannot be encoded.
    pub fn blocking_push_value<T: Serialize + ?Sized>(
        &mut self,
        value: &T,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<(), PushError> {
        let bytes = self.encoded(value)?;
        match self.block_room(bytes.len(), timeout.into(), &mut || false) {
            Ok(reservation) => {
                self.put(reservation, &bytes, Tag::Value);
                Ok(())
            }
            Err(stop) => Err(self.stopped(stop)),
        }
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

    /// Stages one message of a batch; false: no room, and nothing of it is staged.
    fn stage(&mut self, bytes: &[u8], room: Reservation) {
        self.raw.write(&room, bytes);
        self.raw.stage(room, bytes.len(), Tag::Bytes.code(), 0);
        self.staged = true;
    }

    fn room_to_stage(&mut self, len: usize) -> Result<Option<Reservation>, Stop> {
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

    fn publish_staged(&mut self, count: usize) {
        if count > 0 {
            self.raw.publish();
            self.staged = false;
            self.published += count;
            self.base.wake();
        }
    }

    /// Stages from `items` until one does not fit; returns that one. Publishes each full batch.
    fn stage_from<T: AsRef<[u8]>>(
        &mut self,
        items: &mut impl Iterator<Item = T>,
    ) -> Result<Option<T>, Stop> {
        let mut count = 0;
        for item in items {
            match self.room_to_stage(item.as_ref().len()) {
                Ok(Some(room)) => {
                    self.stage(item.as_ref(), room);
                    count += 1;
                    if count == BATCH {
                        self.publish_staged(count);
                        count = 0;
                    }
                }
                Ok(None) => {
                    self.publish_staged(count);
                    return Ok(Some(item));
                }
                Err(stop) => {
                    self.publish_staged(count);
                    return Err(stop);
                }
            }
        }
        self.publish_staged(count);
        Ok(None)
    }

    fn start_many(&mut self) {
        if self.staged {
            self.raw.rollback();
            self.staged = false;
        }
        self.published = 0;
    }

    /// Publishes all items, in batches, waiting for room; one barrier and at most one wake for a
    /// batch. Returns how many.
    ///
    /// # Errors
    ///
    /// As [`Producer::push`]; what was published before stays, [`Producer::published`] says how much.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe in the weak form: what was published stays, [`Producer::published`] tells how many
    /// items that were; the rest of the iterator is dropped.
    #[cfg(feature = "tokio")]
    pub async fn push_many<I>(&mut self, items: I) -> Result<usize, PushError>
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        self.start_many();
        let mut items = items.into_iter();
        loop {
            let item = match self.stage_from(&mut items) {
                Ok(None) => return Ok(self.published),
                Ok(Some(item)) => item,
                Err(stop) => return Err(self.stopped(stop)),
            };
            match self.room(item.as_ref().len()).await {
                Ok(room) => {
                    self.put(room, item.as_ref(), Tag::Bytes);
                    self.published += 1;
                }
                Err(stop) => return Err(self.stopped(stop)),
            }
        }
    }

    /// Publishes items until one does not fit. Returns how many; the rest of the iterator is dropped.
    ///
    /// # Errors
    ///
    /// As [`Producer::try_push`], but for `Full`.
    pub fn try_push_many<I>(&mut self, items: I) -> Result<usize, TryPushError>
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        self.start_many();
        match self.stage_from(&mut items.into_iter()) {
            Ok(_) => Ok(self.published),
            Err(stop) => Err(TryPushError::from_stop(stop, &self.base.region().subject())),
        }
    }

    /// As [`Producer::push_many`], parking the thread while there is no room; `timeout` is for each
    /// wait.
    ///
    /// # Errors
    ///
    /// As [`Producer::blocking_push`]; what was published before stays.
    pub fn blocking_push_many<I>(
        &mut self,
        items: I,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<usize, PushError>
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        self.start_many();
        let (mut items, timeout) = (items.into_iter(), timeout.into());
        loop {
            let item = match self.stage_from(&mut items) {
                Ok(None) => return Ok(self.published),
                Ok(Some(item)) => item,
                Err(stop) => return Err(self.stopped(stop)),
            };
            match self.block_room(item.as_ref().len(), timeout, &mut || false) {
                Ok(room) => {
                    self.put(room, item.as_ref(), Tag::Bytes);
                    self.published += 1;
                }
                Err(stop) => return Err(self.stopped(stop)),
            }
        }
    }

    /// How many items the last `push_many` published.
    pub fn published(&self) -> usize {
        self.published
    }

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
    /// again; false = there is room (for a message of one byte), try again now.
    ///
    /// # Errors
    ///
    /// As [`Producer::push`].
    pub fn arm(&mut self) -> Result<bool, PushError> {
        side::arm(&mut Room { producer: self, len: 1 }).map_err(|stop| self.stopped(stop))
    }

    /// As [`Producer::arm`], for room for `len` bytes.
    pub(crate) fn arm_for(&mut self, len: usize) -> Result<bool, Stop> {
        side::arm(&mut Room { producer: self, len })
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
            Some(gone) => {
                (gone.died || self.raw.closed_by() == gone.tag) && !self.base.has_peer()
            }
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

    fn shut(&mut self, end: bool) -> Result<(), Fault> {
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

impl Drop for Producer {
    fn drop(&mut self) {
        let _ = self.shut(true);
    }
}
