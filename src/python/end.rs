//! What both ends of a ring do alike in Python: attach (at once or at first use), let one thread in
//! at a time, wait with the interpreter lock given back, lend one piece of memory, close.

use pyo3::exceptions::{PyBufferError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::{PyClass, pyclass::boolean_struct::True};
use std::sync::Arc;

use super::asyncio::{Face, Parkable};
use super::buffer::GiveBack;
use super::cells::{LoneCell, LoneGuard};
use super::errors;
use super::opening;
use super::ring::Config;
use super::signals;
use super::sleepers::Open;
use crate::error::OpenError;
use crate::region::{Region, inherited};
use crate::ring::bind::{End, Signals};
use crate::ring::{Ring, Stop};
use crate::sync::{AtomicU64, Ordering};
use crate::sys::fd::Fd;

/// An end of a ring, as the binding sees it.
pub(crate) trait Role: End {
    /// "consumer".
    const NOUN: &'static str;
    /// What is out when [`State::out`] is: "a lent message".
    const OUT: &'static str;
    /// What to give back when the last view of a lent piece is gone.
    type Out: Send;

    fn attach(ring: &Ring) -> Result<Self, OpenError>;
    fn give_back(&mut self, out: Self::Out);
    fn stopped(stop: Stop, ring: &str) -> PyErr;
}

enum Stage<R> {
    /// Takes its role at first use.
    Later,
    Live(R),
    /// "closed" or "detached".
    Gone(&'static str),
}

/// What one call at a time has to itself.
pub(crate) struct State<R: Role> {
    stage: Stage<R>,
    /// The piece of the ring that is lent, by its number.
    out: Option<(u64, R::Out)>,
    last_out: u64,
    /// Close (or detach) when the lent piece comes back.
    leaving: Option<bool>,
}

/// The Rust end of a Python object.
pub(crate) struct Core<R: Role> {
    pub(crate) config: Arc<Config>,
    object: String,
    state: LoneCell<State<R>>,
    /// The number of the lent piece that came back last. Written and read with the interpreter
    /// attached, so Relaxed everywhere.
    back: AtomicU64,
}

/// What the classes hold. The face goes first, so that its reader leaves the loop before the
/// endpoint closes its descriptor.
pub(crate) struct Handle<R: Role> {
    pub(crate) face: Arc<Face>,
    pub(crate) core: Arc<Core<R>>,
}

/// A class that is an end.
pub(crate) trait Owner: PyClass<Frozen = True> + Send + Sync {
    type R: Role;
    /// "Consumer.attached".
    const ATTACHED: &'static str;
    fn handle(&self) -> &Handle<Self::R>;
}

/// The call is inside the end, its role is attached, nothing is lent.
pub(crate) struct Inside<'a, R: Role> {
    state: LoneGuard<'a, State<R>>,
    core: &'a Core<R>,
}

impl<R: Role> Inside<'_, R> {
    /// The end.
    #[inline]
    pub(crate) fn role(&mut self) -> PyResult<&mut R> {
        match &mut self.state.stage {
            Stage::Live(role) => Ok(role),
            Stage::Later => Err(self.core.gone("not attached")),
            Stage::Gone(how) => Err(self.core.gone(how)),
        }
    }

    /// Lends a piece; the number by which it comes back.
    pub(crate) fn lend(&mut self, out: R::Out) -> u64 {
        self.state.last_out += 1;
        self.state.out = Some((self.state.last_out, out));
        self.state.last_out
    }

    /// The lent piece stays where it is after all.
    pub(crate) fn unlend(&mut self, number: u64) {
        self.state.out.take_if(|(out, _)| *out == number);
    }

    #[cold]
    fn make_ready(&mut self) -> PyResult<()> {
        self.core.settle(&mut self.state);
        if self.state.out.is_some() {
            return Err(PyBufferError::new_err(format!(
                "{}: {} is still out; leave its `with` block and drop every view made of it \
                 (slices, casts, arrays) first",
                self.core.object,
                R::OUT
            )));
        }
        if matches!(self.state.stage, Stage::Later) {
            self.state.stage = Stage::Live(self.core.attach()?);
        }
        Ok(())
    }
}

#[cold]
fn busy(verb: &str) -> PyErr {
    PyRuntimeError::new_err(format!(
        "{verb}: another call is inside this handle; one thread at a time, and not from a signal \
         handler or a finalizer (open a handle per thread, or hold a lock around it)"
    ))
}

impl<R: Role> Core<R> {
    #[inline]
    fn lock<'a>(&'a self, py: Python<'a>, verb: &str) -> PyResult<LoneGuard<'a, State<R>>> {
        self.state.enter(py).ok_or_else(|| match self.state.is_torn(py) {
            true => errors::fault(&inherited(&self.object)),
            false => busy(verb),
        })
    }

