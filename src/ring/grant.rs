//! Room in the ring, filled in place.

use crate::codec::Tag;
use crate::ring::producer::Producer;
use crate::ring::raw_producer::Reservation;
use std::fmt;
use std::ops::{Deref, DerefMut};

/// Room for one message, from [`Producer::reserve`]. It derefs to the bytes, which hold whatever was
/// in the ring before. Dropped or forgotten, it publishes nothing.
///
/// Nothing else can be pushed while it is held:
///
/// ```compile_fail,E0499
/// fn two(tx: &mut ringspan::Producer) {
///     let grant = tx.try_reserve(8).unwrap();
///     tx.try_push(b"between").unwrap();
///     grant.commit(8);
/// }
/// ```
pub struct Grant<'a> {
    producer: &'a mut Producer,
    reservation: Option<Reservation>,
    tag: Tag,
}

impl<'a> Grant<'a> {
    pub(super) fn new(producer: &'a mut Producer, reservation: Reservation) -> Self {
        Grant { producer, reservation: Some(reservation), tag: Tag::RAW }
    }

    /// Marks the message as msgpack, an array or an application's own kind (default raw bytes).
    pub fn set_tag(&mut self, tag: Tag) {
        self.tag = tag;
    }

    /// Publishes the first `used` bytes as one message and wakes the consumer.
    ///
    /// # Panics
    ///
    /// When `used` is more than was reserved.
    pub fn commit(mut self, used: usize) {
        if let Some(reservation) = self.reservation.take() {
            assert!(used <= reservation.len(), "{used} bytes used of {}", reservation.len());
            self.producer.finish(reservation, used, self.tag);
        }
    }
}

impl Deref for Grant<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.reservation {
            Some(reservation) => self.producer.raw.slice(reservation),
            None => &[],
        }
    }
}

impl DerefMut for Grant<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &self.reservation {
            Some(reservation) => self.producer.raw.slice_mut(reservation),
            None => &mut [],
        }
    }
}

impl fmt::Debug for Grant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant").field("len", &self.len()).field("tag", &self.tag).finish()
    }
}
