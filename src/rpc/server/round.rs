//! One round: up to 64 frames of one client, fewer of dear ones, read, started, answered, published at once.

use crate::notify::awake::is_on_our_cpu;
use crate::rpc::core::session::{Heard, Incoming, Pending, Reply};
use crate::rpc::error::Reason;
use crate::rpc::in_place::{self, Left};
use crate::rpc::server::floor::{Call, First, Floor, ROUND, Starter};
use crate::rpc::server::peer::{Peer, Work};
use crate::rpc::stats::count;
use crate::rpc::wire::{CHUNKED, HEAD_LEN, Head, Kind, RAW, STREAM, Violation};
use std::sync::Arc;
use std::time::Instant;

/// What starting or stopping a task costs, in frames of the cheapest sort.
const TASK: usize = 15;
/// Frames whose answers go out together where the client runs on a cpu of its own: it works on these while
/// the next ones are made. On our cpu it could not begin before we are done.
const BATCH: usize = 16;
/// Bytes that cost as much as such a frame.
const BYTES: usize = 4096;

/// A call with its arguments in a buffer of ours.
struct Turn<'a> {
    call: Incoming,
    args: &'a [u8],
    deadline: Option<Instant>,
    since: Instant,
}

impl Floor {
    /// How many frames there were. `None`: the client is gone.
    pub(super) fn round(&mut self, index: u32, starter: &mut dyn Starter) -> Option<usize> {
        let (peer, epoch) = self.guest(index).map(|g| (Arc::clone(&g.peer), g.epoch))?;
        let mut work = peer.check_out()?;
        work.link.unpark();
        let mut bytes = std::mem::take(&mut self.bytes);
        let (mut frames, mut spent) = (0, 0);
        // One look at the clock between two calls serves both.
        let mut now = None;
        let read = loop {
            // Whatever a client sends, the others wait for no more than a round of cheap frames.
            if spent >= ROUND {
                break Ok(());
            }
            if frames > 0 && frames % BATCH == 0 && !is_on_our_cpu(work.link.end.theirs()) {
                work.link.publish();
            }
            if self.engine.in_place {
                let since = *now.get_or_insert_with(Instant::now);
                match self.in_place(&peer, &mut work, since, starter) {
                    Ok(None) => {}
                    Ok(Some((then, len))) => {
                        frames += 1;
                        spent += 1 + len / BYTES;
                        now = Some(then);
                        continue;
                    }
                    Err(violation) => break Err(violation),
                }
            }
            match work.link.next(&mut bytes) {
                Ok(None) => break Ok(()),
                Ok(Some(head)) => {
                    frames += 1;
                    let since = *now.get_or_insert_with(Instant::now);
                    let owner = (index, epoch);
                    let body = &bytes[HEAD_LEN..];
                    let tasks = work.session.running();
                    spent += 1 + body.len() / BYTES;
                    match self.frame(&peer, owner, &mut work, head, body, since, starter) {
                        Ok(then) => now = then,
                        Err(violation) => break Err(violation),
                    }
                    if work.session.running() != tasks {
                        spent += TASK;
                    }
                }
                Err(violation) => break Err(violation),
            }
        };
        self.unheard += spent;
        // A burst of long messages must not be held for ever.
        if bytes.capacity() > 1 << 20 {
            bytes = Vec::new();
        }
        self.bytes = bytes;
        match read {
            Ok(()) => self.done(index, &peer, work).then_some(frames),
            Err(violation) => {
                self.throw_out(index, Some(work), &violation);
                None
            }
        }
    }

    /// Checks the work in again. False: the client had to be thrown out. A client that is parked does not
    /// know yet that we wait for it to read: the look that follows parks anew.
    fn done(&mut self, index: u32, peer: &Arc<Peer>, work: Box<Work>) -> bool {
        let found = peer.check_in(work, |work| {
            let session = &work.session;
            Ok((!session.pending.is_empty() && session.reads(), session.wants_room()))
        });
        match found {
            Ok((waits, wants_room)) => {
                if wants_room {
                    self.heat(index);
                }
                if let Some(guest) = self.guest(index)
                    && waits
                    && !std::mem::replace(&mut guest.waits, true)
                {
                    self.waiting.push_back(index);
                }
                true
            }
            Err((work, violation)) => {
                self.throw_out(index, Some(work), &violation);
                false
            }
        }
    }

