//! The handle.

use super::core::{Core, LockMode};
use super::error::{LockError, Poisoned, TryLockError, poisoned};
#[cfg(feature = "tokio")]
use super::guard::{OwnedReadGuard, OwnedWriteGuard};
use super::guard::{ReadGuard, WriteGuard};
use super::holders::{HandleStat, Holder};
use super::options::RwLockOptions;
use super::word::Word;
use crate::error::{Fault, FaultKind, OpenError, errno};
use crate::notify::shared::Blocked;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A named reader-writer lock over bytes that processes share.
///
/// Many may read at once, one may write alone; tasks, threads and processes alike. Waiting is awaited
/// ([`read`](RwLock::read), [`write`](RwLock::write)) or parks the thread (`blocking_`). Cloning is
/// cheap; clones are one handle and share its place among the 48 that can be attached at once.
///
/// # Who comes next
///
/// A writer that waits keeps out readers that come later, so readers that overlap without end do not
/// starve it. More is not promised: whoever comes first after a release gets the lock, not whoever has
/// waited longest, since waiting for one certain process would make the lock depend on one that may be
/// stopped. A handle that asks again at once would get ahead of those who have to be woken first; so after
/// waking somebody it gives way, for a tenth of a millisecond (or four turns of the scheduler, if they take
/// longer) and every half of one at most; to tasks and threads that share the handle, too. (The `try_`
/// verbs do not.)
///
/// # Deadlocks
///
/// A task that asks for the lock while it holds a guard of it waits for itself, for ever: a second
/// `write`, a `write` under a `read`, also a second `read` once a writer waits. Use
/// [`downgrade`](WriteGuard::downgrade) and [`try_upgrade`](ReadGuard::try_upgrade), or hand the guard
/// on. (Python raises an error instead.)
///
/// # What a crash leaves behind
///
/// A killed reader vanishes from the lock. A killed writer *poisons* it: who gets it next is told by
/// [`LockError::Poisoned`], with the guard inside, until [`clear_poison`](RwLock::clear_poison). A killed
/// waiter delays nobody. A holder that is stopped is not dead: it keeps the lock.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # let name = &format!("/doc-rwlock-{}", std::process::id());
/// use ringspan::RwLock;
///
/// let lock = RwLock::open_or_create(name, 4096)?;
/// lock.write().await?[..5].copy_from_slice(b"hello");
///
/// // Any other process that names it:
/// let other = RwLock::open(name)?;
/// let bytes = other.read().await?;
/// assert_eq!(&bytes[..5], b"hello");
/// # ringspan::remove(name)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct RwLock {
    core: Arc<Core>,
}

/// What the blocking and the awaited forms say of a lock that was got.
#[inline]
fn judged<G>(core: &Core, word: Word, guard: G) -> Result<G, LockError<G>> {
    if word.is_poisoned() {
        return Err(LockError::Poisoned(with_fault(core, guard)));
    }
    Ok(guard)
}

#[cold]
fn with_fault<G>(core: &Core, guard: G) -> Poisoned<G> {
    Poisoned::new(guard, poisoned(core.region().subject()))
}

impl RwLock {
    /// Options with their defaults.
    pub fn options() -> RwLockOptions {
        RwLockOptions::default()
    }

    /// Makes a new lock over `len` zero bytes; see [`RwLockOptions::create`].
    ///
    /// # Errors
    ///
    /// As [`RwLockOptions::create`].
    pub fn create(name: &str, len: usize) -> Result<RwLock, OpenError> {
        Self::options().create(name, len)
    }

    /// Opens a lock that exists; see [`RwLockOptions::open`].
    ///
    /// # Errors
    ///
    /// As [`RwLockOptions::open`].
    pub fn open(name: &str) -> Result<RwLock, OpenError> {
        Self::options().open(name)
    }

    /// Opens the lock, or makes it; see [`RwLockOptions::open_or_create`].
    ///
    /// # Errors
    ///
    /// As [`RwLockOptions::open_or_create`].
    pub fn open_or_create(name: &str, len: usize) -> Result<RwLock, OpenError> {
        Self::options().open_or_create(name, len)
    }

