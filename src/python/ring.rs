//! `Ring`, and the options by which it and its ends are opened and pickled.

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use super::consumer::PyConsumer;
use super::convert::Options as Codec;
use super::errors;
use super::opening;
use super::packed_ends;
use super::producer::PyProducer;
use super::seconds::seconds;
use super::stat::PyRingStat;
use crate::ring::Ring;

/// How a ring was asked for; what a pickle of it, or of an end, carries.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) name: String,
    capacity: Option<u64>,
    max_message: Option<u64>,
    mode: u32,
    ephemeral: bool,
    create: Option<bool>,
    spin: Option<Duration>,
    pub(crate) codec: Codec,
}

/// The keyword arguments of `Ring`, `Producer` and `Consumer`.
pub(crate) struct Keywords<'a, 'py> {
    pub(crate) capacity: Option<u64>,
    pub(crate) max_message: Option<u64>,
    pub(crate) mode: u32,
    pub(crate) ephemeral: bool,
    pub(crate) create: Option<bool>,
    pub(crate) spin: Option<&'a Bound<'py, PyAny>>,
    pub(crate) pickle: bool,
    pub(crate) exact: bool,
}

/// The state of a pickle.
type Frozen = (Option<u64>, Option<u64>, u32, bool, Option<bool>, Option<f64>, bool, bool);

impl Config {
    pub(crate) fn new(name: String, given: &Keywords<'_, '_>) -> PyResult<Arc<Config>> {
        if given.mode > 0o777 {
            let text = format!("{name}: mode {:#o} has bits that are no permissions", given.mode);
            return Err(errors::option(text));
        }
        Ok(Arc::new(Config {
            name,
            capacity: given.capacity,
            max_message: given.max_message,
            mode: given.mode,
            ephemeral: given.ephemeral,
            create: given.create,
            spin: seconds(given.spin, "spin")?.filter(|spin| !spin.is_zero()),
            codec: Codec { exact: given.exact, pickle: given.pickle },
        }))
    }

    /// Whether an end keeps looking before it sleeps.
    pub(crate) fn spins(&self) -> bool {
        self.spin.is_some()
    }

    pub(crate) fn open(&self) -> PyResult<Ring> {
        let mut options = Ring::options().mode(self.mode).ephemeral(self.ephemeral).spin(self.spin);
        if let Some(bytes) = self.capacity {
            options = options.capacity(bytes);
        }
        if let Some(bytes) = self.max_message {
            options = options.max_message(bytes);
        }
        opening::found(|| match self.create {
            None => options.open_or_create(&self.name),
            Some(true) => options.create(&self.name),
            Some(false) => options.open(&self.name),
        })
    }

    /// What `__reduce__` returns: `class` is opened by it again, never created anew by a
    /// `create=True` that has been answered.
    pub(crate) fn reduce<'py>(
        &self,
        py: Python<'py>,
        class: &str,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let again = py.import("ringspan._ringspan")?.getattr("_again")?;
        let create = if self.create == Some(true) { Some(false) } else { self.create };
        let frozen: Frozen = (
            self.capacity,
            self.max_message,
            self.mode,
            self.ephemeral,
            create,
            self.spin.map(|spin| spin.as_secs_f64()),
            self.codec.pickle,
            self.codec.exact,
        );
        (again, (class, &self.name, frozen)).into_pyobject(py)
    }

    fn thaw(name: String, frozen: Frozen) -> PyResult<Arc<Config>> {
        let (capacity, max_message, mode, ephemeral, create, spin, pickle, exact) = frozen;
        let spin = spin.map(Duration::try_from_secs_f64).transpose();
        let spin = spin.map_err(|err| errors::option(format!("{name}: spin: {err}")))?;
        let codec = Codec { exact, pickle };
        Ok(Arc::new(Config { name, capacity, max_message, mode, ephemeral, create, spin, codec }))
    }
}

