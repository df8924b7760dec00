//! The faces of a handle that many threads and event loops use at once (locks, values, scalars): one
//! asyncio face for each loop that waits, all on the one endpoint of the handle.
//!
//! ```text
//! loop 1: reader on a duplicate of { endpoint, alarm 1 } --.
//! loop 2: reader on a duplicate of { endpoint, alarm 2 } ---+-- Shared: the endpoint and the event
//! threads in blocking verbs, each with its own alarm -------'
//! ```
//!
//! A loop is one waiter of the fan-out (`notify/local.rs`). Its alarm is rung by the event, whoever
//! notifies. Who finds the *endpoint* readable harvests and notifies the others; who finds only his
//! alarm does not, or two loops would wake each other for ever.
//!
//! How a class uses it: hold a [`LoopFaces`] as the first field; an operation asks [`LoopFaces::here`]
//! in `Operation::start`, keeps that face, holds [`LoopFaces::nowhere`] before, says `queued() == false`
//! and in `poll`, from the second time on, looks through `Shared::with`. `close` wakes all.
//!
//! Since the face is chosen by the loop that runs, it does not ask which thread that is: a loop may be
//! run by one thread after another.
//!
//! The locks here are taken with the interpreter attached, and never held across a call into Python.

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::asyncio::{Face, Parkable};
use super::asyncio_loop::{is_true, running_loop};
use super::errors;
use crate::error::Fault;
use crate::notify::Endpoint;
use crate::notify::local::Waiter;
use crate::notify::shared::{Shared, poll_notified};
use crate::region::Region;
use crate::sync::{Mutex, lock};
use crate::sys::alarm::Alarm;
use crate::sys::fd::Fd;
use crate::sys::poll::{Interest, PollSet};

const ENDPOINT: u64 = 1;
const ALARM: u64 = 2;

/// What one loop sleeps on.
struct Live {
    shared: Shared,
    waiter: Waiter<Endpoint>,
    alarm: Arc<Alarm>,
    endpoint: Arc<Fd>,
    set: PollSet,
    region: Arc<Region>,
    keys: Vec<u64>,
}

impl Live {
    fn new(shared: &Shared) -> Result<Live, Fault> {
        let region = Arc::clone(shared.region());
        let os = |call: &'static str| {
            let region = &region;
            move |err: std::io::Error| region.os_fault(call, &err)
        };
        let waiter = shared.waiter()?;
        let endpoint = shared.with(|endpoint| endpoint.poll_fd().map(Arc::clone))??;
        let alarm = Arc::new(Alarm::new().map_err(os("making an alarm"))?);
        let set = PollSet::new().map_err(os("epoll_create1"))?;
        set.add(&endpoint, ENDPOINT, Interest::Level).map_err(os("epoll_ctl"))?;
        set.add(alarm.fd(), ALARM, Interest::Level).map_err(os("epoll_ctl"))?;
        Ok(Live { shared: shared.clone(), waiter, alarm, endpoint, set, keys: Vec::new(), region })
    }

    /// False: something was notified between the first step and the last, look again.
    fn arm(&mut self) -> Result<bool, Fault> {
        self.region.check_fork()?; // before the lock, which a thread of the parent may have held
        self.waiter.arm()?;
        let waker = Waker::from(Arc::clone(&self.alarm));
        let mut cx = Context::from_waker(&waker);
        match poll_notified(&mut self.waiter, &mut cx) {
            Poll::Pending => {
                self.shared.with(|endpoint| endpoint.counters.parks += 1)?;
                Ok(true)
            }
            Poll::Ready(()) => {
                self.waiter.disarm();
                Ok(false)
            }
        }
    }

    fn disarm(&mut self) -> Result<(), Fault> {
        self.region.check_fork()?;
        self.waiter.deafen(); // before we notify the others
        self.keys.clear();
        let looked = self.set.collect(&mut self.keys, Some(Duration::ZERO));
        // After it is deaf, so that what is silenced here is not rung again.
        self.alarm.silence();
        let fired = looked.is_err() || self.keys.contains(&ENDPOINT);
        let harvested = if fired { self.waiter.fired() } else { Ok(()) };
        self.waiter.disarm();
        harvested
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // A duplicate of the set that is still registered with its loop must not report them.
        if !self.region.is_inherited() {
            self.set.remove(&self.endpoint);
            self.set.remove(self.alarm.fd());
        }
    }
}

