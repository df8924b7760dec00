//! Who holds guards of a handle: so that nobody waits for himself.
//!
//! The owner of a guard is the task that entered its block; the thread, where no task runs. It stays
//! the owner whoever gives the guard back. A guard that nobody entered is nobody's: whoever took it may
//! have been a thread of a pool, and somebody else has it now. A task is known by its weak reference, of which there is one for each
//! object: held here, no later task can be mistaken for it.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyWeakrefReference;
use std::collections::HashMap;

use super::asyncio_loop::{loop_runs, thread_key};
use super::once;
use crate::sync::{Mutex, lock};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    /// By the address of its weak reference.
    Task(usize),
    Thread(u64),
}

/// A task or a thread.
pub(crate) struct Who {
    key: Key,
    /// Keeps the address from being used again.
    _task: Option<Py<PyWeakrefReference>>,
}

static CURRENT_TASK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

impl Who {
    /// The thread, whatever task it runs.
    pub(crate) fn this_thread() -> Who {
        Who { key: Key::Thread(thread_key()), _task: None }
    }

    /// Whoever runs this.
    pub(crate) fn here(py: Python<'_>) -> PyResult<Who> {
        if !loop_runs(py)? {
            return Ok(Who::this_thread());
        }
        let current = once::get_or_make(&CURRENT_TASK, py, || {
            py.import("asyncio")?.getattr(intern!(py, "current_task")).map(Bound::unbind)
        })?;
        let task = current.bind(py).call0()?;
        if task.is_none() {
            return Ok(Who::this_thread());
        }
        let weak = PyWeakrefReference::new(&task)?;
        Ok(Who { key: Key::Task(weak.as_ptr().addr()), _task: Some(weak.unbind()) })
    }

    /// "this task", for messages.
    pub(crate) fn noun(&self) -> &'static str {
        match self.key {
            Key::Task(_) => "this task",
            Key::Thread(_) => "this thread",
        }
    }
}

/// How many guards of one handle each of them holds.
#[derive(Debug, Default)]
pub(crate) struct Holding {
    // Taken with the interpreter attached, for plain statements only.
    counts: Mutex<HashMap<Key, usize>>,
}

impl Holding {
    pub(crate) fn enter(&self, who: &Who) {
        *lock(&self.counts).entry(who.key).or_insert(0) += 1;
    }

    pub(crate) fn leave(&self, who: &Who) {
        let mut counts = lock(&self.counts);
        if let Some(count) = counts.get_mut(&who.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&who.key);
            }
        }
    }

    pub(crate) fn holds(&self, who: &Who) -> bool {
        lock(&self.counts).contains_key(&who.key)
    }

    /// The same of one who may be a task: what its thread entered before it ran the loop is not left
    /// before the loop ends. The one that holds.
    pub(crate) fn found(&self, who: Who) -> Option<Who> {
        if self.holds(&who) {
            return Some(who);
        }
        Some(Who::this_thread()).filter(|thread| self.holds(thread))
    }
}
