//! What is done with the packed messages of a ring: both ends as one process has them, each with its role
//! from its first use on, and the verbs of the class `SpscRingBuffer`.
//!
//! What a stream's end tells is told to those who wait. Who does not wait passes it over: then there is
//! no message, or no room.

use pyo3::prelude::*;
use std::sync::{Arc, OnceLock};

use super::asyncio::Face;
use super::awaitable::Operation;
use super::block::PyBlock;
use super::buffer::{self, LARGE};
use super::consumer::PyConsumer;
use super::end::{Deadline, Handle, Owner, Role, region_of};
use super::errors;
use super::packed::{self, Entry, Packed, Tag};
use super::producer::PyProducer;
use super::ring::PyRing;
use super::seconds::seconds;
use crate::codec::Tag as Kind;
use crate::layout::RingIndices;
use crate::region::map::Words;
use crate::ring::{Consumer, Producer, Stop};
use crate::sync::{AtomicU64, Ordering};

/// A message of one byte counts as 5 and takes 16 in the ring; a large one must fit at any offset, with
/// a filler before it. So a ring has so many times its quota.
pub(super) const ROOM: u64 = 4;

/// The ends as one process has them.
pub(super) struct Ends {
    pub(super) ring: Py<PyRing>,
    /// Says to others that the segment is in use.
    pub(super) block: Py<PyBlock>,
    pub(super) words: OnceLock<Words<RingIndices>>,
    pub(super) tx: OnceLock<Py<PyProducer>>,
    pub(super) rx: OnceLock<Taker>,
}

/// The consuming end.
pub(super) struct Taker {
    pub(super) end: Py<PyConsumer>,
    pub(super) words: Words<RingIndices>,
    /// Looks that found the ring dry. Counted with the interpreter attached, so Relaxed.
    pub(super) looks: AtomicU64,
}

/// So often a ring that is dry is looked at from inside, which also sees to the door and to the dead.
const INSIDE_EVERY: u64 = 64;

impl Taker {
    /// Whether nothing is published, for one who does not wait: seen without going inside.
    #[inline]
    pub(super) fn is_dry(&self) -> bool {
        // Relaxed: what is published is looked at again, inside; the head is our own.
        let head = self.words.consumer.head.load(Ordering::Relaxed);
        if self.words.producer.tail.load(Ordering::Relaxed) != head {
            return false;
        }
        let looks = self.looks.load(Ordering::Relaxed).wrapping_add(1);
        self.looks.store(looks, Ordering::Relaxed);
        !looks.is_multiple_of(INSIDE_EVERY)
    }
}

impl Ends {
    pub(super) fn new(ring: Py<PyRing>, block: Py<PyBlock>) -> Self {
        let (words, tx, rx) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Ends { ring, block, words, tx, rx }
    }

    /// Head and tail, once one of the roles is ours.
    #[inline]
    pub(super) fn indices(&self) -> Option<(u64, u64)> {
        let words = self.words.get()?;
        // Relaxed, both: whatever was between these two counts never changes what it counts as.
        let head = words.consumer.head.load(Ordering::Relaxed);
        Some((head, words.producer.tail.load(Ordering::Relaxed)))
    }

    #[inline]
    pub(super) fn producer(&self, py: Python<'_>) -> PyResult<&Py<PyProducer>> {
        if let Some(tx) = self.tx.get() {
            return Ok(tx);
        }
        let ring = self.ring.get();
        let mut role = ring.native().producer().map_err(|err| errors::open(&err, ""))?;
        let _ = self.words.set(region_of(&mut role).kind_words());
        let tx = Py::new(py, PyProducer::now(Arc::clone(ring.config()), role))?;
        Ok(self.tx.get_or_init(|| tx))
    }

    #[inline]
    pub(super) fn consumer(&self, py: Python<'_>) -> PyResult<&Taker> {
        if let Some(rx) = self.rx.get() {
            return Ok(rx);
        }
        let ring = self.ring.get();
        let mut role = ring.native().consumer().map_err(|err| errors::open(&err, ""))?;
        let (words, looks) = (region_of(&mut role).kind_words(), AtomicU64::new(0));
        let _ = self.words.set(region_of(&mut role).kind_words());
        let end = Py::new(py, PyConsumer::now(Arc::clone(ring.config()), role))?;
        Ok(self.rx.get_or_init(|| Taker { end, words, looks }))
    }
}

// ---- pushing ------------------------------------------------------------------------------------

