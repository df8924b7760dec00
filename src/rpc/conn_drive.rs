//! Driving a client's connection: taking in what came, arming for who sleeps, breaking off. `conn` has the
//! rule by which all of this holds together.

use crate::notify::awake::Awake;
use crate::rpc::conn::{Conn, Driver, State, Turn};
use crate::rpc::core::news::Woken;
use crate::rpc::error::Delivered;
use crate::rpc::link::{BELL, LIFELINE, Link, PIDFD, TIMER, WHAT};
use crate::rpc::wire::HEAD_LEN;
use crate::sync::{MutexGuard, Ordering, lock};
use std::time::{Duration, Instant};

/// Frames that are read before others get the lock.
const FRAMES: usize = 256;
/// Looks at the ring before somebody sleeps in spite of what lies there.
const ROUNDS: usize = 16;

impl Conn {
    /// Takes in what came, without waiting. `harvest`: the poll set may be readable. `awake`: the policy of
    /// who would rather look again than sleep.
    pub(crate) fn drive(&self, harvest: bool, awake: Option<&mut Awake>) -> Turn {
        if self.is_inherited() {
            return Turn::Over;
        }
        let mut woken = Woken::default();
        let mut state = lock(&self.state);
        #[cfg(feature = "tokio")]
        {
            state.driven = None;
        }
        if harvest {
            self.harvest(&mut state, &mut woken);
        }
        // The timer is set for sleepers; one that never sleeps looks at the clock.
        if state.core.next_deadline().is_some() {
            self.expire(&mut state, &mut woken);
        }
        let busy = self.read(&mut state, &mut woken);
        let State { link, core, alone, .. } = &*state;
        let turn = match link {
            None => Turn::Over,
            Some(_) if busy => {
                awake.into_iter().for_each(Awake::came);
                Turn::Busy
            }
            Some(link) if core.in_flight() > 0 && alone.is_none() => {
                let stay = awake.is_some_and(|awake| awake.stay(link.end.theirs()));
                if stay { Turn::Awake } else { Turn::Quiet }
            }
            Some(_) => Turn::Quiet,
        };
        if self.settle(state, woken) && turn != Turn::Over { Turn::Busy } else { turn }
    }

    /// The task of this thread's driver will drive again once the others that are ready now have run.
    #[cfg(feature = "tokio")]
    pub(crate) fn drives_in(&self, runtime: tokio::runtime::Id) {
        lock(&self.state).driven = Some((crate::rpc::conn::thread(), runtime));
    }

    /// The task of the call `id` looks for its answer itself, if it is the only one under way: that saves
    /// two hops between tasks. [`Turn::Awake`] makes it the one who drives, until it is asked again, gives
    /// up, or is joined by another call; for so long nobody is armed.
    #[cfg(feature = "tokio")]
    pub(crate) fn drive_alone(&self, id: u64) -> Turn {
        let mut woken = Woken::default();
        let mut state = lock(&self.state);
        if state.core.in_flight() != 1 {
            return Turn::Quiet;
        }
        let busy = self.read(&mut state, &mut woken);
        let State { link, patience, alone, .. } = &mut *state;
        let turn = match link {
            None => Turn::Over,
            Some(_) if busy => {
                patience.came();
                Turn::Busy
            }
            Some(link) if patience.stay(link.end.theirs()) => {
                if alone.replace(id).is_none() {
                    link.unpark();
                    link.end.note_cpu();
                }
                Turn::Awake
            }
            Some(_) => {
                patience.parks();
                *alone = None;
                Turn::Quiet
            }
        };
        self.settle(state, woken);
        turn
    }

    /// Takes in what fired. True: something had.
    pub(super) fn harvest(&self, state: &mut State, woken: &mut Woken) -> bool {
        let mut keys = std::mem::take(&mut state.keys);
        keys.clear();
        while let Ok((_, true)) = state.set.collect(&mut keys, Some(Duration::ZERO)) {}
        let mut hung_up = false;
        for key in &keys {
            match key & WHAT {
                BELL => state.link.iter().for_each(Link::rung),
                LIFELINE | PIDFD => hung_up = true,
                TIMER => {
                    state.timer.fired();
                    self.expire(state, woken);
                }
                _ => {}
            }
        }
        let fired = !keys.is_empty();
        state.keys = keys;
        if hung_up {
            // Everything that it had published counts; more than a ringful it had not.
            let ringful = state.link.as_ref().map_or(0, Link::most_frames);
            for _ in 0..=ringful / FRAMES {
                if !self.read(state, woken) {
                    break;
                }
            }
            self.hung_up(state, woken);
        }
        fired
    }

    fn expire(&self, state: &mut State, woken: &mut Woken) {
        let State { link: Some(link), core, .. } = state else { return };
        let expired = core.expire(link, Instant::now(), woken);
        link.publish();
        if let Err(violation) = expired {
            woken.append(self.broke(state, &violation.to_string()));
        }
    }

    fn hung_up(&self, state: &mut State, woken: &mut Woken) {
        let Some(link) = &state.link else { return };
        let why = match link.peer_died() {
            true => format!("its server (pid {}) died", self.pid),
            false => format!("its server (pid {}) hung up", self.pid),
        };
        woken.append(self.broke(state, &why));
    }

