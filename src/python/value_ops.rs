//! Reading and setting a `Value` from Python: copies into Python's memory, and what is done under the lock.

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::cell::Cell;
use std::sync::Arc;

use super::asyncio::Face;
use super::awaitable::Operation;
use super::buffer::LARGE;
use super::changes::Source;
use super::convert::{self, Encoded, Options};
use super::errors;
use super::signals;
use super::sleepers::Open;
use super::value::Inner;
use crate::codec::Tag;
use crate::error::Fault;
use crate::notify::Endpoint;
use crate::notify::shared::Shared;
use crate::region::Region;
use crate::rwlock::LockMode;
use crate::rwlock::core::Core as Lock;
use crate::rwlock::wait::Waiting;
use crate::value::core::{Change, Core};
use crate::value::raw::{Read, Sink};

/// How often a large value may change its size while an object of that size is made, before it is copied
/// twice.
const RESIZES: usize = 3;

/// The handle, and how its objects are written.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(crate) core: Arc<Core>,
    pub(crate) codec: Options,
}

/// Takes what fits.
struct Limited<'a> {
    copy: &'a mut Vec<u8>,
    /// Bytes that did not fit.
    wanted: Option<usize>,
}

impl Sink for Limited<'_> {
    fn room(&mut self, len: usize) -> Option<&mut [u8]> {
        if len > LARGE {
            self.wanted = Some(len);
            return None;
        }
        self.copy.room(len)
    }
}

/// Takes exactly so many bytes.
struct Exactly<'a> {
    out: &'a mut [u8],
    wanted: Option<usize>,
}

impl Sink for Exactly<'_> {
    fn room(&mut self, len: usize) -> Option<&mut [u8]> {
        self.wanted = (len != self.out.len()).then_some(len);
        if self.wanted.is_some() { None } else { Some(self.out) }
    }
}

/// Where the bytes went.
enum Got<'py> {
    Ours(Vec<u8>),
    Theirs(Bound<'py, PyBytes>),
}

impl Got<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Got::Ours(bytes) => bytes,
            Got::Theirs(bytes) => bytes.as_bytes(),
        }
    }
}

impl Handle {
    /// The latest value; `None`: never set. The outer `None`: it is set faster than it can be copied, and
    /// `wait` is false.
    pub(crate) fn read<'py>(
        &self,
        py: Python<'py>,
        wait: bool,
    ) -> PyResult<Option<(u64, Option<Bound<'py, PyAny>>)>> {
        let Some((read, got)) = self.copy(py, wait)? else { return Ok(None) };
        let Some(tag) = read.tag else { return Ok(Some((read.version, None))) };
        let value = match (tag, got) {
            (tag, Got::Theirs(bytes)) if tag == Tag::RAW.byte() => bytes.into_any(),
            (tag, got) => self.decode(py, tag, got.bytes())?,
        };
        Ok(Some((read.version, Some(value))))
    }

    fn decode<'py>(&self, py: Python<'py>, tag: u8, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        decode(py, self.core.region(), tag, bytes, self.codec)
    }

    fn copy<'py>(&self, py: Python<'py>, wait: bool) -> PyResult<Option<(Read, Got<'py>)>> {
        let fault = |fault: Fault| errors::fault(&fault);
        let mut small = Vec::new();
        let mut sink = Limited { copy: &mut small, wanted: None };
        let mut wanted = match self.core.try_read(&mut sink) {
            Ok(Some(read)) => return Ok(Some((read, Got::Ours(small)))),
            Ok(None) if !wait => return Ok(None),
            Ok(None) => 0,
            Err(err) => sink.wanted.ok_or_else(|| fault(err))?,
        };
        for _ in 0..RESIZES {
            let mut read = Ok(None);
            let bytes = PyBytes::new_with(py, wanted, |out| {
                let mut sink = Exactly { out, wanted: None };
                let copied = self.copy_into(py, &mut sink, wait);
                read = match (copied, sink.wanted) {
                    (Err(_), Some(len)) => {
                        wanted = len;
                        Ok(None)
                    }
                    (Ok(None), _) => Err(None),
                    (Ok(Some(read)), _) => Ok(Some(read)),
                    (Err(err), None) => Err(Some(err)),
                };
                Ok(())
            })?;
            match read {
                Ok(Some(read)) => return Ok(Some((read, Got::Theirs(bytes)))),
                Ok(None) => {}
                Err(None) => return Ok(None),
                Err(Some(err)) => return Err(err),
            }
        }
        let copied = self.copy_into(py, &mut small, wait)?;
        Ok(copied.map(|read| (read, Got::Ours(small))))
    }

    /// One copy. It takes its time, and may have to wait: others may run meanwhile, signals are answered.
    fn copy_into(
        &self,
        py: Python<'_>,
        sink: &mut (impl Sink + Send),
        wait: bool,
    ) -> PyResult<Option<Read>> {
        match py.detach(|| self.core.try_read(sink)) {
            Ok(None) if wait => {
                signals::parked(py, &Open, |bell| self.core.read_blocking(sink, bell))
            }
            copied => copied.map_err(|fault| errors::fault(&fault)),
        }
    }
}

