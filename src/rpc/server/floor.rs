//! The driver's own part of a server: all clients, whose turn it is, and when to sleep.
//!
//! A client is *hot* when frames may lie in its ring, *warm* when a look found none and the server stays
//! awake, and else parked: its number stands, its doorbell fires when something comes. Only hot ones are
//! looked at, each for a round of 64 frames, in turn; a thousand idle clients cost nothing.

use crate::error::Fault;
use crate::notify::awake::Awake;
use crate::rpc::core::session::{self, Stop};
use crate::rpc::core::timers::Timers;
use crate::rpc::in_place::Reply;
use crate::rpc::link::TIMER;
use crate::rpc::server::engine::{Ending, Engine};
use crate::rpc::server::peer::Peer;
use crate::sys::fd::Fd;
use crate::sys::poll::Interest;
use crate::sys::timer::Timer;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// Frames of one client in one round.
pub(crate) const ROUND: usize = 64;
/// Clients that are looked at while the server stays awake.
const WARM: usize = 8;

/// A call, as a handler is given it.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) peer: &'a Arc<Peer>,
    pub(crate) id: u64,
    pub(crate) method: u16,
    /// The arguments are bytes as they are.
    pub(crate) raw: bool,
    /// Positional and keyword arguments together.
    pub(crate) mixed: bool,
    pub(crate) deadline: Option<Instant>,
    /// Our own copy.
    pub(crate) args: &'a [u8],
    /// When it was read.
    pub(crate) since: Instant,
}

/// What became of a handler's first step.
#[derive(Debug)]
pub(crate) enum First<'s> {
    /// It is done.
    Done(session::Reply<'s>),
    /// It goes on elsewhere, and will say [`Peer::finish`].
    Running(Box<dyn Stop>),
}

/// Runs handlers.
pub(crate) trait Starter {
    /// Runs the first step of a call. It must not wait, and not panic.
    fn start<'s>(&'s mut self, call: Call<'_>) -> First<'s>;

    /// Runs a handler in place: the arguments lie in the ring. `Err`: the body of an error.
    fn in_place(&mut self, call: Call<'_>, reply: &mut Reply<'_>) -> Result<(), Vec<u8>> {
        let _ = (call, reply);
        Err(Vec::new())
    }
}

/// What a pass over the clients found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// Frames: look again soon.
    Busy,
    /// Nothing, but it pays to look again.
    Awake,
    /// Nothing: [`Floor::park`], and sleep if that says so.
    Quiet,
    /// The server is over.
    Over,
}

/// One client on the floor.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) peer: Arc<Peer>,
    /// Hot or warm: it is in one of the lists.
    pub(crate) listed: bool,
    /// It has calls that wait for their turn, and is in that list.
    pub(crate) waits: bool,
    pub(crate) epoch: u32,
    /// The frames that all had sent when it came.
    pub(crate) came: u64,
    /// The frames that it has sent.
    pub(crate) frames: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Floor {
    pub(crate) engine: Arc<Engine>,
    pub(crate) timer: Timer,
    pub(crate) guests: Vec<Option<Guest>>,
    pub(crate) free: Vec<u32>,
    pub(crate) epochs: u32,
    pub(crate) hot: VecDeque<u32>,
    pub(crate) warm: Vec<u32>,
    /// Clients with calls that wait for their turn.
    pub(crate) waiting: VecDeque<u32>,
    pub(crate) timers: Timers,
    /// Whose frames were read last: who to stay awake for.
    pub(crate) last: Option<u32>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) keys: Vec<u64>,
    /// The park number of the owner's slot stands.
    pub(crate) owner_armed: bool,
    /// The front door is not watched until then: we are out of descriptors, or it is for the sake of those
    /// who are in.
    pub(crate) rests: Option<Instant>,
    /// The frames that were ever read.
    pub(crate) frames: u64,
    /// More fired than was taken in.
    pub(crate) more: bool,
    /// What was read since anybody who slept was heard, in frames of the cheapest sort.
    pub(crate) unheard: usize,
    /// When the grace is over.
    pub(crate) leaving: Option<Instant>,
    awake: Awake,
}

impl Floor {
    pub(crate) fn new(engine: Arc<Engine>) -> Result<Floor, Fault> {
        let timer =
            Timer::new().map_err(|err| Fault::os(&engine.object, "timerfd_create", &err))?;
        let watched = engine.set.add(timer.fd(), TIMER, Interest::Level);
        watched.map_err(|err| Fault::os(&engine.object, "epoll_ctl", &err))?;
        Ok(Floor {
            timer,
            guests: Vec::new(),
            free: Vec::new(),
            epochs: 0,
            hot: VecDeque::new(),
            warm: Vec::new(),
            waiting: VecDeque::new(),
            timers: Timers::default(),
            last: None,
            bytes: Vec::new(),
            keys: Vec::new(),
            owner_armed: false,
            rests: None,
            frames: 0,
            more: false,
            unheard: 0,
            leaving: None,
            awake: Awake::new(engine.awake),
            engine,
        })
    }

