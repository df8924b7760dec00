//! What is done with packed items in a block: the block as one process has it, the cursor, and each step
//! under the lock, which is taken before and given back here.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyList;
use std::ops::Range;
use std::sync::Arc;

use super::block::PyBlock;
use super::buffer::{self, LARGE};
use super::errors;
use super::locking::Locking;
use super::packed::{self, Entry, Packed, Tag, number};
use super::per_process::PerProcess;
use super::rwlock_ops::{Act, acting};
use super::rwlock_take::refuse_poison;
use super::seconds::seconds;
use crate::block::raise;
use crate::error::FaultKind;
use crate::rwlock::core::Core;
use crate::rwlock::word::Word;
use crate::rwlock::{LockMode, ReadGuard, WriteGuard};
use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// The block as one process has it.
pub(super) struct Open {
    pub(super) block: Py<PyBlock>,
    pub(super) locking: Arc<Locking>,
}

/// A view: a block, and the cursor over it.
pub(super) struct View {
    /// The handle of the segment, whose `_mapped()` gives the block in the process that asks.
    pub(super) memory: Py<PyAny>,
    pub(super) size: usize,
    pub(super) cursor: Cursor,
    /// As the cursor.
    pub(super) closed: AtomicBool,
    opened: PerProcess<Open>,
}

/// Where the cursor stands. It changes with the interpreter attached, so Relaxed everywhere; between
/// a look and a change of one verb there is no other thread.
pub(super) type Cursor = Arc<AtomicU64>;

pub(super) fn at(cursor: &AtomicU64) -> usize {
    // It came from a usize.
    cursor.load(Ordering::Relaxed) as usize // Relaxed: see `Cursor`
}

pub(super) fn set(cursor: &AtomicU64, to: usize) {
    cursor.store(to as u64, Ordering::Relaxed); // Relaxed: see `Cursor`
}

/// The place of `length` bytes.
#[inline]
pub(super) fn place(start: usize, length: usize, size: usize) -> PyResult<Range<usize>> {
    match start.checked_add(length) {
        Some(end) if end <= size && length != 0 => Ok(start..end),
        _ => Err(misplaced(start, length, size)),
    }
}

#[cold]
fn misplaced(start: usize, length: usize, size: usize) -> PyErr {
    if length == 0 {
        return errors::option("length cannot be zero".to_owned());
    }
    errors::option(format!("out of bounds: offset={start} + length={length} > data_size={size}"))
}

#[inline]
pub(super) fn put(
    py: Python<'_>,
    bytes: &mut [u8],
    cursor: &AtomicU64,
    packed: &Packed<'_>,
    offset: Option<usize>,
) -> PyResult<()> {
    let to = place(offset.unwrap_or_else(|| at(cursor)), packed.len(), bytes.len())?;
    let end = to.end;
    if packed.len() > LARGE {
        py.detach(|| packed.put(&mut bytes[to]));
    } else {
        packed.put(&mut bytes[to]);
    }
    if offset.is_none() {
        set(cursor, end);
    }
    Ok(())
}

#[inline]
pub(super) fn take<'py>(
    py: Python<'py>,
    bytes: &[u8],
    cursor: &AtomicU64,
    tag: Tag,
) -> PyResult<Bound<'py, PyAny>> {
    let (item, next) = packed::unpack(py, bytes, tag, at(cursor))?;
    set(cursor, next);
    Ok(item)
}

/// A copy of the bytes of items. The lists are made of it without the lock, since a new list may run a
/// collector, and that anything, also what wants the lock.
pub(super) fn copy_items(
    bytes: &[u8],
    cursor: &AtomicU64,
    schema: &[Entry],
    offset: Option<usize>,
) -> PyResult<Vec<u8>> {
    let start = place(offset.unwrap_or_else(|| at(cursor)), 1, bytes.len())?.start;
    let end = packed::end_of_items(bytes, schema, start)?;
    if offset.is_none() {
        set(cursor, end);
    }
    Ok(bytes[start..end].to_vec())
}

pub(super) fn list_items<'py>(
    py: Python<'py>,
    copy: &[u8],
    schema: &[Entry],
) -> PyResult<Bound<'py, PyList>> {
    packed::unpack_items(py, copy, schema, 0).map(|(items, _)| items)
}

pub(super) fn clear(py: Python<'_>, bytes: &mut [u8]) {
    if bytes.len() > LARGE {
        py.detach(|| bytes.fill(0));
    } else {
        bytes.fill(0);
    }
}

/// Writes with the lock that was taken just now.
#[inline]
pub(super) fn write_with<T>(
    core: &Core,
    word: Word,
    act: impl FnOnce(&mut [u8]) -> PyResult<T>,
) -> PyResult<T> {
    let mut guard = WriteGuard::new(core);
    refuse_poison(core, word)?;
    let done = act(&mut guard)?;
    raise(core).map_err(|fault| errors::fault(&fault))?;
    Ok(done)
}

/// Reads with the lock that was taken just now.
#[inline]
pub(super) fn read_with<T>(
    core: &Core,
    word: Word,
    act: impl FnOnce(&[u8]) -> PyResult<T>,
) -> PyResult<T> {
    let guard = ReadGuard::new(core);
    refuse_poison(core, word)?;
    act(&guard)
}

