//! Runs Python handlers for a server that an asyncio loop drives.
//!
//! | handler | runs |
//! |---|---|
//! | `async def` | a task of the loop, started eagerly (from 3.12 on): done at once, it costs no turn of the loop |
//! | `def`, inline | here, between two frames |
//! | `def` | on the server's worker thread, one after the other |
//! | async generator | a task of the loop that sends the items as the client takes them |
//! | generator | a thread of its own, the same |

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use std::sync::Arc;
use std::time::Instant;

use super::rpc_codec::{Arguments, describe, read_args, write_raw, write_value};
use super::rpc_handler::{PyContext, PyFinish, PySender};
use super::rpc_worker::{Job, Worker, spawn_generator};
use crate::codec;
use crate::rpc::core::session::{Reply, Stop};
use crate::rpc::error::{Reason, RemoteError};
use crate::rpc::server::floor::{Call, First, Starter};
use crate::rpc::server::peer::{Done, Peer, Running};

/// How a handler is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Async,
    Inline,
    Thread,
    AsyncItems,
    Items,
}

impl Kind {
    fn from_word(word: &str) -> PyResult<Kind> {
        Ok(match word {
            "async" => Kind::Async,
            "inline" => Kind::Inline,
            "thread" => Kind::Thread,
            "async items" => Kind::AsyncItems,
            "items" => Kind::Items,
            other => return Err(PyTypeError::new_err(format!("no kind of handler: {other:?}"))),
        })
    }

    pub(super) fn is_stream(self) -> bool {
        matches!(self, Kind::AsyncItems | Kind::Items)
    }
}

/// One method.
#[derive(Debug)]
pub(super) struct Handler {
    pub(super) name: String,
    call: Py<PyAny>,
    pub(super) kind: Kind,
    /// The parameter that takes the context, and its place if it can be given by place.
    context: Option<(Py<PyString>, Option<usize>)>,
    pub(super) raw: bool,
}

impl Handler {
    /// From `(name, function, kind, (context parameter, its place), raw)`.
    pub(super) fn from_python(entry: &Bound<'_, PyAny>) -> PyResult<Handler> {
        let (name, call, kind, context, raw): (String, Py<PyAny>, String, _, bool) =
            entry.extract()?;
        Ok(Handler { name, call, kind: Kind::from_word(&kind)?, context, raw })
    }

    /// Reads the arguments and calls the function: the result of a `def`, else a coroutine or generator.
    pub(super) fn invoke<'py>(
        &self,
        py: Python<'py>,
        peer: &Arc<Peer>,
        of: &CallOf,
        args: &[u8],
    ) -> Result<Bound<'py, PyAny>, Failure> {
        let (call, args, kwargs) = self.invocation(py, peer, of, args)?;
        let result: PyResult<Bound<'py, PyAny>> = match &kwargs {
            None if !args.is_empty() => call.call1(args),
            None => call.call0(),
            Some(kwargs) => call.call(args, Some(kwargs)),
        };
        result.map_err(Failure::raised)
    }

    /// Reads the arguments: what is to be called, and with what.
    pub(super) fn invocation<'py>(
        &self,
        py: Python<'py>,
        peer: &Arc<Peer>,
        of: &CallOf,
        args: &[u8],
    ) -> Result<Invocation<'py>, Failure> {
        let (args, kwargs): Arguments<'py> =
            read_args(py, args, of.raw, of.mixed).map_err(|err| Failure::arguments(py, &err))?;
        let (args, kwargs) = match &self.context {
            None => (args, kwargs),
            Some((parameter, place)) => {
                let context = PyContext::new(peer, of.id, of.deadline);
                with_context(py, (args, kwargs), parameter, *place, context)
                    .map_err(Failure::raised)?
            }
        };
        Ok((self.call.bind(py).clone(), args, kwargs))
    }
}

/// Arguments with the context among them: at its place, where those before it came by place too.
fn with_context<'py>(
    py: Python<'py>,
    (args, kwargs): Arguments<'py>,
    parameter: &Py<PyString>,
    place: Option<usize>,
    context: PyContext,
) -> PyResult<Arguments<'py>> {
    if let Some(place) = place.filter(|place| *place <= args.len()) {
        let mut all: Vec<Bound<'py, PyAny>> = args.iter().collect();
        all.insert(place, Py::new(py, context)?.into_bound(py).into_any());
        return Ok((PyTuple::new(py, all)?, kwargs));
    }
    let kwargs = kwargs.unwrap_or_else(|| PyDict::new(py));
    kwargs.set_item(parameter, context)?;
    Ok((args, Some(kwargs)))
}

