//! What `rx.pop()` returns in Python: an object that can be awaited once.
//!
//! A class of the binding builds one with [`awaitable`] from an [`Operation`]:
//!
//! ```text
//! rx.pop()                   -> Awaitable (nothing happens yet)
//! await, first step          -> Operation::poll: ready? the result, without the loop
//! not ready                  -> Face::park (asyncio.rs): queue, arm, poll again, a future of the loop
//! the future is set          -> Operation::poll again; the message is taken here, never in a callback
//! cancel, close, collected   -> leave the queue, wake the next one; nothing was taken
//! ```
//!
//! The type is a heap type made by hand because the `am_send` slot hands a result over without
//! raising StopIteration: 75 against 207 ns for a ready await. It has `send`, `throw` and `close`,
//! so `asyncio.create_task` takes it for a coroutine.
//!
//! `unsafe`: the memory of the objects, which lives in Python's heap; the other process never sees
//! it. All of it runs with the interpreter attached. The state is moved out of the object while
//! anything else runs, so that a re-entrant call meets [`State::Running`], never a second `&mut`.
//! The C slots of the type are in `awaitable_slots.rs`.
#![allow(unsafe_code, reason = "the memory of a raw heap type")]

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Arc;

use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::panic::PanicException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;
use pyo3_ffi as ffi;

use crate::python::asyncio::{Admit, Face, Step, Ticket};
use crate::python::awaitable_slots::make_type;
use crate::python::once;

/// One verb that may have to wait, with its arguments: `pop`, `push`, `reserve`, `changed`, ...
///
/// Dropping it must be harmless: nothing was taken, nothing published.
pub(crate) trait Operation: Send + 'static {
    /// Class and verb, for messages: "Consumer.pop".
    fn name(&self) -> &'static str;

    /// The await begins: called once, before anything else, in the task that awaits. For handles with
    /// a face for each event loop.
    fn start(&mut self, py: Python<'_>) -> PyResult<()> {
        let _ = py;
        Ok(())
    }

    /// Somebody else should go first: the loop gets a turn, then this is asked again. Asked before the
    /// first poll only.
    fn gives_way(&self) -> bool {
        false
    }

    /// Ready at the first poll, whoever drives it: needs no loop and gives it no turn.
    fn never_waits(&self) -> bool {
        false
    }

    /// The asyncio face of the handle that this acts on.
    fn face(&self) -> &Arc<Face>;

    /// Tries once and never waits. `Some` finishes the await; an error finishes it too. `None`: not
    /// ready, nothing taken, nothing published.
    ///
    /// It keeps the interpreter attached from its first to its last look at the object (encode
    /// before that), so that two threads cannot be in it at once.
    fn poll(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>>;

    /// Whether it waits its turn behind earlier ones of the same handle (messages), or is tried at
    /// every wake (`changed`, `attached`).
    fn queued(&self) -> bool {
        true
    }

    /// Shows every Python object it holds to the garbage collector. Must not touch them.
    fn visit(&self, each: &mut dyn FnMut(&Py<PyAny>)) {
        let _ = each;
    }
}

pub(super) enum State {
    /// Not started: nothing has been looked at.
    Fresh(Box<dyn Operation>),
    /// Yielded `future` (or a bare None) to the loop.
    Waiting { op: Box<dyn Operation>, ticket: Option<Ticket>, future: Option<Py<PyAny>> },
    /// A step is under way, in this thread.
    Running,
    /// Finished, failed, cancelled or closed.
    Done,
}

/// What a Python object of the type is in memory.
#[repr(C)]
pub(super) struct Object {
    base: ffi::PyObject,
    body: Await,
}

/// Our part of the object.
pub(super) struct Await {
    pub(super) name: &'static str,
    /// The collector has called `finalize`, which it does once in the life of this memory.
    pub(super) finalized: Cell<bool>,
    state: UnsafeCell<State>,
}

/// Our part of an object of the type; a place only, nothing is read.
pub(super) fn body(raw: *mut ffi::PyObject) -> *mut Await {
    raw.cast::<u8>().wrapping_add(mem::offset_of!(Object, body)).cast()
}

impl Await {
    /// Our part of the object that a slot was called with.
    ///
    /// # Safety
    ///
    /// `raw` is an instance of our type, alive for `'a`, and the interpreter is attached.
    pub(super) unsafe fn of<'a>(raw: *mut ffi::PyObject) -> &'a Await {
        // SAFETY: by contract; our type cannot be subclassed, so the layout is ours.
        unsafe { &*body(raw) }
    }

