//! Two halves, the ports between them, and those who call and serve: what `tests` runs programs on.

use super::client::ClientCore;
use super::news::{Answer, Listener, News, Outcome, Request, Woken};
use super::session::{Heard, Incoming, Pending, Reply, Session};
use super::tests::{Act, Flag, Pipe};
use crate::rpc::error::Delivered;
use crate::rpc::limits::{Grant, Limits};
use crate::rpc::wire::{Kind, STREAM, Violation};
use crate::sync::{AtomicBool, Ordering};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the owner of a call knows.
#[derive(Debug)]
struct Owner {
    id: u64,
    number: u64,
    /// How many items it will get, if it is a stream.
    stream: Option<u64>,
    got: u64,
    deadline: Option<Instant>,
    /// Left a listener, and was not told since.
    listens: bool,
}

/// A handler at work.
#[derive(Debug)]
struct Handler {
    id: u64,
    number: u64,
    /// Of how many items, and the next.
    stream: Option<(u64, u64)>,
    stopped: Arc<AtomicBool>,
}

/// Handlers at work at once.
const CONCURRENCY: usize = 3;

pub(super) struct World {
    limits: Limits,
    client: ClientCore,
    session: Session,
    requests: Pipe,
    responses: Pipe,
    base: Instant,
    now: Instant,
    owners: Vec<Owner>,
    handlers: Vec<Handler>,
    /// Calls that the server heard, and how many it has answered.
    heard: HashSet<u64>,
    answers: HashMap<u64, u32>,
    count: u64,
    broken: bool,
}

/// Both sides know what the answer to the call of that number is; some go in chunks.
fn answer_to(number: u64, item: u64, most: u64) -> Vec<u8> {
    let len = (number.wrapping_mul(0x9e37_79b9).wrapping_add(item * 7919) >> 3) % most.min(200);
    let mut body = [number.to_le_bytes(), item.to_le_bytes()].concat();
    body.resize(16 + len as usize, (number + item) as u8);
    if number % 7 == 3 && item == 0 {
        body.clear(); // nothing at all is an answer, too
    }
    body.truncate(most as usize);
    body
}

impl World {
    pub(super) fn new(grant: (u32, u64), max_body: usize, room: (usize, usize)) -> World {
        let max_message = 300.min(grant.1);
        let limits = Limits {
            max_pending: grant.0,
            max_message,
            max_inflight_bytes: grant.1,
            max_unread_bytes: 400,
            ..Limits::default()
        };
        // Far from what any deadline on the wire says.
        let base = Instant::now() + Duration::from_secs(3600);
        World {
            client: ClientCore::new(Grant::from(&limits)),
            session: Session::new(&limits),
            requests: Pipe::new(max_body, room.0),
            responses: Pipe::new(max_body, room.1),
            limits,
            base,
            now: base,
            owners: Vec::new(),
            handlers: Vec::new(),
            heard: HashSet::new(),
            answers: HashMap::new(),
            count: 0,
            broken: false,
        }
    }

    fn check(&self) {
        self.client.audit();
        self.session.audit();
        let unread = self.session.waiting();
        let streams = self.handlers.iter().filter(|handler| handler.stream.is_some()).count();
        let most = self.limits.max_pending as usize * 17;
        assert!(unread <= most, "{unread} messages wait with {streams} streams");
        assert!(self.session.calls() <= self.limits.max_pending);
        assert!(self.handlers.len() <= CONCURRENCY);
    }

    // ---- the client

    fn break_off(&mut self) {
        self.broken = true;
        let taken = self.requests.taken;
        let mut woken = Woken::default();
        let judge = |sent| match sent {
            Some(at) if at <= taken => Delivered::Yes,
            _ => Delivered::No,
        };
        self.client.break_off(judge, &mut woken);
        self.told(woken);
        self.session.stop_all().into_iter().for_each(|stop| stop.stop());
        assert!(self.handlers.iter().all(|handler| handler.stopped.load(Ordering::SeqCst)));
        self.handlers.clear();
        // What a broken connection has for a port takes everything.
        self.requests = Pipe::new(usize::MAX >> 1, usize::MAX >> 2);
        assert_eq!(self.client.in_flight(), 0);
    }

