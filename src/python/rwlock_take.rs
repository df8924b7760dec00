//! How a lock is taken: at once, parking the thread, never in wait for oneself; and what is handed
//! out then.

use pyo3::prelude::*;
use std::sync::Arc;
use std::time::Duration;

use super::deadline::Deadline;
use super::errors;
use super::holding::Who;
use super::locking::Locking;
use super::rwlock_guard::PyGuard;
use super::rwlock_hold::Hold;
use super::seconds::seconds;
use super::signals;
use crate::error::FaultKind;
use crate::rwlock::core::Core;
use crate::rwlock::word::Word;
use crate::rwlock::{LockMode, RwLock};

/// An error if a writer died while it held the lock.
#[inline]
pub(super) fn refuse_poison(core: &Core, word: Word) -> PyResult<()> {
    if word.is_poisoned() { Err(poisoned(core)) } else { Ok(()) }
}

#[cold]
fn poisoned(core: &Core) -> PyErr {
    let cause = "a writer died while it held the lock, so the bytes may be half written; enter with \
                 allow_poisoned=True, check or rewrite them, then clear_poison()";
    errors::fault(&core.region().fault(FaultKind::Poisoned, cause))
}

impl Locking {
    /// The lock cannot be had at once. For one who holds it: takes it again if nobody else waits,
    /// refuses a wait for oneself.
    pub(crate) fn take_again(
        &self,
        core: &Core,
        mode: LockMode,
        who: Who,
        verb: &str,
    ) -> PyResult<Option<Word>> {
        let Some(who) = self.holding.found(who) else { return Ok(None) };
        if let Some(word) = core.try_take(mode).map_err(|fault| errors::fault(&fault))? {
            return Ok(Some(word));
        }
        Err(errors::would_deadlock(format!(
            "{}: {verb}: {who} holds it already and would wait for itself; release that guard (and \
             the views made of it) first, or change its mode by Guard.downgrade() or \
             Guard.try_upgrade()",
            self.object,
            who = who.noun()
        )))
    }

    /// The guard of a lock that was taken just now; given back if it must not be had.
    pub(crate) fn got(
        &self,
        py: Python<'_>,
        core: &Arc<Core>,
        mode: LockMode,
        word: Word,
        allow_poisoned: bool,
    ) -> PyResult<Py<PyGuard>> {
        let hold = Hold::new(Arc::clone(core), mode, &self.holding);
        if !allow_poisoned {
            refuse_poison(core, word)?;
        }
        let region = Arc::clone(core.region());
        Py::new(py, PyGuard::new(py, Arc::clone(&self.object), region, mode, hold)?)
    }

    /// The guard, if it can be had at once.
    pub(super) fn attempt(
        &self,
        py: Python<'_>,
        mode: LockMode,
        allow_poisoned: bool,
    ) -> PyResult<Option<Py<PyGuard>>> {
        let handle = self.open_handle()?;
        let taken = handle.core().try_take(mode).map_err(|fault| errors::fault(&fault))?;
        let got = |word| self.got(py, handle.core(), mode, word, allow_poisoned);
        taken.map(got).transpose()
    }

    /// The guard, parking the thread.
    pub(super) fn block(
        &self,
        py: Python<'_>,
        mode: LockMode,
        timeout: Option<&Bound<'_, PyAny>>,
        allow_poisoned: bool,
    ) -> PyResult<Py<PyGuard>> {
        let limit = seconds(timeout, "timeout")?;
        let handle = self.open_handle()?;
        let word = self.take(py, handle.core(), mode, limit)?;
        self.got(py, handle.core(), mode, word, allow_poisoned)
    }

    /// Takes the lock, parking the thread. Whoever takes it gives it back.
    #[inline]
    pub(super) fn take(
        &self,
        py: Python<'_>,
        core: &Arc<Core>,
        mode: LockMode,
        limit: Option<Duration>,
    ) -> PyResult<Word> {
        match core.take_at_once(mode) {
            Some(word) => Ok(word),
            None => self.take_later(py, core, mode, limit),
        }
    }

    #[cold]
    fn take_later(
        &self,
        py: Python<'_>,
        core: &Arc<Core>,
        mode: LockMode,
        limit: Option<Duration>,
    ) -> PyResult<Word> {
        if let Some(word) = self.take_again(core, mode, Who::here(py)?, self.blocking_verb(mode))? {
            return Ok(word);
        }
        let deadline = Deadline::after(limit);
        let mut taking = core.taking(mode);
        let taken = signals::parked(py, self, |bell| taking.park(deadline.at(), bell))?;
        taken.ok_or_else(|| errors::timeout(&RwLock::of(Arc::clone(core)).timed_out()))
    }
}
