//! A raw segment: a file with no header of ours, no slots and no waits, only bytes, as `shm_open`
//! programs and Python's `multiprocessing.shared_memory` make them.

use crate::error::{Fault, FaultKind, OpenError, errno};
use crate::layout::{Header, Kind, MAGIC, STATE_REMOVED};
use crate::name::Name;
use crate::region::Region;
use crate::region::create::{no_room, not_named};
use crate::region::map::{Bytes, view};
use crate::region::open::{check_owner, not_opened};
use crate::region::spec::check_mode;
use crate::sync::Ordering;
use crate::sys::fd::Fd;
use crate::sys::file::{self, FileId, FileInfo};
use crate::sys::map::Mapping;
use crate::sys::process;
use std::fmt;
use std::path::{Path, PathBuf};
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
    /// Makes a file of exactly `len` bytes that begins with `data`. Its name comes last, when nothing
    /// can fail any more.
    pub(crate) fn create(
        name: &Name,
        len: usize,
        mode: u32,
        reserve: bool,
        data: &[u8],
    ) -> Result<RawRegion, OpenError> {
        let subject = Raw(name);
        check_mode(&subject, mode)?;
        if len == 0 || i64::try_from(len).is_err() {
            let cause = format!("a raw segment of {len} bytes cannot be; ask for at least 1");
            return Err(Fault::new(FaultKind::InvalidOption, subject, cause).into());
        }
        let unborn = file::Unborn::with(len as u64, mode, reserve, data)
            .map_err(|err| no_room(&subject, len as u64, &err))?;
        let made = Self::map(name, unborn.fd(), unborn.id(), len)?;
        let path = file::shm_path(name.file());
        unborn.publish(&path).map_err(|err| not_named(&subject, &err))?;
        Ok(made)
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
        // What mapping a pipe or a device says.
        check_owner(&subject, &info).map_err(|fault| match info.regular {
            true => fault,
            false => fault.with_errno(errno::EINVAL),
        })?;
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

    /// Deletes the name if it still leads to this file; false when it does not. An object of ours whose
    /// doors are elsewhere is marked before: its users cannot be rung from here, but find it when they look.
    pub(crate) fn unlink(self) -> Result<bool, Fault> {
        let ours = Region::check_file(&self.name, &self.path, &self.fd, &self.info, None);
        let mark = || {
            if let Ok((mapping, ..)) = &ours
                && let Some(header) = view::<Header>(mapping, 0)
            {
                // Release: as in `Region::mark_removed`.
                header.state.store(STATE_REMOVED, Ordering::Release);
            }
        };
        unlink_same(&self.name, &self.path, self.info.id, Some(&self.fd), mark)
    }
}

/// How often a remover looks again while somebody else holds the lock.
const PATIENCE: usize = 64;

/// Deletes a name while it leads to that file, which is known already; false when it does not. Opens
/// nothing, so nothing hinders it but what hinders `shm_unlink`, and it costs little more; a file that
/// somebody makes of the same name between looking and deleting is hit.
pub(crate) fn unlink_file(name: &Name, id: FileId) -> Result<bool, Fault> {
    unlink_same(name, &file::shm_path(name.file()), id, None, || ())
}

/// Deletes a name as `shm_unlink` does, whatever it leads to.
#[cfg(feature = "python")]
pub(crate) fn unlink_any(name: &Name) -> Result<(), OpenError> {
    let path = file::shm_path(name.file());
    file::unlink(&path).map_err(|err| match errno::of(&err) {
        Some(errno::ENOENT) => not_opened(Raw(name), &err),
        _ => Fault::os(Raw(name), "unlink", &err).into(),
    })
}

/// Whether a name leads to a file of this user, and to which: for one that cannot be opened.
pub(crate) fn own_file(name: &Name) -> Option<FileId> {
    let info = file::info_at(&file::shm_path(name.file())).ok()??;
    (info.regular && info.uid == process::euid()).then_some(info.id)
}

/// Under the lock of the inode, where it can be had: removers keep each other from a file that somebody
/// makes of the same name between looking and deleting. It is not waited for: a raw file is anybody's
/// to lock, and without it this is what `shm_unlink` does. `before` runs when the name was found to lead there.
pub(crate) fn unlink_same(
    name: &Name,
    path: &Path,
    id: FileId,
    fd: Option<&Fd>,
    before: impl FnOnce(),
) -> Result<bool, Fault> {
    let os = |call: &'static str| move |err: std::io::Error| Fault::os(Raw(name), call, &err);
    for turn in 1.. {
        let locked = fd.is_none_or(|fd| file::try_lock_whole(fd).unwrap_or(true));
        let found = file::info_at(path).map_err(os("lstat"))?;
        if found.is_none_or(|info| info.id != id) {
            return Ok(false);
        }
        if locked || turn == PATIENCE {
            break;
        }
        std::thread::yield_now(); // another remover needs a moment
    }
    before();
    match file::unlink(path) {
        // Somebody who did not have the lock.
        Err(err) if errno::of(&err) == Some(errno::ENOENT) => Ok(false),
        done => done.map(|()| true).map_err(os("unlink")),
    }
}
