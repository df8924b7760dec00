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
//! `unsafe`: the C slots of the type. The objects live in Python's heap; the other process never
//! sees them. Every slot runs with the interpreter attached and turns a panic into a Python
//! exception. The state is moved out of the object while anything else runs, so that a re-entrant
//! call meets [`State::Running`], never a second `&mut`.
#![allow(unsafe_code, reason = "C slots of a raw heap type; listed in CONTRIBUTING")]

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::ffi::{CStr, CString, c_int, c_void};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Arc;

use pyo3::exceptions::{
    PyBaseException, PyRuntimeError, PyRuntimeWarning, PyStopIteration, PyTypeError,
};
use pyo3::panic::PanicException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyTuple, PyType};
use pyo3_ffi as ffi;

use crate::python::asyncio::{Admit, Face, Step, Ticket};

/// One verb that may have to wait, with its arguments: `pop`, `push`, `reserve`, `changed`, ...
///
/// Dropping it must be harmless: nothing was taken, nothing published.
pub(crate) trait Operation: Send + 'static {
    /// Class and verb, for messages: "Consumer.pop".
    fn name(&self) -> &'static str;

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

enum State {
    /// Not started: nothing has been looked at.
    Fresh(Box<dyn Operation>),
    /// Yielded `future` (or a bare None) to the loop.
    Waiting { op: Box<dyn Operation>, ticket: Option<Ticket>, future: Option<Py<PyAny>> },
    /// A step is under way, in this thread.
    Running,
    /// Finished, failed, cancelled or closed.
    Done,
}

#[repr(C)]
struct Object {
    base: ffi::PyObject,
    name: &'static str,
    /// The collector has called `finalize`, which it does once in the life of this memory.
    finalized: Cell<bool>,
    state: UnsafeCell<State>,
}

impl Object {
    /// The object behind a pointer that a slot was called with.
    ///
    /// # Safety
    ///
    /// `raw` is an instance of our type, alive for `'a`, and the interpreter is attached.
    unsafe fn of<'a>(raw: *mut ffi::PyObject) -> &'a Object {
        // SAFETY: by contract; our type cannot be subclassed, so the layout is ours.
        unsafe { &*raw.cast::<Object>() }
    }

    fn replace(&self, state: State) -> State {
        // SAFETY: the interpreter is attached, so no other thread is here, and no reference into
        // the cell outlives this call or `peek`, neither of which runs foreign code.
        mem::replace(unsafe { &mut *self.state.get() }, state)
    }