    /// A port that failed breaks the connection.
    fn mind<T>(&mut self, done: Result<T, Violation>) -> Option<T> {
        match done {
            Ok(value) => Some(value),
            Err(violation) => {
                assert!(self.requests.damaged, "{violation}");
                self.break_off();
                None
            }
        }
    }

    fn told(&mut self, woken: Woken) {
        assert!(woken.tasks.is_empty());
        for token in woken.tokens {
            let owner = self.owners.iter_mut().find(|owner| owner.number == token);
            owner.expect("nobody listens for an orphan").listens = false;
        }
    }

    fn begin(&mut self, len: usize, items: Option<u8>, deadline: Option<u8>) {
        if self.broken {
            return;
        }
        let number = self.count;
        self.count += 1;
        let deadline = deadline.map(|ms| self.now + Duration::from_millis(u64::from(ms)));
        let flags = if items.is_some() { STREAM } else { 0 };
        let mut body = number.to_le_bytes().to_vec();
        body.push(items.unwrap_or(0));
        body.resize(9 + len.min(self.limits.max_message as usize - 9), 1);
        let request = Request { method: 0, flags, deadline, in_place: false };
        let begun = self.client.begin(&mut self.requests, request, &body);
        let Some(id) = self.mind(begun) else { return };
        let stream = items.map(u64::from);
        self.owners.push(Owner { id, number, stream, got: 0, deadline, listens: false });
    }

    /// True: there was something.
    fn take(&mut self, at: usize) -> bool {
        if self.owners.is_empty() {
            return false;
        }
        let at = at % self.owners.len();
        let id = self.owners[at].id;
        let taken = self.client.take(&mut self.requests, id);
        let Some(news) = self.mind(taken) else { return true };
        let owner = &mut self.owners[at];
        assert!(news.is_none() || !owner.listens, "news that the listener was not told");
        let most = self.limits.max_message;
        let (number, got) = (owner.number, owner.got);
        match news {
            None => {
                owner.listens = true;
                self.client.listen(id, Listener::Token(number));
                return false;
            }
            Some(News::Item(item)) => {
                assert!(owner.stream.is_some_and(|all| got < all));
                assert_eq!(item, Answer { raw: got % 2 == 1, body: answer_to(number, got, most) });
                owner.got += 1;
            }
            Some(News::Over(outcome)) => {
                let owner = self.owners.remove(at);
                match outcome {
                    Outcome::Value(answer) => {
                        assert!(owner.stream.is_none());
                        assert_eq!(answer.body, answer_to(number, 0, most));
                    }
                    Outcome::End => assert_eq!(owner.stream, Some(got)),
                    Outcome::Remote(body) => assert_eq!(body, refusal(number)),
                    Outcome::TimedOut => assert!(owner.deadline.is_some_and(|at| at <= self.now)),
                    Outcome::Disconnected(delivered) => {
                        assert!(self.broken);
                        let heard = self.heard.contains(&number);
                        assert_eq!(delivered == Delivered::Yes, heard, "{delivered:?}");
                    }
                }
                let taken = self.client.take(&mut self.requests, id);
                assert_eq!(taken, Ok(None), "one outcome each");
            }
        }
        true
    }

    fn abandon(&mut self, at: usize) {
        if !self.owners.is_empty() {
            let owner = self.owners.swap_remove(at % self.owners.len());
            let abandoned = self.client.abandon(&mut self.requests, owner.id);
            self.mind(abandoned);
        }
    }

    fn advance(&mut self, ms: u8) {
        self.now += Duration::from_millis(u64::from(ms));
        let mut woken = Woken::default();
        let expired = self.client.expire(&mut self.requests, self.now, &mut woken);
        self.told(woken);
        self.mind(expired);
    }

