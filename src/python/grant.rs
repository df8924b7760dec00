//! Room in the ring that Python fills in place.

use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyMemoryView;

use super::buffer::{Memory, references};
use super::end::Owner;
use super::errors;
use super::producer::PyProducer;
use crate::codec::Tag;
use crate::sync::{Mutex, lock};

struct Held {
    memory: Py<Memory>,
    view: Option<Py<PyAny>>,
}

/// Room for one message, from `Producer.reserve`.
#[pyclass(frozen, name = "Grant", module = "ringspan")]
pub(crate) struct PyGrant {
    tx: Py<PyProducer>,
    len: usize,
    held: Mutex<Option<Held>>,
}

impl PyGrant {
    pub(crate) fn new(tx: Py<PyProducer>, memory: Py<Memory>) -> Self {
        let len = memory.get().len();
        PyGrant { tx, len, held: Mutex::new(Some(Held { memory, view: None })) }
    }

    fn object(&self) -> &str {
        self.tx.get().handle().core.object()
    }

    fn over(&self) -> PyErr {
        errors::closed_handle(self.object(), "grant", "committed or left")
    }

    /// Releases the view that was handed out; how many views live on beside it.
    fn take_views_back(&self, py: Python<'_>) -> PyResult<usize> {
        let (view, memory) = {
            let mut held = lock(&self.held);
            let held = held.as_mut().ok_or_else(|| self.over())?;
            (held.view.take(), held.memory.clone_ref(py))
        };
        if let Some(view) = view
            && let Err(err) = view.bind(py).call_method0("release")
            && !err.is_instance_of::<PyBufferError>(py)
        {
            return Err(err);
        }
        Ok(references(memory.bind(py).as_any()).saturating_sub(2))
    }

    fn views_live(&self, living: usize, what: &str) -> PyErr {
        PyBufferError::new_err(format!(
            "{}: {living} view(s) of the grant live on (slices, casts, arrays); drop them first. \
             {what}",
            self.object()
        ))
    }
}

#[pymethods]
impl PyGrant {
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
        let _ = (exc, traceback);
        if lock(&self.held).is_none() {
            return Ok(());
        }
        let living = self.take_views_back(py)?;
        let held = lock(&self.held).take();
        drop(held);
        if living == 0 || exc_type.is_some() {
            return Ok(());
        }
        Err(self.views_live(living, "Nothing was published, and pushes wait for them"))
    }

    /// The room, as a writable memoryview.
    #[getter]
    fn buf(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let (view, memory) = {
            let held = lock(&self.held);
            let held = held.as_ref().ok_or_else(|| self.over())?;
            (held.view.as_ref().map(|view| view.clone_ref(py)), held.memory.clone_ref(py))
        };
        if let Some(view) = view {
            return Ok(view);
        }
        let view = PyMemoryView::from(memory.bind(py).as_any())?.into_any().unbind();
        if let Some(held) = lock(&self.held).as_mut() {
            held.view = Some(view.clone_ref(py));
        }
        Ok(view)
    }

    /// Publishes the first `used` bytes (all by default) as one message.
    #[pyo3(signature = (used=None))]
    fn commit(&self, py: Python<'_>, used: Option<usize>) -> PyResult<()> {
        let used = used.unwrap_or(self.len);
        if used > self.len {
            return Err(PyValueError::new_err(format!(
                "{}: {used} bytes used of a grant of {}",
                self.object(),
                self.len
            )));
        }
        let living = self.take_views_back(py)?;
        if living > 0 {
            return Err(self.views_live(living, "Nothing was published; commit again after that"));
        }
        let number = lock(&self.held).as_ref().map(|held| held.memory.get().number());
        let number = number.ok_or_else(|| self.over())?;
        let handle = self.tx.get().handle();
        let (mut inside, reservation) = handle.take_lent(py, "Grant.commit", number)?;
        inside.role()?.finish(reservation, used, Tag::RAW);
        drop(inside);
        let held = lock(&self.held).take();
        drop(held);
        Ok(())
    }

    fn __len__(&self) -> usize {
        self.len
    }

    fn __repr__(&self) -> String {
        let how = if lock(&self.held).is_some() { "open" } else { "over" };
        format!("<ringspan.Grant of {} bytes in {}, {how}>", self.len, self.object())
    }
}
