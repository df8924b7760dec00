//! The handle: meta, bytes, the lock.

use super::options::BlockOptions;
use crate::error::{Fault, FaultKind, OpenError};
use crate::layout::{ArrayArea, fnv1a};
use crate::notify::find::Late;
use crate::notify::{Attach, Endpoint};
use crate::region::Region;
use crate::region::map::Words;
use crate::rwlock::core::{Core, bury};
use crate::rwlock::word::Word;
use crate::rwlock::{Holder, RwLock, holders};
use crate::segment::version::removed;
#[cfg(feature = "python")]
use crate::sync::try_lock;
use crate::sync::{Mutex, Ordering, lock};
use std::sync::Arc;

/// A named piece of memory with a description, a lock and a version: what an array lives in.
///
/// Cloning is cheap; clones share one mapping. The block outlives the processes that use it until it is
/// [removed](crate::remove), unless it was made [ephemeral](BlockOptions::ephemeral).
///
/// The lock is a choice of those who share the block: [`lock`](Block::lock) gives the
/// [`RwLock`](crate::RwLock) over its bytes. Reads and writes by [`read_at`](Block::read_at),
/// [`write_at`](Block::write_at) and [`as_ptr`](Block::as_ptr) take no part in it, as with a
/// [`Segment`](crate::Segment). Plain use costs no place, no door and no descriptor but the file's: a
/// handle takes one of the 48 places when it first locks, notifies or waits.
///
/// # What a crash leaves behind
///
/// The block, whole, with whatever was written; a writer killed under the lock poisons it. A killed
/// creator leaves a finished block or none.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # let name = &format!("/doc-block-{}", std::process::id());
/// use ringspan::Block;
///
/// let block = Block::options().meta(*b"text").create(name, 4096)?;
/// block.lock()?.blocking_write(None)?[..5].copy_from_slice(b"hello");
/// block.notify()?;
///
/// // Any other process that names it:
/// let other = Block::open(name)?;
/// assert_eq!((other.meta(), other.version()), (&b"text"[..], 1));
/// assert_eq!(&other.lock()?.blocking_read(None)?[..5], b"hello");
/// # ringspan::remove(name)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Block {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) region: Arc<Region>,
    pub(super) area: Words<ArrayArea>,
    meta: Box<[u8]>,
    /// Attached at the first lock, wait or notification.
    core: Mutex<Option<Arc<Core>>>,
}

impl Block {
    /// Options with their defaults.
    pub fn options() -> BlockOptions {
        BlockOptions::default()
    }

    /// Makes a new block of `len` zero bytes without meta; see [`BlockOptions::create`].
    ///
    /// # Errors
    ///
    /// As [`BlockOptions::create`].
    pub fn create(name: &str, len: usize) -> Result<Block, OpenError> {
        Self::options().create(name, len)
    }

    /// Opens a block that exists; see [`BlockOptions::open`].
    ///
    /// # Errors
    ///
    /// As [`BlockOptions::open`].
    pub fn open(name: &str) -> Result<Block, OpenError> {
        Self::options().open(name)
    }

    pub(super) fn of((region, endpoint): Late) -> Result<Block, OpenError> {
        let meta = copied_meta(&region)?;
        let core = match endpoint {
            Some(endpoint) => Some(Arc::new(Core::new(*endpoint)?)),
            None => None,
        };
        let area = region.kind_words();
        Ok(Block { inner: Arc::new(Inner { region, area, meta, core: Mutex::new(core) }) })
    }

    /// The attached handle of lock and version, attached if need be.
    pub(crate) fn core(&self) -> Result<Arc<Core>, Fault> {
        let region = &self.inner.region;
        region.check_fork()?; // before the lock, which a thread of the parent may have held
        let mut place = lock(&self.inner.core);
        if let Some(core) = &*place {
            return Ok(Arc::clone(core));
        }
        match Endpoint::attach_any(region, true, bury) {
            Ok(Attach::Done(endpoint)) => {
                let core = Arc::new(Core::new(*endpoint)?);
                *place = Some(Arc::clone(&core));
                Ok(core)
            }
            Ok(Attach::Stale) => Err(removed(region)),
            Err(err) => Err(err.fault().clone()),
        }
    }

