//! The error of waiting for a change.

use crate::error::Fault;
use std::fmt;
use std::io;

/// Why a wait for a change ended without one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChangedError {
    /// The time-out of [`Segment::blocking_changed`](crate::Segment::blocking_changed) is over.
    Timeout(Fault),
    /// Anything else; [`Fault::kind`] classifies it.
    Fault(Fault),
}

impl ChangedError {
    /// The fault inside: object, cause, errno.
    pub fn fault(&self) -> &Fault {
        match self {
            ChangedError::Timeout(fault) | ChangedError::Fault(fault) => fault,
        }
    }
}

impl fmt::Display for ChangedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault().fmt(f)
    }
}

impl std::error::Error for ChangedError {}

impl From<Fault> for ChangedError {
    fn from(fault: Fault) -> Self {
        ChangedError::Fault(fault)
    }
}

impl From<ChangedError> for io::Error {
    fn from(err: ChangedError) -> Self {
        match err {
            ChangedError::Timeout(fault) => io::Error::new(io::ErrorKind::TimedOut, fault),
            ChangedError::Fault(fault) => fault.into(),
        }
    }
}
