//! One attached handle of a value: reading, setting under the lock, waiting for a change. Bytes with a
//! tag; what they mean is for `handle.rs` and for the Python binding.

use super::options::Initial;
use super::raw::{LEAST, RawValue, Read, Sink, Store};
use crate::error::{Fault, FaultKind, errno};
use crate::layout::ValueArea;
use crate::notify::Endpoint;
use crate::notify::local::Keep;
use crate::notify::shared::{Blocked, Shared};
use crate::region::Region;
use crate::region::map::Words;
use crate::rwlock::LockMode;
use crate::rwlock::core::{Core as Lock, bury};
use crate::rwlock::wait::Taking;
use crate::sys::failpoint::failpoint;
use crate::sys::fd::Fd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Attempts to read beside the writers before the reader keeps them out.
const ATTEMPTS: usize = 8;
/// The same before it sleeps because a writer has the lock.
const ATTEMPTS_BESIDE: usize = 64;

/// An attached handle.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) lock: Lock,
    area: Words<ValueArea>,
}

impl Store for Region {
    type Fault = Fault;

    fn is_there(&self, offset: u64, len: u64) -> Result<(), Fault> {
        Region::is_there(self, offset, len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Fault> {
        self.read_file(offset, out)
    }

    fn grow(&self, from: u64, len: u64) -> Result<(), Fault> {
        Region::grow(self, from, len)
    }

    fn may_hold(&self, offset: u64, len: u64) -> bool {
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.length());
        inside
            && offset >= self.constants().payload_off
            && offset.is_multiple_of(LEAST)
            && len.is_multiple_of(LEAST)
    }

    fn no_memory(&self, len: usize) -> Fault {
        let cause = format!("this process has no memory for a copy of {len} bytes");
        self.fault(FaultKind::Os, cause).with_errno(errno::ENOMEM)
    }

    fn is_full(fault: &Fault) -> bool {
        fault.kind() == FaultKind::NoSpace
    }

    fn damaged(&self, what: &str) -> Fault {
        let cause = format!(
            "a buffer of it is damaged ({what}): something wrote over it; remove it and make it anew"
        );
        self.fault(FaultKind::Damaged, cause)
    }
}

/// The words of the value that lives in a region.
pub(super) fn raw_in<'a>(area: &'a ValueArea, region: &'a Region) -> RawValue<'a, Region> {
    RawValue { version: &area.version.version, buffers: &area.buffers, store: region }
}

/// The creator's two buffers, each of half of the payload.
pub(super) fn lay_out(region: &Region) {
    let constants = region.constants();
    let half = constants.payload_len / 2;
    for (at, line) in (0..).zip(&region.kind_area::<ValueArea>().buffers) {
        // Relaxed: before the name exists.
        line.offset.store(constants.payload_off + at * half, crate::sync::Ordering::Relaxed);
        line.capacity.store(half, crate::sync::Ordering::Relaxed);
    }
}

/// Sets the value of a new region, which nobody else can see yet and therefore nobody locks.
pub(super) fn set_first(region: &Region, first: &Initial) -> Result<(), Fault> {
    let raw = raw_in(region.kind_area(), region);
    let prepared = raw.prepare(first.bytes.len() as u64)?;
    region.write_file(prepared.offset, &first.bytes)?;
    raw.publish(&prepared, first.tag);
    Ok(())
}

/// The lock is held for writing; given back when dropped.
struct Writing<'a>(&'a Core);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        // Whatever happened, one of the two buffers is whole: nothing is torn.
        self.0.lock.give(LockMode::Write, false);
    }
}

/// A change of a value under its lock: sees the old one, may set a new one. It must not wait.
pub(crate) struct Change<'a> {
    core: &'a Core,
    _held: Writing<'a>,
}

