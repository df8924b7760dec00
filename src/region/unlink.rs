//! Removal: only under the lock of the very inode, only when the name still leads to it. The mark in
//! the header comes first and the unlink last, so a remover that is killed between them is repeated
//! by the next one.

use crate::error::Fault;
use crate::layout::STATE_REMOVED;
use crate::region::Region;
use crate::sync::Ordering;
use crate::sys::failpoint::failpoint;
use crate::sys::file::{self, InodeLock};

/// The inode's lock, and what the name meant when it was taken.
#[derive(Debug)]
pub(crate) struct Claim {
    _lock: InodeLock,
    /// The name leads to this region.
    pub(crate) named: bool,
}

impl Region {
    /// Takes the lock under which attaching and unlinking happen. Never hold it across anything
    /// that waits.
    pub(crate) fn claim(&self) -> Result<Claim, Fault> {
        let lock =
            InodeLock::take(&self.file, &self.path).map_err(|err| self.os_fault("flock", &err))?;
        self.claimed(lock)
    }

    /// The same, or `None` while somebody else holds it.
    pub(crate) fn try_claim(&self) -> Result<Option<Claim>, Fault> {
        let lock = InodeLock::try_take(&self.file, &self.path)
            .map_err(|err| self.os_fault("flock", &err))?;
        lock.map(|lock| self.claimed(lock)).transpose()
    }

    fn claimed(&self, lock: InodeLock) -> Result<Claim, Fault> {
        let found = file::info_at(&self.path).map_err(|err| self.os_fault("lstat", &err))?;
        Ok(Claim { _lock: lock, named: found.is_some_and(|info| info.id == self.id) })
    }

    /// Tells everybody who looks that the name goes away.
    pub(crate) fn mark_removed(&self, _claim: &Claim) {
        // Release: pairs with the Acquire in `is_removed`.
        self.header().state.store(STATE_REMOVED, Ordering::Release);
        failpoint!("remove.marked");
    }

    /// Deletes the name, when it still leads here.
    pub(crate) fn unlink(&self, claim: &Claim) -> Result<(), Fault> {
        failpoint!("remove.unlink");
        if !claim.named {
            return Ok(());
        }
        file::unlink(&self.path).map_err(|err| self.os_fault("unlink", &err))
    }
}
