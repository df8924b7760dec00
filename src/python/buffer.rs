//! A piece of a mapping as a Python object that exports it.
//!
//! Every view that Python makes of it (memoryview, slice, cast, ndarray) keeps this object alive, by
//! an export or by a plain reference (numpy gives its export back at once and keeps the object). So
//! its end is the end of the last view: then the piece is given back. Nothing is ever unmapped under
//! a view, since the object holds the mapping.
//!
//! `unsafe`: the two slots of the buffer protocol, and large copies without the interpreter lock.
#![allow(unsafe_code, reason = "the buffer protocol; listed in CONTRIBUTING")]

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::ffi::{c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use crate::region::Region;

/// Copies above this many bytes are made with the interpreter lock given back.
pub(crate) const LARGE: usize = 100 << 10;

/// Who lent a piece of memory.
pub(crate) trait GiveBack: Send + Sync {
    /// The last view of the piece `number` is gone. Called with the interpreter attached.
    fn give_back(&self, number: u64);
}

/// A piece of a mapping. Never handed out itself, only views of it are.
#[pyclass(frozen, name = "_Memory", module = "ringspan")]
pub(crate) struct Memory {
    at: NonNull<u8>,
    len: usize,
    writable: bool,
    lender: Arc<dyn GiveBack>,
    number: u64,
    /// Dropped after the piece was given back.
    _mapping: Arc<Region>,
}

// SAFETY: an address of shared memory that `_mapping` keeps mapped, and plain numbers. This object
// never reads or writes there; Python code that does holds the interpreter lock or knows better.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// A piece to look at: `bytes` lie in `mapping`.
    pub(crate) fn lent(
        bytes: &[u8],
        mapping: Arc<Region>,
        lender: Arc<dyn GiveBack>,
        number: u64,
    ) -> Self {
        let at = NonNull::from(bytes).cast();
        Memory { at, len: bytes.len(), writable: false, lender, number, _mapping: mapping }
    }

    /// A piece to be filled.
    pub(crate) fn granted(
        bytes: *mut [u8],
        mapping: Arc<Region>,
        lender: Arc<dyn GiveBack>,
        number: u64,
    ) -> Self {
        let at = NonNull::new(bytes.cast::<u8>()).unwrap_or(NonNull::dangling());
        Memory { at, len: bytes.len(), writable: true, lender, number, _mapping: mapping }
    }

    /// The whole payload of a mapping, under a lock.
    pub(crate) fn locked(
        mapping: Arc<Region>,
        writable: bool,
        lender: Arc<dyn GiveBack>,
        number: u64,
    ) -> Self {
        let (at, len) = mapping.payload();
        Memory { at, len, writable, lender, number, _mapping: mapping }
    }

    /// The number under which it is lent.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn mapping(&self) -> Arc<Region> {
        Arc::clone(&self._mapping)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.lender.give_back(self.number);
    }
}

#[pymethods]
impl Memory {
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let this = slf.get();
        // SAFETY: `view` comes from the interpreter; the memory stays mapped as long as `slf` lives.
        unsafe { fill(view, slf.as_any(), this.at, this.len, this.writable, flags) }
    }
}

/// Fills in a view of the `len` bytes at `at`, exported by `owner`.
///
/// # Safety
///
/// `view` is null or the caller's to be filled in. The bytes stay mapped as long as `owner` lives.
pub(crate) unsafe fn fill(
    view: *mut ffi::Py_buffer,
    owner: &Bound<'_, PyAny>,
    at: NonNull<u8>,
    len: usize,
    writable: bool,
    flags: c_int,
) -> PyResult<()> {
    if view.is_null() {
        return Err(PyBufferError::new_err("no view to fill in"));
    }
    let at: *mut c_void = at.as_ptr().cast();
    let len = ffi::Py_ssize_t::try_from(len).unwrap_or(ffi::Py_ssize_t::MAX);
    let readonly = c_int::from(!writable);
    // SAFETY: by contract and checked for null; the view owns a reference to `owner` from here on.
    // What another process writes there meanwhile is bytes, which any bit pattern is.
    let failed =
        unsafe { ffi::PyBuffer_FillInfo(view, owner.as_ptr(), at, len, readonly, flags) } != 0;
    if failed { Err(PyErr::fetch(owner.py())) } else { Ok(()) }
}

/// How many references there are to an object.
pub(crate) fn references(object: &Bound<'_, PyAny>) -> usize {
    // SAFETY: a live object, and the interpreter is attached.
    let count = unsafe { ffi::Py_REFCNT(object.as_ptr()) };
    usize::try_from(count).unwrap_or(0)
}

/// Copies bytes; many of them with the interpreter lock given back.
#[inline]
pub(crate) fn copy(py: Python<'_>, to: &mut [u8], from: &[u8]) {
    if from.len() <= LARGE {
        to.copy_from_slice(from);
    } else {
        py.detach(|| to.copy_from_slice(from));
    }
}

/// The same by address, for memory of Python objects that other threads may write meanwhile.
///
/// # Safety
///
/// `from` is valid for reads and `to` for writes of `len` bytes until this returns, also while the
/// interpreter lock is given back; they do not overlap.
pub(crate) unsafe fn copy_raw(py: Python<'_>, to: *mut u8, from: *const u8, len: usize) {
    if len <= LARGE {
        // SAFETY: by contract.
        unsafe { ptr::copy_nonoverlapping(from, to, len) };
        return;
    }
    // As numbers, since addresses do not cross into the closure.
    let (to, from) = (to.expose_provenance(), from.expose_provenance());
    py.detach(move || {
        let to = ptr::with_exposed_provenance_mut::<u8>(to);
        let from = ptr::with_exposed_provenance::<u8>(from);
        // SAFETY: by contract.
        unsafe { ptr::copy_nonoverlapping(from, to, len) };
    });
}

/// A `bytes` with a copy of `from`.
pub(crate) fn bytes<'py>(py: Python<'py>, from: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    if from.len() <= LARGE {
        return Ok(PyBytes::new(py, from).into_any());
    }
    let len = ffi::Py_ssize_t::try_from(from.len()).unwrap_or(ffi::Py_ssize_t::MAX);
    // SAFETY: a null source means: room for `len` bytes, to be filled in.
    let raw = unsafe { ffi::PyBytes_FromStringAndSize(ptr::null(), len) };
    // SAFETY: a new reference, or null with an exception set.
    let made = unsafe { Bound::from_owned_ptr_or_err(py, raw) }?;
    // SAFETY: a `bytes` object, so the address of its content.
    let to = unsafe { ffi::PyBytes_AsString(made.as_ptr()) };
    // SAFETY: `len` bytes of a new object that nobody else has seen, kept alive by `made`.
    unsafe { copy_raw(py, to.cast(), from.as_ptr(), from.len()) };
    Ok(made)
}
