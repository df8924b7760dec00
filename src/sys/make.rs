//! How descriptors are made on Linux: close-on-exec and non-blocking from their first moment, and
//! files without a name (open(2) O_TMPFILE, linkat(2)).

use rustix::event::{EventfdFlags, PollFlags};
use rustix::fs::{AtFlags, CWD, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

/// Where `shm_open` keeps its files.
pub(crate) const SHM_DIR: &str = "/dev/shm";
/// The other end of a connection is gone.
pub(super) const GONE: PollFlags = PollFlags::RDHUP;
/// A write to a closed connection is an error, not a signal.
pub(super) const SEND_FLAGS: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);
/// What is received is close-on-exec.
pub(super) const RECV_FLAGS: RecvFlags = RecvFlags::DONTWAIT.union(RecvFlags::CMSG_CLOEXEC);

const SOCKET_FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// A local stream socket.
pub(super) fn local_socket() -> rustix::io::Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SOCKET_FLAGS, None)
}

/// Two local stream sockets that are connected with each other.
pub(super) fn socket_pair() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SOCKET_FLAGS, None)
}

/// The next caller at a listening socket.
pub(super) fn accept(door: &impl AsFd) -> rustix::io::Result<OwnedFd> {
    rustix::net::accept_with(door, SOCKET_FLAGS)
}

/// Makes a descriptor that a peer sent non-blocking: the peer chose it, and a write to it must not
/// wait.
pub(super) fn received(fd: &impl AsFd) -> rustix::io::Result<()> {
    rustix::io::ioctl_fionbio(fd, true)
}

/// A counter that makes an edge with every write.
pub(super) fn eventfd() -> rustix::io::Result<OwnedFd> {
    rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
}

/// The reading and the writing end of a pipe.
pub(super) fn pipe() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
}

/// A file without a name in `dir`, with the bits of `mode` that the umask leaves. `OPNOTSUPP`, `ISDIR`,
/// `INVAL`: the system has no such files there.
pub(super) fn nameless(dir: &str, mode: Mode) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::TMPFILE;
    rustix::fs::open(dir, flags, mode)
}

/// Gives the memory of a part of a file back (fallocate(2), FALLOC_FL_PUNCH_HOLE).
pub(super) fn punch(fd: &impl AsFd, offset: u64, len: u64) {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let _ = rustix::fs::fallocate(fd, flags, offset, len); // else the memory stays in use
}

/// Gives a nameless file its name, unless the name is taken.
pub(super) fn give_name(fd: &(impl AsFd + AsRawFd), path: &Path) -> rustix::io::Result<()> {
    // Allowed to whoever opened the file (since 6.10) and to root; else the way leads through /proc.
    match rustix::fs::linkat(fd, "", CWD, path, AtFlags::EMPTY_PATH) {
        Err(Errno::NOENT | Errno::PERM) => {
            let proc = format!("/proc/self/fd/{}", fd.as_raw_fd());
            rustix::fs::linkat(CWD, proc, CWD, path, AtFlags::SYMLINK_FOLLOW)
        }
        done => done,
    }
}
