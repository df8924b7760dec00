//! How a lock is taken: at once, parking the thread, never in wait for oneself; and what is handed
//! out then.

use pyo3::prelude::*;
use std::sync::Arc;

use super::end::Deadline;
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
use std::time::Duration;

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
        if word.is_poisoned() && !allow_poisoned {
            return Err(poisoned(core));
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
        let handle = self.open_handle()?;
        let word = self.take(py, handle.core(), mode, timeout)?;
        self.got(py, handle.core(), mode, word, allow_poisoned)
    }

    /// Takes the lock, parking the thread.
    #[inline]
    pub(super) fn take(
        &self,
        py: Python<'_>,
        core: &Arc<Core>,
        mode: LockMode,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Word> {
        let limit = seconds(timeout, "timeout")?;
        match core.take_at_once(mode) {
            Some(word) => Ok(word),
            None => self.take_slowly(py, core, mode, limit),
        }
    }

    #[cold]
    fn take_slowly(
        &self,
        py: Python<'_>,
        core: &Arc<Core>,
        mode: LockMode,
        limit: Option<Duration>,
    ) -> PyResult<Word> {
        let verb = self.blocking_verb(mode);
        if let Some(word) = self.take_again(core, mode, Who::here(py)?, verb)? {
            return Ok(word);
        }
        let deadline = Deadline::after(limit);
        let mut taking = core.taking(mode);
        let taken = signals::parked(py, self, |bell| taking.park(deadline.at(), bell))?;
        taken.ok_or_else(|| errors::timeout(&RwLock::of(Arc::clone(core)).timed_out()))
    }
}

/// The error of who gets the lock that a dead writer held.
#[cold]
pub(super) fn poisoned(core: &Core) -> PyErr {
    let cause = "a writer died while it held the lock, so the bytes may be half written; enter with \
                 allow_poisoned=True, check or rewrite them, then clear_poison()";
    errors::fault(&core.region().fault(FaultKind::Poisoned, cause))
}
