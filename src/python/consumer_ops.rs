//! Taking messages out of the ring: what the three forms of each verb share.

use pyo3::exceptions::{
    PyException, PyMemoryError, PyStopAsyncIteration, PyTypeError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};
use std::sync::Arc;

use super::asyncio::Face;
use super::awaitable::Operation;
use super::buffer::{self, LARGE, Memory};
use super::consumer::PyConsumer;
use super::convert;
use super::end::{Handle, Inside, Owner, Role, region_of};
use super::errors;
use super::lent::PyLent;
use crate::codec::Tag;
use crate::ring::{Consumer, PopError, Record, Stop};

/// The object of a message; an error names the ring.
#[inline]
fn decode<'py>(
    py: Python<'py>,
    rx: &Consumer,
    record: &Record,
    handle: &Handle<Consumer>,
) -> PyResult<Bound<'py, PyAny>> {
    let payload = rx.bytes(record);
    if record.tag() == Tag::RAW.byte() {
        return buffer::bytes(py, payload);
    }
    convert::decode(py, record.tag(), payload, handle.core.config.codec).map_err(|err| {
        match err.is_instance_of::<PyValueError>(py) {
            true => errors::codec(py, handle.core.object(), err),
            false => err,
        }
    })
}

/// Whether a message that could not be read is taken all the same, so that it does not stop the
/// stream: not where it was us who failed.
fn is_bad_message(py: Python<'_>, err: &PyErr) -> bool {
    err.is_instance_of::<PyException>(py) && !err.is_instance_of::<PyMemoryError>(py)
}

fn take(
    py: Python<'_>,
    inside: &mut Inside<'_, Consumer>,
    record: &Record,
    handle: &Handle<Consumer>,
    verb: &str,
) -> PyResult<Py<PyAny>> {
    let rx = inside.role()?;
    let value = if record.len() > LARGE {
        handle.copying(py, verb, || decode(py, rx, record, handle))
    } else {
        decode(py, rx, record, handle)
    };
    match value {
        Ok(value) => {
            rx.release(record.next());
            Ok(value.unbind())
        }
        Err(err) => {
            if is_bad_message(py, &err) {
                rx.release(record.next());
            }
            Err(err)
        }
    }
}

#[cold]
fn stopped(stop: Stop, handle: &Handle<Consumer>) -> PyErr {
    Consumer::stopped(stop, handle.core.object())
}

/// One message at one look.
#[inline]
pub(crate) fn look_one(
    py: Python<'_>,
    handle: &Handle<Consumer>,
    verb: &str,
) -> PyResult<Option<Py<PyAny>>> {
    let mut inside = handle.enter(py, verb)?;
    match inside.role()?.look_once() {
        Ok(None) => Ok(None),
        Ok(Some(record)) => take(py, &mut inside, &record, handle, verb).map(Some),
        Err(stop) => Err(stopped(stop, handle)),
    }
}

/// One message for a `try_` verb, which looks after the other end when it finds nothing.
#[inline]
pub(crate) fn try_one(
    py: Python<'_>,
    handle: &Handle<Consumer>,
    verb: &str,
) -> PyResult<Option<Py<PyAny>>> {
    if let Some(value) = look_one(py, handle, verb)? {
        return Ok(Some(value));
    }
    let mut inside = handle.enter(py, verb)?;
    let found = inside.role()?.try_next();
    let value = match found {
        Ok(None) => Ok(None),
        Ok(Some(record)) => take(py, &mut inside, &record, handle, verb).map(Some),
        Err(stop) => Err(stopped(stop, handle)),
    };
    drop(inside);
    handle.tried(py);
    value
}

fn take_many<'py>(
    py: Python<'py>,
    inside: &mut Inside<'_, Consumer>,
    first: Record,
    most: usize,
    handle: &Handle<Consumer>,
) -> PyResult<Bound<'py, PyList>> {
    let rx = inside.role()?;
    rx.collect(first, most);
    let count = rx.collected().len();
    let list = PyList::empty(py);
    let mut failed = None;
    let mut cursor = None;
    for at in 0..count {
        let record = rx.collected()[at];
        match decode(py, rx, &record, handle) {
            Ok(value) => list.append(value)?,
            // What came before it is returned now; the next verb meets it again.
            Err(err) if at > 0 && is_bad_message(py, &err) => break,
            // Not the message's fault (Ctrl-C, no memory): nothing is taken.
            Err(err) if at > 0 => return Err(err),
            Err(err) => {
                failed = Some(err);
            }
        }
        if failed.as_ref().is_none_or(|err| is_bad_message(py, err)) {
            cursor = Some(record.next());
        }
        if failed.is_some() {
            break;
        }
    }
    if let Some(cursor) = cursor {
        rx.release(cursor);
    }
    failed.map_or(Ok(list), Err)
}

