//! The asyncio face of a handle: one reader per event loop, and the tasks that wait on it.
//!
//! ```text
//! task                                        loop
//! join the queue
//! first in it: arm() steps 1 to 4 of the wake protocol
//! poll once more, sleep on a future           the park fd is readable: fired()
//!                                               disarm(): harvest
//!                                               resolve the first in the queue and every free one
//! resumed: poll; not ready: arm again, same place in the queue
//! finished, failed or cancelled: leave; the next in the queue is resolved and polls
//! ```
//!
//! Why no wake is lost: whoever sleeps polled after `arm` and before the next harvest, and each
//! harvest resolves all that sleep except those behind the first of the queue, which the first one
//! resolves when it leaves for whatever reason. `armed` is true only between an `arm` that said
//! "sleep" and the next harvest.
//!
//! What is registered with the loop is a *duplicate* of the park fd, owned by the registration: it
//! is taken out of the loop before it is closed, from whichever thread, and no other reader of the
//! loop can have that number. The reader callback holds the face weakly, the face holds loop and
//! futures weakly: nothing is kept alive by waiting on it.
//!
//! The locks here are held for plain Rust statements only, never across a call into Python. Two
//! threads never wait on one face: see [`Face::enter`], or it is of one loop.

use std::sync::Arc;

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyWeakrefMethods, PyWeakrefReference};

use crate::python::asyncio_loop::{
    Reader, is_true, resolve, resolve_weak, running_loop, runs_here, thread_key, thread_name,
};
pub(crate) use crate::python::asyncio_waiters::Ticket;
use crate::python::asyncio_waiters::Waiters;
use crate::python::awaitable::Operation;
use crate::sync::{AtomicU32, AtomicU64, Mutex, Ordering, lock};
use crate::sys::fd::{Fd, fork_count};

/// Every so many ready awaits in a row the loop gets a turn.
const TURN: u32 = 256;
/// So often `arm` may say "look again" without a result before the loop gets a turn.
const LOOKS: u32 = 16;