    pub(crate) fn of(core: Arc<Core>) -> RwLock {
        RwLock { core }
    }

    #[cfg(feature = "python")]
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Waits until nobody writes (or waits to write), and reads.
    ///
    /// # Errors
    ///
    /// [`LockError::Poisoned`] with the guard when a writer died. Faults, by
    /// [kind](crate::FaultKind): [`Damaged`](FaultKind::Damaged) when something wrote over the lock;
    /// [`PeerUnreachable`](FaultKind::PeerUnreachable) when an owner's death could not be noticed;
    /// [`TooManyFiles`](FaultKind::TooManyFiles); [`NoRuntime`](FaultKind::NoRuntime) outside a tokio
    /// runtime (if it has to wait); [`Forked`](FaultKind::Forked) in a forked child.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped before it is ready it has not taken the lock, and keeps nobody out.
    ///
    /// # Panics
    ///
    /// When the tokio runtime was built without `enable_io`.
    #[cfg(feature = "tokio")]
    pub async fn read(&self) -> Result<ReadGuard<'_>, LockError<ReadGuard<'_>>> {
        let word = self.core.take_async(LockMode::Read).await?;
        judged(&self.core, word, ReadGuard::new(&self.core))
    }

    /// Waits until nobody reads or writes, and writes. While it waits, no further readers come in.
    ///
    /// # Errors
    ///
    /// As [`RwLock::read`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, as [`RwLock::read`].
    ///
    /// # Panics
    ///
    /// As [`RwLock::read`].
    #[cfg(feature = "tokio")]
    pub async fn write(&self) -> Result<WriteGuard<'_>, LockError<WriteGuard<'_>>> {
        let word = self.core.take_async(LockMode::Write).await?;
        judged(&self.core, word, WriteGuard::new(&self.core))
    }

    /// As [`read`](RwLock::read), with a guard that borrows nothing, for tasks of their own.
    ///
    /// # Errors
    ///
    /// As [`RwLock::read`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, as [`RwLock::read`].
    ///
    /// # Panics
    ///
    /// As [`RwLock::read`].
    #[cfg(feature = "tokio")]
    pub async fn read_owned(&self) -> Result<OwnedReadGuard, LockError<OwnedReadGuard>> {
        let word = self.core.take_async(LockMode::Read).await?;
        judged(&self.core, word, OwnedReadGuard::new(Arc::clone(&self.core)))
    }

    /// As [`write`](RwLock::write), with a guard that borrows nothing, for tasks of their own.
    ///
    /// # Errors
    ///
    /// As [`RwLock::read`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, as [`RwLock::read`].
    ///
    /// # Panics
    ///
    /// As [`RwLock::read`].
    #[cfg(feature = "tokio")]
    pub async fn write_owned(&self) -> Result<OwnedWriteGuard, LockError<OwnedWriteGuard>> {
        let word = self.core.take_async(LockMode::Write).await?;
        judged(&self.core, word, OwnedWriteGuard::new(Arc::clone(&self.core)))
    }

