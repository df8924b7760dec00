//! The doorbell: an eventfd (Linux) or a pipe (any unix), rung by whoever holds its writing end; or a pair
//! of sockets, where whoever rings must not be made to wait by whoever sleeps.
//!
//! The eventfd is edge-triggered where it is watched and never read: each write makes an edge also
//! on a non-zero counter, except when the counter is full; then the *waker* reads it once and writes
//! again (eventfd(2)). A pipe is level-triggered and drained by the sleeper's harvest; a full pipe
//! is readable, so it wakes anyway.

use crate::sys::fd::Fd;
use crate::sys::make::{self, SEND_FLAGS};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;

/// Which mechanism the doorbells of this process use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BellKind {
    /// Linux.
    EventFd,
    /// Other unixes, and Linux when `RINGSPAN_DOORBELL=pipe`.
    Pipe,
    /// See [`Doorbell::private`].
    Sockets,
}

impl BellKind {
    /// The kind in use here, chosen once.
    pub(crate) fn current() -> BellKind {
        static KIND: OnceLock<BellKind> = OnceLock::new();
        *KIND.get_or_init(|| match std::env::var("RINGSPAN_DOORBELL").as_deref() {
            Ok("pipe") => BellKind::Pipe,
            _ if cfg!(target_os = "linux") => BellKind::EventFd,
            _ => BellKind::Pipe,
        })
    }
}

/// The sleeper's side.
#[derive(Debug)]
pub(crate) struct Doorbell {
    kind: BellKind,
    watched: Fd,
    /// The writing end of a pipe; an eventfd is one descriptor.
    writing: Option<Fd>,
}

impl Doorbell {
    /// A silent doorbell of this process's kind.
    pub(crate) fn new() -> io::Result<Doorbell> {
        match BellKind::current() {
            BellKind::EventFd => {
                let watched = Fd::open(make::eventfd)?;
                Ok(Doorbell { kind: BellKind::EventFd, watched, writing: None })
            }
            BellKind::Pipe | BellKind::Sockets => Doorbell::pipe(),
        }
    }

    /// A pipe, whatever this process's kind is: for a writer that writes single bytes.
    pub(crate) fn pipe() -> io::Result<Doorbell> {
        Doorbell::two_ended(BellKind::Pipe, make::pipe)
    }

    /// A pair of connected sockets, whatever this process's kind is: a sleeper that means ill cannot make
    /// the ring wait. `O_NONBLOCK` is of the open file, and an eventfd is one open file of both sides; whoever
    /// reads a pipe holds its lock meanwhile, for ever if its memory is that slow (userfaultfd(2)). Not to
    /// wait is a flag of each send(2), which takes no lock of the reader's.
    pub(crate) fn private() -> io::Result<Doorbell> {
        let bell = Doorbell::two_ended(BellKind::Sockets, make::socket_pair)?;
        // What was sent and never read is charged to us: as little as can be.
        rustix::net::sockopt::set_socket_send_buffer_size(bell.for_waker(), 1)?;
        Ok(bell)
    }

    /// Of the reading and the writing end that `make` gives.
    fn two_ended(
        kind: BellKind,
        make: fn() -> rustix::io::Result<(OwnedFd, OwnedFd)>,
    ) -> io::Result<Doorbell> {
        let mut writing = None;
        let watched = Fd::open(|| {
            let (read, write) = make()?;
            writing = Some(write);
            Ok::<OwnedFd, Errno>(read)
        })?;
        let writing = writing.take().ok_or_else(|| io::Error::other("only one end"))?;
        let writing = Fd::open(|| Ok::<OwnedFd, Errno>(writing))?;
        Ok(Doorbell { kind, watched, writing: Some(writing) })
    }

    /// True: watch it edge-triggered and never read it. False: level-triggered, [`drain`] it.
    ///
    /// [`drain`]: Doorbell::drain
    pub(crate) fn edge_triggered(&self) -> bool {
        self.kind == BellKind::EventFd
    }

    /// The descriptor to watch.
    pub(crate) fn watched(&self) -> &Fd {
        &self.watched
    }

    /// The descriptor to hand to a waker.
    pub(crate) fn for_waker(&self) -> &Fd {
        self.writing.as_ref().unwrap_or(&self.watched)
    }

    /// The sleeper's side of a doorbell that somebody else made and handed to us.
    pub(crate) fn received(watched: Fd) -> Option<Doorbell> {
        let kind = kind_of(&watched)?;
        Some(Doorbell { kind, watched, writing: None })
    }

    /// Only the waker's side of it.
    pub(crate) fn into_bell(self) -> Bell {
        Bell { fd: self.writing.unwrap_or(self.watched), kind: self.kind }
    }

    /// Empties a pipe or a socket; does nothing for an eventfd.
    pub(crate) fn drain(&self) {
        let mut sink = [0; 256]; // of eight bytes a ring, of one by a socket
        match self.kind {
            BellKind::EventFd => {}
            BellKind::Pipe => {
                while matches!(rustix::io::read(&self.watched, &mut sink), Ok(n) if n == sink.len())
                {
                }
            }
            // What is left fires again.
            BellKind::Sockets => {
                let _ = rustix::net::recv(&self.watched, &mut sink[..], RecvFlags::DONTWAIT);
            }
        }
    }
}

/// A doorbell that a peer handed to us.
#[derive(Debug)]
pub(crate) struct Bell {
    fd: Fd,
    kind: BellKind,
}

