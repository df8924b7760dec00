//! One pollable descriptor that stands for many (epoll(7)).

use crate::sys::fd::Fd;
use crate::sys::poll::{Interest, Waited, timespec};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use std::io;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::time::Duration;

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