    fn peek<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        // SAFETY: as in `replace`; `look` only reads fields or shows them to the collector.
        look(unsafe { &*self.state.get() })
    }

    /// One step of the await; a panic in it ends the await.
    fn step(&self, py: Python<'_>) -> PyResult<Step> {
        catch_unwind(AssertUnwindSafe(|| self.advance(py))).unwrap_or_else(|payload| {
            self.replace(State::Done);
            Err(panic_error(payload))
        })
    }

    fn advance(&self, py: Python<'_>) -> PyResult<Step> {
        match self.replace(State::Running) {
            State::Fresh(mut op) => {
                if op.face().nobody_inside() {
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
    fn abandon(&self, py: Python<'_>) -> bool {
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

    fn is_fresh(&self) -> bool {
        self.peek(|state| matches!(state, State::Fresh(_)))
    }

    fn is_done(&self) -> bool {
        self.peek(|state| matches!(state, State::Done))
    }

    fn is_running(&self) -> bool {
        self.peek(|state| matches!(state, State::Running))
    }

    fn misuse(&self, what: &str) -> PyErr {
        PyRuntimeError::new_err(format!("{}() {what}", self.name))
    }
}

fn is_done(future: &Bound<'_, PyAny>) -> PyResult<bool> {
    future.call_method0(pyo3::intern!(future.py(), "done"))?.is_truthy()
}

static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// Makes the awaitable of one call of a verb. Nothing happens before it is awaited.
pub(crate) fn awaitable(py: Python<'_>, op: Box<dyn Operation>) -> PyResult<Py<PyAny>> {
    let class: *mut ffi::PyTypeObject = TYPE.get_or_try_init(py, || make_type(py))?.as_ptr().cast();
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
    let object = raw.cast::<Object>();
    let name = op.name();
    // SAFETY: memory of `basicsize` = size_of::<Object>() bytes whose fields hold nothing to drop;
    // nothing that could look at them ran since.
    unsafe { ptr::addr_of_mut!((*object).name).write(name) };
    // SAFETY: as above.
    unsafe { ptr::addr_of_mut!((*object).finalized).write(Cell::new(false)) };
    // SAFETY: as above.
    unsafe { ptr::addr_of_mut!((*object).state).write(UnsafeCell::new(State::Fresh(op))) };
    if !spare.is_null() {
        // SAFETY: a complete object that is not tracked (PyType_GenericAlloc tracks by itself).
        unsafe { ffi::PyObject_GC_Track(raw.cast()) };
    }
    // SAFETY: a new reference that is ours to give.
    Ok(unsafe { Bound::from_owned_ptr(py, raw) }.unbind())
}

/// Memory of dead awaitables, to be used again: a stream makes one per message.
struct Spare(UnsafeCell<Vec<*mut ffi::PyObject>>);

// SAFETY: touched with the interpreter attached only, and there is one lock for all of it (an abi3
// module does not load into a free-threaded interpreter). No reference leaves `keep` and `take`,
// and neither runs foreign code.
unsafe impl Sync for Spare {}

static SPARE: Spare = Spare(UnsafeCell::new(Vec::new()));

impl Spare {
    const KEPT: usize = 32;

    fn take(&self) -> *mut ffi::PyObject {
        // SAFETY: see `Sync` above.
        unsafe { &mut *self.0.get() }.pop().unwrap_or(ptr::null_mut())
    }

    /// False: the list is full, free it.
    fn keep(&self, dead: *mut ffi::PyObject) -> bool {
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
    let class = TYPE.get_or_try_init(py, || make_type(py))?;
    module.add("Awaitable", class.clone_ref(py))
}

fn panic_error(payload: Box<dyn Any + Send>) -> PyErr {
    let text = payload
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "panic in Rust code".to_owned());
    PanicException::new_err(text)
}

/// Runs the body of a slot: attached, no panic gets out, an error becomes the current exception.
fn slot<R: Copy>(failed: R, body: impl FnOnce(Python<'_>) -> PyResult<R>) -> R {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        Python::try_attach(|py| {
            match catch_unwind(AssertUnwindSafe(|| body(py)))
                .unwrap_or_else(|payload| Err(panic_error(payload)))
            {
                Ok(value) => value,
                Err(err) => {
                    err.restore(py);
                    failed
                }
            }
        })
    }));
    // Not attachable: the interpreter is gone, nobody reads the answer.
    outcome.ok().flatten().unwrap_or(failed)
}

unsafe extern "C" fn am_send(
    raw: *mut ffi::PyObject,
    _value: *mut ffi::PyObject,
    result: *mut *mut ffi::PyObject,
) -> ffi::PySendResult {
    use ffi::PySendResult::{PYGEN_ERROR, PYGEN_NEXT, PYGEN_RETURN};
    let failed = (PYGEN_ERROR, ptr::null_mut());
    let (outcome, value) = slot(failed, |py| {
        // SAFETY: called by the interpreter with an instance of our type.
        Ok(match unsafe { Object::of(raw) }.step(py)? {
            Step::Ready(value) => (PYGEN_RETURN, value.into_ptr()),
            Step::Sleep(future) => (PYGEN_NEXT, future.into_ptr()),
            Step::Turn => (PYGEN_NEXT, py.None().into_ptr()),
        })
    });
    // SAFETY: the interpreter gives a place for the result.
    unsafe { *result = value };
    outcome
}

/// `next()`, by which `await` goes in CPython 3.12 and later. A NULL without an exception means
/// "returned None", the cheap way out for verbs without a result.
unsafe extern "C" fn iternext(raw: *mut ffi::PyObject) -> *mut ffi::PyObject {
    slot(ptr::null_mut(), |py| {
        // SAFETY: called by the interpreter with an instance of our type.
        match unsafe { Object::of(raw) }.step(py)? {
            Step::Ready(value) => {
                if !value.is_none(py) {
                    stop(py, value)?;
                }
                Ok(ptr::null_mut())
            }
            Step::Sleep(future) => Ok(future.into_ptr()),
            Step::Turn => Ok(py.None().into_ptr()),
        }
    })
}

