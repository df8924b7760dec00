//! The errors of calls and of serving.

use crate::error::{Fault, OpenError, errno};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;

/// Whether a request had reached the server when the connection broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Delivered {
    /// The server took it; whether the handler ran, and how far, is not known.
    Yes,
    /// The server never took it; it is safe to call again.
    No,
    /// The memory of the connection does not tell.
    Unknown,
}

impl fmt::Display for Delivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Delivered::Yes => "the request had been delivered",
            Delivered::No => "the request had not been delivered",
            Delivered::Unknown => "it is not known whether the request had been delivered",
        })
    }
}

/// An error that the handler raised, as text: nothing of it is executed or unpickled here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteError {
    /// The name of its type: `ValueError`, `io::Error`.
    #[serde(rename = "t")]
    pub type_name: String,
    /// What it says.
    #[serde(rename = "m")]
    pub message: String,
    /// Where it came from: Python's traceback, Rust's chain of sources. May be empty.
    #[serde(rename = "b", default)]
    pub traceback: String,
    /// What the library itself says by this error.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

/// Why the server refused or ended a call, where it was not the handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Reason {
    /// No such method.
    #[serde(rename = "method")]
    UnknownMethod,
    /// The arguments are not what the method takes; it was not run.
    #[serde(rename = "args")]
    BadArguments,
    /// A stream was asked for and the method has one result, or the other way round.
    #[serde(rename = "kind")]
    NotAStream,
    /// The handler panicked.
    #[serde(rename = "panic")]
    Panicked,
    /// The deadline was over before the handler was done.
    #[serde(rename = "deadline")]
    Deadline,
    /// The caller gave the call up.
    #[serde(rename = "cancelled")]
    Cancelled,
    /// The server is shutting down and has not started this call.
    #[serde(rename = "draining")]
    Draining,
    /// The result cannot be encoded, or is above `max_message`.
    #[serde(rename = "result")]
    BadResult,
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.type_name, self.message)
    }
}

impl std::error::Error for RemoteError {}

/// Why a call gave no result.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallError {
    /// The handler (or the server, see [`RemoteError::reason`]) answered with an error.
    Remote {
        /// Function and process.
        fault: Fault,
        /// What the handler said.
        error: RemoteError,
    },
    /// The connection broke: the server died, was killed, or hung up.
    Disconnected {
        /// Function, process, and what happened.
        fault: Fault,
        /// Whether the request had reached it.
        delivered: Delivered,
    },
    /// The deadline was over first. The handler has been told.
    Timeout(Fault),
    /// Nobody serves this name, or the connection could not be made.
    Connect(OpenError),
    /// The service has no such method.
    UnknownMethod(Fault),
    /// Arguments larger than the server takes; nothing was sent.
    TooLarge {
        /// Function, both sizes, the cure.
        fault: Fault,
        /// Bytes of arguments.
        len: usize,
        /// Bytes of the largest.
        max: u64,
    },
    /// Arguments that cannot be encoded (nothing was sent), or a result that is not of the type asked for.
    Codec(Fault),
    /// Anything else.
    Fault(Fault),
}

impl CallError {
    /// Object, cause, errno.
    pub fn fault(&self) -> &Fault {
        match self {
            CallError::Remote { fault, .. }
            | CallError::Disconnected { fault, .. }
            | CallError::TooLarge { fault, .. }
            | CallError::Timeout(fault)
            | CallError::UnknownMethod(fault)
            | CallError::Codec(fault)
            | CallError::Fault(fault) => fault,
            CallError::Connect(err) => err.fault(),
        }
    }

    /// What the handler said, if it was the handler.
    pub fn remote(&self) -> Option<&RemoteError> {
        match self {
            CallError::Remote { error, .. } => Some(error),
            _ => None,
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault().fmt(f)
    }
}

impl std::error::Error for CallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CallError::Remote { error, .. } => Some(error),
            _ => None,
        }
    }
}

impl From<Fault> for CallError {
    fn from(fault: Fault) -> Self {
        CallError::Fault(fault)
    }
}

impl From<OpenError> for CallError {
    fn from(err: OpenError) -> Self {
        CallError::Connect(err)
    }
}

impl From<CallError> for io::Error {
    fn from(err: CallError) -> Self {
        use io::ErrorKind as K;
        let kind = match &err {
            CallError::Disconnected { .. } => K::ConnectionReset,
            CallError::Timeout(_) => K::TimedOut,
            CallError::Connect(open) if open.fault().errno() == Some(errno::ECONNREFUSED) => {
                K::ConnectionRefused
            }
            CallError::Connect(OpenError::NotFound(_)) => K::NotFound,
            CallError::TooLarge { .. } | CallError::UnknownMethod(_) => K::InvalidInput,
            CallError::Codec(_) => K::InvalidData,
            CallError::Fault(fault) => return fault.clone().into(),
            _ => K::Other,
        };
        io::Error::new(kind, err)
    }
}
