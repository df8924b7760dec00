//! The handle.

use super::core::Core;
use super::number::{Addable, Number};
use super::options::ScalarOptions;
use crate::error::{Fault, FaultKind, OpenError, errno};
use crate::notify::shared::Blocked;
use crate::rwlock::HandleStat;
use crate::segment::ChangedError;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A 64-bit integer that processes share.
pub type SharedInt = Scalar<i64>;
/// A 64-bit float that processes share.
pub type SharedFloat = Scalar<f64>;
/// A truth value that processes share.
pub type SharedBool = Scalar<bool>;

/// A number that processes share, change atomically and await: [`SharedInt`], [`SharedFloat`],
/// [`SharedBool`].
///
/// Cloning is cheap; clones are one handle and share its place among the 48 that can be attached.
///
/// # What a crash leaves behind
///
/// The number, before or after a change, never between. A change is told to all who wait, also when its
/// author is killed before it could tell. (So a death may end a wait by which nothing changed.)
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # let name = &format!("/doc-scalar-{}", std::process::id());
/// use ringspan::SharedInt;
///
/// let jobs = SharedInt::open_or_create(name)?;
/// let watched = jobs.clone();
/// let done = tokio::spawn(async move { watched.wait_for(|n| n >= 2).await });
/// assert_eq!(jobs.add(1)?, 1);
/// assert_eq!(jobs.add(1)?, 2);
/// assert_eq!(done.await??, 2);
/// # ringspan::remove(name)?;
/// # Ok(())
/// # }
/// ```
pub struct Scalar<N> {
    core: Arc<Core>,
    of: PhantomData<N>,
}

impl<N> Clone for Scalar<N> {
    fn clone(&self) -> Self {
        Scalar { core: Arc::clone(&self.core), of: PhantomData }
    }
}

impl<N: Number> fmt::Debug for Scalar<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scalar")
            .field("name", &self.name())
            .field("now", &self.load())
            .finish_non_exhaustive()
    }
}

impl<N: Number> Scalar<N> {
    /// Options with their defaults.
    pub fn options() -> ScalarOptions<N> {
        ScalarOptions::default()
    }

    /// Makes a new one; see [`ScalarOptions::create`].
    ///
    /// # Errors
    ///
    /// As [`ScalarOptions::create`].
    pub fn create(name: &str) -> Result<Scalar<N>, OpenError> {
        Self::options().create(name)
    }

    /// Opens one that exists; see [`ScalarOptions::open`].
    ///
    /// # Errors
    ///
    /// As [`ScalarOptions::open`].
    pub fn open(name: &str) -> Result<Scalar<N>, OpenError> {
        Self::options().open(name)
    }

    /// Opens it, or makes it; see [`ScalarOptions::open_or_create`].
    ///
    /// # Errors
    ///
    /// As [`ScalarOptions::open_or_create`].
    pub fn open_or_create(name: &str) -> Result<Scalar<N>, OpenError> {
        Self::options().open_or_create(name)
    }

    pub(super) fn of(core: Arc<Core>) -> Scalar<N> {
        Scalar { core, of: PhantomData }
    }

    /// The number now.
    pub fn load(&self) -> N {
        N::from_bits(self.core.load())
    }

    /// Sets the number; who waits for a change is woken, also when it was the same before. Never waits.
    ///
    /// # Errors
    ///
    /// [`Forked`](FaultKind::Forked) in a forked child.
    pub fn store(&self, number: N) -> Result<(), Fault> {
        self.swap(number).map(drop)
    }

    /// As [`store`](Scalar::store); returns the number before.
    ///
    /// # Errors
    ///
    /// As [`Scalar::store`].
    pub fn swap(&self, number: N) -> Result<N, Fault> {
        let (Ok(old) | Err(old)) = self.core.change(|_| Some(number.to_bits()))?;
        Ok(N::from_bits(old))
    }

    /// Sets `new` if the number is `expected`, in one step. Whether it did. (A NaN equals nothing, the two
    /// zeros equal each other.)
    ///
    /// # Errors
    ///
    /// As [`Scalar::store`].
    pub fn compare_exchange(&self, expected: N, new: N) -> Result<bool, Fault> {
        let equal = |bits| (N::from_bits(bits) == expected).then(|| new.to_bits());
        Ok(self.core.change(equal)?.is_ok())
    }

