//! The class `_PackedRing`: both ends of a ring of packed messages, each of which takes its role at its
//! first use.
//!
//! A message is decoded before it is released, so one that is not what was asked for stays.

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use std::num::NonZeroU64;
use std::ops::Deref;
use std::sync::Arc;

use super::awaitable::awaitable;
use super::consumer::PyConsumer;
use super::end::{Deadline, Handle, Owner, Role};
use super::errors;
use super::packed::{self, Packed};
use super::packed_ring_ops::{As, Putting, Taking, put, take};
use super::producer::PyProducer;
use super::ring::Config;
use super::seconds::seconds;
use crate::error::{FaultKind, errno};
use crate::region::Region;
use crate::ring::{Consumer, Producer, Ring, Stop};
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering, lock};

/// What a message counts as besides its payload.
const BESIDES: usize = 4;
/// A message of one byte takes 16 in the ring and counts as 5; a large one must fit at any offset, with a
/// filler before it.
const ROOM: u64 = 4;

/// The ends in one process.
struct Ends {
    tx: Py<PyProducer>,
    rx: Py<PyConsumer>,
    ring: Ring,
    region: Arc<Region>,
    misses: AtomicU64,
}

impl Ends {
    /// Made if need be with `create`.
    fn of(py: Python<'_>, name: &str, capacity: NonZeroU64, create: bool) -> PyResult<Ends> {
        let bytes = capacity.get();
        let options = Ring::options().capacity(bytes.saturating_mul(ROOM)).max_message(bytes);
        let options = options.quota(capacity);
        let ring = if create { options.open_or_create(name) } else { options.open(name) };
        let ring = ring.map_err(|err| errors::open(&err, ""))?;
        let config = Config::existing(name);
        Ok(Ends {
            tx: Py::new(py, PyProducer::later(Arc::clone(&config)))?,
            rx: Py::new(py, PyConsumer::later(config))?,
            region: ring.region(),
            ring,
            misses: AtomicU64::new(0),
        })
    }

    fn tx(&self) -> &Handle<Producer> {
        self.tx.get().handle()
    }

    fn rx(&self) -> &Handle<Consumer> {
        self.rx.get().handle()
    }

    fn used(&self, py: Python<'_>) -> PyResult<u64> {
        let told = |stop| Producer::stopped(stop, self.tx().core.object());
        if let Some(used) = self.tx().glance(Producer::used) {
            return used.map_err(told);
        }
        if let Some(used) = self.rx().glance(Consumer::used) {
            return used.map_err(told);
        }
        py.detach(|| self.ring.used()).map_err(|fault| errors::fault(&fault))
    }
}

/// Those of this process.
enum Here<'a> {
    First(&'a Ends),
    /// Attached anew after a fork.
    Again(Arc<Ends>),
}

impl Deref for Here<'_> {
    type Target = Ends;

    #[inline]
    fn deref(&self) -> &Ends {
        match self {
            Here::First(ends) => ends,
            Here::Again(ends) => ends,
        }
    }
}

/// What ended a wait for room.
enum Woken {
    Room,
    /// The consumer has gone.
    News,
    Late,
}

/// Both ends of a ring of packed messages.
///
/// A class of Python's that derives from it makes sure by `_attach()` that the ring is there still, where
/// `fork` has brought it into a child, and gives its name.
#[pyclass(frozen, subclass, name = "_PackedRing", module = "ringspan._ringspan")]
pub(crate) struct PyPackedRing {
    ends: Ends,
    /// In a child that came by fork. Taken with the interpreter attached, for plain statements only.
    again: Mutex<Option<Arc<Ends>>>,
    /// Written with the interpreter attached, so Relaxed everywhere.
    closed: AtomicBool,
    capacity: NonZeroU64,
}

impl PyPackedRing {
    #[inline]
    fn ends<'a>(slf: &'a Bound<'_, Self>) -> PyResult<Here<'a>> {
        let this = slf.get();
        if this.ends.region.is_inherited() {
            return Self::again(slf).map(Here::Again);
        }
        Ok(Here::First(&this.ends))
    }

