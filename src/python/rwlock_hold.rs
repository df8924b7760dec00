//! A lock that was taken, as long as the last view of its bytes lives.
//!
//! The Rust guard is owned by [`Hold`], which every view keeps alive through its [`Memory`]; it is
//! dropped with the last of them.

use pyo3::prelude::*;
use std::sync::Arc;

use super::buffer::{GiveBack, Memory};
use super::holding::{Holding, Who};
use crate::region::Region;
use crate::rwlock::core::Core;
use crate::rwlock::{LockMode, OwnedReadGuard, OwnedWriteGuard};
use crate::sync::{Mutex, lock};

enum Owned {
    Read(OwnedReadGuard),
    Write(OwnedWriteGuard),
}

impl Owned {
    fn core(&self) -> &Arc<Core> {
        match self {
            Owned::Read(guard) => guard.core(),
            Owned::Write(guard) => guard.core(),
        }
    }
}

struct Inner {
    /// None once it was given back.
    guard: Option<Owned>,
    /// Of the memory that keeps the lock; that of a former mode keeps nothing.
    number: u64,
    /// It is counted among those that views keep.
    kept: bool,
    /// Who entered the guard's block; nobody before.
    who: Option<Who>,
}

/// A lock that was taken, until the last view of its bytes is gone.
pub(crate) struct Hold {
    inner: Mutex<Inner>,
    holding: Arc<Holding>,
}

impl Hold {
    /// Of a lock that was taken just now.
    pub(crate) fn new(core: Arc<Core>, mode: LockMode, holding: &Arc<Holding>) -> Arc<Hold> {
        let guard = match mode {
            LockMode::Read => Owned::Read(OwnedReadGuard::new(core)),
            LockMode::Write => Owned::Write(OwnedWriteGuard::new(core)),
        };
        let inner = Mutex::new(Inner { guard: Some(guard), number: 0, kept: false, who: None });
        Arc::new(Hold { inner, holding: Arc::clone(holding) })
    }

    /// The guard's block was entered: from now on this one holds the lock, until it is given back. The
    /// first one stays the owner.
    pub(crate) fn entered(&self, who: Who) {
        let mut inner = lock(&self.inner);
        if inner.guard.is_none() || inner.who.is_some() {
            return;
        }
        self.holding.enter(&who);
        inner.who = Some(who);
    }

    /// A memory that keeps the lock, in place of the one before.
    pub(crate) fn memory(
        self: &Arc<Self>,
        py: Python<'_>,
        over: Arc<Region>,
    ) -> PyResult<Py<Memory>> {
        let (number, writable) = {
            let mut inner = lock(&self.inner);
            inner.number += 1;
            (inner.number, matches!(inner.guard, Some(Owned::Write(_))))
        };
        // Where it fails, the memory is dropped, and with it the lock.
        Py::new(py, Memory::locked(over, writable, Arc::clone(self) as Arc<_>, number))
    }

    /// The writer reads on.
    pub(crate) fn downgrade(&self) {
        let mut inner = lock(&self.inner);
        inner.guard = match inner.guard.take() {
            Some(Owned::Write(guard)) => Some(Owned::Read(guard.downgrade())),
            other => other,
        };
    }

    /// The only reader writes on, if it is that.
    pub(crate) fn try_upgrade(&self) -> bool {
        let mut inner = lock(&self.inner);
        let (guard, upgraded) = match inner.guard.take() {
            Some(Owned::Read(guard)) => match guard.try_upgrade() {
                Ok(guard) => (Some(Owned::Write(guard)), true),
                Err(guard) => (Some(Owned::Read(guard)), false),
            },
            other => (other, true),
        };
        inner.guard = guard;
        upgraded
    }

    /// The guard was left, and views live on.
    pub(crate) fn keep(&self) {
        let mut inner = lock(&self.inner);
        if inner.kept {
            return;
        }
        inner.kept = true;
        if let Some(guard) = &inner.guard {
            guard.core().count_kept(true);
        }
    }
}

impl GiveBack for Hold {
    fn give_back(&self, number: u64) {
        if lock(&self.inner).number == number {
            self.end();
        }
    }
}

impl Hold {
    fn end(&self) {
        let (guard, kept, who) = {
            let mut inner = lock(&self.inner);
            (inner.guard.take(), std::mem::take(&mut inner.kept), inner.who.take())
        };
        let Some(guard) = guard else { return };
        if kept {
            guard.core().count_kept(false);
        }
        if let Some(who) = who {
            self.holding.leave(&who);
        }
        drop(guard);
    }
}

impl Drop for Hold {
    /// Does nothing, but where no memory was made of it.
    fn drop(&mut self) {
        self.end();
    }
}