    /// One frame. What it returns is the time, if it was looked at.
    #[allow(clippy::too_many_arguments, reason = "the buffers are borrowed apart")]
    fn frame(
        &mut self,
        peer: &Arc<Peer>,
        owner: (u32, u32),
        work: &mut Work,
        head: Head,
        body: &[u8],
        since: Instant,
        starter: &mut dyn Starter,
    ) -> Result<Option<Instant>, Violation> {
        match work.session.hear(head, body)? {
            Heard::Call(mut call) => {
                count(&self.engine.counters.calls);
                let chunked = call.chunked.take();
                let deadline = call.deadline.and_then(|left| since.checked_add(left));
                let now = work.session.pending.is_empty()
                    && work.session.reads()
                    && self.engine.may_start();
                if now {
                    let args = chunked.as_deref().unwrap_or(body);
                    return self.start(
                        peer,
                        owner,
                        work,
                        Turn { call, args, deadline, since },
                        starter,
                    );
                }
                if let Some(at) = deadline {
                    self.timers.add(at, key(owner), call.id);
                }
                let args = chunked.unwrap_or_else(|| body.to_vec());
                work.session.pending.push_back(Pending { call, args, deadline, since });
            }
            Heard::Stop(stop) => {
                stop.stop();
                self.refuse_running(work, head.id, Reason::Cancelled, since)?;
            }
            Heard::Credit => {}
            Heard::Nothing => {
                if head.kind == Kind::Cancel
                    && let Some(pending) = work.session.take_pending(head.id)
                {
                    self.refuse(work, &pending.call, Reason::Cancelled, pending.since)?;
                }
            }
        }
        Ok(None)
    }

    /// Answers the next frame where it lies, if it is a call for that: the time, and the length of its
    /// arguments. `None`: it is not.
    fn in_place(
        &mut self,
        peer: &Arc<Peer>,
        work: &mut Work,
        since: Instant,
        starter: &mut dyn Starter,
    ) -> Result<Option<(Instant, usize)>, Violation> {
        let Some((head, record)) = work.link.peek()? else { return Ok(None) };
        let method = self.engine.methods.get(usize::from(head.method));
        let fits = head.kind == Kind::Call
            && method.is_some_and(|method| method.in_place)
            && !head.has(STREAM)
            && !head.has(CHUNKED)
            && work.session.reads()
            && self.engine.may_start();
        if !fits {
            return Ok(None);
        }
        let Work { link, session } = work;
        let (args, tx) = link.in_place(&record);
        let Heard::Call(call) = session.hear(head, args)? else { return Ok(None) };
        count(&self.engine.counters.calls);
        let (id, raw, len) = (call.id, call.raw, args.len());
        let deadline = call.deadline.and_then(|left| since.checked_add(left));
        let asked =
            Call { peer, id, method: call.method, raw, mixed: call.mixed, deadline, args, since };
        let mut reply = in_place::Reply::new(tx, self.engine.limits.max_message);
        let error = match starter.in_place(asked, &mut reply) {
            Ok(()) => match reply.finish(Head { flags: RAW, ..Head::new(Kind::Result, id) }) {
                Ok(()) => {
                    session.answered(call.charge);
                    None
                }
                Err(Left::Aside(body)) => {
                    let reply = Reply::Value { raw: true, body: &body };
                    session.answer(link, id, call.charge, reply)?;
                    None
                }
                Err(Left::TooLarge(len)) => Some(self.engine.too_large(len)),
            },
            Err(error) => Some(error),
        };
        if let Some(error) = &error {
            session.answer(link, id, call.charge, Reply::Error(error))?;
        }
        link.release(&record);
        let now = Instant::now();
        self.engine.counters.answered(now.duration_since(since), error.is_some());
        Ok(Some((now, len)))
    }

    fn start(
        &mut self,
        peer: &Arc<Peer>,
        owner: (u32, u32),
        work: &mut Work,
        turn: Turn<'_>,
        starter: &mut dyn Starter,
    ) -> Result<Option<Instant>, Violation> {
        let Turn { call, args, deadline, since } = turn;
        let Some(entry) = self.engine.methods.get(usize::from(call.method)) else {
            self.refuse(work, &call, Reason::UnknownMethod, since)?;
            return Ok(None);
        };
        if entry.stream != call.stream {
            self.refuse(work, &call, Reason::NotAStream, since)?;
            return Ok(None);
        }
        if deadline.is_some_and(|at| at <= since) {
            self.refuse(work, &call, Reason::Deadline, since)?;
            return Ok(None);
        }
        let (id, charge, raw, mixed) = (call.id, call.charge, call.raw, call.mixed);
        let asked = Call { peer, id, method: call.method, raw, mixed, deadline, args, since };
        match starter.start(asked) {
            First::Done(reply) => {
                let now = Instant::now();
                let mut room = Vec::new();
                let reply = self.engine.bounded(reply, &mut room);
                work.session.answer(&mut work.link, id, charge, reply)?;
                let failed = matches!(reply, Reply::Error(_));
                self.engine.counters.answered(now.duration_since(since), failed);
                Ok(Some(now))
            }
            First::Running(stop) => {
                work.session.started(id, charge, call.stream, stop);
                if let Some(at) = deadline {
                    self.timers.add(at, key(owner), id);
                }
                Ok(None)
            }
        }
    }

