//! Raw shared mappings: not written for this system yet.

use crate::sys::fd::Fd;
use crate::sys::unsupported::unsupported;
use std::convert::Infallible;
use std::io;

/// A shared, writable mapping; there can be none.
#[derive(Debug)]
pub(crate) struct Mapping {
    never: Infallible,
}

impl Mapping {
    pub(crate) fn new(_fd: &Fd, _len: usize) -> io::Result<Mapping> {
        Err(unsupported("mapping shared memory (CreateFileMapping)"))
    }

    pub(crate) fn as_mut_ptr(&self) -> *mut u8 {
        match self.never {}
    }

    pub(crate) fn len(&self) -> usize {
        match self.never {}
    }
}
