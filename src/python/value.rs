//! The class `Value`: the latest value of any Python object that the codec can say.

use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};
use std::sync::Arc;

use super::awaitable::awaitable;
use super::changes::{self, PyWatch, Source, Until};
use super::consumer_ops::check_default;
use super::convert::{self, Encoded, Options};
use super::deadline::Deadline;
use super::errors;
use super::holding::{Holding, Who};
use super::loop_faces::LoopFaces;
use super::opening;
use super::seconds::seconds;
use super::signals;
use super::sleepers::{self, Closes};
use super::stat::PyHandleStat;
use super::value_ops::{Action, Changing, Handle};
use super::value_peek::{self, Maybe};
use crate::error::Fault;
use crate::notify::Endpoint;
use crate::notify::find::How;
use crate::rwlock::{HandleStat, LockMode};
use crate::sync::{Mutex, lock};
use crate::sys::fd::Fd;
use crate::value::{Plain, timed_out};

/// What the object and its awaitables share.
pub(crate) struct Inner {
    /// First, so that the readers leave their loops before the endpoint closes its descriptor.
    pub(crate) faces: LoopFaces,
    /// None once closed. Taken with the interpreter attached, for plain statements only.
    handle: Mutex<Option<Handle>>,
    holding: Holding,
    object: Arc<str>,
    pub(crate) name: String,
}

impl Inner {
    /// The handle, of this process.
    pub(crate) fn open(&self) -> PyResult<Handle> {
        let handle = lock(&self.handle).clone();
        let handle =
            handle.ok_or_else(|| errors::closed_handle(&self.object, "handle", "closed"))?;
        handle.core.region().check_fork().map_err(|fault| errors::fault(&fault))?;
        Ok(handle)
    }

    /// Runs Python code under the lock, in which nobody may wait for the lock: not this task, and no other
    /// one that the code runs in a loop of its own. All that this thread does meanwhile is part of it.
    pub(crate) fn holding_while<R>(&self, run: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
        let who = Who::this_thread();
        self.holding.enter(&who);
        let result = run();
        self.holding.leave(&who);
        result
    }

    /// Refuses a wait for oneself.
    pub(crate) fn refuse_recursion(&self, verb: &str) -> PyResult<()> {
        let who = Who::this_thread();
        if !self.holding.holds(&who) {
            return Ok(());
        }
        Err(errors::would_deadlock(format!(
            "{}: {verb}: {} is inside `update` or `compare_and_set` of it and would wait for itself; \
             return the new value instead",
            self.object,
            who.noun()
        )))
    }
}

impl Closes for Inner {
    fn check_open(&self) -> PyResult<()> {
        self.open().map(drop)
    }
}

impl changes::Changing for Inner {
    fn faces(&self) -> &LoopFaces {
        &self.faces
    }

    fn source(&self) -> PyResult<Arc<dyn Source>> {
        Ok(Arc::new(self.open()?))
    }
}

/// The latest value of any type, shared by processes.
#[pyclass(frozen, name = "Value", module = "ringspan")]
pub(crate) struct PyValue {
    inner: Arc<Inner>,
    codec: Options,
    ephemeral: bool,
}

fn open(name: &str, plain: &Plain, how: How, codec: Options) -> PyResult<PyValue> {
    let core = opening::found(|| plain.find(name, how))?;
    let name = core.region().name().to_string();
    let ephemeral = core.region().is_ephemeral();
    let object: Arc<str> = format!("value {name}").into();
    let faces = LoopFaces::new(Arc::clone(&object), core.shared().clone());
    let handle = Mutex::new(Some(Handle { core, codec }));
    let inner = Inner { faces, handle, holding: Holding::default(), object, name };
    Ok(PyValue { inner: Arc::new(inner), codec, ephemeral })
}

/// How a name is to be found, as `create` says.
pub(crate) fn how(create: Option<bool>) -> How {
    match create {
        None => How::OpenOrCreate,
        Some(true) => How::Create,
        Some(false) => How::Open,
    }
}

