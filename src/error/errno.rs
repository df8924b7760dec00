//! The errnos that faults carry, on every system.

use std::io;

#[cfg(unix)]
pub(crate) use libc::{
    EACCES, EBUSY, ECONNREFUSED, ECONNRESET, EDQUOT, EEXIST, EFBIG, EINTR, EINVAL, ELOOP, EMFILE,
    EMSGSIZE, ENFILE, ENOENT, ENOMEM, ENOSPC, EOWNERDEAD, EPERM, EPIPE, ESTALE, ETIMEDOUT, EUSERS,
};

/// Bytes that nobody should have written. Only Linux has a number for it.
#[cfg(target_os = "linux")]
pub(crate) use libc::EUCLEAN;
#[cfg(not(target_os = "linux"))]
pub(crate) const EUCLEAN: i32 = 5; // EIO

/// Those of errno.h on Windows; what it lacks by the number of the socket error, as Python does.
#[cfg(not(unix))]
mod table {
    pub(crate) const EPERM: i32 = 1;
    pub(crate) const ENOENT: i32 = 2;
    pub(crate) const EINTR: i32 = 4;
    pub(crate) const ENOMEM: i32 = 12;
    pub(crate) const EACCES: i32 = 13;
    pub(crate) const EBUSY: i32 = 16;
    pub(crate) const EEXIST: i32 = 17;
    pub(crate) const EINVAL: i32 = 22;
    pub(crate) const ENFILE: i32 = 23;
    pub(crate) const EMFILE: i32 = 24;
    pub(crate) const EFBIG: i32 = 27;
    pub(crate) const ENOSPC: i32 = 28;
    pub(crate) const EPIPE: i32 = 32;
    pub(crate) const ECONNREFUSED: i32 = 107;
    pub(crate) const ECONNRESET: i32 = 108;
    pub(crate) const ELOOP: i32 = 114;
    pub(crate) const EMSGSIZE: i32 = 115;
    pub(crate) const EOWNERDEAD: i32 = 133;
    pub(crate) const ETIMEDOUT: i32 = 138;
    pub(crate) const EUSERS: i32 = 10068;
    pub(crate) const EDQUOT: i32 = 10069;
    pub(crate) const ESTALE: i32 = 10070;
}
#[cfg(not(unix))]
pub(crate) use table::*;

/// The errno of an error. On Windows the system's numbers mean other things.
pub(crate) fn of(err: &io::Error) -> Option<i32> {
    if cfg!(unix) { err.raw_os_error() } else { None }
}
