//! The C slots of the awaitable's type: what the interpreter calls. The state machine behind them
//! is in `awaitable.rs`.
//!
//! `unsafe`: the C API. Every slot is called with an instance of the type and the interpreter
//! attached, and turns a panic into a Python exception; the other process sees none of it.
#![allow(unsafe_code, reason = "C slots of a raw heap type")]

use std::ffi::{CStr, CString, c_int, c_void};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use pyo3::exceptions::{PyBaseException, PyRuntimeWarning, PyStopIteration, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyString, PyTuple, PyType};
use pyo3_ffi as ffi;

use crate::python::asyncio::Step;
use crate::python::awaitable::{Await, Object, SPARE, State, body, panic_error};
use crate::python::once;

/// Runs the body of a slot: attached, no panic gets out, an error becomes the current exception.
fn slot<R: Copy>(failed: R, body: impl FnOnce(Python<'_>) -> PyResult<R>) -> R {
    let mut body = Some(body);
    let mut run = |py: Python<'_>| {
        let body = body.take()?;
        match catch_unwind(AssertUnwindSafe(|| body(py)))
            .unwrap_or_else(|payload| Err(panic_error(payload)))
        {
            Ok(value) => Some(value),
            Err(err) => {
                err.restore(py);
                None
            }
        }
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| match Python::try_attach(&mut run) {
        Some(done) => done,
        None => {
            // PyO3 attaches nobody while the interpreter shuts down, but `__del__` runs there still.
            // SAFETY: the interpreter calls slots with this thread attached, then too.
            let py = unsafe { Python::assume_attached() };
            let done = run(py);
            release_dropped(py);
            done
        }
    }));
    outcome.ok().flatten().unwrap_or(failed)
}

/// Lets go of the references that were dropped where PyO3 did not know this thread as attached: it
/// does so at the start of every function of its own.
#[cold]
fn release_dropped(py: Python<'_>) {
    static NOTHING: PyOnceLock<Py<PyCFunction>> = PyOnceLock::new();
    let make = || PyCFunction::new_closure(py, None, None, |_, _| ()).map(Bound::unbind);
    let Ok(nothing) = once::get_or_make(&NOTHING, py, make) else { return };
    let mut pending = [ptr::null_mut(); 3];
    let [class, value, traceback] = &mut pending;
    // What the slot raised stays.
    // SAFETY: three places for three owned references.
    unsafe { ffi::PyErr_Fetch(class, value, traceback) };
    let _ = nothing.call0(py);
    let [class, value, traceback] = pending;
    // SAFETY: gives the three references back.
    unsafe { ffi::PyErr_Restore(class, value, traceback) };
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
        Ok(match unsafe { Await::of(raw) }.step(py)? {
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
        match unsafe { Await::of(raw) }.step(py)? {
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
        match unsafe { Await::of(raw) }.step(py)? {
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
    let object = unsafe { Await::of(raw) };
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
        let object = unsafe { Await::of(raw) };
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
        let object = unsafe { Await::of(raw) };
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
        Ok(PyString::new(py, unsafe { Await::of(raw) }.name).into_ptr())
    })
}

unsafe extern "C" fn repr(raw: *mut ffi::PyObject) -> *mut ffi::PyObject {
    slot(ptr::null_mut(), |py| {
        // SAFETY: called by the interpreter with an instance of our type.
        let object = unsafe { Await::of(raw) };
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
fn finish(py: Python<'_>, object: &Await) {
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
    let object = unsafe { Await::of(raw) };
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
    let object = unsafe { Await::of(raw) };
    let finalized = object.finalized.get();
    if !object.is_done() {
        // SAFETY: as above.
        unsafe { finalize(raw) };
    }
    // SAFETY: every object has a type, which `raw` holds a reference to until below.
    let class = unsafe { ffi::Py_TYPE(raw) };
    // SAFETY: nobody looks at the object any more; `finalize` left `State::Done`, or the
    // interpreter is gone and what is dropped here only queues its references.
    let _ = catch_unwind(AssertUnwindSafe(|| unsafe { ptr::drop_in_place(body(raw)) }));
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
    // SAFETY: every object has a type.
    let class = unsafe { ffi::Py_TYPE(raw) };
    // SAFETY: from 3.9 on the type is visited too.
    let found = unsafe { visit(class.cast(), arg) };
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
        unsafe { Await::of(raw) }.peek(|state| match state {
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
        unsafe { Await::of(raw) }.abandon(py);
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

/// Makes the type, once per process.
pub(super) fn make_type(py: Python<'_>) -> PyResult<Py<PyType>> {
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
