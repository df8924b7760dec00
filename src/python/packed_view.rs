//! The class `MappedView` of `ringspan.compat.membridge`: packed items in a block, each verb under the
//! block's lock.
//!
//! The lock is taken, the work done, the version raised and the lock given back without a guard for
//! Python. What can be had at once is done without giving the interpreter lock back. The class is the
//! one that programs have in hand, and none derived from it in Python: CPython calls a method quicker
//! on the very class that it belongs to, by some 7 ns of the 90 that a write takes.

use pyo3::call::PyCallArgs;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};
use std::sync::Arc;

use super::block::PyBlock;
use super::buffer;
use super::errors;
use super::packed::{self, Packed, Tag, number};
use super::packed_block::{
    View, at, clear_with, copy_items, list_items, put, read_with, set, take,
};
use crate::rwlock::LockMode;
use crate::rwlock::core::Core;

/// The module whose Python functions make the rest of the class.
const MODULE: &str = "ringspan.compat.membridge._view";

/// A view of a segment, from `SharedMemory.map`, with a cursor of its own.
#[pyclass(frozen, weakref, name = "MappedView", module = "ringspan.compat.membridge")]
pub(crate) struct PyPackedView(View);

#[inline]
fn offset(given: Option<&Bound<'_, PyAny>>) -> PyResult<Option<usize>> {
    match given {
        None => Ok(None),
        Some(given) => number(given, "an offset").map(Some),
    }
}

#[pymethods]
impl PyPackedView {
    /// Writes one value.
    #[pyo3(signature = (data, offset=None, *, timeout=None))]
    fn write(
        &self,
        py: Python<'_>,
        data: &Bound<'_, PyAny>,
        offset: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (packed, offset) = (Packed::of(data)?, self::offset(offset)?);
        self.0.writing(py, timeout, |bytes| put(py, bytes, &self.0.cursor, &packed, offset))
    }

    /// Writes values one behind the other.
    #[pyo3(signature = (items, offset=None, *, timeout=None))]
    fn write_mixed(
        &self,
        py: Python<'_>,
        items: &Bound<'_, PyAny>,
        offset: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (packed, offset) = (Packed::items(items)?, self::offset(offset)?);
        self.0.writing(py, timeout, |bytes| put(py, bytes, &self.0.cursor, &packed, offset))
    }

