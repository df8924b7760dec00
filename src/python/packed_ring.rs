//! The class `SpscRingBuffer` of `ringspan.compat.membridge`: a ring with a quota, whose messages are
//! packed items. The class is the one that programs have in hand; see `packed_view.rs`.

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::awaitable::awaitable;
use super::block::PyBlock;
use super::end::{Owner, Role};
use super::errors;
use super::packed::{self, Packed};
use super::packed_ends::{Ends, Pop, Push, Want, Who, get, pop_within, push_within, put};
use super::per_process::PerProcess;
use super::ring::PyRing;
use super::seconds::seconds;
use crate::ring::{BESIDES, Consumer, Producer};
use crate::sync::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;

/// The module whose Python functions make the rest of the class.
const MODULE: &str = "ringspan.compat.membridge._ring";

/// The sum for two indices, kept for who asks again before anybody pushed or popped. Changed with the
/// interpreter attached, so Relaxed everywhere.
#[derive(Default)]
struct LastSum {
    head: AtomicU64,
    tail: AtomicU64,
    sum: AtomicU64,
}

impl LastSum {
    #[inline]
    fn of(&self, (head, tail): (u64, u64)) -> Option<u64> {
        // Relaxed: see the type.
        let same =
            self.head.load(Ordering::Relaxed) == head && self.tail.load(Ordering::Relaxed) == tail;
        same.then(|| self.sum.load(Ordering::Relaxed))
    }

    fn note(&self, (head, tail): (u64, u64), sum: u64) {
        // Relaxed: see the type.
        self.head.store(head, Ordering::Relaxed);
        self.tail.store(tail, Ordering::Relaxed);
        self.sum.store(sum, Ordering::Relaxed);
    }
}

/// A ring: both ends of it, in whichever process asks.
struct PackedRing {
    /// That of the segment, and its number.
    name: String,
    number: u64,
    /// "ring /r".
    object: String,
    capacity: usize,
    /// Written and read with the interpreter attached, so Relaxed everywhere.
    closed: AtomicBool,
    ends: PerProcess<Ends>,
    last_sum: LastSum,
}

impl PackedRing {
    fn new(name: String, number: u64, capacity: usize) -> Self {
        let object = format!("ring {name}");
        let (closed, ends) = (AtomicBool::new(false), PerProcess::new());
        PackedRing { name, number, object, capacity, closed, ends, last_sum: LastSum::default() }
    }

    /// The ends of this process, whether or not they were closed.
    #[inline]
    fn attached<'a>(&'a self, py: Python<'_>) -> PyResult<&'a Ends> {
        self.ends.get_or_make(|| {
            let again = py.import(MODULE)?.getattr("_attach")?;
            let found = again.call1((&self.name, self.number, self.capacity))?;
            let (ring, block) = found.extract::<(Py<PyRing>, Py<PyBlock>)>()?;
            Ok(Ends::new(ring, block))
        })
    }

    #[inline]
    fn open<'a>(&'a self, py: Python<'_>) -> PyResult<&'a Ends> {
        if self.is_closed() {
            return Err(errors::closed_handle(&self.object, "ring", "closed"));
        }
        self.attached(py)
    }

    /// Refuses what can never have room.
    #[inline]
    fn check(&self, payload: &Packed<'_>) -> PyResult<()> {
        let frame = payload.len().saturating_add(BESIDES as usize);
        if frame > self.capacity {
            return Err(errors::frame(&self.object, frame, self.capacity));
        }
        Ok(())
    }

    /// Whether one who does not wait finds nothing, seen without going inside. False where `take` has
    /// to look.
    #[inline]
    fn is_dry(&self) -> bool {
        let Some(ends) = self.ends.get() else { return false };
        !self.is_closed() && ends.rx.get().is_some_and(|taker| ends.is_dry(taker))
    }

    #[inline]
    fn pop(
        &self,
        py: Python<'_>,
        want: Want,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        // Before the end itself: who tries again and again finds this most of the time.
        if timeout.is_none() && self.is_dry() {
            return Ok(None);
        }
        self.take(py, &want, timeout)
    }

