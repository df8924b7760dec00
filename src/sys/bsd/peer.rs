//! Who is at the other end of a connection (getpeereid(3); LOCAL_PEERPID of macOS).

#![allow(unsafe_code, reason = "calls that rustix does not wrap")]

use crate::sys::fd::Fd;
use std::io;
use std::os::fd::AsRawFd;

/// Who is at the other end of a connection, as the kernel says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Credentials {
    /// 0 where the system does not say.
    pub(crate) pid: u32,
    pub(crate) uid: u32,
}

/// Who connected, or who listens.
pub(crate) fn credentials(conn: &Fd) -> io::Result<Credentials> {
    let (mut uid, mut gid) = (0, 0);
    // SAFETY: a live descriptor and two places of the types that the call fills.
    let done = unsafe { libc::getpeereid(conn.as_raw_fd(), &raw mut uid, &raw mut gid) };
    if done == 0 {
        Ok(Credentials { pid: pid(conn), uid })
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(target_vendor = "apple")]
fn pid(conn: &Fd) -> u32 {
    let mut pid: libc::pid_t = 0;
    let mut len = size_of::<libc::pid_t>() as libc::socklen_t;
    // SAFETY: a live descriptor and a pid_t of exactly the length passed.
    let done = unsafe {
        libc::getsockopt(
            conn.as_raw_fd(),
            libc::SOL_LOCAL,
            libc::LOCAL_PEERPID,
            (&raw mut pid).cast(),
            &raw mut len,
        )
    };
    if done == 0 { u32::try_from(pid).unwrap_or(0) } else { 0 }
}

#[cfg(not(target_vendor = "apple"))]
fn pid(_conn: &Fd) -> u32 {
    0
}

/// There are none.
pub(crate) fn peer_pidfd(_conn: &Fd) -> io::Result<Option<Fd>> {
    Ok(None)
}
