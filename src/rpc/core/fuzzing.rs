//! Bytes as programs, for the tests and for the targets in `fuzz/`: what a hostile peer sends, between what
//! our own side does. Everything is counted again after every step; a panic is a bug.

use super::client::ClientCore;
use super::news::{Listener, News, Outcome, Request, Woken};
use super::port::Port;
use super::session::{Heard, Incoming, Pending, Reply, Session, Stop};
use crate::rpc::error::Delivered;
use crate::rpc::limits::{Grant, Limits};
use crate::rpc::wire::{HEAD_LEN, Head, Kind, RAW, STREAM, Violation};
use crate::sync::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A program; behind its end there are zeros.
struct Program<'a> {
    bytes: &'a [u8],
}

impl Program<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        *first
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte())
    }

    fn body(&mut self) -> Vec<u8> {
        let len = match self.byte() {
            255 => 4 * usize::from(self.byte()),
            len => usize::from(len % 48),
        };
        vec![self.byte(); len]
    }

    /// A frame of any kind; ids are few, so that they meet. One in eight is any sixteen bytes.
    fn frame(&mut self, ids: &[u64]) -> Result<(Head, Vec<u8>), Violation> {
        let how = self.byte();
        if how.is_multiple_of(8) {
            return Ok((Head::from_bytes(self.array())?, self.body()));
        }
        let [kind, flags, method, aux, id] = self.array();
        let id = match ids.get(usize::from(id % 16)) {
            Some(known) => *known,
            None => u64::from(id % 8),
        };
        let aux = match aux % 4 {
            0 => u32::MAX,
            1 => u32::from_le_bytes(self.array()),
            _ => u32::from(aux),
        };
        let mut head = Head::new(Kind::Call, id).to_bytes();
        head[0] = kind % 11;
        head[1] = flags & (0x1f | how);
        head[2] = method;
        head[4..8].copy_from_slice(&aux.to_le_bytes());
        Ok((Head::from_bytes(head)?, self.body()))
    }
}

/// A way out that is full until somebody makes room.
struct Narrow {
    room: usize,
    put: u64,
}

impl Port for Narrow {
    fn put(&mut self, _: Head, body: &[u8]) -> Result<bool, Violation> {
        let len = HEAD_LEN + body.len();
        if len > self.room {
            return Ok(false);
        }
        assert!(body.len() <= self.max_body());
        (self.room, self.put) = (self.room - len, self.put + len as u64);
        Ok(true)
    }

    fn max_body(&self) -> usize {
        48
    }

    fn position(&self) -> u64 {
        self.put
    }
}

fn limits(program: &mut Program<'_>) -> Limits {
    let [pending, message, inflight, unread] = program.array();
    let max_message = 16 + u64::from(message);
    Limits {
        max_pending: 1 + u32::from(pending % 8),
        max_message,
        max_inflight_bytes: max_message + 4 * u64::from(inflight),
        max_unread_bytes: 8 * u64::from(unread),
        ..Limits::default()
    }
}

#[derive(Debug)]
struct Counted(Arc<AtomicU64>);

impl Stop for Counted {
    fn stop(self: Box<Self>) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Handlers at work at once.
const CONCURRENCY: usize = 4;

struct House {
    session: Session,
    port: Narrow,
    /// Handlers that nobody stopped and that are not done, by id.
    running: Vec<(u64, bool)>,
    alive: Arc<AtomicU64>,
    since: Instant,
}

impl House {
    fn heard(&mut self, head: Head, body: Vec<u8>) -> Result<(), Violation> {
        match self.session.hear(head, &body)? {
            Heard::Call(mut call) => {
                let args = call.chunked.take().unwrap_or(body);
                let now = self.session.pending.is_empty() && self.session.reads();
                if now && self.running.len() < CONCURRENCY {
                    return self.start(&call);
                }
                let deadline = call.deadline.and_then(|left| self.since.checked_add(left));
                self.session.pending.push_back(Pending { call, args, deadline, since: self.since });
            }
            Heard::Stop(stop) => {
                stop.stop();
                self.running.retain(|(id, _)| *id != head.id);
                self.session.finish(&mut self.port, head.id, Reply::Error(b"cancelled"))?;
            }
            Heard::Credit => {}
            Heard::Nothing => {
                if head.kind == Kind::Cancel
                    && let Some(pending) = self.session.take_pending(head.id)
                {
                    let Incoming { id, charge, .. } = pending.call;
                    self.session.answer(&mut self.port, id, charge, Reply::Error(b"no"))?;
                }
            }
        }
        Ok(())
    }

    fn start(&mut self, call: &Incoming) -> Result<(), Violation> {
        let Incoming { id, charge, stream, .. } = *call;
        if call.method.is_multiple_of(3) {
            let body = &[7; 256][..usize::from(call.method % 256)];
            return self.session.answer(
                &mut self.port,
                id,
                charge,
                Reply::Value { raw: false, body },
            );
        }
        self.alive.fetch_add(1, Ordering::SeqCst);
        self.running.push((id, stream));
        self.session.started(id, charge, stream, Box::new(Counted(Arc::clone(&self.alive))));
        Ok(())
    }

