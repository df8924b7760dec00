//! The fan-out inside one process: many waiters (tasks of several runtimes, threads, foreign loops)
//! share one endpoint. The algorithm alone; `shared` has the faces.
//!
//! The shared word decides, the descriptor only hints:
//!
//! 1. A waiter listens on the event before its step 1, then does steps 1 to 4 under the endpoint's
//!    lock. Each begins with a park number of its own; the slot holds the last one.
//! 2. Not ready, it sleeps on {the event, the endpoint's descriptor}, without the lock. *Every*
//!    waiter watches the descriptor. A single leader would be cheaper by nothing (all are woken
//!    anyway) and would starve the others whenever its future is kept but not polled, leaked, or
//!    belongs to a runtime that nobody drives.
//! 3. Who finds the descriptor readable harvests under the lock and notifies all: the others' hint
//!    has just been taken in, and may be gone before they looked.
//! 4. The slot's number is cleared only when the last waiter leaves; one that leaves earlier would
//!    silence the rest. A waiter that is leaked leaves a number behind: one spurious ring.
//!
//! What changes the shared word in this process notifies the event too ([`Local::notify`]): nobody
//! rings his own slot.

use crate::sync::{Event, EventListener, Mutex, MutexGuard, lock};
use std::sync::{Arc, Weak};

/// What the fan-out needs of an endpoint.
pub(crate) trait Sleeper {
    /// What can go wrong.
    type Fault;

    /// Steps 1 and 2: a new park number, and the barrier.
    fn begin(&mut self) -> Result<(), Self::Fault>;

    /// Somebody goes to sleep.
    fn parks(&mut self) {}

    /// Nobody sleeps any more: the number is taken back.
    fn end(&mut self);

    /// Nobody will sleep for a while: what is held to watch others is given back.
    fn let_go(&mut self) {}

    /// Step 6: takes in what fired.
    fn harvest(&mut self) -> Result<(), Self::Fault>;

    /// How many forks lie between the first process and this one.
    fn forks() -> u64;
}

#[derive(Debug)]
struct State<E> {
    sleeper: E,
    /// Waiters between their first step 1 and their leaving.
    waiting: usize,
    /// Those who will wait again soon, so that nothing is given back between their waits.
    keepers: usize,
}

/// One endpoint for many waiters.
#[derive(Debug)]
pub(crate) struct Local<E> {
    state: Mutex<State<E>>,
    event: Event,
    forks: u64,
}

impl<E: Sleeper> Local<E> {
    pub(crate) fn new(sleeper: E) -> Local<E> {
        let state = Mutex::new(State { sleeper, waiting: 0, keepers: 0 });
        Local { state, event: Event::new(), forks: E::forks() }
    }

    /// True in a forked child, where a thread that does not exist may hold our locks for ever: then
    /// nothing here may be called but `drop`.
    pub(crate) fn is_inherited(&self) -> bool {
        self.forks != E::forks()
    }

    /// Runs `f` on the endpoint. Other waiters and wakers stand in line meanwhile, so `f` must not
    /// wait.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut E) -> R) -> R {
        f(&mut lock(&self.state).sleeper)
    }

    /// Wakes the waiters of this process; call it after every change of the shared word that they
    /// may wait for. One fence and one load when there are none.
    pub(crate) fn notify(&self) {
        if !self.is_inherited() {
            self.event.notify(usize::MAX);
        }
    }

    /// As long as it lives, what one wait has made ready stays for the next.
    pub(crate) fn keep(self: &Arc<Self>) -> Keep<E> {
        lock(&self.state).keepers += 1;
        Keep { local: Arc::downgrade(self) }
    }

    /// Gives back what only sleepers need, if there are none.
    pub(crate) fn rest(&self) {
        rest(&mut lock(&self.state));
    }

    /// A waiter that has not begun yet.
    pub(crate) fn waiter(self: &Arc<Self>) -> Waiter<E> {
        Waiter { local: Arc::clone(self), listener: None, counted: false }
    }
}

