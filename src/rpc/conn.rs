//! A client's connection: its half of the protocol, its side of the link, and who drives them.
//!
//! Whoever holds the lock drives: takes in what came, sends what waits, tells whoever has news. Nobody
//! holds it while sleeping. **Whoever lets go of it while somebody sleeps leaves the number of a sleeper
//! standing and nothing unread**, so it does not matter who of several sleepers (a task of each tokio
//! runtime, threads in blocking calls, event loops) heard the bell: the one that takes it in does the work
//! of all, and arms for all.

use crate::error::{Fault, FaultKind, errno};
use crate::notify::awake::{Awake, NEVER, Scale, TURNS};
use crate::rpc::core::client::ClientCore;
use crate::rpc::core::news::{Listener, News, Request, Woken};
use crate::rpc::error::{CallError, Delivered};
use crate::rpc::hello::{Entry, Hello};
use crate::rpc::limits::Grant;
use crate::rpc::link::{Link, TIMER};
use crate::rpc::wire::Violation;
use crate::sync::{AtomicBool, Mutex, Ordering, lock};
use crate::sys::fd::{self, Fd};
use crate::sys::poll::{Interest, PollSet};
use crate::sys::timer::Timer;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug)]
pub(crate) struct Conn {
    /// "function /add", for messages.
    pub(super) object: Arc<str>,
    pub(super) pid: u32,
    pub(super) grant: Grant,
    pub(super) methods: HashMap<String, Method>,
    pub(super) only: Option<Method>,
    pub(super) poll: Arc<Fd>,
    pub(super) forks: u64,
    awake: bool,
    /// No new calls: broken, or the server said goodbye.
    pub(super) over: AtomicBool,
    pub(super) state: Mutex<State>,
}

/// What the lock guards.
#[derive(Debug)]
pub(crate) struct State {
    /// `None` once broken.
    pub(super) link: Option<Link>,
    pub(super) core: ClientCore,
    pub(super) set: PollSet,
    pub(super) timer: Timer,
    /// Tasks, threads and loops that sleep, or will before they let anybody down.
    pub(super) sleepers: u32,
    /// The only call under way, whose task stays awake for its answer: nobody needs to be armed.
    pub(super) alone: Option<u64>,
    /// How long such a task stays awake.
    pub(super) patience: Awake,
    /// The thread and runtime of a driving task that is awake there: it has its next turn once the tasks have
    /// run that are ready now.
    #[cfg(feature = "tokio")]
    pub(super) driven: Option<(usize, tokio::runtime::Id)>,
    pub(super) broken: Option<Arc<str>>,
    /// When an idle connection was last used.
    pub(super) looked: Instant,
    /// Tokens of calls with news, for the driver of an event loop.
    pub(super) tokens: Vec<u64>,
    pub(super) bytes: Vec<u8>,
    pub(super) keys: Vec<u64>,
    pub(crate) drivers: Drivers,
}

/// A method as the server announced it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Method {
    number: u16,
    #[cfg_attr(not(feature = "python"), allow(dead_code, reason = "Rust says which it wants"))]
    pub(crate) raw: bool,
    in_place: bool,
}

/// There is no news of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Nothing {
    /// It is the only one under way.
    #[cfg_attr(not(feature = "tokio"), allow(dead_code, reason = "for tasks"))]
    pub(crate) alone: bool,
    /// A driver of this thread and runtime is about to look. A driver of another runtime that was awake on
    /// this thread may never run again: its runtime was left.
    #[cfg_attr(not(feature = "tokio"), allow(dead_code, reason = "for tasks"))]
    pub(crate) driven: bool,
}

/// Tells threads apart, cheaply: the address of something that each has.
#[cfg(feature = "tokio")]
#[inline]
pub(super) fn thread() -> usize {
    thread_local! {
        static HERE: u8 = const { 0 };
    }
    HERE.with(|here| std::ptr::from_ref(here).addr())
}

