//! Putting messages into the ring: what the three forms of each verb share.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyIterator};
use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;

use super::asyncio::Face;
use super::awaitable::Operation;
use super::buffer::{LARGE, Memory};
use super::convert::{self, Encoded};
use super::end::{Handle, Inside, Owner, Role, region_of};
use super::errors;
use super::grant::PyGrant;
use super::producer::PyProducer;
use crate::codec::Tag;
use crate::ring::{Producer, PushError, Reservation, Stop};

/// So many messages are published at once.
const BATCH: usize = 32;
/// A scratch buffer that grew beyond this is not kept.
const KEPT: usize = 64 << 10;

thread_local! {
    /// Where values are written before their length is known; used again and again.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Makes an object ready for the ring.
#[inline]
pub(crate) fn encode(obj: &Bound<'_, PyAny>, handle: &Handle<Producer>) -> PyResult<Encoded> {
    let codec = handle.core.config.codec;
    if obj.is_exact_instance_of::<PyBytes>() {
        return convert::encode(obj, codec, &mut Vec::new());
    }
    let mut scratch = SCRATCH.take();
    let made = convert::encode(obj, codec, &mut scratch);
    keep(scratch);
    made.map_err(|err| match err.is_instance_of::<PyValueError>(obj.py()) {
        true => errors::codec(obj.py(), handle.core.object(), err),
        false => err,
    })
}

/// Gives the scratch buffer back.
#[inline]
pub(crate) fn recycle(encoded: Encoded) {
    let mut scratch = Vec::new();
    encoded.recycle(&mut scratch);
    keep(scratch);
}

#[inline]
fn keep(scratch: Vec<u8>) {
    if (1..=KEPT).contains(&scratch.capacity()) {
        SCRATCH.set(scratch);
    }
}

/// What can be put without being made ready first: the bytes of a `bytes`.
#[inline]
pub(crate) fn plain<'a>(obj: &'a Bound<'_, PyAny>) -> Option<&'a [u8]> {
    if !obj.is_exact_instance_of::<PyBytes>() {
        return None;
    }
    obj.cast_exact::<PyBytes>().ok().map(|bytes| bytes.as_bytes()).filter(|b| b.len() <= LARGE)
}

/// Puts the bytes of a `bytes` at one look; false: no room.
#[inline]
pub(crate) fn look_plain(
    py: Python<'_>,
    handle: &Handle<Producer>,
    verb: &str,
    bytes: &[u8],
) -> PyResult<bool> {
    let mut inside = handle.enter(py, verb)?;
    let tx = inside.role()?;
    match tx.look_once(bytes.len()) {
        Ok(Some(room)) => {
            tx.room_bytes(&room).copy_from_slice(bytes);
            tx.finish(room, bytes.len(), Tag::RAW);
            Ok(true)
        }
        Ok(None) => Ok(false),
        Err(stop) => Err(stopped(stop, handle)),
    }
}

#[cold]
fn stopped(stop: Stop, handle: &Handle<Producer>) -> PyErr {
    Producer::stopped(stop, handle.core.object())
}

fn put(
    py: Python<'_>,
    inside: &mut Inside<'_, Producer>,
    reservation: Reservation,
    encoded: &Encoded,
    handle: &Handle<Producer>,
    verb: &str,
) -> PyResult<()> {
    let tx = inside.role()?;
    let used = reservation.len();
    let room = tx.room_bytes(&reservation);
    if used > LARGE {
        handle.copying(py, verb, || encoded.write_into(py, room))?;
    } else {
        encoded.write_into(py, room)?;
    }
    tx.finish(reservation, used, encoded.tag());
    Ok(())
}

/// One message at one look; false: no room.
#[inline]
pub(crate) fn look_one(
    py: Python<'_>,
    handle: &Handle<Producer>,
    verb: &str,
    encoded: &Encoded,
) -> PyResult<bool> {
    let mut inside = handle.enter(py, verb)?;
    match inside.role()?.look_once(encoded.len(py)) {
        Ok(Some(room)) => put(py, &mut inside, room, encoded, handle, verb).map(|()| true),
        Ok(None) => Ok(false),
        Err(stop) => Err(stopped(stop, handle)),
    }
}

/// One message for the `try_` verb, which looks after the other end when there is no room.
#[inline]
pub(crate) fn try_one(
    py: Python<'_>,
    handle: &Handle<Producer>,
    verb: &str,
    encoded: &Encoded,
) -> PyResult<bool> {
    if look_one(py, handle, verb, encoded)? {
        return Ok(true);
    }
    let mut inside = handle.enter(py, verb)?;
    let pushed = match inside.role()?.try_room(encoded.len(py)) {
        Ok(Some(room)) => put(py, &mut inside, room, encoded, handle, verb).map(|()| true),
        Ok(None) => Ok(false),
        Err(stop) => Err(stopped(stop, handle)),
    };
    drop(inside);
    handle.tried(py);
    pushed
}

fn grant(
    py: Python<'_>,
    tx: &Py<PyProducer>,
    mut inside: Inside<'_, Producer>,
    reservation: Reservation,
) -> PyResult<PyGrant> {
    let handle = tx.get().handle();
    let role = inside.role()?;
    let mapping = region_of(role);
    let room: *mut [u8] = role.room_bytes(&reservation);
    let number = inside.lend(reservation);
    let memory = Memory::granted(room, mapping, handle.core.clone(), number);
    // Not under the lock: if there is no memory for the object, it gives itself back.
    drop(inside);
    Ok(PyGrant::new(tx.clone_ref(py), Py::new(py, memory)?))
}

/// Room at one look.
pub(crate) fn look_reserve(
    py: Python<'_>,
    tx: &Py<PyProducer>,
    verb: &str,
    size: usize,
) -> PyResult<Option<PyGrant>> {
    let handle = tx.get().handle();
    let mut inside = handle.enter(py, verb)?;
    match inside.role()?.look_once(size) {
        Ok(Some(room)) => grant(py, tx, inside, room).map(Some),
        Ok(None) => Ok(None),
        Err(stop) => Err(stopped(stop, handle)),
    }
}

/// Room, for the `try_` verb.
pub(crate) fn try_reserve(
    py: Python<'_>,
    tx: &Py<PyProducer>,
    verb: &str,
    size: usize,
) -> PyResult<Option<PyGrant>> {
    let handle = tx.get().handle();
    let mut inside = handle.enter(py, verb)?;
    match inside.role()?.try_room(size) {
        Ok(Some(room)) => grant(py, tx, inside, room).map(Some),
        Ok(None) => Ok(None),
        Err(stop) => Err(stopped(stop, handle)),
    }
}

/// The exception of the public Rust verbs.
pub(crate) fn push_error(err: PushError, object: &str) -> PyErr {
    let stop = match err {
        PushError::TooLarge { fault, len, max } => Stop::TooLarge { fault, len, max },
        PushError::Closed(_) => Stop::Closed,
        PushError::PeerDied { fault, pid } => Stop::PeerDied { fault, pid },
        PushError::Timeout(fault) | PushError::Fault(fault) => Stop::Fault(fault),
    };
    Producer::stopped(stop, object)
}

/// Keeps looking for room for as long as `spin=` says, once for each await.
fn spin(
    py: Python<'_>,
    tx: &Py<PyProducer>,
    verb: &str,
    len: usize,
    spun: &mut bool,
) -> PyResult<bool> {
    let handle = tx.get().handle();
    if *spun || !handle.core.config.spins() {
        return Ok(false);
    }
    *spun = true;
    let mut inside = handle.enter(py, verb)?;
    match inside.role()?.look_long(len) {
        Ok(found) => Ok(found.is_some()),
        Err(stop) => Err(stopped(stop, handle)),
    }
}

/// The objects of a `push_many`: taken from their iterator some at a time, made ready without the
/// lock (which may run any Python code), then published together.
pub(crate) struct Batch {
    objs: Py<PyIterator>,
    made: VecDeque<Encoded>,
    /// What the iterator or an object raised: told after what came before it is published.
    failed: Option<PyErr>,
    over: bool,
    published: usize,
    started: bool,
}

impl Batch {
    pub(crate) fn new(objs: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Batch {
            objs: objs.try_iter()?.unbind(),
            made: VecDeque::new(),
            failed: None,
            over: false,
            published: 0,
            started: false,
        })
    }

    pub(crate) fn published(&self) -> usize {
        self.published
    }

    fn make_ready(&mut self, py: Python<'_>, handle: &Handle<Producer>) {
        let mut objs = self.objs.bind(py).clone();
        while self.made.len() < BATCH && !self.over {
            let made = match objs.next() {
                Some(obj) => obj.and_then(|obj| encode(&obj, handle)),
                None => {
                    self.over = true;
                    break;
                }
            };
            match made {
                Ok(encoded) => self.made.push_back(encoded),
                Err(err) => {
                    self.failed = Some(err);
                    self.over = true;
                }
            }
        }
    }

    /// Publishes all that fits. `Some(len)`: the next one needs room for so many bytes.
    pub(crate) fn stage(
        &mut self,
        py: Python<'_>,
        handle: &Handle<Producer>,
        verb: &str,
    ) -> PyResult<Option<usize>> {
        loop {
            if self.made.is_empty() {
                self.make_ready(py, handle);
            }
            let mut inside = handle.enter(py, verb)?;
            let tx = inside.role()?;
            if !std::mem::replace(&mut self.started, true) {
                tx.restart_count();
            }
            let stop = self.stage_made(py, tx);
            self.published = tx.published();
            drop(inside);
            match stop {
                Err(Failed::Stop(stop)) => return Err(stopped(stop, handle)),
                Err(Failed::Raised(err)) => return Err(err),
                Ok(Some(len)) => return Ok(Some(len)),
                Ok(None) if self.over => return self.failed.take().map_or(Ok(None), Err),
                Ok(None) => {}
            }
        }
    }

    /// Stages what is made ready, publishes it once; the length of the first one without room.
    fn stage_made(&mut self, py: Python<'_>, tx: &mut Producer) -> Result<Option<usize>, Failed> {
        let mut count = 0;
        let mut result = Ok(None);
        while let Some(next) = self.made.front() {
            let len = next.len(py);
            let room = match tx.look_behind_staged(len) {
                Ok(Some(room)) => room,
                Ok(None) => {
                    result = Ok(Some(len));
                    break;
                }
                Err(stop) => {
                    result = Err(Failed::Stop(stop));
                    break;
                }
            };
            if let Err(err) = next.write_into(py, tx.room_bytes(&room)) {
                result = Err(Failed::Raised(err));
                break;
            }
            tx.stage_filled(room, len, next.tag());
            count += 1;
            if let Some(done) = self.made.pop_front() {
                recycle(done);
            }
        }
        tx.publish_all(count);
        result
    }
}