    #[cold]
    fn again(slf: &Bound<'_, Self>) -> PyResult<Arc<Ends>> {
        let this = slf.get();
        let found = lock(&this.again).clone();
        if let Some(ends) = found.filter(|ends| !ends.region.is_inherited()) {
            return Ok(ends);
        }
        let name: String = slf.call_method0("_attach")?.extract()?;
        let ends = Arc::new(Ends::of(slf.py(), &name, this.capacity, false)?);
        if this.closed.load(Ordering::Relaxed) {
            ends.tx().close(slf.py(), "close", true)?;
            ends.rx().close(slf.py(), "close", true)?;
        }
        let old = lock(&this.again).replace(Arc::clone(&ends));
        drop(old);
        Ok(ends)
    }

    /// Refuses what can never have room.
    #[inline]
    fn check(&self, packed: &Packed<'_>) -> PyResult<()> {
        let frame = packed.len() + BESIDES;
        if frame as u64 <= self.capacity.get() {
            return Ok(());
        }
        Err(self.too_large(frame))
    }

    #[cold]
    fn too_large(&self, frame: usize) -> PyErr {
        let capacity = self.capacity;
        let cause = format!("message too large: frame_len={frame} > capacity={capacity}");
        let fault = self.ends.region.fault(FaultKind::InvalidOption, cause);
        errors::too_large(&fault.with_errno(errno::EMSGSIZE), frame, capacity.get())
    }

    /// Waits until a message of `packed` has room, and puts it. False: the time is over.
    #[cold]
    fn put_within(
        py: Python<'_>,
        ends: &Ends,
        packed: &Packed<'_>,
        timeout: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        const VERB: &str = "push";
        let deadline = Deadline::after(seconds(Some(timeout), "timeout")?);
        loop {
            if put(py, ends.tx(), VERB, packed, Some(&ends.misses))? {
                return Ok(true);
            }
            ends.check_consumer(py, VERB)?;
            let woken = ends.tx().wait(py, VERB, |role, signals| {
                match role.park(packed.len(), deadline.left(), signals) {
                    Ok(()) => Ok(Woken::Room),
                    Err(Stop::Closed | Stop::PeerDied { .. }) => Ok(Woken::News),
                    Err(Stop::TimedOut) => Ok(Woken::Late),
                    Err(stop) => Err(stop),
                }
            })?;
            if matches!(woken, Woken::Late) {
                return Ok(false);
            }
        }
    }

    #[inline]
    fn get(
        slf: &Bound<'_, Self>,
        how: &As,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        const VERB: &str = "pop";
        let (py, ends) = (slf.py(), Self::ends(slf)?);
        let found = take(py, ends.rx(), VERB, how, true, Some(&ends.misses))?;
        let Some(timeout) = timeout.filter(|_| found.is_none()) else { return Ok(found) };
        let deadline = Deadline::after(seconds(Some(timeout), "timeout")?);
        loop {
            let came = ends.rx().wait(py, VERB, |role, signals| {
                match role.park(deadline.left(), signals) {
                    Ok(()) => Ok(true),
                    Err(Stop::TimedOut) => Ok(false),
                    Err(stop) => Err(stop),
                }
            })?;
            if !came {
                return Ok(None);
            }
            if let Some(value) = take(py, ends.rx(), VERB, how, false, Some(&ends.misses))? {
                return Ok(Some(value));
            }
        }
    }

    fn taking(slf: &Bound<'_, Self>, how: As) -> PyResult<Py<PyAny>> {
        let (py, ends) = (slf.py(), Self::ends(slf)?);
        let rx = ends.rx.clone_ref(py);
        awaitable(py, Box::new(Taking { rx, how, first: true }))
    }
}

impl Ends {
    fn check_consumer(&self, py: Python<'_>, verb: &str) -> PyResult<()> {
        if !self.tx().look_in(py, verb)?.role()?.is_closed() {
            return Ok(());
        }
        let cause = "it is full, and its consumer has gone";
        Err(errors::peer_closed(&self.region.fault(FaultKind::Os, cause)))
    }
}