impl State {
    /// See [`Nothing::driven`].
    #[inline]
    fn is_driven_here(&self) -> bool {
        #[cfg(feature = "tokio")]
        if let Some((there, runtime)) = self.driven {
            use tokio::runtime::Handle;
            return there == thread()
                && Handle::try_current().is_ok_and(|here| here.id() == runtime);
        }
        false
    }
}

/// What a call asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask<'a> {
    /// `None`: the only one of a function.
    pub(crate) method: Option<&'a str>,
    /// Of the wire: RAW, STREAM.
    pub(crate) flags: u8,
    pub(crate) deadline: Option<Instant>,
}

/// An idle connection is looked after before a call that comes later than this.
const IDLE: Duration = Duration::from_micros(20);

/// What a driver finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Something came: let those run who wait for it, then look again.
    Busy,
    /// Nothing yet, but it pays to look again.
    Awake,
    /// Nothing: sleep.
    Quiet,
    /// The connection is broken.
    Over,
}

/// The driving tasks of tokio runtimes; see `drive_client`.
pub(crate) type Drivers = Vec<Driver>;

/// One driving task.
#[derive(Debug)]
pub(crate) struct Driver {
    #[cfg(feature = "tokio")]
    pub(crate) runtime: tokio::runtime::Id,
    pub(crate) waker: Option<std::task::Waker>,
}

impl Conn {
    pub(crate) fn new(object: Arc<str>, hello: Hello, link: Link) -> std::io::Result<Conn> {
        let set = PollSet::new()?;
        link.watch(&set, 0)?;
        let timer = Timer::new()?;
        set.add(timer.fd(), TIMER, Interest::Level)?;
        let entries = hello.table.iter().enumerate().map(|(at, entry)| {
            let Entry { name, raw, in_place, .. } = entry.clone();
            (name, Method { number: at as u16, raw, in_place })
        });
        let methods: HashMap<_, _> = entries.collect();
        let only = methods.values().next().copied().filter(|_| hello.table.len() == 1);
        Ok(Conn {
            object,
            pid: hello.pid,
            grant: hello.grant,
            only,
            methods,
            poll: Arc::clone(set.fd()),
            forks: fd::fork_count(),
            awake: true,
            over: AtomicBool::new(false),
            state: Mutex::new(State {
                link: Some(link),
                core: ClientCore::new(hello.grant),
                set,
                timer,
                sleepers: 0,
                alone: None,
                patience: Awake::new(TURNS),
                #[cfg(feature = "tokio")]
                driven: None,
                broken: None,
                looked: Instant::now(),
                tokens: Vec::new(),
                bytes: Vec::new(),
                keys: Vec::new(),
                drivers: Vec::new(),
            }),
        })
    }