/// What was read of a region, as an object.
pub(super) fn decode<'py>(
    py: Python<'py>,
    region: &Region,
    tag: u8,
    bytes: &[u8],
    codec: Options,
) -> PyResult<Bound<'py, PyAny>> {
    convert::decode(py, tag, bytes, codec).map_err(|err| {
        if err.is_instance_of::<pyo3::exceptions::PyValueError>(py) {
            errors::codec(py, &region.subject().to_string(), err)
        } else {
            err
        }
    })
}

impl Source for Handle {
    fn region(&self) -> &Arc<Region> {
        self.core.region()
    }

    fn shared(&self) -> &Shared {
        self.core.shared()
    }

    fn version(&self) -> u64 {
        self.core.version()
    }

    fn look(&self, endpoint: &mut Endpoint, since: u64) -> Result<Option<u64>, Fault> {
        self.core.look(endpoint, since)
    }

    fn read(&self, py: Python<'_>) -> PyResult<(u64, Option<Py<PyAny>>)> {
        let read = Handle::read(self, py, true)?; // some: it waits
        Ok(read.map_or((0, None), |(version, value)| (version, value.map(Bound::unbind))))
    }
}

/// What is done under the lock.
pub(crate) enum Action {
    /// Sets this.
    Set(Encoded),
    /// Sets what the callable makes of the old one.
    Update { f: Py<PyAny>, default: Option<Py<PyAny>> },
    /// Sets the second if the latest equals the first.
    Compare(Py<PyAny>, Encoded),
}

impl Action {
    pub(crate) fn verb(&self) -> &'static str {
        match self {
            Action::Set(_) => "Value.set",
            Action::Update { .. } => "Value.update",
            Action::Compare(..) => "Value.compare_and_set",
        }
    }

    pub(crate) fn visit(&self, each: &mut dyn FnMut(&Py<PyAny>)) {
        match self {
            Action::Set(_) => {}
            Action::Update { f, default } => {
                each(f);
                default.iter().for_each(each);
            }
            Action::Compare(expected, _) => each(expected),
        }
    }

    /// Does it; the lock is given back whatever comes.
    pub(crate) fn run(
        &self,
        py: Python<'_>,
        inner: &Inner,
        handle: &Handle,
        change: Change<'_>,
    ) -> PyResult<Py<PyAny>> {
        match self {
            Action::Set(encoded) => {
                let version = set(py, change, encoded)?;
                Ok(version.into_pyobject(py)?.into_any().unbind())
            }
            Action::Update { f, default } => {
                let old = match old(py, handle, &change)? {
                    Some(old) => old.unbind(),
                    None => {
                        default.as_ref().map(|default| default.clone_ref(py)).ok_or_else(|| {
                            errors::empty(&format!("value {} (update without default)", inner.name))
                        })?
                    }
                };
                let new = inner.holding_while(|| f.bind(py).call1((old,)))?;
                let encoded = convert::encode(&new, handle.codec, &mut Vec::new())?;
                set(py, change, &encoded)?;
                Ok(new.unbind())
            }
            Action::Compare(expected, encoded) => {
                let equal = match old(py, handle, &change)? {
                    Some(old) => inner.holding_while(|| old.eq(expected.bind(py)))?,
                    None => false,
                };
                if equal {
                    set(py, change, encoded)?;
                }
                Ok(equal.into_pyobject(py)?.to_owned().into_any().unbind())
            }
        }
    }
}