/// Clears with the lock that was taken just now, whatever a killed writer left.
pub(super) fn clear_with(py: Python<'_>, core: &Core, word: Word) -> PyResult<()> {
    let mut guard = WriteGuard::new(core);
    clear(py, &mut guard);
    if word.is_poisoned() {
        core.set_poisoned(false).map_err(|fault| errors::fault(&fault))?;
    }
    raise(core).map_err(|fault| errors::fault(&fault))?;
    Ok(())
}

// ---- the view -----------------------------------------------------------------------------------

impl View {
    pub(super) fn new(memory: Py<PyAny>, size: usize) -> Self {
        let (cursor, closed) = (Arc::default(), AtomicBool::new(false));
        View { memory, size, cursor, closed, opened: PerProcess::new() }
    }

    /// The block of this process, whether or not the view was closed.
    #[inline]
    pub(super) fn attached<'a>(&'a self, py: Python<'_>) -> PyResult<&'a Open> {
        self.opened.get_or_make(|| self.attach(py))
    }

    fn attach(&self, py: Python<'_>) -> PyResult<Open> {
        let block = self.memory.bind(py).call_method0(intern!(py, "_mapped"))?;
        let block = block.cast_into::<PyBlock>()?;
        let locking = Arc::clone(block.get().locking());
        let region = Arc::clone(locking.inside(py)?.region());
        let len = region.payload().1;
        if len != self.size {
            let cause = format!("{len} bytes are mapped, not {}", self.size);
            return Err(errors::fault(&region.fault(FaultKind::Damaged, cause)));
        }
        Ok(Open { block: block.unbind(), locking })
    }

    /// The same while the view is open.
    #[inline]
    pub(super) fn open<'a>(&'a self, py: Python<'_>) -> PyResult<&'a Open> {
        let open = self.attached(py)?;
        if self.closed.load(Ordering::Relaxed) {
            // Relaxed: written and read with the interpreter attached.
            return Err(errors::closed_handle(&open.locking.object, "view", "closed"));
        }
        Ok(open)
    }

    #[inline]
    pub(super) fn writing<T>(
        &self,
        py: Python<'_>,
        timeout: Option<&Bound<'_, PyAny>>,
        act: impl FnOnce(&mut [u8]) -> PyResult<T>,
    ) -> PyResult<T> {
        let limit = seconds(timeout, "timeout")?;
        let open = self.open(py)?;
        let core = open.locking.inside(py)?;
        let word = open.locking.take(py, &core, LockMode::Write, limit)?;
        write_with(&core, word, act)
    }

    #[inline]
    pub(super) fn reading<T>(
        &self,
        py: Python<'_>,
        timeout: Option<&Bound<'_, PyAny>>,
        act: impl FnOnce(&[u8]) -> PyResult<T>,
    ) -> PyResult<T> {
        let limit = seconds(timeout, "timeout")?;
        let open = self.open(py)?;
        let core = open.locking.inside(py)?;
        let word = open.locking.take(py, &core, LockMode::Read, limit)?;
        read_with(&core, word, act)
    }

    pub(super) fn clearing(
        &self,
        py: Python<'_>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let limit = seconds(timeout, "timeout")?;
        let open = self.open(py)?;
        let core = open.locking.inside(py)?;
        let word = open.locking.take(py, &core, LockMode::Write, limit)?;
        clear_with(py, &core, word)
    }

    pub(super) fn awaiting(
        &self,
        py: Python<'_>,
        verb: &'static str,
        mode: LockMode,
        act: Act,
    ) -> PyResult<Py<PyAny>> {
        acting(py, Arc::clone(&self.open(py)?.locking), verb, mode, act)
    }

    pub(super) fn awrite_packed(
        &self,
        py: Python<'_>,
        verb: &'static str,
        packed: Packed<'static>,
        offset: Option<usize>,
    ) -> PyResult<Py<PyAny>> {
        let cursor = Arc::clone(&self.cursor);
        let act = move |py: Python<'_>, core: &Arc<Core>, word| {
            write_with(core, word, |bytes| put(py, bytes, &cursor, &packed, offset))?;
            Ok(py.None())
        };
        self.awaiting(py, verb, LockMode::Write, Box::new(act))
    }

    pub(super) fn acopy(
        &self,
        py: Python<'_>,
        verb: &'static str,
        from: Range<usize>,
    ) -> PyResult<Py<PyAny>> {
        let act = move |py: Python<'_>, core: &Arc<Core>, word| {
            read_with(core, word, |bytes| buffer::bytes(py, &bytes[from])).map(Bound::unbind)
        };
        self.awaiting(py, verb, LockMode::Read, Box::new(act))
    }

    pub(super) fn range(
        &self,
        offset: &Bound<'_, PyAny>,
        length: &Bound<'_, PyAny>,
    ) -> PyResult<Range<usize>> {
        place(number(offset, "an offset")?, number(length, "a length")?, self.size)
    }

    pub(super) fn count(&self, py: Python<'_>, mode: LockMode) -> PyResult<usize> {
        let holders = self.open(py)?.locking.block_handle()?.holders();
        Ok(holders.iter().filter(|holder| holder.mode == mode).count())
    }

    /// Whatever is asked of the view later is an error. The block goes if it is the view's alone.
    pub(super) fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.closed.store(true, Ordering::Relaxed); // Relaxed: see `open`
        let Some(open) = self.opened.get() else {
            return Ok(());
        };
        let theirs = self.memory.bind(py).getattr(intern!(py, "_block"))?;
        if !theirs.is(&open.block) {
            open.locking.close(py);
        }
        Ok(())
    }
}
