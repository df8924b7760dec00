//! Waiting for a change of a value or a scalar, which any process may make: `changed`, `wait_for`,
//! `async for`, and their blocking forms.

use pyo3::exceptions::{PyRuntimeError, PyStopAsyncIteration, PyTypeError};
use pyo3::prelude::*;
use std::sync::Arc;
use std::time::Duration;

use super::asyncio::Face;
use super::awaitable::{Operation, awaitable};
use super::deadline::Deadline;
use super::errors;
use super::loop_faces::LoopFaces;
use super::signals;
use super::sleepers::Closes;
use crate::error::{Fault, FaultKind, errno};
use crate::notify::Endpoint;
use crate::notify::local::Keep;
use crate::notify::shared::Shared;
use crate::region::Region;
use crate::sync::{Mutex, lock};
use crate::sys::fd::Fd;

/// How often a predicate may say no in a row before the loop gets a turn.
const LOOKS: usize = 64;

/// What changes.
pub(crate) trait Source: Send + Sync {
    fn region(&self) -> &Arc<Region>;
    fn shared(&self) -> &Shared;
    fn version(&self) -> u64;

    /// Steps 3 and 4 of a sleeper.
    fn look(&self, endpoint: &mut Endpoint, since: u64) -> Result<Option<u64>, Fault>;

    /// The latest as an object, with its version; `None`: never set.
    fn read(&self, py: Python<'_>) -> PyResult<(u64, Option<Py<PyAny>>)>;
}

/// A class whose objects change.
pub(crate) trait Changing: Closes + Send + Sync + 'static {
    fn faces(&self) -> &LoopFaces;

    /// The handle of this process; an error once closed.
    fn source(&self) -> PyResult<Arc<dyn Source>>;
}

/// What a wait is for.
pub(crate) enum Until {
    /// The version differs from this one (`None`: from what it is at the start).
    Changed(Option<u64>),
    /// The callable says true of the value. It is asked once of each version.
    Fits { wanted: Py<PyAny>, asked: Option<u64> },
    /// There is a value of another version than the last one seen.
    Next(Arc<Mutex<u64>>),
}

impl Until {
    /// # Errors
    ///
    /// TypeError: it cannot be called.
    pub(crate) fn fits(wanted: &Bound<'_, PyAny>) -> PyResult<Until> {
        Ok(Until::Fits { wanted: callable(wanted, "wait_for")?, asked: None })
    }

    fn verb(&self) -> &'static str {
        match self {
            Until::Changed(_) => "changed",
            Until::Fits { .. } => "wait_for",
            Until::Next(_) => "__anext__",
        }
    }

    /// Looks without waiting: the result, or the version that has to be left behind.
    fn attempt(&mut self, py: Python<'_>, source: &dyn Source) -> PyResult<Result<Py<PyAny>, u64>> {
        match self {
            Until::Changed(since) => {
                let now = source.version();
                let since = *since.get_or_insert(now);
                if now == since {
                    return Ok(Err(since));
                }
                Ok(Ok(now.into_pyobject(py)?.into_any().unbind()))
            }
            Until::Fits { wanted, asked } => {
                if let Some(version) = asked.filter(|&asked| asked == source.version()) {
                    return Ok(Err(version));
                }
                let (version, value) = source.read(py)?;
                *asked = Some(version);
                if let Some(value) = value
                    && wanted.bind(py).call1((value.clone_ref(py),))?.is_truthy()?
                {
                    return Ok(Ok(value));
                }
                Ok(Err(version))
            }
            Until::Next(seen) => {
                let before = *lock(seen);
                let now = source.version();
                if now == before {
                    return Ok(Err(before));
                }
                *lock(seen) = now; // should it be unreadable, this version has been told of
                let (version, value) = source.read(py).map_err(|err| no_end(py, err))?;
                *lock(seen) = version;
                Ok(value.ok_or(version))
            }
        }
    }
}

/// Refuses at the call what could not be called later.
pub(crate) fn callable(given: &Bound<'_, PyAny>, verb: &str) -> PyResult<Py<PyAny>> {
    if given.is_callable() {
        return Ok(given.clone().unbind());
    }
    let class = given.get_type().name()?;
    Err(PyTypeError::new_err(format!("{verb}: a callable is wanted, not {class}")))
}

/// A StopAsyncIteration out of a decoder (a pickle's, say) would be taken for the end of the `async for`.
fn no_end(py: Python<'_>, err: PyErr) -> PyErr {
    if !err.is_instance_of::<PyStopAsyncIteration>(py) {
        return err;
    }
    let told = PyRuntimeError::new_err("reading the value raised StopAsyncIteration");
    told.set_cause(py, Some(err));
    told
}