    /// Reads frames, all of them or [`FRAMES`]. True: there were some.
    pub(super) fn read(&self, state: &mut State, woken: &mut Woken) -> bool {
        let State { link: Some(link), core, bytes, .. } = state else { return false };
        let mut some = false;
        let mut left = FRAMES;
        let done = loop {
            if left == 0 {
                break core.pump(link);
            }
            left -= 1;
            match link.next(bytes) {
                Ok(None) => break core.pump(link),
                Ok(Some(head)) => {
                    some = true;
                    if let Err(violation) = core.hear(head, &bytes[HEAD_LEN..], woken) {
                        break Err(violation);
                    }
                }
                Err(violation) => break Err(violation),
            }
        };
        link.publish();
        if core.said_goodbye {
            self.over.store(true, Ordering::Relaxed); // Relaxed: as in `is_over`
        }
        if let Err(violation) = done {
            woken.append(self.broke(state, &violation.to_string()));
        }
        some
    }

    /// Lets the lock go, armed for whoever sleeps, and wakes whoever has news. True: something came at the
    /// last look.
    pub(super) fn settle(&self, mut state: MutexGuard<'_, State>, mut woken: Woken) -> bool {
        let mut some = false;
        let mut left = ROUNDS;
        while state.sleepers > 0 && state.alone.is_none() {
            let State { link: Some(link), core, timer, .. } = &mut *state else { break };
            // A server that never stops must not keep us under the lock: a sleeper goes on.
            let at = if left > 0 { core.next_deadline() } else { Some(Instant::now()) };
            // One that cannot be set is as good as late.
            let _ = timer.no_later_than(at);
            link.park(core.wants_room());
            if left > 0 && !link.is_quiet() {
                left -= 1;
                some |= self.read(&mut state, &mut woken);
                continue;
            }
            // The look for room, behind the same barrier.
            if core.wants_room() {
                let pumped = core.pump(link);
                link.publish();
                if let Err(violation) = pumped {
                    woken.append(self.broke(&mut state, &violation.to_string()));
                }
            }
            break;
        }
        tell(state, woken);
        some
    }

    /// The connection is of no use any more: every call under way ends.
    pub(super) fn broke(&self, state: &mut State, why: &str) -> Woken {
        let mut woken = Woken::default();
        let Some(mut link) = state.link.take() else { return woken };
        self.over.store(true, Ordering::Relaxed); // Relaxed: as in `is_over`
        state.broken = Some(why.into());
        let (taken, put) = (link.end.taken(), link.end.tx.staged_end());
        state.core.break_off(
            |sent| match sent {
                None => Delivered::No,
                // How far it has taken what we sent; beyond that it cannot have got.
                Some(_) if put.wrapping_sub(taken) > put => Delivered::Unknown,
                Some(at) if put.wrapping_sub(at) >= put.wrapping_sub(taken) => Delivered::Yes,
                Some(_) => Delivered::No,
            },
            &mut woken,
        );
        link.unpark();
        link.unwatch(&state.set);
        for driver in &mut state.drivers {
            woken.tasks.extend(driver.waker.take());
        }
        woken
    }

    /// The last client handle is gone.
    pub(crate) fn close(&self) {
        if self.is_inherited() {
            return;
        }
        let mut state = lock(&self.state);
        let woken = self.broke(&mut state, "this client was closed");
        self.settle(state, woken);
    }

    /// The tokens of the calls that have news since this was asked last. True: there are some.
    #[cfg(feature = "python")]
    pub(crate) fn take_tokens(&self, into: &mut Vec<u64>) -> bool {
        into.append(&mut lock(&self.state).tokens);
        !into.is_empty()
    }

    /// Some call of an event loop has news.
    #[cfg(feature = "python")]
    pub(crate) fn has_tokens(&self) -> bool {
        !lock(&self.state).tokens.is_empty()
    }

    /// `listener` hears of the next news of a call, also if there is some already.
    #[cfg(feature = "python")]
    pub(crate) fn listen(&self, id: u64, listener: crate::rpc::core::news::Listener) {
        let mut woken = Woken::default();
        let mut state = lock(&self.state);
        state.core.listen(id, listener);
        if state.core.has_news(id) {
            state.core.tell(id, &mut woken);
        }
        tell(state, woken); // nothing was put or taken: whoever sleeps is armed as before
    }

    /// Somebody sleeps on the poll set from now on, or will look again before it matters. True: something
    /// came meanwhile.
    pub(crate) fn sleeps(&self) -> bool {
        let mut state = lock(&self.state);
        state.sleepers += 1;
        self.settle(state, Woken::default())
    }

    /// One sleeper less. The others stay armed.
    pub(crate) fn awakes(&self) {
        if self.is_inherited() {
            return; // its driving task was dropped; the parent sleeps on
        }
        let mut state = lock(&self.state);
        state.sleepers = state.sleepers.saturating_sub(1);
        if state.sleepers == 0
            && let Some(link) = &mut state.link
        {
            link.unpark();
        }
    }

    /// A driving task ends. Its callers look again, and see to another.
    pub(crate) fn leave(&self, is_it: impl Fn(&Driver) -> bool) {
        if self.is_inherited() {
            return;
        }
        let mut woken = Woken::default();
        self.with(|state| {
            state.drivers.retain(|driver| !is_it(driver));
            #[cfg(feature = "tokio")]
            {
                state.driven = None;
            }
            if state.link.is_some() {
                state.core.tell_all(&mut woken);
            }
        });
        woken.wake_tasks();
    }
}

/// Lets the lock go, and wakes whoever has news.
fn tell(mut state: MutexGuard<'_, State>, mut woken: Woken) {
    state.tokens.append(&mut woken.tokens);
    drop(state);
    woken.wake_tasks();
}
