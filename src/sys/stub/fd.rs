//! Descriptors: there are none on this system, so nothing that holds one can be made.

use std::convert::Infallible;

/// An owned descriptor; there can be none.
#[derive(Debug)]
pub(crate) struct Fd {
    _never: Infallible,
}

/// Processes are not forked here.
pub(crate) fn fork_count() -> u64 {
    0
}

/// There are no descriptors to be spared.
pub(crate) fn keep_spare() {}

/// Runs `f`; see `keep_spare`.
pub(crate) fn with_spare<T>(f: impl FnOnce() -> T) -> T {
    f()
}
