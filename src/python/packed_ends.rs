//! What is done with the packed messages of a ring: both ends as one process has them, each with its role
//! from its first use on, and the verbs of the class `SpscRingBuffer`.
//!
//! That the other end went is told to those who wait, once. Who does not wait passes it over: then there
//! is no message, or no room; the next one who waits is told, if nothing came since.

use pyo3::prelude::*;
use pyo3::types::PyBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::asyncio::Face;
use super::awaitable::Operation;
use super::block::PyBlock;
use super::buffer::{self, LARGE};
use super::consumer::PyConsumer;
use super::deadline::Deadline;
use super::end::{Handle, Owner, Role, region_of};
use super::errors;
use super::packed::{self, Entry, Packed, Tag};
use super::producer::PyProducer;
use super::ring::PyRing;
use crate::codec::Tag as Kind;
use crate::layout::RingIndices;
use crate::region::map::Words;
use crate::ring::{Consumer, Producer, Stop};
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering, lock};

/// A message of one byte counts as 5 and takes 16 in the ring; a large one must fit at any offset, with
/// a filler before it. So a ring has so many times its quota.
pub(super) const ROOM: u64 = 4;

/// The ends as one process has them.
pub(super) struct Ends {
    pub(super) ring: Py<PyRing>,
    /// Says to others that the segment is in use.
    pub(super) block: Py<PyBlock>,
    pub(super) words: OnceLock<Words<RingIndices>>,
    pub(super) tx: OnceLock<Giver>,
    pub(super) rx: OnceLock<Taker>,
}

/// The producing end.
pub(super) struct Giver {
    pub(super) end: Py<PyProducer>,
    pub(super) passed: Arc<Passed>,
}

/// The consuming end.
pub(super) struct Taker {
    pub(super) end: Py<PyConsumer>,
    pub(super) passed: Arc<Passed>,
    /// Looks that found the ring dry. Counted with the interpreter attached, so Relaxed.
    pub(super) looks: AtomicU64,
}

/// That the other end went, which nobody who waits has been told yet.
#[derive(Default)]
pub(super) struct Passed {
    /// Written and read with the interpreter attached, so Relaxed everywhere.
    any: AtomicBool,
    stop: Mutex<Option<Stop>>,
}

impl Passed {
    #[cold]
    fn note(&self, stop: Stop) {
        *lock(&self.stop) = Some(stop);
        self.any.store(true, Ordering::Relaxed); // Relaxed: see the field
    }

    /// What is to be told now.
    fn told(&self, who: Who) -> Option<Stop> {
        if who == Who::Passer { None } else { self.take() }
    }

    fn take(&self) -> Option<Stop> {
        // Relaxed, both: see the field.
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        self.any.store(false, Ordering::Relaxed);
        lock(&self.stop).take()
    }
}

/// Each so many looks a ring that is dry is looked at from inside, which also sees to the door and to the
/// dead.
const INSIDE_EVERY: u64 = 2048;

impl Ends {
    pub(super) fn new(ring: Py<PyRing>, block: Py<PyBlock>) -> Self {
        let (words, tx, rx) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Ends { ring, block, words, tx, rx }
    }

    /// Head and tail.
    #[inline]
    pub(super) fn indices(&self) -> (u64, u64) {
        let words = self.words.get_or_init(|| self.ring.get().native().region().kind_words());
        // Relaxed, both: whatever was between these two counts never changes what it counts as, and what
        // is published is looked at again, inside.
        let head = words.consumer.head.load(Ordering::Relaxed);
        (head, words.producer.tail.load(Ordering::Relaxed))
    }

    /// Whether nothing is published, for one who does not wait: seen without going inside.
    #[inline]
    pub(super) fn is_dry(&self, taker: &Taker) -> bool {
        let (head, tail) = self.indices();
        if head != tail || taker.end.get().handle().face.is_busy() {
            return false; // or somebody waits, who is alone inside
        }
        let looks = taker.looks.load(Ordering::Relaxed).wrapping_add(1); // Relaxed: see the field
        taker.looks.store(looks, Ordering::Relaxed);
        !looks.is_multiple_of(INSIDE_EVERY)
    }

