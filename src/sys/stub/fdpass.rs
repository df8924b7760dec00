//! Handing a doorbell over: not written for this system yet.

#![allow(dead_code, reason = "nobody answers a knock")]

use crate::sys::fd::Fd;
use crate::sys::unsupported::unsupported;
use std::io;

/// What lies in a connection whose other end owes us a descriptor.
#[derive(Debug)]
pub(crate) enum Answer {
    Fd(Fd),
    NotYet,
    Broken,
    TooManyFiles,
}

pub(crate) fn send(_conn: &Fd, _fd: &Fd) -> io::Result<()> {
    Err(unsupported("handing over a doorbell (DuplicateHandle)"))
}

pub(crate) fn receive(_conn: &Fd) -> Answer {
    Answer::Broken
}

/// What lies in a connection over which a parcel comes.
#[derive(Debug)]
pub(crate) enum Parcel {
    Here { bytes: Vec<u8>, fds: Vec<Fd> },
    NotYet,
    Broken,
    TooManyFiles,
}

/// How far the rest of a parcel came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum More {
    All,
    NotYet,
    Broken,
}

pub(crate) fn send_parcel(_conn: &Fd, _bytes: &[u8], _fds: &[&Fd]) -> io::Result<()> {
    Err(unsupported("handing over descriptors (DuplicateHandle)"))
}

pub(crate) fn receive_parcel(_conn: &Fd, _max_bytes: usize) -> Parcel {
    Parcel::Broken
}

pub(crate) fn receive_more(_conn: &Fd, _bytes: &mut Vec<u8>, _wanted: usize) -> More {
    More::Broken
}
