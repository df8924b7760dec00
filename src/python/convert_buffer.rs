//! The bytes of any object that exports a buffer, without asking for its element format: numpy
//! refuses to name one for `datetime64`, and the codec names element types itself.
//!
//! One of the files with `unsafe`: PyO3's own buffer type always asks for the format, and checks
//! it against a Rust element type.

#![allow(unsafe_code)]

use std::ffi::{c_char, c_int};
use std::fmt;

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;

use super::buffer::copy_raw;

/// One export of an object's memory; released on drop. Boxed, because exporters may let the view
/// point into itself.
pub(super) struct ByteBuffer(Box<ffi::Py_buffer>);

// SAFETY: the view is only looked at with a `Python` token in hand, and released under one. No
// other process has a part in it.
unsafe impl Send for ByteBuffer {}
// SAFETY: as above; nothing is changed through a shared reference.
unsafe impl Sync for ByteBuffer {}

impl ByteBuffer {
    /// The memory of `obj`, whatever its strides.
    pub(super) fn any(obj: &Bound<'_, PyAny>) -> PyResult<Self> {
        ByteBuffer::get(obj, ffi::PyBUF_FULL_RO)
    }

    /// The memory of `obj` if it lies in one piece, in C or Fortran order.
    pub(super) fn contiguous(obj: &Bound<'_, PyAny>) -> PyResult<Self> {
        ByteBuffer::get(obj, ffi::PyBUF_ANY_CONTIGUOUS)
    }

    fn get(obj: &Bound<'_, PyAny>, flags: c_int) -> PyResult<Self> {
        let mut view = Box::new(ffi::Py_buffer::new());
        // SAFETY: `obj` is alive and we hold the GIL; `view` is a fresh Py_buffer at an address
        // that stays.
        let failed = unsafe { ffi::PyObject_GetBuffer(obj.as_ptr(), &raw mut *view, flags) } != 0;
        if failed {
            // Not filled in, so not to be released: `view` is dropped as plain memory.
            return Err(PyErr::fetch(obj.py()));
        }
        Ok(ByteBuffer(view))
    }

    /// Length in bytes.
    pub(super) fn len(&self) -> usize {
        usize::try_from(self.0.len).unwrap_or(0)
    }

    /// Items in each dimension.
    pub(super) fn shape(&self) -> Vec<u64> {
        let ndim = usize::try_from(self.0.ndim).unwrap_or(0);
        if ndim == 0 || self.0.shape.is_null() {
            return Vec::new();
        }
        // SAFETY: we asked for PyBUF_ND, so `shape` points to `ndim` integers that live as long
        // as the export; this process made them.
        let shape = unsafe { std::slice::from_raw_parts(self.0.shape, ndim) };
        shape.iter().map(|&n| u64::try_from(n).unwrap_or(0)).collect()
    }

    /// True if the last index moves fastest.
    pub(super) fn is_c_order(&self, _py: Python<'_>) -> bool {
        self.is_contiguous(b'C')
    }

    /// Copies the bytes out: as they lie where they are in one piece, else in C order.
    pub(super) fn copy_to(&self, py: Python<'_>, out: &mut [u8]) -> PyResult<()> {
        if out.len() != self.len() {
            return Err(PyBufferError::new_err(format!(
                "buffer of {} bytes changed its length to {}",
                out.len(),
                self.len()
            )));
        }
        if self.is_contiguous(b'A') {
            let from = self.0.buf.cast::<u8>();
            if !out.is_empty() {
                // SAFETY: the export is held and in one piece, so `buf` points to `len` bytes, which
                // nobody may move meanwhile; `out` is ours and exactly as long. Another thread that
                // writes the object now spoils bytes and nothing else.
                unsafe { copy_raw(py, out.as_mut_ptr(), from, out.len()) };
            }
            return Ok(());
        }
        // SAFETY: the view is an export that is still held, the token proves the GIL, and `out`
        // has exactly `len` bytes.
        let failed = unsafe {
            ffi::PyBuffer_ToContiguous(
                out.as_mut_ptr().cast(),
                &raw const *self.0,
                self.0.len,
                c_char::from_ne_bytes([b'C']),
            )
        } != 0;
        if failed { Err(PyErr::fetch(py)) } else { Ok(()) }
    }

    fn is_contiguous(&self, order: u8) -> bool {
        // SAFETY: the view is an export that is still held; the call reads only the view.
        let yes = unsafe {
            ffi::PyBuffer_IsContiguous(&raw const *self.0, c_char::from_ne_bytes([order]))
        };
        yes != 0
    }
}

