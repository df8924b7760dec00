//! The class `RwLock`. Unlike the end of a ring, one handle serves many threads and event loops.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::sync::Arc;

use super::errors;
use super::locking::{Locked, Locking};
use super::opening;
use super::rwlock_guard::PyGuard;
use super::rwlock_ops::PyAcquire;
use super::stat::{PyHandleStat, PyHolder};
use crate::error::{Fault, FaultKind};
use crate::notify::find::too_small;
use crate::rwlock::{HandleStat, LockMode, RwLock};

/// A named reader-writer lock over bytes that processes share.
#[pyclass(frozen, name = "RwLock", module = "ringspan")]
pub(crate) struct PyRwLock {
    locking: Arc<Locking>,
    name: String,
    size: usize,
    ephemeral: bool,
}

impl PyRwLock {
    fn new(handle: RwLock) -> Self {
        PyRwLock {
            name: handle.name(),
            size: handle.len(),
            ephemeral: handle.is_ephemeral(),
            locking: Arc::new(Locking::new(Locked::Lock(handle))),
        }
    }

    fn open_handle(&self) -> PyResult<RwLock> {
        self.locking.open_handle()
    }
}

/// Opens or makes the lock, as the arguments say.
fn open(
    name: &str,
    size: Option<usize>,
    mode: u32,
    ephemeral: bool,
    create: Option<bool>,
) -> PyResult<RwLock> {
    let options = RwLock::options().mode(mode).ephemeral(ephemeral);
    let found = opening::found(|| match (create, size) {
        (None, Some(size)) => options.open_or_create(name, size),
        (Some(true), Some(size)) => options.create(name, size),
        (Some(true), None) => {
            let cause = "create=True needs a size (0 for a lock without bytes)";
            Err(Fault::new(FaultKind::InvalidOption, format!("lock {name}"), cause).into())
        }
        (None | Some(false), _) => options.open(name),
    })?;
    match size {
        Some(size) if found.len() < size => {
            let has = found.len() as u64;
            let fault = too_small(found.core().region(), "a length of", size as u64, has);
            Err(errors::fault(&fault))
        }
        _ => Ok(found),
    }
}

#[pymethods]
impl PyRwLock {
    #[new]
    #[pyo3(signature = (name, size=None, *, mode=0o600, ephemeral=false, create=None))]
    fn py_new(
        name: &str,
        size: Option<usize>,
        mode: u32,
        ephemeral: bool,
        create: Option<bool>,
    ) -> PyResult<Self> {
        open(name, size, mode, ephemeral, create).map(Self::new)
    }

    /// Waits until nobody writes (or waits to write), and reads.
    #[pyo3(signature = (*, allow_poisoned=false))]
    fn read(&self, py: Python<'_>, allow_poisoned: bool) -> PyResult<PyAcquire> {
        PyAcquire::new(py, Arc::clone(&self.locking), LockMode::Read, allow_poisoned)
    }

    /// Waits until nobody reads or writes, and writes.
    #[pyo3(signature = (*, allow_poisoned=false))]
    fn write(&self, py: Python<'_>, allow_poisoned: bool) -> PyResult<PyAcquire> {
        PyAcquire::new(py, Arc::clone(&self.locking), LockMode::Write, allow_poisoned)
    }

    /// Reads, if nobody writes or waits to write.
    #[pyo3(signature = (*, allow_poisoned=false))]
    fn try_read(&self, py: Python<'_>, allow_poisoned: bool) -> PyResult<Option<Py<PyGuard>>> {
        self.locking.attempt(py, LockMode::Read, allow_poisoned)
    }

    /// Writes, if nobody reads or writes.
    #[pyo3(signature = (*, allow_poisoned=false))]
    fn try_write(&self, py: Python<'_>, allow_poisoned: bool) -> PyResult<Option<Py<PyGuard>>> {
        self.locking.attempt(py, LockMode::Write, allow_poisoned)
    }