    pub(crate) fn object(&self) -> &str {
        &self.object
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// The names of the methods.
    pub(crate) fn methods(&self) -> Vec<String> {
        let mut all: Vec<_> =
            self.methods.iter().map(|(name, at)| (at.number, name.clone())).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, name)| name).collect()
    }

    /// Nobody who waits here stays awake for it.
    pub(crate) fn never_awake(mut self) -> Conn {
        self.awake = false;
        lock(&self.state).patience = Awake::new(NEVER);
        self
    }

    /// Whether who waits here stays awake for a while before it sleeps.
    pub(crate) fn is_awake(&self) -> bool {
        self.awake
    }

    /// How long to stay awake, of a policy that would do so for as long as `scale` says.
    pub(crate) fn scale(&self, scale: Scale) -> Scale {
        if self.awake { scale } else { NEVER }
    }

    /// The one descriptor that is readable when somebody should drive.
    pub(crate) fn poll_fd(&self) -> &Arc<Fd> {
        &self.poll
    }

    /// New calls need a new connection.
    pub(crate) fn is_over(&self) -> bool {
        // Relaxed: a call that does not see it yet is refused under the lock.
        self.over.load(Ordering::Relaxed)
    }

    /// A fork brought it into this process: nothing of it may be touched, it is the parent's.
    pub(crate) fn is_inherited(&self) -> bool {
        self.forks != fd::fork_count()
    }

    /// Refuses a connection that a fork brought into this process.
    pub(crate) fn check_fork(&self) -> Result<(), Fault> {
        if !self.is_inherited() {
            return Ok(());
        }
        let cause =
            "this client was inherited by fork and belongs to the parent; connect anew here";
        Err(Fault::new(FaultKind::Forked, &*self.object, cause))
    }

    /// The number of a method; `None` is the only one of a function.
    pub(crate) fn method(&self, name: Option<&str>) -> Result<Method, CallError> {
        let found = match name {
            Some(name) => self.methods.get(name).copied(),
            None => self.only,
        };
        found.ok_or_else(|| {
            let list = self.methods().join(", ");
            let cause = match name {
                Some(name) => format!("it has no method {name:?}; it has {list}"),
                None => format!("it is a service, name the method: {list}"),
            };
            let fault = Fault::new(FaultKind::InvalidOption, &*self.object, cause);
            CallError::UnknownMethod(fault.with_errno(errno::ENOENT))
        })
    }

    /// Begins a call. The id is to be given to [`take`](Conn::take) until that says it is over, or else to
    /// [`abandon`](Conn::abandon). `None`: the connection takes no calls any more, connect anew.
    pub(crate) fn begin(&self, ask: Ask<'_>, body: &[u8]) -> Result<Option<u64>, CallError> {
        self.check_fork()?;
        let mut woken = Woken::default();
        let mut state = lock(&self.state);
        // What was taken in here no sleeper hears of any more, so it is armed for them anew.
        let took = state.core.is_idle() && self.look_after_idling(&mut state, &mut woken);
        let begun = self.begin_locked(&mut state, ask, body);
        // Who is alone no longer is: from now on the others' sleepers are needed.
        let joined = state.alone.take().is_some();
        // One that was alone and is over left the sleepers' number down, for there was nothing to hear.
        let bare = state.sleepers > 0
            && state.core.in_flight() > 1
            && state.link.as_ref().is_some_and(|link| !link.is_parked());
        let unsettled = joined
            || bare
            || took
            || state.core.wants_room()
            || ask.deadline.is_some()
            || !woken.is_empty();
        match begun {
            Ok(begun) => {
                if unsettled {
                    self.settle(state, woken);
                }
                begun
            }
            Err(violation) => {
                woken.append(self.broke(&mut state, &violation.to_string()));
                self.settle(state, woken);
                Ok(None)
            }
        }
    }

    /// Nobody may have listened for a while: a server that left meanwhile is noticed before the call.
    /// True: something was taken in.
    fn look_after_idling(&self, state: &mut State, woken: &mut Woken) -> bool {
        let now = Instant::now();
        let idle = now.duration_since(std::mem::replace(&mut state.looked, now));
        if idle <= IDLE {
            return false;
        }
        let fired = self.harvest(state, woken);
        self.read(state, woken) || fired
    }

    fn begin_locked(
        &self,
        state: &mut State,
        ask: Ask<'_>,
        body: &[u8],
    ) -> Result<Result<Option<u64>, CallError>, Violation> {
        let State { link, core, .. } = state;
        let Some(link) = link.as_mut().filter(|_| !core.said_goodbye) else { return Ok(Ok(None)) };
        let method = match self.method(ask.method) {
            Ok(method) => method,
            Err(error) => return Ok(Err(error)),
        };
        if body.len() as u64 > self.grant.max_message {
            return Ok(Err(self.too_large(body.len())));
        }
        let Ask { flags, deadline, .. } = ask;
        let Method { number: method, in_place, .. } = method;
        let request = Request { method, flags, deadline, in_place };
        let begun = core.begin(link, request, body);
        link.publish();
        begun.map(|id| Ok(Some(id)))
    }

    fn too_large(&self, len: usize) -> CallError {
        let max = self.grant.max_message;
        let cause = format!(
            "arguments of {len} bytes are above max_message, {max}; pass them by a segment or array, or \
             serve with larger limits"
        );
        let fault = Fault::new(FaultKind::InvalidOption, &*self.object, cause);
        CallError::TooLarge { fault: fault.with_errno(errno::EMSGSIZE), len, max }
    }

    /// The error of a call on a broken connection.
    pub(crate) fn disconnected(&self, why: Option<&str>, delivered: Delivered) -> CallError {
        let why = why.unwrap_or("its server is shutting down");
        let fault = Fault::new(FaultKind::Os, &*self.object, format!("{why}; {delivered}"));
        CallError::Disconnected { fault: fault.with_errno(errno::ECONNRESET), delivered }
    }

    /// Why it broke.
    pub(crate) fn why_broken(&self) -> Option<Arc<str>> {
        lock(&self.state).broken.clone()
    }

    /// What there is for a call; if there is nothing, `listener` hears of the next news.
    pub(crate) fn take(
        &self,
        id: u64,
        listener: impl FnOnce() -> Option<Listener>,
    ) -> Result<News, Nothing> {
        let mut state = lock(&self.state);
        let State { link, core, .. } = &mut *state;
        let news = match link {
            Some(link) => {
                let news = core.take(link, id);
                link.publish(); // a credit
                news
            }
            None => core.take(&mut Nowhere, id),
        };
        match news {
            Ok(None) => {
                if let Some(listener) = listener() {
                    core.listen(id, listener);
                }
                Err(Nothing { alone: core.in_flight() == 1, driven: state.is_driven_here() })
            }
            Ok(Some(news)) => {
                let over = matches!(news, News::Over(_));
                if over {
                    state.patience.came(); // whoever read it
                }
                let was_alone = over && state.alone.take_if(|alone| *alone == id).is_some();
                // With nothing under way there is nothing to be armed for.
                if state.core.wants_room() || (was_alone && state.core.in_flight() > 0) {
                    self.settle(state, Woken::default());
                }
                Ok(news)
            }
            Err(violation) => {
                let woken = self.broke(&mut state, &violation.to_string());
                let news = state.core.take(&mut Nowhere, id).ok().flatten();
                self.settle(state, woken);
                news.ok_or(Nothing { alone: false, driven: false })
            }
        }
    }

    /// The owner of a call is gone.
    pub(crate) fn abandon(&self, id: u64) {
        if self.is_inherited() {
            return;
        }
        let mut state = lock(&self.state);
        let was_alone = state.alone.take_if(|alone| *alone == id).is_some();
        let State { link, core, .. } = &mut *state;
        let done = match link {
            Some(link) => {
                let done = core.abandon(link, id);
                link.publish();
                done
            }
            None => core.abandon(&mut Nowhere, id),
        };
        match done {
            Ok(()) if core.wants_room() || was_alone => {
                self.settle(state, Woken::default());
            }
            Ok(()) => {}
            Err(violation) => {
                let woken = self.broke(&mut state, &violation.to_string());
                self.settle(state, woken);
            }
        }
    }

    /// Runs `f` on what the lock guards.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        f(&mut lock(&self.state))
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.close();
    }
}

/// The way out of a broken connection.
struct Nowhere;

impl crate::rpc::core::port::Port for Nowhere {
    fn put(&mut self, _: crate::rpc::wire::Head, _: &[u8]) -> Result<bool, Violation> {
        Ok(true)
    }

    fn max_body(&self) -> usize {
        usize::MAX
    }

    fn position(&self) -> u64 {
        0
    }
}

#[cfg(all(test, feature = "tokio"))]
#[path = "conn_tests.rs"]
mod tests;
