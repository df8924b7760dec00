//! What a segment is to be like, and how its name is found.

use crate::error::{Fault, FaultKind, OpenError};
use crate::layout::{BytesLine, FLAG_EPHEMERAL, Kind, PARAMS};
use crate::name::Name;
use crate::notify::Endpoint;
use crate::notify::find::{How, Late, Wanted, restless};
use crate::region::raw::RawRegion;
use crate::region::{Spec, Subject};
use crate::segment::handle::Segment;

/// How often a name may change under an opener before it gives up.
const REOPENS: usize = 64;

/// What a segment is to be like; see [`Segment::options`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentOptions {
    mode: u32,
    ephemeral: bool,
    raw: bool,
    reserve: bool,
}

impl Default for SegmentOptions {
    fn default() -> Self {
        SegmentOptions { mode: 0o600, ephemeral: false, raw: false, reserve: true }
    }
}

impl SegmentOptions {
    /// Permission bits of the file, whatever the umask (default 0600). Only the owner and root can
    /// open it through ringspan in any case.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// The last one out removes the segment; when all died, the next opener or [`gc`](crate::gc)
    /// does. Handles of an ephemeral segment are attached from the start, so there can be 48.
    pub fn ephemeral(mut self, ephemeral: bool) -> Self {
        self.ephemeral = ephemeral;
        self
    }

    /// A file with no header: only bytes, no waits, no list of who is attached. This is what
    /// `shm_open` programs and Python's `multiprocessing.shared_memory` make and open.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # let name = format!("doc raw {}", std::process::id());
    /// let seg = ringspan::Segment::options().raw().create(&name, 100)?;
    /// seg.write_at(0, b"for any program")?;
    /// assert_eq!(&std::fs::read(format!("/dev/shm/{name}"))?[..7], b"for any");
    /// ringspan::remove(&name)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn raw(mut self) -> Self {
        self.raw = true;
        self
    }

    /// Whether a new segment takes all its memory at once (default). Otherwise, and for a raw one only,
    /// it takes each page when it is first written, as programs that use `ftruncate` do: that is made
    /// faster the larger it is. The room must be there when it is made; should `/dev/shm` be full
    /// later, a write to a page that it does not have yet ends the process with SIGBUS.
    pub fn reserve(mut self, reserve: bool) -> Self {
        self.reserve = reserve;
        self
    }

    /// Makes a new segment of `len` zero bytes, all of them reserved (see [`SegmentOptions::reserve`]).
    ///
    /// # Errors
    ///
    /// [`OpenError::AlreadyExists`] when the name is taken; faults for a bad name, a bad mode or a
    /// full `/dev/shm`.
    pub fn create(self, name: &str, len: usize) -> Result<Segment, OpenError> {
        self.create_with(name, len, &[])
    }

    /// As [`SegmentOptions::create`], with `data` in front instead of zeros: it is there before
    /// anybody can open the segment, and who is killed meanwhile leaves no name behind.
    ///
    /// # Errors
    ///
    /// As [`SegmentOptions::create`], and [`InvalidOption`](FaultKind::InvalidOption) for more than
    /// `len` bytes.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # let name = format!("doc data {}", std::process::id());
    /// ringspan::Segment::options().raw().create_with(&name, 100, b"for any program")?;
    /// assert_eq!(&std::fs::read(format!("/dev/shm/{name}"))?[..7], b"for any");
    /// ringspan::remove(&name)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn create_with(self, name: &str, len: usize, data: &[u8]) -> Result<Segment, OpenError> {
        let shown = if self.raw { self.raw_name(name)? } else { self.usual_name(name)? };
        if data.len() > len {
            let cause = format!("{} bytes do not go into its {len}", data.len());
            let subject = format!("segment {shown}");
            return Err(Fault::new(FaultKind::InvalidOption, subject, cause).into());
        }
        if self.raw {
            let Self { mode, reserve, .. } = self;
            return RawRegion::create(&shown, len, mode, reserve, data).map(Segment::of_raw);
        }
        self.find(&shown, len, How::Create, data).map(Segment::of_late)
    }

    /// Opens a segment that exists, with all its bytes. Mode and ephemeral are what its creator
    /// chose.
    ///
    /// # Errors
    ///
    /// [`OpenError::NotFound`]; faults for another kind of object, another layout version, a damaged
    /// header or another owner.
    pub fn open(self, name: &str) -> Result<Segment, OpenError> {
        if self.raw {
            return RawRegion::open(&self.raw_name(name)?).map(Segment::of_raw);
        }
        self.find(&self.usual_name(name)?, 0, How::Open, &[]).map(Segment::of_late)
    }

    /// Opens the segment, or makes it when there is none.
    ///
    /// # Errors
    ///
    /// As [`SegmentOptions::create`] and [`SegmentOptions::open`], but for the two about existence;
    /// a fault when it exists with fewer than `len` bytes.
    pub fn open_or_create(self, name: &str, len: usize) -> Result<Segment, OpenError> {
        for _ in 0..REOPENS {
            match self.clone().open(name) {
                Err(OpenError::NotFound(_)) => {}
                Err(other) => return Err(other),
                Ok(segment) if segment.len() < len => {
                    let cause = format!(
                        "{len} bytes were asked for, its creator gave it {}; ask for no more, or \
                         remove it and make it anew",
                        segment.len()
                    );
                    return Err(segment.fault(FaultKind::Mismatch, cause).into());
                }
                Ok(segment) => return Ok(segment),
            }
            match self.clone().create(name, len) {
                Err(OpenError::AlreadyExists(_)) => {}
                made => return made,
            }
        }
        Err(restless(Kind::Bytes, &Name::raw(name)?))
    }

    fn raw_name(&self, name: &str) -> Result<Name, OpenError> {
        let name = Name::raw(name)?;
        if self.ephemeral {
            let subject = format!("raw segment {name}");
            let cause = "a raw segment cannot be ephemeral: nobody knows who uses it";
            return Err(Fault::new(FaultKind::InvalidOption, subject, cause).into());
        }
        Ok(name)
    }

    /// The name of one that is not raw; whether it exists or not, what only a raw one can be is told.
    fn usual_name(&self, name: &str) -> Result<Name, OpenError> {
        let name = Name::new(name)?;
        if !self.reserve {
            let cause = "only a raw segment can do without its memory being reserved";
            let subject = Subject { kind: Kind::Bytes, name };
            return Err(Fault::new(FaultKind::InvalidOption, subject, cause).into());
        }
        Ok(name)
    }

    fn find(&self, name: &Name, len: usize, how: How, data: &[u8]) -> Result<Late, OpenError> {
        let spec = Spec {
            kind: Kind::Bytes,
            kind_len: size_of::<BytesLine>(),
            meta_len: 0,
            payload_len: len as u64,
            params: [0; PARAMS],
            flags: if self.ephemeral { FLAG_EPHEMERAL } else { 0 },
            mode: self.mode,
        };
        let bury = Endpoint::bury_plain;
        let wanted = Wanted { name, how, spec: &spec, bury, lay_out: |_| () };
        match how {
            How::Create => wanted.create_late(|region| {
                region.bytes().write(0, data); // they fit
                Ok(())
            }),
            _ => wanted.open_late(),
        }
    }
}
