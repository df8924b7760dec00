//! The class `Consumer`.

use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};
use std::sync::Arc;

use super::awaitable::awaitable;
use super::consumer_ops::{self as ops, Pop, PopMany};
use super::deadline::Deadline;
use super::end::{Handle, Owner, Role};
use super::end_awaits;
use super::errors;
use super::lent::PyLent;
use super::opening;
use super::ring::{Config, Keywords};
use super::seconds::seconds;
use super::stat::{PyEndStat, PyPeer};
use crate::error::OpenError;
use crate::ring::bind::End;
use crate::ring::{Consumer, Ring, Stop};

impl Role for Consumer {
    const NOUN: &'static str = "consumer";
    const OUT: &'static str = "a lent message";
    /// The cursor behind the lent message.
    type Out = u64;

    fn attach(ring: &Ring) -> Result<Self, OpenError> {
        ring.consumer()
    }

    fn give_back(&mut self, cursor: u64) {
        if End::base(self).check_fork().is_ok() {
            self.release(cursor);
        }
    }

    fn stopped(stop: Stop, ring: &str) -> PyErr {
        errors::pop(stop, &ring)
    }
}

/// The consuming end of a ring.
#[pyclass(frozen, name = "Consumer", module = "ringspan")]
pub(crate) struct PyConsumer {
    handle: Handle<Consumer>,
}

impl Owner for PyConsumer {
    type R = Consumer;
    const ATTACHED: &'static str = "Consumer.attached";

    fn handle(&self) -> &Handle<Consumer> {
        &self.handle
    }
}

impl PyConsumer {
    pub(crate) fn now(config: Arc<Config>, role: Consumer) -> Self {
        PyConsumer { handle: Handle::now(config, role) }
    }

    pub(crate) fn later(config: Arc<Config>) -> Self {
        PyConsumer { handle: Handle::later(config) }
    }

    /// Waits until there is something to look at, or `deadline` passes.
    fn wait(&self, py: Python<'_>, verb: &str, deadline: &Deadline) -> PyResult<()> {
        let left = deadline.left();
        self.handle.wait(py, verb, |rx, signals| rx.park(left, signals))
    }
}