    /// The lock of this process, if it is attached and nobody attaches it just now.
    #[cfg(feature = "python")]
    #[inline]
    pub(crate) fn attached_lock(&self) -> Option<RwLock> {
        if self.inner.region.is_inherited() {
            return None;
        }
        try_lock(&self.inner.core)?.clone().map(RwLock::of)
    }

    /// The lock over the bytes: one handle, however often it is asked for.
    ///
    /// # Errors
    ///
    /// Faults where this handle is not attached yet: [`Removed`](FaultKind::Removed) for a block that has
    /// no name any more, [`TooManyAttached`](FaultKind::TooManyAttached) for the 49th handle.
    /// [`Forked`](FaultKind::Forked) in a forked child.
    pub fn lock(&self) -> Result<RwLock, Fault> {
        self.core().map(RwLock::of)
    }

    /// Whether a writer died (or panicked) under the lock and nobody cleared that since.
    pub fn is_poisoned(&self) -> bool {
        self.word().is_poisoned()
    }

    /// Who holds the lock now; as [`RwLock::holders`](crate::RwLock::holders).
    pub fn holders(&self) -> Vec<Holder> {
        holders::of(&self.inner.region, &self.inner.area.lock, self.word())
    }

    fn word(&self) -> Word {
        Word(self.inner.area.lock.line.word.load(Ordering::SeqCst))
    }

    /// What its creator said of it.
    pub fn meta(&self) -> &[u8] {
        &self.inner.meta
    }

    /// The name, with its slash.
    pub fn name(&self) -> String {
        self.inner.region.name().to_string()
    }

    /// Bytes in the block.
    pub fn len(&self) -> usize {
        self.inner.region.payload().1
    }

    /// Whether the block has no bytes (it still locks, and can be notified).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the last one out removes it.
    pub fn is_ephemeral(&self) -> bool {
        self.inner.region.is_ephemeral()
    }

    /// The first byte, page aligned. The memory stays mapped while this handle or a clone of it lives.
    /// Other processes may write it at any time, so never make a `&[u8]` of it: take the lock, or read
    /// and write through the pointer.
    pub fn as_ptr(&self) -> *mut u8 {
        self.inner.region.payload().0.as_ptr()
    }

    /// Copies `out.len()` bytes from `offset` on, without the lock. What another process writes
    /// meanwhile may come in part.
    ///
    /// # Errors
    ///
    /// A fault of kind [`InvalidOption`](FaultKind::InvalidOption) when they do not all lie in the block;
    /// nothing is copied then.
    pub fn read_at(&self, offset: usize, out: &mut [u8]) -> Result<(), Fault> {
        let len = out.len();
        self.inner.region.bytes().read(offset, out).ok_or_else(|| self.outside(offset, len))
    }

    /// Copies `bytes` to `offset`, without the lock.
    ///
    /// # Errors
    ///
    /// As [`Block::read_at`].
    pub fn write_at(&self, offset: usize, bytes: &[u8]) -> Result<(), Fault> {
        let region = &self.inner.region;
        region.bytes().write(offset, bytes).ok_or_else(|| self.outside(offset, bytes.len()))
    }

    fn outside(&self, offset: usize, len: usize) -> Fault {
        let cause = format!("{len} bytes at {offset} do not lie in its {}", self.len());
        self.inner.region.fault(FaultKind::InvalidOption, cause)
    }

    /// The mapping, which outlives the handle for views.
    #[cfg(feature = "python")]
    pub(crate) fn region(&self) -> &Arc<Region> {
        &self.inner.region
    }
}

/// The meta as it stands now, if it is as its creator wrote it.
fn copied_meta(region: &Region) -> Result<Box<[u8]>, Fault> {
    let mut meta = vec![0; region.meta().len()].into_boxed_slice();
    let copied = region.meta().read(0, &mut meta);
    if copied.is_some() && fnv1a(meta.iter().copied()) == region.constants().params[0] {
        return Ok(meta);
    }
    let cause =
        "the checksum of its meta is wrong: something wrote over it; remove it and make it anew";
    Err(region.fault(FaultKind::Damaged, cause))
}