    #[inline]
    fn take(
        &self,
        py: Python<'_>,
        want: &Want,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let ends = self.open(py)?;
        let taker = ends.consumer(py)?;
        let handle = taker.end.get().handle();
        let Some(timeout) = timeout else {
            return get(py, handle, &taker.passed, want, Who::Passer);
        };
        let limit = seconds(Some(timeout), "timeout")?;
        match get(py, handle, &taker.passed, want, Who::Comer)? {
            None => pop_within(py, taker, want, limit),
            found => Ok(found),
        }
    }

    fn apop(&self, py: Python<'_>, want: Want) -> PyResult<Py<PyAny>> {
        let taker = self.open(py)?.consumer(py)?;
        let (rx, passed) = (taker.end.clone_ref(py), Arc::clone(&taker.passed));
        awaitable(py, Box::new(Pop { rx, passed, want, who: Who::Comer }))
    }

    /// Bytes that the messages in the ring count as.
    fn used(&self, py: Python<'_>) -> PyResult<u64> {
        let ends = self.attached(py)?;
        let before = ends.indices();
        if let Some(sum) = self.last_sum.of(before) {
            return Ok(sum);
        }
        let sum = self.count(py, ends)?;
        if before == ends.indices() {
            self.last_sum.note(before, sum);
        }
        Ok(sum)
    }

    /// By an end of ours, which knows most of it, if no other call is inside that; else by all that lies
    /// in the ring.
    fn count(&self, py: Python<'_>, ends: &Ends) -> PyResult<u64> {
        let open = !self.is_closed();
        let tx = ends.tx.get().filter(|_| open).map(|tx| tx.end.get().handle());
        if let Some(tx) = tx
            && let Some(used) = tx.glance(py, Producer::used)
        {
            return used.map_err(|stop| Producer::stopped(stop, tx.core.object()));
        }
        let rx = ends.rx.get().filter(|_| open).map(|rx| rx.end.get().handle());
        if let Some(rx) = rx
            && let Some(used) = rx.glance(py, Consumer::used)
        {
            return used.map_err(|stop| Consumer::stopped(stop, rx.core.object()));
        }
        let ring = ends.ring.get().native();
        py.detach(|| ring.used()).map_err(|fault| errors::fault(&fault))
    }

    /// Whether the roles were given up.
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed) // Relaxed: see the field
    }

    /// Gives both roles up: the other end is told. None of them while a call is inside one.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let Some(ends) = self.ends.get() else {
            self.closed.store(true, Ordering::Relaxed); // Relaxed: see the field
            return Ok(());
        };
        let tx = ends.tx.get().map(|tx| tx.end.get().handle());
        let rx = ends.rx.get().map(|rx| rx.end.get().handle());
        tx.map_or(Ok(()), |tx| tx.check_idle(py, "close"))?;
        rx.map_or(Ok(()), |rx| rx.check_idle(py, "close"))?;
        self.closed.store(true, Ordering::Relaxed); // Relaxed: see the field
        let pushes = tx.map_or(Ok(()), |tx| tx.close(py, "close", true));
        let pops = rx.map_or(Ok(()), |rx| rx.close(py, "close", true));
        ends.block.get().locking().close(py);
        pushes.and(pops)
    }

    #[inline]
    fn push(
        &self,
        py: Python<'_>,
        payload: &Packed<'_>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        self.check(payload)?;
        let giver = self.open(py)?.producer(py)?;
        let handle = giver.end.get().handle();
        let Some(timeout) = timeout else {
            return put(py, handle, &giver.passed, payload, Who::Passer);
        };
        let limit = seconds(Some(timeout), "timeout")?;
        match put(py, handle, &giver.passed, payload, Who::Comer)? {
            false => push_within(py, giver, payload, limit),
            true => Ok(true),
        }
    }

    fn apush(&self, py: Python<'_>, payload: Packed<'static>) -> PyResult<Py<PyAny>> {
        self.check(&payload)?;
        let giver = self.open(py)?.producer(py)?;
        let (tx, passed) = (giver.end.clone_ref(py), Arc::clone(&giver.passed));
        awaitable(py, Box::new(Push { tx, passed, payload, who: Who::Comer }))
    }
}

