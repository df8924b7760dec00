//! `_Server`: a server that an asyncio loop drives, by the loop's own reader on one descriptor. What users
//! see of it is in `_service.py`.

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};
use std::time::Duration;

use super::asyncio_loop::{is_true, running_loop, runs_here};
use super::errors;
use super::rpc_handler::{PyContext, PyFinish, PySender};
use super::rpc_starter::{Handler, PyStarter};
use super::rpc_worker::{PyJob, PyJobs};
use super::seconds::seconds;
use crate::error::{Fault, FaultKind};
use crate::notify::awake::{LOOPS, NEVER};
use crate::rpc::Limits;
use crate::rpc::claim;
use crate::rpc::hello::Entry;
use crate::rpc::server::engine::{Ending, Engine};
use crate::rpc::server::floor::{Floor, Look};
use crate::sync::{AtomicBool, Mutex, Ordering, lock};
use crate::sys::fd::Fd;

/// What the loop drives.
struct Driving {
    floor: Floor,
    starter: PyStarter,
    reader: Option<Fd>,
    fired: Py<PyAny>,
    on_end: Py<PyAny>,
}

struct Server {
    name: String,
    engine: Arc<Engine>,
    /// Not there while a pass is under way, before the start and after the end.
    driving: Mutex<Option<Box<Driving>>>,
    /// A pass was asked for.
    soon: AtomicBool,
}

/// Asks the loop for a pass, from any thread.
struct Kick {
    server: Weak<Server>,
    event_loop: Py<PyAny>,
    fired: Py<PyAny>,
}

impl Wake for Kick {
    fn wake(self: Arc<Self>) {
        let Some(server) = self.server.upgrade() else { return };
        if server.soon.swap(true, Ordering::SeqCst) {
            return;
        }
        let _ = Python::try_attach(|py| {
            // Fails where the loop is closed: the server is over with it.
            let _ = self.event_loop.call_method1(
                py,
                intern!(py, "call_soon_threadsafe"),
                (&self.fired, false),
            );
        });
    }
}

impl Server {
    /// One pass; what a handler raised that is not its caller's business comes out here.
    fn pass(self: &Arc<Self>, py: Python<'_>, harvest: bool) -> PyResult<()> {
        self.soon.store(false, Ordering::SeqCst);
        let Some(mut driving) = lock(&self.driving).take() else { return Ok(()) };
        let Driving { floor, starter, .. } = &mut *driving;
        let mut look = floor.look(harvest, starter);
        if look == Look::Busy {
            // As a rule this finds nothing, and the loop can sleep at once.
            look = floor.look(false, starter);
        }
        let raised = driving.starter.raised.take();
        let again = match look {
            Look::Over => {
                let ended = driving.end(py);
                return raised.map_or(ended, Err);
            }
            // Whoever else the loop runs has its turn in between.
            Look::Busy | Look::Awake => true,
            Look::Quiet => !driving.floor.park(),
        };
        if again && !self.soon.swap(true, Ordering::SeqCst) {
            let event_loop = driving.starter.event_loop.bind(py);
            event_loop.call_method1(intern!(py, "call_soon"), (&driving.fired, false))?;
        }
        *lock(&self.driving) = Some(driving);
        raised.map_or(Ok(()), Err)
    }
}

impl Driving {
    /// Out of the loop; whoever waits for the end is told.
    fn end(mut self: Box<Self>, py: Python<'_>) -> PyResult<()> {
        self.unregister(py);
        self.on_end.call0(py).map(drop)
    }

    fn unregister(&mut self, py: Python<'_>) {
        let Some(fd) = self.reader.take() else { return };
        let event_loop = self.starter.event_loop.bind(py);
        let is = |what| is_true(event_loop, what).unwrap_or(false);
        if is(intern!(py, "is_closed")) {
            return;
        }
        if runs_here(event_loop) || !is(intern!(py, "is_running")) {
            let remove = intern!(py, "remove_reader");
            let _ = event_loop.call_method1(remove, (fd.as_raw_fd(),));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.engine.is_inherited() {
            return;
        }
        self.engine.give_name_back();
        if let Some(mut driving) = lock(&self.driving).take() {
            // After the interpreter is gone there is no loop to take it out of.
            let _ = Python::try_attach(|py| driving.unregister(py));
        }
    }
}

/// The counters in the order of `ServerStats`.
type Counted<'py> = (u64, u64, u64, u64, u64, u64, u64, Bound<'py, PyTuple>);

/// The native half of a service.
#[pyclass(frozen, weakref, name = "_Server", module = "ringspan")]
pub(crate) struct PyServer {
    server: Arc<Server>,
    methods: Arc<Vec<Handler>>,
    exact: bool,
}

#[pymethods]
impl PyServer {
    #[new]
    #[pyo3(signature = (name, methods, limits, grace, exact, stay_awake))]
    fn new(
        name: String,
        methods: Vec<Bound<'_, PyAny>>,
        limits: &Bound<'_, PyDict>,
        grace: &Bound<'_, PyAny>,
        exact: bool,
        stay_awake: bool,
    ) -> PyResult<PyServer> {
        let methods: Vec<Handler> =
            methods.iter().map(Handler::from_python).collect::<PyResult<_>>()?;
        let entries = methods.iter().map(|method| Entry {
            name: method.name.clone(),
            stream: method.kind.is_stream(),
            raw: method.raw,
            in_place: false,
        });
        let object = format!("function /{}", name.trim_start_matches('/'));
        let grace = seconds(Some(grace), "grace")?.unwrap_or(Duration::from_secs(1 << 30));
        let mut engine = Engine::new(object, limits_from(limits)?, grace, entries.collect())
            .map_err(|fault| errors::fault(&fault))?;
        engine.awake = if stay_awake { LOOPS } else { NEVER };
        let server = Server {
            name,
            engine: Arc::new(engine),
            driving: Mutex::new(None),
            soon: AtomicBool::new(false),
        };
        Ok(PyServer { server: Arc::new(server), methods: Arc::new(methods), exact })
    }

