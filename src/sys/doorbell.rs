//! The doorbell: an eventfd (Linux) or a pipe (any unix), rung by whoever holds its writing end.
//!
//! The eventfd is edge-triggered where it is watched and never read: each write makes an edge also
//! on a non-zero counter, except when the counter is full; then the *waker* reads it once and writes
//! again (eventfd(2)). A pipe is level-triggered and drained by the sleeper's harvest; a full pipe
//! is readable, so it wakes anyway.

use crate::sys::fd::Fd;
use crate::sys::make;
use rustix::io::Errno;
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
            BellKind::Pipe => Doorbell::pipe(),
        }
    }

    /// A pipe, whatever this process's kind is: for a writer that writes single bytes.
    pub(crate) fn pipe() -> io::Result<Doorbell> {
        let mut writing = None;
        let watched = Fd::open(|| {
            let (read, write) = make::pipe()?;
            writing = Some(write);
            Ok::<OwnedFd, Errno>(read)
        })?;
        let writing = writing.take().ok_or_else(|| io::Error::other("pipe"))?;
        let writing = Fd::open(|| Ok::<OwnedFd, Errno>(writing))?;
        Ok(Doorbell { kind: BellKind::Pipe, watched, writing: Some(writing) })
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

    /// Empties a pipe; does nothing for an eventfd.
    pub(crate) fn drain(&self) {
        if self.kind == BellKind::Pipe {
            let mut sink = [0; 4096];
            while matches!(rustix::io::read(&self.watched, &mut sink), Ok(n) if n == sink.len()) {}
        }
    }
}

/// Whether a descriptor that a peer handed to us can be a doorbell: a pipe or an anonymous inode. A
/// write to anything else could wait, or change a file.
pub(crate) fn is_bell(fd: &impl AsFd) -> bool {
    rustix::fs::fstat(fd).is_ok_and(|stat| matches!(stat.st_mode & libc::S_IFMT, 0 | libc::S_IFIFO))
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
        assert!(is_bell(Doorbell::new().unwrap().for_waker()));
        let (_read, write) = rustix::pipe::pipe().unwrap();
        assert!(is_bell(&write));
        assert!(!is_bell(&std::fs::File::open("/dev/null").unwrap()));
        assert!(!is_bell(&std::fs::File::open("Cargo.toml").unwrap()));
    }
}
