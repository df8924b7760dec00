//! The class `Segment`: named bytes, with the buffer protocol.
//!
//! `unsafe`: the buffer slot. numpy gives an export back at once and keeps the object, so the object
//! holds the mapping until it dies, whatever `close` did.
#![allow(unsafe_code, reason = "the buffer protocol; listed in CONTRIBUTING")]

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView, PyTuple, PyType};
use std::ffi::c_int;
use std::ptr::NonNull;
use std::sync::Arc;

use super::asyncio::Face;
use super::awaitable::awaitable;
use super::buffer::{self, LARGE};
use super::deadline::Deadline;
use super::errors;
use super::opening;
use super::seconds::seconds;
use super::segment_wait::{Changed, Waits};
use super::signals;
use super::sleepers::{self, Closes};
use crate::error::{Fault, FaultKind};
use crate::segment::Segment;
use crate::segment::bind::Kept;
use crate::sync::{AtomicU64, Mutex, Ordering, lock};
use crate::sys::fd::Fd;

/// How a segment was asked for.
#[derive(Debug, Clone, Copy)]
struct Given {
    mode: u32,
    ephemeral: bool,
    raw: bool,
    reserve: bool,
}

/// A named piece of shared memory.
#[pyclass(frozen, name = "Segment", module = "ringspan")]
pub(crate) struct PySegment {
    /// First, so that its reader leaves the loop before the endpoint closes its descriptor.
    face: Arc<Face>,
    waits: Arc<Waits>,
    /// None once closed.
    segment: Mutex<Option<Segment>>,
    at: NonNull<u8>,
    len: usize,
    name: String,
    given: Given,
    /// Buffers that are lent out.
    exports: AtomicU64,
    _kept: Kept,
}

// SAFETY: an address of shared memory that `_kept` keeps mapped; only exported views read or write
// there, which any process may do at any time.
unsafe impl Send for PySegment {}
// SAFETY: as above; the rest is behind locks.
unsafe impl Sync for PySegment {}

impl PySegment {
    fn new(segment: Segment, given: Given) -> Self {
        let waits = Arc::new(Waits::new(segment.clone()));
        PySegment {
            face: Face::new(Arc::clone(&waits) as Arc<_>),
            waits,
            at: NonNull::new(segment.as_ptr()).unwrap_or(NonNull::dangling()),
            len: segment.len(),
            name: segment.name(),
            given,
            exports: AtomicU64::new(0),
            _kept: Kept::of(&segment),
            segment: Mutex::new(Some(segment)),
        }
    }

    /// The Rust handle.
    pub(crate) fn open_handle(&self) -> PyResult<Segment> {
        lock(&self.segment).clone().ok_or_else(|| self.closed())
    }

    fn closed(&self) -> PyErr {
        errors::closed_handle(&format!("segment {}", self.name), "segment", "closed")
    }

    pub(crate) fn face(&self) -> &Arc<Face> {
        &self.face
    }

    pub(crate) fn waits(&self) -> &Waits {
        &self.waits
    }
}

impl Closes for PySegment {
    fn check_open(&self) -> PyResult<()> {
        self.open_handle().map(drop)
    }
}

fn options(given: Given) -> crate::segment::SegmentOptions {
    let Given { mode, ephemeral, reserve, .. } = given;
    let options = Segment::options().mode(mode).ephemeral(ephemeral).reserve(reserve);
    if given.raw { options.raw() } else { options }
}

