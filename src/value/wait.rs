//! Awaiting changes.

use super::core::deadline;
use super::handle::Value;
use crate::error::{Fault, FaultKind, errno};
use crate::notify::Endpoint;
use crate::notify::local::Keep;
use crate::notify::shared::Blocked;
use crate::segment::ChangedError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::{Duration, Instant};

impl<T> Value<T> {
    /// Waits until the version differs from `since` (`None`: from what it is when this is first polled),
    /// and returns it. What was set in between is not kept: read the latest by [`get`](Value::get).
    /// Several tasks and threads may wait on one handle.
    ///
    /// # Errors
    ///
    /// Faults: [`Removed`](FaultKind::Removed) when the value was removed and not set since (who has it open
    /// can still read and set it), or its file was deleted and nobody else is attached;
    /// [`NoRuntime`](FaultKind::NoRuntime) outside a tokio runtime;
    /// [`PeerUnreachable`](FaultKind::PeerUnreachable) when somebody is attached whose death could not be
    /// noticed; [`Damaged`](FaultKind::Damaged), [`Forked`](FaultKind::Forked).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it changes nothing, and a version that was missed differs at the next call with the
    /// same `since`.
    ///
    /// # Panics
    ///
    /// When the tokio runtime was built without `enable_io`.
    #[cfg(feature = "tokio")]
    pub async fn changed(&self, since: impl Into<Option<u64>>) -> Result<u64, ChangedError> {
        let since = since.into().unwrap_or_else(|| self.version());
        Ok(self.core.changed(since).await?)
    }

    /// As [`changed`](Value::changed), parking the thread, for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`Value::changed`] (but no runtime is needed), and [`ChangedError::Timeout`].
    ///
    /// # Blocking
    ///
    /// Parks the calling thread; in an async task it holds up every other task of that thread.
    pub fn blocking_changed(
        &self,
        since: impl Into<Option<u64>>,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<u64, ChangedError> {
        let since = since.into().unwrap_or_else(|| self.version());
        self.changed_until(since, deadline(timeout.into()))
    }

    fn changed_until(&self, since: u64, deadline: Option<Instant>) -> Result<u64, ChangedError> {
        loop {
            match self.core.changed_blocking(since, deadline, None)? {
                Blocked::Came(version) => return Ok(version),
                Blocked::TimedOut => return Err(ChangedError::Timeout(self.unchanged())),
                Blocked::Interrupted => {}
            }
        }
    }

    fn unchanged(&self) -> Fault {
        let cause = "nothing that was waited for was set within the time-out";
        self.core.region().fault(FaultKind::Os, cause).with_errno(errno::ETIMEDOUT)
    }
}

impl<T: Serialize + DeserializeOwned> Value<T> {
    /// Waits until `wanted` says true of the latest value, and returns that one. A value that is replaced at
    /// once may never be looked at.
    ///
    /// # Errors
    ///
    /// As [`Value::changed`] and [`Value::get`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it changes nothing.
    ///
    /// # Panics
    ///
    /// As [`Value::changed`], and when `wanted` does.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let name = &format!("/doc-wait-for-{}", std::process::id());
    /// let progress = ringspan::Value::<u32>::open_or_create(name)?;
    /// let watched = progress.clone();
    /// let done = tokio::spawn(async move { watched.wait_for(|&percent| percent == 100).await });
    /// progress.set(&50).await?;
    /// progress.set(&100).await?;
    /// assert_eq!(done.await??, 100);
    /// # ringspan::remove(name)?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "tokio")]
    pub async fn wait_for(&self, mut wanted: impl FnMut(&T) -> bool) -> Result<T, ChangedError> {
        let mut watch = self.watch();
        loop {
            let value = watch.next().await?;
            if wanted(&value) {
                return Ok(value);
            }
        }
    }

    /// As [`wait_for`](Value::wait_for), parking the thread, for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`Value::wait_for`], and [`ChangedError::Timeout`].
    ///
    /// # Panics
    ///
    /// When `wanted` does.
    pub fn blocking_wait_for(
        &self,
        mut wanted: impl FnMut(&T) -> bool,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<T, ChangedError> {
        let deadline = deadline(timeout.into());
        let mut watch = self.watch();
        loop {
            let value = watch.next_until(deadline)?;
            if wanted(&value) {
                return Ok(value);
            }
        }
    }

    /// Looks at the value again and again: the one that is there, then each time the latest.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let name = &format!("/doc-watch-{}", std::process::id());
    /// let value = ringspan::Value::<u32>::open_or_create(name)?;
    /// let mut watch = value.watch();
    /// value.set(&1).await?;
    /// assert_eq!(watch.next().await?, 1);
    /// value.set(&2).await?;
    /// value.set(&3).await?;
    /// assert_eq!(watch.next().await?, 3); // history is not kept
    /// # ringspan::remove(name)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn watch(&self) -> Watch<T> {
        Watch { value: self.clone(), seen: 0, _keep: self.core.keep().ok() }
    }
}

/// Looks at a value again and again; from [`Value::watch`]. Between its waits it keeps the descriptors by
/// which it notices deaths.
#[derive(Debug)]
pub struct Watch<T> {
    value: Value<T>,
    seen: u64,
    _keep: Option<Keep<Endpoint>>,
}

impl<T: Serialize + DeserializeOwned> Watch<T> {
    /// The latest value, as soon as it is another one than that of the last call.
    ///
    /// # Errors
    ///
    /// As [`Value::changed`] and [`Value::get`]. A value that cannot be read is told once.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a value that was not returned comes at the next call, or a later one.
    ///
    /// # Panics
    ///
    /// As [`Value::changed`].
    #[cfg(feature = "tokio")]
    pub async fn next(&mut self) -> Result<T, ChangedError> {
        loop {
            self.value.changed(self.seen).await?;
            if let Some(value) = self.look()? {
                return Ok(value);
            }
        }
    }

    /// As [`next`](Watch::next), parking the thread, for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`Watch::next`], and [`ChangedError::Timeout`].
    pub fn blocking_next(
        &mut self,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<T, ChangedError> {
        self.next_until(deadline(timeout.into()))
    }

    fn next_until(&mut self, deadline: Option<Instant>) -> Result<T, ChangedError> {
        loop {
            self.value.changed_until(self.seen, deadline)?;
            if let Some(value) = self.look()? {
                return Ok(value);
            }
        }
    }

    fn look(&mut self) -> Result<Option<T>, Fault> {
        let now = self.value.version();
        match self.value.get_versioned() {
            Ok((version, value)) => {
                self.seen = version;
                Ok(value)
            }
            Err(fault) => {
                // A value that is no `T` has been told of; one that could not be read now may be later.
                if matches!(fault.kind(), FaultKind::Decode | FaultKind::Damaged) {
                    self.seen = now;
                }
                Err(fault)
            }
        }
    }
}
