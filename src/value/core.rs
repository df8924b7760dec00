//! One attached handle of a value: reading, setting under the lock, waiting for a change. Bytes with a
//! tag; what they mean is for `handle.rs` and for the Python binding.

use super::raw::{LEAST, RawValue, Read, Sink, Store};
use crate::error::{Fault, FaultKind};
use crate::layout::ValueArea;
use crate::notify::Endpoint;
use crate::notify::local::Keep;
use crate::notify::shared::{Blocked, Shared};
use crate::region::Region;
use crate::region::map::Words;
use crate::rwlock::LockMode;
use crate::rwlock::core::{Core as Lock, bury};
use crate::sys::failpoint::failpoint;
use crate::sys::fd::Fd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Attempts to read beside the writers before the reader keeps them out.
const ATTEMPTS: usize = 8;

/// An attached handle.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) lock: Lock,
    area: Words<ValueArea>,
}

impl Store for Region {
    type Fault = Fault;

    fn is_there(&self, offset: u64, len: u64) -> Result<(), Fault> {
        self.file_bytes(offset, len).map(drop)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Fault> {
        let bytes = self.file_bytes(offset, out.len() as u64)?;
        bytes.read(0, out).ok_or_else(|| Store::damaged(self, "a length"))
    }

    fn grow(&self, from: u64, len: u64) -> Result<(), Fault> {
        Region::grow(self, from, len)
    }

    fn may_hold(&self, offset: u64, len: u64) -> bool {
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.length());
        inside && offset >= self.constants().payload_off && offset.is_multiple_of(LEAST)
    }

    fn damaged(&self, what: &str) -> Fault {
        let cause = format!(
            "a buffer of it is damaged ({what}): something wrote over it; remove it and make it anew"
        );
        self.fault(FaultKind::Damaged, cause)
    }
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
        let (raw, region) = (self.core.raw(), self.core.region());
        let len = parts[0].len() + parts[1].len();
        let prepared = raw.prepare(len as u64)?;
        failpoint!("value.prepared");
        if let Some((offset, len)) = prepared.left {
            region.give_back(offset, len);
        }
        let room = region.file_bytes(prepared.offset, len as u64)?;
        let first = room.write(0, parts[0]);
        failpoint!("value.half");
        if first.and(room.write(parts[0].len(), parts[1])).is_none() {
            return Err(Store::damaged(&**region, "a length"));
        }
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
        RawValue {
            version: &self.area.version.version,
            buffers: &self.area.buffers,
            store: &**self.region(),
        }
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
            if let Some(read) = self.try_read(sink)? {
                return Ok(read);
            }
            // A signal interrupts; then the attempts may succeed, and do no harm if not.
            if let Blocked::Came(_) = self.lock.take_blocking(LockMode::Read, None, None)? {
                let read = self.raw().try_read(sink);
                self.lock.give(LockMode::Read, false);
                if let Some(read) = read? {
                    return Ok(read);
                }
                return Err(Store::damaged(&**self.region(), "its version moves under the lock"));
            }
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
        deadline: Option<Instant>,
        bell: Option<&Fd>,
    ) -> Result<Blocked<Change<'_>>, Fault> {
        Ok(match self.lock.take_blocking(LockMode::Write, deadline, bell)? {
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
        match differs() {
            None if alone && endpoint.region.is_nameless() => {
                let cause = "it was removed, and nobody else is attached who could set it";
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
