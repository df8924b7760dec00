//! Setting: everything under the lock, nothing that waits while it is held.

use super::core::{Change, Core, deadline};
use super::error::{SetError, TrySetError};
use super::handle::Value;
use crate::codec::{Tag, with_scratch};
use crate::error::{Fault, FaultKind, errno};
use crate::notify::shared::Blocked;
use crate::rwlock::LockMode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

impl<T> Value<T> {
    /// Sets bytes as they are; [`get_bytes`](Value::get_bytes) reads them, Python gets a `bytes`.
    ///
    /// # Errors
    ///
    /// As [`Value::set`].
    ///
    /// # Cancel safety
    ///
    /// As [`Value::set`].
    ///
    /// # Panics
    ///
    /// As [`Value::set`].
    #[cfg(feature = "tokio")]
    pub async fn set_bytes(&self, bytes: &[u8]) -> Result<u64, SetError> {
        Ok(self.core.begin().await?.set(bytes, Tag::RAW.byte())?)
    }

    /// As [`set_bytes`](Value::set_bytes), if nobody is setting.
    ///
    /// # Errors
    ///
    /// As [`Value::try_set`].
    pub fn try_set_bytes(&self, bytes: &[u8]) -> Result<u64, TrySetError> {
        let change = self.core.try_begin()?.ok_or(TrySetError::WouldBlock)?;
        Ok(change.set(bytes, Tag::RAW.byte())?)
    }

    /// As [`set_bytes`](Value::set_bytes), parking the thread, for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`Value::blocking_set`].
    pub fn blocking_set_bytes(
        &self,
        bytes: &[u8],
        timeout: impl Into<Option<Duration>>,
    ) -> Result<u64, SetError> {
        Ok(self.begin_blocking(timeout.into())?.set(bytes, Tag::RAW.byte())?)
    }

    fn begin_blocking(&self, timeout: Option<Duration>) -> Result<Change<'_>, SetError> {
        let deadline = deadline(timeout);
        let mut taking = self.core.lock.taking(LockMode::Write);
        loop {
            match self.core.begin_blocking(&mut taking, deadline, None)? {
                Blocked::Came(change) => return Ok(change),
                Blocked::TimedOut => return Err(SetError::Timeout(timed_out(&self.core))),
                Blocked::Interrupted => {}
            }
        }
    }
}

/// Others kept us from setting for too long.
pub(crate) fn timed_out(core: &Core) -> Fault {
    let cause = format!("the time-out is over; {}", core.lock.owners_in_words());
    core.region().fault(FaultKind::Os, cause).with_errno(errno::ETIMEDOUT)
}

impl<T: Serialize + DeserializeOwned> Value<T> {
    /// Sets the value, waiting for the turn among those who set. Returns the new version.
    ///
    /// # Errors
    ///
    /// Faults, the old value stands: [`Encode`](FaultKind::Encode) when it cannot be encoded;
    /// [`NoSpace`](FaultKind::NoSpace) when its buffer is too small and `/dev/shm` has no room for a larger
    /// one;
    /// [`NoRuntime`](FaultKind::NoRuntime) outside a tokio runtime (if it has to wait);
    /// [`PeerUnreachable`](FaultKind::PeerUnreachable), [`Damaged`](FaultKind::Damaged),
    /// [`Forked`](FaultKind::Forked).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped before it is ready it has set nothing.
    ///
    /// # Panics
    ///
    /// When the tokio runtime was built without `enable_io`.
    #[cfg(feature = "tokio")]
    pub async fn set(&self, value: &T) -> Result<u64, SetError> {
        let bytes = self.encode(value)?;
        Ok(self.core.begin().await?.set(&bytes, Tag::MSGPACK.byte())?)
    }

    /// Sets the value, if nobody else is setting it. Never waits.
    ///
    /// # Errors
    ///
    /// [`TrySetError::WouldBlock`]; else as [`Value::set`].
    pub fn try_set(&self, value: &T) -> Result<u64, TrySetError> {
        let bytes = self.encode(value)?;
        let change = self.core.try_begin()?.ok_or(TrySetError::WouldBlock)?;
        Ok(change.set(&bytes, Tag::MSGPACK.byte())?)
    }