/// Some messages at one look.
pub(crate) fn look_many<'py>(
    py: Python<'py>,
    handle: &Handle<Consumer>,
    verb: &str,
    most: usize,
) -> PyResult<Option<Bound<'py, PyList>>> {
    let mut inside = handle.enter(py, verb)?;
    match inside.role()?.look_once() {
        Ok(None) => Ok(None),
        Ok(Some(first)) => take_many(py, &mut inside, first, most, handle).map(Some),
        Err(stop) => Err(stopped(stop, handle)),
    }
}

/// Some messages for the `try_` verb.
pub(crate) fn try_many<'py>(
    py: Python<'py>,
    handle: &Handle<Consumer>,
    verb: &str,
    most: usize,
) -> PyResult<Option<Bound<'py, PyList>>> {
    if let Some(list) = look_many(py, handle, verb, most)? {
        return Ok(Some(list));
    }
    let mut inside = handle.enter(py, verb)?;
    let list = match inside.role()?.try_next() {
        Ok(None) => Ok(None),
        Ok(Some(first)) => take_many(py, &mut inside, first, most, handle).map(Some),
        Err(stop) => Err(stopped(stop, handle)),
    };
    drop(inside);
    handle.tried(py);
    list
}

fn lend(
    py: Python<'_>,
    mut inside: Inside<'_, Consumer>,
    record: &Record,
    handle: &Handle<Consumer>,
) -> PyResult<PyLent> {
    let number = inside.lend(record.next());
    let rx = inside.role()?;
    let mapping = region_of(rx);
    let payload = rx.bytes(record);
    let memory = Memory::lent(payload, mapping, handle.core.clone(), number);
    let codec = handle.core.config.codec;
    let made = Py::new(py, memory).and_then(|memory| {
        PyLent::new(py, handle.core.object(), memory, record.tag(), payload, codec)
    });
    if made.is_err() {
        // It stays in the ring. The memory came back while we are inside, so nobody released it.
        inside.unlend(number);
    }
    made
}

/// The oldest message where it lies, at one look.
pub(crate) fn look_lend(
    py: Python<'_>,
    handle: &Handle<Consumer>,
    verb: &str,
) -> PyResult<Option<PyLent>> {
    let mut inside = handle.enter(py, verb)?;
    match inside.role()?.look_once() {
        Ok(None) => Ok(None),
        Ok(Some(record)) => lend(py, inside, &record, handle).map(Some),
        Err(stop) => Err(stopped(stop, handle)),
    }
}

/// The oldest message where it lies, for the `try_` verb.
pub(crate) fn try_lend(
    py: Python<'_>,
    handle: &Handle<Consumer>,
    verb: &str,
) -> PyResult<Option<PyLent>> {
    let mut inside = handle.enter(py, verb)?;
    match inside.role()?.try_next() {
        Ok(None) => Ok(None),
        Ok(Some(record)) => lend(py, inside, &record, handle).map(Some),
        Err(stop) => Err(stopped(stop, handle)),
    }
}

/// `try_pop` takes at most one default.
#[inline]
pub(crate) fn check_default(default: &Bound<'_, PyTuple>, verb: &str) -> PyResult<()> {
    if default.len() <= 1 {
        return Ok(());
    }
    Err(PyTypeError::new_err(format!("{verb}() takes at most one default, not {}", default.len())))
}

/// A batch of no messages is a mistake.
#[inline]
pub(crate) fn check_most(most: usize) -> PyResult<()> {
    if most == 0 {
        return Err(PyValueError::new_err("the number of messages must be 1 or more, not 0"));
    }
    Ok(())
}

/// The exception of the public Rust verbs.
pub(crate) fn pop_error(err: PopError, object: &str) -> PyErr {
    let stop = match err {
        PopError::PeerDied { fault, pid } => Stop::PeerDied { fault, pid },
        PopError::Timeout(fault) | PopError::Fault(fault) => Stop::Fault(fault),
    };
    Consumer::stopped(stop, object)
}

