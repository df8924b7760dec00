//! The server's half of a connection, without I/O: which calls of one client are read, started and
//! answered, and whether the client keeps to what it was granted.

use super::client::FIRST_CREDIT;
use super::port::{Outbox, Partial, Port, Sent};
use crate::rpc::limits::{Grant, Limits};
use crate::rpc::wire::{CHUNKED, Head, Kind, MIXED, RAW, STREAM, Violation};
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

#[cfg(any(test, fuzzing))]
mod audit;

/// Bytes of stream items that may be on their way; one item may always.
const STREAM_WINDOW: u64 = 1 << 20;

/// A call as it was read.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) id: u64,
    pub(crate) method: u16,
    pub(crate) raw: bool,
    pub(crate) stream: bool,
    pub(crate) mixed: bool,
    pub(crate) deadline: Option<Duration>,
    /// Bytes of arguments, which it is charged for until it is answered.
    pub(crate) charge: u64,
    /// The arguments, if they came in chunks; else they are in the frame.
    pub(crate) chunked: Option<Vec<u8>>,
}

/// A call that waits for its turn.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) call: Incoming,
    pub(crate) args: Vec<u8>,
    pub(crate) deadline: Option<Instant>,
    /// When it was read.
    pub(crate) since: Instant,
}

/// Stops a handler.
pub(crate) trait Stop: Send + std::fmt::Debug {
    /// The caller is gone or its deadline is over; nobody reads the answer. Never waits, and calls
    /// nothing of the server before it returns.
    fn stop(self: Box<Self>);
}

#[derive(Debug)]
struct Running {
    charge: u64,
    stop: Option<Box<dyn Stop>>,
    items: Option<Window>,
}

/// What a stream may send.
#[derive(Debug, Default)]
struct Window {
    credit: u32,
    /// Sizes of the items that are not credited again, the oldest first.
    out: VecDeque<u64>,
    bytes: u64,
}

/// What a frame asks of the driver.
#[derive(Debug)]
pub(crate) enum Heard {
    Call(Incoming),
    /// The client gave a call up that had been started. Stop it outside of all locks.
    Stop(Box<dyn Stop>),
    /// A stream has credit again.
    Credit,
    Nothing,
}