    /// Reads one item at the cursor.
    #[pyo3(signature = (tag, *, timeout=None))]
    fn read<'py>(
        &self,
        py: Python<'py>,
        tag: &Bound<'py, PyAny>,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let tag = Tag::named(tag)?;
        self.0.reading(py, timeout, |bytes| take(py, bytes, &self.0.cursor, tag))
    }

    /// Reads items one behind the other.
    #[pyo3(signature = (schema, offset=None, *, timeout=None))]
    fn read_mixed<'py>(
        &self,
        py: Python<'py>,
        schema: &Bound<'py, PyAny>,
        offset: Option<&Bound<'py, PyAny>>,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyList>> {
        let (schema, offset) = (packed::schema(schema)?, self::offset(offset)?);
        let copy = self
            .0
            .reading(py, timeout, |bytes| copy_items(bytes, &self.0.cursor, &schema, offset))?;
        list_items(py, &copy, &schema)
    }

    /// Copies `length` bytes from `offset` on.
    #[pyo3(signature = (offset, length, *, timeout=None))]
    fn read_range<'py>(
        &self,
        py: Python<'py>,
        offset: &Bound<'py, PyAny>,
        length: &Bound<'py, PyAny>,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let from = self.0.range(offset, length)?;
        self.0.reading(py, timeout, |bytes| buffer::bytes(py, &bytes[from]))
    }

    /// Copies all bytes.
    #[pyo3(signature = (*, timeout=None))]
    fn read_all<'py>(
        &self,
        py: Python<'py>,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.0.reading(py, timeout, |bytes| buffer::bytes(py, bytes))
    }

    /// Fills the view with zeros.
    #[pyo3(signature = (*, timeout=None))]
    fn zero(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        self.0.clearing(py, timeout)
    }

    /// As `write`, awaiting the lock.
    #[pyo3(signature = (data, offset=None))]
    fn awrite(
        &self,
        py: Python<'_>,
        data: &Bound<'_, PyAny>,
        offset: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        self.0.awrite_packed(py, "awrite", Packed::of(data)?.into_owned(), self::offset(offset)?)
    }

    /// As `write_mixed`, awaiting the lock.
    #[pyo3(signature = (items, offset=None))]
    fn awrite_mixed(
        &self,
        py: Python<'_>,
        items: &Bound<'_, PyAny>,
        offset: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        self.0.awrite_packed(py, "awrite_mixed", Packed::items(items)?, self::offset(offset)?)
    }

    /// As `read`, awaiting the lock.
    #[pyo3(signature = (tag))]
    fn aread(&self, py: Python<'_>, tag: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let (tag, cursor) = (Tag::named(tag)?, Arc::clone(&self.0.cursor));
        let act = move |py: Python<'_>, core: &Arc<Core>, word| {
            read_with(core, word, |bytes| take(py, bytes, &cursor, tag)).map(Bound::unbind)
        };
        self.0.awaiting(py, "aread", LockMode::Read, Box::new(act))
    }

    /// As `read_mixed`, awaiting the lock.
    #[pyo3(signature = (schema, offset=None))]
    fn aread_mixed(
        &self,
        py: Python<'_>,
        schema: &Bound<'_, PyAny>,
        offset: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let (schema, offset) = (packed::schema(schema)?, self::offset(offset)?);
        let cursor = Arc::clone(&self.0.cursor);
        let act = move |py: Python<'_>, core: &Arc<Core>, word| {
            let copy = read_with(core, word, |bytes| copy_items(bytes, &cursor, &schema, offset))?;
            list_items(py, &copy, &schema).map(|items| items.into_any().unbind())
        };
        self.0.awaiting(py, "aread_mixed", LockMode::Read, Box::new(act))
    }

    /// As `read_range`, awaiting the lock.
    #[pyo3(signature = (offset, length))]
    fn aread_range(
        &self,
        py: Python<'_>,
        offset: &Bound<'_, PyAny>,
        length: &Bound<'_, PyAny>,
    ) -> PyResult<Py<PyAny>> {
        self.0.acopy(py, "aread_range", self.0.range(offset, length)?)
    }

    /// As `read_all`, awaiting the lock.
    fn aread_all(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.0.acopy(py, "aread_all", 0..self.0.size)
    }

    /// As `zero`, awaiting the lock.
    fn azero(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let act = |py: Python<'_>, core: &Arc<Core>, word| {
            clear_with(py, core, word)?;
            Ok(py.None())
        };
        self.0.awaiting(py, "azero", LockMode::Write, Box::new(act))
    }

    /// Moves the cursor to `pos`, which may be the end.
    #[pyo3(signature = (pos=None), text_signature = "($self, pos=0)")]
    fn seek(&self, pos: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let pos = pos.map_or(Ok(0), |pos| number(pos, "a position"))?;
        if pos > self.0.size {
            let text = format!("seek position {pos} exceeds data_size {}", self.0.size);
            return Err(errors::option(text));
        }
        set(&self.0.cursor, pos);
        Ok(())
    }

    /// Where the cursor is.
    fn tell(&self) -> usize {
        at(&self.0.cursor)
    }

    /// Bytes in the view.
    fn size(&self) -> usize {
        self.0.size
    }

    /// How many read now; 0 if somebody writes. Threads of one process count as one.
    fn reader_count(&self, py: Python<'_>) -> PyResult<usize> {
        self.0.count(py, LockMode::Read)
    }

    /// Whether somebody writes now.
    fn is_write_locked(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.0.count(py, LockMode::Write)? != 0)
    }

    /// How often the view was written, by anybody.
    fn version(&self, py: Python<'_>) -> PyResult<u64> {
        self.0.open(py)?.block.get().version()
    }

    /// Waits until the version differs from `since` (None: from what it is at the start).
    #[pyo3(signature = (since=None))]
    fn achanged(&self, py: Python<'_>, since: Option<u64>) -> PyResult<Py<PyAny>> {
        self.0.open(py)?.block.get().changed(py, since)
    }

    /// As `achanged`, parking the thread; `ringspan.Timeout` when the time is over.
    #[pyo3(signature = (since=None, timeout=None))]
    fn changed(
        &self,
        py: Python<'_>,
        since: Option<u64>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        self.0.open(py)?.block.get().blocking_changed(py, since, timeout)
    }

    /// The bytes, read-only, while nobody writes: `with view.reading() as buf:`.
    #[pyo3(name = "reading", signature = (timeout=None))]
    fn held_reading<'py>(
        slf: &Bound<'py, Self>,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        by_python("reading", (slf, timeout), slf.py())
    }

    /// The bytes, while nobody else reads or writes: `with view.writing() as buf:`.
    #[pyo3(name = "writing", signature = (timeout=None))]
    fn held_writing<'py>(
        slf: &Bound<'py, Self>,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        by_python("writing", (slf, timeout), slf.py())
    }

    /// As `reading`: `async with view.areading() as buf:`.
    fn areading<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        by_python("areading", (slf,), slf.py())
    }

    /// As `writing`: `async with view.awriting() as buf:`.
    fn awriting<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        by_python("awriting", (slf,), slf.py())
    }

    /// Whether a writer was killed inside a write, and nobody said since that all is well.
    fn is_poisoned(&self, py: Python<'_>) -> PyResult<bool> {
        self.0.open(py)?.block.get().is_poisoned()
    }

    /// Says that the bytes are in order, whatever a killed writer left.
    fn clear_poison(&self, py: Python<'_>) -> PyResult<()> {
        self.0.open(py)?.block.get().clear_poison()
    }

    /// Gives the view up; the segment stays open. What is asked of it later is `ValueError`.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.0.close(py)
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
    ) -> PyResult<()> {
        let _ = (exc_type, exc, traceback);
        self.close(py)
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let again = py.import(MODULE)?.getattr("_again")?;
        (again, (&self.0.memory, at(&self.0.cursor))).into_pyobject(py)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let size = self.0.size;
        // A closed one, or one whose segment is gone in a child, is shown as well.
        match (self.reader_count(py), self.is_write_locked(py)) {
            (Ok(readers), Ok(locked)) => {
                format!("MappedView(data_size={size}, readers={readers}, write_locked={locked})")
            }
            _ => format!("MappedView(data_size={size}, closed)"),
        }
    }

    /// The block, for what is done with it by itself.
    #[getter]
    fn _block(&self, py: Python<'_>) -> PyResult<Py<PyBlock>> {
        Ok(self.0.open(py)?.block.clone_ref(py))
    }
}

/// What generators are made for.
fn by_python<'py>(
    verb: &str,
    given: impl PyCallArgs<'py>,
    py: Python<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    py.import(MODULE)?.getattr(verb)?.call1(given)
}

/// `_mapped_view(memory, size)`: the view of a segment; attaches its block.
#[pyfunction]
#[pyo3(name = "_mapped_view", signature = (memory, size, /))]
fn mapped_view<'py>(
    py: Python<'py>,
    memory: Py<PyAny>,
    size: usize,
) -> PyResult<Bound<'py, PyPackedView>> {
    let view = View::new(memory, size);
    view.attached(py)?;
    Bound::new(py, PyPackedView(view))
}

/// Adds the class and the private function to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyPackedView>()?;
    m.add_function(wrap_pyfunction!(mapped_view, m)?)
}
