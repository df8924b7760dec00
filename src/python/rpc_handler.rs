//! What handlers see and leave behind: their context, the way out for items, the end of a task.

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Instant;

use super::asyncio_loop::resolve;
use super::rpc_codec::write_value;
use super::rpc_starter::{Failure, done, write_result};
use crate::rpc::Context;
use crate::rpc::error::Reason;
use crate::rpc::server::peer::{Done, Peer, Running};
use crate::sync::{Mutex, lock};

/// What a handler can know of its call: annotate a parameter with `ringspan.Context`.
#[pyclass(frozen, name = "Context", module = "ringspan")]
pub(crate) struct PyContext {
    context: Context,
}

impl PyContext {
    pub(super) fn new(peer: &Arc<Peer>, id: u64, deadline: Option<Instant>) -> PyContext {
        PyContext { context: Context::new(peer, id, deadline) }
    }
}

#[pymethods]
impl PyContext {
    /// Seconds until the caller gives up; None if it does not.
    #[getter]
    fn remaining(&self) -> Option<f64> {
        self.context.remaining().map(|left| left.as_secs_f64())
    }

    /// The process that calls; 0 where our pid namespace cannot see it.
    #[getter]
    fn caller_pid(&self) -> u32 {
        self.context.caller().pid
    }

    /// Its user: that of the server, or root.
    #[getter]
    fn caller_uid(&self) -> u32 {
        self.context.caller().uid
    }

    /// Nobody waits for the answer any more. Tasks are cancelled then; this is for threads.
    #[getter]
    fn cancelled(&self) -> bool {
        self.context.is_cancelled()
    }

    fn __repr__(&self) -> String {
        format!("<Context of a call by pid {}>", self.context.caller().pid)
    }
}

/// Sends the items of a stream.
#[pyclass(frozen, name = "_Sender", module = "ringspan")]
pub(crate) struct PySender {
    peer: Arc<Peer>,
    id: u64,
    exact: bool,
    event_loop: Py<PyAny>,
}

impl PySender {
    pub(super) fn new(peer: &Arc<Peer>, id: u64, exact: bool, event_loop: Py<PyAny>) -> PySender {
        PySender { peer: Arc::clone(peer), id, exact, event_loop }
    }
}

#[pymethods]
impl PySender {
    /// None: the client takes another item. Else a future to await, then ask again.
    fn room(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        if self.peer.poll_may_send(self.id, Waker::noop()) {
            return Ok(None);
        }
        let future = self.event_loop.call_method0(py, intern!(py, "create_future"))?;
        let wake =
            Resolve { event_loop: self.event_loop.clone_ref(py), future: future.clone_ref(py) };
        if self.peer.poll_may_send(self.id, &Waker::from(Arc::new(wake))) {
            return Ok(None);
        }
        Ok(Some(future))
    }

    /// Sends one item, after `room` said that it may go.
    fn __call__(&self, item: &Bound<'_, PyAny>) -> PyResult<()> {
        let body = item_body(&self.peer, item, self.exact)?;
        self.peer.item(self.id, false, body);
        Ok(())
    }
}

/// An item as it goes over the wire.
pub(super) fn item_body(peer: &Peer, item: &Bound<'_, PyAny>, exact: bool) -> PyResult<Vec<u8>> {
    let mut body = Vec::new();
    write_value(&mut body, item, exact)?;
    let max = peer.engine.limits.max_message;
    if body.len() as u64 > max {
        let text = format!("an item of {} bytes is above max_message, {max}", body.len());
        return Err(pyo3::exceptions::PyValueError::new_err(text));
    }
    Ok(body)
}

/// Resolves a future of a loop, from any thread.
struct Resolve {
    event_loop: Py<PyAny>,
    future: Py<PyAny>,
}

impl Wake for Resolve {
    fn wake(self: Arc<Self>) {
        let _ = Python::try_attach(|py| {
            let future = self.future.clone_ref(py);
            let set = pyo3::types::PyCFunction::new_closure(py, None, None, move |args, _| {
                resolve(future.bind(args.py()));
            });
            // Fails where the loop is closed: nobody waits there.
            let _ = set.and_then(|set| {
                self.event_loop.call_method1(py, intern!(py, "call_soon_threadsafe"), (set,))
            });
        });
    }
}

struct Owed {
    peer: Arc<Peer>,
    id: u64,
    since: Instant,
    raw: Option<bool>,
    exact: bool,
    /// Last: the answer goes first, then there is room for another handler.
    running: Running,
}

/// What the task of a handler calls when it is done.
#[pyclass(frozen, name = "_Finish", module = "ringspan")]
pub(crate) struct PyFinish {
    owed: Mutex<Option<Owed>>,
}

impl PyFinish {
    pub(super) fn new(
        peer: &Arc<Peer>,
        (id, since): (u64, Instant),
        raw: Option<bool>,
        exact: bool,
        running: Running,
    ) -> PyFinish {
        let owed = Owed { peer: Arc::clone(peer), id, since, raw, exact, running };
        PyFinish { owed: Mutex::new(Some(owed)) }
    }
}

impl Owed {
    fn answer(&self, task: &Bound<'_, PyAny>) -> Done {
        let py = task.py();
        let is_cancelled = task.call_method0(intern!(py, "cancelled"));
        if is_cancelled.and_then(|is| is.is_truthy()).unwrap_or(false) {
            let text = "the handler was cancelled";
            return Done::Error(self.peer.engine.refusal(Reason::Cancelled, text));
        }
        let result = match task.call_method0(intern!(py, "result")) {
            Ok(result) => result,
            Err(err) => return Done::Error(Failure::raised(err).body(py)),
        };
        let Some(raw) = self.raw else { return Done::End };
        let mut body = Vec::new();
        let written = write_result(&mut body, &result, raw, self.exact);
        done(written.map(|()| body).map_err(|failure| failure.body(py)), raw)
    }
}

#[pymethods]
impl PyFinish {
    fn __call__(&self, task: &Bound<'_, PyAny>) -> PyResult<()> {
        let Some(owed) = lock(&self.owed).take() else {
            return Err(PyRuntimeError::new_err("a task that was done twice"));
        };
        let answer = owed.answer(task);
        owed.peer.finish(owed.id, owed.since, answer);
        let Owed { running, .. } = owed;
        drop(running);
        Ok(())
    }
}

impl Drop for PyFinish {
    /// The loop was closed with the task unfinished.
    fn drop(&mut self) {
        if let Some(owed) = lock(&self.owed).take() {
            let body =
                owed.peer.engine.refusal(Reason::Cancelled, "the loop of the handler is gone");
            owed.peer.finish(owed.id, owed.since, Done::Error(body));
        }
    }
}