    /// As `read`, parking the thread.
    #[pyo3(signature = (timeout=None, *, allow_poisoned=false))]
    fn blocking_read(
        &self,
        py: Python<'_>,
        timeout: Option<&Bound<'_, PyAny>>,
        allow_poisoned: bool,
    ) -> PyResult<Py<PyGuard>> {
        self.locking.block(py, LockMode::Read, timeout, allow_poisoned)
    }

    /// As `write`, parking the thread.
    #[pyo3(signature = (timeout=None, *, allow_poisoned=false))]
    fn blocking_write(
        &self,
        py: Python<'_>,
        timeout: Option<&Bound<'_, PyAny>>,
        allow_poisoned: bool,
    ) -> PyResult<Py<PyGuard>> {
        self.locking.block(py, LockMode::Write, timeout, allow_poisoned)
    }

    /// Whether a writer died and nobody cleared that since.
    #[getter]
    fn is_poisoned(&self) -> PyResult<bool> {
        Ok(self.open_handle()?.is_poisoned())
    }

    /// Says that the bytes are in order again.
    fn clear_poison(&self) -> PyResult<()> {
        self.open_handle()?.clear_poison().map_err(|fault| errors::fault(&fault))
    }

    /// Who holds the lock now.
    fn holders(&self) -> PyResult<Vec<PyHolder>> {
        Ok(self.open_handle()?.holders().iter().map(PyHolder::from).collect())
    }

    /// What this handle holds and has done.
    fn stat(&self) -> PyResult<PyHandleStat> {
        let stat: Result<HandleStat, Fault> = self.open_handle()?.stat();
        stat.map(PyHandleStat::from).map_err(|fault| errors::fault(&fault))
    }

    /// The name, with its slash.
    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    /// Bytes under the lock.
    #[getter]
    fn size(&self) -> usize {
        self.size
    }

    /// Whether the last one out removes it.
    #[getter]
    fn is_ephemeral(&self) -> bool {
        self.ephemeral
    }

    fn __len__(&self) -> usize {
        self.size
    }

    /// Without this a lock without bytes would be false.
    fn __bool__(&self) -> bool {
        true
    }

    /// Deletes the name; who has it open goes on.
    fn remove(&self) -> PyResult<()> {
        opening::remove(&self.name)
    }

    /// Gives the handle up. Guards that are out keep the lock, tasks and threads that wait get an error.
    fn close(&self, py: Python<'_>) {
        self.locking.close(py);
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    /// Here only to say what was meant.
    fn __aenter__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(format!(
            "{}: `async with` takes the lock by `lock.read()` or `lock.write()`, not by the handle \
             itself",
            self.locking.object
        )))
    }

    #[pyo3(signature = (exc_type=None, exc=None, traceback=None, /))]
    fn __aexit__(
        &self,
        exc_type: Option<&Bound<'_, PyAny>>,
        exc: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let _ = (exc_type, exc, traceback);
        self.__aenter__()
    }

    #[pyo3(signature = (exc_type=None, exc=None, traceback=None, /))]
    fn __exit__(
        &self,
        py: Python<'_>,
        exc_type: Option<&Bound<'_, PyAny>>,
        exc: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) {
        let _ = (exc_type, exc, traceback);
        self.close(py);
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let again = py.import("ringspan._ringspan")?.getattr("_rwlock_again")?;
        (again, (&self.name,)).into_pyobject(py)
    }

    fn __repr__(&self) -> String {
        let how = if self.locking.is_open() { "" } else { ", closed" };
        format!("<ringspan.RwLock {:?} of {} bytes{how}>", self.name, self.size)
    }
}

/// `_rwlock_again(name)`: what pickles call.
#[pyfunction]
#[pyo3(name = "_rwlock_again", signature = (name, /))]
fn again(name: &str) -> PyResult<PyRwLock> {
    open(name, None, 0o600, false, Some(false)).map(PyRwLock::new)
}

/// Adds the private function to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(again, m)?)
}
