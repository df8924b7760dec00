//! The class `View`: typed items, one after another, in any bytes-like object.
//!
//! It keeps the object and gets its buffer anew in every call, so that between calls nothing is
//! exported: a lock's guard counts no view, and its memoryview can be released at any time, which the
//! next call tells as ValueError.

use pyo3::exceptions::{PyBufferError, PyRuntimeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use super::convert_buffer::Piece;
use super::errors;
use super::view_items::{self as items, Entry};
use crate::sync::{Mutex, MutexGuard, try_lock};
use crate::view::{Source, ViewError, ViewItem, ViewTag, body, end_of, read_all};

/// The memory of one call.
struct Memory<'py> {
    py: Python<'py>,
    piece: Piece,
}

impl Source for Memory<'_> {
    fn size(&self) -> usize {
        self.piece.len()
    }

    fn copy(&self, at: usize, out: &mut [u8]) -> Option<()> {
        self.piece.copy_out(self.py, at, out)
    }
}

impl<'py> Memory<'py> {
    /// A copy of `len` bytes, made at once where it stays.
    fn bytes(&self, offset: usize, len: usize) -> PyResult<Bound<'py, PyBytes>> {
        // Known before room is made.
        end_of(offset, len, self.size()).map_err(|err| errors::view(&err))?;
        PyBytes::new_with(self.py, len, |out| {
            self.copy(offset, out).ok_or_else(|| outside(offset, len, self.size()))
        })
    }

    /// The item at `at` and where it ends.
    fn item(&self, at: usize, tag: ViewTag) -> PyResult<(Bound<'py, PyAny>, usize)> {
        if tag == ViewTag::Bytes {
            let body = body(self, at).map_err(|err| errors::view(&err))?;
            return Ok((self.bytes(body.start, body.len())?.into_any(), body.end));
        }
        let (item, next) = ViewItem::get(self, at, tag).map_err(|err| errors::view(&err))?;
        Ok((items::object(self.py, &item)?, next))
    }

    /// Writes bytes at `at`, all or none; where they end.
    fn put(&self, at: usize, data: &[u8]) -> PyResult<usize> {
        let end = end_of(at, data.len(), self.size()).map_err(|err| errors::view(&err))?;
        let written = self.piece.copy_in(self.py, at, data);
        written.map(|()| end).ok_or_else(|| outside(at, data.len(), self.size()))
    }
}

#[cold]
fn outside(offset: usize, wanted: usize, size: usize) -> PyErr {
    errors::view(&ViewError::OutOfBounds { offset, wanted, size })
}

/// A cursor over bytes that reads and writes typed items.
#[pyclass(frozen, name = "View", module = "ringspan")]
pub(crate) struct PyView {
    buf: Py<PyAny>,
    /// Held for the whole of a call that moves it. Only ever tried.
    at: Mutex<usize>,
}

impl PyView {
    fn memory<'py>(&self, py: Python<'py>) -> PyResult<Memory<'py>> {
        Ok(Memory { py, piece: Piece::read(self.buf.bind(py))? })
    }

    fn writable<'py>(&self, py: Python<'py>) -> PyResult<Memory<'py>> {
        let buf = self.buf.bind(py);
        let piece = Piece::write(buf).map_err(|err| {
            if Piece::read(buf).is_err() {
                return err;
            }
            let told = PyBufferError::new_err(format!(
                "view of {}: the memory is read-only; take the lock for writing, or view a writable \
                 object",
                self.class(py)
            ));
            told.set_cause(py, Some(err));
            told
        })?;
        Ok(Memory { py, piece })
    }

    fn class(&self, py: Python<'_>) -> String {
        let class = self.buf.bind(py).get_type();
        class.name().map_or_else(|_| "object".to_owned(), |name| name.to_string())
    }

    fn cursor(&self, verb: &str) -> PyResult<MutexGuard<'_, usize>> {
        try_lock(&self.at).ok_or_else(|| {
            PyRuntimeError::new_err(format!(
                "View.{verb}: another call is moving the cursor; one thread at a time (make a View \
                 per thread, or name an offset)"
            ))
        })
    }

    /// Does something at `offset`, or at the cursor, which moves to where that ends.
    fn work<T>(
        &self,
        verb: &str,
        offset: Option<&Bound<'_, PyAny>>,
        work: impl FnOnce(usize) -> PyResult<(T, usize)>,
    ) -> PyResult<T> {
        if let Some(offset) = offset {
            return Ok(work(items::number(offset, "offset")?)?.0);
        }
        let mut cursor = self.cursor(verb)?;
        let (done, next) = work(*cursor)?;
        *cursor = next;
        Ok(done)
    }
}