impl PyValue {
    fn encode(&self, obj: &Bound<'_, PyAny>) -> PyResult<Encoded> {
        convert::encode(obj, self.codec, &mut Vec::new())
    }

    fn begin(&self, py: Python<'_>, action: Action) -> PyResult<Py<PyAny>> {
        awaitable(py, Box::new(Changing::new(Arc::clone(&self.inner), action)))
    }

    /// Takes the lock, parking the thread with the interpreter lock given back, and acts.
    fn block(
        &self,
        py: Python<'_>,
        action: &Action,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let limit = seconds(timeout, "timeout")?;
        let handle = self.inner.open()?;
        let core = &handle.core;
        if core.lock.take_at_once(LockMode::Write).is_some() {
            return action.run(py, &self.inner, &handle, core.taken());
        }
        self.inner.refuse_recursion(action.verb())?;
        let deadline = Deadline::after(limit);
        let mut taking = core.lock.taking(LockMode::Write);
        let park = |bell: Option<&Fd>| core.begin_blocking(&mut taking, deadline.at(), bell);
        let change = signals::parked(py, &*self.inner, park)?
            .ok_or_else(|| errors::timeout(&timed_out(core)))?;
        action.run(py, &self.inner, &handle, change)
    }

    fn wait(&self, py: Python<'_>, name: &'static str, until: Until) -> PyResult<Py<PyAny>> {
        changes::awaited(py, Arc::clone(&self.inner) as Arc<_>, name, until)
    }

    fn wait_blocking(
        &self,
        py: Python<'_>,
        until: Until,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let limit = seconds(timeout, "timeout")?;
        changes::blocking(py, &*self.inner, until, limit)
    }
}

#[pymethods]
impl PyValue {
    #[new]
    #[pyo3(signature = (name, *, capacity=4096, mode=0o600, ephemeral=false, create=None, exact=true, pickle=false, initial=Maybe(None)))]
    #[allow(clippy::too_many_arguments, reason = "keywords of Python")]
    fn py_new(
        name: &str,
        capacity: u64,
        mode: u32,
        ephemeral: bool,
        create: Option<bool>,
        exact: bool,
        pickle: bool,
        initial: Maybe<'_>,
    ) -> PyResult<Self> {
        let codec = Options { exact, pickle };
        let initial = initial.0.map(|value| value_peek::first(&value, codec)).transpose()?.map(Ok);
        let plain = Plain { capacity, mode, ephemeral, initial };
        open(name, &plain, how(create), codec)
    }

    /// The latest value of that name, without a handle.
    #[classmethod]
    #[pyo3(signature = (name, *default, pickle=false))]
    fn peek(
        _class: &Bound<'_, PyType>,
        py: Python<'_>,
        name: &str,
        default: &Bound<'_, PyTuple>,
        pickle: bool,
    ) -> PyResult<Py<PyAny>> {
        let default = one_default(default, "Value.peek")?;
        match value_peek::peek(py, name, Options { exact: true, pickle })? {
            Some(value) => Ok(value.unbind()),
            None => default.ok_or_else(|| errors::empty(&format!("value {name}"))),
        }
    }

    /// The latest value.
    #[pyo3(signature = (*default))]
    fn get(&self, py: Python<'_>, default: &Bound<'_, PyTuple>) -> PyResult<Py<PyAny>> {
        self.got(py, default, true)
    }

    /// The latest value, without ever waiting.
    #[pyo3(signature = (*default))]
    fn try_get(&self, py: Python<'_>, default: &Bound<'_, PyTuple>) -> PyResult<Py<PyAny>> {
        self.got(py, default, false)
    }

    /// Sets the value; the new version.
    fn set(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.begin(py, Action::Set(self.encode(value)?))
    }