#[pymethods]
impl PySegment {
    /// Makes a new segment of `size` bytes: `data`, then zeros.
    #[classmethod]
    #[pyo3(signature = (
        name, size, *, mode=0o600, ephemeral=false, raw=false, reserve=true, data=None
    ))]
    #[allow(clippy::too_many_arguments, reason = "keywords")]
    fn create(
        class: &Bound<'_, PyType>,
        name: &str,
        size: usize,
        mode: u32,
        ephemeral: bool,
        raw: bool,
        reserve: bool,
        data: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let given = Given { mode, ephemeral, raw, reserve };
        let copied;
        let data = match data {
            None => &[],
            Some(data) => match data.cast::<PyBytes>() {
                Ok(bytes) => bytes.as_bytes(),
                Err(_) => {
                    copied = PyBuffer::<u8>::get(data)?.to_vec(class.py())?;
                    &copied[..]
                }
            },
        };
        let made = opening::found(|| options(given).create_with(name, size, data))?;
        Ok(Self::new(made, given))
    }

    /// Opens a segment that exists.
    #[classmethod]
    #[pyo3(signature = (name, *, raw=false))]
    fn open(_class: &Bound<'_, PyType>, name: &str, raw: bool) -> PyResult<Self> {
        let given = Given { mode: 0o600, ephemeral: false, raw, reserve: true };
        let made = opening::found(|| options(given).open(name))?;
        Ok(Self::new(made, given))
    }

    /// Opens the segment, or makes it.
    #[classmethod]
    #[pyo3(signature = (name, size, *, mode=0o600, ephemeral=false, raw=false, reserve=true))]
    fn open_or_create(
        _class: &Bound<'_, PyType>,
        name: &str,
        size: usize,
        mode: u32,
        ephemeral: bool,
        raw: bool,
        reserve: bool,
    ) -> PyResult<Self> {
        let given = Given { mode, ephemeral, raw, reserve };
        let made = opening::found(|| options(given).open_or_create(name, size))?;
        Ok(Self::new(made, given))
    }

    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let this = slf.get();
        if lock(&this.segment).is_none() {
            return Err(PyBufferError::new_err(format!(
                "segment {}: it was closed; open it again",
                this.name
            )));
        }
        // SAFETY: `view` comes from the interpreter; `_kept` holds the mapping as long as `slf` lives.
        unsafe { buffer::fill(view, slf.as_any(), this.at, this.len, true, flags) }?;
        this.exports.fetch_add(1, Ordering::Relaxed); // Relaxed, here and below: a number to look at
        Ok(())
    }

    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {
        self.exports.fetch_sub(1, Ordering::Relaxed);
    }

    /// As CPython has it from 3.12 on.
    fn __buffer__<'py>(slf: &Bound<'py, Self>, flags: c_int) -> PyResult<Bound<'py, PyMemoryView>> {
        let _ = flags;
        PyMemoryView::from(slf.as_any())
    }

    /// Copies `size` bytes (all up to the end by default) from `offset` on.
    #[pyo3(signature = (offset=0, size=None))]
    fn read_at<'py>(
        &self,
        py: Python<'py>,
        offset: usize,
        size: Option<usize>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let segment = self.open_handle()?;
        let size = size.unwrap_or_else(|| self.len.saturating_sub(offset));
        if offset.checked_add(size).is_none_or(|end| end > self.len) {
            // Told before room is made for a size that may be anything.
            let cause = format!("{size} bytes at {offset} do not lie in its {}", self.len);
            let subject = format!("segment {}", self.name);
            return Err(errors::fault(&Fault::new(FaultKind::InvalidOption, subject, cause)));
        }
        PyBytes::new_with(py, size, |out| {
            let copied = if size > LARGE {
                py.detach(|| segment.read_at(offset, out))
            } else {
                segment.read_at(offset, out)
            };
            copied.map_err(|err| errors::fault(&err))
        })
    }

    /// Copies `data` to `offset`.
    fn write_at(&self, py: Python<'_>, offset: usize, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let segment = self.open_handle()?;
        if let Ok(bytes) = data.cast::<PyBytes>() {
            let bytes = bytes.as_bytes();
            let written = if bytes.len() > LARGE {
                py.detach(|| segment.write_at(offset, bytes))
            } else {
                segment.write_at(offset, bytes)
            };
            return written.map_err(|err| errors::fault(&err));
        }
        let bytes = PyBuffer::<u8>::get(data)?.to_vec(py)?;
        segment.write_at(offset, &bytes).map_err(|err| errors::fault(&err))
    }

    /// How often `notify` was called, by anybody.
    #[getter]
    fn version(&self) -> PyResult<u64> {
        self.open_handle()?.version().map_err(|err| errors::fault(&err))
    }

    /// Raises the version and wakes everybody who waits for that.
    fn notify(&self) -> PyResult<u64> {
        let segment = self.open_handle()?;
        // The first time it has to attach.
        let notified = if segment.is_attached() {
            segment.notify()
        } else {
            opening::apart(|| segment.notify())
        };
        notified.map_err(|err| errors::fault(&err))
    }

    /// Waits until the version differs from `since`, and returns it.
    #[pyo3(signature = (since=None))]
    fn changed(slf: Py<Self>, py: Python<'_>, since: Option<u64>) -> PyResult<Py<PyAny>> {
        awaitable(py, Box::new(Changed::new(slf, since)))
    }

    /// As `changed`, parking the thread.
    #[pyo3(signature = (since=None, timeout=None))]
    fn blocking_changed(
        &self,
        py: Python<'_>,
        since: Option<u64>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<u64> {
        let limit = seconds(timeout, "timeout")?;
        let segment = self.open_handle()?;
        let deadline = Deadline::after(limit);
        let since = match since {
            Some(since) => since,
            None => segment.version().map_err(|err| errors::fault(&err))?,
        };
        let park = |bell: Option<&Fd>| segment.changed_until(since, deadline.at(), bell);
        signals::parked(py, self, park)?.ok_or_else(|| {
            let subject = format!("segment {}", self.name);
            let fault = Fault::new(FaultKind::Os, subject, "nothing changed within the time-out");
            errors::timeout(&fault.with_errno(libc::ETIMEDOUT))
        })
    }

    fn __len__(&self) -> usize {
        self.len
    }

    /// Without this an empty segment would be false.
    fn __bool__(&self) -> bool {
        true
    }

    /// The name, with its slash.
    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    /// Buffers that are lent out.
    #[getter]
    fn exports(&self) -> u64 {
        self.exports.load(Ordering::Relaxed)
    }

    /// Device and inode of its file.
    #[getter]
    fn file_id(&self) -> PyResult<(u64, u64)> {
        Ok(self.open_handle()?.file_id())
    }

    /// Whether it is a file without header.
    #[getter]
    fn is_raw(&self) -> bool {
        self.given.raw
    }

    /// Whether the last one out removes it.
    #[getter]
    fn is_ephemeral(&self) -> PyResult<bool> {
        Ok(self.open_handle()?.is_ephemeral())
    }

    /// Deletes the name; who has it open goes on.
    fn remove(&self) -> PyResult<()> {
        opening::remove(&self.name)
    }

    /// Gives the handle up; tasks and threads that wait get an error. Views that are out keep the memory.
    fn close(&self, py: Python<'_>) {
        let segment = lock(&self.segment).take();
        // Wakes the tasks that wait, which find the handle closed from here on. Not once more after
        // it: without the reader it is not known whose thread they belong to.
        self.face.close(py);
        self.waits.close();
        sleepers::closed(self);
        drop(segment);
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
        let again = py.import("ringspan._ringspan")?.getattr("_segment_again")?;
        (again, (&self.name, self.given.raw)).into_pyobject(py)
    }

    fn __repr__(&self) -> String {
        let how = if lock(&self.segment).is_some() { "" } else { ", closed" };
        format!("<ringspan.Segment {:?} of {} bytes{how}>", self.name, self.len)
    }
}

/// `_segment_again(name, raw)`: what pickles call.
#[pyfunction]
#[pyo3(name = "_segment_again", signature = (name, raw, /))]
pub(crate) fn again(name: &str, raw: bool) -> PyResult<PySegment> {
    let given = Given { mode: 0o600, ephemeral: false, raw, reserve: true };
    let made = opening::found(|| options(given).open(name))?;
    Ok(PySegment::new(made, given))
}