enum Failed {
    Stop(Stop),
    Raised(PyErr),
}

/// `await tx.push(obj)`.
pub(crate) struct Push {
    tx: Py<PyProducer>,
    encoded: Option<Encoded>,
    spun: bool,
}

impl Push {
    pub(crate) fn new(tx: Py<PyProducer>, encoded: Encoded) -> Self {
        Push { tx, encoded: Some(encoded), spun: false }
    }
}

impl Operation for Push {
    fn name(&self) -> &'static str {
        "Producer.push"
    }

    fn face(&self) -> &Arc<Face> {
        &self.tx.get().handle().face
    }

    fn poll(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let Some(encoded) = &self.encoded else { return Ok(Some(py.None())) };
        let handle = self.tx.get().handle();
        let mut pushed = look_one(py, handle, "Producer.push", encoded)?;
        if !pushed && spin(py, &self.tx, "Producer.push", encoded.len(py), &mut self.spun)? {
            pushed = look_one(py, handle, "Producer.push", encoded)?;
        }
        if !pushed {
            return Ok(None);
        }
        if let Some(encoded) = self.encoded.take() {
            recycle(encoded);
        }
        Ok(Some(py.None()))
    }

    fn visit(&self, each: &mut dyn FnMut(&Py<PyAny>)) {
        each(self.tx.as_any());
    }
}