/// The coroutine method: as `next()`, but a result of None raises too.
unsafe extern "C" fn send(
    raw: *mut ffi::PyObject,
    _value: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    slot(ptr::null_mut(), |py| {
        // SAFETY: called by the interpreter with an instance of our type.
        match unsafe { Object::of(raw) }.step(py)? {
            Step::Ready(value) => {
                stop(py, value)?;
                Ok(ptr::null_mut())
            }
            Step::Sleep(future) => Ok(future.into_ptr()),
            Step::Turn => Ok(py.None().into_ptr()),
        }
    })
}

/// Sets StopIteration with a result. A tuple would become its arguments, an exception itself: those
/// two go in by a call.
fn stop(py: Python<'_>, value: Py<PyAny>) -> PyResult<()> {
    let value = value.into_bound(py);
    let result = if value.is_instance_of::<PyTuple>() || value.is_instance_of::<PyBaseException>() {
        py.get_type::<PyStopIteration>().call1((value,))?
    } else {
        value
    };
    // SAFETY: a static of the interpreter, set before any module loads.
    let class = unsafe { ffi::PyExc_StopIteration };
    // SAFETY: two live objects; the call takes its own references.
    unsafe { ffi::PyErr_SetObject(class, result.as_ptr()) };
    Ok(())
}

unsafe extern "C" fn iter(raw: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: a live object; the result is a new reference to it.
    unsafe { ffi::Py_NewRef(raw) }
}

unsafe extern "C" fn am_await(raw: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter with an instance of our type.
    let object = unsafe { Object::of(raw) };
    if object.is_fresh() {
        // SAFETY: as in `iter`. No `slot`: nothing here can panic or touch another object.
        return unsafe { ffi::Py_NewRef(raw) };
    }
    slot(ptr::null_mut(), |_py| {
        Err(object.misuse("was awaited already; call it again for another one"))
    })
}

unsafe extern "C" fn throw(
    raw: *mut ffi::PyObject,
    args: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    slot(ptr::null_mut(), |py| {
        // SAFETY: called by the interpreter with an instance of our type.
        let object = unsafe { Object::of(raw) };
        // SAFETY: METH_VARARGS gives a tuple that lives for this call.
        let args = unsafe { Bound::from_borrowed_ptr(py, args) };
        let err = thrown(args.cast::<PyTuple>()?)?;
        if object.is_running() {
            return Err(object.misuse("is being awaited already"));
        }
        object.abandon(py);
        Err(err)
    })
}

/// The exception of `throw(exception)` or of the older `throw(type, value, traceback)`.
fn thrown(args: &Bound<'_, PyTuple>) -> PyResult<PyErr> {
    let first = args.get_item(0).map_err(|_| {
        PyTypeError::new_err("throw() takes an exception, or its type, value and traceback")
    })?;
    let given = args.get_item(1).ok().filter(|value| !value.is_none());
    let err = match (first.cast::<PyType>(), given) {
        (Ok(_), Some(value)) if value.is_instance(&first)? => PyErr::from_value(value),
        (Ok(class), Some(value)) => PyErr::from_value(class.call1((value,))?),
        (Ok(class), None) => PyErr::from_value(class.call0()?),
        (Err(_), _) => PyErr::from_value(first),
    };
    if let Some(traceback) = args.get_item(2).ok().filter(|traceback| !traceback.is_none()) {
        err.set_traceback(args.py(), Some(traceback.cast_into()?));
    }
    Ok(err)
}

unsafe extern "C" fn close(
    raw: *mut ffi::PyObject,
    _none: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    slot(ptr::null_mut(), |py| {
        // SAFETY: called by the interpreter with an instance of our type.
        let object = unsafe { Object::of(raw) };
        if object.is_running() {
            return Err(object.misuse("is being awaited already"));
        }
        object.abandon(py);
        Ok(py.None().into_ptr())
    })
}

