//! The class `_Exported`: a base for Python classes whose instances lend the bytes of something else.
//!
//! Before CPython 3.12 a class written in Python cannot be one to take a memoryview of.
//!
//! `unsafe`: the buffer slot, which hands the request on.
#![allow(unsafe_code, reason = "the buffer protocol; listed in CONTRIBUTING")]

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyMemoryView;
use pyo3::{PyTraverseError, PyVisit};
use std::ffi::c_int;

/// Lends what `source` lends; with `readonly` nobody can write through its views.
///
/// `source` is a segment or a block and never a memoryview: one that is part of a cycle and has
/// exports is cleared under them by the collector of CPython up to 3.12.
#[pyclass(frozen, subclass, name = "_Exported", module = "ringspan._ringspan")]
pub(crate) struct Exported {
    source: Py<PyAny>,
    readonly: bool,
}

#[pymethods]
impl Exported {
    #[new]
    #[pyo3(signature = (source, readonly, /))]
    fn new(source: Py<PyAny>, readonly: bool) -> Self {
        Exported { source, readonly }
    }

    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let this = slf.get();
        if view.is_null() {
            return Err(PyBufferError::new_err("no view to fill in"));
        }
        if this.readonly && flags & ffi::PyBUF_WRITABLE != 0 {
            return Err(PyBufferError::new_err("the memory was opened with read_only=True"));
        }
        // SAFETY: `view` comes from the interpreter and is not null; the view owns a reference to
        // `source` from here on, which keeps the bytes.
        if unsafe { ffi::PyObject_GetBuffer(this.source.as_ptr(), view, flags) } != 0 {
            return Err(PyErr::fetch(slf.py()));
        }
        if this.readonly {
            // SAFETY: it was filled in just now.
            unsafe { (*view).readonly = 1 };
        }
        Ok(())
    }

    /// As CPython has it from 3.12 on.
    fn __buffer__<'py>(slf: &Bound<'py, Self>, flags: c_int) -> PyResult<Bound<'py, PyMemoryView>> {
        let _ = flags;
        PyMemoryView::from(slf.as_any())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.source)
    }
}
