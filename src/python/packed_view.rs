//! The class `_PackedView`: packed items in the bytes of a block, each call under its lock.
//!
//! The lock is taken and given back inside the call; no guard of Python's is made. Who holds one (the
//! awaited forms do) passes it, and its lock is used. Nothing that could run Python code happens under
//! the lock, and large copies are made with the interpreter lock given back.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Weak};

use super::block::PyBlock;
use super::buffer::{self, LARGE};
use super::errors;
use super::locking::Locking;
use super::packed::{self, Packed, Tag};
use super::rwlock_guard::PyGuard;
use super::rwlock_take::poisoned;
use crate::block::raise;
use crate::error::FaultKind;
use crate::layout::ArrayArea;
use crate::region::Region;
use crate::region::map::Words;
use crate::rwlock::core::Core;
use crate::rwlock::{LockMode, ReadGuard, RwLock, WriteGuard};
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering, lock};

/// What a view is of.
struct Body {
    object: Py<PyBlock>,
    locking: Arc<Locking>,
    /// The handle, until it is closed.
    core: Weak<Core>,
    area: Words<ArrayArea>,
    region: Arc<Region>,
}

/// The one of this process.
enum Here<'a> {
    First(&'a Body),
    /// Attached anew after a fork.
    Again(Arc<Body>),
}

impl Deref for Here<'_> {
    type Target = Body;

    #[inline]
    fn deref(&self) -> &Body {
        match self {
            Here::First(body) => body,
            Here::Again(body) => body,
        }
    }
}

/// The bytes under the lock.
enum Locked<G> {
    Ours(G),
    /// Somebody else's hold, which is not to be given back.
    Theirs(ManuallyDrop<G>),
}

impl<G: Deref<Target = [u8]>> Deref for Locked<G> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Locked::Ours(guard) => guard,
            Locked::Theirs(guard) => guard,
        }
    }
}

impl<G: DerefMut<Target = [u8]>> DerefMut for Locked<G> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Locked::Ours(guard) => guard,
            Locked::Theirs(guard) => guard,
        }
    }
}

impl<G> Locked<G> {
    /// So many bytes are copied with the interpreter lock given back. Not under a lock that somebody
    /// may give back meanwhile.
    fn frees(&self, len: usize) -> bool {
        len > LARGE && matches!(self, Locked::Ours(_))
    }
}

/// How a call comes to the lock.
#[derive(Clone, Copy)]
struct Way<'a, 'py> {
    timeout: Option<&'a Bound<'py, PyAny>>,
    guard: Option<&'a Bound<'py, PyGuard>>,
}

impl Body {
    fn of(block: &Bound<'_, PyBlock>) -> PyResult<Body> {
        let locking = Arc::clone(block.get().locking());
        let core = Arc::downgrade(locking.open_handle()?.core());
        let (object, opened) = (block.clone().unbind(), locking.block_handle()?);
        let region = Arc::clone(opened.region());
        Ok(Body { object, locking, core, area: opened.area(), region })
    }

    fn len(&self) -> usize {
        self.region.payload().1
    }

    #[inline]
    fn core(&self) -> PyResult<Arc<Core>> {
        self.core.upgrade().ok_or_else(|| self.closed())
    }

    #[cold]
    fn closed(&self) -> PyErr {
        let closed = || errors::closed_handle(&self.locking.object, "handle", "closed");
        self.locking.open_handle().err().unwrap_or_else(closed)
    }

    #[inline]
    fn locked<'a, G>(
        &self,
        core: &'a Arc<Core>,
        py: Python<'_>,
        mode: LockMode,
        way: Way<'_, '_>,
        allow_poisoned: bool,
        make: impl FnOnce(&'a Core) -> G,
    ) -> PyResult<Locked<G>> {
        if let Some(guard) = way.guard {
            if !guard.get().holds(core, mode) {
                return Err(PyRuntimeError::new_err("the guard is none of this view"));
            }
            return Ok(Locked::Theirs(ManuallyDrop::new(make(core))));
        }
        let word = self.locking.take(py, core, mode, way.timeout)?;
        let guard = make(core);
        if word.is_poisoned() && !allow_poisoned {
            return Err(poisoned(core));
        }
        Ok(Locked::Ours(guard))
    }

