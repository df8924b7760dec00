//! How a blocking verb hears of Ctrl-C.
//!
//! A signal ends the sleep of the main thread by EINTR only if it comes *while* the thread sleeps, and
//! only if the kernel gives it to that thread. So for the time of the sleep Python's own signal
//! handler is asked to write into a pipe (`signal.set_wakeup_fd`), which is waited for beside the
//! ring. Where an event loop runs in this thread it has asked for that itself, and is left alone: then
//! EINTR has to do. Only the main thread runs Python's handlers, so no other thread needs this.

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;
use std::cell::Cell;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use super::asyncio_loop::loop_runs;
use super::errors;
use crate::error::Fault;
use crate::notify::shared::Blocked;
use crate::sync::{Mutex, lock};
use crate::sys::doorbell::Doorbell;
use crate::sys::fd::{self, Fd};

#[derive(Debug)]
struct Pipe {
    bell: Doorbell,
    forks: u64,
}

/// One for the process: there is one main thread.
static PIPE: Mutex<Option<Arc<Pipe>>> = Mutex::new(None);
/// From `_signal`, which every interpreter has loaded: importing `signal` would run Python code, in whose
/// callbacks a KeyboardInterrupt is lost.
static SET: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

thread_local! {
    /// The fork count under which this thread was found not to be the main one, plus 1.
    static NOT_MAIN: Cell<u64> = const { Cell::new(0) };
}

/// Signals are written into the pipe until [`Listening::end`].
#[must_use]
pub(crate) struct Listening(Option<Arc<Pipe>>);

impl Listening {
    /// Readable once a signal came.
    pub(crate) fn bell(&self) -> Option<&Fd> {
        self.0.as_ref().map(|pipe| pipe.bell.watched())
    }

    /// Takes in what the handler wrote. Call it before Python's handlers run.
    pub(crate) fn silence(&self) {
        if let Some(pipe) = &self.0 {
            pipe.bell.drain();
        }
    }

    /// Gives the handler's place back.
    pub(crate) fn end(self, py: Python<'_>) {
        if let Some(pipe) = self.0 {
            // Fails only if this were not the main thread.
            let _ = set(py, -1);
            pipe.bell.drain();
        }
    }
}

/// Listens to signals in the main thread; elsewhere, and where it cannot be had, nothing is heard.
///
/// # Errors
///
/// What Python's handlers raise for a signal that came before we listened.
pub(crate) fn listen(py: Python<'_>) -> PyResult<Listening> {
    let listening = begin(py)?;
    match py.check_signals() {
        Ok(()) => Ok(listening),
        Err(raised) => {
            listening.end(py);
            Err(raised)
        }
    }
}

fn begin(py: Python<'_>) -> PyResult<Listening> {
    // The first time modules are imported: Python code, in which a handler may raise.
    if NOT_MAIN.get() == fd::fork_count() + 1 || loop_runs(py)? {
        return Ok(Listening(None));
    }
    let Some(pipe) = the_pipe() else { return Ok(Listening(None)) };
    match set(py, pipe.bell.for_waker().as_raw_fd()) {
        Ok(-1) => Ok(Listening(Some(pipe))),
        Ok(other) => {
            // Somebody listens already.
            let _ = set(py, other);
            Ok(Listening(None))
        }
        Err(err) if err.is_instance_of::<PyValueError>(py) => {
            NOT_MAIN.set(fd::fork_count() + 1);
            Ok(Listening(None))
        }
        Err(err) => Err(err),
    }
}

/// Parks the thread by `park` with the interpreter lock given back, again after every interruption that
/// Python's handlers have answered. `None`: the time is over.
pub(crate) fn parked<T: Send>(
    py: Python<'_>,
    mut park: impl FnMut(Option<&Fd>) -> Result<Blocked<T>, Fault> + Send,
) -> PyResult<Option<T>> {
    let listening = listen(py)?;
    let ended = loop {
        match py.detach(|| park(listening.bell())) {
            Ok(Blocked::Interrupted) => {
                listening.silence();
                if let Err(raised) = py.check_signals() {
                    break Err(raised);
                }
            }
            Ok(Blocked::Came(found)) => break Ok(Some(found)),
            Ok(Blocked::TimedOut) => break Ok(None),
            Err(fault) => break Err(errors::fault(&fault)),
        }
    };
    listening.end(py);
    ended
}

fn the_pipe() -> Option<Arc<Pipe>> {
    let mut place = lock(&PIPE);
    if place.as_ref().is_none_or(|pipe| pipe.forks != fd::fork_count()) {
        let bell = Doorbell::pipe().ok()?;
        *place = Some(Arc::new(Pipe { bell, forks: fd::fork_count() }));
    }
    place.clone()
}

fn set(py: Python<'_>, number: i32) -> PyResult<i32> {
    let set = SET.get_or_try_init(py, || {
        py.import("_signal")?.getattr("set_wakeup_fd").map(Bound::unbind)
    })?;
    let options = PyDict::new(py);
    options.set_item(intern!(py, "warn_on_full_buffer"), false)?;
    set.bind(py).call((number,), Some(&options))?.extract()
}
