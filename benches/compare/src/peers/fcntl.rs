//! Record locks of the kernel: two system calls a turn, released when their owner dies. `OFD`: owned
//! by the open file; else by the process, as POSIX had it first.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use crate::link::{Place, Res};
use crate::os;
use crate::turns::{GUARDED, Lock};

/// The whole file is locked; its first bytes are guarded.
pub struct Record<const OFD: bool> {
    file: File,
    bytes: *mut u8,
}

impl<const OFD: bool> Record<OFD> {
    #[inline(always)]
    fn set(&self, kind: libc::c_int) -> io::Result<()> {
        let command = if OFD { libc::F_OFD_SETLKW } else { libc::F_SETLKW };
        // SAFETY: a zeroed flock is all of the file; the open file descriptor is ours.
        let done = unsafe {
            let mut lock: libc::flock = std::mem::zeroed();
            lock.l_type = kind as libc::c_short;
            lock.l_whence = libc::SEEK_SET as libc::c_short;
            libc::fcntl(self.file.as_raw_fd(), command, &lock)
        };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl<const OFD: bool> Lock for Record<OFD> {
    fn open(place: &Place, parent: bool) -> Res<Self> {
        let file = place.shared("lock", 4096, parent)?;
        let bytes = os::map(&file, 4096)?;
        Ok(Self { file, bytes })
    }

    #[inline(always)]
    async fn with<R>(&mut self, work: impl FnOnce(&mut [u8]) -> R) -> Res<R> {
        self.set(libc::F_WRLCK)?;
        // SAFETY: mapped until the process ends; the holder of the lock alone has the bytes.
        let done = work(unsafe { std::slice::from_raw_parts_mut(self.bytes, GUARDED) });
        self.set(libc::F_UNLCK)?;
        Ok(done)
    }
}
