//! Handlers in threads: `def`s one after the other on the server's worker, generators each in its own.

use pyo3::prelude::*;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Wake, Waker};
use std::thread::Thread;

use super::rpc_handler::item_body;
use super::rpc_starter::{CallOf, Failure, Handler, Invocation, done, write_result};
use crate::rpc::core::session::Stop;
use crate::rpc::error::Reason;
use crate::rpc::server::floor::Call;
use crate::rpc::server::peer::{Done, Peer, Running};
use crate::sync::{AtomicBool, Mutex, Ordering, lock};

/// One call, for a thread.
pub(super) struct Job {
    peer: Arc<Peer>,
    of: CallOf,
    method: usize,
    methods: Arc<Vec<Handler>>,
    args: Vec<u8>,
    exact: bool,
    stopped: Arc<Stopped>,
    answered: bool,
    /// Last: the answer goes first, then there is room for another handler.
    #[allow(dead_code, reason = "its drop counts")]
    running: Running,
}

/// Whether a call was given up, and which thread to tell.
#[derive(Debug, Default)]
struct Stopped {
    flag: AtomicBool,
    thread: Mutex<Option<Thread>>,
}

#[derive(Debug)]
pub(super) struct StopJob(Arc<Stopped>);

impl Stop for StopJob {
    /// A thread cannot be stopped; one that has not begun does not begin, one that waits for room ends.
    fn stop(self: Box<Self>) {
        self.0.flag.store(true, Ordering::SeqCst);
        if let Some(thread) = &*lock(&self.0.thread) {
            thread.unpark();
        }
    }
}

impl Job {
    pub(super) fn new(
        _: Python<'_>,
        call: &Call<'_>,
        of: CallOf,
        methods: Arc<Vec<Handler>>,
        exact: bool,
    ) -> Job {
        Job {
            peer: Arc::clone(call.peer),
            of,
            method: usize::from(call.method),
            methods,
            args: call.args.to_vec(),
            exact,
            stopped: Arc::default(),
            answered: false,
            running: Running::new(&call.peer.engine),
        }
    }

    pub(super) fn stopper(&self) -> StopJob {
        StopJob(Arc::clone(&self.stopped))
    }

    fn is_stopped(&self) -> bool {
        self.stopped.flag.load(Ordering::SeqCst)
    }

    fn answer(&mut self, answer: Done) {
        self.answered = true;
        self.peer.finish(self.of.id, self.of.since, answer);
    }

    fn handler(&self) -> &Handler {
        &self.methods[self.method]
    }

