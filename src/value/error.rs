//! The errors of a value's verbs, and how they become [`io::Error`]s.

use crate::error::Fault;
use std::fmt;
use std::io;

/// Why a value was not set by a verb that may wait. The old one stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetError {
    /// The time-out of a `blocking_` form is over; the fault says who is setting.
    Timeout(Fault),
    /// Anything else; [`Fault::kind`] classifies it.
    Fault(Fault),
}

/// Why a value was not set by a verb that never waits. The old one stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrySetError {
    /// Somebody else is setting it.
    WouldBlock,
    /// Anything else.
    Fault(Fault),
}

/// Why a value was not read by a verb that never waits.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TryGetError {
    /// It was never set.
    Empty,
    /// It is set again and again, faster than it can be copied.
    WouldBlock,
    /// Anything else.
    Fault(Fault),
}

impl SetError {
    /// The fault inside: object, cause, errno.
    pub fn fault(&self) -> &Fault {
        match self {
            SetError::Timeout(fault) | SetError::Fault(fault) => fault,
        }
    }
}

impl fmt::Display for SetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault().fmt(f)
    }
}

impl fmt::Display for TrySetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrySetError::WouldBlock => f.write_str("somebody else is setting the value"),
            TrySetError::Fault(fault) => fault.fmt(f),
        }
    }
}

impl fmt::Display for TryGetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TryGetError::Empty => f.write_str("the value was never set"),
            TryGetError::WouldBlock => {
                f.write_str("the value is set again and again, faster than it can be copied")
            }
            TryGetError::Fault(fault) => fault.fmt(f),
        }
    }
}

/// `Error` and `From<Fault>` for the enums above.
macro_rules! with_fault {
    ($($name:ident),*) => {$(
        impl std::error::Error for $name {}

        impl From<Fault> for $name {
            fn from(fault: Fault) -> Self {
                $name::Fault(fault)
            }
        }
    )*};
}

with_fault!(SetError, TrySetError, TryGetError);

impl From<SetError> for io::Error {
    fn from(err: SetError) -> Self {
        match err {
            SetError::Timeout(fault) => io::Error::new(io::ErrorKind::TimedOut, fault),
            SetError::Fault(fault) => fault.into(),
        }
    }
}

impl From<TrySetError> for io::Error {
    fn from(err: TrySetError) -> Self {
        match err {
            TrySetError::WouldBlock => io::Error::new(io::ErrorKind::WouldBlock, err),
            TrySetError::Fault(fault) => fault.into(),
        }
    }
}

impl From<TryGetError> for io::Error {
    fn from(err: TryGetError) -> Self {
        match err {
            TryGetError::Empty | TryGetError::WouldBlock => {
                io::Error::new(io::ErrorKind::WouldBlock, err)
            }
            TryGetError::Fault(fault) => fault.into(),
        }
    }
}