/// `_again(class, name, options)`: what pickles call.
#[pyfunction]
#[pyo3(name = "_again", signature = (class_, name, frozen, /))]
fn again(py: Python<'_>, class_: &str, name: String, frozen: Frozen) -> PyResult<Py<PyAny>> {
    let config = Config::thaw(name, frozen)?;
    Ok(match class_ {
        "Producer" => Py::new(py, PyProducer::later(config))?.into_any(),
        "Consumer" => Py::new(py, PyConsumer::later(config))?.into_any(),
        _ => Py::new(py, PyRing { ring: config.open()?, config })?.into_any(),
    })
}

/// `_quota_ring(name, quota)`: opens or makes the ring of a `SpscRingBuffer`. What it returns makes none.
#[pyfunction]
#[pyo3(name = "_quota_ring", signature = (name, quota, /))]
fn quota_ring(name: String, quota: NonZeroU64) -> PyResult<PyRing> {
    let bytes = quota.get();
    let capacity = bytes.saturating_mul(packed_ends::ROOM);
    let options = Ring::options().capacity(capacity).max_message(bytes).quota(quota);
    let made = options.open_or_create(&name).map_err(|err| errors::open(&err, ""))?;
    let given = Keywords {
        capacity: None,
        max_message: None,
        mode: 0o600,
        ephemeral: false,
        create: Some(false),
        spin: None,
        pickle: false,
        exact: false,
    };
    drop(made);
    let config = Config::new(name, &given)?;
    Ok(PyRing { ring: config.open()?, config })
}

impl PyRing {
    pub(super) fn native(&self) -> &Ring {
        &self.ring
    }

    pub(super) fn config(&self) -> &Arc<Config> {
        &self.config
    }
}

/// Adds the private functions to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(quota_ring, m)?)?;
    m.add_function(wrap_pyfunction!(again, m)?)
}

/// A named ring without a role.
#[pyclass(frozen, name = "Ring", module = "ringspan")]
#[derive(Debug)]
pub(crate) struct PyRing {
    ring: Ring,
    config: Arc<Config>,
}

#[pymethods]
impl PyRing {
    #[new]
    #[pyo3(signature = (name, *, capacity=None, max_message=None, mode=0o600, ephemeral=false,
        create=None, spin=None, pickle=false, exact=false))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments")]
    fn new(
        name: String,
        capacity: Option<u64>,
        max_message: Option<u64>,
        mode: u32,
        ephemeral: bool,
        create: Option<bool>,
        spin: Option<&Bound<'_, PyAny>>,
        pickle: bool,
        exact: bool,
    ) -> PyResult<Self> {
        let given =
            Keywords { capacity, max_message, mode, ephemeral, create, spin, pickle, exact };
        let config = Config::new(name, &given)?;
        Ok(PyRing { ring: config.open()?, config })
    }

    /// Attaches the producer end.
    fn producer(&self) -> PyResult<PyProducer> {
        let end = opening::found(|| self.ring.producer())?;
        Ok(PyProducer::now(Arc::clone(&self.config), end))
    }

    /// Attaches the consumer end.
    fn consumer(&self) -> PyResult<PyConsumer> {
        let end = opening::found(|| self.ring.consumer())?;
        Ok(PyConsumer::now(Arc::clone(&self.config), end))
    }

    /// A look at the ring from outside.
    fn stat(&self, py: Python<'_>) -> PyResult<PyRingStat> {
        PyRingStat::new(py, &self.ring.stat())
    }

    /// Deletes the name; who is attached goes on.
    fn remove(&self) -> PyResult<()> {
        opening::remove(&self.ring.name())
    }

    /// The name, with its slash.
    #[getter]
    fn name(&self) -> String {
        self.ring.name()
    }

    /// Bytes of room for messages and their headers.
    #[getter]
    fn capacity(&self) -> u64 {
        self.ring.capacity()
    }

    /// Bytes of the largest message.
    #[getter]
    fn max_message(&self) -> u64 {
        self.ring.max_message()
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.config.reduce(py, "Ring")
    }

    fn __repr__(&self) -> String {
        format!("Ring({:?}, capacity={})", self.ring.name(), self.ring.capacity())
    }
}
