//! How a blocking verb hears of Ctrl-C, and of the `close` of its handle.
//!
//! A signal ends the sleep of the main thread by EINTR only if it comes *while* the thread sleeps, and
//! only if the kernel gives it to that thread. So for the time of the sleep Python's own signal
//! handler is asked to write into a pipe (`signal.set_wakeup_fd`), which is waited for beside the
//! ring. Where an event loop runs in this thread it has asked for that itself, and is left alone: then
//! EINTR has to do. Only the main thread runs Python's handlers, so no other thread needs this. It has
//! an alarm instead, for the rest (`sleepers`).

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
use super::once;
use super::sleepers::{self, Bell, Closes, Pipe};
use crate::error::Fault;
use crate::notify::shared::Blocked;
use crate::sync::{AtomicBool, Mutex, Ordering, lock};
use crate::sys::doorbell::Doorbell;
use crate::sys::fd::{self, Fd};

/// One for the process: there is one main thread.
static PIPE: Mutex<Option<Arc<Pipe>>> = Mutex::new(None);
/// Python's handler writes to us. Changed with the interpreter attached, so Relaxed.
static LISTENING: AtomicBool = AtomicBool::new(false);
/// From `_signal`, which every interpreter has loaded: importing `signal` would run Python code, in whose
/// callbacks a KeyboardInterrupt is lost.
static SET: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

thread_local! {
    /// The fork count under which this thread was found not to be the main one, plus 1.
    static NOT_MAIN: Cell<u64> = const { Cell::new(0) };
}

fn is_not_main() -> bool {
    NOT_MAIN.get() == fd::fork_count() + 1
}

/// What ends a sleep from outside is heard until [`Listening::end`].
#[must_use]
pub(crate) struct Listening {
    bell: Option<Bell>,
    /// Among the sleepers.
    number: Option<u64>,
}

impl Listening {
    /// Readable once a signal came, or somebody wants us to look again.
    pub(crate) fn bell(&self) -> Option<&Fd> {
        self.bell.as_ref().map(Bell::fd)
    }

    /// After an interruption: what it has to raise. Takes in what was written before Python's handlers
    /// run, and before anything is looked at.
    pub(crate) fn answer(&self, py: Python<'_>) -> PyResult<()> {
        self.bell.iter().for_each(Bell::silence);
        py.check_signals()
    }

    /// Gives the handler's place back.
    pub(crate) fn end(self, py: Python<'_>) {
        self.number.into_iter().for_each(sleepers::leave);
        if let Some(bell @ Bell::Signals(_)) = self.bell {
            LISTENING.store(false, Ordering::Relaxed); // Relaxed: see there
            // Fails only if this were not the main thread.
            let _ = set(py, -1);
            bell.silence();
        }
    }
}

/// Listens to signals in the main thread, and to what others want everywhere. Look whether `owner` is open
/// after this.
///
/// # Errors
///
/// What Python's handlers raise for a signal that came before we listened.
pub(crate) fn listen(py: Python<'_>, owner: &(impl Closes + ?Sized)) -> PyResult<Listening> {
    let bell = signal_bell(py)?.or_else(sleepers::own_bell);
    let number = bell.as_ref().map(|bell| sleepers::enter(owner, bell));
    let listening = Listening { bell, number };
    match py.check_signals() {
        Ok(()) => Ok(listening),
        Err(raised) => {
            listening.end(py);
            Err(raised)
        }
    }
}

/// The pipe, if this is the main thread and nobody else has Python's handler write to him.
fn signal_bell(py: Python<'_>) -> PyResult<Option<Bell>> {
    // The first time modules are imported: Python code, in which a handler may raise.
    if is_not_main() || loop_runs(py)? {
        return Ok(None);
    }
    let Some(pipe) = the_pipe() else { return Ok(None) };
    match set(py, pipe.bell.for_waker().as_raw_fd()) {
        Ok(-1) => {
            LISTENING.store(true, Ordering::Relaxed); // Relaxed: see there
            Ok(Some(Bell::Signals(pipe)))
        }
        Ok(other) => {
            // Somebody listens already.
            let _ = set(py, other);
            Ok(None)
        }
        Err(err) if err.is_instance_of::<PyValueError>(py) => {
            NOT_MAIN.set(fd::fork_count() + 1);
            Ok(None)
        }
        Err(err) => Err(err),
    }
}

/// Parks the thread by `park` with the interpreter lock given back, again after every interruption that
/// Python's handlers have answered, and while `owner` is open. `None`: the time is over.
pub(crate) fn parked<T: Send>(
    py: Python<'_>,
    owner: &(impl Closes + ?Sized),
    mut park: impl FnMut(Option<&Fd>) -> Result<Blocked<T>, Fault> + Send,
) -> PyResult<Option<T>> {
    let listening = listen(py, owner)?;
    let bell = listening.bell();
    let ended = loop {
        if let Err(closed) = owner.check_open() {
            break Err(closed);
        }
        match py.detach(|| park(bell)) {
            Ok(Blocked::Interrupted) => {
                if let Err(raised) = listening.answer(py) {
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
    let set = once::get_or_make(&SET, py, || {
        py.import("_signal")?.getattr("set_wakeup_fd").map(Bound::unbind)
    })?;
    let options = PyDict::new(py);
    options.set_item(intern!(py, "warn_on_full_buffer"), false)?;
    set.bind(py).call((number,), Some(&options))?.extract()
}

/// In a child that came by fork while the main thread slept: the pipe is closed here, and its number is
/// somebody else's soon, who would find the bytes of signals in his file.
#[pyfunction]
fn forget_wakeup_fd(py: Python<'_>) {
    // Relaxed: see there.
    if LISTENING.swap(false, Ordering::Relaxed) {
        let _ = set(py, -1);
    }
}

/// Has it called.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = m.py();
    let options = PyDict::new(py);
    options.set_item("after_in_child", wrap_pyfunction!(forget_wakeup_fd, m)?)?;
    let register = py.import("os")?.getattr_opt("register_at_fork")?;
    register.map_or(Ok(()), |register| register.call((), Some(&options)).map(drop))
}
