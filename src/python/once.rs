//! What is looked up once in a process, at its first use.

use pyo3::PyResult;
use pyo3::Python;
use pyo3::sync::PyOnceLock;

/// What the cell has, or what `make` makes for it.
///
/// `make` may run Python code, so it runs outside of the cell: a signal handler or a finalizer that comes
/// here meanwhile makes another one instead of waiting for itself, and a child that comes by fork finds
/// an empty cell instead of one that nobody will ever fill. Whichever is there first is kept.
#[inline]
pub(super) fn get_or_make<'a, T>(
    cell: &'a PyOnceLock<T>,
    py: Python<'_>,
    make: impl FnOnce() -> PyResult<T>,
) -> PyResult<&'a T> {
    match cell.get(py) {
        Some(value) => Ok(value),
        None => {
            let made = make()?;
            Ok(cell.get_or_init(py, || made))
        }
    }
}
