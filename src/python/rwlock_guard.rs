//! A hold on a lock, as Python has it: a memoryview of the bytes, and the rule of lent memory.
//!
//! Leaving the `with` block releases the view that was handed out; while others made of it live on,
//! the lock is kept, and `holders()` says so.

use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;
use pyo3::types::PyMemoryView;
use std::sync::Arc;

use super::buffer::{Memory, references};
use super::errors;
use super::rwlock_hold::Hold;
use crate::region::Region;
use crate::rwlock::LockMode;
use crate::sync::{Mutex, lock};

struct Held {
    hold: Arc<Hold>,
    memory: Py<Memory>,
    /// Made when it is asked for.
    view: Option<Py<PyAny>>,
}

struct Body {
    mode: LockMode,
    /// None once released.
    held: Option<Held>,
}

/// The lock is held, from `RwLock.read`, `RwLock.write` and their other forms.
#[pyclass(frozen, name = "Guard", module = "ringspan")]
pub(crate) struct PyGuard {
    object: Arc<str>,
    body: Mutex<Body>,
}

impl PyGuard {
    /// Of a lock that was taken just now, over the bytes of `region`.
    pub(crate) fn new(
        py: Python<'_>,
        object: Arc<str>,
        region: Arc<Region>,
        mode: LockMode,
        hold: Arc<Hold>,
    ) -> PyResult<Self> {
        let memory = hold.memory(py, region)?;
        let held = Some(Held { hold, memory, view: None });
        Ok(PyGuard { object, body: Mutex::new(Body { mode, held }) })
    }

    fn over(&self) -> PyErr {
        errors::closed_handle(&self.object, "guard", "released")
    }

    /// Takes back the view that was handed out; how many live on beside it.
    fn take_view(py: Python<'_>, view: Option<Py<PyAny>>, memory: &Py<Memory>) -> PyResult<usize> {
        if let Some(view) = view
            && let Err(err) = view.bind(py).call_method0("release")
            && !err.is_instance_of::<PyBufferError>(py)
        {
            return Err(err);
        }
        Ok(references(memory.bind(py).as_any()).saturating_sub(1))
    }

    fn views_live(&self, living: usize, what: &str) -> PyErr {
        PyBufferError::new_err(format!(
            "{}: {living} view(s) of the guard live on (slices, casts, arrays); drop them first, or \
             copy. {what}",
            self.object
        ))
    }

    /// Leaves; how many views keep the lock.
    fn leave(&self, py: Python<'_>) -> PyResult<usize> {
        let held = lock(&self.body).held.take();
        let Some(Held { hold, memory, view }) = held else { return Ok(0) };
        let living = Self::take_view(py, view, &memory)?;
        if living > 0 {
            hold.keep();
        }
        drop(memory);
        Ok(living)
    }

    /// Replaces memory and view after a change of mode that was made in `held.hold`; puts all back as
    /// it was, by `undo`, if views live on.
    fn change(
        &self,
        py: Python<'_>,
        mut held: Held,
        to: LockMode,
        make: impl FnOnce(&Hold),
    ) -> PyResult<()> {
        let living = match Self::take_view(py, held.view.take(), &held.memory) {
            Ok(living) => living,
            Err(err) => {
                lock(&self.body).held = Some(held);
                return Err(err);
            }
        };
        if living > 0 {
            lock(&self.body).held = Some(held);
            return Err(self.views_live(living, "The mode of the lock was not changed"));
        }
        let region = held.memory.get().mapping();
        make(&held.hold);
        // Raises the number, so that the end of the old memory is not the end of the hold.
        let fresh = held.hold.memory(py, region)?;
        let old = std::mem::replace(&mut held.memory, fresh);
        drop(old);
        let mut body = lock(&self.body);
        (body.mode, body.held) = (to, Some(held));
        Ok(())
    }

    fn take_held(&self) -> PyResult<(LockMode, Held)> {
        let mut body = lock(&self.body);
        let mode = body.mode;
        body.held.take().map(|held| (mode, held)).ok_or_else(|| self.over())
    }

    fn put_back(&self, held: Held) {
        lock(&self.body).held = Some(held);
    }
}

#[pymethods]
impl PyGuard {
    /// The bytes.
    fn __enter__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.view(py)
    }

    #[pyo3(signature = (exc_type=None, exc=None, traceback=None, /))]
    pub(crate) fn __exit__(
        &self,
        py: Python<'_>,
        exc_type: Option<&Bound<'_, PyAny>>,
        exc: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let _ = (exc, traceback);
        let living = self.leave(py)?;
        if living == 0 || exc_type.is_some() {
            return Ok(());
        }
        Err(self.views_live(living, "The lock is given back when the last one is gone"))
    }

    /// Gives the lock back, as leaving the block does.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        self.__exit__(py, None, None, None)
    }

    /// The bytes, as a memoryview; read-only for a reader.
    #[getter]
    pub(crate) fn view(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let (view, memory) = {
            let body = lock(&self.body);
            let held = body.held.as_ref().ok_or_else(|| self.over())?;
            (held.view.as_ref().map(|view| view.clone_ref(py)), held.memory.clone_ref(py))
        };
        if let Some(view) = view {
            return Ok(view);
        }
        let view = PyMemoryView::from(memory.bind(py).as_any())?.into_any().unbind();
        let mut body = lock(&self.body);
        match &mut body.held {
            // Another thread was quicker.
            Some(Held { view: Some(first), .. }) => Ok(first.clone_ref(py)),
            Some(held) => {
                held.view = Some(view.clone_ref(py));
                Ok(view)
            }
            None => Ok(view),
        }
    }

    /// "read" or "write".
    #[getter]
    fn mode(&self) -> &'static str {
        mode_word(lock(&self.body).mode)
    }

    /// Goes on as a reader; nobody writes between.
    fn downgrade(&self, py: Python<'_>) -> PyResult<()> {
        let (mode, held) = self.take_held()?;
        if mode == LockMode::Read {
            self.put_back(held);
            return Ok(());
        }
        self.change(py, held, LockMode::Read, Hold::downgrade)
    }

    /// Goes on as the writer, if nobody else reads.
    fn try_upgrade(&self, py: Python<'_>) -> PyResult<bool> {
        let (mode, held) = self.take_held()?;
        if mode == LockMode::Write || !held.hold.try_upgrade() {
            self.put_back(held);
            return Ok(mode == LockMode::Write);
        }
        let hold = Arc::clone(&held.hold);
        let changed = self.change(py, held, LockMode::Write, |_| ());
        if changed.is_err() {
            hold.downgrade(); // what was read may go on being read
        }
        changed.map(|()| true)
    }

    fn __repr__(&self) -> String {
        let body = lock(&self.body);
        let how = if body.held.is_some() { mode_word(body.mode) } else { "released" };
        format!("<ringspan.Guard of {}, {how}>", self.object)
    }
}

impl Drop for PyGuard {
    /// The guard is gone without a release: what was made of it keeps the lock, and is counted.
    fn drop(&mut self) {
        let held = lock(&self.body).held.take();
        let Some(Held { hold, memory, view }) = held else { return };
        let left = Python::try_attach(|py| {
            let ours = 1 + usize::from(view.is_some());
            let seen = view.as_ref().is_some_and(|view| references(view.bind(py)) > 1);
            seen || references(memory.bind(py).as_any()) > ours
        });
        if left == Some(true) {
            hold.keep();
        }
        drop((view, memory));
    }
}

/// The word for a mode.
pub(crate) fn mode_word(mode: LockMode) -> &'static str {
    match mode {
        LockMode::Read => "read",
        LockMode::Write => "write",
    }
}
