//! A watch on one inode: not written for kqueue(2)'s EVFILT_VNODE yet.

use crate::sys::fd::Fd;
use crate::sys::unsupported::unsupported;
use std::convert::Infallible;
use std::io;

/// The watch; there can be none.
#[derive(Debug)]
pub(crate) struct InodeWatch {
    never: Infallible,
}

impl InodeWatch {
    pub(crate) fn new(_file: &Fd) -> io::Result<InodeWatch> {
        Err(unsupported("watching an inode (EVFILT_VNODE)"))
    }

    pub(crate) fn fd(&self) -> &Fd {
        match self.never {}
    }

    pub(crate) fn drain(&self) {
        match self.never {}
    }
}
