//! Popping msgpack values, and many messages at once.

use crate::ring::consumer::Consumer;
use crate::ring::error::{PopError, TryPopError};
use crate::ring::message::Batch;
use crate::ring::raw_consumer::{Item, Record};
use serde::de::DeserializeOwned;
use std::time::Duration;

impl Consumer {
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
    /// As [`Consumer::try_pop`] and [`Message::value`](crate::Message::value).
    pub fn try_pop_value<T: DeserializeOwned>(&mut self) -> Result<T, TryPopError> {
        Ok(self.try_pop()?.value()?)
    }

    /// The oldest message as a msgpack value, parking the thread while there is none.
    ///
    /// # Errors
    ///
    /// As [`Consumer::blocking_pop`] and [`Message::value`](crate::Message::value).
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
    #[cfg(feature = "python")]
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
}
