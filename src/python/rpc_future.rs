//! What a call returns in Python: a future that its event loop's channel resolves.
//!
//! It is one by asyncio's own protocol (`_asyncio_future_blocking`, `add_done_callback`), so `await`,
//! `gather`, `wait_for` and `shield` take it as they take a Future; it has `send`, `throw` and `close` too, so
//! that `create_task` and TaskGroups take it (and `asyncio.wait` does not: it refuses whatever could be a
//! coroutine). Unlike a Future of asyncio it knows when it is cancelled or
//! dropped, which costs that one a callback for every call: then the server is told.

use pyo3::exceptions::{PyRuntimeError, PyStopIteration, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyDict, PyTuple, PyType};
use std::sync::Arc;

use super::asyncio_loop::runs_here;
use super::once;
use super::rpc_channel::Channel;
use super::rpc_stream::Items;
use crate::sync::{Mutex, lock};

/// How it ended.
enum Ended {
    Value(Py<PyAny>),
    Failed(PyErr),
    Cancelled(Option<Py<PyAny>>),
}

struct Slot {
    blocking: bool,
    ended: Option<Ended>,
    callbacks: Vec<Callback>,
}

/// Callback, context, and the object that it is called with.
type Callback = (Py<PyAny>, Option<Py<PyAny>>, Py<PyCall>);

/// What stands behind it.
enum Of {
    /// A call; without an id what is over already.
    Channel(Arc<Channel>, Option<u64>),
    /// The next item of a stream; it keeps the stream.
    Item(Arc<Channel>, #[allow(dead_code, reason = "kept")] Arc<Items>),
    /// A task that connects first.
    Task { name: String, event_loop: Py<PyAny>, task: Py<PyAny> },
}

/// The part that the channel knows.
pub(crate) struct Pending {
    of: Of,
    slot: Mutex<Slot>,
}

impl Pending {
    pub(crate) fn new(channel: Arc<Channel>, id: Option<u64>) -> Arc<Pending> {
        Self::with(Of::Channel(channel, id))
    }

    fn with(of: Of) -> Arc<Pending> {
        let slot = Slot { blocking: false, ended: None, callbacks: Vec::new() };
        Arc::new(Pending { of, slot: Mutex::new(slot) })
    }

    /// The next item of a stream.
    pub(crate) fn item(channel: Arc<Channel>, items: Arc<Items>) -> Arc<Pending> {
        Self::with(Of::Item(channel, items))
    }

    fn object(&self) -> &str {
        match &self.of {
            Of::Channel(channel, _) | Of::Item(channel, _) => channel.conn.object(),
            Of::Task { name, .. } => name,
        }
    }

    /// The task that connects is over, and the call with it.
    fn settled(&self, task: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = task.py();
        let is_cancelled = task.call_method0(intern!(py, "cancelled"));
        let ended = if is_cancelled.and_then(|is| is.is_truthy()).unwrap_or(false) {
            Ended::Cancelled(None)
        } else {
            match task.call_method0(intern!(py, "result")) {
                Ok(value) => Ended::Value(value.unbind()),
                Err(err) => Ended::Failed(err),
            }
        };
        self.resume(py, ended)
    }

    /// Somebody may still want the result.
    pub(crate) fn is_open(&self) -> bool {
        lock(&self.slot).ended.is_none()
    }

    /// The result is there; called by a callback of the loop, in which nothing else runs. So whoever waits
    /// is resumed here and now: that saves a handle, its place in the loop's queue and a turn of the loop.
    /// What a callback raises that asyncio does not keep (KeyboardInterrupt, SystemExit) comes out.
    pub(crate) fn resolve(&self, py: Python<'_>, result: PyResult<Py<PyAny>>) -> PyResult<()> {
        let ended = match result {
            Ok(value) => Ended::Value(value),
            Err(err) => Ended::Failed(err),
        };
        self.resume(py, ended)
    }

