//! How a `Segment` waits in asyncio: an endpoint of its own, attached at the first wait, so that
//! threads that block on the same handle and tasks that await it do not share one.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::sync::Arc;

use super::asyncio::{Face, Parkable};
use super::awaitable::Operation;
use super::errors;
use super::opening;
use super::segment::PySegment;
use crate::error::Fault;
use crate::segment::Segment;
use crate::segment::bind::Watcher;
use crate::sync::{Mutex, MutexGuard, lock, try_lock};
use crate::sys::fd::Fd;

struct Inner {
    /// None once closed.
    segment: Option<Segment>,
    watcher: Option<Watcher>,
}

/// The endpoint of the loop.
pub(crate) struct Waits {
    object: String,
    inner: Mutex<Inner>,
}

impl Waits {
    pub(crate) fn new(segment: Segment) -> Self {
        let object = format!("segment {}", segment.name());
        Waits { object, inner: Mutex::new(Inner { segment: Some(segment), watcher: None }) }
    }

    fn inner(&self) -> PyResult<MutexGuard<'_, Inner>> {
        try_lock(&self.inner).ok_or_else(|| {
            PyRuntimeError::new_err(
                "Segment.changed: another call is inside this handle; one loop at a time",
            )
        })
    }

    fn with<R>(&self, run: impl FnOnce(&mut Watcher) -> Result<R, Fault>) -> PyResult<Option<R>> {
        let mut inner = self.inner()?;
        if let Inner { segment: Some(segment), watcher: None } = &*inner {
            let segment = segment.clone();
            drop(inner); // `close` waits for it with the interpreter attached
            let attached = opening::apart(|| Watcher::attach(&segment));
            let attached = attached.map_err(|fault| errors::fault(&fault))?;
            inner = self.inner()?;
            if inner.segment.is_some() && inner.watcher.is_none() {
                inner.watcher = Some(attached);
            }
        }
        let Some(watcher) = &mut inner.watcher else { return Ok(None) };
        run(watcher).map(Some).map_err(|fault| errors::fault(&fault))
    }

    pub(crate) fn close(&self) {
        let mut inner = lock(&self.inner);
        let gone = (inner.segment.take(), inner.watcher.take());
        drop(inner);
        drop(gone);
    }
}

impl Parkable for Waits {
    fn park_fd(&self, _py: Python<'_>) -> PyResult<Fd> {
        let fd = self.with(Watcher::park_fd)?;
        fd.ok_or_else(|| errors::closed_handle(&self.object, "segment", "closed"))
    }

    fn arm(&self, _py: Python<'_>) -> PyResult<bool> {
        Ok(self.with(Watcher::arm)?.is_some())
    }

    fn disarm(&self, _py: Python<'_>) -> PyResult<()> {
        self.with(Watcher::disarm).map(drop)
    }
}

/// `await seg.changed(since)`.
pub(crate) struct Changed {
    segment: Py<PySegment>,
    since: Option<u64>,
    /// Looked once: from now on through the endpoint, which watches who may notify.
    waiting: bool,
}

impl Changed {
    pub(crate) fn new(segment: Py<PySegment>, since: Option<u64>) -> Self {
        Changed { segment, since, waiting: false }
    }
}

impl Operation for Changed {
    fn name(&self) -> &'static str {
        "Segment.changed"
    }

    fn face(&self) -> &Arc<Face> {
        self.segment.get().face()
    }

    fn queued(&self) -> bool {
        false
    }

    fn poll(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let segment = self.segment.get();
        let handle = segment.open_handle()?;
        let found = if self.waiting {
            let since = self.since.unwrap_or(0);
            segment.waits().with(|watcher| watcher.look(since))?.flatten()
        } else {
            self.waiting = true;
            let now = handle.version().map_err(|fault| errors::fault(&fault))?;
            let since = *self.since.get_or_insert(now);
            (now != since).then_some(now)
        };
        Ok(match found {
            Some(version) => Some(version.into_pyobject(py)?.into_any().unbind()),
            None => None,
        })
    }

    fn visit(&self, each: &mut dyn FnMut(&Py<PyAny>)) {
        each(self.segment.as_any());
    }
}
