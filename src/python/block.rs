//! The class `_Block`: bytes with meta, lock and version, of which arrays are made.
//!
//! `unsafe`: the buffer slot, as that of a segment. The views take no part in the lock.
#![allow(unsafe_code, reason = "the buffer protocol; listed in CONTRIBUTING")]

use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyMemoryView, PyTuple, PyType};
use std::ffi::c_int;
use std::ptr::NonNull;
use std::sync::Arc;

use super::buffer::{self, GiveBack, Memory};
use super::changes::{self, Until};
use super::convert_buffer::Piece;
use super::errors;
use super::locking::{Locked, Locking};
use super::opening;
use super::rwlock_guard::PyGuard;
use super::rwlock_ops::PyAcquire;
use super::seconds::seconds;
use super::stat::{PyHandleStat, PyHolder};
use crate::block::Block;
use crate::error::{Fault, FaultKind, OpenError};
use crate::region::Region;
use crate::rwlock::{HandleStat, LockMode};

/// A named piece of memory with a description, a lock and a version.
#[pyclass(frozen, name = "_Block", module = "ringspan._ringspan")]
pub(crate) struct PyBlock {
    locking: Arc<Locking>,
    at: NonNull<u8>,
    len: usize,
    name: String,
    meta: Box<[u8]>,
    ephemeral: bool,
    _kept: Arc<Region>,
}

// SAFETY: an address of shared memory that `_kept` keeps mapped; only exported views read or write
// there, which any process may do at any time.
unsafe impl Send for PyBlock {}
// SAFETY: as above; the rest is behind locks, or never changes.
unsafe impl Sync for PyBlock {}

/// The views of a block that has no name yet keep nothing but the mapping.
struct Nobody;

impl GiveBack for Nobody {
    fn give_back(&self, _number: u64) {}
}

impl PyBlock {
    /// Its lock, and whether it is open.
    pub(super) fn locking(&self) -> &Arc<Locking> {
        &self.locking
    }

    fn new(block: Block) -> Self {
        PyBlock {
            at: NonNull::new(block.as_ptr()).unwrap_or(NonNull::dangling()),
            len: block.len(),
            name: block.name(),
            meta: block.meta().into(),
            ephemeral: block.is_ephemeral(),
            _kept: Arc::clone(block.region()),
            locking: Arc::new(Locking::new(Locked::Block(block))),
        }
    }
}

/// What a new block begins with.
enum Content {
    Zeros,
    /// Called with the writable bytes.
    By(Py<PyAny>),
    /// Copied to its beginning.
    Copy(Piece),
}

impl Content {
    fn of(
        py: Python<'_>,
        fill: Option<Py<PyAny>>,
        data: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        match (fill, data) {
            (None, None) => Ok(Content::Zeros),
            (None, Some(data)) => Piece::read(data).map(Content::Copy),
            (Some(fill), None) if fill.bind(py).is_callable() => Ok(Content::By(fill)),
            (Some(fill), None) => {
                let class = fill.bind(py).get_type().name()?;
                Err(PyTypeError::new_err(format!("fill: a callable is wanted, not {class}")))
            }
            (Some(_), Some(_)) => {
                Err(PyTypeError::new_err("fill and data both say what it begins with; give one"))
            }
        }
    }

    fn write(&self, region: &Arc<Region>) -> PyResult<()> {
        match self {
            Content::Zeros => Ok(()),
            Content::By(fill) => Python::attach(|py| {
                let memory = Memory::locked(Arc::clone(region), true, Arc::new(Nobody), 0);
                let view = PyMemoryView::from(Bound::new(py, memory)?.as_any())?;
                fill.bind(py).call1((view,)).map(drop)
            }),
            Content::Copy(piece) => {
                let (at, len) = region.payload();
                if piece.len() > len {
                    let cause = format!("{} bytes do not fit into its {len}", piece.len());
                    let fault = region.fault(FaultKind::InvalidOption, cause);
                    return Err(errors::fault(&fault));
                }
                Python::attach(|py| {
                    // SAFETY: `len` bytes that this mapping has and that nobody else can see yet; the
                    // piece lies elsewhere and fits.
                    unsafe { piece.copy_all(py, at.as_ptr()) };
                });
                Ok(())
            }
        }
    }
}

#[pymethods]
impl PyBlock {
    /// Makes a new block of `size` bytes.
    #[classmethod]
    #[pyo3(signature = (name, size, *, meta=None, fill=None, data=None, mode=0o600, ephemeral=false))]
    #[allow(clippy::too_many_arguments, reason = "Python's keywords")]
    fn create(
        _class: &Bound<'_, PyType>,
        py: Python<'_>,
        name: &str,
        size: usize,
        meta: Option<PyBackedBytes>,
        fill: Option<Py<PyAny>>,
        data: Option<&Bound<'_, PyAny>>,
        mode: u32,
        ephemeral: bool,
    ) -> PyResult<Self> {
        let content = Content::of(py, fill, data)?;
        let meta = meta.as_deref().unwrap_or_default();
        let options = Block::options().meta(meta).mode(mode).ephemeral(ephemeral);
        let mut raised = None;
        // Reserving the memory takes its time.
        let made = py.detach(|| {
            options.create_filled(name, size, |region| {
                content.write(region).map_err(|err| {
                    raised = Some(err);
                    let cause = "what fills it raised an exception";
                    OpenError::Fault(region.fault(FaultKind::Os, cause))
                })
            })
        });
        match raised {
            Some(err) => Err(err),
            None => made.map(Self::new).map_err(|err| errors::open(&err, "")),
        }
    }

