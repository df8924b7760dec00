//! The errors of taking a lock, in std's words, and how they become [`io::Error`]s.

use crate::error::{Fault, FaultKind};
use std::fmt;
use std::io;

/// The lock is ours, but a writer died (or panicked) while it held it: the bytes may be half written.
///
/// The guard is inside. Mend the bytes under it (as a writer), then call
/// [`RwLock::clear_poison`](crate::RwLock::clear_poison); or take it as it is.
#[derive(Debug)]
pub struct Poisoned<G> {
    guard: G,
    fault: Fault,
}

impl<G> Poisoned<G> {
    pub(crate) fn new(guard: G, fault: Fault) -> Self {
        Poisoned { guard, fault }
    }

    /// The guard, by value.
    pub fn into_inner(self) -> G {
        self.guard
    }

    /// The guard, to look.
    pub fn get_ref(&self) -> &G {
        &self.guard
    }

    /// The guard, to change.
    pub fn get_mut(&mut self) -> &mut G {
        &mut self.guard
    }

    /// The lock, what happened, what to do.
    pub fn fault(&self) -> &Fault {
        &self.fault
    }
}

/// Why a lock that may be waited for was not (or not cleanly) got. `G` is the guard.
#[derive(Debug)]
#[non_exhaustive]
pub enum LockError<G> {
    /// A writer died while it held the lock. The guard is inside.
    Poisoned(Poisoned<G>),
    /// The time-out of a `blocking_` form is over; the fault says who holds the lock.
    Timeout(Fault),
    /// Anything else; [`Fault::kind`] classifies it.
    Fault(Fault),
}

/// Why a lock was not (or not cleanly) got at once. `G` is the guard.
#[derive(Debug)]
#[non_exhaustive]
pub enum TryLockError<G> {
    /// Others hold it, or wait for it.
    WouldBlock,
    /// A writer died while it held the lock. The guard is inside.
    Poisoned(Poisoned<G>),
    /// Anything else.
    Fault(Fault),
}

impl<G> LockError<G> {
    /// The fault inside: object, cause, errno.
    pub fn fault(&self) -> &Fault {
        match self {
            LockError::Poisoned(poisoned) => poisoned.fault(),
            LockError::Timeout(fault) | LockError::Fault(fault) => fault,
        }
    }

    /// The fault, by value; a poisoned lock is given back. For `?` in functions whose error outlives the
    /// handle (`Box<dyn Error>`, anyhow), which an error with a borrowed guard inside cannot:
    /// `lock.read().await.map_err(LockError::into_fault)?`.
    pub fn into_fault(self) -> Fault {
        match self {
            LockError::Poisoned(Poisoned { fault, .. })
            | LockError::Timeout(fault)
            | LockError::Fault(fault) => fault,
        }
    }

    /// The guard of a poisoned lock; the error again otherwise. For those who do not care:
    /// `lock.read().await.or_else(LockError::into_guard)`.
    ///
    /// # Errors
    ///
    /// The error itself, if the lock was not got.
    pub fn into_guard(self) -> Result<G, LockError<G>> {
        match self {
            LockError::Poisoned(poisoned) => Ok(poisoned.into_inner()),
            other => Err(other),
        }
    }
}

impl<G> TryLockError<G> {
    /// The fault inside; none for `WouldBlock`.
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            TryLockError::WouldBlock => None,
            TryLockError::Poisoned(poisoned) => Some(poisoned.fault()),
            TryLockError::Fault(fault) => Some(fault),
        }
    }
}

impl<G> fmt::Display for Poisoned<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault.fmt(f)
    }
}

impl<G: fmt::Debug> std::error::Error for Poisoned<G> {}

impl<G> fmt::Display for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault().fmt(f)
    }
}

impl<G: fmt::Debug> std::error::Error for LockError<G> {}

impl<G> fmt::Display for TryLockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fault() {
            Some(fault) => fault.fmt(f),
            None => f.write_str("the lock is held"),
        }
    }
}

impl<G: fmt::Debug> std::error::Error for TryLockError<G> {}

impl<G> From<Fault> for LockError<G> {
    fn from(fault: Fault) -> Self {
        LockError::Fault(fault)
    }
}

impl<G> From<Fault> for TryLockError<G> {
    fn from(fault: Fault) -> Self {
        TryLockError::Fault(fault)
    }
}

/// A poisoned lock is given back on the way.
impl<G> From<LockError<G>> for io::Error {
    fn from(err: LockError<G>) -> Self {
        match err {
            LockError::Timeout(fault) => io::Error::new(io::ErrorKind::TimedOut, fault),
            LockError::Poisoned(Poisoned { fault, .. }) | LockError::Fault(fault) => fault.into(),
        }
    }
}

/// A poisoned lock is given back on the way.
impl<G> From<TryLockError<G>> for io::Error {
    fn from(err: TryLockError<G>) -> Self {
        match err {
            TryLockError::WouldBlock => {
                io::Error::new(io::ErrorKind::WouldBlock, "the lock is held")
            }
            TryLockError::Poisoned(Poisoned { fault, .. }) | TryLockError::Fault(fault) => {
                fault.into()
            }
        }
    }
}

/// The fault of a poisoned lock.
pub(crate) fn poisoned(subject: impl fmt::Display) -> Fault {
    let cause = "a writer died (or panicked) while it held the lock, so the bytes may be half written; \
                 check or rewrite them, then clear the poison";
    Fault::new(FaultKind::Poisoned, subject, cause)
}
