//! Errors of the core as Python exceptions: the one place that knows both. The classes are Python's
//! (`_exceptions.py`), since each has two bases.

use pyo3::prelude::*;
use std::fmt::Display;

use crate::error::{Fault, FaultKind, OpenError};
use crate::ring::{PopError, PushError, Stop};
use crate::view::ViewError;

mod class {
    #![allow(missing_docs, reason = "named and documented in _exceptions.py")]
    use pyo3::{PyTypeInfo, Python, import_exception};

    macro_rules! classes {
        ($($name:ident,)*) => {
            $(import_exception!(ringspan._exceptions, $name);)*

            /// Looks all of them up. Later it may be too late: when the interpreter ends, nothing can
            /// be imported any more, and objects that end then may still have something to say.
            pub(super) fn import(py: Python<'_>) {
                $(let _ = $name::type_object(py);)*
            }
        };
    }

    classes! {
        AlreadyExists, Closed, CodecError, Damaged, Disconnected, Empty, Forked, HandleClosed,
        InvalidName, InvalidOption, Mismatch, NoSpace, NotFound, NotServed, PeerClosed, PeerDied,
        PeerUnreachable, PermissionDenied, Poisoned, Removed, RoleTaken, SystemFault, Timeout,
        TooLarge, TooManyAttached, TooManyFiles, UnknownMethod, Unsupported, WouldDeadlock,
    }
}

/// Looks the classes up while they can be imported.
pub(crate) fn import(py: Python<'_>) {
    class::import(py);
}

/// The exception of a fault.
pub(crate) fn fault(fault: &Fault) -> PyErr {
    let args = (fault.to_string(), fault.errno());
    match fault.kind() {
        FaultKind::InvalidName => class::InvalidName::new_err(args),
        FaultKind::InvalidOption => class::InvalidOption::new_err(args),
        FaultKind::NoSpace => class::NoSpace::new_err(args),
        FaultKind::PermissionDenied => class::PermissionDenied::new_err(args),
        FaultKind::Damaged => class::Damaged::new_err(args),
        FaultKind::Mismatch => class::Mismatch::new_err(args),
        FaultKind::Removed => class::Removed::new_err(args),
        FaultKind::PeerUnreachable => class::PeerUnreachable::new_err(args),
        FaultKind::TooManyFiles => class::TooManyFiles::new_err(args),
        FaultKind::Forked => class::Forked::new_err(args),
        FaultKind::Encode | FaultKind::Decode => class::CodecError::new_err(args),
        FaultKind::TooManyAttached => class::TooManyAttached::new_err(args),
        FaultKind::Poisoned => class::Poisoned::new_err(args),
        FaultKind::Unsupported => class::Unsupported::new_err(args),
        FaultKind::NoRuntime | FaultKind::Os => class::SystemFault::new_err(args),
    }
}

/// The exception of an `open`, `create` or attach that failed. `hint` is added when the role is
/// taken.
pub(crate) fn open(err: &OpenError, hint: &str) -> PyErr {
    let args = (err.to_string(), err.fault().errno());
    match err {
        OpenError::NotFound(_) => class::NotFound::new_err((args.0, args.1.or(Some(libc::ENOENT)))),
        OpenError::AlreadyExists(_) => {
            class::AlreadyExists::new_err((args.0, args.1.or(Some(libc::EEXIST))))
        }
        OpenError::RoleTaken { pid, .. } => {
            class::RoleTaken::new_err((format!("{}{hint}", args.0), args.1, *pid))
        }
        OpenError::Fault(inner) => fault(inner),
    }
}

/// The exception of a pop that stopped.
#[cold]
pub(crate) fn pop(stop: Stop, ring: &impl Display) -> PyErr {
    match PopError::from_stop(stop, ring) {
        None => class::Closed::new_err((format!("{ring}: the producer closed the stream"),)),
        Some(PopError::PeerDied { fault, pid }) => died(&fault, pid),
        Some(PopError::Timeout(fault)) => timeout(&fault),
        Some(PopError::Fault(inner)) => fault(&inner),
    }
}

