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
use super::holding::Who;
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

    /// Takes back the view that was handed out. False: somebody exports from it (an array), so that it
    /// lives on.
    fn take_view(py: Python<'_>, view: &Py<PyAny>) -> PyResult<bool> {
        match view.bind(py).call_method0("release") {
            Ok(_) => Ok(true),
            Err(err) if err.is_instance_of::<PyBufferError>(py) => Ok(false),
            Err(err) => Err(err),
        }
    }

    /// How many views live, at least: a memoryview and its slices count as one.
    fn living(py: Python<'_>, memory: &Py<Memory>) -> usize {
        references(memory.bind(py).as_any()).saturating_sub(1)
    }

    /// `taken`: the view that was handed out is released.
    fn views_live(&self, living: usize, taken: bool, what: &str) -> PyErr {
        let own = match taken {
            true => "",
            false => "; and the block's own variable, from which one of them exports",
        };
        PyBufferError::new_err(format!(
            "{}: at least {living} view(s) of the guard live on (slices, casts, arrays{own}); drop \
             them first, or copy. {what}",
            self.object
        ))
    }

    /// Leaves; how many views keep the lock, and whether the one that was handed out is released.
    fn leave(&self, py: Python<'_>) -> PyResult<(usize, bool)> {
        let held = lock(&self.body).held.take();
        let Some(Held { hold, memory, view }) = held else { return Ok((0, true)) };
        let taken = view.map_or(Ok(true), |view| Self::take_view(py, &view));
        let living = Self::living(py, &memory);
        if living > 0 {
            hold.keep();
        }
        let taken = taken?;
        drop(memory);
        Ok((living, taken))
    }

    /// Takes the view back, changes the hold by `make`, and gives it a memory of the new mode. While
    /// views live on nothing is changed.
    fn change(
        &self,
        py: Python<'_>,
        mut held: Held,
        to: LockMode,
        make: impl FnOnce(&Hold),
    ) -> PyResult<()> {
        let taken = match &held.view {
            Some(view) => Self::take_view(py, view),
            None => Ok(true),
        };
        let taken = match taken {
            Ok(true) => {
                drop(held.view.take());
                true
            }
            Ok(false) => false, // it stays the one that was handed out
            Err(err) => {
                self.put_back(held);
                return Err(err);
            }
        };
        let living = Self::living(py, &held.memory);
        if living > 0 {
            self.put_back(held);
            return Err(self.views_live(living, taken, "The mode of the lock was not changed"));
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
    /// The bytes. Whoever enters is the owner.
    pub(crate) fn __enter__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let who = Who::here(py)?;
        let view = self.view(py)?;
        let hold = lock(&self.body).held.as_ref().map(|held| Arc::clone(&held.hold));
        if let Some(hold) = hold {
            hold.entered(who);
        }
        Ok(view)
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
        let (living, taken) = self.leave(py)?;
        if living == 0 || exc_type.is_some() {
            return Ok(());
        }
        Err(self.views_live(living, taken, "The lock is given back when the last one is gone"))
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
            let seen = view.as_ref().is_some_and(|view| references(view.bind(py)) > 1);
            // Ours goes first: its slices share what it holds of the memory.
            drop(view);
            seen || Self::living(py, &memory) > 0
        });
        if left == Some(true) {
            hold.keep();
        }
        drop(memory);
    }
}

/// The word for a mode.
pub(crate) fn mode_word(mode: LockMode) -> &'static str {
    match mode {
        LockMode::Read => "read",
        LockMode::Write => "write",
    }
}
