//! Handlers in threads: `def`s one after the other on the server's worker, generators each in its own.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Wake, Waker};
use std::thread::Thread;

use super::rpc_handler::item_body;
use super::rpc_starter::{CallOf, Failure, Handler, done, write_result};
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

    /// A `def`.
    fn run(mut self, py: Python<'_>) {
        if self.is_stopped() {
            return;
        }
        let methods = Arc::clone(&self.methods);
        let handler = &methods[self.method];
        let mut body = Vec::new();
        let written = handler
            .invoke(py, &self.peer, &self.of, &self.args)
            .and_then(|result| write_result(&mut body, &result, handler.raw, self.exact));
        let answer = done(written.map(|()| body).map_err(|failure| failure.body(py)), handler.raw);
        self.answer(answer);
    }

    /// A generator.
    fn run_items(mut self, py: Python<'_>) {
        let answer = match self.items(py) {
            Ok(()) => Done::End,
            Err(failure) => Done::Error(failure.body(py)),
        };
        self.answer(answer);
    }

    fn items(&self, py: Python<'_>) -> Result<(), Failure> {
        let handler = &self.methods[self.method];
        let items = handler.invoke(py, &self.peer, &self.of, &self.args)?;
        let mut items = items.try_iter().map_err(Failure::raised)?;
        let thread = std::thread::current();
        *lock(&self.stopped.thread) = Some(thread.clone());
        let waker = Waker::from(Arc::new(Unpark(thread)));
        loop {
            while !self.is_stopped() && !self.peer.poll_may_send(self.of.id, &waker) {
                py.detach(std::thread::park); // one that was woken before returns at once
            }
            if self.is_stopped() || !self.peer.is_wanted(self.of.id) {
                let close = items.as_any().call_method0(intern!(py, "close"));
                return close.map(drop).map_err(Failure::raised);
            }
            let Some(item) = items.next() else { return Ok(()) };
            let body = item.map_err(Failure::raised).and_then(|item| {
                item_body(&self.peer, &item, self.exact).map_err(|err| Failure::result(py, &err))
            })?;
            self.peer.item(self.of.id, false, body);
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
        let thread = PyThread { work: Mutex::new(Some(Work::Jobs(receiver))) };
        start(py, thread, "ringspan worker")?;
        Ok(Worker { jobs })
    }

    pub(super) fn push(&self, job: Job) {
        // The thread is gone only if it was killed with the interpreter; the job answers when dropped.
        let _ = self.jobs.send(job);
    }
}

/// A thread for one generator.
pub(super) fn spawn_generator(py: Python<'_>, job: Job) -> PyResult<()> {
    let thread = PyThread { work: Mutex::new(Some(Work::Items(Box::new(job)))) };
    start(py, thread, "ringspan stream")
}

fn start(py: Python<'_>, thread: PyThread, name: &str) -> PyResult<()> {
    let options = PyDict::new(py);
    options.set_item("target", thread)?;
    options.set_item("name", name)?;
    options.set_item("daemon", true)?;
    let made = py.import("threading")?.getattr("Thread")?.call((), Some(&options))?;
    made.call_method0("start").map(drop)
}

enum Work {
    Jobs(Receiver<Job>),
    Items(Box<Job>),
}

/// What a thread runs.
#[pyclass(frozen, name = "_Thread", module = "ringspan")]
pub(crate) struct PyThread {
    work: Mutex<Option<Work>>,
}

#[pymethods]
impl PyThread {
    fn __call__(&self, py: Python<'_>) {
        match lock(&self.work).take() {
            Some(Work::Jobs(jobs)) => {
                let jobs = Mutex::new(jobs);
                while let Ok(job) = py.detach(|| lock(&jobs).recv()) {
                    job.run(py);
                }
            }
            Some(Work::Items(job)) => job.run_items(py),
            None => {}
        }
    }
}
