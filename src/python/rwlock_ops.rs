//! What `lock.read()` and `lock.write()` return: to be awaited for a guard, or entered by `async with`.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::cell::Cell;
use std::sync::Arc;

use super::asyncio::Face;
use super::awaitable::{Operation, awaitable};
use super::errors;
use super::holding::Who;
use super::locking::Locking;
use super::rwlock_guard::PyGuard;
use crate::rwlock::LockMode;
use crate::rwlock::core::Core;
use crate::rwlock::wait::Waiting;
use crate::rwlock::word::Word;
use crate::sync::{Mutex, lock};

/// Between the await and the block.
#[derive(Default)]
enum Slot {
    /// The await gives the guard.
    #[default]
    Awaited,
    /// `async with`: the await gives the bytes, the guard stays here.
    Entered(Option<Py<PyGuard>>),
}

/// What is done under the lock in place of handing it out; it gives the lock back.
pub(crate) type Act = Box<dyn FnOnce(Python<'_>, &Arc<Core>, Word) -> PyResult<Py<PyAny>> + Send>;

/// One acquisition that may have to wait.
struct Acquiring {
    locking: Arc<Locking>,
    slot: Arc<Mutex<Slot>>,
    face: Arc<Face>,
    mode: LockMode,
    allow_poisoned: bool,
    act: Option<Act>,
    /// For messages.
    verb: &'static str,
    /// None before the start.
    core: Option<Arc<Core>>,
    /// Turns of the loop that were given to those who were woken.
    given: Cell<u32>,
    /// Looked once. From now on through the endpoint, which watches who may wake us.
    looked: bool,
    /// Our place among those who wait, the hint that keeps readers out included; dropped, it is left.
    waiting: Option<Waiting<Arc<Core>>>,
}

impl Acquiring {
    fn new(locking: Arc<Locking>, mode: LockMode, allow_poisoned: bool) -> Self {
        let verb = locking.verb(mode);
        Acquiring {
            face: Arc::clone(locking.faces().nowhere()),
            locking,
            slot: Arc::default(),
            mode,
            allow_poisoned,
            act: None,
            verb,
            core: None,
            given: Cell::new(0),
            looked: false,
            waiting: None,
        }
    }
}

impl Operation for Acquiring {
    fn name(&self) -> &'static str {
        self.verb
    }

    fn start(&mut self, py: Python<'_>) -> PyResult<()> {
        self.core = Some(Arc::clone(self.locking.open_handle()?.core()));
        self.face = self.locking.faces().here(py, self.name())?;
        Ok(())
    }

    fn gives_way(&self) -> bool {
        let given = self.given.get();
        let gives = self.core.as_ref().is_some_and(|core| core.gives_turn(given));
        self.given.set(given.saturating_add(u32::from(gives)));
        gives
    }

    fn face(&self) -> &Arc<Face> {
        &self.face
    }

    fn queued(&self) -> bool {
        false
    }

    fn poll(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let handle = self.locking.open_handle()?;
        let (core, mode) = (handle.core(), self.mode);
        let taken = if self.looked {
            if self.waiting.is_none() {
                self.waiting = Some(Waiting::new(Arc::clone(core), mode));
            }
            let looked = core.shared().with(|endpoint| {
                let found = core.look(endpoint, mode)?;
                endpoint.counters.parks += u64::from(found.is_none());
                Ok(found)
            });
            looked.and_then(|looked| looked).map_err(|fault| errors::fault(&fault))?
        } else {
            self.looked = true;
            match core.take_at_once(mode) {
                None => self.locking.take_again(core, mode, Who::here(py)?, self.name())?,
                taken => taken,
            }
        };
        let Some(word) = taken else { return Ok(None) };
        if let Some(waiting) = self.waiting.take() {
            waiting.came();
        }
        if let Some(act) = self.act.take() {
            return act(py, core, word).map(Some);
        }
        let guard = self.locking.got(py, core, mode, word, self.allow_poisoned)?;
        if matches!(&*lock(&self.slot), Slot::Awaited) {
            return Ok(Some(guard.into_any()));
        }
        let view = guard.get().__enter__(py)?;
        let old = std::mem::replace(&mut *lock(&self.slot), Slot::Entered(Some(guard)));
        drop(old);
        Ok(Some(view))
    }
}