/// `await tx.push_many(objs)`.
pub(crate) struct PushMany {
    tx: Py<PyProducer>,
    batch: Batch,
}

impl PushMany {
    pub(crate) fn new(tx: Py<PyProducer>, batch: Batch) -> Self {
        PushMany { tx, batch }
    }
}

impl Operation for PushMany {
    fn name(&self) -> &'static str {
        "Producer.push_many"
    }

    fn face(&self) -> &Arc<Face> {
        &self.tx.get().handle().face
    }

    fn poll(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match self.batch.stage(py, self.tx.get().handle(), "Producer.push_many")? {
            Some(_) => Ok(None),
            None => Ok(Some(self.batch.published().into_pyobject(py)?.into_any().unbind())),
        }
    }

    fn visit(&self, each: &mut dyn FnMut(&Py<PyAny>)) {
        each(self.tx.as_any());
        each(self.batch.objs.as_any());
    }
}

/// `await tx.reserve(size)`.
pub(crate) struct Reserve {
    tx: Py<PyProducer>,
    size: usize,
    spun: bool,
}

impl Reserve {
    pub(crate) fn new(tx: Py<PyProducer>, size: usize) -> Self {
        Reserve { tx, size, spun: false }
    }

    fn look(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let grant = look_reserve(py, &self.tx, "Producer.reserve", self.size)?;
        grant.map(|grant| Py::new(py, grant).map(Py::into_any)).transpose()
    }
}

impl Operation for Reserve {
    fn name(&self) -> &'static str {
        "Producer.reserve"
    }

    fn face(&self) -> &Arc<Face> {
        &self.tx.get().handle().face
    }

    fn poll(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let grant = self.look(py)?;
        if grant.is_none() && spin(py, &self.tx, "Producer.reserve", self.size, &mut self.spun)? {
            return self.look(py);
        }
        Ok(grant)
    }

    fn visit(&self, each: &mut dyn FnMut(&Py<PyAny>)) {
        each(self.tx.as_any());
    }
}