/// The exception of a push that stopped.
#[cold]
pub(crate) fn push(stop: Stop, ring: &impl Display) -> PyErr {
    match PushError::from_stop(stop, ring) {
        PushError::TooLarge { fault, len, max } => {
            class::TooLarge::new_err((fault.to_string(), fault.errno(), len, max))
        }
        PushError::Closed(fault) => class::PeerClosed::new_err((fault.to_string(), fault.errno())),
        PushError::PeerDied { fault, pid } => died(&fault, pid),
        PushError::Timeout(fault) => timeout(&fault),
        PushError::Fault(inner) => fault(&inner),
    }
}

fn died(fault: &Fault, pid: Option<u32>) -> PyErr {
    class::PeerDied::new_err((fault.to_string(), fault.errno(), pid))
}

/// A connection that broke under a call.
#[cold]
pub(crate) fn disconnected(fault: &Fault, delivered: &str) -> PyErr {
    class::Disconnected::new_err((fault.to_string(), fault.errno(), delivered.to_owned()))
}

/// A connection that could not be made.
#[cold]
pub(crate) fn connect(err: &OpenError) -> PyErr {
    let fault = err.fault();
    if fault.errno() == Some(crate::error::errno::ECONNREFUSED) {
        return class::NotServed::new_err((fault.to_string(), fault.errno()));
    }
    open(err, "")
}

/// A service without that method.
#[cold]
pub(crate) fn unknown_method(fault: &Fault) -> PyErr {
    class::UnknownMethod::new_err((fault.to_string(), fault.errno()))
}

/// Arguments above `max_message`.
#[cold]
pub(crate) fn too_large(fault: &Fault, len: usize, max: u64) -> PyErr {
    class::TooLarge::new_err((fault.to_string(), fault.errno(), len, max))
}

/// The time-out of a `blocking_` verb is over.
pub(crate) fn timeout(fault: &Fault) -> PyErr {
    class::Timeout::new_err((fault.to_string(), fault.errno()))
}

/// Nothing there now.
#[cold]
pub(crate) fn empty(ring: &impl Display) -> PyErr {
    class::Empty::new_err((format!("{ring}: nothing is in it now"),))
}

/// A verb on a handle that was closed before.
#[cold]
pub(crate) fn closed_handle(object: &str, noun: &str, how: &str) -> PyErr {
    let text = format!("{object}: this {noun} was {how}; make another one");
    class::HandleClosed::new_err((text,))
}

/// A message that cannot be read: names the ring, keeps the cause.
#[cold]
pub(crate) fn codec(py: Python<'_>, object: &str, cause: PyErr) -> PyErr {
    let err = class::CodecError::new_err((format!("{object}: {}", cause.value(py)),));
    err.set_cause(py, Some(cause));
    err
}

/// A message that a ring with a quota can never take, with what it counts as.
#[cold]
pub(crate) fn frame(object: &str, frame: usize, capacity: usize) -> PyErr {
    let text = format!("{object}: message too large: frame_len={frame} > capacity={capacity}");
    class::TooLarge::new_err((text, libc::EMSGSIZE, frame, capacity))
}

/// A view that was not read, written or moved.
#[cold]
pub(crate) fn view(err: &ViewError) -> PyErr {
    match err {
        ViewError::OutOfBounds { .. } | ViewError::UnknownTag(_) => option(err.to_string()),
        ViewError::BadBool { .. }
        | ViewError::BadUtf8 { .. }
        | ViewError::BadLength { .. }
        | ViewError::TooLong { .. } => class::CodecError::new_err((err.to_string(),)),
    }
}

/// A wait of somebody for himself.
#[cold]
pub(crate) fn would_deadlock(text: String) -> PyErr {
    class::WouldDeadlock::new_err((text, libc::EDEADLK))
}

/// An argument that cannot be met.
#[cold]
pub(crate) fn option(text: String) -> PyErr {
    class::InvalidOption::new_err((text, libc::EINVAL))
}
