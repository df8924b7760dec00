//! Messages, borrowed from the ring until they are dropped.

use crate::codec::{self, Tag};
use crate::error::{Fault, FaultKind};
use crate::ring::consumer::Consumer;
use crate::ring::raw_consumer::Record;
use serde::de::DeserializeOwned;
use std::fmt;
use std::ops::Deref;

/// The oldest message of the ring. Dropping it releases it and makes room; `mem::forget` leaves it
/// there, to be popped again.
///
/// It derefs to the bytes in shared memory, which no correct process writes before the release. To do
/// without that agreement, copy first ([`Message::copy_to`], [`Message::to_vec`]) and parse the copy.
///
/// A second one cannot be taken while the first is held:
///
/// ```compile_fail,E0499
/// fn two(rx: &mut ringspan::Consumer) {
///     let one = rx.try_pop().unwrap();
///     let two = rx.try_pop().unwrap();
///     drop((one, two));
/// }
/// ```
pub struct Message<'a> {
    consumer: &'a mut Consumer,
    record: Record,
}

impl<'a> Message<'a> {
    pub(super) fn new(consumer: &'a mut Consumer, record: Record) -> Self {
        Message { consumer, record }
    }

    /// What the bytes are.
    ///
    /// # Errors
    ///
    /// A fault that names the tag, when it is none that this version knows.
    pub fn tag(&self) -> Result<Tag, Fault> {
        tag_of(self.consumer, &self.record)
    }

    /// Copies the first bytes into `to`; how many.
    pub fn copy_to(&self, to: &mut [u8]) -> usize {
        self.consumer.raw.copy_to(&self.record, to)
    }

    /// A copy of the bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut copy = Vec::new();
        self.consumer.raw.append_to(&self.record, &mut copy);
        copy
    }

    /// The message as a msgpack value. The bytes are copied before they are parsed.
    ///
    /// # Errors
    ///
    /// A fault, when the message is not msgpack or not a `T`. It stays in the ring as long as the
    /// message is not dropped.
    pub fn value<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        let fault = |cause: String| self.consumer.base.region().fault(FaultKind::Decode, cause);
        match self.tag()? {
            Tag::MSGPACK => codec::from_slice(&self.to_vec()).map_err(|err| fault(err.to_string())),
            other => Err(fault(format!("the message is {other:?}, not a msgpack value"))),
        }
    }
}

pub(super) fn tag_of(consumer: &Consumer, record: &Record) -> Result<Tag, Fault> {
    Tag::from_byte(record.tag()).map_err(|err| consumer.base.region().fault(FaultKind::Decode, err))
}

impl Deref for Message<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.consumer.raw.slice(&self.record)
    }
}

impl Drop for Message<'_> {
    fn drop(&mut self) {
        self.consumer.release(self.record.next());
    }
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("len", &self.record.len())
            .field("tag", &self.record.tag())
            .finish()
    }
}

/// Several messages, released together when the batch is dropped: one store, one barrier, one wake.
pub struct Batch<'a> {
    consumer: &'a mut Consumer,
}

impl<'a> Batch<'a> {
    pub(super) fn new(consumer: &'a mut Consumer) -> Self {
        Batch { consumer }
    }

    /// How many messages.
    pub fn len(&self) -> usize {
        self.consumer.batch.len()
    }

    /// Never: a batch holds at least one message.
    pub fn is_empty(&self) -> bool {
        self.consumer.batch.is_empty()
    }

    /// The bytes of one message, oldest first.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        self.consumer.batch.get(index).map(|record| self.consumer.raw.slice(record))
    }

    /// The tag of one message.
    ///
    /// # Errors
    ///
    /// As [`Message::tag`].
    pub fn tag(&self, index: usize) -> Option<Result<Tag, Fault>> {
        self.consumer.batch.get(index).map(|record| tag_of(self.consumer, record))
    }

    /// The bytes of all messages, oldest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.consumer.batch.iter().map(|record| self.consumer.raw.slice(record))
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        if let Some(last) = self.consumer.batch.last() {
            let next = last.next();
            self.consumer.batch.clear();
            self.consumer.release(next);
        }
    }
}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("len", &self.len()).finish()
    }
}