    fn resume(&self, py: Python<'_>, ended: Ended) -> PyResult<()> {
        let mut raised = Ok(());
        for (callback, context, of) in self.end(ended).unwrap_or_default() {
            let called = match context {
                Some(context) => context.call_method1(py, intern!(py, "run"), (callback, of)),
                None => callback.call1(py, (of,)),
            };
            raised = raised.and(called.map(drop)); // the others are called all the same
        }
        raised
    }

    /// `None`: it had ended before.
    fn end(&self, ended: Ended) -> Option<Vec<Callback>> {
        let mut slot = lock(&self.slot);
        if slot.ended.is_some() {
            return None;
        }
        slot.ended = Some(ended);
        Some(std::mem::take(&mut slot.callbacks))
    }

    fn call_soon(
        &self,
        py: Python<'_>,
        callback: &Py<PyAny>,
        context: Option<&Py<PyAny>>,
        of: &Py<PyCall>,
    ) {
        let options = context.map(|context| {
            let options = PyDict::new(py);
            options.set_item(intern!(py, "context"), context).map(|()| options)
        });
        let args = (callback, of);
        let called = options.transpose().and_then(|options| match &self.of {
            Of::Channel(channel, _) | Of::Item(channel, _) => {
                channel.call_soon(py).call(args, options.as_ref())
            }
            Of::Task { event_loop, .. } => {
                event_loop.bind(py).call_method(intern!(py, "call_soon"), args, options.as_ref())
            }
        });
        if let Err(err) = called {
            err.write_unraisable(py, None); // the loop is closed
        }
    }

    /// The end, told in the loop's next turn: by code that may run inside a task.
    fn end_soon(&self, py: Python<'_>, ended: Ended) -> bool {
        let Some(callbacks) = self.end(ended) else { return false };
        for (callback, context, of) in callbacks {
            self.call_soon(py, &callback, context.as_ref(), &of);
        }
        true
    }

    /// A failure, told in the loop's next turn.
    pub(crate) fn fail_soon(&self, py: Python<'_>, err: PyErr) {
        self.end_soon(py, Ended::Failed(err));
    }

    fn cancel(&self, py: Python<'_>, message: Option<Py<PyAny>>) -> bool {
        if !self.end_soon(py, Ended::Cancelled(message)) {
            return false;
        }
        match &self.of {
            Of::Channel(channel, Some(id)) => channel.give_up(py, *id),
            Of::Channel(_, None) | Of::Item(..) => {}
            Of::Task { task, .. } => {
                // Fails where the loop is closed.
                let _ = task.call_method0(py, intern!(py, "cancel"));
            }
        }
        true
    }

    fn result(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match &lock(&self.slot).ended {
            None => Ok(None),
            Some(Ended::Value(value)) => Ok(Some(value.clone_ref(py))),
            Some(Ended::Failed(err)) => Err(err.clone_ref(py)),
            Some(Ended::Cancelled(message)) => Err(cancelled(py, message.as_ref())),
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if lock(&self.slot).ended.is_some() {
            return;
        }
        match &self.of {
            Of::Channel(channel, Some(id)) => channel.forget(*id),
            Of::Channel(_, None) | Of::Item(..) => {}
            Of::Task { event_loop, task, .. } => {
                let _ = Python::try_attach(|py| {
                    let event_loop = event_loop.bind(py);
                    let cancel = task.getattr(py, intern!(py, "cancel"))?;
                    match runs_here(event_loop) {
                        true => cancel.call0(py).map(drop),
                        // Fails where the loop is closed.
                        false => event_loop
                            .call_method1(intern!(py, "call_soon_threadsafe"), (cancel,))
                            .map(drop),
                    }
                });
            }
        }
    }
}

static CANCELLED: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static INVALID_STATE: PyOnceLock<Py<PyType>> = PyOnceLock::new();

fn class<'py>(
    py: Python<'py>,
    place: &'static PyOnceLock<Py<PyType>>,
    name: &str,
) -> PyResult<&'py Bound<'py, PyType>> {
    let found = once::get_or_make(place, py, || {
        let class = py.import("asyncio.exceptions")?.getattr(name)?;
        Ok::<_, PyErr>(class.cast_into::<PyType>()?.unbind())
    })?;
    Ok(found.bind(py))
}

fn cancelled(py: Python<'_>, message: Option<&Py<PyAny>>) -> PyErr {
    let made = class(py, &CANCELLED, "CancelledError").and_then(|class| match message {
        Some(message) => class.call1((message,)),
        None => class.call0(),
    });
    made.map_or_else(|err| err, PyErr::from_value)
}

fn not_done(py: Python<'_>) -> PyErr {
    let made = class(py, &INVALID_STATE, "InvalidStateError")
        .and_then(|class| class.call1(("the call is not over yet",)));
    made.map_or_else(|err| err, PyErr::from_value)
}

/// A call that is under way.
#[pyclass(frozen, weakref, name = "Call", module = "ringspan")]
pub(crate) struct PyCall {
    pub(crate) pending: Arc<Pending>,
}

impl PyCall {
    /// One that is over already.
    pub(crate) fn ready(channel: Arc<Channel>, value: PyResult<Py<PyAny>>) -> PyCall {
        let pending = Pending::new(channel, None);
        let ended = match value {
            Ok(value) => Ended::Value(value),
            Err(err) => Ended::Failed(err),
        };
        lock(&pending.slot).ended = Some(ended);
        PyCall { pending }
    }