impl Drop for ByteBuffer {
    fn drop(&mut self) {
        // While the interpreter shuts down the export stays: nobody resizes its owner any more.
        let _ = Python::try_attach(|_| {
            // SAFETY: filled in by PyObject_GetBuffer, released exactly once, under the GIL.
            unsafe { ffi::PyBuffer_Release(&raw mut *self.0) };
        });
    }
}

impl fmt::Debug for ByteBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ByteBuffer({} bytes)", self.len())
    }
}

/// One export of memory in one piece, in C order, that is copied from and to by offset. Never a slice
/// of Rust: other threads and processes may write there meanwhile.
pub(super) struct Piece {
    export: ByteBuffer,
    writable: bool,
}

impl Piece {
    /// The memory of `obj`, to be read.
    pub(super) fn read(obj: &Bound<'_, PyAny>) -> PyResult<Self> {
        let export = ByteBuffer::get(obj, ffi::PyBUF_C_CONTIGUOUS)?;
        Ok(Piece { export, writable: false })
    }

    /// The memory of `obj`, to be written too.
    pub(super) fn write(obj: &Bound<'_, PyAny>) -> PyResult<Self> {
        let export = ByteBuffer::get(obj, ffi::PyBUF_C_CONTIGUOUS | ffi::PyBUF_WRITABLE)?;
        Ok(Piece { export, writable: true })
    }

    /// Length in bytes.
    pub(super) fn len(&self) -> usize {
        self.export.len()
    }

    /// Where `len` bytes at `offset` begin, if they all lie in it.
    fn at(&self, offset: usize, len: usize) -> Option<*mut u8> {
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.len());
        inside.then(|| self.export.0.buf.cast::<u8>().wrapping_add(offset))
    }

    /// Fills `out` with what lies at `offset`; None if that is not all inside.
    pub(super) fn copy_out(&self, py: Python<'_>, offset: usize, out: &mut [u8]) -> Option<()> {
        let from = self.at(offset, out.len())?;
        if !out.is_empty() {
            // SAFETY: the export is held and in C order, so its `len` bytes lie at `buf`, and these
            // were found to be among them; nobody may move or free them meanwhile. `out` is ours.
            // Another thread or process that writes there now spoils bytes and nothing else.
            unsafe { copy_raw(py, out.as_mut_ptr(), from, out.len()) };
        }
        Some(())
    }

    /// Copies `data`, which lies elsewhere, to `offset`; None if it does not all fit there.
    pub(super) fn copy_in(&self, py: Python<'_>, offset: usize, data: &[u8]) -> Option<()> {
        let to = self.at(offset, data.len()).filter(|_| self.writable)?;
        if !data.is_empty() {
            // SAFETY: as above, and the export was asked for as writable. `data` is a Rust slice that
            // nobody writes, so it is not part of the memory of a writable export.
            unsafe { copy_raw(py, to, data.as_ptr(), data.len()) };
        }
        Some(())
    }

    /// Copies all of it to `to`.
    ///
    /// # Safety
    ///
    /// `to` is valid for writes of as many bytes, which are not part of this memory, also while the
    /// interpreter lock is given back.
    pub(super) unsafe fn copy_all(&self, py: Python<'_>, to: *mut u8) {
        if self.len() != 0 {
            // SAFETY: the export is held and in C order, so its `len` bytes lie at `buf`; the rest by
            // contract. Another thread that writes there now spoils bytes and nothing else.
            unsafe { copy_raw(py, to, self.export.0.buf.cast::<u8>(), self.len()) };
        }
    }

    /// Fills all of it with zeros.
    pub(super) fn zero(&self, py: Python<'_>) {
        let zeros = vec![0; self.len().min(1 << 20)];
        let mut at = 0;
        while at < self.len() {
            let len = zeros.len().min(self.len() - at);
            if self.copy_in(py, at, &zeros[..len]).is_none() {
                return;
            }
            at += len;
        }
    }
}

/// Overwrites the whole memory of a writable, contiguous `obj`, which nobody else has seen yet.
pub(super) fn fill(obj: &Bound<'_, PyAny>, data: &[u8]) -> PyResult<()> {
    let buffer = ByteBuffer::get(obj, ffi::PyBUF_ANY_CONTIGUOUS | ffi::PyBUF_WRITABLE)?;
    if buffer.len() != data.len() {
        return Err(PyBufferError::new_err(format!(
            "{} bytes for a buffer of {}",
            data.len(),
            buffer.len()
        )));
    }
    if !data.is_empty() {
        // SAFETY: the export is contiguous, writable and `data.len()` bytes long; it is fresh
        // memory of this process, so it cannot overlap `data`.
        unsafe {
            copy_raw(obj.py(), buffer.0.buf.cast::<u8>(), data.as_ptr(), data.len());
        }
    }
    Ok(())
}