    #[inline]
    fn read<'a>(
        &self,
        core: &'a Arc<Core>,
        py: Python<'_>,
        way: Way<'_, '_>,
    ) -> PyResult<Locked<ReadGuard<'a>>> {
        self.locked(core, py, LockMode::Read, way, false, ReadGuard::new)
    }

    #[inline]
    fn write<'a>(
        &self,
        core: &'a Arc<Core>,
        py: Python<'_>,
        way: Way<'_, '_>,
        allow_poisoned: bool,
    ) -> PyResult<Locked<WriteGuard<'a>>> {
        self.locked(core, py, LockMode::Write, way, allow_poisoned, WriteGuard::new)
    }

    /// Raises the version, while the lock is still held.
    #[inline]
    fn written(&self, core: &Core) -> PyResult<()> {
        raise(core, &self.area).map(drop).map_err(|fault| errors::fault(&fault))
    }
}

/// A cursor over the bytes of a block that reads and writes packed items under its lock.
///
/// A class of Python's that derives from it gives another block by `_attach()` where `fork` has brought
/// it into a child.
#[pyclass(frozen, subclass, name = "_PackedView", module = "ringspan._ringspan")]
pub(crate) struct PyPackedView {
    body: Body,
    /// In a child that came by fork. Taken with the interpreter attached, for plain statements only.
    again: Mutex<Option<Arc<Body>>>,
    closed: AtomicBool,
    size: usize,
    /// As `closed` read and written with the interpreter attached, so Relaxed everywhere.
    cursor: AtomicU64,
}

impl PyPackedView {
    #[inline]
    fn body<'a>(slf: &'a Bound<'_, Self>) -> PyResult<Here<'a>> {
        let this = slf.get();
        if this.closed.load(Ordering::Relaxed) {
            return Err(errors::closed_handle(&this.body.locking.object, "view", "closed"));
        }
        if this.body.region.is_inherited() {
            return Self::again(slf).map(Here::Again);
        }
        Ok(Here::First(&this.body))
    }

    #[cold]
    fn again(slf: &Bound<'_, Self>) -> PyResult<Arc<Body>> {
        let this = slf.get();
        let found = lock(&this.again).clone();
        if let Some(body) = found.filter(|body| !body.region.is_inherited()) {
            return Ok(body);
        }
        let block = slf.call_method0("_attach")?;
        let body = Arc::new(Body::of(block.cast::<PyBlock>()?)?);
        if body.len() != this.size {
            let cause = format!("a view of {} bytes is now one of {}", this.size, body.len());
            return Err(errors::fault(&body.region.fault(FaultKind::Damaged, cause)));
        }
        let old = lock(&this.again).replace(Arc::clone(&body));
        drop(old);
        Ok(body)
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "it was a usize")]
    fn at(&self) -> usize {
        self.cursor.load(Ordering::Relaxed) as usize // Relaxed: see the field
    }

    #[inline]
    fn go_to(&self, at: usize) {
        self.cursor.store(at as u64, Ordering::Relaxed); // Relaxed: see the field
    }

    /// The end of `len` bytes at `offset`.
    #[inline]
    fn end(&self, offset: usize, len: usize) -> PyResult<usize> {
        match offset.checked_add(len) {
            Some(end) if end <= self.size && len > 0 => Ok(end),
            _ => Err(self.outside(offset, len)),
        }
    }

    #[cold]
    fn outside(&self, offset: usize, len: usize) -> PyErr {
        errors::option(match len {
            0 => "length cannot be zero".to_owned(),
            _ => format!("out of bounds: offset={offset} + length={len} > data_size={}", self.size),
        })
    }

    #[inline]
    fn put(
        slf: &Bound<'_, Self>,
        packed: &Packed<'_>,
        offset: Option<usize>,
        way: Way<'_, '_>,
    ) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        let body = Self::body(slf)?;
        let core = body.core()?;
        let mut bytes = body.write(&core, py, way, false)?;
        let start = offset.unwrap_or_else(|| this.at());
        let end = this.end(start, packed.len())?;
        let frees = bytes.frees(packed.len());
        let room = &mut bytes[start..end];
        if frees {
            py.detach(|| packed.put(room));
        } else {
            packed.put(room);
        }
        if offset.is_none() {
            this.go_to(end);
        }
        body.written(&core)
    }

    /// A copy of bytes that lie in the view.
    #[inline]
    fn copy<'py>(
        slf: &Bound<'py, Self>,
        offset: usize,
        len: usize,
        way: Way<'_, '_>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let body = Self::body(slf)?;
        let core = body.core()?;
        let bytes = body.read(&core, py, way)?;
        let part = &bytes[offset..offset + len];
        if bytes.frees(len) {
            return buffer::bytes(py, part);
        }
        Ok(PyBytes::new(py, part).into_any())
    }
}