    /// Reads, if nobody writes or waits to write. Never waits. Should those who keep it out be dead, the
    /// first and then every 64th attempt in a row finds that out.
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`]; else as [`RwLock::read`].
    #[inline]
    pub fn try_read(&self) -> Result<ReadGuard<'_>, TryLockError<ReadGuard<'_>>> {
        match self.core.try_take(LockMode::Read)? {
            None => Err(TryLockError::WouldBlock),
            Some(word) => self.tried(word, ReadGuard::new(&self.core)),
        }
    }

    /// Writes, if nobody reads or writes. As [`RwLock::try_read`].
    ///
    /// # Errors
    ///
    /// As [`RwLock::try_read`].
    #[inline]
    pub fn try_write(&self) -> Result<WriteGuard<'_>, TryLockError<WriteGuard<'_>>> {
        match self.core.try_take(LockMode::Write)? {
            None => Err(TryLockError::WouldBlock),
            Some(word) => self.tried(word, WriteGuard::new(&self.core)),
        }
    }

    #[inline]
    fn tried<G>(&self, word: Word, guard: G) -> Result<G, TryLockError<G>> {
        if word.is_poisoned() {
            return Err(TryLockError::Poisoned(with_fault(&self.core, guard)));
        }
        Ok(guard)
    }

    /// As [`read`](RwLock::read), parking the thread, for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`RwLock::read`] (but no runtime is needed), and [`LockError::Timeout`], which says who holds
    /// the lock.
    ///
    /// # Blocking
    ///
    /// Parks the calling thread; in an async task it holds up every other task of that thread, the one
    /// that holds the lock perhaps among them.
    #[inline]
    pub fn blocking_read(
        &self,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<ReadGuard<'_>, LockError<ReadGuard<'_>>> {
        let word = self.block(LockMode::Read, timeout.into())?;
        judged(&self.core, word, ReadGuard::new(&self.core))
    }

    /// As [`write`](RwLock::write), parking the thread, for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`RwLock::blocking_read`].
    ///
    /// # Blocking
    ///
    /// As [`RwLock::blocking_read`].
    #[inline]
    pub fn blocking_write(
        &self,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<WriteGuard<'_>, LockError<WriteGuard<'_>>> {
        let word = self.block(LockMode::Write, timeout.into())?;
        judged(&self.core, word, WriteGuard::new(&self.core))
    }

    #[inline]
    fn block<G>(&self, mode: LockMode, timeout: Option<Duration>) -> Result<Word, LockError<G>> {
        match self.core.take_at_once(mode) {
            Some(word) => Ok(word),
            None => self.block_long(mode, timeout),
        }
    }

    #[cold]
    #[inline(never)]
    fn block_long<G>(
        &self,
        mode: LockMode,
        timeout: Option<Duration>,
    ) -> Result<Word, LockError<G>> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut taking = self.core.taking(mode);
        loop {
            match taking.park(deadline, None)? {
                Blocked::Came(word) => return Ok(word),
                Blocked::TimedOut => return Err(LockError::Timeout(self.timed_out())),
                Blocked::Interrupted => {}
            }
        }
    }

    pub(crate) fn timed_out(&self) -> Fault {
        let cause = format!("the time-out is over; {}", self.core.owners_in_words());
        self.core.region().fault(FaultKind::Os, cause).with_errno(errno::ETIMEDOUT)
    }

    /// Whether a writer died (or panicked) and nobody cleared that since.
    pub fn is_poisoned(&self) -> bool {
        self.core.word().is_poisoned()
    }

    /// Says that the bytes are in order again. Call it while holding the guard that came with the error.
    ///
    /// # Errors
    ///
    /// [`Forked`](FaultKind::Forked) in a forked child.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # let name = &format!("/doc-poison-{}", std::process::id());
    /// # let lock = ringspan::RwLock::create(name, 8)?;
    /// use ringspan::LockError;
    ///
    /// let guard = match lock.blocking_write(None) {
    ///     Err(LockError::Poisoned(poisoned)) => {
    ///         let mut guard = poisoned.into_inner();
    ///         guard.fill(0); // whatever makes the bytes whole
    ///         lock.clear_poison()?;
    ///         guard
    ///     }
    ///     other => other?,
    /// };
    /// # drop(guard);
    /// # ringspan::remove(name)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn clear_poison(&self) -> Result<(), Fault> {
        self.core.set_poisoned(false)
    }

    /// Who holds the lock now. A look from the side: it may be over when it is read.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # let name = &format!("/doc-holders-{}", std::process::id());
    /// let lock = ringspan::RwLock::create(name, 8)?;
    /// let guard = lock.blocking_write(None)?;
    /// let holders = lock.holders();
    /// assert_eq!(holders[0].pid, std::process::id());
    /// assert_eq!(holders[0].mode, ringspan::LockMode::Write);
    /// # drop(guard);
    /// # ringspan::remove(name)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn holders(&self) -> Vec<Holder> {
        self.core.holders()
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

    /// Bytes under the lock.
    pub fn len(&self) -> usize {
        self.core.region().payload().1
    }

    /// Whether there are no bytes under the lock (it still locks).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the last one out removes it.
    pub fn is_ephemeral(&self) -> bool {
        self.core.region().is_ephemeral()
    }
}
