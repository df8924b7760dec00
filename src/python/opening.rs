//! Finding and removing objects with the interpreter lock given back: an inode is locked for a moment, and
//! whoever has it may have been stopped just then.

use pyo3::prelude::*;

use super::errors;
use crate::error::OpenError;
use crate::segment;

/// Runs what may have to wait for another process for a moment. Hold no lock meanwhile that is waited for
/// with the interpreter attached.
pub(crate) fn apart<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    Python::attach(|py| py.detach(run))
}

/// Opens, creates or attaches by `find`.
pub(crate) fn found<T: Send>(find: impl FnOnce() -> Result<T, OpenError> + Send) -> PyResult<T> {
    apart(find).map_err(|err| errors::open(&err, ""))
}

/// Deletes the name; who has it open goes on.
pub(crate) fn remove(name: &str) -> PyResult<()> {
    found(|| segment::remove(name))
}
