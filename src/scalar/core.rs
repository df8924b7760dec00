//! One attached handle of a scalar: changes, telling, waiting, for any 64 bits.

use crate::error::{Fault, FaultKind, OpenError};
use crate::layout::{Header, Kind, PARAMS, ScalarLine};
use crate::name::Name;
use crate::notify::find::{How, Wanted};
use crate::notify::local::Keep;
use crate::notify::shared::{Blocked, Shared};
use crate::notify::{Endpoint, park};
use crate::region::map::Words;
use crate::region::{Region, Spec};
use crate::sync::Ordering;
use crate::sys::failpoint::failpoint;
use crate::sys::fd::Fd;
use std::sync::Arc;
use std::time::Instant;

/// An attached handle.
#[derive(Debug)]
pub(crate) struct Core {
    region: Arc<Region>,
    header: Words<Header>,
    line: Words<ScalarLine>,
    shared: Shared,
    bit: u64,
}

/// What a scalar is to be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plain {
    /// The bits that a new one has.
    pub(crate) initial: u64,
    pub(crate) mode: u32,
    pub(crate) flags: u32,
}

/// The creator's number.
fn lay_out(region: &Region) {
    // Relaxed: before the name exists.
    region.kind_area::<ScalarLine>().value.store(region.constants().params[0], Ordering::Relaxed);
}

/// Takes a dead handle out of its slot. It may have changed the number and not come to raise the version:
/// then those who wait would never know.
fn bury(endpoint: &mut Endpoint, index: usize, tag: u64) -> Result<(), Fault> {
    let region = Arc::clone(&endpoint.region);
    region.kind_area::<ScalarLine>().version.fetch_add(1, Ordering::SeqCst);
    endpoint.wake_all();
    endpoint.bury_plain(index, tag)
}

impl Plain {
    pub(crate) fn find(&self, kind: Kind, name: &str, how: How) -> Result<Arc<Core>, OpenError> {
        let name = Name::new(name)?;
        let mut params = [0; PARAMS];
        params[0] = self.initial;
        let spec = Spec {
            kind,
            kind_len: size_of::<ScalarLine>(),
            meta_len: 0,
            payload_len: 0,
            params,
            flags: self.flags,
            mode: self.mode,
        };
        let wanted = Wanted { name: &name, how, spec: &spec, bury, lay_out };
        let endpoint = wanted.attach(|_| Ok(()))?;
        let region = Arc::clone(&endpoint.region);
        Ok(Arc::new(Core {
            header: region.header_words(),
            line: region.kind_words(),
            bit: 1 << endpoint.index,
            shared: Shared::new(endpoint),
            region,
        }))
    }
}

impl Core {
    pub(crate) fn region(&self) -> &Arc<Region> {
        &self.region
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The bits of the number.
    #[inline]
    pub(crate) fn load(&self) -> u64 {
        self.line.value.load(Ordering::SeqCst)
    }

    #[inline]
    pub(crate) fn version(&self) -> u64 {
        self.line.version.load(Ordering::SeqCst)
    }

    /// Changes the bits by `to` in one step; before and after. `Err`: `to` would have none of these.
    pub(crate) fn change(
        &self,
        to: impl Fn(u64) -> Option<u64>,
    ) -> Result<Result<u64, u64>, Fault> {
        self.region.check_fork()?;
        let changed = self.line.value.fetch_update(Ordering::SeqCst, Ordering::SeqCst, &to);
        let Ok(old) = changed else { return Ok(changed) };
        failpoint!("scalar.changed");
        // SeqCst: it stands before the load of the mask of the parked; a sleeper's entry into that mask
        // stands before its look at the version.
        self.line.version.fetch_add(1, Ordering::SeqCst);
        failpoint!("scalar.raised");
        let parked = park::anybody(&self.header.parked);
        if parked != 0 {
            self.tell(parked);
        }
        Ok(Ok(old))
    }

    #[cold]
    fn tell(&self, parked: u64) {
        if parked & self.bit != 0 {
            self.shared.notify_local();
        }
        if parked & !self.bit != 0 {
            // Fails only in a forked child.
            let _ = self.shared.with(|endpoint| endpoint.wake_these(parked));
        }
    }

    /// Steps 3 and 4 of a sleeper: the version, if it differs from `since`. Any handle may raise it.
    pub(crate) fn look(&self, endpoint: &mut Endpoint, since: u64) -> Result<Option<u64>, Fault> {
        endpoint.check_slot()?;
        let differs = || Some(self.version()).filter(|&version| version != since);
        if let Some(version) = differs() {
            return Ok(Some(version));
        }
        let alone = endpoint.watch_everybody(bury)?;
        match differs() {
            None if alone && endpoint.region.is_nameless() => {
                let cause = "it was removed, and nobody else is attached who could change it";
                Err(endpoint.region.fault(FaultKind::Removed, cause))
            }
            found => Ok(found),
        }
    }

    #[cfg(feature = "tokio")]
    pub(crate) async fn changed(&self, since: u64) -> Result<u64, Fault> {
        self.region.check_fork()?;
        match self.version() {
            now if now != since => Ok(now),
            _ => self.shared.wait_async(|endpoint| self.look(endpoint, since)).await,
        }
    }

    pub(crate) fn changed_blocking(
        &self,
        since: u64,
        deadline: Option<Instant>,
        bell: Option<&Fd>,
    ) -> Result<Blocked<u64>, Fault> {
        self.region.check_fork()?;
        match self.version() {
            now if now != since => Ok(Blocked::Came(now)),
            _ => self.shared.wait_blocking(deadline, bell, |endpoint| self.look(endpoint, since)),
        }
    }

    pub(crate) fn keep(&self) -> Result<Keep<Endpoint>, Fault> {
        self.shared.keep()
    }
}
