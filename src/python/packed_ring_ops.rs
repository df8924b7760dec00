//! Putting and taking packed messages: what the forms of each verb share, and the awaited ones.

use pyo3::prelude::*;
use std::sync::Arc;

use super::asyncio::Face;
use super::awaitable::Operation;
use super::buffer;
use super::consumer::PyConsumer;
use super::end::{Handle, Owner, Role};
use super::errors;
use super::packed::{self, Entry, Packed, Tag};
use super::producer::PyProducer;
use crate::codec::Tag as Kind;
use crate::error::FaultKind;
use crate::region::Region;
use crate::ring::{Consumer, Producer, Stop};
use crate::sync::{AtomicU64, Ordering};

/// So many looks that found nothing for one that looks closer.
const LOOK_EVERY: u64 = 64;

/// What a message is taken as.
pub(super) enum As {
    Bytes,
    Item(Tag),
    Items(Vec<Entry>),
}

impl As {
    pub(super) fn tag(tag: Option<&Bound<'_, PyAny>>) -> PyResult<As> {
        tag.map_or(Ok(As::Bytes), |tag| Tag::of(tag).map(As::Item))
    }

    #[inline]
    fn decode<'py>(&self, py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        match self {
            As::Bytes => buffer::bytes(py, data),
            As::Item(tag) => {
                let end = packed::end(data, 0, *tag)?;
                packed::item(py, &data[..end], *tag)
            }
            As::Items(schema) => {
                packed::end_of_all(data, 0, schema)?;
                packed::items(py, data, schema).map(Bound::into_any)
            }
        }
    }
}

/// Whether one who found nothing looks after the other end and its own door, which takes its time. Not
/// every time: who asks again and again is to be answered at once.
#[inline]
fn is_time(misses: Option<&AtomicU64>) -> bool {
    // Relaxed: a mere count.
    misses.is_some_and(|misses| misses.fetch_add(1, Ordering::Relaxed).is_multiple_of(LOOK_EVERY))
}

/// Puts a message if there is room now. The end of a consumer is told to nobody: it is pushed for the
/// next one. `misses`: how often nothing was found; None: a loop looks after the
/// other end.
#[inline]
pub(super) fn put(
    py: Python<'_>,
    tx: &Handle<Producer>,
    verb: &str,
    packed: &Packed<'_>,
    misses: Option<&AtomicU64>,
) -> PyResult<bool> {
    let mut inside = tx.enter(py, verb)?;
    let role = inside.role()?;
    let look = |role: &mut Producer| match role.look_once(packed.len()) {
        Err(Stop::Closed | Stop::PeerDied { .. }) => role.look_once(packed.len()),
        found => found,
    };
    let mut found = look(role);
    let close = matches!(found, Ok(None)) && is_time(misses);
    if close {
        found = role.try_room(packed.len());
        if let Err(Stop::Closed | Stop::PeerDied { .. }) = found {
            found = look(role);
        }
    }
    match found {
        Ok(Some(room)) => {
            packed.put(role.room_bytes(&room));
            role.finish(room, packed.len(), Kind::RAW);
            Ok(true)
        }
        Ok(None) => {
            drop(inside);
            if close {
                tx.tried(py);
            }
            Ok(false)
        }
        Err(stop) => Err(Producer::stopped(stop, tx.core.object())),
    }
}

/// Takes a message if one is there now; `silent`: the end of a producer is passed over; `misses` as in
/// [`put`].
#[inline]
pub(super) fn take(
    py: Python<'_>,
    rx: &Handle<Consumer>,
    verb: &str,
    how: &As,
    silent: bool,
    misses: Option<&AtomicU64>,
) -> PyResult<Option<Py<PyAny>>> {
    let mut inside = rx.enter(py, verb)?;
    let role = inside.role()?;
    let mut close = false;
    loop {
        match if close { role.try_next() } else { role.look_once() } {
            Ok(Some(record)) => {
                let value = how.decode(py, role.bytes(&record))?;
                role.release(record.next());
                return Ok(Some(value.unbind()));
            }
            Ok(None) if close || !is_time(misses) => break,
            Ok(None) => close = true,
            Err(Stop::Ended | Stop::PeerDied { .. }) if silent => {}
            Err(stop) => return Err(Consumer::stopped(stop, rx.core.object())),
        }
    }
    drop(inside);
    if close {
        rx.tried(py);
    }
    Ok(None)
}

/// `await ring.apop()`.
pub(super) struct Taking {
    pub(super) rx: Py<PyConsumer>,
    pub(super) how: As,
    /// Ends that came before the await are passed over.
    pub(super) first: bool,
}

impl Operation for Taking {
    fn name(&self) -> &'static str {
        "apop"
    }

    fn face(&self) -> &Arc<Face> {
        &self.rx.get().handle().face
    }

    fn poll(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let first = std::mem::take(&mut self.first);
        take(py, self.rx.get().handle(), "apop", &self.how, first, None)
    }

    fn visit(&self, each: &mut dyn FnMut(&Py<PyAny>)) {
        each(self.rx.as_any());
    }
}

/// `await ring.apush(data)`.
pub(super) struct Putting {
    pub(super) ends: (Py<PyProducer>, Arc<Region>),
    pub(super) packed: Packed<'static>,
}

impl Operation for Putting {
    fn name(&self) -> &'static str {
        "apush"
    }

    fn face(&self) -> &Arc<Face> {
        &self.ends.0.get().handle().face
    }

    fn poll(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let tx = self.ends.0.get().handle();
        if put(py, tx, "apush", &self.packed, None)? {
            return Ok(Some(true.into_pyobject(py)?.to_owned().into_any().unbind()));
        }
        let mut inside = tx.enter(py, "apush")?;
        let role = inside.role()?;
        role.lacks(self.packed.len());
        if role.is_closed() {
            let cause = "it is full, and its consumer has gone";
            return Err(errors::peer_closed(&self.ends.1.fault(FaultKind::Os, cause)));
        }
        Ok(None)
    }

    fn visit(&self, each: &mut dyn FnMut(&Py<PyAny>)) {
        each(self.ends.0.as_any());
    }
}
