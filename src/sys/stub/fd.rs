//! Descriptors: there are none on this system, so nothing that holds one can be made.

use std::convert::Infallible;
use std::io;

/// An owned descriptor; there can be none.
#[derive(Debug)]
pub(crate) struct Fd {
    never: Infallible,
}

impl Fd {
    /// Proof that nobody holds one.
    pub(crate) fn never(&self) -> &Infallible {
        &self.never
    }

    pub(crate) fn duplicate(&self) -> io::Result<Fd> {
        match self.never {}
    }
}

/// Processes are not forked here.
pub(crate) fn fork_count() -> u64 {
    0
}

/// There are no descriptors to be spared.
pub(crate) fn keep_spare() {}

/// The same; it cannot fail.
pub(crate) fn take_spare() -> io::Result<()> {
    Ok(())
}

/// Runs `f`; see `keep_spare`.
pub(crate) fn with_spare<T>(f: impl FnOnce() -> T) -> T {
    f()
}