    /// As [`set`](Value::set), parking the thread, for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`Value::set`] (but no runtime is needed), and [`SetError::Timeout`].
    ///
    /// # Blocking
    ///
    /// Parks the calling thread; in an async task it holds up every other task of that thread.
    pub fn blocking_set(
        &self,
        value: &T,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<u64, SetError> {
        let bytes = self.encode(value)?;
        Ok(self.begin_blocking(timeout.into())?.set(&bytes, Tag::MSGPACK.byte())?)
    }

    /// Sets what `f` makes of the latest value (`None`: never set); nobody sets in between. Returns what
    /// was set. `f` runs under the lock: it must neither wait nor use this value.
    ///
    /// # Errors
    ///
    /// As [`Value::set`] and [`Value::get`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped before it is ready it has set nothing, and `f` has not run.
    ///
    /// # Panics
    ///
    /// As [`Value::set`], and when `f` does; the old value stands then.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let name = &format!("/doc-update-{}", std::process::id());
    /// let names = ringspan::Value::<Vec<String>>::open_or_create(name)?;
    /// names.update(|old| {
    ///     let mut names = old.unwrap_or_default();
    ///     names.push("worker-1".into());
    ///     names
    /// }).await?;
    /// assert_eq!(names.get()?.unwrap(), ["worker-1"]);
    /// # ringspan::remove(name)?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "tokio")]
    pub async fn update(&self, f: impl FnOnce(Option<T>) -> T) -> Result<T, SetError> {
        let change = self.core.begin().await?;
        Ok(self.apply(change, f)?)
    }

    /// As [`update`](Value::update), parking the thread, for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`Value::update`], and [`SetError::Timeout`].
    ///
    /// # Panics
    ///
    /// When `f` does; the old value stands then.
    pub fn blocking_update(
        &self,
        f: impl FnOnce(Option<T>) -> T,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<T, SetError> {
        let change = self.begin_blocking(timeout.into())?;
        Ok(self.apply(change, f)?)
    }

    fn old(&self, change: &Change<'_>) -> Result<Option<T>, Fault> {
        with_scratch(|copy| {
            let read = change.read(copy)?;
            self.decode(read, copy)
        })
    }

    fn apply(&self, change: Change<'_>, f: impl FnOnce(Option<T>) -> T) -> Result<T, Fault> {
        let new = f(self.old(&change)?);
        change.set(&self.encode(&new)?, Tag::MSGPACK.byte())?;
        Ok(new)
    }
}

impl<T: Serialize + DeserializeOwned + PartialEq> Value<T> {
    /// Sets `new` if the latest value is `expected` (`None`: never set); nobody sets in between. Whether it
    /// did.
    ///
    /// # Errors
    ///
    /// As [`Value::set`] and [`Value::get`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped before it is ready it has set nothing.
    ///
    /// # Panics
    ///
    /// As [`Value::set`].
    #[cfg(feature = "tokio")]
    pub async fn compare_and_set(&self, expected: Option<&T>, new: &T) -> Result<bool, SetError> {
        let bytes = self.encode(new)?;
        let change = self.core.begin().await?;
        Ok(self.compared(change, expected, &bytes)?)
    }

    /// As [`compare_and_set`](Value::compare_and_set), parking the thread, for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`Value::compare_and_set`], and [`SetError::Timeout`].
    pub fn blocking_compare_and_set(
        &self,
        expected: Option<&T>,
        new: &T,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<bool, SetError> {
        let bytes = self.encode(new)?;
        let change = self.begin_blocking(timeout.into())?;
        Ok(self.compared(change, expected, &bytes)?)
    }

    fn compared(
        &self,
        change: Change<'_>,
        expected: Option<&T>,
        bytes: &[u8],
    ) -> Result<bool, Fault> {
        let equal = self.old(&change)?.as_ref() == expected;
        if equal {
            change.set(bytes, Tag::MSGPACK.byte())?;
        }
        Ok(equal)
    }
}