    fn replace(&self, state: State) -> State {
        // SAFETY: the interpreter is attached, so no other thread is here, and no reference into
        // the cell outlives this call or `peek`, neither of which runs foreign code.
        mem::replace(unsafe { &mut *self.state.get() }, state)
    }

    pub(super) fn peek<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        // SAFETY: as in `replace`; `look` only reads fields or shows them to the collector.
        look(unsafe { &*self.state.get() })
    }

    /// One step of the await; a panic in it ends the await.
    pub(super) fn step(&self, py: Python<'_>) -> PyResult<Step> {
        catch_unwind(AssertUnwindSafe(|| self.advance(py)))
            .unwrap_or_else(|payload| {
                self.replace(State::Done);
                Err(panic_error(payload))
            })
            .map_err(|err| no_result(py, err))
    }

    fn advance(&self, py: Python<'_>) -> PyResult<Step> {
        match self.replace(State::Running) {
            State::Fresh(mut op) => {
                if let Err(err) = op.start(py) {
                    self.replace(State::Done);
                    return Err(err);
                }
                if op.gives_way() {
                    self.replace(State::Waiting { op, ticket: None, future: None });
                    return Ok(Step::Turn);
                }
                if op.never_waits() || op.face().nobody_inside() {
                    match op.poll(py) {
                        Ok(Some(value)) => {
                            op.face().was_ready();
                            self.replace(State::Done);
                            return Ok(Step::Ready(value));
                        }
                        Ok(None) => return self.park(py, op, None),
                        Err(err) => {
                            self.replace(State::Done);
                            return Err(err);
                        }
                    }
                }
                self.enter(py, op)
            }
            State::Waiting { op, ticket: None, .. } if op.gives_way() => {
                self.replace(State::Waiting { op, ticket: None, future: None });
                Ok(Step::Turn)
            }
            State::Waiting { op, ticket: None, .. } => self.enter(py, op),
            State::Waiting { op, ticket, future } => {
                let done = match &future {
                    Some(future) => is_done(future.bind(py)),
                    None => Ok(true),
                };
                if !matches!(done, Ok(true)) {
                    // Somebody else drives us: what the first one waits for stays as it was.
                    self.replace(State::Waiting { op, ticket, future });
                    return done.and_then(|_| Err(self.misuse("is being awaited already")));
                }
                drop(future);
                self.park(py, op, ticket)
            }
            State::Running => Err(self.misuse("is being awaited already")),
            State::Done => {
                self.replace(State::Done);
                Err(self.misuse("was awaited already; call it again for another one"))
            }
        }
    }

    /// The long way to the first poll: somebody is inside, or it is time for a turn of the loop.
    fn enter(&self, py: Python<'_>, mut op: Box<dyn Operation>) -> PyResult<Step> {
        let face = Arc::clone(op.face());
        let outcome = match face.admit(py, self.name, op.queued()) {
            Ok(Admit::Poll) => op.poll(py),
            Ok(Admit::Queue) => Ok(None),
            Ok(Admit::Turn) => {
                self.replace(State::Waiting { op, ticket: None, future: None });
                return Ok(Step::Turn);
            }
            Err(err) => Err(err),
        };
        match outcome {
            Ok(None) => self.park(py, op, None),
            Ok(Some(value)) => {
                face.was_ready();
                self.replace(State::Done);
                Ok(Step::Ready(value))
            }
            Err(err) => {
                self.replace(State::Done);
                Err(err)
            }
        }
    }

    fn park(
        &self,
        py: Python<'_>,
        mut op: Box<dyn Operation>,
        mut ticket: Option<Ticket>,
    ) -> PyResult<Step> {
        let face = Arc::clone(op.face());
        // A panic inside the operation must not leave a waiter behind that nobody drives.
        let step = catch_unwind(AssertUnwindSafe(|| face.park(py, op.as_mut(), &mut ticket)))
            .unwrap_or_else(|payload| Err(panic_error(payload)));
        match &step {
            Ok(Step::Sleep(future)) => {
                let future = Some(future.clone_ref(py));
                self.replace(State::Waiting { op, ticket, future });
            }
            Ok(Step::Turn) => {
                self.replace(State::Waiting { op, ticket, future: None });
            }
            Ok(Step::Ready(_)) | Err(_) => {
                self.replace(State::Done);
                if let Some(ticket) = ticket {
                    face.quit(py, ticket);
                }
            }
        }
        step
    }

    /// Ends the await from outside: leaves the queue and hands a wake on. True if it never began.
    pub(super) fn abandon(&self, py: Python<'_>) -> bool {
        match self.replace(State::Done) {
            State::Waiting { op, ticket: Some(ticket), future } => {
                let face = Arc::clone(op.face());
                drop((op, future));
                face.quit(py, ticket);
                false
            }
            State::Running => {
                self.replace(State::Running);
                false
            }
            State::Fresh(_) => true,
            State::Waiting { .. } | State::Done => false,
        }
    }

    pub(super) fn is_fresh(&self) -> bool {
        self.peek(|state| matches!(state, State::Fresh(_)))
    }

    pub(super) fn is_done(&self) -> bool {
        self.peek(|state| matches!(state, State::Done))
    }

    pub(super) fn is_running(&self) -> bool {
        self.peek(|state| matches!(state, State::Running))
    }

    pub(super) fn misuse(&self, what: &str) -> PyErr {
        PyRuntimeError::new_err(format!("{}() {what}", self.name))
    }
}