/// How a call ends, or what a stream yields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply<'a> {
    Value { raw: bool, body: &'a [u8] },
    Error(&'a [u8]),
    End,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Session {
    grant: Grant,
    max_unread: usize,
    /// Read and not answered.
    calls: u32,
    /// Answered, but the answer waits for room. Until it is out the client cannot know that it may send
    /// another call, so one that does not read cannot make answers pile up.
    unread: u32,
    bytes: u64,
    running: HashMap<u64, Running>,
    pub(crate) pending: VecDeque<Pending>,
    outbox: Outbox,
    partial: Partial,
    partial_bytes: u64,
    said_goodbye: bool,
}

impl Session {
    pub(crate) fn new(limits: &Limits) -> Session {
        Session {
            grant: Grant::from(limits),
            max_unread: usize::try_from(limits.max_unread_bytes).unwrap_or(usize::MAX),
            calls: 0,
            unread: 0,
            bytes: 0,
            running: HashMap::new(),
            pending: VecDeque::new(),
            outbox: Outbox::default(),
            partial: Partial::default(),
            partial_bytes: 0,
            said_goodbye: false,
        }
    }

    /// Results wait for room in the ring.
    pub(crate) fn wants_room(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// The client reads its results, so that more may be made for it.
    pub(crate) fn reads(&self) -> bool {
        self.outbox.bytes() <= self.max_unread
    }

    /// Nothing of this client is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.calls == 0 && self.outbox.is_empty()
    }

    /// Calls read and not answered.
    pub(crate) fn calls(&self) -> u32 {
        self.calls
    }

    /// Takes one frame in.
    pub(crate) fn hear(&mut self, head: Head, body: &[u8]) -> Result<Heard, Violation> {
        match head.kind {
            Kind::Call => self.hear_call(head, body).map(Heard::Call),
            Kind::Chunk => self.hear_chunk(head.id, body),
            Kind::Cancel => Ok(self.hear_cancel(head.id)),
            Kind::Credit => Ok(self.hear_credit(head)),
            kind => Err(Violation::Direction(kind)),
        }
    }

    fn hear_call(&mut self, head: Head, body: &[u8]) -> Result<Incoming, Violation> {
        let chunks = self.partial.len(head.id) as u64;
        let chunked = match head.has(CHUNKED) {
            true => Some(self.partial.finish(head.id, body, self.grant.max_message)?),
            false if chunks > 0 => return Err(Violation::Chunk(head.id)),
            false => None,
        };
        self.partial_bytes -= chunks;
        let charge = chunks + body.len() as u64;
        if charge > self.grant.max_message {
            return Err(Violation::TooLong(self.grant.max_message));
        }
        if self.calls + self.unread >= self.grant.max_pending {
            return Err(Violation::TooManyCalls(self.grant.max_pending));
        }
        if self.bytes + self.partial_bytes + charge > self.grant.max_inflight_bytes {
            return Err(Violation::TooManyBytes(self.grant.max_inflight_bytes));
        }
        self.check_new(head.id)?;
        self.calls += 1;
        self.bytes += charge;
        Ok(Incoming {
            id: head.id,
            method: head.method,
            raw: head.has(RAW),
            stream: head.has(STREAM),
            mixed: head.has(MIXED),
            deadline: head.deadline(),
            charge,
            chunked,
        })
    }

    /// To be asked before a call is started that has waited for its turn: another one of its id may have
    /// been started meanwhile.
    pub(crate) fn check_new(&self, id: u64) -> Result<(), Violation> {
        match !self.running.is_empty() && self.running.contains_key(&id) {
            true => Err(Violation::Duplicate(id)),
            false => Ok(()),
        }
    }

    fn hear_chunk(&mut self, id: u64, body: &[u8]) -> Result<Heard, Violation> {
        self.partial.add(id, body, self.grant.max_message)?;
        self.partial_bytes += body.len() as u64;
        if self.bytes + self.partial_bytes > self.grant.max_inflight_bytes {
            return Err(Violation::TooManyBytes(self.grant.max_inflight_bytes));
        }
        let calls = (self.calls + self.unread) as usize + self.partial.count();
        if calls > self.grant.max_pending as usize {
            return Err(Violation::TooManyCalls(self.grant.max_pending));
        }
        Ok(Heard::Nothing)
    }

    fn hear_cancel(&mut self, id: u64) -> Heard {
        // Its chunks may be on their way still.
        self.partial_bytes -= self.partial.len(id) as u64;
        self.partial.forget(id);
        match self.running.get_mut(&id).and_then(|running| running.stop.take()) {
            Some(stop) => Heard::Stop(stop),
            None => Heard::Nothing, // answered already, pending (see `take_pending`), or never begun
        }
    }

    fn hear_credit(&mut self, head: Head) -> Heard {
        let Some(running) = self.running.get_mut(&head.id) else { return Heard::Nothing };
        let Some(window) = &mut running.items else { return Heard::Nothing };
        for _ in 0..head.aux {
            let Some(size) = window.out.pop_front() else { break };
            window.bytes -= size;
            window.credit += 1;
        }
        Heard::Credit
    }

    /// Takes a call out that waits for its turn.
    pub(crate) fn take_pending(&mut self, id: u64) -> Option<Pending> {
        let at = self.pending.iter().position(|pending| pending.call.id == id)?;
        self.pending.remove(at)
    }

    /// A handler did not finish at once.
    pub(crate) fn started(&mut self, id: u64, charge: u64, stream: bool, stop: Box<dyn Stop>) {
        let items = stream.then(|| Window { credit: FIRST_CREDIT, ..Window::default() });
        let before = self.running.insert(id, Running { charge, stop: Some(stop), items });
        debug_assert!(before.is_none(), "started without `check_new`");
    }

    /// Whether a started call is still wanted by its client.
    pub(crate) fn is_wanted(&self, id: u64) -> bool {
        self.running.get(&id).is_some_and(|running| running.stop.is_some())
    }

    /// Whether a call is waiting or running.
    pub(crate) fn is_open(&self, id: u64) -> bool {
        self.running.contains_key(&id) || self.pending.iter().any(|pending| pending.call.id == id)
    }

    /// Takes the means to stop a running call, whose deadline is over.
    pub(crate) fn stop_of(&mut self, id: u64) -> Option<Box<dyn Stop>> {
        self.running.get_mut(&id)?.stop.take()
    }

    /// Takes those of all.
    pub(crate) fn stop_all(&mut self) -> Vec<Box<dyn Stop>> {
        self.running.values_mut().filter_map(|running| running.stop.take()).collect()
    }

    /// Handlers at work.
    #[inline]
    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }

    /// Answers a call that was started. False: it was answered before.
    pub(crate) fn finish(
        &mut self,
        port: &mut impl Port,
        id: u64,
        reply: Reply<'_>,
    ) -> Result<bool, Violation> {
        let Some(running) = self.running.remove(&id) else { return Ok(false) };
        self.answer(port, id, running.charge, reply)?;
        Ok(true)
    }

    /// Answers a call that never ran beyond its first step.
    #[inline]
    pub(crate) fn answer(
        &mut self,
        port: &mut impl Port,
        id: u64,
        charge: u64,
        reply: Reply<'_>,
    ) -> Result<(), Violation> {
        let (kind, raw, body) = match reply {
            Reply::Value { raw, body } => (Kind::Result, raw, body),
            Reply::Error(body) => (Kind::Error, false, body),
            Reply::End => (Kind::End, false, &[][..]),
        };
        let head = Head { flags: if raw { RAW } else { 0 }, ..Head::new(kind, id) };
        // An error leaves it to the end of the connection, where what is not answered is counted.
        let sent = self.outbox.send(port, head, body)?;
        self.answered(charge);
        self.unread += u32::from(sent == Sent::Later);
        Ok(())
    }

    /// A call was answered, in place perhaps.
    #[inline]
    pub(crate) fn answered(&mut self, charge: u64) {
        self.calls -= 1;
        self.bytes -= charge;
    }

    /// Whether a stream may send another item now.
    pub(crate) fn may_send(&self, id: u64) -> bool {
        let window = self.running.get(&id).and_then(|running| running.items.as_ref());
        self.reads()
            && window.is_some_and(|window| {
                window.credit > 0 && (window.bytes < STREAM_WINDOW || window.out.is_empty())
            })
    }

    /// Sends an item of a stream.
    pub(crate) fn item(
        &mut self,
        port: &mut impl Port,
        id: u64,
        raw: bool,
        body: &[u8],
    ) -> Result<(), Violation> {
        let Some(window) = self.running.get_mut(&id).and_then(|running| running.items.as_mut())
        else {
            return Ok(());
        };
        window.credit = window.credit.saturating_sub(1);
        window.out.push_back(body.len() as u64);
        window.bytes += body.len() as u64;
        let head = Head { flags: if raw { RAW } else { 0 }, ..Head::new(Kind::Item, id) };
        self.outbox.send(port, head, body).map(drop)
    }

    /// Tells the client that no new calls are taken; once.
    pub(crate) fn say_goodbye(&mut self, port: &mut impl Port) -> Result<(), Violation> {
        if std::mem::replace(&mut self.said_goodbye, true) {
            return Ok(());
        }
        self.outbox.send(port, Head::new(Kind::Goodbye, 0), &[]).map(drop)
    }

    /// Sends what has waited for room.
    pub(crate) fn pump(&mut self, port: &mut impl Port) -> Result<(), Violation> {
        if self.outbox.is_empty() {
            return Ok(());
        }
        let unread = &mut self.unread;
        self.outbox.flush(port, |head, _| {
            *unread -= u32::from(matches!(head.kind, Kind::Result | Kind::Error | Kind::End));
        })
    }
}
