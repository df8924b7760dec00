//! Notify and await.

use super::handle::Block;
use crate::error::{Fault, FaultKind, errno};
use crate::layout::ArrayArea;
use crate::notify::Endpoint;
use crate::notify::shared::Blocked;
use crate::rwlock::core::{Core, bury};
use crate::segment::{ChangedError, version};
use crate::sys::fd::Fd;
use std::time::{Duration, Instant};

/// Raises the version and wakes everybody who waits for that. Few steps while nobody sleeps: whoever
/// does, here or elsewhere, is in the mask of the parked before its last look at the version.
#[inline]
pub(crate) fn raise(core: &Core) -> Result<u64, Fault> {
    core.region().check_fork()?;
    let version = version::raise(&core.region().kind_area::<ArrayArea>().bytes);
    if core.is_anybody_parked() {
        core.shared().with(Endpoint::wake_all)?;
        core.shared().notify_local();
    }
    Ok(version)
}

impl Block {
    /// The version: how often [`notify`](Block::notify) was called, by anybody. Take it before you read,
    /// and wait for [`changed`](Block::changed) since then.
    pub fn version(&self) -> u64 {
        version::read(&self.inner.area.bytes)
    }

    /// Raises the version and wakes everybody who waits for that, in every process. Whoever is woken
    /// sees what was written before. Never waits. Returns the new version.
    ///
    /// # Errors
    ///
    /// As [`Block::lock`]; nothing has changed then.
    ///
    /// # What a crash leaves behind
    ///
    /// A notifier killed half-way has raised the version or not. If it has, everybody is woken, be it
    /// by its death.
    pub fn notify(&self) -> Result<u64, Fault> {
        raise(&*self.core()?)
    }

    /// Waits until the version differs from `since` (`None`: from what it is when this is first
    /// polled), and returns it. Several tasks and threads may wait on one handle.
    ///
    /// # Errors
    ///
    /// Faults: [`Removed`](FaultKind::Removed) when nobody else is attached and the name is gone, so that
    /// nobody can come; [`NoRuntime`](FaultKind::NoRuntime) outside a tokio runtime;
    /// [`PeerUnreachable`](FaultKind::PeerUnreachable) when somebody is attached whose death could not be
    /// noticed; as [`Block::lock`].
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
        let now = self.version();
        let since = since.into().unwrap_or(now);
        if now != since {
            return Ok(now);
        }
        let core = self.core()?;
        Ok(core.shared().wait_async(|endpoint| self.look(endpoint, since)).await?)
    }

    /// As [`changed`](Block::changed), parking the thread, for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`Block::changed`] (but no runtime is needed), and [`ChangedError::Timeout`].
    ///
    /// # Blocking
    ///
    /// Parks the calling thread; in an async task it holds up every other task of that thread.
    pub fn blocking_changed(
        &self,
        since: impl Into<Option<u64>>,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<u64, ChangedError> {
        let now = self.version();
        let since = since.into().unwrap_or(now);
        if now != since {
            return Ok(now);
        }
        let deadline = timeout.into().and_then(|timeout| Instant::now().checked_add(timeout));
        let core = self.core()?;
        loop {
            match self.changed_until(&core, since, deadline, None)? {
                Blocked::Came(version) => return Ok(version),
                Blocked::TimedOut => {
                    let cause = "nothing changed within the time-out";
                    let fault = self.inner.region.fault(FaultKind::Os, cause);
                    return Err(ChangedError::Timeout(fault.with_errno(errno::ETIMEDOUT)));
                }
                Blocked::Interrupted => {}
            }
        }
    }

    /// The same, until a signal or `bell` interrupts.
    pub(crate) fn changed_until(
        &self,
        core: &Core,
        since: u64,
        deadline: Option<Instant>,
        bell: Option<&Fd>,
    ) -> Result<Blocked<u64>, Fault> {
        core.shared().wait_blocking(deadline, bell, |endpoint| self.look(endpoint, since))
    }

    /// Steps 3 and 4 of a sleeper: the version, if it differs from `since`. Any handle may raise it.
    pub(crate) fn look(&self, endpoint: &mut Endpoint, since: u64) -> Result<Option<u64>, Fault> {
        endpoint.check_slot()?;
        version::look(endpoint, &self.inner.area.bytes, since, bury)
    }
}