    fn run_to_client(&mut self, frames: usize) {
        for _ in 0..frames {
            let Some((head, body)) = self.responses.take().filter(|_| !self.broken) else { break };
            let mut woken = Woken::default();
            self.client.hear(head, &body, &mut woken).unwrap();
            self.told(woken);
        }
        if !self.broken {
            let pumped = self.client.pump(&mut self.requests);
            self.mind(pumped);
        }
    }

    // ---- the server

    fn run_to_server(&mut self, frames: usize, at_once: bool) {
        for _ in 0..frames {
            if self.broken {
                return;
            }
            let Some((head, body)) = self.requests.take() else { break };
            match self.session.hear(head, &body).unwrap() {
                Heard::Call(mut call) => {
                    let args = call.chunked.take().unwrap_or(body);
                    let number = u64::from_le_bytes(*args.first_chunk().unwrap());
                    assert!(self.heard.insert(number), "heard twice");
                    let now = self.session.pending.is_empty() && self.session.reads();
                    if now && self.handlers.len() < CONCURRENCY {
                        self.start(&call, &args, at_once);
                    } else {
                        let (deadline, since) = (None, self.base);
                        self.session.pending.push_back(Pending { call, args, deadline, since });
                    }
                }
                Heard::Stop(stop) => {
                    stop.stop();
                    self.refuse_running(head.id);
                }
                Heard::Credit => {}
                Heard::Nothing if head.kind == Kind::Cancel => {
                    if let Some(pending) = self.session.take_pending(head.id) {
                        self.refuse(&pending);
                    }
                }
                Heard::Nothing => {}
            }
        }
        if !self.broken {
            self.session.pump(&mut self.responses).unwrap();
        }
    }

    fn answered(&mut self, number: u64) {
        let answers = self.answers.entry(number).or_default();
        *answers += 1;
        assert_eq!(*answers, 1, "answered twice");
    }

    fn refuse(&mut self, pending: &Pending) {
        let number = u64::from_le_bytes(*pending.args.first_chunk().unwrap());
        self.answered(number);
        let (body, call) = (refusal(number), &pending.call);
        let reply = Reply::Error(&body);
        self.session.answer(&mut self.responses, call.id, call.charge, reply).unwrap();
    }

    fn refuse_running(&mut self, id: u64) {
        let at = self.handlers.iter().position(|handler| handler.id == id).unwrap();
        let handler = self.handlers.swap_remove(at);
        assert!(handler.stopped.load(Ordering::SeqCst));
        self.answered(handler.number);
        let body = refusal(handler.number);
        for first in [true, false] {
            // The handler that was stopped says so, too.
            let done = self.session.finish(&mut self.responses, id, Reply::Error(&body));
            assert_eq!(done, Ok(first));
        }
    }

    fn start(&mut self, call: &Incoming, args: &[u8], at_once: bool) {
        let number = u64::from_le_bytes(*args.first_chunk().unwrap());
        if at_once && !call.stream {
            self.answered(number);
            let body = answer_to(number, 0, self.limits.max_message);
            let reply = Reply::Value { raw: false, body: &body };
            self.session.answer(&mut self.responses, call.id, call.charge, reply).unwrap();
            return;
        }
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = Box::new(Flag(Arc::clone(&stopped)));
        self.session.check_new(call.id).unwrap();
        self.session.started(call.id, call.charge, call.stream, stop);
        let stream = call.stream.then_some((u64::from(args[8]), 0));
        self.handlers.push(Handler { id: call.id, number, stream, stopped });
    }

    fn start_pending(&mut self, at_once: bool) {
        if self.session.reads() && self.handlers.len() < CONCURRENCY && !self.broken {
            let Some(Pending { call, args, .. }) = self.session.pending.pop_front() else { return };
            self.start(&call, &args, at_once);
        }
    }

