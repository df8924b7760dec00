//! How descriptors are made on macOS and FreeBSD. Flags are set after the call that makes the
//! descriptor: a fork cannot come between (it waits for the table in `fd`), a `posix_spawn` of
//! another thread can, and its program inherits the descriptor then.

use rustix::event::PollFlags;
use rustix::fs::Mode;
use rustix::io::{Errno, FdFlags};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// `shm_open` names no files here, so segments live where everybody may make a file.
pub(crate) const SHM_DIR: &str = "/tmp";
/// The other end of a connection is gone.
pub(super) const GONE: PollFlags = PollFlags::HUP;
/// That a write to a closed connection is no signal is a property of the socket here.
pub(super) const SEND_FLAGS: SendFlags = SendFlags::DONTWAIT;
/// See [`received`].
pub(super) const RECV_FLAGS: RecvFlags = RecvFlags::DONTWAIT;

/// Close-on-exec and non-blocking.
fn finish(fd: OwnedFd) -> rustix::io::Result<OwnedFd> {
    received(&fd)?;
    Ok(fd)
}

fn finish_socket(fd: OwnedFd) -> rustix::io::Result<OwnedFd> {
    rustix::net::sockopt::set_socket_nosigpipe(&fd, true)?;
    finish(fd)
}

/// A local stream socket.
pub(super) fn local_socket() -> rustix::io::Result<OwnedFd> {
    finish_socket(rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?)
}

/// Two local stream sockets that are connected with each other.
pub(super) fn socket_pair() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    let (one, other) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        rustix::net::SocketFlags::empty(),
        None,
    )?;
    Ok((finish_socket(one)?, finish_socket(other)?))
}

/// The next caller at a listening socket.
pub(super) fn accept(door: &impl AsFd) -> rustix::io::Result<OwnedFd> {
    finish_socket(rustix::net::accept(door)?)
}

/// Makes a descriptor that a peer sent close-on-exec and non-blocking: a write to it must not wait.
pub(super) fn received(fd: &impl AsFd) -> rustix::io::Result<()> {
    rustix::io::fcntl_setfd(fd, FdFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(fd, true)
}

/// There is none; doorbells are pipes.
pub(super) fn eventfd() -> rustix::io::Result<OwnedFd> {
    Err(Errno::NOSYS)
}

/// The reading and the writing end of a pipe.
pub(super) fn pipe() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe()?;
    Ok((finish(read)?, finish(write)?))
}

/// There is none; files are born with a temporary name.
pub(super) fn nameless(_dir: &str, _mode: Mode) -> rustix::io::Result<OwnedFd> {
    Err(Errno::OPNOTSUPP)
}

/// Never asked for, as there are no nameless files.
pub(super) fn give_name(_fd: &impl AsFd, _path: &Path) -> rustix::io::Result<()> {
    Err(Errno::OPNOTSUPP)
}

/// Not to be had on every such system; the memory stays in use.
pub(super) fn punch(_fd: &impl AsFd, _offset: u64, _len: u64) {}