#[pymethods]
impl PyPackedRing {
    #[new]
    fn new(py: Python<'_>, name: &str, capacity: NonZeroU64) -> PyResult<Self> {
        let ends = Ends::of(py, name, capacity, true)?;
        Ok(PyPackedRing { ends, again: Mutex::new(None), closed: AtomicBool::new(false), capacity })
    }

    /// Publishes one message. False: there is no room for it (within `timeout`).
    ///
    /// Raises `ringspan.TooLarge` (a `ValueError`) if it can never have room, `ValueError` for a
    /// type that cannot be packed.
    #[pyo3(signature = (data, *, timeout=None))]
    fn push(
        slf: &Bound<'_, Self>,
        data: &Bound<'_, PyAny>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let packed = Packed::message(data)?;
        slf.get().check(&packed)?;
        let (py, ends) = (slf.py(), Self::ends(slf)?);
        match timeout {
            None => put(py, ends.tx(), "push", &packed, Some(&ends.misses)),
            Some(timeout) => Self::put_within(py, &ends, &packed, timeout),
        }
    }

    /// Takes the oldest message: its bytes, or the value that `tag` says. None: there is none.
    ///
    /// Raises `ValueError` for an unknown tag, or one that needs more bytes; the message stays.
    #[pyo3(signature = (tag=None, *, timeout=None))]
    fn pop(
        slf: &Bound<'_, Self>,
        tag: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        Self::get(slf, &As::tag(tag)?, timeout)
    }

    /// Takes the oldest message, by a schema as of `MappedView.read_mixed`; None: there is none.
    ///
    /// Raises `ValueError` if the message is no such thing; it stays.
    #[pyo3(signature = (schema, *, timeout=None))]
    fn pop_mixed(
        slf: &Bound<'_, Self>,
        schema: &Bound<'_, PyAny>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        Self::get(slf, &As::Items(packed::schema(schema)?), timeout)
    }

    /// As `push`, to be awaited.
    fn _apush(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let packed = Packed::message(data)?;
        slf.get().check(&packed)?;
        let (py, ends) = (slf.py(), Self::ends(slf)?);
        let ends = (ends.tx.clone_ref(py), Arc::clone(&ends.region));
        awaitable(py, Box::new(Putting { ends, packed: packed.into_owned() }))
    }

    /// As `pop`, to be awaited.
    #[pyo3(signature = (tag=None))]
    fn _apop(slf: &Bound<'_, Self>, tag: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        Self::taking(slf, As::tag(tag)?)
    }

    /// As `pop_mixed`, to be awaited.
    fn _apop_mixed(slf: &Bound<'_, Self>, schema: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        Self::taking(slf, As::Items(packed::schema(schema)?))
    }

    /// Bytes that the messages in the ring count as.
    fn used(slf: &Bound<'_, Self>) -> PyResult<u64> {
        Self::ends(slf)?.used(slf.py())
    }

    /// Bytes that are left.
    fn free(slf: &Bound<'_, Self>) -> PyResult<u64> {
        Ok(slf.get().capacity.get().saturating_sub(Self::used(slf)?))
    }

    /// Bytes of room: the size of the segment less 24.
    fn capacity(&self) -> u64 {
        self.capacity.get()
    }

    /// Whether there is no message.
    fn is_empty(slf: &Bound<'_, Self>) -> PyResult<bool> {
        Ok(Self::used(slf)? == 0)
    }

    /// Whether no byte is left.
    fn is_full(slf: &Bound<'_, Self>) -> PyResult<bool> {
        Ok(Self::free(slf)? == 0)
    }

    /// Gives up the roles that this process has in the ring; the other end is told.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, ends) = (slf.py(), Self::ends(slf)?);
        slf.get().closed.store(true, Ordering::Relaxed);
        let pushed = ends.tx().close(py, "close", true);
        ends.rx().close(py, "close", true)?;
        pushed
    }

    /// Whether it was closed here.
    #[getter]
    fn _closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.ends.tx)?;
        visit.call(&self.ends.rx)
    }
}