unsafe extern "C" fn name(raw: *mut ffi::PyObject, _closure: *mut c_void) -> *mut ffi::PyObject {
    slot(ptr::null_mut(), |py| {
        // SAFETY: called by the interpreter with an instance of our type.
        Ok(PyString::new(py, unsafe { Object::of(raw) }.name).into_ptr())
    })
}

unsafe extern "C" fn repr(raw: *mut ffi::PyObject) -> *mut ffi::PyObject {
    slot(ptr::null_mut(), |py| {
        // SAFETY: called by the interpreter with an instance of our type.
        let object = unsafe { Object::of(raw) };
        let state = object.peek(|state| match state {
            State::Fresh(_) => "not awaited yet",
            State::Waiting { .. } => "waiting",
            State::Running => "running",
            State::Done => "finished",
        });
        Ok(PyString::new(py, &format!("<awaitable {}(), {state}>", object.name)).into_ptr())
    })
}

/// Leaves the queue and warns about a verb that was called and never awaited.
fn finish(py: Python<'_>, object: &Object) {
    if !object.abandon(py) {
        return;
    }
    let text = CString::new(format!("{}() was never awaited", object.name)).unwrap_or_default();
    if let Err(err) = PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), &text, 1) {
        err.write_unraisable(py, None);
    }
}

unsafe extern "C" fn finalize(raw: *mut ffi::PyObject) {
    // SAFETY: called by the interpreter, or by `dealloc`, with an instance of our type.
    let object = unsafe { Object::of(raw) };
    object.finalized.set(true);
    if object.is_done() {
        return;
    }
    let mut pending = [ptr::null_mut(); 3];
    let [class, value, traceback] = &mut pending;
    // A finalizer runs between two other statements: their exception stays.
    // SAFETY: three places for three owned references.
    unsafe { ffi::PyErr_Fetch(class, value, traceback) };
    slot((), |py| {
        finish(py, object);
        Ok(())
    });
    let [class, value, traceback] = pending;
    // SAFETY: gives the three references back.
    unsafe { ffi::PyErr_Restore(class, value, traceback) };
}

unsafe extern "C" fn dealloc(raw: *mut ffi::PyObject) {
    // SAFETY: tracked since PyType_GenericAlloc; nothing may traverse a dying object.
    unsafe { ffi::PyObject_GC_UnTrack(raw.cast()) };
    // SAFETY: our type; no reference to the object is left, and `finish` gives none out.
    let object = unsafe { Object::of(raw) };
    let finalized = object.finalized.get();
    if !object.is_done() {
        // SAFETY: as above.
        unsafe { finalize(raw) };
    }
    // SAFETY: every object has a type, which `raw` holds a reference to until below.
    let class = unsafe { ffi::Py_TYPE(raw) };
    // SAFETY: nobody looks at the object any more; `finalize` left `State::Done`, or the
    // interpreter is gone and what is dropped here only queues its references.
    let _ = catch_unwind(AssertUnwindSafe(|| unsafe {
        ptr::drop_in_place(ptr::addr_of_mut!((*raw.cast::<Object>()).state));
    }));
    if finalized || !SPARE.keep(raw) {
        // SAFETY: a heap type that inherits tp_free from object.
        let free = unsafe { ffi::PyType_GetSlot(class, ffi::Py_tp_free) };
        // SAFETY: the slot has this type by the C API.
        let free: ffi::freefunc = unsafe { mem::transmute(free) };
        // SAFETY: the memory came from the type's allocator.
        unsafe { free(raw.cast()) };
    }
    // SAFETY: instances of a heap type hold a reference to it.
    unsafe { ffi::Py_DECREF(class.cast()) };
}

unsafe extern "C" fn traverse(
    raw: *mut ffi::PyObject,
    visit: ffi::visitproc,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: every object has a type; from 3.9 on it is visited too.
    let found = unsafe { visit(ffi::Py_TYPE(raw).cast(), arg) };
    if found != 0 {
        return found;
    }
    let mut found = 0;
    let mut each = |object: &Py<PyAny>| {
        if found == 0 {
            // SAFETY: a reference that we own; the collector does not change it.
            found = unsafe { visit(object.as_ptr(), arg) };
        }
    };
    let looked = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: our type; the collector runs with the interpreter attached and nothing of ours
        // holds the state, because a step moves it out first.
        unsafe { Object::of(raw) }.peek(|state| match state {
            State::Fresh(op) => op.visit(&mut each),
            State::Waiting { op, future, .. } => {
                op.visit(&mut each);
                if let Some(future) = future {
                    each(future);
                }
            }
            State::Running | State::Done => {}
        });
    }));
    if looked.is_ok() { found } else { 0 }
}

