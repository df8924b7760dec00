//! Sealed memory without a name: only Linux has it (FreeBSD's has no use without the rest).

use crate::sys::fd::Fd;
use crate::sys::unsupported::unsupported;
use std::io;

pub(crate) fn create(_len: u64) -> io::Result<Fd> {
    Err(unsupported("sealed memory (memfd_create)"))
}

pub(crate) fn check(_fd: &Fd) -> io::Result<u64> {
    Err(unsupported("sealed memory (F_GET_SEALS)"))
}