    /// The one descriptor that is readable when there is something to do.
    pub(crate) fn poll_fd(&self) -> &Arc<Fd> {
        self.engine.set.fd()
    }

    pub(crate) fn guest(&mut self, index: u32) -> Option<&mut Guest> {
        self.guests.get_mut(index as usize)?.as_mut()
    }

    /// Frames may lie in its ring.
    pub(crate) fn heat(&mut self, index: u32) {
        if let Some(guest) = self.guest(index)
            && !std::mem::replace(&mut guest.listed, true)
        {
            self.hot.push_back(index);
        }
    }

    /// The same for one that has slept: its turn is before those who had theirs a moment ago.
    pub(crate) fn heat_first(&mut self, index: u32) {
        if let Some(guest) = self.guest(index)
            && !std::mem::replace(&mut guest.listed, true)
        {
            self.hot.push_front(index);
        }
    }

    /// One pass: what fired (`harvest`), calls that waited for their turn, a round of every hot client.
    pub(crate) fn look(&mut self, harvest: bool, starter: &mut dyn Starter) -> Look {
        // Who slept is heard after a round of the others at the latest.
        if harvest || self.more || self.unheard >= ROUND {
            self.unheard = 0;
            self.harvest();
            // The timer is set when the server goes to sleep; one that never does looks at the clock.
            self.expire();
            self.end_rest();
        }
        if self.check_ending() {
            return Look::Over;
        }
        let mut busy = self.start_waiting(starter);
        if busy {
            self.unheard += ROUND; // as many may have been started
        }
        for index in std::mem::take(&mut self.warm) {
            self.hot.push_back(index);
        }
        for _ in 0..self.hot.len() {
            let Some(index) = self.hot.pop_front() else { break };
            match self.round(index, starter) {
                // Again, when all others had their round.
                Some(n) if n > 0 => {
                    busy = true;
                    self.last = Some(index);
                    self.frames += n as u64;
                    if let Some(guest) = self.guest(index) {
                        guest.frames += n as u64;
                    }
                    self.hot.push_back(index);
                }
                Some(_) => self.warm.push(index),
                None => {}
            }
        }
        self.tidy();
        if busy || self.more {
            self.awake.came();
            return Look::Busy;
        }
        if self.warm.len() <= WARM && self.stays() { Look::Awake } else { Look::Quiet }
    }

    /// Whether it pays to look again instead of sleeping.
    fn stays(&mut self) -> bool {
        let Some(peer) = self.last.and_then(|index| self.guest(index)).map(|g| Arc::clone(&g.peer))
        else {
            return false;
        };
        let awake = &mut self.awake;
        peer.with(|work| awake.stay(work.link.end.theirs())).unwrap_or(false)
    }

    /// Arms for everything. True: sleep now, until the descriptor is readable or somebody kicks.
    pub(crate) fn park(&mut self) -> bool {
        self.awake.parks();
        for index in std::mem::take(&mut self.warm) {
            let Some(guest) = self.guest(index) else { continue };
            guest.listed = false;
            let quiet = guest.peer.with(|work| {
                work.link.park(work.session.wants_room());
                let quiet = work.link.is_quiet();
                // The look for room, behind the same barrier. What waits for the client to read may go on
                // by it, which takes a round: nobody rings for what was taken before the number stood.
                let read = work.session.reads();
                let sent = !work.session.wants_room() || work.session.pump(&mut work.link).is_ok();
                work.link.publish();
                quiet && sent && read == work.session.reads()
            });
            if quiet == Some(false) {
                self.heat(index);
            }
        }
        if !self.owner_armed {
            let armed = self.engine.with_claim(|claim| claim.endpoint.begin().is_ok());
            self.owner_armed = armed == Some(true);
        }
        // A time that cannot be set is met by the next look.
        let next = [self.timers.next(), self.leaving, self.rests].into_iter().flatten().min();
        let _ = self.timer.no_later_than(next);
        self.hot.is_empty() && !self.check_ending_soon()
    }

    /// Something that another process or thread asked for needs a look.
    fn check_ending_soon(&self) -> bool {
        let removed = self.engine.is_removed();
        (self.leaving.is_none() && (removed || self.engine.ending().is_some()))
            // The last handler may have been done before it could know that somebody waits for that.
            || (self.leaving.is_some() && self.is_idle())
            || self.engine.ending() == Some(Ending::Stop)
            || (!self.waiting.is_empty() && self.engine.may_start())
    }
}
