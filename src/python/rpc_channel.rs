//! The connection of one event loop to one server: a reader on the loop, and the calls that it resolves.
//!
//! Nothing here crosses a thread: the loop's own callback takes in what came and resolves the futures.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyCFunction;
use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Weak};

use super::asyncio_loop::{is_true, runs_here};
use super::errors;
use super::rpc_codec::read_outcome;
use super::rpc_future::Pending;
use super::rpc_stream::Items;
use crate::error::Fault;
use crate::rpc::conn::{Conn, Turn};
use crate::rpc::core::news::{Listener, News};
use crate::sync::{Mutex, lock};
use crate::sys::fd::Fd;

/// Who hears of a call.
pub(super) enum Hearer {
    Call(Weak<Pending>),
    Stream(Weak<Items>),
}

/// See the module.
pub(crate) struct Channel {
    pub(crate) conn: Arc<Conn>,
    event_loop: Py<PyAny>,
    call_soon: Py<PyAny>,
    /// The duplicate that is registered; `None` once it is not.
    reader: Mutex<Option<Fd>>,
    hearers: Mutex<HashMap<u64, Hearer>>,
    /// A look was asked for.
    soon: Mutex<bool>,
}

impl Channel {
    /// Registers a connection with the loop that runs.
    pub(crate) fn new(
        py: Python<'_>,
        conn: Arc<Conn>,
        event_loop: &Bound<'_, PyAny>,
    ) -> PyResult<Arc<Channel>> {
        let fd = conn.poll_fd().duplicate();
        let fd = fd.map_err(|err| errors::fault(&Fault::os(conn.object(), "dup", &err)))?;
        let number = fd.as_raw_fd();
        let channel = Arc::new(Channel {
            conn,
            event_loop: event_loop.clone().unbind(),
            call_soon: event_loop.getattr(intern!(py, "call_soon"))?.unbind(),
            reader: Mutex::new(Some(fd)),
            hearers: Mutex::default(),
            soon: Mutex::new(false),
        });
        let fired = channel.callback(py, true)?;
        event_loop.call_method1(intern!(py, "add_reader"), (number, fired))?;
        channel.conn.sleeps();
        Ok(channel)
    }