    /// Sets the value, if nobody else is setting it.
    fn try_set(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        let action = Action::Set(self.encode(value)?);
        let handle = self.inner.open()?;
        match handle.core.try_begin().map_err(|fault| errors::fault(&fault))? {
            Some(change) => action.run(py, &self.inner, &handle, change).map(|_| true),
            None => Ok(false),
        }
    }

    /// As `set`, parking the thread.
    #[pyo3(signature = (value, timeout=None))]
    fn blocking_set(
        &self,
        py: Python<'_>,
        value: &Bound<'_, PyAny>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        self.block(py, &Action::Set(self.encode(value)?), timeout)
    }

    /// Sets what `f` makes of the latest value; what was set.
    #[pyo3(signature = (f, /, *default))]
    fn update(
        &self,
        py: Python<'_>,
        f: &Bound<'_, PyAny>,
        default: &Bound<'_, PyTuple>,
    ) -> PyResult<Py<PyAny>> {
        let default = one_default(default, "Value.update")?;
        self.begin(py, Action::Update { f: changes::callable(f, "update")?, default })
    }

    /// As `update`, parking the thread.
    #[pyo3(signature = (f, /, *default, timeout=None))]
    fn blocking_update(
        &self,
        py: Python<'_>,
        f: &Bound<'_, PyAny>,
        default: &Bound<'_, PyTuple>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let default = one_default(default, "Value.blocking_update")?;
        self.block(py, &Action::Update { f: changes::callable(f, "update")?, default }, timeout)
    }

    /// Sets `new` if the latest value equals `expected`; whether it did.
    fn compare_and_set(
        &self,
        py: Python<'_>,
        expected: Py<PyAny>,
        new: &Bound<'_, PyAny>,
    ) -> PyResult<Py<PyAny>> {
        self.begin(py, Action::Compare(expected, self.encode(new)?))
    }

    /// As `compare_and_set`, parking the thread.
    #[pyo3(signature = (expected, new, timeout=None))]
    fn blocking_compare_and_set(
        &self,
        py: Python<'_>,
        expected: Py<PyAny>,
        new: &Bound<'_, PyAny>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        self.block(py, &Action::Compare(expected, self.encode(new)?), timeout)
    }

    /// How often the value was set, by anybody; 0: never.
    #[getter]
    fn version(&self) -> PyResult<u64> {
        Ok(self.inner.open()?.core.version())
    }

    /// Waits until the version differs from `since`, and returns it.
    #[pyo3(signature = (since=None))]
    fn changed(&self, py: Python<'_>, since: Option<u64>) -> PyResult<Py<PyAny>> {
        self.wait(py, "Value.changed", Until::Changed(since))
    }

    /// As `changed`, parking the thread.
    #[pyo3(signature = (since=None, timeout=None))]
    fn blocking_changed(
        &self,
        py: Python<'_>,
        since: Option<u64>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        self.wait_blocking(py, Until::Changed(since), timeout)
    }

    /// Waits until `wanted` says true of the latest value, and returns that one.
    fn wait_for(&self, py: Python<'_>, wanted: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.wait(py, "Value.wait_for", Until::fits(wanted)?)
    }

    /// As `wait_for`, parking the thread.
    #[pyo3(signature = (wanted, timeout=None))]
    fn blocking_wait_for(
        &self,
        py: Python<'_>,
        wanted: &Bound<'_, PyAny>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        self.wait_blocking(py, Until::fits(wanted)?, timeout)
    }

    /// The present value, then each time the latest.
    fn __aiter__(&self) -> PyResult<PyWatch> {
        PyWatch::new(Arc::clone(&self.inner) as Arc<_>, "Value.__anext__", 0)
    }

    /// What this handle holds and has done.
    fn stat(&self) -> PyResult<PyHandleStat> {
        let stat: Result<HandleStat, Fault> = HandleStat::of(self.inner.open()?.core.shared());
        stat.map(PyHandleStat::from).map_err(|fault| errors::fault(&fault))
    }