    fn attach(&self) -> PyResult<R> {
        let hint = format!(
            "; a {noun} that came by pickle takes its role at first use: pass \
             ringspan.Ring({name:?}) instead and call .{noun}() in the child, or close the other \
             end first",
            noun = R::NOUN,
            name = self.config.name
        );
        let ring = self.config.open()?;
        // The lock that is held here is only ever tried.
        opening::apart(|| R::attach(&ring)).map_err(|err| errors::open(&err, &hint))
    }

    #[cold]
    fn gone(&self, how: &str) -> PyErr {
        errors::closed_handle(&self.object, R::NOUN, how)
    }

    /// Takes back what came back, and closes if that was waited for.
    fn settle(&self, state: &mut State<R>) {
        let back = self.back.load(Ordering::Relaxed); // Relaxed: see the field
        let came = state.out.take_if(|(number, _)| *number == back);
        let Stage::Live(role) = &mut state.stage else { return };
        if let Some((_, out)) = came {
            role.give_back(out);
        }
        // A grant that was committed is out no more either.
        if state.out.is_none()
            && let Some(closed) = state.leaving.take()
        {
            let how = if closed { "closed" } else { "detached" };
            // Nobody is left to be told of a failure.
            let _ = role.leave(closed);
            state.stage = Stage::Gone(how);
        }
    }

    /// "ring /frames".
    pub(crate) fn object(&self) -> &str {
        &self.object
    }

    /// The name, with its slash.
    pub(crate) fn name(&self) -> &str {
        self.object.trim_start_matches("ring ")
    }
}

impl<R: Role> GiveBack for Core<R> {
    fn give_back(&self, number: u64) {
        self.back.store(number, Ordering::Relaxed); // Relaxed: see the field
        // Whoever is inside settles when it leaves, or at its next verb.
        Python::try_attach(|py| {
            if let Some(mut state) = self.state.enter(py) {
                self.settle(&mut state);
            }
        });
    }
}

impl<R: Role> Parkable for Core<R> {
    fn park_fd(&self, py: Python<'_>) -> PyResult<Fd> {
        let mut state = self.lock(py, R::NOUN)?;
        let Stage::Live(role) = &mut state.stage else { return Err(self.gone("closed")) };
        role.base().park_fd().map_err(|err| errors::fault(&err))
    }

    fn arm(&self, py: Python<'_>) -> PyResult<bool> {
        let mut state = self.lock(py, R::NOUN)?;
        let Stage::Live(role) = &mut state.stage else { return Ok(false) };
        role.base().arm_only().map_err(|stop| R::stopped(stop, &self.object))
    }

    fn disarm(&self, py: Python<'_>) -> PyResult<()> {
        let mut state = self.lock(py, R::NOUN)?;
        let Stage::Live(role) = &mut state.stage else { return Ok(()) };
        role.base().disarm_only().map_err(|err| errors::fault(&err))
    }
}

impl<R: Role> Handle<R> {
    fn new(config: Arc<Config>, stage: Stage<R>) -> Self {
        let slash = if config.name.starts_with('/') { "" } else { "/" };
        let core = Arc::new(Core {
            object: format!("ring {slash}{}", config.name),
            config,
            state: LoneCell::new(State { stage, out: None, last_out: 0, leaving: None }),
            back: AtomicU64::new(0),
        });
        Handle { face: Face::new(Arc::clone(&core) as Arc<dyn Parkable>), core }
    }

    /// A handle with its role.
    pub(crate) fn now(config: Arc<Config>, role: R) -> Self {
        Self::new(config, Stage::Live(role))
    }

    /// A handle that takes its role at first use.
    pub(crate) fn later(config: Arc<Config>) -> Self {
        Self::new(config, Stage::Later)
    }

    /// Lets a verb in that does not wait.
    ///
    /// # Errors
    ///
    /// RuntimeError that names the thread inside; BufferError while something is lent; the handle is
    /// closed; the role cannot be attached.
    #[inline]
    pub(crate) fn enter<'a>(&'a self, py: Python<'a>, verb: &str) -> PyResult<Inside<'a, R>> {
        if self.face.is_busy() {
            self.face.check(py, verb)?;
        }
        let mut inside = Inside { state: self.core.lock(py, verb)?, core: &self.core };
        if inside.state.out.is_some() || matches!(inside.state.stage, Stage::Later) {
            inside.make_ready()?;
        }
        Ok(inside)
    }

    /// As [`Handle::enter`], but something may be lent: for what does not touch the messages.
    pub(crate) fn look_in<'a>(&'a self, py: Python<'a>, verb: &str) -> PyResult<Inside<'a, R>> {
        self.face.check(py, verb)?;
        let mut inside = Inside { state: self.core.lock(py, verb)?, core: &self.core };
        if matches!(inside.state.stage, Stage::Later) {
            inside.make_ready()?;
        }
        Ok(inside)
    }

    /// Looks at the end by `look` if it has its role, and no other call is inside.
    pub(crate) fn glance<T>(&self, py: Python<'_>, look: impl FnOnce(&mut R) -> T) -> Option<T> {
        match &mut self.core.state.enter(py)?.stage {
            Stage::Live(role) => Some(look(role)),
            _ => None,
        }
    }

