//! The errors of the ring's verbs, in tokio's words, and how they become [`io::Error`]s.

use crate::error::{Fault, errno};
use std::fmt;
use std::io;

/// Why the common part of a verb stopped; each verb's own error is made from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The producer closed its stream (for the consumer: the end).
    Ended,
    /// The consumer closed its end.
    Closed,
    PeerDied {
        fault: Fault,
        pid: Option<u32>,
    },
    TooLarge {
        fault: Fault,
        len: usize,
        max: usize,
    },
    TimedOut,
    Interrupted,
    Fault(Fault),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Stop::Fault(fault)
    }
}

/// Why a push that may wait did not happen. Nothing was published (but see
/// [`Producer::push_many`](crate::Producer::push_many)).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PushError {
    /// The message is larger than the ring takes.
    TooLarge {
        /// The ring, both sizes, the cure.
        fault: Fault,
        /// Bytes in the message.
        len: usize,
        /// Bytes in the largest message of this ring.
        max: usize,
    },
    /// The consumer closed its end. Told once for each consumer; the next push fills the ring and
    /// waits for another one.
    Closed(Fault),
    /// The consumer died. Told once for each consumer, as `Closed` is.
    PeerDied {
        /// The ring and the process.
        fault: Fault,
        /// The process, where it is known.
        pid: Option<u32>,
    },
    /// The time-out of a `blocking_` form is over.
    Timeout(Fault),
    /// Anything else.
    Fault(Fault),
}

/// Why a push that never waits did not happen. Nothing was published.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TryPushError {
    /// No room for the message now.
    Full,
    /// As [`PushError::TooLarge`].
    TooLarge {
        /// The ring, both sizes, the cure.
        fault: Fault,
        /// Bytes in the message.
        len: usize,
        /// Bytes in the largest message of this ring.
        max: usize,
    },
    /// As [`PushError::Closed`].
    Closed(Fault),
    /// As [`PushError::PeerDied`].
    PeerDied {
        /// The ring and the process.
        fault: Fault,
        /// The process, where it is known.
        pid: Option<u32>,
    },
    /// Anything else.
    Fault(Fault),
}

/// Why a pop that may wait gave no message. Nothing was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PopError {
    /// The producer died; everything that it published has been popped. Told once for each dead
    /// producer; the next pop waits for another one.
    PeerDied {
        /// The ring and the process.
        fault: Fault,
        /// The process, where it is known.
        pid: Option<u32>,
    },
    /// The time-out of a `blocking_` form is over.
    Timeout(Fault),
    /// Anything else.
    Fault(Fault),
}

/// Why a pop that never waits gave no message. Nothing was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TryPopError {
    /// Nothing is in the ring now.
    Empty,
    /// The producer closed its stream. Told once for each producer.
    Closed,
    /// As [`PopError::PeerDied`].
    PeerDied {
        /// The ring and the process.
        fault: Fault,
        /// The process, where it is known.
        pid: Option<u32>,
    },
    /// Anything else.
    Fault(Fault),
}

/// `Display`, `Error`, `From<Fault>` and the way into `io::Error` for one of the enums above.
macro_rules! ring_error {
    ($name:ident, $($pattern:pat => $text:expr, $kind:expr;)*) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $($pattern => f.write_str($text),)*
                    other => match other.fault() {
                        Some(fault) => fault.fmt(f),
                        None => f.write_str("ring operation failed"),
                    },
                }
            }
        }

        impl std::error::Error for $name {}

        impl From<Fault> for $name {
            fn from(fault: Fault) -> Self {
                $name::Fault(fault)
            }
        }

        impl From<$name> for io::Error {
            fn from(err: $name) -> Self {
                let kind = match &err {
                    $($pattern => $kind,)*
                    $name::Fault(fault) => return fault.clone().into(),
                    other => other.io_kind(),
                };
                io::Error::new(kind, err)
            }
        }
    };
}

ring_error!(PushError,);
ring_error!(TryPushError, TryPushError::Full => "the ring is full", io::ErrorKind::WouldBlock;);
ring_error!(PopError,);
ring_error!(
    TryPopError,
    TryPopError::Empty => "the ring is empty", io::ErrorKind::WouldBlock;
    TryPopError::Closed => "the producer closed the stream", io::ErrorKind::UnexpectedEof;
);

