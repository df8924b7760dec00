//! What the asyncio face knows of event loops, futures and threads: the reader that is registered
//! with a loop, setting futures, finding the running loop, telling threads apart.

use std::cell::Cell;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Weak};

use pyo3::exceptions::{PyNotImplementedError, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyString, PyWeakrefMethods, PyWeakrefReference};

use crate::python::asyncio::Face;
use crate::python::once;
use crate::sync::{AtomicU64, Mutex, Ordering, lock};
use crate::sys::fd::Fd;

/// A park fd that is registered with an event loop.
pub(super) struct Reader {
    pub(super) event_loop: Py<PyWeakrefReference>,
    fd: Fd,
}

impl Reader {
    /// Registers a duplicate of the park fd of `face`.
    pub(super) fn add(
        py: Python<'_>,
        event_loop: &Bound<'_, PyAny>,
        face: &Arc<Face>,
        name: &str,
    ) -> PyResult<Reader> {
        let fd = face.park_fd(py)?;
        let weak: Weak<Face> = Arc::downgrade(face);
        let callback = PyCFunction::new_closure(py, None, None, move |args, _| {
            if let Some(face) = weak.upgrade() {
                face.fired(args.py());
            }
        })?;
        event_loop.call_method1(intern!(py, "add_reader"), (fd.as_raw_fd(), callback)).map_err(
            |err| {
                if !err.is_instance_of::<PyNotImplementedError>(py) {
                    return err;
                }
                let error = PyNotImplementedError::new_err(format!(
                    "{name}: this event loop has no add_reader (as Windows' ProactorEventLoop), \
                     and the bridge for such loops, pyo3-async-runtimes, is not part of this \
                     build: use asyncio.SelectorEventLoop, or the blocking_ verbs in a thread"
                ));
                error.set_cause(py, Some(err));
                error
            },
        )?;
        let event_loop = PyWeakrefReference::new(event_loop)?.unbind();
        Ok(Reader { event_loop, fd })
    }

    /// Takes the fd out of its loop, then closes it. A loop that runs in another thread does both.
    pub(super) fn remove(self, py: Python<'_>) {
        let Some(event_loop) = self.event_loop.bind(py).upgrade() else { return };
        let is = |what| is_true(&event_loop, what).unwrap_or(false);
        if is(intern!(py, "is_closed")) {
            return;
        }
        let number = self.fd.as_raw_fd();
        if runs_here(&event_loop) || !is(intern!(py, "is_running")) {
            // Fails only where the loop has been closed since.
            let _ = event_loop.call_method1(intern!(py, "remove_reader"), (number,));
            return;
        }
        let weak = self.event_loop;
        let fd = Mutex::new(Some(self.fd));
        let removal = PyCFunction::new_closure(py, None, None, move |args, _| {
            let py = args.py();
            if let Some(event_loop) = weak.bind(py).upgrade() {
                let _ = event_loop.call_method1(intern!(py, "remove_reader"), (number,));
            }
            let fd = lock(&fd).take();
            drop(fd);
        });
        let _ = removal.and_then(|removal| {
            event_loop.call_method1(intern!(py, "call_soon_threadsafe"), (removal,))
        });
    }
}

/// Sets the future, if it is still there.
pub(super) fn resolve_weak(future: &Bound<'_, PyWeakrefReference>) {
    if let Some(future) = future.upgrade() {
        resolve(&future);
    }
}

/// Sets a future that is not done; its task polls in the loop's next turn.
pub(super) fn resolve(future: &Bound<'_, PyAny>) {
    let py = future.py();
    match is_true(future, intern!(py, "done")) {
        Ok(true) => {}
        // Fails where its loop is closed: nobody will resume it.
        _ => drop(future.call_method1(intern!(py, "set_result"), (py.None(),))),
    }
}

/// Whether a method without arguments answers true.
pub(super) fn is_true(object: &Bound<'_, PyAny>, method: &Bound<'_, PyString>) -> PyResult<bool> {
    object.call_method0(method)?.is_truthy()
}

static RUNNING_LOOP: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// The loop that runs in this thread; an error that says what is missing.
pub(super) fn running_loop<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    let get = once::get_or_make(&RUNNING_LOOP, py, || {
        py.import("asyncio.events")?.getattr("_get_running_loop").map(Bound::unbind)
    })?;
    let event_loop = get.bind(py).call0()?;
    if !event_loop.is_none() {
        return Ok(event_loop);
    }
    let hint = if trio_runs(py) {
        "and this is trio; call the blocking_ verb through trio.to_thread.run_sync"
    } else {
        "and none runs in this thread; use asyncio.run, or the blocking_ verb"
    };
    Err(PyRuntimeError::new_err(format!(
        "{name}: awaiting it needs a running asyncio loop, {hint}"
    )))
}

/// Whether it is this thread that runs the loop. One thread may run it after another.
pub(super) fn runs_here(event_loop: &Bound<'_, PyAny>) -> bool {
    let py = event_loop.py();
    let running = RUNNING_LOOP.get(py).and_then(|get| get.bind(py).call0().ok());
    running.is_some_and(|running| running.is(event_loop))
}

/// Whether an event loop runs in this thread, without importing asyncio for it.
pub(super) fn loop_runs(py: Python<'_>) -> PyResult<bool> {
    if RUNNING_LOOP.get(py).is_none()
        && !py.import("sys")?.getattr("modules")?.contains("asyncio.events")?
    {
        return Ok(false);
    }
    let get = once::get_or_make(&RUNNING_LOOP, py, || {
        py.import("asyncio.events")?.getattr("_get_running_loop").map(Bound::unbind)
    })?;
    Ok(!get.bind(py).call0()?.is_none())
}

/// Whether trio drives this thread, without importing it.
fn trio_runs(py: Python<'_>) -> bool {
    let token = || -> PyResult<bool> {
        let modules = py.import("sys")?.getattr("modules")?;
        let trio = modules.call_method1("get", ("trio",))?;
        if trio.is_none() {
            return Ok(false);
        }
        trio.getattr("lowlevel")?.call_method0("current_trio_token")?;
        Ok(true)
    };
    token().unwrap_or(false)
}

thread_local! {
    static THREAD: Cell<u64> = const { Cell::new(0) };
}
static LAST_THREAD: AtomicU64 = AtomicU64::new(0);

/// A number of this thread that no other thread ever has; never 0.
pub(super) fn thread_key() -> u64 {
    THREAD.with(|key| {
        if key.get() == 0 {
            // Relaxed: only the number matters.
            key.set(LAST_THREAD.fetch_add(1, Ordering::Relaxed) + 1);
        }
        key.get()
    })
}

/// The name of the thread with this `threading.get_ident()`.
pub(super) fn thread_name(py: Python<'_>, ident: Option<Bound<'_, PyAny>>) -> PyResult<String> {
    let Some(ident) = ident else { return Ok("another thread".to_owned()) };
    for thread in py.import("threading")?.call_method0("enumerate")?.try_iter()? {
        let thread = thread?;
        if thread.getattr("ident")?.eq(&ident)? {
            return Ok(format!("thread {:?}", thread.getattr("name")?.extract::<String>()?));
        }
    }
    Ok(format!("thread {ident}"))
}