pub(super) const PUSH: &str = "push";

/// Publishes a message if there is room for it. `told`: what the other end did is an error.
#[inline]
pub(super) fn put(
    py: Python<'_>,
    handle: &Handle<Producer>,
    payload: &Packed<'_>,
    mut told: bool,
) -> PyResult<bool> {
    loop {
        let mut inside = handle.enter(py, PUSH)?;
        let tx = inside.role()?;
        match tx.glance(payload.len()) {
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
                drop(inside);
                handle.tried(py);
                return Ok(false);
            }
            Err(Stop::Closed | Stop::PeerDied { .. }) if !told => told = true, // said once
            Err(stop) => return Err(Producer::stopped(stop, handle.core.object())),
        }
    }
}

/// Publishes a message for which there was no room, parking the thread.
#[cold]
pub(super) fn push_within(
    py: Python<'_>,
    handle: &Handle<Producer>,
    payload: &Packed<'_>,
    timeout: &Bound<'_, PyAny>,
) -> PyResult<bool> {
    let deadline = Deadline::after(seconds(Some(timeout), "timeout")?);
    check_consumer(py, handle)?;
    loop {
        let (left, len) = (deadline.left(), payload.len());
        let came = handle.wait(py, PUSH, |tx, signals| within(tx.park(len, left, signals)))?;
        if !came || put(py, handle, payload, true)? {
            return Ok(came);
        }
    }
}

/// An error if a full ring has nobody who would make room.
pub(super) fn check_consumer(py: Python<'_>, handle: &Handle<Producer>) -> PyResult<()> {
    if handle.enter(py, PUSH)?.role()?.is_closed() {
        return Err(errors::deserted(handle.core.object()));
    }
    Ok(())
}

/// `await ring.apush(data)`.
pub(super) struct Push {
    pub(super) tx: Py<PyProducer>,
    pub(super) payload: Packed<'static>,
    pub(super) begun: bool,
}

impl Operation for Push {
    fn name(&self) -> &'static str {
        "apush"
    }

    fn face(&self) -> &Arc<Face> {
        &self.tx.get().handle().face
    }

    fn poll(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let handle = self.tx.get().handle();
        let begun = std::mem::replace(&mut self.begun, true);
        if put(py, handle, &self.payload, begun)? {
            return Ok(Some(true.into_pyobject(py)?.to_owned().into_any().unbind()));
        }
        if !begun {
            check_consumer(py, handle)?;
        }
        Ok(None)
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

/// Takes the oldest message if one is there. One that cannot be read so stays. `told`: that a stream
/// ended is an error.
#[inline]
pub(super) fn get(
    py: Python<'_>,
    handle: &Handle<Consumer>,
    want: &Want,
    told: bool,
) -> PyResult<Option<Py<PyAny>>> {
    loop {
        let mut inside = handle.enter(py, POP)?;
        let rx = inside.role()?;
        match rx.glance() {
            Ok(Some(record)) => {
                let value = if record.len() > LARGE {
                    handle.copying(py, POP, || want.read(py, rx.bytes(&record)))?
                } else {
                    want.read(py, rx.bytes(&record))?
                };
                rx.release(record.next());
                return Ok(Some(value.unbind()));
            }
            Ok(None) => {
                drop(inside);
                handle.tried(py);
                return Ok(None);
            }
            Err(Stop::Ended | Stop::PeerDied { .. }) if !told => {} // each end is told once
            Err(stop) => return Err(Consumer::stopped(stop, handle.core.object())),
        }
    }
}

/// `await ring.apop(tag)`.
pub(super) struct Pop {
    pub(super) rx: Py<PyConsumer>,
    pub(super) want: Want,
    pub(super) begun: bool,
}

impl Operation for Pop {
    fn name(&self) -> &'static str {
        "apop"
    }

    fn face(&self) -> &Arc<Face> {
        &self.rx.get().handle().face
    }

    fn poll(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let begun = std::mem::replace(&mut self.begun, true);
        get(py, self.rx.get().handle(), &self.want, begun)
    }

    fn visit(&self, each: &mut dyn FnMut(&Py<PyAny>)) {
        each(self.rx.as_any());
    }
}

/// Whether a wait ended before its time was over.
pub(super) fn within<T>(waited: Result<T, Stop>) -> Result<bool, Stop> {
    match waited {
        Ok(_) => Ok(true),
        Err(Stop::TimedOut) => Ok(false),
        Err(stop) => Err(stop),
    }
}
