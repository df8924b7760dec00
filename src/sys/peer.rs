//! Who is at the other end of a connection (unix(7)).

use crate::sys::fd::Fd;
use std::io;
use std::os::fd::AsRawFd;

/// Who is at the other end of a connection, as the kernel says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Credentials {
    pub(crate) pid: u32,
    pub(crate) uid: u32,
}

/// SO_PEERCRED: who connected, or who listens.
#[allow(unsafe_code, reason = "getsockopt with plain structures")]
pub(crate) fn credentials(conn: &Fd) -> io::Result<Credentials> {
    let mut cred = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: a live descriptor, and a structure of exactly the length passed. (rustix wraps the pid
    // in a type that cannot hold the 0 of a peer in a foreign pid namespace.)
    let done = unsafe {
        libc::getsockopt(
            conn.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut cred).cast(),
            &raw mut len,
        )
    };
    if done == 0 {
        Ok(Credentials { pid: u32::try_from(cred.pid).unwrap_or(0), uid: cred.uid })
    } else {
        Err(io::Error::last_os_error())
    }
}

/// SO_PEERPIDFD (Linux 6.5): a pidfd of the other end, where the kernel gives one. Out of
/// descriptors is an error, or a death that only the pidfd tells would go unnoticed.
#[allow(unsafe_code, reason = "getsockopt that rustix does not wrap")]
pub(crate) fn peer_pidfd(conn: &Fd) -> io::Result<Option<Fd>> {
    use std::os::fd::{FromRawFd, OwnedFd, RawFd};
    const SO_PEERPIDFD: libc::c_int = 77;
    let got = Fd::open(|| {
        let mut number: RawFd = -1;
        let mut len = size_of::<RawFd>() as libc::socklen_t;
        // SAFETY: a live descriptor and an int of exactly the length passed.
        let done = unsafe {
            libc::getsockopt(
                conn.as_raw_fd(),
                libc::SOL_SOCKET,
                SO_PEERPIDFD,
                (&raw mut number).cast(),
                &raw mut len,
            )
        };
        if done == 0 && number >= 0 {
            // SAFETY: the kernel just made this descriptor for us (close-on-exec).
            Ok(unsafe { OwnedFd::from_raw_fd(number) })
        } else {
            Err(io::Error::last_os_error())
        }
    });
    match got {
        Ok(pidfd) => Ok(Some(pidfd)),
        Err(err) if matches!(err.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => Err(err),
        Err(_) => Ok(None),
    }
}
