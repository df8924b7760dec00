//! A watch on one inode: readable when its link count changes (inotify(7), IN_ATTRIB), which is how
//! a sleeper with no peer notices that the name was deleted from outside.

use crate::sys::fd::Fd;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use std::io;
use std::os::fd::AsRawFd;

/// The watch.
#[derive(Debug)]
pub(crate) struct InodeWatch {
    fd: Fd,
}

impl InodeWatch {
    /// Watches the inode behind an open file. Users have few of these (128 by default), so keep one
    /// only while it is needed.
    pub(crate) fn new(file: &Fd) -> io::Result<InodeWatch> {
        let flags = CreateFlags::CLOEXEC | CreateFlags::NONBLOCK;
        let fd = Fd::open(|| inotify::init(flags))?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        inotify::add_watch(&fd, path, WatchFlags::ATTRIB | WatchFlags::DELETE_SELF)?;
        Ok(InodeWatch { fd })
    }

    pub(crate) fn fd(&self) -> &Fd {
        &self.fd
    }

    /// Takes in what was reported.
    pub(crate) fn drain(&self) {
        let mut sink = [0; 1024];
        loop {
            match rustix::io::read(&self.fd, &mut sink) {
                Ok(n) if n > 0 => {}
                Err(Errno::INTR) => {}
                _ => return,
            }
        }
    }
}