#[pymethods]
impl PyPackedView {
    #[new]
    fn new(block: &Bound<'_, PyBlock>) -> PyResult<Self> {
        let body = Body::of(block)?;
        let (size, again, closed) = (body.len(), Mutex::new(None), AtomicBool::new(false));
        Ok(PyPackedView { body, again, closed, size, cursor: AtomicU64::new(0) })
    }

    /// Writes one value.
    ///
    /// Raises `ValueError` if it would end beyond the view, or has no bytes; `OverflowError` for an
    /// int beyond 64 bits.
    #[pyo3(signature = (data, offset=None, *, timeout=None, _guard=None))]
    fn write(
        slf: &Bound<'_, Self>,
        data: &Bound<'_, PyAny>,
        offset: Option<usize>,
        timeout: Option<&Bound<'_, PyAny>>,
        _guard: Option<&Bound<'_, PyGuard>>,
    ) -> PyResult<()> {
        Self::put(slf, &Packed::value(data)?, offset, Way { timeout, guard: _guard })
    }

    /// Writes values one behind the other; a list among them counts as its elements.
    ///
    /// Raises as `write`.
    #[pyo3(signature = (items, offset=None, *, timeout=None, _guard=None))]
    fn write_mixed(
        slf: &Bound<'_, Self>,
        items: &Bound<'_, PyAny>,
        offset: Option<usize>,
        timeout: Option<&Bound<'_, PyAny>>,
        _guard: Option<&Bound<'_, PyGuard>>,
    ) -> PyResult<()> {
        Self::put(slf, &Packed::items(items)?, offset, Way { timeout, guard: _guard })
    }