/// A function, and what it is called with.
pub(super) type Invocation<'py> =
    (Bound<'py, PyAny>, Bound<'py, PyTuple>, Option<Bound<'py, PyDict>>);

/// What stays of a call once its arguments are read.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallOf {
    pub(super) id: u64,
    pub(super) raw: bool,
    pub(super) mixed: bool,
    pub(super) deadline: Option<Instant>,
    pub(super) since: Instant,
}

/// Why a handler gave no result.
pub(super) struct Failure {
    error: Option<PyErr>,
    told: Option<Box<RemoteError>>,
}

impl Failure {
    pub(super) fn raised(error: PyErr) -> Failure {
        Failure { error: Some(error), told: None }
    }

    fn of(py: Python<'_>, reason: Reason, err: &PyErr) -> Failure {
        let told =
            RemoteError { reason: Some(reason), traceback: String::new(), ..describe(py, err) };
        Failure { error: None, told: Some(Box::new(told)) }
    }

    fn arguments(py: Python<'_>, err: &PyErr) -> Failure {
        Failure::of(py, Reason::BadArguments, err)
    }

    /// The result cannot be encoded.
    pub(super) fn result(py: Python<'_>, err: &PyErr) -> Failure {
        Failure::of(py, Reason::BadResult, err)
    }

    /// The body of the error frame.
    pub(super) fn body(&self, py: Python<'_>) -> Vec<u8> {
        let told = match (&self.told, &self.error) {
            (Some(told), _) => (**told).clone(),
            (None, Some(error)) => describe(py, error),
            (None, None) => return Vec::new(),
        };
        codec::to_vec(&told).unwrap_or_default()
    }

    /// What no handler may keep to itself: KeyboardInterrupt, SystemExit.
    pub(super) fn to_raise(&self, py: Python<'_>) -> Option<PyErr> {
        let error = self.error.as_ref()?;
        let plain = error.is_instance_of::<pyo3::exceptions::PyException>(py)
            || error.is_instance_of::<pyo3::exceptions::asyncio::CancelledError>(py);
        (!plain).then(|| error.clone_ref(py))
    }
}

/// Writes a result; true for bytes as they are.
pub(super) fn write_result(
    out: &mut Vec<u8>,
    result: &Bound<'_, PyAny>,
    raw: bool,
    exact: bool,
) -> Result<(), Failure> {
    let written = if raw { write_raw(out, result) } else { write_value(out, result, exact) };
    written.map_err(|err| Failure::result(result.py(), &err))
}

/// See the module.
pub(super) struct PyStarter {
    pub(super) methods: Arc<Vec<Handler>>,
    pub(super) exact: bool,
    pub(super) event_loop: Py<PyAny>,
    /// `asyncio.Task`, and whether it starts eagerly here.
    pub(super) task: Py<PyAny>,
    pub(super) eager: bool,
    /// `_handlers.drain`.
    pub(super) drain: Py<PyAny>,
    pub(super) worker: Option<Worker>,
    pub(super) out: Vec<u8>,
    /// To be raised in the loop once this pass is over.
    pub(super) raised: Option<PyErr>,
}

/// Buffers above this are not kept.
const KEPT: usize = 1 << 20;

impl Starter for PyStarter {
    fn start<'s>(&'s mut self, call: Call<'_>) -> First<'s> {
        if self.out.capacity() > KEPT {
            self.out = Vec::new();
        }
        self.out.clear();
        let started = Python::attach(|py| match self.step(py, &call) {
            Ok(started) => started,
            Err(failure) => {
                self.out = failure.body(py);
                self.raised = self.raised.take().or(failure.to_raise(py));
                Started::Error
            }
        });
        match started {
            Started::Value(raw) => First::Done(Reply::Value { raw, body: &self.out }),
            Started::Error => First::Done(Reply::Error(&self.out)),
            Started::Running(stop) => First::Running(stop),
        }
    }
}

enum Started {
    Value(bool),
    Error,
    Running(Box<dyn Stop>),
}