/// What the face needs of an endpoint. Called by one thread at a time, with the interpreter attached.
pub(crate) trait Parkable: Send + Sync + 'static {
    /// A new duplicate of the pollable fd (never the public `fileno()`).
    fn park_fd(&self, py: Python<'_>) -> PyResult<Fd>;

    /// Steps 1 to 4 of the wake protocol. True: a wake will come. False: something happened since
    /// the last [`Parkable::disarm`] that polling will show (a message, room, a death). The
    /// operation is polled after it in both cases.
    fn arm(&self, py: Python<'_>) -> PyResult<bool>;

    /// Harvests and clears `waiting`. Never fails because nothing was armed.
    fn disarm(&self, py: Python<'_>) -> PyResult<()>;
}

/// What one step of an await came to.
pub(crate) enum Step {
    /// Finished with this result.
    Ready(Py<PyAny>),
    /// Yield this future; go on when it is done.
    Sleep(Py<PyAny>),
    /// Yield None: the loop gets a turn.
    Turn,
}

/// What an await that starts may do.
pub(crate) enum Admit {
    /// Try at once.
    Poll,
    /// Others came first.
    Queue,
    /// Let the loop have a turn before trying.
    Turn,
}

/// The asyncio side of one handle; every awaitable of the handle goes through it.
pub(crate) struct Face {
    handle: Arc<dyn Parkable>,
    /// Chosen by the loop that runs, so that the thread does not matter.
    of_loop: bool,
    /// The thread that waits or blocks here, 0 when nobody does. Guarded by the attached
    /// interpreter: written and read with it held.
    owner: AtomicU64,
    /// Ready awaits since the loop had a turn. As `owner`.
    streak: AtomicU32,
    waiters: Mutex<Waiters>,
}

impl Face {
    /// The face of a handle; nothing is registered before the first wait.
    pub(crate) fn new(handle: Arc<dyn Parkable>) -> Arc<Face> {
        Face::made(handle, false)
    }

    /// The face of a handle for one loop, which one thread may run after another.
    pub(crate) fn of_loop(handle: Arc<dyn Parkable>) -> Arc<Face> {
        Face::made(handle, true)
    }

    fn made(handle: Arc<dyn Parkable>, of_loop: bool) -> Arc<Face> {
        Arc::new(Face {
            handle,
            of_loop,
            owner: AtomicU64::new(0),
            // The first await asks whether a loop runs at all.
            streak: AtomicU32::new(TURN + 1),
            waiters: Mutex::new(Waiters::of(fork_count())),
        })
    }

    /// The short way: nobody waits here, and the loop had its turn.
    pub(crate) fn nobody_inside(&self) -> bool {
        // Relaxed, here and below: both words are touched with the interpreter attached only.
        self.owner.load(Ordering::Relaxed) == 0 && self.streak.load(Ordering::Relaxed) < TURN
    }

    /// Somebody waits or blocks here.
    #[inline]
    pub(crate) fn is_busy(&self) -> bool {
        self.owner.load(Ordering::Relaxed) != 0
    }

    /// Counts an await that did not have to wait.
    pub(crate) fn was_ready(&self) {
        let streak = self.streak.load(Ordering::Relaxed);
        self.streak.store(streak.saturating_add(1), Ordering::Relaxed);
    }

    /// Decides what an await that starts may do.
    pub(crate) fn admit(
        &self,
        py: Python<'_>,
        name: &'static str,
        queued: bool,
    ) -> PyResult<Admit> {
        self.forget_parent();
        self.check(py, name)?;
        let streak = self.streak.load(Ordering::Relaxed);
        if streak >= TURN {
            running_loop(py, name)?;
            self.streak.store(1, Ordering::Relaxed);
            if streak == TURN {
                return Ok(Admit::Turn);
            }
        }
        let behind = queued && lock(&self.waiters).first_queued().is_some();
        Ok(if behind { Admit::Queue } else { Admit::Poll })
    }

    /// Refuses a thread while another one waits here.
    ///
    /// # Errors
    ///
    /// RuntimeError that names the thread inside.
    pub(crate) fn check(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        let owner = self.owner.load(Ordering::Relaxed);
        if owner == 0 || self.of_loop || owner == thread_key() {
            return Ok(());
        }
        if self.forget_parent() || self.forget_closed_loop(py)? {
            return Ok(());
        }
        let ident = lock(&self.waiters).ident.as_ref().map(|ident| ident.clone_ref(py));
        let who = thread_name(py, ident.map(|ident| ident.into_bound(py)))?;
        Err(PyRuntimeError::new_err(format!(
            "{name}: {who} is inside this handle; one thread at a time (open a handle per thread, \
             or hold a lock around it)"
        )))
    }

    /// A verb that blocks this thread begins. Follow with [`Face::leave`].
    ///
    /// # Errors
    ///
    /// RuntimeError while another thread is inside.
    pub(crate) fn enter(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        self.check(py, name)?;
        self.own(py)?;
        lock(&self.waiters).inside += 1;
        Ok(())
    }

    /// A blocking verb ended. It may have harvested the wake of tasks that wait: they look again.
    pub(crate) fn leave(&self, py: Python<'_>) {
        {
            let mut waiters = lock(&self.waiters);
            waiters.inside = waiters.inside.saturating_sub(1);
        }
        self.kick(py);
        self.disown();
    }

    /// Makes every task that waits look again: after anything but the face itself has harvested
    /// (the public `disarm`, a blocking verb), and after `close`.
    pub(crate) fn kick(&self, py: Python<'_>) {
        let elsewhere = {
            let mut waiters = lock(&self.waiters);
            waiters.armed = false;
            if waiters.list.is_empty() {
                return;
            }
            waiters.reader.as_ref().map(|reader| reader.event_loop.clone_ref(py))
        };
        let elsewhere = elsewhere
            .and_then(|event_loop| event_loop.bind(py).upgrade())
            .filter(|event_loop| !runs_here(event_loop));
        let futures = lock(&self.waiters).sleepers(py);
        match elsewhere {
            Some(event_loop) => {
                let resolve_all = PyCFunction::new_closure(py, None, None, move |args, _| {
                    futures.iter().for_each(|future| resolve_weak(future.bind(args.py())));
                });
                // A closed loop wakes nobody, and nobody waits in it.
                let _ = resolve_all.and_then(|resolve_all| {
                    event_loop.call_method1(intern!(py, "call_soon_threadsafe"), (resolve_all,))
                });
            }
            None => futures.iter().for_each(|future| resolve_weak(future.bind(py))),
        }
    }

    /// The handle is closed: takes the reader out of its loop (before the endpoint closes its fd)
    /// and makes every task that waits look again.
    pub(crate) fn close(&self, py: Python<'_>) {
        self.forget_parent();
        self.kick(py);
        let reader = lock(&self.waiters).reader.take();
        if let Some(reader) = reader {
            reader.remove(py);
        }
    }

    /// Waits in the queue until `op` is ready, one step of it. `ticket` is the place in the queue,
    /// made here at the first call; whoever ends the wait gives it to [`Face::quit`].
    pub(crate) fn park(
        self: &Arc<Self>,
        py: Python<'_>,
        op: &mut dyn Operation,
        ticket: &mut Option<Ticket>,
    ) -> PyResult<Step> {
        let event_loop = running_loop(py, op.name())?;
        self.register(py, &event_loop, op.name())?;
        self.own(py)?;
        self.streak.store(1, Ordering::Relaxed);
        let place = lock(&self.waiters).join(op.queued(), *ticket);
        *ticket = Some(place);
        if !lock(&self.waiters).has_turn(place) {
            let future = self.sleep(py, &event_loop, place)?;
            // Making the future may have run a finalizer, by which the first one left.
            if lock(&self.waiters).has_turn(place) {
                resolve(&future);
            }
            return Ok(Step::Sleep(future.unbind()));
        }
        for _ in 0..LOOKS {
            let armed = lock(&self.waiters).armed;
            if !armed {
                let sleep_now = self.handle.arm(py)?;
                lock(&self.waiters).armed = sleep_now;
            }
            if let Some(value) = op.poll(py)? {
                return Ok(Step::Ready(value));
            }
            // Still armed: nothing that ran in between has harvested.
            if lock(&self.waiters).armed {
                let future = self.sleep(py, &event_loop, place)?;
                if !lock(&self.waiters).armed {
                    resolve(&future);
                }
                return Ok(Step::Sleep(future.unbind()));
            }
        }
        Ok(Step::Turn)
    }

    /// Ends a wait, whatever the reason: the next in the queue looks for itself.
    pub(crate) fn quit(&self, py: Python<'_>, ticket: Ticket) {
        let (next, disarm) = {
            let mut waiters = lock(&self.waiters);
            let Some(at) = waiters.position(ticket) else { return };
            let was_first = waiters.first_queued().is_some_and(|waiter| waiter.ticket == ticket);
            let gone = waiters.list.remove(at);
            let next = waiters.first_queued().filter(|_| was_first);
            let next = next.and_then(|waiter| waiter.future.as_ref()).map(|f| f.clone_ref(py));
            let disarm = waiters.list.is_empty() && std::mem::take(&mut waiters.armed);
            drop(waiters);
            drop(gone);
            (next, disarm)
        };
        if disarm && let Err(err) = self.handle.disarm(py) {
            err.write_unraisable(py, None);
        }
        if let Some(future) = next {
            resolve_weak(future.bind(py));
        }
        self.disown();
    }

    /// See [`Parkable::park_fd`].
    pub(super) fn park_fd(&self, py: Python<'_>) -> PyResult<Fd> {
        self.handle.park_fd(py)
    }

    /// The reader callback.
    pub(super) fn fired(&self, py: Python<'_>) {
        if self.handle.disarm(py).is_err() {
            // The fd stays readable: out with it. Whoever waits meets the error when it arms.
            let reader = lock(&self.waiters).reader.take();
            if let Some(reader) = reader {
                reader.remove(py);
            }
        }
        lock(&self.waiters).armed = false;
        let futures = lock(&self.waiters).sleepers(py);
        futures.iter().for_each(|future| resolve_weak(future.bind(py)));
    }

    /// A new future of the loop, by which this waiter is woken from now on.
    fn sleep<'py>(
        &self,
        py: Python<'py>,
        event_loop: &Bound<'py, PyAny>,
        ticket: Ticket,
    ) -> PyResult<Bound<'py, PyAny>> {
        let future = event_loop.call_method0(intern!(py, "create_future"))?;
        future.setattr(intern!(py, "_asyncio_future_blocking"), true)?;
        let weak = PyWeakrefReference::new(&future)?.unbind();
        let old = {
            let mut waiters = lock(&self.waiters);
            let at = waiters.position(ticket);
            let place = at.and_then(|at| waiters.list.get_mut(at));
            place.map(|waiter| waiter.future.replace(weak))
        };
        drop(old);
        Ok(future)
    }

    /// Sees to it that our fd is registered with this loop, and with no other.
    fn register(
        self: &Arc<Self>,
        py: Python<'_>,
        event_loop: &Bound<'_, PyAny>,
        name: &str,
    ) -> PyResult<()> {
        self.forget_parent();
        let known = {
            let waiters = lock(&self.waiters);
            waiters.reader.as_ref().map(|reader| reader.event_loop.clone_ref(py))
        };
        if let Some(known) = known {
            if known.bind(py).upgrade().is_some_and(|known| known.is(event_loop)) {
                return Ok(());
            }
            let waited_for = !lock(&self.waiters).list.is_empty();
            if !self.forget_closed_loop(py)? && waited_for {
                return Err(PyRuntimeError::new_err(format!(
                    "{name}: tasks of another event loop wait on this handle; open a handle per \
                     loop"
                )));
            }
        }
        let old = lock(&self.waiters).reader.take();
        if let Some(old) = old {
            old.remove(py);
        }
        let reader = Reader::add(py, event_loop, self, name)?;
        lock(&self.waiters).reader = Some(reader);
        Ok(())
    }

    /// Drops what came by fork: waiters, loop and threads of the parent, whose descriptors are closed
    /// here. True if so; then the handle itself tells of the fork.
    fn forget_parent(&self) -> bool {
        let old = lock(&self.waiters).take_inherited(fork_count());
        if old.is_some() {
            self.owner.store(0, Ordering::Relaxed);
        }
        old.is_some()
    }

    /// Drops the waiters of a loop that was closed or collected while they waited. True if so.
    fn forget_closed_loop(&self, py: Python<'_>) -> PyResult<bool> {
        let known = {
            let waiters = lock(&self.waiters);
            if waiters.inside > 0 {
                return Ok(false);
            }
            waiters.reader.as_ref().map(|reader| reader.event_loop.clone_ref(py))
        };
        let Some(known) = known else { return Ok(false) };
        if let Some(event_loop) = known.bind(py).upgrade()
            && !is_true(&event_loop, intern!(py, "is_closed"))?
        {
            return Ok(false);
        }
        let (stale, reader, disarm) = {
            let mut waiters = lock(&self.waiters);
            let stale = std::mem::take(&mut waiters.list);
            (stale, waiters.reader.take(), std::mem::take(&mut waiters.armed))
        };
        drop((stale, reader));
        if disarm {
            self.handle.disarm(py)?;
        }
        self.disown();
        Ok(true)
    }

    /// This thread is inside from now on.
    fn own(&self, py: Python<'_>) -> PyResult<()> {
        let key = thread_key();
        if self.owner.load(Ordering::Relaxed) == key {
            return Ok(());
        }
        let ident = py.import(intern!(py, "threading"))?.call_method0(intern!(py, "get_ident"))?;
        let old = lock(&self.waiters).ident.replace(ident.unbind());
        drop(old);
        self.owner.store(key, Ordering::Relaxed);
        Ok(())
    }

    /// Nobody is inside any more, if that is so.
    fn disown(&self) {
        let waiters = lock(&self.waiters);
        if waiters.list.is_empty() && waiters.inside == 0 {
            self.owner.store(0, Ordering::Relaxed);
        }
    }
}

impl Drop for Face {
    fn drop(&mut self) {
        let reader = lock(&self.waiters).reader.take();
        if let Some(reader) = reader {
            // After the interpreter is gone there is no loop to take it out of.
            let _ = Python::try_attach(|py| reader.remove(py));
        }
    }
}