impl Change<'_> {
    /// Copies the present value.
    pub(crate) fn read(&self, sink: &mut impl Sink) -> Result<Read, Fault> {
        self.core.region().check_fork()?;
        // Nobody sets meanwhile, so the first attempt is the last.
        match self.core.raw().try_read(sink)? {
            Some(read) => Ok(read),
            None => Err(Store::damaged(&**self.core.region(), "its version moves under the lock")),
        }
    }

    /// Sets the value; the version afterwards. On an error nothing has changed.
    pub(crate) fn set(self, bytes: &[u8], tag: u8) -> Result<u64, Fault> {
        let (half, rest) = bytes.split_at(bytes.len() / 2);
        self.set_parts([half, rest], tag)
    }

    /// The same of two pieces, one behind the other.
    pub(crate) fn set_parts(self, parts: [&[u8]; 2], tag: u8) -> Result<u64, Fault> {
        // What ran under the lock may have forked: here the lock is the parent's, and the file's number
        // may be another file's.
        self.core.region().check_fork()?;
        let (raw, region) = (self.core.raw(), self.core.region());
        let len = parts[0].len() + parts[1].len();
        let prepared = raw.prepare(len as u64)?;
        failpoint!("value.prepared");
        if let Some((offset, len)) = prepared.left {
            region.give_back(offset, len);
        }
        region.write_file(prepared.offset, parts[0])?;
        failpoint!("value.half");
        region.write_file(prepared.offset + parts[0].len() as u64, parts[1])?;
        failpoint!("value.written");
        let version = raw.publish(&prepared, tag);
        failpoint!("value.published");
        Ok(version)
    }
}

impl Core {
    pub(crate) fn new(endpoint: Endpoint) -> Result<Core, Fault> {
        let area = endpoint.region.kind_words();
        Ok(Core { lock: Lock::new(endpoint)?, area })
    }

    pub(crate) fn region(&self) -> &Arc<Region> {
        self.lock.region()
    }

    pub(crate) fn shared(&self) -> &Shared {
        self.lock.shared()
    }