#[pymethods]
impl PyConsumer {
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
            opening::found(|| ring.consumer())?
        };
        Ok(Self::now(config, end))
    }

    /// The oldest message, waiting for one.
    fn pop(slf: Py<Self>, py: Python<'_>) -> PyResult<Py<PyAny>> {
        awaitable(py, Box::new(Pop::one(slf)))
    }

    /// The oldest message, if one is there now.
    #[pyo3(signature = (*default), text_signature = "($self, default=..., /)")]
    fn try_pop<'py>(&self, py: Python<'py>, default: &Bound<'py, PyTuple>) -> PyResult<Py<PyAny>> {
        ops::check_default(default, "Consumer.try_pop")?;
        let found = ops::try_one(py, &self.handle, "Consumer.try_pop")?;
        match found {
            Some(value) => Ok(value),
            None if default.is_empty() => Err(errors::empty(&self.handle.core.object())),
            None => default.get_item(0).map(Bound::unbind),
        }
    }

    /// The oldest message, parking the thread while there is none.
    #[pyo3(signature = (timeout=None))]
    fn blocking_pop(
        &self,
        py: Python<'_>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        const VERB: &str = "Consumer.blocking_pop";
        let timeout = seconds(timeout, "timeout")?;
        if let Some(value) = ops::look_one(py, &self.handle, VERB)? {
            return Ok(value);
        }
        let deadline = Deadline::after(timeout);
        loop {
            self.wait(py, VERB, &deadline)?;
            if let Some(value) = ops::look_one(py, &self.handle, VERB)? {
                return Ok(value);
            }
        }
    }

    /// One to `most` messages, waiting for the first one only.
    fn pop_many(slf: Py<Self>, py: Python<'_>, most: usize) -> PyResult<Py<PyAny>> {
        ops::check_most(most)?;
        awaitable(py, Box::new(PopMany::new(slf, most)))
    }

    /// Up to `most` messages that are there now.
    fn try_pop_many<'py>(&self, py: Python<'py>, most: usize) -> PyResult<Bound<'py, PyList>> {
        ops::check_most(most)?;
        match ops::try_many(py, &self.handle, "Consumer.try_pop_many", most)? {
            Some(list) => Ok(list),
            None => Ok(PyList::empty(py)),
        }
    }

    /// One to `most` messages, parking the thread while there is none.
    #[pyo3(signature = (most, timeout=None))]
    fn blocking_pop_many<'py>(
        &self,
        py: Python<'py>,
        most: usize,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyList>> {
        const VERB: &str = "Consumer.blocking_pop_many";
        ops::check_most(most)?;
        let deadline = Deadline::after(seconds(timeout, "timeout")?);
        loop {
            if let Some(list) = ops::look_many(py, &self.handle, VERB, most)? {
                return Ok(list);
            }
            self.wait(py, VERB, &deadline)?;
        }
    }

    /// The oldest message where it lies, waiting for one.
    fn lend(slf: Py<Self>, py: Python<'_>) -> PyResult<Py<PyAny>> {
        awaitable(py, Box::new(Pop::lend(slf)))
    }

    /// The oldest message where it lies, or None.
    fn try_lend(&self, py: Python<'_>) -> PyResult<Option<PyLent>> {
        let lent = ops::try_lend(py, &self.handle, "Consumer.try_lend");
        self.handle.tried(py);
        lent
    }

    /// The oldest message where it lies, parking the thread while there is none.
    #[pyo3(signature = (timeout=None))]
    fn blocking_lend(
        &self,
        py: Python<'_>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<PyLent> {
        const VERB: &str = "Consumer.blocking_lend";
        let deadline = Deadline::after(seconds(timeout, "timeout")?);
        loop {
            if let Some(lent) = ops::look_lend(py, &self.handle, VERB)? {
                return Ok(lent);
            }
            self.wait(py, VERB, &deadline)?;
        }
    }

    /// Waits until a producer is attached.
    fn attached(slf: Py<Self>, py: Python<'_>) -> PyResult<Py<PyAny>> {
        end_awaits::attached(slf, py)
    }

    /// Waits until a producer is attached, parking the thread.
    #[pyo3(signature = (timeout=None))]
    fn blocking_attached(
        &self,
        py: Python<'_>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let left = seconds(timeout, "timeout")?;
        self.handle
            .wait(py, "Consumer.blocking_attached", |rx, signals| rx.block_attached(left, signals))
    }

    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __anext__(slf: Py<Self>, py: Python<'_>) -> PyResult<Py<PyAny>> {
        awaitable(py, Box::new(Pop::next(slf)))
    }

    /// Steps 1 to 4 of the wake protocol, for foreign event loops.
    fn arm(&self, py: Python<'_>) -> PyResult<bool> {
        let mut inside = self.handle.enter(py, "Consumer.arm")?;
        let armed = inside.role()?.arm();
        armed.map_err(|err| ops::pop_error(err, self.handle.core.object()))
    }

    /// Takes in what made the descriptor readable.
    fn disarm(&self, py: Python<'_>) -> PyResult<()> {
        let mut inside = self.handle.look_in(py, "Consumer.disarm")?;
        let done = inside.role()?.disarm();
        drop(inside);
        self.handle.face.kick(py);
        done.map_err(|err| errors::fault(&err))
    }

    /// The descriptor for foreign event loops.
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        let mut inside = self.handle.look_in(py, "Consumer.fileno")?;
        inside.role()?.fileno().map_err(|err| errors::fault(&err))
    }

    /// The producer that is attached now, or None.
    fn peer(&self, py: Python<'_>) -> PyResult<Option<PyPeer>> {
        let mut inside = self.handle.look_in(py, "Consumer.peer")?;
        Ok(inside.role()?.peer().map(PyPeer::from))
    }

    /// The process of the producer, or None.
    #[getter]
    fn peer_pid(&self, py: Python<'_>) -> PyResult<Option<u32>> {
        let mut inside = self.handle.look_in(py, "Consumer.peer_pid")?;
        Ok(inside.role()?.peer().map(|peer| peer.pid))
    }

    /// The producer closed its stream, the end was popped, and no other producer came.
    #[getter]
    fn is_closed(&self, py: Python<'_>) -> PyResult<bool> {
        let mut inside = self.handle.look_in(py, "Consumer.is_closed")?;
        Ok(inside.role()?.is_closed())
    }

    /// Bytes in the ring, headers included.
    #[getter]
    fn len(&self, py: Python<'_>) -> PyResult<u64> {
        let mut inside = self.handle.look_in(py, "Consumer.len")?;
        Ok(inside.role()?.len())
    }

    /// Bytes of room for messages and their headers.
    #[getter]
    fn capacity(&self, py: Python<'_>) -> PyResult<u64> {
        let mut inside = self.handle.look_in(py, "Consumer.capacity")?;
        Ok(inside.role()?.capacity())
    }

    /// Bytes of the largest message.
    #[getter]
    fn max_message(&self, py: Python<'_>) -> PyResult<u64> {
        let mut inside = self.handle.look_in(py, "Consumer.max_message")?;
        Ok(inside.role()?.max_message())
    }

    /// The name of the ring, with its slash.
    #[getter]
    fn name(&self) -> &str {
        self.handle.core.name()
    }

    /// What this end has done since it was attached.
    fn stat(&self, py: Python<'_>) -> PyResult<PyEndStat> {
        let mut inside = self.handle.look_in(py, "Consumer.stat")?;
        Ok(inside.role()?.stat().into())
    }

    /// Gives the role up; a push fails once with PeerClosed.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.handle.close(py, "Consumer.close", true)
    }

    /// Gives the role up without telling the producer.
    fn detach(&self, py: Python<'_>) -> PyResult<()> {
        self.handle.close(py, "Consumer.detach", false)
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
        end_awaits::ready(slf, py, "Consumer.__aenter__", value)
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
        end_awaits::ready(slf, py, "Consumer.__aexit__", py.None())
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.handle.core.config.reduce(py, "Consumer")
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        self.handle.describe(py)
    }
}