    fn callback<'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        harvest: bool,
    ) -> PyResult<Bound<'py, PyCFunction>> {
        let weak = Arc::downgrade(self);
        PyCFunction::new_closure(py, None, None, move |args, _| -> PyResult<()> {
            weak.upgrade().map_or(Ok(()), |channel| channel.fired(args.py(), harvest))
        })
    }

    pub(crate) fn event_loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.event_loop.clone_ref(py)
    }

    /// Whether it is of that loop.
    pub(crate) fn is_of(&self, event_loop: &Bound<'_, PyAny>) -> bool {
        self.event_loop.is(event_loop)
    }

    /// The loop was closed.
    pub(crate) fn is_stale(&self, py: Python<'_>) -> bool {
        is_true(self.event_loop.bind(py), intern!(py, "is_closed")).unwrap_or(true)
    }

    pub(super) fn call_soon<'py>(&'py self, py: Python<'py>) -> &'py Bound<'py, PyAny> {
        self.call_soon.bind(py)
    }

    /// Takes in what came and resolves whom it concerns.
    fn fired(self: &Arc<Self>, py: Python<'_>, harvest: bool) -> PyResult<()> {
        *lock(&self.soon) = false;
        let turn = self.conn.drive(harvest, None);
        let mut tokens = Vec::new();
        self.conn.take_tokens(&mut tokens);
        let mut raised = Ok(());
        for token in tokens {
            raised = raised.and(self.hear(py, token));
        }
        if turn == Turn::Over {
            self.unregister(py);
        }
        // Taking the news of one call may have ended the others.
        self.look_soon(py);
        raised
    }

    /// A call has news.
    fn hear(self: &Arc<Self>, py: Python<'_>, id: u64) -> PyResult<()> {
        let hearer = match lock(&self.hearers).get(&id) {
            Some(Hearer::Call(pending)) => Hearer::Call(Weak::clone(pending)),
            Some(Hearer::Stream(items)) => Hearer::Stream(Weak::clone(items)),
            None => return Ok(()),
        };
        match hearer {
            Hearer::Stream(items) => items.upgrade().map_or(Ok(()), |items| items.serve(py)),
            Hearer::Call(pending) => match self.take(id) {
                None => Ok(()),
                Some(News::Over(outcome)) => {
                    lock(&self.hearers).remove(&id);
                    let Some(pending) = pending.upgrade() else { return Ok(()) };
                    let result = read_outcome(py, &self.conn, outcome);
                    pending.resolve(py, result.map(Bound::unbind))
                }
                // A stream that was called as a function: its items are of no use.
                Some(News::Item(_)) => Ok(()),
            },
        }
    }

    /// What there is for a call, or else word of it later.
    pub(super) fn take(&self, id: u64) -> Option<News> {
        self.conn.take(id, || Some(Listener::Token(id))).ok()
    }

    /// `hearer` hears of the call from now on.
    pub(super) fn listen(self: &Arc<Self>, py: Python<'_>, id: u64, hearer: Hearer) {
        lock(&self.hearers).insert(id, hearer);
        self.conn.listen(id, Listener::Token(id));
        self.look_soon(py);
    }

    /// Something may have come to light outside of the callback: a look in the loop's next turn.
    pub(super) fn look_soon(self: &Arc<Self>, py: Python<'_>) {
        if !self.conn.has_tokens() || std::mem::replace(&mut *lock(&self.soon), true) {
            return;
        }
        let asked = self.callback(py, false).and_then(|fired| self.call_soon(py).call1((fired,)));
        if let Err(err) = asked {
            err.write_unraisable(py, None);
        }
    }

    /// The owner of a call gives it up.
    pub(super) fn give_up(self: &Arc<Self>, py: Python<'_>, id: u64) {
        self.forget(id);
        self.look_soon(py);
    }

    /// The same where nobody can be told, as in a finalizer.
    pub(super) fn forget(&self, id: u64) {
        lock(&self.hearers).remove(&id);
        self.conn.abandon(id);
    }

    /// Hangs up. The calls under way fail in the next turn of their loop; from any thread.
    pub(crate) fn close(self: &Arc<Self>, py: Python<'_>) {
        self.conn.close();
        if self.conn.has_tokens() && !std::mem::replace(&mut *lock(&self.soon), true) {
            // Fails where the loop is closed: nobody waits there.
            let _ = self.callback(py, false).and_then(|fired| {
                let name = intern!(py, "call_soon_threadsafe");
                self.event_loop.bind(py).call_method1(name, (fired,))
            });
        }
        self.unregister(py);
    }

    /// Takes the reader out of its loop.
    pub(crate) fn unregister(&self, py: Python<'_>) {
        let Some(fd) = lock(&self.reader).take() else { return };
        if self.conn.check_fork().is_err() {
            return; // the poll set of the loop is the parent's too
        }
        self.conn.awakes();
        let event_loop = self.event_loop.bind(py);
        let is = |what| is_true(event_loop, what).unwrap_or(false);
        if is(intern!(py, "is_closed")) {
            return;
        }
        let number = fd.as_raw_fd();
        if runs_here(event_loop) || !is(intern!(py, "is_running")) {
            // Fails only where the loop has been closed since.
            let _ = event_loop.call_method1(intern!(py, "remove_reader"), (number,));
            return;
        }
        let event_loop_there = event_loop.clone().unbind();
        let fd = Mutex::new(Some(fd));
        let removal = PyCFunction::new_closure(py, None, None, move |args, _| {
            let event_loop = event_loop_there.bind(args.py());
            let _ = event_loop.call_method1(intern!(args.py(), "remove_reader"), (number,));
            drop(lock(&fd).take());
        });
        let _ = removal.and_then(|removal| {
            event_loop.call_method1(intern!(py, "call_soon_threadsafe"), (removal,))
        });
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        if lock(&self.reader).is_some() {
            // After the interpreter is gone there is no loop to take it out of.
            let _ = Python::try_attach(|py| self.unregister(py));
        }
        self.conn.close();
    }
}
