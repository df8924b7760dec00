//! Waiting for a few descriptors (poll(2)), and the words of `pollset`.

use crate::sys::fd::Fd;
use crate::sys::make;
pub(crate) use crate::sys::pollset::PollSet;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

/// How a descriptor is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interest {
    /// Readable, edge-triggered.
    Edge,
    /// Readable, level-triggered.
    Level,
    /// The other end is gone, level-triggered; data does not count.
    HangUp,
}

pub(super) fn timespec(left: Duration) -> Timespec {
    Timespec {
        tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    }
}

/// What ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waited {
    Ready,
    TimedOut,
    /// A signal handler ran.
    Interrupted,
}

/// Parks the thread until one of them is readable, `timeout` is over, or a signal came. The flags say
/// which are readable.
pub(crate) fn wait_any<const N: usize>(
    fds: [Option<&Fd>; N],
    timeout: Option<Duration>,
) -> io::Result<(Waited, [bool; N])> {
    let timeout = timeout.map(timespec);
    let mut polled: Vec<PollFd<'_>> =
        fds.iter().flatten().map(|fd| PollFd::new(*fd, PollFlags::IN)).collect();
    match rustix::event::poll(&mut polled, timeout.as_ref()) {
        Ok(0) => Ok((Waited::TimedOut, [false; N])),
        Ok(_) => {
            let mut fired = polled.iter().map(|fd| !fd.revents().is_empty());
            Ok((Waited::Ready, fds.map(|fd| fd.is_some() && fired.next() == Some(true))))
        }
        Err(Errno::INTR) => Ok((Waited::Interrupted, [false; N])),
        Err(err) => Err(err.into()),
    }
}

/// True when `fd` (a pidfd) is readable or hung up now. An error is neither: a number that somebody
/// closed under us must not look like a death.
pub(crate) fn is_readable(fd: &impl AsFd) -> bool {
    let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    let polled = rustix::event::poll(&mut fds, Some(&zero));
    polled.is_ok() && fds[0].revents().intersects(PollFlags::IN | PollFlags::HUP)
}

/// True when the other end of a connection is gone.
pub(crate) fn is_hung_up(fd: &impl AsFd) -> bool {
    let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut fds = [PollFd::new(fd, make::GONE)];
    matches!(rustix::event::poll(&mut fds, Some(&zero)), Ok(n) if n > 0)
}