    /// Reads one item at the cursor, by the tag of what was written there.
    ///
    /// Raises `ValueError` for an unknown tag, and if the view ends before the item.
    #[pyo3(signature = (tag, *, timeout=None, _guard=None))]
    fn read<'py>(
        slf: &Bound<'py, Self>,
        tag: &Bound<'py, PyAny>,
        timeout: Option<&Bound<'py, PyAny>>,
        _guard: Option<&Bound<'py, PyGuard>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        let tag = Tag::of(tag)?;
        let body = Self::body(slf)?;
        let core = body.core()?;
        let bytes = body.read(&core, py, Way { timeout, guard: _guard })?;
        let at = this.at();
        let end = packed::end(&bytes, at, tag)?;
        let value = packed::item(py, &bytes[at..end], tag)?;
        this.go_to(end);
        Ok(value)
    }

    /// Reads items one behind the other: for each `(tag, count)` a list, or one item if 1.
    ///
    /// Raises `ValueError` as `read`, and for entries that are no tuples.
    #[pyo3(signature = (schema, offset=None, *, timeout=None, _guard=None))]
    fn read_mixed<'py>(
        slf: &Bound<'py, Self>,
        schema: &Bound<'py, PyAny>,
        offset: Option<usize>,
        timeout: Option<&Bound<'py, PyAny>>,
        _guard: Option<&Bound<'py, PyGuard>>,
    ) -> PyResult<Bound<'py, PyList>> {
        let (py, this) = (slf.py(), slf.get());
        let schema = packed::schema(schema)?;
        let body = Self::body(slf)?;
        let core = body.core()?;
        let bytes = body.read(&core, py, Way { timeout, guard: _guard })?;
        let at = offset.unwrap_or_else(|| this.at());
        this.end(at, 1)?;
        let end = packed::end_of_all(&bytes, at, &schema)?;
        if offset.is_none() {
            this.go_to(end);
        }
        // A copy: the lists are made without the lock, since a new object may run a collector.
        let copy = bytes[at..end].to_vec();
        drop(bytes);
        packed::items(py, &copy, &schema)
    }

    /// Copies `length` bytes from `offset` on.
    ///
    /// Raises `ValueError` if `length` is 0 or they do not all lie in the view.
    #[pyo3(signature = (offset, length, *, timeout=None, _guard=None))]
    fn read_range<'py>(
        slf: &Bound<'py, Self>,
        offset: usize,
        length: usize,
        timeout: Option<&Bound<'py, PyAny>>,
        _guard: Option<&Bound<'py, PyGuard>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.get().end(offset, length)?;
        Self::copy(slf, offset, length, Way { timeout, guard: _guard })
    }

    /// Copies all bytes.
    #[pyo3(signature = (*, timeout=None, _guard=None))]
    fn read_all<'py>(
        slf: &Bound<'py, Self>,
        timeout: Option<&Bound<'py, PyAny>>,
        _guard: Option<&Bound<'py, PyGuard>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::copy(slf, 0, slf.get().size, Way { timeout, guard: _guard })
    }

    /// Fills the view with zeros; the cursor stays. Poison is gone then.
    #[pyo3(signature = (*, timeout=None, _guard=None))]
    fn zero(
        slf: &Bound<'_, Self>,
        timeout: Option<&Bound<'_, PyAny>>,
        _guard: Option<&Bound<'_, PyGuard>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let body = Self::body(slf)?;
        let core = body.core()?;
        let mut bytes = body.write(&core, py, Way { timeout, guard: _guard }, true)?;
        let frees = bytes.frees(slf.get().size);
        let all = &mut *bytes;
        if frees {
            py.detach(|| all.fill(0));
        } else {
            all.fill(0);
        }
        if RwLock::of(Arc::clone(&core)).is_poisoned() {
            core.set_poisoned(false).map_err(|fault| errors::fault(&fault))?;
        }
        body.written(&core)
    }

    /// Moves the cursor to `pos`, which may be the end.
    ///
    /// Raises `ValueError` beyond it; the cursor stays.
    #[pyo3(signature = (pos=0))]
    fn seek(&self, pos: usize) -> PyResult<()> {
        if pos > self.size {
            let text = format!("seek position {pos} exceeds data_size {}", self.size);
            return Err(errors::option(text));
        }
        self.go_to(pos);
        Ok(())
    }

    /// Where the cursor is.
    fn tell(&self) -> usize {
        self.at()
    }

    /// Bytes in the view, 4 less than in the segment.
    fn size(&self) -> usize {
        self.size
    }

    /// The block, of this process.
    #[getter]
    fn _block(slf: &Bound<'_, Self>) -> PyResult<Py<PyBlock>> {
        Ok(Self::body(slf)?.object.clone_ref(slf.py()))
    }

    /// Ends the view. What it is a view of; None if it was closed before.
    fn _give_up(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyBlock>>> {
        if slf.get().closed.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let block = Self::_block(slf)?;
        slf.get().closed.store(true, Ordering::Relaxed);
        Ok(Some(block))
    }
}