    /// What is to be called; `None` if nobody wants it any more, or the arguments are not to be read.
    fn begin<'py>(&mut self, py: Python<'py>) -> Option<Invocation<'py>> {
        if self.is_stopped() {
            return None;
        }
        match self.handler().invocation(py, &self.peer, &self.of, &self.args) {
            Ok(invocation) => Some(invocation),
            Err(failure) => {
                self.answer(Done::Error(failure.body(py)));
                None
            }
        }
    }

    fn result(&mut self, result: &Bound<'_, PyAny>) {
        let mut body = Vec::new();
        let raw = self.handler().raw;
        let written = write_result(&mut body, result, raw, self.exact);
        let answer = done(written.map(|()| body).map_err(|failure| failure.body(result.py())), raw);
        self.answer(answer);
    }

    /// Sends an item; false if it cannot be sent, which has been told then.
    fn item(&mut self, item: &Bound<'_, PyAny>) -> bool {
        match item_body(&self.peer, item, self.exact) {
            Ok(body) => {
                self.peer.item(self.of.id, false, body);
                true
            }
            Err(err) => {
                let body = Failure::result(item.py(), &err).body(item.py());
                self.answer(Done::Error(body));
                false
            }
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if !self.answered {
            let body = self.peer.engine.refusal(Reason::Cancelled, "the handler did not run");
            self.answer(Done::Error(body));
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The thread that runs the `def`s of a server. It ends with the server.
pub(super) struct Worker {
    jobs: Sender<Job>,
}

impl Worker {
    pub(super) fn spawn(py: Python<'_>) -> PyResult<Worker> {
        let (jobs, receiver) = channel();
        let jobs_there = PyJobs { receiver: Mutex::new(receiver) };
        start(py, "work", Bound::new(py, jobs_there)?.into_any(), "ringspan worker")?;
        Ok(Worker { jobs })
    }

    pub(super) fn push(&self, job: Job) {
        // The thread is gone only if it was killed with the interpreter; the job answers when dropped.
        let _ = self.jobs.send(job);
    }
}

/// A thread for one generator.
pub(super) fn spawn_generator(py: Python<'_>, job: Job) -> PyResult<()> {
    start(py, "work_items", Bound::new(py, PyJob::new(job))?.into_any(), "ringspan stream")
}

/// Starts a daemon thread in a function of `_handlers.py`. Handlers have only Python beneath them: such a
/// thread is unwound from wherever it stands when the interpreter goes, which must not be through Rust.
fn start(py: Python<'_>, function: &str, with: Bound<'_, PyAny>, name: &str) -> PyResult<()> {
    let start = py.import("ringspan._handlers")?.getattr("start_thread")?;
    start.call1((function, with, name)).map(drop)
}

/// Where the worker gets its calls from.
#[pyclass(frozen, name = "_Jobs", module = "ringspan")]
pub(crate) struct PyJobs {
    receiver: Mutex<Receiver<Job>>,
}

#[pymethods]
impl PyJobs {
    /// The next call; None at the end.
    fn take(&self, py: Python<'_>) -> Option<PyJob> {
        py.detach(|| lock(&self.receiver).recv()).ok().map(PyJob::new)
    }
}

/// One call, as its thread sees it. Dropped, it has been answered.
#[pyclass(frozen, name = "_Job", module = "ringspan")]
pub(crate) struct PyJob {
    job: Mutex<Option<Job>>,
}

impl PyJob {
    fn new(job: Job) -> PyJob {
        PyJob { job: Mutex::new(Some(job)) }
    }

    fn with<R>(&self, f: impl FnOnce(&mut Job) -> R) -> Option<R> {
        lock(&self.job).as_mut().map(f)
    }

    /// Answers, and makes room for another handler.
    fn end(&self, f: impl FnOnce(&mut Job)) {
        if let Some(mut job) = lock(&self.job).take() {
            f(&mut job);
        }
    }
}

#[pymethods]
impl PyJob {
    /// Function, arguments and keyword arguments; None if there is nothing to do.
    fn begin<'py>(&self, py: Python<'py>) -> Option<Invocation<'py>> {
        let begun = self.with(|job| job.begin(py)).flatten();
        if begun.is_none() {
            self.end(|_| ());
        }
        begun
    }

    /// It returned.
    fn result(&self, result: &Bound<'_, PyAny>) {
        self.end(|job| job.result(result));
    }

    /// It raised.
    fn fail(&self, error: Bound<'_, PyAny>) {
        let py = error.py();
        let body = Failure::raised(PyErr::from_value(error)).body(py);
        self.end(|job| job.answer(Done::Error(body)));
    }

    /// The generator is at its end.
    fn finish(&self) {
        self.end(|job| job.answer(Done::End));
    }

    /// Waits until the client takes another item; false: there is nobody for it any more.
    fn room(&self, py: Python<'_>) -> bool {
        let thread = std::thread::current();
        let waker = Waker::from(Arc::new(Unpark(thread.clone())));
        let Some((peer, stopped, id)) = self.with(|job| {
            *lock(&job.stopped.thread) = Some(thread);
            (Arc::clone(&job.peer), Arc::clone(&job.stopped), job.of.id)
        }) else {
            return false;
        };
        let is_stopped = || stopped.flag.load(Ordering::SeqCst);
        while !is_stopped() && !peer.poll_may_send(id, &waker) {
            py.detach(std::thread::park); // one that was woken before returns at once
        }
        !is_stopped() && peer.is_wanted(id)
    }

    /// Sends an item; false if that cannot be, which has been told then.
    fn item(&self, item: &Bound<'_, PyAny>) -> bool {
        let sent = self.with(|job| job.item(item)) == Some(true);
        if !sent {
            self.end(|_| ());
        }
        sent
    }
}
