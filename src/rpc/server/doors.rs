//! Who comes, who goes, and how the server ends.

use crate::rpc::connect::Made;
use crate::rpc::core::session::Session;
use crate::rpc::front::Arrival;
use crate::rpc::hello::{Welcome, refusal};
use crate::rpc::link::{BELL, FRONT, LIFELINE, OWNER, PIDFD, TIMER, WHAT};
use crate::rpc::server::engine::Ending;
use crate::rpc::server::floor::{Floor, Guest};
use crate::rpc::server::peer::{Peer, Work};
use crate::rpc::stats::count;
use crate::rpc::wire::Violation;
use crate::sync::Ordering;
use crate::sys::failpoint::failpoint;
use crate::sys::fd::Fd;
use crate::sys::fdpass;
use crate::sys::poll::Interest;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Callers taken in by one look; the others come with the next. Each costs as much as a hundred calls.
const ARRIVALS: usize = 1;
/// When somebody left, or was thrown out, nobody is taken in for so long, or who comes and goes would have
/// the server for most of the time. Only where others called meanwhile.
const REST: Duration = Duration::from_millis(4);
/// The same where there is no descriptor left for a caller: who gives one back may be no client of ours,
/// and nothing tells of it.
const BESET: Duration = Duration::from_millis(100);

impl Floor {
    /// Takes in what fired.
    pub(super) fn harvest(&mut self) {
        let mut keys = std::mem::take(&mut self.keys);
        keys.clear();
        // The descriptor makes no new edge for what is left in the set: that is for the next look.
        self.more = false;
        while let Ok((_, true)) = self.engine.set.collect(&mut keys, Some(Duration::ZERO)) {
            if keys.len() > 4096 {
                self.more = true;
                break;
            }
        }
        let mut called = false;
        for &key in &keys {
            let index = (key & !WHAT) as u32;
            match key & WHAT {
                BELL => {
                    let peer = self.guest(index).map(|guest| Arc::clone(&guest.peer));
                    if let Some(peer) = peer {
                        peer.with(|work| work.link.rung());
                        self.heat_first(index);
                    }
                }
                LIFELINE | PIDFD => self.close(index, None),
                FRONT => called = true,
                TIMER => self.timer.fired(), // `look` ends what is over
                OWNER => {
                    self.owner_armed = false;
                    // A fault: out of descriptors at the wake door; the next look tries again.
                    let _ = self.engine.with_claim(|claim| claim.endpoint.harvest());
                }
                _ => {}
            }
        }
        self.keys = keys;
        // Last: a newcomer gets the place of one that left, whose lifeline and pidfd both fired.
        if called && self.rests.is_none() {
            self.let_in();
        }
    }

    /// Takes callers in, and turns those away for whom there is no place.
    fn let_in(&mut self) {
        for _ in 0..ARRIVALS {
            let refusal = refusal(Welcome::TooManyFiles);
            let arrival = self.engine.with_claim(|claim| claim.door.accept(&refusal));
            match arrival.unwrap_or(Arrival::Nobody) {
                Arrival::Nobody => return,
                Arrival::Caller { conn, pid, uid } => self.welcome(conn, (pid, uid)),
                Arrival::Stranger { .. } | Arrival::TooManyFiles => {
                    count(&self.engine.counters.refused);
                }
                Arrival::Beset => return self.leave_door(BESET),
            }
        }
        self.more = true;
    }

    fn welcome(&mut self, conn: Fd, who: (u32, u32)) {
        let clients = self.engine.counters.clients.load(Ordering::Relaxed); // Relaxed: ours alone
        if clients >= u64::from(self.engine.limits.max_clients) {
            return self.turn_away(&conn, Welcome::Full);
        }
        failpoint!("rpc.accepted");
        let index = self.free.last().copied().unwrap_or(self.guests.len() as u32);
        let linked = Made::new(conn, self.engine.geometry).and_then(|made| {
            made.hand_over(&self.engine.hello, &self.engine.set, u64::from(index))
        });
        let link = match linked {
            Ok(link) => link,
            // Out of descriptors or memory, or it hung up again.
            Err((conn, _)) => return self.turn_away(&conn, Welcome::TooManyFiles),
        };
        self.free.pop();
        let work = Work { link, session: Session::new(&self.engine.limits) };
        let peer = Peer::new(Arc::clone(&self.engine), who, work);
        self.epochs = self.epochs.wrapping_add(1);
        let (epoch, came) = (self.epochs, self.frames);
        let guest = Guest { peer, listed: false, waits: false, epoch, came, frames: 0 };
        if index as usize == self.guests.len() {
            self.guests.push(Some(guest));
        } else {
            self.guests[index as usize] = Some(guest);
        }
        count(&self.engine.counters.clients);
        self.heat(index);
    }