    fn step(&mut self, program: &mut Program<'_>) -> Result<(), Violation> {
        let op = program.byte();
        let at = usize::from(program.byte());
        let one = self.running.get(at % self.running.len().max(1)).copied();
        match op % 16 {
            0 => {
                self.port.room = (self.port.room + 4 * at).min(1 << 12);
                self.session.pump(&mut self.port)?;
            }
            1 => {
                if self.session.reads()
                    && self.running.len() < CONCURRENCY
                    && let Some(pending) = self.session.pending.pop_front()
                {
                    self.session.check_new(pending.call.id)?;
                    self.start(&pending.call)?;
                }
            }
            2 => {
                if let Some((id, _)) = one {
                    self.running.retain(|(other, _)| *other != id);
                    self.alive.fetch_sub(1, Ordering::SeqCst);
                    let body = vec![9; at];
                    let reply = Reply::Value { raw: true, body: &body };
                    assert!(self.session.finish(&mut self.port, id, reply)?);
                }
            }
            3 | 4 => {
                if let Some((id, true)) = one
                    && self.session.may_send(id)
                {
                    self.session.item(&mut self.port, id, false, &vec![3; at])?;
                }
            }
            5 => {
                if let Some((id, _)) = one
                    && let Some(stop) = self.session.stop_of(id)
                {
                    stop.stop();
                    self.running.retain(|(other, _)| *other != id);
                    self.session.finish(&mut self.port, id, Reply::Error(b"late"))?;
                }
            }
            6 => self.session.say_goodbye(&mut self.port)?,
            _ => {
                let (head, body) = program.frame(&[])?;
                self.heard(head, body)?;
            }
        }
        Ok(())
    }
}

/// A client that sends anything, to the server's half.
pub(crate) fn session(bytes: &[u8]) {
    let mut program = Program { bytes };
    let limits = limits(&mut program);
    let port = Narrow { room: 4 * usize::from(program.byte()), put: 0 };
    let mut house = House {
        session: Session::new(&limits),
        port,
        running: Vec::new(),
        alive: Arc::default(),
        since: Instant::now(),
    };
    let most = 17 * limits.max_pending as usize + 1;
    while !program.bytes.is_empty() {
        if house.step(&mut program).is_err() {
            break;
        }
        house.session.audit();
        assert!(house.session.waiting() <= most, "{} messages wait", house.session.waiting());
        assert_eq!(house.running.len(), house.session.running());
        assert_eq!(house.running.len() as u64, house.alive.load(Ordering::SeqCst));
    }
    house.session.stop_all().into_iter().for_each(|stop| stop.stop());
    assert_eq!(house.alive.load(Ordering::SeqCst), 0, "a handler that nobody can stop");
}

struct Caller {
    core: ClientCore,
    port: Narrow,
    ids: Vec<u64>,
    max_message: usize,
    now: Instant,
    woken: Woken,
}

impl Caller {
    fn take(&mut self, at: usize) -> Result<bool, Violation> {
        if self.ids.is_empty() {
            return Ok(false);
        }
        let at = at % self.ids.len();
        let news = self.core.take(&mut self.port, self.ids[at])?;
        match &news {
            Some(News::Over(_)) => drop(self.ids.swap_remove(at)),
            Some(News::Item(_)) => {}
            None => self.core.listen(self.ids[at], Listener::Token(self.ids[at])),
        }
        Ok(news.is_some())
    }

    fn step(&mut self, program: &mut Program<'_>) -> Result<(), Violation> {
        let op = program.byte();
        let at = usize::from(program.byte());
        match op % 16 {
            0 => {
                self.port.room = (self.port.room + 4 * at).min(1 << 12);
                self.core.pump(&mut self.port)?;
            }
            1..=3 => {
                let body = vec![5; at.min(self.max_message)];
                let flags = if op & 16 != 0 { STREAM } else { op >> 7 & RAW };
                let after = Duration::from_millis(u64::from(op >> 5));
                let deadline = (op & 32 != 0).then(|| self.now + after);
                let request = Request { method: 1, flags, deadline, in_place: false };
                self.ids.push(self.core.begin(&mut self.port, request, &body)?);
            }
            4 | 5 => drop(self.take(at)?),
            6 => {
                if !self.ids.is_empty() {
                    let id = self.ids.swap_remove(at % self.ids.len());
                    self.core.abandon(&mut self.port, id)?;
                }
            }
            7 => {
                self.now += Duration::from_millis(at as u64 % 4);
                self.core.expire(&mut self.port, self.now, &mut self.woken)?;
            }
            _ => {
                let (head, body) = program.frame(&self.ids)?;
                self.core.hear(head, &body, &mut self.woken)?;
            }
        }
        Ok(())
    }
}

/// A server that sends anything, to the client's half.
pub(crate) fn client(bytes: &[u8]) {
    let mut program = Program { bytes };
    let limits = limits(&mut program);
    let port = Narrow { room: 4 * usize::from(program.byte()), put: 0 };
    let mut caller = Caller {
        core: ClientCore::new(Grant::from(&limits)),
        port,
        ids: Vec::new(),
        max_message: usize::try_from(limits.max_message).unwrap_or(usize::MAX),
        now: Instant::now(),
        woken: Woken::default(),
    };
    while !program.bytes.is_empty() && caller.ids.len() < 64 {
        if caller.step(&mut program).is_err() {
            break;
        }
        caller.core.audit();
        let held = caller.core.held();
        let most = (limits.max_pending as usize + 64) * 18 * caller.max_message;
        assert!(held <= most, "{held} bytes of answers");
    }
    // It breaks, as every connection does; each call has its end.
    caller.core.break_off(|_| Delivered::Unknown, &mut caller.woken);
    caller.port.room = usize::MAX >> 1;
    for id in std::mem::take(&mut caller.ids) {
        loop {
            match caller.core.take(&mut caller.port, id) {
                Ok(Some(News::Item(_))) => {}
                Ok(Some(News::Over(outcome))) => break drop::<Outcome>(outcome),
                other => panic!("a call without an outcome: {other:?}"),
            }
        }
    }
    caller.core.audit();
    caller.core.assert_empty();
}