    /// The name, with its slash.
    #[getter]
    fn name(&self) -> &str {
        &self.inner.name
    }

    /// Bytes in its file.
    #[getter]
    fn file_size(&self) -> PyResult<u64> {
        Ok(self.inner.open()?.core.region().length())
    }

    /// Keeps the handle for later, when nothing is read or set by it: what others remove meanwhile gives
    /// back what it grew by. False: it was removed already.
    #[pyo3(name = "_rest")]
    fn rest(&self) -> PyResult<bool> {
        let done = self.inner.open()?.core.shared().with(Endpoint::rest);
        done.map_err(|fault| errors::fault(&fault))
    }

    /// It is wanted again. False: it was removed, and is to be closed.
    #[pyo3(name = "_rouse")]
    fn rouse(&self) -> PyResult<bool> {
        let done = self.inner.open()?.core.shared().with(Endpoint::rouse);
        done.map_err(|fault| errors::fault(&fault))
    }

    /// Takes the places back of those who are proven dead; knocks at everybody's door.
    #[pyo3(name = "_bury_dead")]
    fn bury_dead(&self, py: Python<'_>) -> PyResult<()> {
        let inner = self.inner.open()?;
        py.detach(|| inner.core.lock.bury_dead()).map_err(|fault| errors::fault(&fault))
    }

    /// Whether its name was removed.
    #[getter]
    fn is_removed(&self) -> PyResult<bool> {
        Ok(self.inner.open()?.core.region().is_nameless())
    }

    /// Whether the last one out removes it.
    #[getter]
    fn is_ephemeral(&self) -> bool {
        self.ephemeral
    }

    /// Deletes the name. Who has it open goes on; waits end with `Removed`.
    fn remove(&self) -> PyResult<()> {
        opening::remove(&self.inner.name)
    }

    /// Gives the handle up; tasks and threads that wait get an error.
    fn close(&self, py: Python<'_>) {
        let handle = lock(&self.inner.handle).take();
        self.inner.faces.close(py);
        sleepers::closed(&*self.inner);
        drop(handle);
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (exc_type=None, exc=None, traceback=None, /))]
    fn __exit__(
        &self,
        py: Python<'_>,
        exc_type: Option<&Bound<'_, PyAny>>,
        exc: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) {
        let _ = (exc_type, exc, traceback);
        self.close(py);
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let again = py.import("ringspan._ringspan")?.getattr("_value_again")?;
        (again, (&self.inner.name, self.codec.exact, self.codec.pickle)).into_pyobject(py)
    }

    fn __repr__(&self) -> String {
        let how = if lock(&self.inner.handle).is_some() { "" } else { ", closed" };
        format!("<ringspan.Value {:?}{how}>", self.inner.name)
    }
}

impl PyValue {
    fn got(&self, py: Python<'_>, default: &Bound<'_, PyTuple>, wait: bool) -> PyResult<Py<PyAny>> {
        let default = one_default(default, if wait { "Value.get" } else { "Value.try_get" })?;
        match self.inner.open()?.read(py, wait)? {
            Some((_, Some(value))) => Ok(value.unbind()),
            _ => default.ok_or_else(|| errors::empty(&format!("value {}", self.inner.name))),
        }
    }
}

/// The one positional argument that may follow.
fn one_default(given: &Bound<'_, PyTuple>, verb: &str) -> PyResult<Option<Py<PyAny>>> {
    check_default(given, verb)?;
    given.iter().next().map(|default| Ok(default.unbind())).transpose()
}

/// `_value_again(name, exact, pickle)`: what pickles call.
#[pyfunction]
#[pyo3(name = "_value_again", signature = (name, exact, pickle, /))]
fn again(name: &str, exact: bool, pickle: bool) -> PyResult<PyValue> {
    open(name, &Plain::opened(), How::Open, Options { exact, pickle })
}

/// Adds the private function to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(again, m)?)
}
