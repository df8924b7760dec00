//! Doors: not written for this system yet (they will be named pipes).

#![allow(dead_code, reason = "there is no directory of doors")]

use crate::sys::fd::Fd;
use crate::sys::file::FileId;
use crate::sys::unsupported::unsupported;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The directory of the doors; there can be none.
#[derive(Debug, Clone)]
pub(crate) struct DoorDir {
    never: Infallible,
}

/// The outcome of a knock.
#[derive(Debug)]
pub(crate) enum Knock {
    Open(Fd),
    Refused,
    Full,
    Failed(io::Error),
}

impl DoorDir {
    /// How messages name the place where doors would be.
    pub(crate) fn path_for(_uid: u32) -> PathBuf {
        PathBuf::from(r"\\.\pipe\ringspan")
    }

    pub(crate) fn open(_uid: u32) -> io::Result<DoorDir> {
        Err(unsupported("a door (CreateNamedPipe)"))
    }

    pub(crate) fn path(&self) -> &Path {
        match self.never {}
    }

    pub(crate) fn id(&self) -> FileId {
        match self.never {}
    }

    pub(crate) fn owner(&self) -> u32 {
        match self.never {}
    }

    pub(crate) fn door_path(&self, _tag: u64) -> PathBuf {
        match self.never {}
    }

    pub(crate) fn listen(&self, _tag: u64, _owner: u32) -> io::Result<Fd> {
        match self.never {}
    }

    pub(crate) fn knock(&self, _tag: u64) -> Knock {
        match self.never {}
    }

    pub(crate) fn unlink(&self, _tag: u64) {
        match self.never {}
    }

    pub(crate) fn listen_front(&self, _tag: u64, _owner: u32) -> io::Result<Fd> {
        match self.never {}
    }

    pub(crate) fn call(&self, _tag: u64) -> Knock {
        match self.never {}
    }

    pub(crate) fn call_within(&self, _tag: u64, _time: Duration) -> Knock {
        match self.never {}
    }

    pub(crate) fn unlink_single(&self, _tag: u64) {
        match self.never {}
    }

    pub(crate) fn unlink_front(&self, _tag: u64) {
        match self.never {}
    }

    pub(crate) fn sweep_fronts(&self) -> io::Result<usize> {
        match self.never {}
    }

    pub(crate) fn sweep_unfinished(&self) -> io::Result<usize> {
        match self.never {}
    }

    pub(crate) fn refused(&self, _alive: &BTreeSet<u64>) -> io::Result<Vec<u64>> {
        match self.never {}
    }
}

/// The tags of all doors that somebody listens at, as far as the system tells: none.
pub(crate) fn listening() -> BTreeSet<u64> {
    BTreeSet::new()
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Credentials {
    pub(crate) pid: u32,
    pub(crate) uid: u32,
}

pub(crate) fn credentials(_conn: &Fd) -> io::Result<Credentials> {
    Err(unsupported("asking for the other end (GetNamedPipeClientProcessId)"))
}

/// There are none.
pub(crate) fn peer_pidfd(_conn: &Fd) -> io::Result<Option<Fd>> {
    Ok(None)
}

/// The next caller at a door.
#[derive(Debug)]
pub(crate) enum Caller {
    Some(Fd),
    None,
    TooManyFiles,
}

/// Nobody calls.
pub(crate) fn accept(_door: &Fd) -> Caller {
    Caller::None
}
