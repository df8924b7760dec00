//! Files of shared memory: not written for this system yet.

#![allow(dead_code, reason = "nothing can be opened or made")]

use crate::sys::fd::Fd;
use crate::sys::unsupported::unsupported;
use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How messages name the place where segments would be.
pub(crate) const SHM_DIR: &str = "shared memory";
/// Start of the temporary names.
pub(crate) const TEMP_PREFIX: &str = ".ringspan-tmp-";

/// What identifies a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FileId {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
}

/// What the system says of a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FileInfo {
    pub(crate) id: FileId,
    pub(crate) size: u64,
    pub(crate) uid: u32,
    pub(crate) mode: u32,
    pub(crate) links: u64,
    pub(crate) regular: bool,
}

/// The path of a file in the directory of shared memory.
pub(crate) fn shm_path(file: &str) -> PathBuf {
    Path::new(SHM_DIR).join(file)
}

pub(crate) fn info(_fd: &Fd) -> io::Result<FileInfo> {
    Err(unsupported("GetFileInformationByHandle"))
}

pub(crate) fn info_at(_path: &Path) -> io::Result<Option<FileInfo>> {
    Err(unsupported("GetFileInformationByName"))
}

pub(crate) fn reserve(_fd: &Fd, _offset: u64, _len: u64) -> io::Result<()> {
    Err(unsupported("growing shared memory"))
}

pub(crate) fn read_at(_fd: &Fd, _offset: u64, _out: &mut [u8]) -> io::Result<()> {
    Err(unsupported("reading shared memory"))
}

pub(crate) fn write_at(_fd: &Fd, _offset: u64, _bytes: &[u8]) -> io::Result<()> {
    Err(unsupported("writing shared memory"))
}

pub(crate) fn give_back(_fd: &Fd, _offset: u64, _len: u64) {}

/// A file that is not published yet; there can be none.
#[derive(Debug)]
pub(crate) struct Unborn {
    never: Infallible,
}

impl Unborn {
    pub(crate) fn new(_len: u64, _mode: u32) -> io::Result<Unborn> {
        Err(unsupported("creating shared memory (CreateFileMapping)"))
    }

    pub(crate) fn with(_len: u64, _mode: u32, _reserved: bool, _: &[u8]) -> io::Result<Unborn> {
        Err(unsupported("creating shared memory (CreateFileMapping)"))
    }

    pub(crate) fn fd(&self) -> &Arc<Fd> {
        match self.never {}
    }

    pub(crate) fn id(&self) -> FileId {
        match self.never {}
    }

    pub(crate) fn publish(self, _path: &Path) -> io::Result<Arc<Fd>> {
        match self.never {}
    }
}

pub(crate) fn open(_path: &Path) -> io::Result<Fd> {
    Err(unsupported("opening shared memory (OpenFileMapping)"))
}

pub(crate) fn unlink(_path: &Path) -> io::Result<()> {
    Err(unsupported("removing a name (DeleteFile)"))
}

/// An exclusive lock on a file; there can be none.
#[derive(Debug)]
pub(crate) struct InodeLock {
    _never: Infallible,
}

impl InodeLock {
    pub(crate) fn take(_fd: &Fd, _path: &Path) -> io::Result<InodeLock> {
        Err(unsupported("LockFileEx"))
    }

    pub(crate) fn try_take(_fd: &Fd, _path: &Path) -> io::Result<Option<InodeLock>> {
        Err(unsupported("LockFileEx"))
    }
}

pub(crate) fn size_limit() -> Option<u64> {
    None
}

pub(crate) fn try_lock_whole(_fd: &Fd) -> io::Result<bool> {
    Err(unsupported("LockFileEx"))
}

pub(crate) fn sweep_temporary(_entry: &str) -> io::Result<bool> {
    Err(unsupported("sweeping temporary files"))
}

pub(crate) fn list(_dir: &Path) -> io::Result<Vec<String>> {
    Err(unsupported("listing shared memory (FindFirstFile)"))
}

/// 64 random bits from the system.
pub(crate) fn random() -> io::Result<u64> {
    getrandom::u64().map_err(|err| io::Error::other(err.to_string()))
}