/// An acquisition that is awaited, from `read` and `write` of a lock.
#[pyclass(frozen, name = "Acquire", module = "ringspan")]
pub(crate) struct PyAcquire {
    awaitable: Py<PyAny>,
    slot: Arc<Mutex<Slot>>,
    nowhere: Arc<Face>,
}

impl PyAcquire {
    pub(crate) fn new(
        py: Python<'_>,
        locking: Arc<Locking>,
        mode: LockMode,
        allow_poisoned: bool,
    ) -> PyResult<Self> {
        let nowhere = Arc::clone(locking.faces().nowhere());
        let op = Acquiring::new(locking, mode, allow_poisoned);
        let slot = Arc::clone(&op.slot);
        Ok(PyAcquire { awaitable: awaitable(py, Box::new(op))?, slot, nowhere })
    }
}

/// What is to be awaited for `act` to be done under the lock. Dropped before, nothing was done.
pub(crate) fn acting(
    py: Python<'_>,
    locking: Arc<Locking>,
    verb: &'static str,
    mode: LockMode,
    act: Act,
) -> PyResult<Py<PyAny>> {
    let op = Acquiring { act: Some(act), verb, ..Acquiring::new(locking, mode, true) };
    awaitable(py, Box::new(op))
}

#[pymethods]
impl PyAcquire {
    /// Waits for the lock; gives a Guard.
    fn __await__(&self, py: Python<'_>) -> Py<PyAny> {
        self.awaitable.clone_ref(py)
    }

    /// Makes one step, as an event loop does.
    #[pyo3(signature = (value, /))]
    fn send(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.awaitable.call_method1(py, "send", (value,))
    }

    /// Ends the wait with an exception.
    #[pyo3(signature = (*args))]
    fn throw(&self, py: Python<'_>, args: &Bound<'_, PyTuple>) -> PyResult<Py<PyAny>> {
        self.awaitable.call_method1(py, "throw", args)
    }

    /// Ends the wait; nothing was taken.
    fn close(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.awaitable.call_method0(py, "close")
    }

    /// Waits for the lock; gives the bytes.
    fn __aenter__(&self, py: Python<'_>) -> Py<PyAny> {
        {
            let mut slot = lock(&self.slot);
            if matches!(&*slot, Slot::Awaited) {
                *slot = Slot::Entered(None);
            }
        }
        self.awaitable.clone_ref(py)
    }

    #[pyo3(signature = (exc_type=None, exc=None, traceback=None, /))]
    fn __aexit__(
        &self,
        py: Python<'_>,
        exc_type: Option<&Bound<'_, PyAny>>,
        exc: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let guard = match &mut *lock(&self.slot) {
            Slot::Entered(guard) => guard.take(),
            Slot::Awaited => None,
        };
        if let Some(guard) = guard {
            guard.get().__exit__(py, exc_type, exc, traceback)?;
        }
        awaitable(py, Box::new(Left(Arc::clone(&self.nowhere))))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.awaitable)?;
        // Nobody holds it across a call into Python; then the collector asks another time.
        match self.slot.try_lock().as_deref() {
            Ok(Slot::Entered(Some(guard))) => visit.call(guard),
            _ => Ok(()),
        }
    }
}

/// `async with` has to be given something to await.
struct Left(Arc<Face>);

impl Operation for Left {
    fn name(&self) -> &'static str {
        "Acquire.__aexit__"
    }

    fn never_waits(&self) -> bool {
        true
    }

    fn face(&self) -> &Arc<Face> {
        &self.0
    }

    fn queued(&self) -> bool {
        false
    }

    fn poll(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        Ok(Some(py.None()))
    }
}