impl PushError {
    /// Object, cause and cure.
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            PushError::TooLarge { fault, .. } | PushError::PeerDied { fault, .. } => Some(fault),
            PushError::Closed(fault) | PushError::Timeout(fault) | PushError::Fault(fault) => {
                Some(fault)
            }
        }
    }

    fn io_kind(&self) -> io::ErrorKind {
        match self {
            PushError::TooLarge { .. } => io::ErrorKind::InvalidInput,
            PushError::Timeout(_) => io::ErrorKind::TimedOut,
            _ => io::ErrorKind::BrokenPipe,
        }
    }

    pub(crate) fn from_stop(stop: Stop, ring: &impl fmt::Display) -> Self {
        match stop {
            Stop::PeerDied { fault, pid } => PushError::PeerDied { fault, pid },
            Stop::TooLarge { fault, len, max } => PushError::TooLarge { fault, len, max },
            Stop::TimedOut => PushError::Timeout(timed_out(ring)),
            Stop::Fault(fault) => PushError::Fault(fault),
            Stop::Closed | Stop::Ended => PushError::Closed(closed(ring)),
            Stop::Interrupted => PushError::Fault(interrupted(ring)),
        }
    }
}

impl TryPushError {
    /// Object, cause and cure; none for `Full`.
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            TryPushError::Full => None,
            TryPushError::TooLarge { fault, .. } | TryPushError::PeerDied { fault, .. } => {
                Some(fault)
            }
            TryPushError::Closed(fault) | TryPushError::Fault(fault) => Some(fault),
        }
    }

    fn io_kind(&self) -> io::ErrorKind {
        match self {
            TryPushError::TooLarge { .. } => io::ErrorKind::InvalidInput,
            _ => io::ErrorKind::BrokenPipe,
        }
    }

    pub(crate) fn from_stop(stop: Stop, ring: &impl fmt::Display) -> Self {
        match PushError::from_stop(stop, ring) {
            PushError::TooLarge { fault, len, max } => TryPushError::TooLarge { fault, len, max },
            PushError::Closed(fault) => TryPushError::Closed(fault),
            PushError::PeerDied { fault, pid } => TryPushError::PeerDied { fault, pid },
            PushError::Timeout(fault) | PushError::Fault(fault) => TryPushError::Fault(fault),
        }
    }
}

impl PopError {
    /// Object, cause and cure.
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            PopError::PeerDied { fault, .. } => Some(fault),
            PopError::Timeout(fault) | PopError::Fault(fault) => Some(fault),
        }
    }

    fn io_kind(&self) -> io::ErrorKind {
        match self {
            PopError::Timeout(_) => io::ErrorKind::TimedOut,
            _ => io::ErrorKind::BrokenPipe,
        }
    }

    /// The end of the stream is not an error: `None`.
    pub(crate) fn from_stop(stop: Stop, ring: &impl fmt::Display) -> Option<Self> {
        match stop {
            Stop::Ended | Stop::Closed => None,
            Stop::PeerDied { fault, pid } => Some(PopError::PeerDied { fault, pid }),
            Stop::TimedOut => Some(PopError::Timeout(timed_out(ring))),
            Stop::TooLarge { fault, .. } | Stop::Fault(fault) => Some(PopError::Fault(fault)),
            Stop::Interrupted => Some(PopError::Fault(interrupted(ring))),
        }
    }
}

impl TryPopError {
    /// Object, cause and cure; none for `Empty` and `Closed`.
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            TryPopError::Empty | TryPopError::Closed => None,
            TryPopError::PeerDied { fault, .. } | TryPopError::Fault(fault) => Some(fault),
        }
    }

    fn io_kind(&self) -> io::ErrorKind {
        io::ErrorKind::BrokenPipe
    }

    pub(crate) fn from_stop(stop: Stop, ring: &impl fmt::Display) -> Self {
        match PopError::from_stop(stop, ring) {
            None => TryPopError::Closed,
            Some(PopError::PeerDied { fault, pid }) => TryPopError::PeerDied { fault, pid },
            Some(PopError::Timeout(fault) | PopError::Fault(fault)) => TryPopError::Fault(fault),
        }
    }
}

fn timed_out(ring: &impl fmt::Display) -> Fault {
    let cause = "the time-out is over; the other end did nothing, or nobody is attached there";
    Fault::new(crate::error::FaultKind::Os, ring, cause).with_errno(errno::ETIMEDOUT)
}

fn closed(ring: &impl fmt::Display) -> Fault {
    let cause = "the consumer closed its end; pushes now wait for another one";
    Fault::new(crate::error::FaultKind::Os, ring, cause).with_errno(errno::EPIPE)
}

fn interrupted(ring: &impl fmt::Display) -> Fault {
    let cause = "a signal handler asked to stop the wait";
    Fault::new(crate::error::FaultKind::Os, ring, cause).with_errno(errno::EINTR)
}