impl Bell {
    /// Takes a descriptor that can be a doorbell: a pipe or an anonymous inode. A write to anything
    /// else could wait, or change a file.
    pub(crate) fn new(fd: Fd) -> Option<Bell> {
        let kind = kind_of(&fd).filter(|kind| *kind != BellKind::Sockets)?;
        Some(Bell { fd, kind })
    }

    /// Rings it; see [`ring`].
    pub(crate) fn ring(&self) -> io::Result<()> {
        match self.kind {
            BellKind::EventFd => ring(&self.fd),
            BellKind::Pipe => without_sigpipe(|| ring(&self.fd)),
            BellKind::Sockets => match rustix::net::send(&self.fd, &[1], SEND_FLAGS) {
                // Full: it fires already.
                Ok(_) | Err(Errno::AGAIN | Errno::INTR) => Ok(()),
                Err(err) => Err(err.into()),
            },
        }
    }
}

/// `None`: neither a pipe, a socket nor an anonymous inode.
fn kind_of(fd: &Fd) -> Option<BellKind> {
    match rustix::fs::fstat(fd).ok()?.st_mode & libc::S_IFMT {
        0 => Some(BellKind::EventFd),
        libc::S_IFIFO => Some(BellKind::Pipe),
        libc::S_IFSOCK => Some(BellKind::Sockets),
        _ => None,
    }
}

/// Runs `write` so that a pipe whose reader is gone is an error and no SIGPIPE, whatever this
/// process does with that signal (pthread_sigmask(3), sigtimedwait(2)).
#[allow(unsafe_code, reason = "the signal mask of this thread")]
fn without_sigpipe(write: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    use std::mem::MaybeUninit;
    let mut only = MaybeUninit::<libc::sigset_t>::zeroed();
    let mut pending = MaybeUninit::<libc::sigset_t>::zeroed();
    let mut old = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: a set on our own stack, made empty.
    unsafe { libc::sigemptyset(only.as_mut_ptr()) };
    // SAFETY: the set that was just made.
    unsafe { libc::sigaddset(only.as_mut_ptr(), libc::SIGPIPE) };
    // SAFETY: a place for a set.
    unsafe { libc::sigpending(pending.as_mut_ptr()) };
    // SAFETY: a whole set, and a place for another.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, only.as_ptr(), old.as_mut_ptr()) };
    // SAFETY: the set that `sigpending` filled (or the empty one that it was).
    let waits = unsafe { libc::sigismember(pending.as_ptr(), libc::SIGPIPE) } == 1;
    let done = write();
    let broken = matches!(&done, Err(err) if err.raw_os_error() == Some(libc::EPIPE));
    if broken && !waits {
        take_pending(&only);
    }
    // SAFETY: the mask that the first call stored.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, old.as_ptr(), std::ptr::null_mut()) };
    done
}

/// Takes the SIGPIPE that our write left pending for this thread.
#[allow(unsafe_code, reason = "the signals of this thread")]
fn take_pending(only: &std::mem::MaybeUninit<libc::sigset_t>) {
    #[cfg(target_os = "linux")]
    {
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: an initialised set and a whole time; no information is asked for.
        unsafe { libc::sigtimedwait(only.as_ptr(), std::ptr::null_mut(), &raw const now) };
    }
    #[cfg(not(target_os = "linux"))]
    {
        let mut number = 0;
        // SAFETY: an initialised set and a place for the number.
        unsafe { libc::sigwait(only.as_ptr(), &raw mut number) };
    }
}

/// Rings a doorbell whose writing end somebody handed to us. Never waits: the descriptor was made
/// non-blocking when it arrived. An error means that the sleeper's end is gone.
pub(crate) fn ring(bell: &impl AsFd) -> io::Result<()> {
    let one = 1u64.to_ne_bytes();
    for _ in 0..4 {
        match rustix::io::write(bell, &one) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                // A full counter makes no edge: take it down once. A pipe cannot be read from its
                // writing end, and need not be: it is readable for the sleeper.
                let mut count = [0; 8];
                match rustix::io::read(bell, &mut count) {
                    Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
                    Err(_) => return Ok(()),
                }
            }
            Err(err) => return Err(err.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_ring_is_a_bell() {
        let is_bell = |fd: OwnedFd| Bell::new(Fd::open(|| Ok::<_, ()>(fd)).unwrap()).is_some();
        assert!(is_bell(make::eventfd().unwrap()));
        let (_read, write) = rustix::pipe::pipe().unwrap();
        assert!(is_bell(write));
        assert!(!is_bell(std::fs::File::open("/dev/null").unwrap().into()));
        assert!(!is_bell(std::fs::File::open("Cargo.toml").unwrap().into()));
    }

    /// Also where SIGPIPE ends the process, as it does by default outside of Rust programs.
    #[test]
    #[allow(unsafe_code, reason = "fork, and the disposition of a signal in the child")]
    fn a_pipe_without_reader_is_an_error_and_no_signal() {
        // The fork handlers stand before the fork: the child must not find them half made.
        let _first = Doorbell::new().unwrap();
        // SAFETY: the child makes system calls and exits.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: the default disposition, in the child alone.
            unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
            let (read, write) = rustix::pipe::pipe().unwrap();
            drop(read);
            let bell = Bell::new(Fd::open(|| Ok::<_, ()>(write)).unwrap()).unwrap();
            let refused = (0..2).all(|_| bell.ring().is_err());
            // SAFETY: ends the child without running anything of the parent's.
            unsafe { libc::_exit(i32::from(!refused)) };
        }
        assert!(child > 0);
        let mut status = 0;
        // SAFETY: our own child and a place for its status.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "status {status:#x}");
    }
}