unsafe extern "C" fn clear(raw: *mut ffi::PyObject) -> c_int {
    slot(0, |py| {
        // SAFETY: called by the interpreter with an instance of our type.
        unsafe { Object::of(raw) }.abandon(py);
        Ok(0)
    })
}

const DOC: &CStr =
    c"One call of a verb that may have to wait. Await it once, or give it to create_task.";

/// Method and attribute tables, in memory that lives as long as the type: for ever.
fn tables() -> (*mut ffi::PyMethodDef, *mut ffi::PyGetSetDef) {
    let method = |name: &'static CStr, meth, flags, doc: &'static CStr| ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: meth,
        ml_flags: flags,
        ml_doc: doc.as_ptr(),
    };
    let call = |function| ffi::PyMethodDefPointer { PyCFunction: function };
    let methods = Box::leak(Box::new([
        method(c"send", call(send), ffi::METH_O, c"One step, as of a coroutine."),
        method(c"throw", call(throw), ffi::METH_VARARGS, c"Ends the wait with an exception."),
        method(c"close", call(close), ffi::METH_NOARGS, c"Ends the wait; nothing was taken."),
        ffi::PyMethodDef::zeroed(),
    ]));
    let attribute = |attribute: &'static CStr| ffi::PyGetSetDef {
        name: attribute.as_ptr(),
        get: Some(name),
        set: None,
        doc: c"Class and verb.".as_ptr(),
        closure: ptr::null_mut(),
    };
    let attributes = Box::leak(Box::new([
        attribute(c"__name__"),
        attribute(c"__qualname__"),
        ffi::PyGetSetDef { name: ptr::null(), ..Default::default() },
    ]));
    (methods.as_mut_ptr(), attributes.as_mut_ptr())
}

fn make_type(py: Python<'_>) -> PyResult<Py<PyType>> {
    let (methods, attributes) = tables();
    let slot = |slot, pfunc| ffi::PyType_Slot { slot, pfunc };
    let mut slots = [
        slot(ffi::Py_am_await, am_await as *mut c_void),
        slot(ffi::Py_am_send, am_send as *mut c_void),
        slot(ffi::Py_tp_iter, iter as *mut c_void),
        slot(ffi::Py_tp_iternext, iternext as *mut c_void),
        slot(ffi::Py_tp_repr, repr as *mut c_void),
        slot(ffi::Py_tp_methods, methods.cast()),
        slot(ffi::Py_tp_getset, attributes.cast()),
        slot(ffi::Py_tp_finalize, finalize as *mut c_void),
        slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
        slot(ffi::Py_tp_traverse, traverse as *mut c_void),
        slot(ffi::Py_tp_clear, clear as *mut c_void),
        slot(ffi::Py_tp_doc, DOC.as_ptr().cast_mut().cast()),
        slot(0, ptr::null_mut()),
    ];
    let flags = ffi::Py_TPFLAGS_DEFAULT
        | ffi::Py_TPFLAGS_HAVE_GC
        | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION
        | ffi::Py_TPFLAGS_IMMUTABLETYPE;
    let mut spec = ffi::PyType_Spec {
        name: c"ringspan.Awaitable".as_ptr(),
        basicsize: c_int::try_from(mem::size_of::<Object>()).unwrap_or(c_int::MAX),
        itemsize: 0,
        #[allow(clippy::cast_possible_truncation, reason = "bits 0 to 19")]
        flags: flags as u32,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the spec is complete and ends with an empty slot; what it points to for longer than
    // this call (methods, attributes, name, doc) is never freed.
    let class = unsafe { ffi::PyType_FromSpec(&mut spec) };
    // SAFETY: a new reference or null with an exception set.
    let class = unsafe { Bound::from_owned_ptr_or_err(py, class) }?;
    Ok(class.cast_into::<PyType>()?.unbind())
}