/// A StopIteration that a callable raised would be taken for the result of the await (a task hangs for
/// ever then): as in a coroutine it becomes a RuntimeError (PEP 479).
fn no_result(py: Python<'_>, err: PyErr) -> PyErr {
    if !err.is_instance_of::<PyStopIteration>(py) {
        return err;
    }
    let told = PyRuntimeError::new_err("awaitable raised StopIteration");
    told.set_cause(py, Some(err));
    told
}

fn is_done(future: &Bound<'_, PyAny>) -> PyResult<bool> {
    future.call_method0(pyo3::intern!(future.py(), "done"))?.is_truthy()
}

static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// Makes the awaitable of one call of a verb. Nothing happens before it is awaited.
pub(crate) fn awaitable(py: Python<'_>, op: Box<dyn Operation>) -> PyResult<Py<PyAny>> {
    let class: *mut ffi::PyTypeObject =
        once::get_or_make(&TYPE, py, || make_type(py))?.as_ptr().cast();
    let spare = SPARE.take();
    let raw = if spare.is_null() {
        // SAFETY: a ready heap type of ours; the interpreter is attached.
        unsafe { ffi::PyType_GenericAlloc(class, 0) }
    } else {
        // SAFETY: memory of a dead object of this very type, not tracked by the collector.
        unsafe { ffi::PyObject_Init(spare, class) }
    };
    if raw.is_null() {
        return Err(PyErr::fetch(py));
    }
    let fresh = Await {
        name: op.name(),
        finalized: Cell::new(false),
        state: UnsafeCell::new(State::Fresh(op)),
    };
    // SAFETY: memory of `basicsize` = size_of::<Object>() bytes whose fields hold nothing to drop;
    // nothing that could look at them ran since.
    unsafe { body(raw).write(fresh) };
    if !spare.is_null() {
        // SAFETY: a complete object that is not tracked (PyType_GenericAlloc tracks by itself).
        unsafe { ffi::PyObject_GC_Track(raw.cast()) };
    }
    // SAFETY: a new reference that is ours to give.
    Ok(unsafe { Bound::from_owned_ptr(py, raw) }.unbind())
}

/// Memory of dead awaitables, to be used again: a stream makes one per message.
pub(super) struct Spare(UnsafeCell<Vec<*mut ffi::PyObject>>);

// SAFETY: touched with the interpreter attached only, and there is one lock for all of it (an abi3
// module does not load into a free-threaded interpreter). No reference leaves `keep` and `take`,
// and neither runs foreign code.
unsafe impl Sync for Spare {}

pub(super) static SPARE: Spare = Spare(UnsafeCell::new(Vec::new()));

impl Spare {
    const KEPT: usize = 32;

    fn take(&self) -> *mut ffi::PyObject {
        // SAFETY: see `Sync` above.
        unsafe { &mut *self.0.get() }.pop().unwrap_or(ptr::null_mut())
    }

    /// False: the list is full, free it.
    pub(super) fn keep(&self, dead: *mut ffi::PyObject) -> bool {
        // SAFETY: see `Sync` above.
        let spare = unsafe { &mut *self.0.get() };
        let room = spare.len() < Self::KEPT;
        if room {
            spare.push(dead);
        }
        room
    }
}

/// Makes the type, so that a problem shows when the module is imported.
pub(crate) fn register_awaitable(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let class = once::get_or_make(&TYPE, py, || make_type(py))?;
    module.add("Awaitable", class.clone_ref(py))
}

/// The exception that a panic becomes.
pub(super) fn panic_error(payload: Box<dyn Any + Send>) -> PyErr {
    let text = payload
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "panic in Rust code".to_owned());
    PanicException::new_err(text)
}