    #[inline]
    pub(super) fn producer(&self, py: Python<'_>) -> PyResult<&Giver> {
        if let Some(tx) = self.tx.get() {
            return Ok(tx);
        }
        let ring = self.ring.get();
        let mut role = ring.native().producer().map_err(|err| errors::open(&err, ""))?;
        let _ = self.words.set(region_of(&mut role).kind_words());
        let end = Py::new(py, PyProducer::now(Arc::clone(ring.config()), role))?;
        Ok(self.tx.get_or_init(|| Giver { end, passed: Arc::default() }))
    }

    #[inline]
    pub(super) fn consumer(&self, py: Python<'_>) -> PyResult<&Taker> {
        if let Some(rx) = self.rx.get() {
            return Ok(rx);
        }
        let ring = self.ring.get();
        let mut role = ring.native().consumer().map_err(|err| errors::open(&err, ""))?;
        let _ = self.words.set(region_of(&mut role).kind_words());
        let end = Py::new(py, PyConsumer::now(Arc::clone(ring.config()), role))?;
        let looks = AtomicU64::new(0);
        Ok(self.rx.get_or_init(|| Taker { end, passed: Arc::default(), looks }))
    }
}

// ---- pushing ------------------------------------------------------------------------------------

pub(super) const PUSH: &str = "push";

/// Who asks, and what it is told.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Who {
    /// Does not wait: nothing.
    Passer,
    /// Is about to wait: that the other end went, if there is nothing else.
    Comer,
    /// Has waited: that the other end went.
    Waiter,
}

/// Publishes a message if there is room for it.
#[inline]
pub(super) fn put(
    py: Python<'_>,
    handle: &Handle<Producer>,
    passed: &Passed,
    payload: &Packed<'_>,
    who: Who,
) -> PyResult<bool> {
    loop {
        let mut inside = handle.enter(py, PUSH)?;
        let tx = inside.role()?;
        let stop = match tx.glance(payload.len()) {
            Ok(Some(room)) => {
                let to = tx.room_bytes(&room);
                if to.len() > LARGE {
                    handle.copying(py, PUSH, || {
                        py.detach(|| payload.put(to));
                        Ok(())
                    })?;
                } else {
                    payload.put(to);
                }
                tx.finish(room, payload.len(), Kind::RAW);
                return Ok(true);
            }
            Ok(None) => {
                // Another consumer may have come since.
                let told = passed.told(who).filter(|_| tx.is_closed());
                drop(inside);
                handle.tried(py);
                return match told {
                    Some(stop) => Err(Producer::stopped(stop, handle.core.object())),
                    None => Ok(false),
                };
            }
            Err(stop) => stop,
        };
        let gone = matches!(stop, Stop::Closed | Stop::PeerDied { .. });
        if !gone || who == Who::Waiter {
            return Err(Producer::stopped(stop, handle.core.object()));
        }
        passed.note(stop); // a second look comes after it
    }
}

/// Publishes a message for which there was no room, parking the thread.
#[cold]
pub(super) fn push_within(
    py: Python<'_>,
    giver: &Giver,
    payload: &Packed<'_>,
    limit: Option<Duration>,
) -> PyResult<bool> {
    let (deadline, handle) = (Deadline::after(limit), giver.end.get().handle());
    loop {
        let (left, len) = (deadline.left(), payload.len());
        let came = handle.wait(py, PUSH, |tx, signals| within(tx.park(len, left, signals)))?;
        if !came || put(py, handle, &giver.passed, payload, Who::Waiter)? {
            return Ok(came);
        }
    }
}

/// `await ring.apush(data)`.
pub(super) struct Push {
    pub(super) tx: Py<PyProducer>,
    pub(super) passed: Arc<Passed>,
    pub(super) payload: Packed<'static>,
    pub(super) who: Who,
}