#[pymethods]
impl PyView {
    #[new]
    #[pyo3(signature = (buf, /))]
    fn new(buf: &Bound<'_, PyAny>) -> PyResult<Self> {
        Piece::read(buf)?;
        Ok(PyView { buf: buf.clone().unbind(), at: Mutex::new(0) })
    }

    /// Moves the cursor to `pos`, which may be the end.
    #[pyo3(signature = (pos=None), text_signature = "($self, pos=0)")]
    fn seek(&self, py: Python<'_>, pos: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let pos = pos.map_or(Ok(0), |pos| items::number(pos, "position"))?;
        let mut cursor = self.cursor("seek")?;
        *cursor = end_of(pos, 0, self.memory(py)?.size()).map_err(|err| errors::view(&err))?;
        Ok(())
    }

    /// Where the cursor is.
    fn tell(&self) -> PyResult<usize> {
        Ok(*self.cursor("tell")?)
    }

    /// Bytes from the cursor to the end.
    #[getter]
    fn remaining(&self, py: Python<'_>) -> PyResult<usize> {
        let cursor = self.cursor("remaining")?;
        Ok(self.memory(py)?.size().saturating_sub(*cursor))
    }

    /// Reads the item at the cursor, or at `offset`.
    #[pyo3(signature = (tag, offset=None))]
    fn read<'py>(
        &self,
        py: Python<'py>,
        tag: &Bound<'py, PyAny>,
        offset: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let tag = items::tag(tag)?;
        self.work("read", offset, |at| self.memory(py)?.item(at, tag))
    }

    /// Writes an item at the cursor, or at `offset`.
    #[pyo3(signature = (value, tag=None, offset=None))]
    fn write(
        &self,
        py: Python<'_>,
        value: &Bound<'_, PyAny>,
        tag: Option<&Bound<'_, PyAny>>,
        offset: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let tag = tag.map(items::tag).transpose()?;
        let mut data = Vec::new();
        items::put(value, tag, &mut data)?;
        self.work("write", offset, |at| Ok(((), self.writable(py)?.put(at, &data)?)))
    }

    /// Reads the items that a schema names.
    #[pyo3(signature = (schema, offset=None))]
    fn read_mixed<'py>(
        &self,
        py: Python<'py>,
        schema: &Bound<'py, PyAny>,
        offset: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyList>> {
        let entries = items::schema(schema)?;
        let flat: Vec<_> = entries.iter().map(|&Entry { tag, count }| (tag, count)).collect();
        self.work("read_mixed", offset, |at| {
            let read = read_all(&self.memory(py)?, at, &flat);
            let (items, next) = read.map_err(|err| errors::view(&err))?;
            Ok((items::grouped(py, &entries, &items)?, next))
        })
    }

    /// Writes items after each other, all or none.
    #[pyo3(signature = (values, schema=None, offset=None))]
    fn write_mixed(
        &self,
        py: Python<'_>,
        values: &Bound<'_, PyAny>,
        schema: Option<&Bound<'_, PyAny>>,
        offset: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let data = items::put_all(values, schema)?;
        self.work("write_mixed", offset, |at| Ok(((), self.writable(py)?.put(at, &data)?)))
    }

    /// The `size` bytes at `offset` as they are.
    fn read_range<'py>(
        &self,
        py: Python<'py>,
        offset: &Bound<'py, PyAny>,
        size: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let (offset, size) = (items::number(offset, "offset")?, items::number(size, "size")?);
        self.memory(py)?.bytes(offset, size)
    }

    /// Writes bytes at `offset` as they are.
    fn write_range(
        &self,
        py: Python<'_>,
        offset: &Bound<'_, PyAny>,
        data: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let (offset, data) = (items::number(offset, "offset")?, items::raw(data)?);
        self.writable(py)?.put(offset, &data).map(|_| ())
    }

    /// Fills the whole view with zeros.
    fn zero(&self, py: Python<'_>) -> PyResult<()> {
        self.writable(py)?.piece.zero(py);
        Ok(())
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.memory(py)?.size())
    }

    /// Without this a view of no bytes would be false.
    fn __bool__(&self) -> bool {
        true
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.buf)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let class = self.class(py);
        let size = match self.memory(py) {
            Ok(memory) => format!("{} bytes", memory.size()),
            Err(_) => "what is released".to_owned(),
        };
        let at = self.at.try_lock().map_or_else(|_| "?".to_owned(), |at| at.to_string());
        format!("<ringspan.View of {size} in a {class}, at {at}>")
    }
}