    /// Takes the name and serves it on the loop that runs; `on_end` is called when it is over.
    fn start(&self, py: Python<'_>, on_end: Py<PyAny>, eager: bool) -> PyResult<()> {
        let event_loop = running_loop(py, "Service")?;
        let engine = &self.server.engine;
        let fault = |fault: Fault| errors::fault(&fault);
        if engine.has_ended() || lock(&self.server.driving).is_some() {
            return Err(PyRuntimeError::new_err(
                "this service was started before; make another one",
            ));
        }
        let floor = Floor::new(Arc::clone(engine)).map_err(fault)?;
        let claim = claim::claim(&self.server.name).map_err(|err| errors::open(&err, ""))?;
        engine.set_claim(claim).map_err(fault)?;
        let fd = floor.poll_fd().duplicate();
        let fd = fd.map_err(|err| errors::fault(&Fault::os(&engine.object, "dup", &err)))?;
        let number = fd.as_raw_fd();
        let weak = Arc::downgrade(&self.server);
        let fired = PyCFunction::new_closure(py, None, None, move |args, _| -> PyResult<()> {
            let harvest = args.is_empty();
            weak.upgrade().map_or(Ok(()), |server| server.pass(args.py(), harvest))
        })?
        .into_any()
        .unbind();
        let starter = PyStarter {
            methods: Arc::clone(&self.methods),
            exact: self.exact,
            event_loop: event_loop.clone().unbind(),
            task: py.import("asyncio")?.getattr("Task")?.unbind(),
            eager,
            drain: py.import("ringspan._handlers")?.getattr("drain")?.unbind(),
            worker: None,
            out: Vec::new(),
            raised: None,
        };
        engine.drive_by(&Waker::from(Arc::new(Kick {
            server: Arc::downgrade(&self.server),
            event_loop: event_loop.clone().unbind(),
            fired: fired.clone_ref(py),
        })));
        event_loop.call_method1(intern!(py, "add_reader"), (number, &fired))?;
        let driving = Driving { floor, starter, reader: Some(fd), fired, on_end };
        *lock(&self.server.driving) = Some(Box::new(driving));
        self.server.pass(py, false)
    }

    /// Asks it to end: what was called is finished, within `grace` seconds. From any thread.
    fn stop(&self, grace: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let engine = &self.server.engine;
        let grace = seconds(grace, "grace")?;
        if engine.is_inherited() {
            let cause = "this server was inherited by fork and belongs to the parent";
            let fault = Fault::new(FaultKind::Forked, &engine.object, cause);
            return Err(errors::fault(&fault));
        }
        engine.ask_to_end(match grace {
            Some(grace) if grace.is_zero() => Ending::Stop,
            Some(grace) => Ending::Drain(grace),
            None => Ending::Drain(Duration::from_secs(1 << 30)),
        });
        Ok(())
    }

    /// Gives the name back and hangs up, now, without the loop.
    fn kill(&self, py: Python<'_>) {
        self.server.engine.give_name_back();
        let driving = lock(&self.server.driving).take();
        if let Some(mut driving) = driving {
            driving.unregister(py);
        }
    }

    #[getter]
    fn name(&self) -> &str {
        &self.server.name
    }

    /// Calls, errors, in flight, running, clients, violations, refused, and the histogram.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Counted<'py>> {
        let s = self.server.engine.counters.snapshot();
        Ok((
            s.calls,
            s.errors,
            s.in_flight,
            s.running,
            s.clients,
            s.violations,
            s.refused,
            PyTuple::new(py, s.latency)?,
        ))
    }
}

fn limits_from(given: &Bound<'_, PyDict>) -> PyResult<Limits> {
    let mut limits = Limits::default();
    for (key, value) in given.iter() {
        match key.extract::<String>()?.as_str() {
            "max_concurrency" => limits.max_concurrency = value.extract()?,
            "max_pending" => limits.max_pending = value.extract()?,
            "max_inflight_bytes" => limits.max_inflight_bytes = value.extract()?,
            "max_message" => limits.max_message = value.extract()?,
            "max_unread_bytes" => limits.max_unread_bytes = value.extract()?,
            "ring_capacity" => limits.ring_capacity = value.extract()?,
            "max_clients" => limits.max_clients = value.extract()?,
            other => return Err(errors::option(format!("no such limit: {other}"))),
        }
    }
    Ok(limits)
}

/// The most that one client can make a server with these limits hold, in bytes.
#[pyfunction]
fn _memory_per_client(limits: &Bound<'_, PyDict>) -> PyResult<u64> {
    Ok(limits_from(limits)?.memory_per_client())
}

/// Adds the classes of servers to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyServer>()?;
    m.add_class::<PyContext>()?;
    m.add_class::<PySender>()?;
    m.add_class::<PyFinish>()?;
    m.add_class::<PyJob>()?;
    m.add_class::<PyJobs>()?;
    m.add_function(wrap_pyfunction!(_memory_per_client, m)?)
}
