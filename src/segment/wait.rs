//! Notify and await: the version word.

use crate::error::{Fault, FaultKind};
use crate::layout::BytesLine;
use crate::notify::shared::{Blocked, Shared};
use crate::notify::{Attach, Endpoint};
use crate::region::Region;
use crate::segment::error::ChangedError;
use crate::segment::handle::{Named, Segment};
use crate::segment::version::{self, removed};
use crate::sync::lock;
#[cfg(feature = "python")]
use crate::sync::try_lock;
use crate::sys::fd::Fd;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn version_of(region: &Region) -> u64 {
    version::read(region.kind_area())
}

impl Named {
    /// The endpoint, attached if need be.
    fn attached(&self) -> Result<Shared, Fault> {
        self.region.check_fork()?; // before the lock, which a thread of the parent may have held
        let mut place = lock(&self.endpoint);
        if let Some(shared) = &*place {
            return Ok(shared.clone());
        }
        match Endpoint::attach_any(&self.region, true, Endpoint::bury_plain) {
            Ok(Attach::Done(endpoint)) => {
                let shared = Shared::new(*endpoint);
                *place = Some(shared.clone());
                Ok(shared)
            }
            Ok(Attach::Stale) => Err(removed(&self.region)),
            Err(err) => Err(err.fault().clone()),
        }
    }
}

impl Segment {
    /// Whether it needs not be attached any more to notify.
    #[cfg(feature = "python")]
    pub(crate) fn is_attached(&self) -> bool {
        let attached = |named: &Named| {
            let place = try_lock(&named.endpoint);
            !named.region.is_inherited() && place.is_some_and(|place| place.is_some())
        };
        self.named().is_ok_and(attached)
    }

    /// The version: how often [`notify`](Segment::notify) was called, by anybody. Take it before you
    /// read, and wait for [`changed`](Segment::changed) since then.
    ///
    /// # Errors
    ///
    /// A fault for a raw segment.
    pub fn version(&self) -> Result<u64, Fault> {
        self.named().map(|named| version_of(&named.region))
    }

    /// Raises the version and wakes everybody who waits for that, in every process. Whoever is woken
    /// sees what was written before. Never waits. Returns the new version.
    ///
    /// # Errors
    ///
    /// Faults; nothing has changed then: [`Removed`](FaultKind::Removed) for a segment that has no
    /// name any more when it first notifies, [`TooManyAttached`](FaultKind::TooManyAttached), and for a raw segment.
    ///
    /// # What a crash leaves behind
    ///
    /// A notifier killed half-way has raised the version or not. If it has, everybody is woken, be it
    /// by its death.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # let name = format!("/doc-notify-{}", std::process::id());
    /// let seg = ringspan::Segment::create(&name, 8)?;
    /// let seen = seg.version()?;
    /// seg.write_at(0, &7u64.to_le_bytes())?;
    /// seg.notify()?;
    /// assert_eq!(seg.blocking_changed(seen, None)?, seen + 1);
    /// ringspan::remove(&name)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn notify(&self) -> Result<u64, Fault> {
        let named = self.named()?;
        let shared = named.attached()?;
        let line = named.region.kind_area::<BytesLine>();
        let version = shared.with(|endpoint| {
            let version = version::raise(line);
            endpoint.wake_all();
            version
        })?;
        shared.notify_local();
        Ok(version)
    }

    /// Waits until the version differs from `since` (`None`: from what it is when this is first
    /// polled), and returns it. Several tasks and threads may wait on one handle.
    ///
    /// # Errors
    ///
    /// Faults: [`Removed`](FaultKind::Removed) when nobody is attached and the name is gone, so that
    /// nobody can come; [`NoRuntime`](FaultKind::NoRuntime) outside a tokio runtime;
    /// [`PeerUnreachable`](FaultKind::PeerUnreachable) when somebody is attached whose death could
    /// not be noticed; and for a raw segment.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it changes nothing, and a version that was missed differs at the next call with
    /// the same `since`.
    ///
    /// # Panics
    ///
    /// When the tokio runtime was built without `enable_io`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let name = format!("/doc-changed-{}", std::process::id());
    /// let seg = ringspan::Segment::create(&name, 8)?;
    /// let (seen, other) = (seg.version()?, seg.clone());
    /// let waiter = tokio::spawn(async move { other.changed(seen).await });
    /// seg.notify()?;
    /// assert_eq!(waiter.await??, seen + 1);
    /// ringspan::remove(&name)?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "tokio")]
    pub async fn changed(&self, since: impl Into<Option<u64>>) -> Result<u64, ChangedError> {
        let named = self.named()?;
        let now = version_of(&named.region);
        let since = since.into().unwrap_or(now);
        if now != since {
            return Ok(now);
        }
        Ok(named.attached()?.wait_async(|endpoint| look(endpoint, since)).await?)
    }

    /// As [`changed`](Segment::changed), parking the thread, for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`changed`](Segment::changed) (but no runtime is needed), and [`ChangedError::Timeout`].
    ///
    /// # Blocking
    ///
    /// Parks the calling thread; in an async task it holds up every other task of that thread.
    pub fn blocking_changed(
        &self,
        since: impl Into<Option<u64>>,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<u64, ChangedError> {
        let deadline = timeout.into().and_then(|timeout| Instant::now().checked_add(timeout));
        let since = match since.into() {
            Some(since) => since,
            None => self.version()?,
        };
        loop {
            match self.changed_until(since, deadline, None)? {
                Blocked::Came(version) => return Ok(version),
                Blocked::TimedOut => {
                    let fault = self.fault(FaultKind::Os, "nothing changed within the time-out");
                    return Err(ChangedError::Timeout(fault));
                }
                Blocked::Interrupted => {}
            }
        }
    }

    /// The same, until a signal or `bell` interrupts.
    pub(crate) fn changed_until(
        &self,
        since: u64,
        deadline: Option<Instant>,
        bell: Option<&Fd>,
    ) -> Result<Blocked<u64>, Fault> {
        let named = self.named()?;
        let now = version_of(&named.region);
        if now != since {
            return Ok(Blocked::Came(now));
        }
        named.attached()?.wait_blocking(deadline, bell, |endpoint| look(endpoint, since))
    }
}

/// Steps 3 and 4 of the sleeper.
pub(super) fn look(endpoint: &mut Endpoint, since: u64) -> Result<Option<u64>, Fault> {
    let region = Arc::clone(&endpoint.region);
    version::look(endpoint, region.kind_area(), since, Endpoint::bury_plain)
}