enum Stage {
    /// Nobody has waited yet.
    Idle(Shared),
    Live(Box<Live>),
    Closed,
}

/// The waiter of one loop.
struct Waits {
    object: Arc<str>,
    stage: Mutex<Stage>,
}

impl Waits {
    fn with<R>(&self, run: impl FnOnce(&mut Live) -> Result<R, Fault>) -> PyResult<Option<R>> {
        let mut stage = lock(&self.stage);
        if let Stage::Idle(shared) = &*stage {
            let live = Live::new(shared).map_err(|fault| errors::fault(&fault))?;
            *stage = Stage::Live(Box::new(live));
        }
        match &mut *stage {
            Stage::Live(live) => run(live).map(Some).map_err(|fault| errors::fault(&fault)),
            _ => Ok(None),
        }
    }

    fn closed(&self) -> PyErr {
        errors::closed_handle(&self.object, "handle", "closed")
    }

    fn close(&self) {
        let old = std::mem::replace(&mut *lock(&self.stage), Stage::Closed);
        drop(old);
    }
}

impl Parkable for Waits {
    fn park_fd(&self, _py: Python<'_>) -> PyResult<Fd> {
        let fd = self.with(|live| {
            live.set.fd().duplicate().map_err(|err| live.region.os_fault("dup", &err))
        })?;
        fd.ok_or_else(|| self.closed())
    }

    fn arm(&self, _py: Python<'_>) -> PyResult<bool> {
        self.with(Live::arm)?.ok_or_else(|| self.closed())
    }

    fn disarm(&self, _py: Python<'_>) -> PyResult<()> {
        // Never armed, never harvested.
        if matches!(&*lock(&self.stage), Stage::Idle(_)) {
            return Ok(());
        }
        self.with(Live::disarm).map(drop)
    }
}

/// For awaits that never wait.
struct Nowhere;

impl Parkable for Nowhere {
    fn park_fd(&self, _py: Python<'_>) -> PyResult<Fd> {
        Err(PyRuntimeError::new_err("nothing waits here"))
    }

    fn arm(&self, _py: Python<'_>) -> PyResult<bool> {
        Err(PyRuntimeError::new_err("nothing waits here"))
    }

    fn disarm(&self, _py: Python<'_>) -> PyResult<()> {
        Ok(())
    }
}

struct OfLoop {
    /// Its address, to find it quickly; the weak reference has the last word.
    address: usize,
    event_loop: Py<PyWeakrefReference>,
    waits: Arc<Waits>,
    face: Arc<Face>,
}

impl OfLoop {
    /// The tasks of this loop look again, and find whatever made us do this.
    fn close(&self, py: Python<'_>) {
        self.waits.close();
        self.face.close(py);
    }
}

/// The endpoint of the handle.
enum Origin {
    /// The handle is not attached yet.
    Late,
    Attached(Shared),
    Closed,
}

/// See the module.
pub(crate) struct LoopFaces {
    object: Arc<str>,
    nowhere: Arc<Face>,
    loops: Mutex<Vec<OfLoop>>,
    origin: Mutex<Origin>,
}

impl LoopFaces {
    /// The faces of the handle `object` ("lock /l") whose endpoint is `shared`. Nothing is registered
    /// before the first wait.
    pub(crate) fn new(object: Arc<str>, shared: Shared) -> LoopFaces {
        let faces = Self::late(object);
        faces.attached(&shared);
        faces
    }

    /// The same of a handle that is not attached yet; tell it by [`LoopFaces::attached`] before
    /// [`LoopFaces::here`].
    pub(crate) fn late(object: Arc<str>) -> LoopFaces {
        LoopFaces {
            object,
            nowhere: Face::of_loop(Arc::new(Nowhere)),
            loops: Mutex::default(),
            origin: Mutex::new(Origin::Late),
        }
    }

