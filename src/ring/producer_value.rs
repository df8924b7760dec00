//! Pushing msgpack values.

use crate::codec::{self, Tag};
use crate::error::{Fault, FaultKind};
use crate::ring::error::{PushError, TryPushError};
use crate::ring::producer::Producer;
use serde::Serialize;
use std::time::Duration;

impl Producer {
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
                self.put(reservation, &bytes, Tag::MSGPACK);
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
        self.try_put(&bytes, Tag::MSGPACK)
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
                self.put(reservation, &bytes, Tag::MSGPACK);
                Ok(())
            }
            Err(stop) => Err(self.stopped(stop)),
        }
    }
}