impl Operation for Push {
    fn name(&self) -> &'static str {
        "apush"
    }

    fn face(&self) -> &Arc<Face> {
        &self.tx.get().handle().face
    }

    fn poll(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let who = std::mem::replace(&mut self.who, Who::Waiter);
        let pushed = put(py, self.tx.get().handle(), &self.passed, &self.payload, who)?;
        Ok(if pushed { Some(PyBool::new(py, true).to_owned().into_any().unbind()) } else { None })
    }

    fn visit(&self, each: &mut dyn FnMut(&Py<PyAny>)) {
        each(self.tx.as_any());
    }
}

// ---- popping ------------------------------------------------------------------------------------

pub(super) const POP: &str = "pop";

/// How a message is to be read.
pub(super) enum Want {
    Bytes,
    Item(Tag),
    Items(Vec<Entry>),
}

impl Want {
    #[inline]
    pub(super) fn tagged(tag: Option<&Bound<'_, PyAny>>) -> PyResult<Want> {
        tag.map_or(Ok(Want::Bytes), |tag| Tag::named(tag).map(Want::Item))
    }

    #[inline]
    fn read<'py>(&self, py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Want::Bytes => buffer::bytes(py, data),
            Want::Item(tag) => Ok(packed::unpack(py, data, *tag, 0)?.0),
            Want::Items(schema) => {
                packed::unpack_items(py, data, schema, 0).map(|(items, _)| items.into_any())
            }
        }
    }
}

/// Takes the oldest message if one is there. One that cannot be read so stays.
#[inline]
pub(super) fn get(
    py: Python<'_>,
    handle: &Handle<Consumer>,
    passed: &Passed,
    want: &Want,
    who: Who,
) -> PyResult<Option<Py<PyAny>>> {
    loop {
        let mut inside = handle.enter(py, POP)?;
        let rx = inside.role()?;
        let stop = match rx.glance() {
            Ok(Some(record)) => {
                let value = if record.len() > LARGE {
                    handle.copying(py, POP, || want.read(py, rx.bytes(&record)))?
                } else {
                    want.read(py, rx.bytes(&record))?
                };
                rx.release(record.next());
                passed.take(); // of a producer before the one of this message
                return Ok(Some(value.unbind()));
            }
            Ok(None) => {
                drop(inside);
                handle.tried(py);
                return match passed.told(who) {
                    Some(stop) => Err(Consumer::stopped(stop, handle.core.object())),
                    None => Ok(None),
                };
            }
            Err(stop) => stop,
        };
        let gone = matches!(stop, Stop::Ended | Stop::PeerDied { .. });
        if !gone || who == Who::Waiter {
            return Err(Consumer::stopped(stop, handle.core.object()));
        }
        passed.note(stop); // messages of the next producer may follow
    }
}

/// Waits for a message, parking the thread.
#[cold]
pub(super) fn pop_within(
    py: Python<'_>,
    taker: &Taker,
    want: &Want,
    limit: Option<Duration>,
) -> PyResult<Option<Py<PyAny>>> {
    let (deadline, handle) = (Deadline::after(limit), taker.end.get().handle());
    loop {
        let left = deadline.left();
        if !handle.wait(py, POP, |rx, signals| within(rx.park(left, signals)))? {
            return Ok(None);
        }
        if let Some(value) = get(py, handle, &taker.passed, want, Who::Waiter)? {
            return Ok(Some(value));
        }
    }
}

/// `await ring.apop(tag)`.
pub(super) struct Pop {
    pub(super) rx: Py<PyConsumer>,
    pub(super) passed: Arc<Passed>,
    pub(super) want: Want,
    pub(super) who: Who,
}

impl Operation for Pop {
    fn name(&self) -> &'static str {
        "apop"
    }

    fn face(&self) -> &Arc<Face> {
        &self.rx.get().handle().face
    }

    fn poll(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let who = std::mem::replace(&mut self.who, Who::Waiter);
        get(py, self.rx.get().handle(), &self.passed, &self.want, who)
    }

    fn visit(&self, each: &mut dyn FnMut(&Py<PyAny>)) {
        each(self.rx.as_any());
    }
}

/// Whether a wait ended before its time was over.
fn within<T>(waited: Result<T, Stop>) -> Result<bool, Stop> {
    match waited {
        Ok(_) => Ok(true),
        Err(Stop::TimedOut) => Ok(false),
        Err(stop) => Err(stop),
    }
}
