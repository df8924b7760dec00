//! A raw segment: a file with no header of ours, no slots and no waits, only bytes, as `shm_open`
//! programs and Python's `multiprocessing.shared_memory` make them.

use crate::error::{Fault, FaultKind, OpenError};
use crate::layout::{Kind, MAGIC};
use crate::name::Name;
use crate::region::Region;
use crate::region::create::{no_room, not_named};
use crate::region::map::Bytes;
use crate::region::open::{check_owner, not_opened};
use crate::region::spec::check_mode;
use crate::sys::fd::Fd;
use crate::sys::file::{self, FileId, FileInfo};
use crate::sys::map::Mapping;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// The mapped file.
#[derive(Debug)]
pub(crate) struct RawRegion {
    name: Name,
    mapping: Mapping,
    id: FileId,
}

/// How messages name a raw segment.
#[derive(Debug)]
struct Raw<'a>(&'a Name);

impl fmt::Display for Raw<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "raw segment {}", self.0)
    }
}

impl RawRegion {
    /// Makes a file of exactly `len` bytes; its name comes when its size is set.
    pub(crate) fn create(
        name: &Name,
        len: usize,
        mode: u32,
        reserve: bool,
    ) -> Result<RawRegion, OpenError> {
        let subject = Raw(name);
        check_mode(&subject, mode)?;
        if len == 0 || i64::try_from(len).is_err() {
            let cause = format!("a raw segment of {len} bytes cannot be; ask for at least 1");
            return Err(Fault::new(FaultKind::InvalidOption, subject, cause).into());
        }
        let path = file::shm_path(name.file());
        let make = if reserve { file::Unborn::new } else { file::Unborn::unreserved };
        let unborn = make(len as u64, mode).map_err(|err| no_room(&subject, len as u64, &err))?;
        let file = unborn.publish(&path).map_err(|err| not_named(&subject, &err))?;
        let info = file::info(&file).map_err(|err| Fault::os(&subject, "fstat", &err))?;
        Self::map(name, &file, info.id, len)
    }

    /// Opens whatever file has that name, with all the bytes that it has now.
    pub(crate) fn open(name: &Name) -> Result<RawRegion, OpenError> {
        let file = RawFile::open(name)?;
        let len = usize::try_from(file.info.size).unwrap_or(usize::MAX);
        if len == 0 {
            let cause = "the file is empty; its creator has not given it a size yet";
            return Err(Fault::new(FaultKind::Mismatch, Raw(name), cause).into());
        }
        Self::map(name, &file.fd, file.info.id, len)
    }

    fn map(name: &Name, fd: &Fd, id: FileId, len: usize) -> Result<RawRegion, OpenError> {
        let mapping = Mapping::new(fd, len).map_err(|err| Fault::os(Raw(name), "mmap", &err))?;
        Ok(RawRegion { name: name.clone(), mapping, id })
    }

    pub(crate) fn id(&self) -> FileId {
        self.id
    }

    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    pub(crate) fn bytes(&self) -> Bytes<'_> {
        Bytes::new(&self.mapping, 0, self.mapping.len()).expect("the whole mapping")
    }

    /// Whether the bytes begin like one of our headers.
    pub(crate) fn has_magic(&self) -> bool {
        let mut start = [0; 8];
        self.bytes().read(0, &mut start).is_some() && u64::from_le_bytes(start) == MAGIC
    }

    pub(crate) fn fault(&self, kind: FaultKind, cause: impl fmt::Display) -> Fault {
        Fault::new(kind, Raw(&self.name), cause)
    }
}

/// A file in the directory of shared memory, whatever it holds.
#[derive(Debug)]
pub(crate) struct RawFile {
    name: Name,
    path: PathBuf,
    fd: Arc<Fd>,
    pub(crate) info: FileInfo,
}

impl RawFile {
    pub(crate) fn open(name: &Name) -> Result<RawFile, OpenError> {
        let subject = Raw(name);
        let path = file::shm_path(name.file());
        let fd = file::open(&path).map_err(|err| not_opened(&subject, &err))?;
        let info = file::info(&fd).map_err(|err| Fault::os(&subject, "fstat", &err))?;
        check_owner(&subject, &info)?;
        Ok(RawFile { name: name.clone(), path, fd: Arc::new(fd), info })
    }

    /// Whether the bytes begin like one of our headers.
    pub(crate) fn has_magic(&self) -> bool {
        let mut start = [0; 8];
        file::read_at(&self.fd, 0, &mut start).is_ok() && u64::from_le_bytes(start) == MAGIC
    }

    /// The region in it.
    pub(crate) fn region(&self, wanted: Option<Kind>) -> Result<Arc<Region>, OpenError> {
        Region::of_file(&self.name, self.path.clone(), Arc::clone(&self.fd), &self.info, wanted)
    }

    /// Deletes the name if it still leads to this file; false when it does not. Under the lock of the
    /// inode, through the description that nobody but us has.
    pub(crate) fn unlink(self) -> Result<bool, Fault> {
        let name = &self.name;
        let os = |call: &'static str| move |err: std::io::Error| Fault::os(Raw(name), call, &err);
        file::lock_whole(&self.fd).map_err(os("flock"))?;
        let found = file::info_at(&self.path).map_err(os("lstat"))?;
        if found.is_none_or(|info| info.id != self.info.id) {
            return Ok(false);
        }
        file::unlink(&self.path).map_err(os("unlink"))?;
        Ok(true)
    }
}