    /// Opens a block that exists.
    #[classmethod]
    #[pyo3(signature = (name))]
    fn open(_class: &Bound<'_, PyType>, name: &str) -> PyResult<Self> {
        open(name)
    }

    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let this = slf.get();
        if !this.locking.is_open() {
            let text = format!("{}: it was closed; open it again", this.locking.object);
            return Err(PyBufferError::new_err(text));
        }
        // SAFETY: `view` comes from the interpreter; `_kept` holds the mapping as long as `slf` lives.
        unsafe { buffer::fill(view, slf.as_any(), this.at, this.len, true, flags) }
    }

    /// As CPython has it from 3.12 on.
    fn __buffer__<'py>(slf: &Bound<'py, Self>, flags: c_int) -> PyResult<Bound<'py, PyMemoryView>> {
        let _ = flags;
        PyMemoryView::from(slf.as_any())
    }

    /// What its creator said of it.
    #[getter]
    fn meta<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.meta)
    }

    /// How often `notify` was called, by anybody.
    #[getter]
    pub(super) fn version(&self) -> PyResult<u64> {
        Ok(self.locking.block_handle()?.version())
    }

    /// Raises the version and wakes everybody who waits for that.
    fn notify(&self) -> PyResult<u64> {
        self.locking.open_handle()?; // attached, without holding up other threads
        self.locking.block_handle()?.notify().map_err(|fault| errors::fault(&fault))
    }

    /// Waits until the version differs from `since`, and returns it.
    #[pyo3(signature = (since=None))]
    pub(super) fn changed(&self, py: Python<'_>, since: Option<u64>) -> PyResult<Py<PyAny>> {
        let owner = Arc::clone(&self.locking) as Arc<_>;
        changes::awaited(py, owner, "changed", Until::Changed(since))
    }

    /// As `changed`, parking the thread.
    #[pyo3(signature = (since=None, timeout=None))]
    pub(super) fn blocking_changed(
        &self,
        py: Python<'_>,
        since: Option<u64>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let limit = seconds(timeout, "timeout")?;
        changes::blocking(py, &*self.locking, Until::Changed(since), limit)
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
    pub(super) fn is_poisoned(&self) -> PyResult<bool> {
        Ok(self.locking.block_handle()?.is_poisoned())
    }

    /// Says that the bytes are in order again.
    pub(super) fn clear_poison(&self) -> PyResult<()> {
        self.locking.open_handle()?.clear_poison().map_err(|fault| errors::fault(&fault))
    }

    /// Who holds the lock now.
    fn holders(&self) -> PyResult<Vec<PyHolder>> {
        Ok(self.locking.block_handle()?.holders().iter().map(PyHolder::from).collect())
    }

    /// What this handle holds and has done.
    fn stat(&self) -> PyResult<PyHandleStat> {
        let stat: Result<HandleStat, Fault> = self.locking.open_handle()?.stat();
        stat.map(PyHandleStat::from).map_err(|fault| errors::fault(&fault))
    }

    /// The name, with its slash.
    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    /// Device and inode of its file.
    #[getter]
    fn file_id(&self) -> (u64, u64) {
        let id = self._kept.id();
        (id.dev, id.ino)
    }

    /// Bytes in the block.
    #[getter]
    fn size(&self) -> usize {
        self.len
    }

    /// Whether the last one out removes it.
    #[getter]
    fn is_ephemeral(&self) -> bool {
        self.ephemeral
    }

    fn __len__(&self) -> usize {
        self.len
    }

    /// Without this an empty block would be false.
    fn __bool__(&self) -> bool {
        true
    }

    /// Deletes the name; who has it open goes on.
    fn remove(&self) -> PyResult<()> {
        opening::remove(&self.name)
    }

    /// Gives the handle up. Views that are out keep the memory, guards that are out keep the lock.
    fn close(&self, py: Python<'_>) {
        self.locking.close(py);
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
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
        let again = py.import("ringspan._ringspan")?.getattr("_block_again")?;
        (again, (&self.name,)).into_pyobject(py)
    }

    fn __repr__(&self) -> String {
        let how = if self.locking.is_open() { "" } else { ", closed" };
        format!("<ringspan._Block {:?} of {} bytes{how}>", self.name, self.len)
    }
}

fn open(name: &str) -> PyResult<PyBlock> {
    opening::found(|| Block::open(name)).map(PyBlock::new)
}

/// `_block_again(name)`: what pickles call.
#[pyfunction]
#[pyo3(name = "_block_again", signature = (name, /))]
fn again(name: &str) -> PyResult<PyBlock> {
    open(name)
}

/// Adds the private function to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(again, m)?)
}