    /// Answers a call that no handler was started for.
    fn refuse(
        &self,
        work: &mut Work,
        call: &Incoming,
        reason: Reason,
        since: Instant,
    ) -> Result<(), Violation> {
        let body = self.engine.refusal(reason, reason.text());
        work.session.answer(&mut work.link, call.id, call.charge, Reply::Error(&body))?;
        self.engine.counters.answered(since.elapsed(), true);
        Ok(())
    }

    /// Answers a call whose handler was stopped.
    fn refuse_running(
        &self,
        work: &mut Work,
        id: u64,
        reason: Reason,
        since: Instant,
    ) -> Result<(), Violation> {
        let body = self.engine.refusal(reason, reason.text());
        if work.session.finish(&mut work.link, id, Reply::Error(&body))? {
            self.engine.counters.answered(since.elapsed(), true);
        }
        Ok(())
    }

    /// Starts calls that waited for their turn, one of each client after the other. True: some.
    pub(super) fn start_waiting(&mut self, starter: &mut dyn Starter) -> bool {
        let mut some = false;
        // Bounded: handlers that finish at once must not keep the rounds from reading.
        for _ in 0..ROUND {
            self.engine.set_backlog(!self.waiting.is_empty() || self.leaving.is_some());
            if !self.engine.may_start() {
                break;
            }
            let Some(index) = self.waiting.pop_front() else { break };
            let Some(guest) = self.guest(index) else { continue };
            guest.waits = false;
            let (peer, owner) = (Arc::clone(&guest.peer), (index, guest.epoch));
            let Some(mut work) = peer.check_out() else { continue };
            let next = if work.session.reads() { work.session.pending.pop_front() } else { None };
            let started = next.map_or(Ok(()), |pending| {
                some = true;
                let Pending { call, args, deadline, since } = pending;
                if deadline.is_some_and(|at| at <= Instant::now()) {
                    return self.refuse(&mut work, &call, Reason::Deadline, since);
                }
                work.session.check_new(call.id)?;
                let turn = Turn { call, args: &args, deadline, since };
                self.start(&peer, owner, &mut work, turn, starter).map(drop)
            });
            match started {
                Ok(()) => {
                    self.done(index, &peer, work);
                }
                Err(violation) => self.throw_out(index, Some(work), &violation),
            }
        }
        some
    }

    /// Ends the calls whose deadlines are over.
    pub(super) fn expire(&mut self) {
        if self.timers.next().is_none() {
            return;
        }
        let now = Instant::now();
        while let Some((owner, id)) = self.timers.due(now) {
            let (index, epoch) = ((owner & 0xffff_ffff) as u32, (owner >> 32) as u32);
            let Some(guest) = self.guest(index).filter(|guest| guest.epoch == epoch) else {
                continue;
            };
            let peer = Arc::clone(&guest.peer);
            let Some(mut work) = peer.check_out() else { continue };
            let ended = if let Some(pending) = work.session.take_pending(id) {
                self.refuse(&mut work, &pending.call, Reason::Deadline, pending.since)
            } else if let Some(stop) = work.session.stop_of(id) {
                stop.stop();
                self.refuse_running(&mut work, id, Reason::Deadline, now)
            } else {
                Ok(()) // answered
            };
            match ended {
                Ok(()) => {
                    self.done(index, &peer, work);
                }
                Err(violation) => self.throw_out(index, Some(work), &violation),
            }
        }
    }

    /// Forgets the deadlines of calls that are over. Not while a client is checked out.
    pub(super) fn tidy(&mut self) {
        let guests = &self.guests;
        self.timers.tidy(|owner, id| {
            let guest = guests.get((owner & 0xffff_ffff) as usize).and_then(Option::as_ref);
            guest.filter(|guest| u64::from(guest.epoch) == owner >> 32).is_some_and(|guest| {
                guest.peer.with(|work| work.session.is_open(id)).unwrap_or(false)
            })
        });
    }
}

fn key((index, epoch): (u32, u32)) -> u64 {
    u64::from(index) | u64::from(epoch) << 32
}

impl Reason {
    fn text(self) -> &'static str {
        match self {
            Reason::UnknownMethod => "no method of that number; connect anew",
            Reason::NotAStream => {
                "a stream is called by stream or stream_method, a single result by call or call_method"
            }
            Reason::Deadline => "the deadline was over before the handler was done",
            Reason::Cancelled => "the caller gave the call up",
            _ => "the call was refused",
        }
    }
}