    fn finish(&mut self, at: usize) {
        if self.handlers.is_empty() {
            return;
        }
        let at = at % self.handlers.len();
        if self.handlers[at].stream.is_some_and(|(all, sent)| sent < all) {
            return;
        }
        let handler = self.handlers.swap_remove(at);
        self.answered(handler.number);
        let body = answer_to(handler.number, 0, self.limits.max_message);
        let reply = match handler.stream {
            Some(_) => Reply::End,
            None => Reply::Value { raw: false, body: &body },
        };
        assert_eq!(self.session.finish(&mut self.responses, handler.id, reply), Ok(true));
    }

    fn item(&mut self, at: usize) {
        if self.handlers.is_empty() {
            return;
        }
        let at = at % self.handlers.len();
        let handler = &mut self.handlers[at];
        if let Some((all, sent)) = &mut handler.stream
            && sent < all
            && self.session.may_send(handler.id)
        {
            let body = answer_to(handler.number, *sent, self.limits.max_message);
            let raw = *sent % 2 == 1;
            *sent += 1;
            self.session.item(&mut self.responses, handler.id, raw, &body).unwrap();
        }
    }

    fn expire_at_server(&mut self, at: usize) {
        if let Some(pending) = self.session.pending.pop_front() {
            self.refuse(&pending);
        } else if !self.handlers.is_empty() {
            let id = self.handlers[at % self.handlers.len()].id;
            self.session.stop_of(id).unwrap().stop();
            self.refuse_running(id);
        }
    }

    // ---- both

    pub(super) fn act(&mut self, act: Act) {
        match act {
            Act::Begin { len, items, deadline } => self.begin(len, items, deadline),
            Act::Take(at) => drop(self.take(at)),
            Act::Abandon(at) => self.abandon(at),
            Act::Advance(ms) => self.advance(ms),
            Act::ToClient(frames) => self.run_to_client(frames),
            Act::ToServer { frames, at_once } => self.run_to_server(frames, at_once),
            Act::StartPending { at_once } => self.start_pending(at_once),
            Act::Finish(at) => self.finish(at),
            Act::Item(at) => self.item(at),
            Act::ExpireAtServer(at) if !self.broken => self.expire_at_server(at),
            Act::Pump { server: true } if !self.broken => {
                self.session.pump(&mut self.responses).unwrap();
            }
            Act::Pump { server: false } if !self.broken => self.run_to_client(0),
            Act::Damage if !self.broken => self.requests.damaged = true,
            Act::BreakOff if !self.broken => self.break_off(),
            _ => {}
        }
        if !self.broken {
            self.check();
        } else {
            self.client.audit();
        }
    }

    /// Everybody does what is left to do.
    pub(super) fn wind_up(&mut self) {
        for turn in 0.. {
            assert!(turn < 10_000, "it goes on for ever");
            let taken = (0..self.owners.len()).rev().filter(|at| self.take(*at)).count();
            if self.broken && taken == 0 {
                break;
            }
            let frames = self.requests.frames.len() + self.responses.frames.len();
            let waiting = self.session.waiting() + self.client.in_flight();
            let waiting = waiting + usize::from(self.client.wants_room());
            let (handlers, pending) = (self.handlers.len(), self.session.pending.len());
            self.run_to_server(100, false);
            self.start_pending(false);
            (0..handlers).for_each(|at| self.item(at));
            (0..handlers).rev().for_each(|at| self.finish(at));
            if !self.broken {
                self.check();
            }
            self.run_to_client(100);
            if taken + frames + waiting + handlers + pending + self.owners.len() == 0 {
                break;
            }
        }
        assert!(self.owners.is_empty(), "calls without an outcome: {:?}", self.owners);
        self.client.audit();
        self.client.assert_empty();
        if !self.broken {
            self.session.audit();
            self.session.assert_empty();
            let answered: HashSet<u64> = self.answers.keys().copied().collect();
            assert_eq!(answered, self.heard);
        }
    }
}

fn refusal(number: u64) -> Vec<u8> {
    format!("refused {number}").into_bytes()
}