    /// The handle is attached (if that was not known).
    pub(crate) fn attached(&self, shared: &Shared) {
        let mut origin = lock(&self.origin);
        if matches!(&*origin, Origin::Late) {
            *origin = Origin::Attached(shared.clone());
        }
    }

    /// A face for awaits that are ready from the start, or have not started.
    pub(crate) fn nowhere(&self) -> &Arc<Face> {
        &self.nowhere
    }

    /// The face of the loop that runs in this thread.
    ///
    /// # Errors
    ///
    /// RuntimeError where none runs; the handle is closed.
    pub(crate) fn here(&self, py: Python<'_>, verb: &str) -> PyResult<Arc<Face>> {
        let event_loop = running_loop(py, verb)?;
        match self.known(&event_loop) {
            Some(face) => Ok(face),
            None => self.add(&event_loop),
        }
    }

    fn known(&self, event_loop: &Bound<'_, PyAny>) -> Option<Arc<Face>> {
        let py = event_loop.py();
        let address = event_loop.as_ptr().addr();
        let (weak, face) = {
            let loops = lock(&self.loops);
            let found = loops.iter().find(|known| known.address == address)?;
            (found.event_loop.clone_ref(py), Arc::clone(&found.face))
        };
        let same = weak.bind(py).upgrade().is_some_and(|known| known.is(event_loop));
        same.then_some(face)
    }

    #[cold]
    fn add(&self, event_loop: &Bound<'_, PyAny>) -> PyResult<Arc<Face>> {
        let py = event_loop.py();
        self.forget_closed(py);
        let shared = match &*lock(&self.origin) {
            Origin::Attached(shared) => Some(shared.clone()),
            Origin::Late | Origin::Closed => None,
        };
        let Some(shared) = shared else {
            return Err(errors::closed_handle(&self.object, "handle", "closed"));
        };
        let stage = Mutex::new(Stage::Idle(shared));
        let waits = Arc::new(Waits { object: Arc::clone(&self.object), stage });
        let face = Face::of_loop(Arc::clone(&waits) as Arc<_>);
        let made = OfLoop {
            address: event_loop.as_ptr().addr(),
            event_loop: PyWeakrefReference::new(event_loop)?.unbind(),
            waits,
            face: Arc::clone(&face),
        };
        lock(&self.loops).push(made);
        if matches!(&*lock(&self.origin), Origin::Closed) {
            self.close(py); // it was closed meanwhile
        }
        Ok(face)
    }

    /// Drops the faces of loops that were closed or collected, with the waiters that are left there.
    fn forget_closed(&self, py: Python<'_>) {
        let known: Vec<_> = lock(&self.loops)
            .iter()
            .map(|known| (known.event_loop.clone_ref(py), Arc::clone(&known.face)))
            .collect();
        for (weak, face) in known {
            let event_loop = weak.bind(py).upgrade();
            let open =
                |event_loop| matches!(is_true(event_loop, intern!(py, "is_closed")), Ok(false));
            if event_loop.as_ref().is_some_and(open) {
                continue;
            }
            let gone = {
                let mut loops = lock(&self.loops);
                let at = loops.iter().position(|one| Arc::ptr_eq(&one.face, &face));
                at.map(|at| loops.swap_remove(at))
            };
            if let Some(gone) = gone {
                gone.close(py);
            }
        }
    }

    /// The handle is closed: every task that waits looks again, in whichever loop, and no other one
    /// begins. Let the operations find the handle closed before this is called.
    pub(crate) fn close(&self, py: Python<'_>) {
        let origin = std::mem::replace(&mut *lock(&self.origin), Origin::Closed);
        let loops = std::mem::take(&mut *lock(&self.loops));
        loops.iter().for_each(|one| one.close(py));
        drop(origin);
    }
}

impl Drop for LoopFaces {
    /// What still waits on a closed loop would else keep the endpoint attached.
    fn drop(&mut self) {
        for one in std::mem::take(&mut *lock(&self.loops)) {
            one.waits.close();
        }
    }
}
