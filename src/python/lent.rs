//! A message that stays in the ring while Python looks at it.
//!
//! What is handed out: a memoryview of a raw message, a read-only ndarray of an array message, the
//! value of any other. Leaving takes it back: the memoryview is released, the ndarray becomes empty.
//! What was *derived* from it cannot be taken back; the message then stays at the head of the ring
//! until the last of it is gone.
//!
//! An ndarray is emptied by its own `__setstate__`. It is a view of a hidden array, which numpy makes
//! the base of everything derived, so that counting the references to the hidden one counts those.
//! A buffer that somebody holds of the handed out array itself (`memoryview(a)`) is not seen by this:
//! it reads whatever the ring holds later, and the mapping stays as long as the array lives. Whoever
//! holds the array object (another name, an iterator) finds zeros of the same size.

use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView, PyTuple};

use super::buffer::{Memory, references};
use super::convert;
use super::errors;
use crate::codec::Tag;
use crate::region::Region;
use crate::sync::{Mutex, lock};
use std::sync::Arc;

/// What a guard holds until it is left.
struct Held {
    memory: Py<Memory>,
    /// The base of the array that is handed out.
    hidden: Option<Py<PyAny>>,
    view: Py<PyAny>,
}

/// A lent message, from `Consumer.lend`.
#[pyclass(frozen, name = "Lent", module = "ringspan")]
pub(crate) struct PyLent {
    object: String,
    held: Mutex<Option<Held>>,
}

impl PyLent {
    /// Makes the view of a message whose bytes are `memory`.
    pub(crate) fn new(
        py: Python<'_>,
        object: &str,
        memory: Py<Memory>,
        tag: u8,
        payload: &[u8],
        codec: convert::Options,
    ) -> PyResult<Self> {
        let named = |err: PyErr| match err.is_instance_of::<pyo3::exceptions::PyValueError>(py) {
            true => errors::codec(py, object, err),
            false => err,
        };
        let exporter = memory.bind(py).as_any();
        let (hidden, view) = if tag == Tag::ARRAY.byte() {
            let hidden = convert::decode_array_view(payload, exporter).map_err(named)?;
            let view = hidden.call_method0("view")?;
            (Some(hidden.unbind()), view)
        } else if tag == Tag::RAW.byte() || tag == Tag::APP.byte() {
            (None, PyMemoryView::from(exporter)?.into_any())
        } else {
            (None, convert::decode(py, tag, payload, codec).map_err(named)?)
        };
        let held = Held { memory, hidden, view: view.unbind() };
        Ok(PyLent { object: object.to_owned(), held: Mutex::new(Some(held)) })
    }

    /// Takes the view back. True if nothing derived from it lives on; else how many at least.
    fn take_back(&self, py: Python<'_>) -> PyResult<usize> {
        let Some(Held { memory, hidden, view }) = lock(&self.held).take() else { return Ok(0) };
        let view = view.into_bound(py);
        let mut living = 0;
        if let Some(hidden) = hidden {
            empty_array(&view, memory.get().mapping())?;
            drop(view);
            living += references(hidden.bind(py)).saturating_sub(1);
            drop(hidden);
            living = living.max(references(memory.bind(py).as_any()).saturating_sub(1));
        } else {
            if view.is_instance_of::<PyMemoryView>()
                && let Err(err) = view.call_method0("release")
                && !err.is_instance_of::<PyBufferError>(py)
            {
                return Err(err);
            }
            drop(view);
            living += references(memory.bind(py).as_any()).saturating_sub(1);
        }
        Ok(living)
    }
}

/// Makes an array that we handed out empty, so that it keeps nothing of the ring. Its memory stays
/// mapped as long as it lives, since a buffer of it cannot be seen.
fn empty_array(array: &Bound<'_, PyAny>, mapping: Arc<Region>) -> PyResult<()> {
    let py = array.py();
    if references(array) > 1 {
        let keep = Py::new(py, Keep { _mapping: mapping })?;
        let finalize = py.import("weakref")?.getattr("finalize")?;
        let finalizer = finalize.call1((array, keep))?;
        finalizer.setattr("atexit", false)?;
    }
    let dtype = array.getattr("dtype")?;
    // Ours, and the name that it was given; `flags` would hold another one.
    if references(array) > 2 {
        // Somebody else holds the array itself: perhaps an iterator (`a.flat`, `numpy.broadcast`), which keeps the old size and reads whatever data
        // the array has by then. So it gets zeros of its own, as many bytes as before.
        let bytes: usize = array.getattr("nbytes")?.extract()?;
        let fortran = array.getattr("flags")?.getattr("fnc")?;
        let zeros = PyBytes::new_with(py, bytes, |_| Ok(()))?;
        let state = (1, array.getattr("shape")?, dtype, fortran, zeros);
        array.call_method1("__setstate__", (state,))?;
    } else {
        let shape = PyTuple::new(py, [0])?;
        let state = (1, shape, dtype, false, PyBytes::new(py, b""));
        array.call_method1("__setstate__", (state,))?;
    }
    array.getattr("flags")?.setattr("writeable", false)
}

/// Holds a mapping.
#[pyclass(frozen, name = "_Keep", module = "ringspan")]
struct Keep {
    _mapping: Arc<Region>,
}

#[pymethods]
impl Keep {
    /// What `weakref.finalize` calls before it lets go of this.
    fn __call__(&self) {}
}

#[pymethods]
impl PyLent {
    /// The view: a memoryview, an array, or the value.
    fn __enter__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.view(py)
    }

    #[pyo3(signature = (exc_type=None, exc=None, traceback=None, /))]
    fn __exit__(
        &self,
        py: Python<'_>,
        exc_type: Option<&Bound<'_, PyAny>>,
        exc: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let _ = (exc, traceback);
        let living = self.take_back(py)?;
        if living == 0 || exc_type.is_some() {
            return Ok(());
        }
        Err(PyBufferError::new_err(format!(
            "{}: {living} view(s) made of the lent message live on (slices, casts, arrays); drop \
             them inside the `with` block, or copy. The message stays in the ring until the last \
             one is gone",
            self.object
        )))
    }

    /// Gives the message back, as leaving the block does.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        self.__exit__(py, None, None, None)
    }

    /// What the block is given.
    #[getter]
    fn view(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let held = lock(&self.held).as_ref().map(|held| held.view.clone_ref(py));
        held.ok_or_else(|| errors::closed_handle(&self.object, "lent message", "released"))
    }

    fn __repr__(&self) -> String {
        let how = if lock(&self.held).is_some() { "held" } else { "released" };
        format!("<ringspan.Lent of {}, {how}>", self.object)
    }
}