    /// A call that a task makes, once it has connected.
    pub(crate) fn late(
        event_loop: &Bound<'_, PyAny>,
        name: &str,
        task: Bound<'_, PyAny>,
    ) -> PyResult<PyCall> {
        let py = task.py();
        let of = Of::Task {
            name: format!("function /{}", name.trim_start_matches('/')),
            event_loop: event_loop.clone().unbind(),
            task: task.clone().unbind(),
        };
        let pending = Pending::with(of);
        let weak = Arc::downgrade(&pending);
        let settle = PyCFunction::new_closure(py, None, None, move |args, _| -> PyResult<()> {
            let task = args.get_item(0)?;
            match weak.upgrade() {
                Some(pending) => pending.settled(&task),
                None => {
                    // Nobody waits; taken, so that asyncio does not complain.
                    let _ = task.call_method0(intern!(args.py(), "exception"));
                    Ok(())
                }
            }
        })?;
        task.call_method1(intern!(py, "add_done_callback"), (settle,))?;
        Ok(PyCall { pending })
    }

    /// One step of an await: the result by StopIteration, or the future to sleep on.
    fn step(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        if let Some(value) = slf.get().pending.result(py)? {
            return Err(PyStopIteration::new_err((value,)));
        }
        let mut slot = lock(&slf.get().pending.slot);
        if slot.blocking {
            let text = "a call that is awaited already was resumed before it was over";
            return Err(PyRuntimeError::new_err(text));
        }
        slot.blocking = true;
        drop(slot);
        Ok(slf.clone().into_any().unbind())
    }
}

#[pymethods]
impl PyCall {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Self::step(slf)
    }

    fn send(slf: &Bound<'_, Self>, _value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        Self::step(slf)
    }

    /// Raises the exception here, and gives the call up.
    #[pyo3(signature = (exception, value = None, traceback = None, /))]
    fn throw(
        &self,
        exception: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = exception.py();
        self.pending.cancel(py, None);
        let _ = traceback;
        Err(match (exception.cast::<PyType>(), value) {
            (Ok(_), Some(value)) if value.is_instance(exception)? => {
                PyErr::from_value(value.clone())
            }
            (Ok(class), Some(value)) if !value.is_none() => {
                PyErr::from_value(class.call1((value,))?)
            }
            (Ok(class), _) => PyErr::from_value(class.call0()?),
            (Err(_), _) => PyErr::from_value(exception.clone()),
        })
    }

    /// Gives the call up.
    fn close(&self, py: Python<'_>) {
        self.pending.cancel(py, None);
    }

    #[getter(_asyncio_future_blocking)]
    fn blocking(&self) -> bool {
        lock(&self.pending.slot).blocking
    }

    #[setter(_asyncio_future_blocking)]
    fn set_blocking(&self, blocking: bool) {
        lock(&self.pending.slot).blocking = blocking;
    }