    fn raw(&self) -> RawValue<'_, Region> {
        raw_in(&self.area, self.region())
    }

    /// How often the value was set.
    #[inline]
    pub(crate) fn version(&self) -> u64 {
        self.raw().version()
    }

    /// Copies the value beside whoever sets it; `None`: it is set faster than it can be copied.
    pub(crate) fn try_read(&self, sink: &mut impl Sink) -> Result<Option<Read>, Fault> {
        self.region().check_fork()?;
        for _ in 0..ATTEMPTS {
            if let Some(read) = self.raw().try_read(sink)? {
                return Ok(Some(read));
            }
        }
        Ok(None)
    }

    /// Copies the value; if it is set faster than it can be copied, keeps the writers out for one copy.
    pub(crate) fn read(&self, sink: &mut impl Sink) -> Result<Read, Fault> {
        loop {
            // Interrupted by a signal: then the attempts may succeed, and do no harm if not.
            if let Blocked::Came(read) = self.read_blocking(sink, None)? {
                return Ok(read);
            }
        }
    }

    /// The same; a signal, or `bell`, ends the sleep.
    pub(crate) fn read_blocking(
        &self,
        sink: &mut impl Sink,
        bell: Option<&Fd>,
    ) -> Result<Blocked<Read>, Fault> {
        if let Some(read) = self.try_read(sink)? {
            return Ok(Blocked::Came(read));
        }
        let ended = self.shared().wait_blocking(None, bell, |endpoint| {
            if self.lock.look(endpoint, LockMode::Read)?.is_some() {
                return Ok(Some(None)); // the lock is ours
            }
            // A writer has it. One that stands still (stopped, say) must not keep readers out: then the
            // version stands too. While it moves, somebody sets, gives the lock back, and rings.
            let beside = || self.raw().try_read(sink).transpose();
            let read = std::iter::repeat_with(beside).take(ATTEMPTS_BESIDE).flatten().next();
            Ok(read.transpose()?.map(Some))
        })?;
        match ended {
            Blocked::Came(Some(read)) => Ok(Blocked::Came(read)),
            Blocked::Came(None) => {
                let read = self.raw().try_read(sink);
                self.lock.give(LockMode::Read, false);
                let moves = || Store::damaged(&**self.region(), "its version moves under the lock");
                read?.ok_or_else(moves).map(Blocked::Came)
            }
            Blocked::TimedOut => Ok(Blocked::TimedOut),
            Blocked::Interrupted => Ok(Blocked::Interrupted),
        }
    }

    /// The lock has just been taken for writing.
    pub(crate) fn taken(&self) -> Change<'_> {
        Change { core: self, _held: Writing(self) }
    }

    /// Takes the lock for a change.
    #[cfg(feature = "tokio")]
    pub(crate) async fn begin(&self) -> Result<Change<'_>, Fault> {
        self.lock.take_async(LockMode::Write).await?;
        Ok(self.taken())
    }

    /// The same if nobody has it.
    pub(crate) fn try_begin(&self) -> Result<Option<Change<'_>>, Fault> {
        Ok(self.lock.try_take(LockMode::Write)?.map(|_| self.taken()))
    }

    /// The same, parking the thread.
    pub(crate) fn begin_blocking(
        &self,
        taking: &mut Taking<'_>,
        deadline: Option<Instant>,
        bell: Option<&Fd>,
    ) -> Result<Blocked<Change<'_>>, Fault> {
        Ok(match taking.park(deadline, bell)? {
            Blocked::Came(_) => Blocked::Came(self.taken()),
            Blocked::TimedOut => Blocked::TimedOut,
            Blocked::Interrupted => Blocked::Interrupted,
        })
    }

    /// Steps 3 and 4 of a sleeper: the version, if it differs from `since`. Any handle may set it.
    pub(crate) fn look(&self, endpoint: &mut Endpoint, since: u64) -> Result<Option<u64>, Fault> {
        endpoint.check_slot()?;
        let differs = || Some(self.version()).filter(|&version| version != since);
        if let Some(version) = differs() {
            return Ok(Some(version));
        }
        let alone = endpoint.watch_everybody(bury)?;
        // First: what was set before the removal is told before it.
        let removed = endpoint.region.is_removed();
        match differs() {
            None if removed => {
                let cause = "it was removed; open the name anew, once somebody has made it again";
                Err(endpoint.region.fault(FaultKind::Removed, cause))
            }
            // Deleted from outside, of which only who is alone hears at once.
            None if alone && endpoint.region.is_nameless() => {
                let cause = "its file was deleted, and nobody else is attached who could set it";
                Err(endpoint.region.fault(FaultKind::Removed, cause))
            }
            found => Ok(found),
        }
    }

    /// Waits until the version differs from `since`.
    #[cfg(feature = "tokio")]
    pub(crate) async fn changed(&self, since: u64) -> Result<u64, Fault> {
        self.region().check_fork()?;
        match self.version() {
            now if now != since => Ok(now),
            _ => self.shared().wait_async(|endpoint| self.look(endpoint, since)).await,
        }
    }

    /// The same, parking the thread.
    pub(crate) fn changed_blocking(
        &self,
        since: u64,
        deadline: Option<Instant>,
        bell: Option<&Fd>,
    ) -> Result<Blocked<u64>, Fault> {
        self.region().check_fork()?;
        match self.version() {
            now if now != since => Ok(Blocked::Came(now)),
            _ => self.shared().wait_blocking(deadline, bell, |endpoint| self.look(endpoint, since)),
        }
    }

    /// Keeps connections and watches from one wait to the next.
    pub(crate) fn keep(&self) -> Result<Keep<Endpoint>, Fault> {
        self.shared().keep()
    }
}

/// The point in time at which a wait ends.
pub(crate) fn deadline(timeout: Option<Duration>) -> Option<Instant> {
    timeout.and_then(|timeout| Instant::now().checked_add(timeout))
}