impl PyStarter {
    fn step(&mut self, py: Python<'_>, call: &Call<'_>) -> Result<Started, Failure> {
        let methods = Arc::clone(&self.methods);
        let handler = &methods[usize::from(call.method)];
        let Call { id, raw, mixed, deadline, since, .. } = *call;
        let of = CallOf { id, raw, mixed, deadline, since };
        match handler.kind {
            Kind::Inline => {
                let result = handler.invoke(py, call.peer, &of, call.args)?;
                write_result(&mut self.out, &result, handler.raw, self.exact)?;
                Ok(Started::Value(handler.raw))
            }
            Kind::Async => {
                let coroutine = handler.invoke(py, call.peer, &of, call.args)?;
                self.run(py, call, coroutine, handler.raw)
            }
            Kind::AsyncItems => {
                let items = handler.invoke(py, call.peer, &of, call.args)?;
                let sender =
                    PySender::new(call.peer, id, self.exact, self.event_loop.clone_ref(py));
                let drained =
                    self.drain.bind(py).call1((items, sender)).map_err(Failure::raised)?;
                self.spawn(py, call, drained, None)
            }
            Kind::Thread | Kind::Items => {
                let job = Job::new(py, call, of, Arc::clone(&methods), self.exact);
                let stop = job.stopper();
                match handler.kind {
                    Kind::Items => spawn_generator(py, job).map_err(Failure::raised)?,
                    _ => self.worker(py)?.push(job),
                }
                Ok(Started::Running(Box::new(stop)))
            }
        }
    }

    fn worker(&mut self, py: Python<'_>) -> Result<&Worker, Failure> {
        if self.worker.is_none() {
            self.worker = Some(Worker::spawn(py).map_err(Failure::raised)?);
        }
        self.worker.as_ref().ok_or_else(|| Failure::raised(PyTypeError::new_err("no worker")))
    }

    /// A task of the loop for a coroutine; its result, if it is done at its first step.
    fn run(
        &mut self,
        py: Python<'_>,
        call: &Call<'_>,
        coroutine: Bound<'_, PyAny>,
        raw: bool,
    ) -> Result<Started, Failure> {
        let task = self.make_task(py, coroutine).map_err(Failure::raised)?;
        if self.eager && is_done(&task) {
            let result = task.call_method0(intern!(py, "result")).map_err(Failure::raised)?;
            write_result(&mut self.out, &result, raw, self.exact)?;
            return Ok(Started::Value(raw));
        }
        self.follow(py, call, task, Some(raw))
    }

    fn spawn(
        &self,
        py: Python<'_>,
        call: &Call<'_>,
        coroutine: Bound<'_, PyAny>,
        raw: Option<bool>,
    ) -> Result<Started, Failure> {
        // Not eagerly: items are counted against the credit of a call that the session knows.
        let options = PyDict::new(py);
        let task = options
            .set_item(intern!(py, "loop"), &self.event_loop)
            .and_then(|()| self.task.bind(py).call((coroutine,), Some(&options)))
            .map_err(Failure::raised)?;
        self.follow(py, call, task, raw)
    }

    fn make_task<'py>(
        &self,
        py: Python<'py>,
        coroutine: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let options = PyDict::new(py);
        options.set_item(intern!(py, "loop"), &self.event_loop)?;
        if self.eager {
            options.set_item(intern!(py, "eager_start"), true)?;
        }
        self.task.bind(py).call((coroutine,), Some(&options))
    }

    /// The answer comes when the task is done. `raw`: how the result is written; `None` for streams.
    fn follow(
        &self,
        py: Python<'_>,
        call: &Call<'_>,
        task: Bound<'_, PyAny>,
        raw: Option<bool>,
    ) -> Result<Started, Failure> {
        let running = Running::new(&call.peer.engine);
        let finish = PyFinish::new(call.peer, (call.id, call.since), raw, self.exact, running);
        let added = task.call_method1(intern!(py, "add_done_callback"), (finish,));
        added.map_err(Failure::raised)?;
        Ok(Started::Running(Box::new(StopTask(task.unbind()))))
    }
}

fn is_done(task: &Bound<'_, PyAny>) -> bool {
    let done = task.call_method0(intern!(task.py(), "done"));
    done.and_then(|done| done.is_truthy()).unwrap_or(false)
}

/// Cancels a task; called in its loop's thread.
#[derive(Debug)]
struct StopTask(Py<PyAny>);

impl Stop for StopTask {
    fn stop(self: Box<Self>) {
        let _ = Python::try_attach(|py| {
            if let Err(err) = self.0.call_method0(py, intern!(py, "cancel")) {
                err.write_unraisable(py, None); // the loop is closed
            }
        });
    }
}

/// The answer of a handler that finished later.
pub(super) fn done(written: Result<Vec<u8>, Vec<u8>>, raw: bool) -> Done {
    match written {
        Ok(body) => Done::Value { raw, body },
        Err(error) => Done::Error(error),
    }
}