/// One wait in asyncio.
struct Waiting {
    owner: Arc<dyn Changing>,
    name: &'static str,
    face: Arc<Face>,
    until: Until,
    /// Looked once. From now on through the endpoint, which watches who may make a change.
    looked: bool,
    keep: Option<Keep<Endpoint>>,
}

impl Operation for Waiting {
    fn name(&self) -> &'static str {
        self.name
    }

    fn start(&mut self, py: Python<'_>) -> PyResult<()> {
        self.owner.source()?;
        self.face = self.owner.faces().here(py, self.name)?;
        Ok(())
    }

    fn face(&self) -> &Arc<Face> {
        &self.face
    }

    fn queued(&self) -> bool {
        false
    }

    fn poll(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let source = self.owner.source()?;
        for _ in 0..LOOKS {
            let since = match self.until.attempt(py, &*source)? {
                Ok(found) => return Ok(Some(found)),
                Err(since) => since,
            };
            if !self.looked {
                self.looked = true;
                return Ok(None);
            }
            if self.keep.is_none() && matches!(self.until, Until::Fits { .. }) {
                self.keep = source.shared().keep().ok();
            }
            let looked = source.shared().with(|endpoint| source.look(endpoint, since));
            if looked.and_then(|looked| looked).map_err(|fault| errors::fault(&fault))?.is_none() {
                return Ok(None);
            }
        }
        // It changes faster than it is looked at: others of the loop come first, then we are woken.
        source.shared().notify_local();
        Ok(None)
    }

    fn visit(&self, each: &mut dyn FnMut(&Py<PyAny>)) {
        if let Until::Fits { wanted, .. } = &self.until {
            each(wanted);
        }
    }
}

/// The awaitable of a wait. `name` is class and verb.
pub(crate) fn awaited(
    py: Python<'_>,
    owner: Arc<dyn Changing>,
    name: &'static str,
    until: Until,
) -> PyResult<Py<PyAny>> {
    let face = Arc::clone(owner.faces().nowhere());
    let op = Waiting { owner, name, face, until, looked: false, keep: None };
    awaitable(py, Box::new(op))
}

/// The same, parking the thread with the interpreter lock given back; signals are answered, and a `close`
/// by another thread ends it.
pub(crate) fn blocking(
    py: Python<'_>,
    owner: &(impl Changing + ?Sized),
    mut until: Until,
    limit: Option<Duration>,
) -> PyResult<Py<PyAny>> {
    let source = &*owner.source()?;
    let deadline = Deadline::after(limit);
    let mut keep = None;
    let mut since = match until.attempt(py, source)? {
        Ok(found) => return Ok(found),
        Err(since) => since,
    };
    loop {
        if keep.is_none() && matches!(until, Until::Fits { .. }) {
            keep = source.shared().keep().ok();
        }
        let park = |bell: Option<&Fd>| {
            source
                .shared()
                .wait_blocking(deadline.at(), bell, |endpoint| source.look(endpoint, since))
        };
        let came = signals::parked(py, owner, park)?;
        if came.is_none() {
            return Err(timed_out(source, until.verb()));
        }
        match until.attempt(py, source)? {
            Ok(found) => return Ok(found),
            Err(later) => since = later,
        }
        // What changes all the time never lets it sleep until then.
        if deadline.left() == Some(Duration::ZERO) {
            return Err(timed_out(source, until.verb()));
        }
    }
}

fn timed_out(source: &dyn Source, verb: &str) -> PyErr {
    let cause = format!("blocking_{verb}: nothing that was waited for came within the time-out");
    let fault = source.region().fault(FaultKind::Os, cause);
    errors::timeout(&fault.with_errno(errno::ETIMEDOUT))
}

/// Looks at a value again and again; from `async for`. Between its waits it keeps the descriptors by which
/// it notices deaths.
#[pyclass(frozen, name = "Watch", module = "ringspan")]
pub(crate) struct PyWatch {
    owner: Arc<dyn Changing>,
    name: &'static str,
    seen: Arc<Mutex<u64>>,
    _keep: Option<Keep<Endpoint>>,
}

impl PyWatch {
    pub(crate) fn new(owner: Arc<dyn Changing>, name: &'static str, seen: u64) -> PyResult<Self> {
        let keep = owner.source()?.shared().keep().ok();
        Ok(PyWatch { owner, name, seen: Arc::new(Mutex::new(seen)), _keep: keep })
    }
}

#[pymethods]
impl PyWatch {
    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    /// Waits for a newer one than the last.
    fn __anext__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let until = Until::Next(Arc::clone(&self.seen));
        awaited(py, Arc::clone(&self.owner), self.name, until)
    }
}
