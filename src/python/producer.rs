//! The class `Producer`.

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::sync::Arc;

use super::awaitable::awaitable;
use super::deadline::Deadline;
use super::end::{Handle, Owner, Role};
use super::end_awaits;
use super::errors;
use super::grant::PyGrant;
use super::opening;
use super::producer_ops::{self as ops, Batch, Push, PushMany, Reserve};
use super::ring::{Config, Keywords};
use super::seconds::seconds;
use super::stat::{PyEndStat, PyPeer};
use crate::error::OpenError;
use crate::ring::bind::End;
use crate::ring::{Producer, Reservation, Ring, Stop};

impl Role for Producer {
    const NOUN: &'static str = "producer";
    const OUT: &'static str = "a grant";
    type Out = Reservation;

    fn attach(ring: &Ring) -> Result<Self, OpenError> {
        ring.producer()
    }

    /// Nothing was published, so nothing is to be done.
    fn give_back(&mut self, _reservation: Reservation) {}

    fn stopped(stop: Stop, ring: &str) -> PyErr {
        errors::push(stop, &ring)
    }
}

/// The producing end of a ring.
#[pyclass(frozen, name = "Producer", module = "ringspan")]
pub(crate) struct PyProducer {
    handle: Handle<Producer>,
}

impl Owner for PyProducer {
    type R = Producer;
    const ATTACHED: &'static str = "Producer.attached";

    fn handle(&self) -> &Handle<Producer> {
        &self.handle
    }
}

impl PyProducer {
    pub(crate) fn now(config: Arc<Config>, role: Producer) -> Self {
        PyProducer { handle: Handle::now(config, role) }
    }

    pub(crate) fn later(config: Arc<Config>) -> Self {
        PyProducer { handle: Handle::later(config) }
    }

    /// Waits until there is room for `len` bytes, or `deadline` passes.
    fn wait(&self, py: Python<'_>, verb: &str, len: usize, deadline: &Deadline) -> PyResult<()> {
        let left = deadline.left();
        self.handle.wait(py, verb, |tx, signals| tx.park(len, left, signals))
    }
}