/// A ring of messages from one producer to one consumer, from `SharedMemory.spsc`.
#[pyclass(frozen, weakref, name = "SpscRingBuffer", module = "ringspan.compat.membridge")]
pub(crate) struct PyPackedRing(PackedRing);

#[pymethods]
impl PyPackedRing {
    /// Publishes one message. False: there is no room for it.
    #[pyo3(signature = (data, *, timeout=None))]
    fn push(
        &self,
        py: Python<'_>,
        data: &Bound<'_, PyAny>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        self.0.push(py, &Packed::message(data)?, timeout)
    }

    /// Takes the oldest message: its bytes, or the value that `tag` says. None: there is none.
    #[pyo3(signature = (tag=None, *, timeout=None))]
    fn pop(
        &self,
        py: Python<'_>,
        tag: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        self.0.pop(py, Want::tagged(tag)?, timeout)
    }

    /// Takes the oldest message, by a schema. None: there is none.
    #[pyo3(signature = (schema, *, timeout=None))]
    fn pop_mixed(
        &self,
        py: Python<'_>,
        schema: &Bound<'_, PyAny>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        self.0.pop(py, Want::Items(packed::schema(schema)?), timeout)
    }

    /// As `push`, awaiting room.
    #[pyo3(signature = (data))]
    fn apush(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.0.apush(py, Packed::message(data)?.into_owned())
    }

    /// As `pop`, awaiting a message.
    #[pyo3(signature = (tag=None))]
    fn apop(&self, py: Python<'_>, tag: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        self.0.apop(py, Want::tagged(tag)?)
    }

    /// As `pop_mixed`, awaiting a message.
    #[pyo3(signature = (schema))]
    fn apop_mixed(&self, py: Python<'_>, schema: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.0.apop(py, Want::Items(packed::schema(schema)?))
    }

    /// Bytes that the messages in the ring count as.
    fn used(&self, py: Python<'_>) -> PyResult<u64> {
        self.0.used(py)
    }

    /// Bytes that are left.
    fn free(&self, py: Python<'_>) -> PyResult<u64> {
        Ok((self.0.capacity as u64).saturating_sub(self.0.used(py)?))
    }

    /// Bytes of room.
    fn capacity(&self) -> usize {
        self.0.capacity
    }

    /// Whether there is no message.
    fn is_empty(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.0.used(py)? == 0)
    }

    /// Whether no byte is left.
    fn is_full(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.0.used(py)? >= self.0.capacity as u64)
    }

    /// Whether the roles were given up.
    #[getter]
    fn _closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Gives up the roles that this process has in the ring; the other end is told.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.0.close(py)
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
        let _ = (exc_type, exc, traceback);
        self.close(py)
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let again = py.import(MODULE)?.getattr("_again")?;
        (again, (&self.0.name, self.0.number)).into_pyobject(py)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let (used, capacity) = (self.0.used(py)?, self.0.capacity as u64);
        let free = capacity.saturating_sub(used);
        Ok(format!("SpscRingBuffer(capacity={capacity}, used={used}, free={free})"))
    }
}

/// `_packed_ring(name, number, capacity)`: the ring of a segment; attaches it.
#[pyfunction]
#[pyo3(name = "_packed_ring", signature = (name, number, capacity, /))]
fn packed_ring(
    py: Python<'_>,
    name: String,
    number: u64,
    capacity: usize,
) -> PyResult<Bound<'_, PyPackedRing>> {
    let ring = PackedRing::new(name, number, capacity);
    ring.attached(py)?;
    Bound::new(py, PyPackedRing(ring))
}

/// Adds the class and the private function to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyPackedRing>()?;
    m.add_function(wrap_pyfunction!(packed_ring, m)?)
}