    /// An error if another call is inside.
    pub(crate) fn check_idle(&self, py: Python<'_>, verb: &str) -> PyResult<()> {
        self.face.check(py, verb)?;
        self.core.lock(py, verb).map(drop)
    }

    /// The piece that is lent under `number`, to be committed.
    pub(crate) fn take_lent<'a>(
        &'a self,
        py: Python<'a>,
        verb: &str,
        number: u64,
    ) -> PyResult<(Inside<'a, R>, R::Out)> {
        self.face.check(py, verb)?;
        let mut inside = Inside { state: self.core.lock(py, verb)?, core: &self.core };
        match inside.state.out.take_if(|(out, _)| *out == number) {
            Some((_, out)) => Ok((inside, out)),
            None => Err(self.core.gone("closed")),
        }
    }

    /// After a `try_` verb, which may have answered its own door: tasks that sleep look again.
    #[inline]
    pub(crate) fn tried(&self, py: Python<'_>) {
        if self.face.is_busy() {
            self.face.kick(py);
        }
    }

    /// Runs `wait` in this thread with the interpreter lock given back; signals are answered.
    pub(crate) fn wait<T: Send>(
        &self,
        py: Python<'_>,
        verb: &str,
        wait: impl FnOnce(&mut R, &mut Signals<'_>) -> Result<T, Stop> + Send,
    ) -> PyResult<T> {
        drop(self.enter(py, verb)?); // attached, and nothing lent
        self.face.enter(py, verb)?;
        let core = &*self.core;
        let mut raised = None;
        let listening = match signals::listen(py, &Open) {
            Ok(listening) => listening,
            Err(raised) => {
                self.face.leave(py);
                return Err(raised);
            }
        };
        let bell = listening.bell();
        // Another one may have come in since; it is told below.
        let mut inside = core.state.enter(py);
        let state = inside.as_deref_mut();
        let outcome = py.detach(|| {
            let Stage::Live(role) = &mut state?.stage else { return None };
            let mut ask = || {
                // While the interpreter shuts down nobody handles signals.
                raised = Python::try_attach(|py| listening.answer(py).err()).flatten();
                raised.is_some()
            };
            Some(wait(role, &mut Signals { bell, ask: &mut ask }))
        });
        drop(inside);
        listening.end(py);
        self.face.leave(py);
        match (raised, outcome) {
            (Some(err), _) => Err(err),
            (None, Some(Ok(found))) => Ok(found),
            (None, Some(Err(stop))) => Err(R::stopped(stop, &core.object)),
            (None, None) => {
                Err(self.core.lock(py, verb).err().unwrap_or_else(|| core.gone("closed")))
            }
        }
    }

    /// Marks this thread as the one inside while a large copy runs without the interpreter lock.
    pub(crate) fn copying<T>(
        &self,
        py: Python<'_>,
        verb: &str,
        copy: impl FnOnce() -> PyResult<T>,
    ) -> PyResult<T> {
        self.face.enter(py, verb)?;
        let done = copy();
        self.face.leave(py);
        done
    }

    /// Closes or detaches. Idempotent.
    ///
    /// # Errors
    ///
    /// BufferError while something is lent: then the handle closes when it comes back.
    pub(crate) fn close(&self, py: Python<'_>, verb: &str, closed: bool) -> PyResult<()> {
        self.face.check(py, verb)?;
        {
            let mut state = self.core.lock(py, verb)?;
            self.core.settle(&mut state);
            if matches!(state.stage, Stage::Gone(_)) {
                return Ok(());
            }
            if state.out.is_some() {
                state.leaving = Some(closed);
                return Err(PyBufferError::new_err(format!(
                    "{}: {} is still out; this {} ends when the last view of it is gone",
                    self.core.object,
                    R::OUT,
                    R::NOUN
                )));
            }
        }
        self.face.close(py);
        let how = if closed { "closed" } else { "detached" };
        let old = std::mem::replace(&mut self.core.lock(py, verb)?.stage, Stage::Gone(how));
        // Tasks that wait find the handle closed.
        self.face.kick(py);
        match old {
            Stage::Live(mut role) => role.leave(closed).map_err(|err| errors::fault(&err)),
            _ => Ok(()),
        }
    }

    /// How `__repr__` describes the handle.
    pub(crate) fn describe(&self, py: Python<'_>) -> String {
        let how = match self.core.state.enter(py).as_deref() {
            Some(State { stage: Stage::Later, .. }) => "not attached yet",
            Some(State { stage: Stage::Live(_), .. }) => "attached",
            Some(State { stage: Stage::Gone(how), .. }) => how,
            None if self.core.state.is_torn(py) => "inherited by fork",
            None => "busy",
        };
        let class = if R::NOUN == "producer" { "Producer" } else { "Consumer" };
        format!("<ringspan.{class} of {}, {how}>", self.core.object)
    }
}

/// The mapping of an attached end.
pub(crate) fn region_of(role: &mut impl End) -> Arc<Region> {
    Arc::clone(role.base().region())
}
