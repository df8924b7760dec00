//! What both ends of a ring are awaited for, besides their messages: the other end, and both sides of an
//! `async with`.

use pyo3::prelude::*;
use std::sync::Arc;

use super::asyncio::Face;
use super::awaitable::{Operation, awaitable};
use super::end::{Owner, Role};
use crate::ring::bind::End;

/// `await x.attached()`.
struct Attached<P: Owner>(Py<P>);

impl<P: Owner> Operation for Attached<P> {
    fn name(&self) -> &'static str {
        P::ATTACHED
    }

    fn face(&self) -> &Arc<Face> {
        &self.0.get().handle().face
    }

    fn queued(&self) -> bool {
        false
    }

    fn poll(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let handle = self.0.get().handle();
        let mut inside = handle.look_in(py, P::ATTACHED)?;
        match inside.role()?.attached_now() {
            Ok(found) => Ok(found.map(|()| py.None())),
            Err(stop) => Err(P::R::stopped(stop, handle.core.object())),
        }
    }

    fn visit(&self, each: &mut dyn FnMut(&Py<PyAny>)) {
        each(self.0.as_any());
    }
}

/// Waits for the other end.
pub(crate) fn attached<P: Owner>(slf: Py<P>, py: Python<'_>) -> PyResult<Py<PyAny>> {
    awaitable(py, Box::new(Attached(slf)))
}

/// An await that has its result from the start.
struct Ready<P: Owner> {
    of: Py<P>,
    name: &'static str,
    value: Option<Py<PyAny>>,
}

impl<P: Owner> Operation for Ready<P> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn face(&self) -> &Arc<Face> {
        &self.of.get().handle().face
    }

    fn queued(&self) -> bool {
        false
    }

    fn poll(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        Ok(Some(self.value.take().unwrap_or_else(|| py.None())))
    }

    fn visit(&self, each: &mut dyn FnMut(&Py<PyAny>)) {
        each(self.of.as_any());
        if let Some(value) = &self.value {
            each(value);
        }
    }
}

/// `async with` has to be given something to await.
pub(crate) fn ready<P: Owner>(
    of: Py<P>,
    py: Python<'_>,
    name: &'static str,
    value: Py<PyAny>,
) -> PyResult<Py<PyAny>> {
    awaitable(py, Box::new(Ready { of, name, value: Some(value) }))
}