    /// How often the number was changed, by anybody. Take it before you load, and wait for
    /// [`changed`](Scalar::changed) since then.
    pub fn version(&self) -> u64 {
        self.core.version()
    }

    /// Waits until the version differs from `since` (`None`: from what it is when this is first polled),
    /// and returns it. Several tasks and threads may wait on one handle.
    ///
    /// # Errors
    ///
    /// As [`Value::changed`](crate::Value::changed).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it changes nothing.
    ///
    /// # Panics
    ///
    /// When the tokio runtime was built without `enable_io`.
    #[cfg(feature = "tokio")]
    pub async fn changed(&self, since: impl Into<Option<u64>>) -> Result<u64, ChangedError> {
        let since = since.into().unwrap_or_else(|| self.version());
        Ok(self.core.changed(since).await?)
    }

    /// As [`changed`](Scalar::changed), parking the thread, for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`Scalar::changed`], and [`ChangedError::Timeout`].
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
        self.changed_until(since, until(timeout.into()))
    }

    /// Waits until `wanted` says true of the number, and returns it. A number that is replaced at once may
    /// never be looked at.
    ///
    /// # Errors
    ///
    /// As [`Scalar::changed`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it changes nothing.
    ///
    /// # Panics
    ///
    /// As [`Scalar::changed`], and when `wanted` does.
    #[cfg(feature = "tokio")]
    pub async fn wait_for(&self, mut wanted: impl FnMut(N) -> bool) -> Result<N, ChangedError> {
        let mut keep = None;
        loop {
            let (version, number) = (self.version(), self.load());
            if wanted(number) {
                return Ok(number);
            }
            if keep.is_none() {
                keep = Some(self.core.keep()?);
            }
            self.changed(version).await?;
        }
    }

    /// As [`wait_for`](Scalar::wait_for), parking the thread, for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`Scalar::wait_for`], and [`ChangedError::Timeout`].
    ///
    /// # Panics
    ///
    /// When `wanted` does.
    pub fn blocking_wait_for(
        &self,
        mut wanted: impl FnMut(N) -> bool,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<N, ChangedError> {
        let deadline = until(timeout.into());
        let mut keep = None;
        loop {
            let (version, number) = (self.version(), self.load());
            if wanted(number) {
                return Ok(number);
            }
            if keep.is_none() {
                keep = Some(self.core.keep()?);
            }
            self.changed_until(version, deadline)?;
        }
    }

    fn changed_until(&self, since: u64, deadline: Option<Instant>) -> Result<u64, ChangedError> {
        loop {
            match self.core.changed_blocking(since, deadline, None)? {
                Blocked::Came(version) => return Ok(version),
                Blocked::TimedOut => {
                    let cause = "nothing that was waited for came within the time-out";
                    let fault = self.core.region().fault(FaultKind::Os, cause);
                    return Err(ChangedError::Timeout(fault.with_errno(errno::ETIMEDOUT)));
                }
                Blocked::Interrupted => {}
            }
        }
    }

    /// What this handle holds and has done.
    ///
    /// # Errors
    ///
    /// [`Forked`](FaultKind::Forked) in a forked child.
    pub fn stat(&self) -> Result<HandleStat, Fault> {
        HandleStat::of(self.core.shared())
    }

    /// The name, with its slash.
    pub fn name(&self) -> String {
        self.core.region().name().to_string()
    }

    /// Whether the last one out removes it.
    pub fn is_ephemeral(&self) -> bool {
        self.core.region().is_ephemeral()
    }
}

impl<N: Addable> Scalar<N> {
    /// Adds in one step; returns the sum.
    ///
    /// # Errors
    ///
    /// [`InvalidOption`](FaultKind::InvalidOption) when an integer would overflow, and nothing has changed
    /// then; else as [`Scalar::store`].
    pub fn add(&self, number: N) -> Result<N, Fault> {
        let sum = |bits| N::from_bits(bits).plus(number);
        match self.core.change(|bits| sum(bits).map(N::to_bits))? {
            Ok(old) => Ok(sum(old).unwrap_or(number)),
            Err(old) => {
                let cause =
                    format!("{:?} and {number:?} are more than it can hold", N::from_bits(old));
                Err(self.core.region().fault(FaultKind::InvalidOption, cause))
            }
        }
    }
}

fn until(timeout: Option<Duration>) -> Option<Instant> {
    timeout.and_then(|timeout| Instant::now().checked_add(timeout))
}