    fn turn_away(&mut self, conn: &Fd, why: Welcome) {
        count(&self.engine.counters.refused);
        let _ = fdpass::send_parcel(conn, &refusal(why), &[]); // it sees the hang-up at least
    }

    /// A client that broke the protocol.
    pub(super) fn throw_out(&mut self, index: u32, work: Option<Box<Work>>, _: &Violation) {
        count(&self.engine.counters.violations);
        self.close(index, work);
    }

    /// A client is gone: its handlers are stopped, its memory is freed.
    pub(super) fn close(&mut self, index: u32, work: Option<Box<Work>>) {
        let Some(guest) = self.guests.get_mut(index as usize).and_then(Option::take) else {
            return;
        };
        self.free.push(index);
        let (work, stops) = guest.peer.part(work);
        if let Some(work) = work {
            work.link.unwatch(&self.engine.set);
        }
        failpoint!("rpc.parted");
        stops.into_iter().for_each(|stop| stop.stop());
        let left = self.engine.counters.clients.fetch_sub(1, Ordering::Relaxed); // Relaxed: ours alone
        if left > 1 && self.frames - guest.came > guest.frames {
            self.leave_door(REST);
        } else if self.rests.is_some() {
            self.rests = Some(Instant::now()); // what it gave back may be what a caller waits for
        }
        for list in [&mut self.hot, &mut self.waiting] {
            list.retain(|other| *other != index);
        }
        self.warm.retain(|other| *other != index);
    }

    /// Nobody is taken in for so long, nor for longer if that is so already.
    fn leave_door(&mut self, rest: Duration) {
        let until = Instant::now() + rest;
        self.rests = Some(self.rests.map_or(until, |already| already.min(until)));
        self.engine.with_claim(|claim| self.engine.set.remove(claim.door.fd()));
    }

    /// Callers are taken in again, if it is time.
    pub(super) fn end_rest(&mut self) {
        if self.rests.is_some_and(|until| until <= Instant::now()) {
            self.rests = None;
            let set = &self.engine.set;
            let watched =
                self.engine.with_claim(|claim| set.add(claim.door.fd(), FRONT, Interest::Level));
            if matches!(watched, Some(Err(_))) {
                self.leave_door(BESET); // no memory for it
            }
        }
    }

    /// Whether the server is over, after what others asked for was done.
    pub(super) fn check_ending(&mut self) -> bool {
        let broken: Vec<u32> = match self.engine.take_broken() {
            true => (0..self.guests.len() as u32)
                .filter(|&index| self.guest(index).is_some_and(|guest| guest.peer.is_broken()))
                .collect(),
            false => Vec::new(),
        };
        for index in broken {
            count(&self.engine.counters.violations);
            self.close(index, None);
        }
        if self.engine.is_removed() {
            self.engine.ask_to_end(Ending::Drain(self.engine.grace));
        }
        let Some(ending) = self.engine.ending() else { return false };
        if let Ending::Drain(grace) = ending {
            let now = Instant::now();
            if self.leaving.is_none() {
                self.leave();
            }
            let until = now.checked_add(grace);
            self.leaving = [self.leaving, until].into_iter().flatten().min();
            let late = self.leaving.is_some_and(|at| at <= now);
            if !late && !self.is_idle() {
                return false;
            }
        }
        self.end();
        true
    }

    /// Gives the name back and tells the clients; a successor may come at once.
    fn leave(&mut self) {
        self.engine.give_name_back();
        failpoint!("rpc.leaving");
        for index in 0..self.guests.len() as u32 {
            let Some(guest) = self.guest(index) else { continue };
            guest.peer.with(|work| {
                let _ = work.session.say_goodbye(&mut work.link); // a violation shows at the next look
                work.link.publish();
            });
            self.heat(index); // parked anew, if there was no room
        }
    }

    /// Nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.guests.iter().flatten().all(|guest| {
            guest.peer.with(|work| work.session.is_idle() && work.link.is_quiet()).unwrap_or(true)
        })
    }

    /// Everybody out.
    fn end(&mut self) {
        self.leave();
        for index in 0..self.guests.len() as u32 {
            self.close(index, None);
        }
        self.engine.set_ended();
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        if !self.engine.is_inherited() && !self.engine.has_ended() {
            self.end();
        }
    }
}
