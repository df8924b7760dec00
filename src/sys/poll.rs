//! One pollable descriptor that stands for many (epoll(7)).

use crate::sys::fd::Fd;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::sync::Arc;
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

/// The set. Its descriptor is readable while something in it wants to be harvested.
#[derive(Debug)]
pub(crate) struct PollSet {
    epoll: Arc<Fd>,
}

/// How many events one harvest call takes at most.
const BATCH: usize = 32;

impl PollSet {
    pub(crate) fn new() -> io::Result<PollSet> {
        let epoll = Fd::open(|| epoll::create(CreateFlags::CLOEXEC))?;
        Ok(PollSet { epoll: Arc::new(epoll) })
    }

    /// The set's own descriptor.
    pub(crate) fn fd(&self) -> &Arc<Fd> {
        &self.epoll
    }

    pub(crate) fn add(&self, fd: &Fd, key: u64, interest: Interest) -> io::Result<()> {
        let flags = match interest {
            Interest::Edge => EventFlags::IN | EventFlags::ET,
            Interest::Level => EventFlags::IN,
            Interest::HangUp => EventFlags::RDHUP,
        };
        Ok(epoll::add(&*self.epoll, fd, EventData::new_u64(key), flags)?)
    }

    /// Takes a descriptor out; call it before the descriptor is closed (a duplicate elsewhere would
    /// keep reporting).
    pub(crate) fn remove(&self, fd: &Fd) {
        let _ = epoll::delete(&*self.epoll, fd);
    }

    /// Appends the keys of what is ready, after waiting for it at most `timeout` (`None`: without
    /// bound). The flag: there may be more, call again.
    pub(crate) fn collect(
        &self,
        keys: &mut Vec<u64>,
        timeout: Option<Duration>,
    ) -> io::Result<(Waited, bool)> {
        // On the stack: an event may hold a pointer, which would keep the set on one thread.
        let mut events = [const { MaybeUninit::<epoll::Event>::uninit() }; BATCH];
        let timeout = timeout.map(timespec);
        match epoll::wait(&*self.epoll, &mut events, timeout.as_ref()) {
            Ok((found, _)) => {
                keys.extend(found.iter().map(|event| event.data.u64()));
                let waited = if found.is_empty() { Waited::TimedOut } else { Waited::Ready };
                Ok((waited, found.len() == BATCH))
            }
            Err(Errno::INTR) => Ok((Waited::Interrupted, false)),
            Err(err) => Err(err.into()),
        }
    }
}

fn timespec(left: Duration) -> Timespec {
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

/// Parks the thread until one of the two is readable, `timeout` is over, or a signal came. The flags
/// say which are readable.
pub(crate) fn wait_either(
    first: &impl AsFd,
    second: &impl AsFd,
    timeout: Option<Duration>,
) -> io::Result<(Waited, [bool; 2])> {
    let timeout = timeout.map(timespec);
    let mut fds = [PollFd::new(first, PollFlags::IN), PollFd::new(second, PollFlags::IN)];
    match rustix::event::poll(&mut fds, timeout.as_ref()) {
        Ok(0) => Ok((Waited::TimedOut, [false; 2])),
        Ok(_) => Ok((Waited::Ready, [!fds[0].revents().is_empty(), !fds[1].revents().is_empty()])),
        Err(Errno::INTR) => Ok((Waited::Interrupted, [false; 2])),
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
    let mut fds = [PollFd::new(fd, PollFlags::RDHUP)];
    matches!(rustix::event::poll(&mut fds, Some(&zero)), Ok(n) if n > 0)
}