#[pymethods]
impl PyProducer {
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
        let end = {
            let ring = config.open()?;
            opening::found(|| ring.producer())?
        };
        Ok(Self::now(config, end))
    }

    /// Publishes an object, waiting for room.
    fn push(slf: Py<Self>, py: Python<'_>, obj: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let encoded = ops::encode(obj, &slf.get().handle)?;
        awaitable(py, Box::new(Push::new(slf, encoded)))
    }

    /// Publishes an object if there is room now; False if not.
    fn try_push(&self, py: Python<'_>, obj: &Bound<'_, PyAny>) -> PyResult<bool> {
        if let Some(bytes) = ops::plain(obj)
            && ops::look_plain(py, &self.handle, "Producer.try_push", bytes)?
        {
            return Ok(true);
        }
        let encoded = ops::encode(obj, &self.handle)?;
        let pushed = ops::try_one(py, &self.handle, "Producer.try_push", &encoded);
        ops::recycle(encoded);
        pushed
    }

    /// Publishes an object, parking the thread while there is no room.
    #[pyo3(signature = (obj, timeout=None))]
    fn blocking_push(
        &self,
        py: Python<'_>,
        obj: &Bound<'_, PyAny>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        const VERB: &str = "Producer.blocking_push";
        let timeout = seconds(timeout, "timeout")?;
        if let Some(bytes) = ops::plain(obj)
            && ops::look_plain(py, &self.handle, VERB, bytes)?
        {
            return Ok(());
        }
        let encoded = ops::encode(obj, &self.handle)?;
        if ops::look_one(py, &self.handle, VERB, &encoded)? {
            ops::recycle(encoded);
            return Ok(());
        }
        let deadline = Deadline::after(timeout);
        loop {
            self.wait(py, VERB, encoded.len(py), &deadline)?;
            if ops::look_one(py, &self.handle, VERB, &encoded)? {
                return Ok(());
            }
        }
    }

    /// Publishes all objects, in batches, waiting for room. How many.
    fn push_many(slf: Py<Self>, py: Python<'_>, objs: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let batch = Batch::new(objs)?;
        awaitable(py, Box::new(PushMany::new(slf, batch)))
    }

    /// Publishes objects until one does not fit. How many.
    fn try_push_many(&self, py: Python<'_>, objs: &Bound<'_, PyAny>) -> PyResult<usize> {
        const VERB: &str = "Producer.try_push_many";
        let mut batch = Batch::new(objs)?;
        if let Some(len) = batch.stage(py, &self.handle, VERB)? {
            self.handle.enter(py, VERB)?.role()?.lacks(len);
        }
        self.handle.tried(py);
        Ok(batch.published())
    }

    /// Publishes all objects, parking the thread while there is no room. How many.
    #[pyo3(signature = (objs, timeout=None))]
    fn blocking_push_many(
        &self,
        py: Python<'_>,
        objs: &Bound<'_, PyAny>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<usize> {
        const VERB: &str = "Producer.blocking_push_many";
        let deadline = Deadline::after(seconds(timeout, "timeout")?);
        let mut batch = Batch::new(objs)?;
        loop {
            match batch.stage(py, &self.handle, VERB)? {
                None => return Ok(batch.published()),
                Some(len) => self.wait(py, VERB, len, &deadline)?,
            }
        }
    }

    /// How many objects the last `push_many` has published.
    #[getter]
    fn published(&self, py: Python<'_>) -> PyResult<usize> {
        let mut inside = self.handle.look_in(py, "Producer.published")?;
        Ok(inside.role()?.published())
    }

    /// Room for a message of up to `size` bytes, to be filled in place.
    fn reserve(slf: Py<Self>, py: Python<'_>, size: usize) -> PyResult<Py<PyAny>> {
        awaitable(py, Box::new(Reserve::new(slf, size)))
    }

    /// As `reserve`; None when there is no room now.
    fn try_reserve(slf: Py<Self>, py: Python<'_>, size: usize) -> PyResult<Option<PyGrant>> {
        let grant = ops::try_reserve(py, &slf, "Producer.try_reserve", size);
        slf.get().handle.tried(py);
        grant
    }

    /// As `reserve`, parking the thread while there is no room.
    #[pyo3(signature = (size, timeout=None))]
    fn blocking_reserve(
        slf: Py<Self>,
        py: Python<'_>,
        size: usize,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<PyGrant> {
        const VERB: &str = "Producer.blocking_reserve";
        let deadline = Deadline::after(seconds(timeout, "timeout")?);
        loop {
            if let Some(grant) = ops::look_reserve(py, &slf, VERB, size)? {
                return Ok(grant);
            }
            slf.get().wait(py, VERB, size, &deadline)?;
        }
    }

    /// Waits until a consumer is attached.
    fn attached(slf: Py<Self>, py: Python<'_>) -> PyResult<Py<PyAny>> {
        end_awaits::attached(slf, py)
    }

    /// Waits until a consumer is attached, parking the thread.
    #[pyo3(signature = (timeout=None))]
    fn blocking_attached(
        &self,
        py: Python<'_>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let left = seconds(timeout, "timeout")?;
        self.handle
            .wait(py, "Producer.blocking_attached", |tx, signals| tx.block_attached(left, signals))
    }

    /// Steps 1 to 4 of the wake protocol, for foreign event loops.
    fn arm(&self, py: Python<'_>) -> PyResult<bool> {
        let mut inside = self.handle.enter(py, "Producer.arm")?;
        inside.role()?.arm().map_err(|err| ops::push_error(err, self.handle.core.object()))
    }

    /// Takes in what made the descriptor readable.
    fn disarm(&self, py: Python<'_>) -> PyResult<()> {
        let mut inside = self.handle.look_in(py, "Producer.disarm")?;
        let done = inside.role()?.disarm();
        drop(inside);
        self.handle.face.kick(py);
        done.map_err(|err| errors::fault(&err))
    }

    /// The descriptor for foreign event loops.
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        let mut inside = self.handle.look_in(py, "Producer.fileno")?;
        inside.role()?.fileno().map_err(|err| errors::fault(&err))
    }

    /// The consumer that is attached now, or None.
    fn peer(&self, py: Python<'_>) -> PyResult<Option<PyPeer>> {
        let mut inside = self.handle.look_in(py, "Producer.peer")?;
        Ok(inside.role()?.peer().map(PyPeer::from))
    }

    /// The process of the consumer, or None.
    #[getter]
    fn peer_pid(&self, py: Python<'_>) -> PyResult<Option<u32>> {
        let mut inside = self.handle.look_in(py, "Producer.peer_pid")?;
        Ok(inside.role()?.peer().map(|peer| peer.pid))
    }

    /// The consumer closed or died and no other one came.
    #[getter]
    fn is_closed(&self, py: Python<'_>) -> PyResult<bool> {
        let mut inside = self.handle.look_in(py, "Producer.is_closed")?;
        Ok(inside.role()?.is_closed())
    }

    /// Bytes in the ring, headers included.
    #[getter]
    fn len(&self, py: Python<'_>) -> PyResult<u64> {
        let mut inside = self.handle.look_in(py, "Producer.len")?;
        Ok(inside.role()?.len())
    }

    /// Bytes of room for messages and their headers.
    #[getter]
    fn capacity(&self, py: Python<'_>) -> PyResult<u64> {
        let mut inside = self.handle.look_in(py, "Producer.capacity")?;
        Ok(inside.role()?.capacity())
    }

    /// Bytes of the largest message.
    #[getter]
    fn max_message(&self, py: Python<'_>) -> PyResult<u64> {
        let mut inside = self.handle.look_in(py, "Producer.max_message")?;
        Ok(inside.role()?.max_message())
    }

    /// The name of the ring, with its slash.
    #[getter]
    fn name(&self) -> &str {
        self.handle.core.name()
    }

    /// What this end has done since it was attached.
    fn stat(&self, py: Python<'_>) -> PyResult<PyEndStat> {
        let mut inside = self.handle.look_in(py, "Producer.stat")?;
        Ok(inside.role()?.stat().into())
    }

    /// Ends the stream.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.handle.close(py, "Producer.close", true)
    }

    /// Gives the role up without ending the stream.
    fn detach(&self, py: Python<'_>) -> PyResult<()> {
        self.handle.close(py, "Producer.detach", false)
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
    ) -> PyResult<()> {
        let _ = (exc, traceback);
        let done = self.close(py);
        if exc_type.is_some() { Ok(()) } else { done }
    }

    fn __aenter__(slf: Py<Self>, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let value = slf.clone_ref(py).into_any();
        end_awaits::ready(slf, py, "Producer.__aenter__", value)
    }

    #[pyo3(signature = (exc_type=None, exc=None, traceback=None, /))]
    fn __aexit__(
        slf: Py<Self>,
        py: Python<'_>,
        exc_type: Option<&Bound<'_, PyAny>>,
        exc: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        slf.get().__exit__(py, exc_type, exc, traceback)?;
        end_awaits::ready(slf, py, "Producer.__aexit__", py.None())
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.handle.core.config.reduce(py, "Producer")
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        self.handle.describe(py)
    }
}
