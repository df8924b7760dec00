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