    /// The event loop that resolves it.
    fn get_loop(&self, py: Python<'_>) -> Py<PyAny> {
        match &self.pending.of {
            Of::Channel(channel, _) | Of::Item(channel, _) => channel.event_loop(py),
            Of::Task { event_loop, .. } => event_loop.clone_ref(py),
        }
    }

    /// Calls `callback(call)` from the loop once it is over.
    #[pyo3(signature = (callback, *, context = None))]
    fn add_done_callback(slf: &Bound<'_, Self>, callback: Py<PyAny>, context: Option<Py<PyAny>>) {
        let (py, this) = (slf.py(), slf.clone().unbind());
        let pending = &slf.get().pending;
        let mut slot = lock(&pending.slot);
        if slot.ended.is_none() {
            slot.callbacks.push((callback, context, this));
            return;
        }
        drop(slot);
        pending.call_soon(py, &callback, context.as_ref(), &this);
    }

    /// Forgets a callback; how many times it stood there.
    fn remove_done_callback(&self, callback: &Bound<'_, PyAny>) -> PyResult<usize> {
        let py = callback.py();
        let all = std::mem::take(&mut lock(&self.pending.slot).callbacks);
        let before = all.len();
        let mut kept = Vec::with_capacity(before);
        for one in all {
            if !one.0.bind(py).eq(callback)? {
                kept.push(one);
            }
        }
        let removed = before - kept.len();
        lock(&self.pending.slot).callbacks.splice(0..0, kept);
        Ok(removed)
    }

    /// Gives the call up, also at the server. False: it was over.
    #[pyo3(signature = (msg = None))]
    fn cancel(&self, py: Python<'_>, msg: Option<Py<PyAny>>) -> bool {
        self.pending.cancel(py, msg)
    }

    /// As the next one.
    #[getter]
    fn _cancel_message(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match &lock(&self.pending.slot).ended {
            Some(Ended::Cancelled(message)) => {
                message.as_ref().map(|message| message.clone_ref(py))
            }
            _ => None,
        }
    }

    /// What `gather` asks of a future that was cancelled.
    fn _make_cancelled_error(&self, py: Python<'_>) -> Py<PyAny> {
        let err = match &lock(&self.pending.slot).ended {
            Some(Ended::Cancelled(message)) => cancelled(py, message.as_ref()),
            _ => cancelled(py, None),
        };
        err.into_value(py).into_any()
    }

    /// Whether it was given up.
    fn cancelled(&self) -> bool {
        matches!(lock(&self.pending.slot).ended, Some(Ended::Cancelled(_)))
    }

    /// Whether it is over, one way or another.
    fn done(&self) -> bool {
        !self.pending.is_open()
    }

    /// The result; raises what the call raised, InvalidStateError before it is over.
    fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.pending.result(py)?.ok_or_else(|| not_done(py))
    }

    /// The exception, or None; raises CancelledError, and InvalidStateError before it is over.
    fn exception(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match &lock(&self.pending.slot).ended {
            None => Err(not_done(py)),
            Some(Ended::Value(_)) => Ok(None),
            Some(Ended::Failed(err)) => Ok(Some(err.clone_ref(py).into_value(py).into_any())),
            Some(Ended::Cancelled(message)) => Err(cancelled(py, message.as_ref())),
        }
    }

    #[classmethod]
    fn __class_getitem__(class: Py<PyType>, _item: &Bound<'_, PyAny>) -> Py<PyType> {
        class
    }

    fn __repr__(&self) -> String {
        let state = match lock(&self.pending.slot).ended {
            None => "under way",
            Some(Ended::Value(_)) => "answered",
            Some(Ended::Failed(_)) => "failed",
            Some(Ended::Cancelled(_)) => "cancelled",
        };
        format!("<Call of {}, {state}>", self.pending.object())
    }

    fn __reduce__(&self) -> PyResult<Py<PyTuple>> {
        Err(PyTypeError::new_err("a call under way cannot be pickled; pickle the client"))
    }
}