/// See [`Local::keep`]. It does not keep the endpoint itself: a closed handle is gone.
#[derive(Debug)]
pub(crate) struct Keep<E: Sleeper> {
    local: Weak<Local<E>>,
}

impl<E: Sleeper> Drop for Keep<E> {
    fn drop(&mut self) {
        if let Some(local) = self.local.upgrade()
            && !local.is_inherited()
        {
            let mut state = lock(&local.state);
            state.keepers -= 1;
            rest(&mut state);
        }
    }
}

/// One waiting operation. Dropped (ready, cancelled, panicked) it leaves.
#[derive(Debug)]
pub(crate) struct Waiter<E: Sleeper> {
    local: Arc<Local<E>>,
    listener: Option<EventListener>,
    /// We are one of `State::waiting`.
    counted: bool,
}

impl<E: Sleeper> Waiter<E> {
    /// Steps 1 to 4. `look` names and watches the debtors and looks; `Some`: the wait is over, and
    /// the waiter has left. `None`: sleep on the event and the descriptor, then come again.
    pub(crate) fn attempt<T>(
        &mut self,
        look: impl FnOnce(&mut E) -> Result<Option<T>, E::Fault>,
    ) -> Result<Option<T>, E::Fault> {
        let local = self.listen();
        let mut state = self.enter(&local);
        state.sleeper.begin()?;
        let came = look(&mut state.sleeper)?;
        match came {
            Some(_) => self.leave(&mut state),
            None => state.sleeper.parks(),
        }
        Ok(came)
    }

    /// Steps 1 and 2 only, for a loop of which many operations share this waiter: each of them looks
    /// afterwards, by [`Local::with`].
    #[cfg(feature = "python")]
    pub(crate) fn arm(&mut self) -> Result<(), E::Fault> {
        let local = self.listen();
        let mut state = self.enter(&local);
        state.sleeper.begin()
    }

    /// Undoes [`arm`](Waiter::arm): listens no more, and is not counted. Who wants to harvest does it
    /// after [`deafen`](Waiter::deafen) and before this.
    #[cfg(feature = "python")]
    pub(crate) fn disarm(&mut self) {
        self.deafen();
        let local = Arc::clone(&self.local);
        self.leave(&mut lock(&local.state));
    }

    /// Hears no notification from now on, its own after a harvest neither.
    #[cfg(feature = "python")]
    pub(crate) fn deafen(&mut self) {
        self.listener = None;
    }

    fn listen(&mut self) -> Arc<Local<E>> {
        self.listener = Some(self.local.event.listen());
        Arc::clone(&self.local)
    }

    fn enter<'a>(&mut self, local: &'a Local<E>) -> MutexGuard<'a, State<E>> {
        let mut state = lock(&local.state);
        if !self.counted {
            state.waiting += 1;
            self.counted = true;
        }
        state
    }

    fn leave(&mut self, state: &mut State<E>) {
        if std::mem::take(&mut self.counted) {
            state.waiting -= 1;
            if state.waiting == 0 {
                state.sleeper.end();
                rest(state);
            }
        }
    }

    /// The descriptor is readable: takes in what fired and tells the others.
    pub(crate) fn fired(&mut self) -> Result<(), E::Fault> {
        let harvested = lock(&self.local.state).sleeper.harvest();
        self.local.notify();
        harvested
    }

    /// The notification that the last attempt listened for.
    pub(crate) fn listener(&mut self) -> Option<&mut EventListener> {
        self.listener.as_mut()
    }
}

fn rest<E: Sleeper>(state: &mut State<E>) {
    if state.waiting == 0 && state.keepers == 0 {
        state.sleeper.let_go();
    }
}

impl<E: Sleeper> Drop for Waiter<E> {
    fn drop(&mut self) {
        if self.local.is_inherited() {
            // The event's own lock may be held by a thread of the parent.
            std::mem::forget(self.listener.take());
        } else if self.counted {
            let local = Arc::clone(&self.local);
            self.leave(&mut lock(&local.state));
        }
    }
}