/// Keeps looking for as long as `spin=` says, once for each await.
fn spin(
    py: Python<'_>,
    rx: &Py<PyConsumer>,
    verb: &str,
    spun: &mut bool,
    ended: fn(Stop, &Handle<Consumer>) -> PyErr,
) -> PyResult<bool> {
    let handle = rx.get().handle();
    if *spun || !handle.core.config.spins() {
        return Ok(false);
    }
    *spun = true;
    let mut inside = handle.enter(py, verb)?;
    match inside.role()?.look_long() {
        Ok(found) => Ok(found.is_some()),
        Err(stop) => Err(ended(stop, handle)),
    }
}

/// At the end of the stream `async for` ends.
#[cold]
fn stopped_next(stop: Stop, handle: &Handle<Consumer>) -> PyErr {
    match stop {
        Stop::Ended => PyStopAsyncIteration::new_err(()),
        stop => stopped(stop, handle),
    }
}

/// What becomes of the message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    Object,
    /// As `Object`, for `async for`, which ends at the end of the stream.
    Next,
    Lent,
}

/// `await rx.pop()`, `await rx.lend()`, one step of `async for`.
pub(crate) struct Pop {
    rx: Py<PyConsumer>,
    want: Want,
    spun: bool,
}

impl Pop {
    pub(crate) fn one(rx: Py<PyConsumer>) -> Self {
        Pop { rx, want: Want::Object, spun: false }
    }

    pub(crate) fn next(rx: Py<PyConsumer>) -> Self {
        Pop { rx, want: Want::Next, spun: false }
    }

    pub(crate) fn lend(rx: Py<PyConsumer>) -> Self {
        Pop { rx, want: Want::Lent, spun: false }
    }

    fn look(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let (handle, verb) = (self.rx.get().handle(), self.name());
        match self.want {
            Want::Object => look_one(py, handle, verb),
            Want::Lent => {
                let lent = look_lend(py, handle, verb)?;
                lent.map(|lent| Py::new(py, lent).map(Py::into_any)).transpose()
            }
            Want::Next => {
                let mut inside = handle.enter(py, verb)?;
                match inside.role()?.look_once() {
                    Ok(None) => Ok(None),
                    Ok(Some(record)) => take(py, &mut inside, &record, handle, verb).map(Some),
                    Err(stop) => Err(stopped_next(stop, handle)),
                }
            }
        }
    }
}

impl Operation for Pop {
    fn name(&self) -> &'static str {
        match self.want {
            Want::Object => "Consumer.pop",
            Want::Next => "Consumer.__anext__",
            Want::Lent => "Consumer.lend",
        }
    }

    fn face(&self) -> &Arc<Face> {
        &self.rx.get().handle().face
    }

    fn poll(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let found = self.look(py)?;
        let ended = if self.want == Want::Next { stopped_next } else { stopped };
        if found.is_none() && spin(py, &self.rx, self.name(), &mut self.spun, ended)? {
            return self.look(py);
        }
        Ok(found)
    }

    fn visit(&self, each: &mut dyn FnMut(&Py<PyAny>)) {
        each(self.rx.as_any());
    }
}

/// `await rx.pop_many(n)`.
pub(crate) struct PopMany {
    rx: Py<PyConsumer>,
    most: usize,
    spun: bool,
}

impl PopMany {
    pub(crate) fn new(rx: Py<PyConsumer>, most: usize) -> Self {
        PopMany { rx, most, spun: false }
    }

    fn look(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let list = look_many(py, self.rx.get().handle(), self.name(), self.most)?;
        Ok(list.map(|list| list.into_any().unbind()))
    }
}

impl Operation for PopMany {
    fn name(&self) -> &'static str {
        "Consumer.pop_many"
    }

    fn face(&self) -> &Arc<Face> {
        &self.rx.get().handle().face
    }

    fn poll(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let found = self.look(py)?;
        if found.is_none() && spin(py, &self.rx, self.name(), &mut self.spun, stopped)? {
            return self.look(py);
        }
        Ok(found)
    }

    fn visit(&self, each: &mut dyn FnMut(&Py<PyAny>)) {
        each(self.rx.as_any());
    }
}