fn old<'py>(
    py: Python<'py>,
    handle: &Handle,
    change: &Change<'_>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let mut copy = Vec::new();
    let read = change.read(&mut copy).map_err(|fault| errors::fault(&fault))?;
    read.tag.map(|tag| handle.decode(py, tag, &copy)).transpose()
}

fn set(py: Python<'_>, change: Change<'_>, encoded: &Encoded) -> PyResult<u64> {
    let mut spare = Vec::new();
    let pieces = encoded.pieces(py, &mut spare)?;
    let tag = encoded.tag().byte();
    let set = if pieces[1].len() > LARGE {
        py.detach(|| change.set_parts(pieces, tag))
    } else {
        change.set_parts(pieces, tag)
    };
    set.map_err(|fault| errors::fault(&fault))
}

/// `set`, `update` and `compare_and_set` in asyncio: waits for the turn among those who set.
pub(crate) struct Changing {
    inner: Arc<Inner>,
    face: Arc<Face>,
    action: Action,
    /// Turns of the loop that were given to those who were woken.
    given: Cell<u32>,
    /// Looked once. From now on through the endpoint, which watches who may wake us.
    looked: bool,
    /// Our place among those who wait; dropped, it is left.
    waiting: Option<Waiting<OfValue>>,
}

/// The lock of a value, for a place in its queue.
pub(crate) struct OfValue(Arc<Core>);

impl std::ops::Deref for OfValue {
    type Target = Lock;

    fn deref(&self) -> &Lock {
        &self.0.lock
    }
}

impl Changing {
    pub(crate) fn new(inner: Arc<Inner>, action: Action) -> Self {
        let face = Arc::clone(inner.faces.nowhere());
        Changing { inner, face, action, given: Cell::new(0), looked: false, waiting: None }
    }
}

impl Operation for Changing {
    fn name(&self) -> &'static str {
        self.action.verb()
    }

    fn start(&mut self, py: Python<'_>) -> PyResult<()> {
        self.inner.open()?;
        self.face = self.inner.faces.here(py, self.name())?;
        Ok(())
    }

    fn gives_way(&self) -> bool {
        let given = self.given.get();
        let gives = self.inner.open().is_ok_and(|handle| handle.core.lock.gives_turn(given));
        self.given.set(given.saturating_add(u32::from(gives)));
        gives
    }

    fn face(&self) -> &Arc<Face> {
        &self.face
    }

    fn queued(&self) -> bool {
        false
    }

    fn poll(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let handle = self.inner.open()?;
        let core = &handle.core;
        let taken = if self.looked {
            if self.waiting.is_none() {
                self.waiting = Some(Waiting::new(OfValue(Arc::clone(core)), LockMode::Write));
            }
            let looked = core.shared().with(|endpoint| core.lock.look(endpoint, LockMode::Write));
            looked.and_then(|looked| looked).map_err(|fault| errors::fault(&fault))?
        } else {
            self.looked = true;
            let taken = core.lock.take_at_once(LockMode::Write);
            if taken.is_none() {
                self.inner.refuse_recursion(self.name())?;
            }
            taken
        };
        if taken.is_none() {
            return Ok(None);
        }
        let change = core.taken();
        if let Some(waiting) = self.waiting.take() {
            waiting.came();
        }
        self.action.run(py, &self.inner, &handle, change).map(Some)
    }

    fn visit(&self, each: &mut dyn FnMut(&Py<PyAny>)) {
        self.action.visit(each);
    }
}
