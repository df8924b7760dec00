//! The handle: bytes of a named file.

use crate::error::{Fault, FaultKind, OpenError};
use crate::notify::find::Late;
use crate::notify::shared::Shared;
use crate::region::Region;
use crate::region::map::Bytes;
use crate::region::raw::RawRegion;
use crate::segment::options::SegmentOptions;
use crate::sync::Mutex;
use std::fmt;
use std::sync::Arc;

/// A named segment of bytes, shared by every process that opens it.
///
/// Cloning is cheap; clones share one mapping. The segment outlives the processes that use it until
/// it is [removed](crate::remove), unless it was made [ephemeral](SegmentOptions::ephemeral).
///
/// Reads and writes are copies, checked against the length, and never wait. Nothing keeps two
/// writers apart, and a reader may see half of a write: agree on who writes when (a version that is
/// [notified](Segment::notify) after the write, a ring, a lock).
///
/// # What a crash leaves behind
///
/// The segment, whole, with whatever was written. A killed creator leaves a finished segment or none.
/// Should another program make the file shorter, a touch of the missing part ends the process with
/// SIGBUS, as with every memory map; ringspan never shrinks a file.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # let name = format!("/doc-segment-{}", std::process::id());
/// let seg = ringspan::Segment::create(&name, 4096)?;
/// seg.write_at(8, b"hello")?;
///
/// let other = ringspan::Segment::open(&name)?;
/// let mut bytes = [0; 5];
/// other.read_at(8, &mut bytes)?;
/// assert_eq!(&bytes, b"hello");
/// ringspan::remove(&name)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Segment {
    inner: Arc<Inner>,
}

#[derive(Debug)]
enum Inner {
    Named(Named),
    Raw(RawRegion),
}

/// A segment with our header.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) region: Arc<Region>,
    /// Attached at the first wait or notification.
    pub(super) endpoint: Mutex<Option<Shared>>,
}

impl Segment {
    /// Options with their defaults.
    pub fn options() -> SegmentOptions {
        SegmentOptions::default()
    }

    /// Makes a new segment of `len` bytes; see [`SegmentOptions::create`].
    ///
    /// # Errors
    ///
    /// As [`SegmentOptions::create`].
    pub fn create(name: &str, len: usize) -> Result<Segment, OpenError> {
        Self::options().create(name, len)
    }

    /// Opens a segment that exists; see [`SegmentOptions::open`].
    ///
    /// # Errors
    ///
    /// As [`SegmentOptions::open`].
    pub fn open(name: &str) -> Result<Segment, OpenError> {
        Self::options().open(name)
    }

    /// Opens the segment, or makes it; see [`SegmentOptions::open_or_create`].
    ///
    /// # Errors
    ///
    /// As [`SegmentOptions::open_or_create`].
    pub fn open_or_create(name: &str, len: usize) -> Result<Segment, OpenError> {
        Self::options().open_or_create(name, len)
    }

    pub(super) fn of_late((region, endpoint): Late) -> Segment {
        let endpoint = Mutex::new(endpoint.map(|endpoint| Shared::new(*endpoint)));
        Segment { inner: Arc::new(Inner::Named(Named { region, endpoint })) }
    }

    pub(super) fn of_raw(raw: RawRegion) -> Segment {
        Segment { inner: Arc::new(Inner::Raw(raw)) }
    }

    /// The part that can wait; a raw segment has none.
    pub(super) fn named(&self) -> Result<&Named, Fault> {
        match &*self.inner {
            Inner::Named(named) => Ok(named),
            Inner::Raw(raw) => {
                let cause = "a raw segment has no header, so it can be neither notified nor awaited; \
                             make it without `raw`";
                Err(raw.fault(FaultKind::Unsupported, cause))
            }
        }
    }

    pub(super) fn fault(&self, kind: FaultKind, cause: impl fmt::Display) -> Fault {
        match &*self.inner {
            Inner::Named(named) => named.region.fault(kind, cause),
            Inner::Raw(raw) => raw.fault(kind, cause),
        }
    }

    fn bytes(&self) -> Bytes<'_> {
        match &*self.inner {
            Inner::Named(named) => named.region.bytes(),
            Inner::Raw(raw) => raw.bytes(),
        }
    }

    /// The name, with its slash.
    pub fn name(&self) -> String {
        match &*self.inner {
            Inner::Named(named) => named.region.name().to_string(),
            Inner::Raw(raw) => raw.name().to_string(),
        }
    }

    /// Device and inode of its file, which no other file has while this one is there (and no later one
    /// on tmpfs, which `/dev/shm` is as a rule).
    pub fn file_id(&self) -> (u64, u64) {
        let id = match &*self.inner {
            Inner::Named(named) => named.region.id(),
            Inner::Raw(raw) => raw.id(),
        };
        (id.dev, id.ino)
    }

    /// Bytes in the segment.
    pub fn len(&self) -> usize {
        self.bytes().len()
    }

    /// Whether the segment has no bytes (it can still be notified).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it is a file without header; see [`SegmentOptions::raw`].
    pub fn is_raw(&self) -> bool {
        matches!(&*self.inner, Inner::Raw(_))
    }

    /// Whether the last one out removes it.
    pub fn is_ephemeral(&self) -> bool {
        self.named().is_ok_and(|named| named.region.is_ephemeral())
    }

    /// The first byte, page aligned. The memory stays mapped while this handle or a clone of it
    /// lives. Other processes may write it at any time, so never make a `&[u8]` of it: read and
    /// write through the pointer, or by [`read_at`](Segment::read_at).
    pub fn as_ptr(&self) -> *mut u8 {
        self.bytes().as_ptr()
    }

    /// Copies `out.len()` bytes from `offset` on. What another process writes meanwhile may come in
    /// part.
    ///
    /// # Errors
    ///
    /// A fault of kind [`InvalidOption`](FaultKind::InvalidOption) when they do not all lie in the
    /// segment; nothing is copied then.
    pub fn read_at(&self, offset: usize, out: &mut [u8]) -> Result<(), Fault> {
        let len = out.len();
        self.bytes().read(offset, out).ok_or_else(|| self.outside(offset, len))
    }

    /// Copies `bytes` to `offset`.
    ///
    /// # Errors
    ///
    /// As [`Segment::read_at`].
    pub fn write_at(&self, offset: usize, bytes: &[u8]) -> Result<(), Fault> {
        self.bytes().write(offset, bytes).ok_or_else(|| self.outside(offset, bytes.len()))
    }

    fn outside(&self, offset: usize, len: usize) -> Fault {
        let cause = format!("{len} bytes at {offset} do not lie in its {}", self.len());
        self.fault(FaultKind::InvalidOption, cause)
    }
}
