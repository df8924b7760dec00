//! Pushing many messages: staged, then published together.

use crate::codec::Tag;
use crate::ring::error::{PushError, Stop, TryPushError};
use crate::ring::producer::Producer;
use crate::ring::raw_producer::{Reservation, ReserveError};
use std::time::Duration;

/// How many messages are published at once.
const BATCH: usize = 32;

impl Producer {
    /// Stages one message of a batch; false: no room, and nothing of it is staged.
    fn stage(&mut self, bytes: &[u8], room: Reservation) {
        self.raw.write(&room, bytes);
        self.raw.stage(room, bytes.len(), Tag::RAW.byte(), 0);
        self.staged = true;
    }

    pub(super) fn room_to_stage(&mut self, len: usize) -> Result<Option<Reservation>, Stop> {
        self.check_open()?;
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

    pub(super) fn publish_staged(&mut self, count: usize) {
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

    pub(super) fn start_many(&mut self) {
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
                    self.put(room, item.as_ref(), Tag::RAW);
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
                    self.put(room, item.as_ref(), Tag::RAW);
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
}
