//! The client's half of a connection, without I/O: which calls are under way, what each waits for, and
//! what to do with each frame that comes.
//!
//! A call lives in a table until its last frame came *and* its owner is done with it; a caller that gives
//! up leaves an orphan there, which still counts against the grants, as it does at the server. A call
//! that the grants do not admit, or for which the ring has no room, waits here; the server is never sent
//! more than it granted.

use super::news::{Answer, Listener, News, Outcome, Request, Woken};
use super::port::{Outbox, Partial, Port, Sent, TakenBack};
use super::timers::Timers;
use crate::rpc::error::Delivered;
use crate::rpc::limits::Grant;
use crate::rpc::wire::{CHUNKED, Head, Kind, RAW, STREAM, Violation};
use std::collections::VecDeque;
use std::time::Instant;

#[cfg(any(test, fuzzing))]
mod audit;

/// Items that a server may send before the first credit.
pub(crate) const FIRST_CREDIT: u32 = 16;
/// Items taken before they are credited again, while others lie ready.
const CREDIT_EVERY: u32 = FIRST_CREDIT / 2;

#[derive(Debug, Default)]
struct Items {
    ready: VecDeque<Answer>,
    /// How many more the server may send.
    credit: u32,
    /// Taken and not credited again.
    taken: u32,
}

#[derive(Debug)]
struct Call {
    request: Request,
    /// Charged against the grants; `None` while it waits here for them.
    charged: Option<u64>,
    /// Where the request ends in the ring, once all of it is there.
    sent: Option<u64>,
    listener: Option<Listener>,
    items: Option<Items>,
    outcome: Option<Outcome>,
    /// The server's last frame came.
    closed: bool,
    /// Nobody wants the outcome.
    orphan: bool,
}

#[derive(Debug, Default)]
struct Place {
    generation: u32,
    call: Option<Call>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct ClientCore {
    grant: Grant,
    places: Vec<Place>,
    free: Vec<u32>,
    in_flight: u32,
    /// Of these, calls that nobody waits for any more.
    orphans: u32,
    bytes: u64,
    /// Calls that wait for the grants: id and arguments.
    queue: VecDeque<(u64, Vec<u8>)>,
    outbox: Outbox,
    partial: Partial,
    timers: Timers,
    /// The server takes no new calls.
    pub(crate) said_goodbye: bool,
}

impl ClientCore {
    pub(crate) fn new(grant: Grant) -> ClientCore {
        ClientCore {
            grant,
            places: Vec::new(),
            free: Vec::new(),
            in_flight: 0,
            orphans: 0,
            bytes: 0,
            queue: VecDeque::new(),
            outbox: Outbox::default(),
            partial: Partial::default(),
            timers: Timers::default(),
            said_goodbye: false,
        }
    }

    /// Calls that are not over, orphans among them.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight as usize + self.queue.len()
    }

    /// Nobody waits for an answer.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight == self.orphans && self.queue.is_empty()
    }

    /// Something waits for room in the ring.
    pub(crate) fn wants_room(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// The nearest deadline.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    fn get(&mut self, id: u64) -> Option<&mut Call> {
        let place = self.places.get_mut((id & 0xffff_ffff) as usize)?;
        if u64::from(place.generation) != id >> 32 { None } else { place.call.as_mut() }
    }

    fn insert(&mut self, call: Call) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            (self.places.len() - 1) as u32
        });
        let place = &mut self.places[index as usize];
        place.generation = place.generation.wrapping_add(1).max(1);
        place.call = Some(call);
        u64::from(index) | u64::from(place.generation) << 32
    }

    fn remove(&mut self, id: u64) {
        let index = (id & 0xffff_ffff) as u32;
        if self.get(id).is_some() {
            let gone = self.places[index as usize].call.take();
            self.orphans -= u32::from(gone.is_some_and(|call| call.orphan));
            self.free.push(index);
        }
    }

    /// Begins a call; the body is at most `max_message` long (the caller has looked). The returned id
    /// names it from now on.
    pub(crate) fn begin(
        &mut self,
        port: &mut impl Port,
        request: Request,
        body: &[u8],
    ) -> Result<u64, Violation> {
        let items = (request.flags & STREAM != 0)
            .then(|| Items { credit: FIRST_CREDIT, ..Items::default() });
        let id = self.insert(Call {
            request,
            charged: None,
            sent: None,
            listener: None,
            items,
            outcome: None,
            closed: false,
            orphan: false,
        });
        if let Some(at) = request.deadline {
            self.timers.add(at, 0, id);
            self.tidy();
        }
        if self.queue.is_empty() && self.admits(body.len()) {
            if let Err(violation) = self.send(port, id, request, body) {
                let charged = self.get(id).and_then(|call| call.charged.take());
                self.uncharge(charged);
                self.remove(id);
                return Err(violation);
            }
        } else {
            self.queue.push_back((id, body.to_vec()));
        }
        Ok(id)
    }

    fn admits(&self, len: usize) -> bool {
        self.in_flight < self.grant.max_pending
            && self.bytes + len as u64 <= self.grant.max_inflight_bytes
    }

    fn send(
        &mut self,
        port: &mut impl Port,
        id: u64,
        request: Request,
        body: &[u8],
    ) -> Result<(), Violation> {
        let mut head = Head::new(Kind::Call, id);
        (head.flags, head.method) = (request.flags, request.method);
        if let Some(at) = request.deadline {
            head = head.with_deadline(at.saturating_duration_since(Instant::now()));
        }
        self.in_flight += 1;
        self.bytes += body.len() as u64;
        if let Some(call) = self.get(id) {
            call.charged = Some(body.len() as u64);
        }
        if let Sent::Whole(at) = self.outbox.send(port, head, body)?
            && let Some(call) = self.get(id)
        {
            call.sent = Some(at);
        }
        Ok(())
    }

    /// Sends what has waited for room, then what has waited for the grants.
    pub(crate) fn pump(&mut self, port: &mut impl Port) -> Result<(), Violation> {
        if !self.outbox.is_empty() {
            let places = &mut self.places;
            self.outbox.flush(port, |head, at| {
                if head.kind == Kind::Call
                    && let Some(place) = places.get_mut((head.id & 0xffff_ffff) as usize)
                    && let Some(call) = &mut place.call
                {
                    call.sent = Some(at);
                }
            })?;
        }
        while self.outbox.is_empty()
            && self.queue.front().is_some_and(|(_, body)| self.admits(body.len()))
            && let Some((id, body)) = self.queue.pop_front()
        {
            if let Some(request) = self.get(id).map(|call| call.request) {
                self.send(port, id, request, &body)?;
            }
        }
        Ok(())
    }

    /// Takes one frame in. `body` appends the bytes of the frame to a vector.
    pub(crate) fn hear(
        &mut self,
        head: Head,
        body: &[u8],
        woken: &mut Woken,
    ) -> Result<(), Violation> {
        match head.kind {
            Kind::Result | Kind::Error | Kind::Item | Kind::End => {}
            Kind::Chunk => {}
            Kind::Goodbye => {
                let again = std::mem::replace(&mut self.said_goodbye, true);
                return if again { Err(Violation::Goodbye) } else { Ok(()) };
            }
            kind => return Err(Violation::Direction(kind)),
        }
        // Nobody answers what is not wholly sent, or was answered.
        if !self.get(head.id).is_some_and(|call| call.sent.is_some() && !call.closed) {
            return Err(Violation::Unasked(head.id));
        }
        if head.kind == Kind::Chunk {
            return self.partial.add(head.id, body, self.grant.max_message);
        }
        let body = if head.has(CHUNKED) {
            self.partial.finish(head.id, body, self.grant.max_message)?
        } else if !self.partial.is_empty() && self.partial.len(head.id) > 0 {
            return Err(Violation::Chunk(head.id));
        } else {
            body.to_vec()
        };
        let Some(call) = self.get(head.id) else { return Err(Violation::Unasked(head.id)) };
        let answer = Answer { raw: head.has(RAW), body };
        if head.kind == Kind::Item {
            let orphan = call.orphan || call.outcome.is_some();
            let items = call.items.as_mut().filter(|items| items.credit > 0);
            let Some(items) = items else { return Err(Violation::NoCredit(head.id)) };
            items.credit -= 1;
            if !orphan {
                items.ready.push_back(answer);
                woken.add(call.listener.take());
            }
            return Ok(());
        }
        let outcome = match head.kind {
            Kind::Result => Outcome::Value(answer),
            Kind::Error => Outcome::Remote(answer.body),
            _ => Outcome::End,
        };
        call.closed = true;
        let charged = call.charged.take();
        // A deadline that was over first stays the outcome.
        if call.outcome.is_none() {
            call.outcome = Some(outcome);
        }
        woken.add(call.listener.take());
        let orphan = call.orphan;
        self.uncharge(charged);
        if orphan {
            self.remove(head.id);
        }
        Ok(())
    }

    fn uncharge(&mut self, charged: Option<u64>) {
        if let Some(bytes) = charged {
            self.in_flight -= 1;
            self.bytes -= bytes;
        }
    }

    /// What there is for the owner of a call; `Over` is told once, and ends the ownership.
    pub(crate) fn take(
        &mut self,
        port: &mut impl Port,
        id: u64,
    ) -> Result<Option<News>, Violation> {
        let Some(call) = self.get(id) else { return Ok(None) };
        let closed = call.closed;
        if let Some(items) = call.items.as_mut().filter(|items| !items.ready.is_empty()) {
            items.taken += 1;
            if !closed && (items.ready.len() == 1 || items.taken >= CREDIT_EVERY) {
                let credit = std::mem::take(&mut items.taken);
                items.credit += credit;
                let head = Head { aux: credit, ..Head::new(Kind::Credit, id) };
                self.outbox.send(port, head, &[])?; // an error leaves the item
            }
            let items = self.get(id).and_then(|call| call.items.as_mut());
            return Ok(items.and_then(|items| items.ready.pop_front()).map(News::Item));
        }
        let Some(outcome) = call.outcome.take() else { return Ok(None) };
        call.orphan = true;
        let over = call.closed || call.charged.is_none();
        self.orphans += 1;
        if over {
            self.remove(id);
        }
        Ok(Some(News::Over(outcome)))
    }

    /// Who is to be told of the next news of a call.
    pub(crate) fn listen(&mut self, id: u64, listener: Listener) {
        if let Some(call) = self.get(id) {
            call.listener = Some(listener);
        }
    }

    /// Whether [`take`](ClientCore::take) would find something.
    #[cfg(feature = "python")]
    pub(crate) fn has_news(&mut self, id: u64) -> bool {
        self.get(id).is_some_and(|call| {
            call.outcome.is_some()
                || call.items.as_ref().is_some_and(|items| !items.ready.is_empty())
        })
    }

    /// Tells whoever listens to a call to look.
    #[cfg(feature = "python")]
    pub(crate) fn tell(&mut self, id: u64, woken: &mut Woken) {
        woken.add(self.get(id).and_then(|call| call.listener.take()));
    }

    /// Tells everybody who listens to look again.
    pub(crate) fn tell_all(&mut self, woken: &mut Woken) {
        for place in &mut self.places {
            woken.add(place.call.as_mut().and_then(|call| call.listener.take()));
        }
    }

    /// The owner of a call is gone: the server is told, unless the call never left or is over.
    pub(crate) fn abandon(&mut self, port: &mut impl Port, id: u64) -> Result<(), Violation> {
        let Some(call) = self.get(id) else { return Ok(()) };
        if call.orphan {
            return Ok(());
        }
        call.orphan = true;
        call.listener = None;
        if let Some(items) = &mut call.items {
            items.ready.clear();
        }
        let closed = call.closed;
        self.orphans += 1;
        if closed {
            self.remove(id);
            return Ok(());
        }
        self.withdraw(port, id)
    }

    /// Takes the request back, or cancels it.
    fn withdraw(&mut self, port: &mut impl Port, id: u64) -> Result<(), Violation> {
        let Some(call) = self.get(id) else { return Ok(()) };
        if call.charged.is_none() {
            self.queue.retain(|(queued, _)| *queued != id);
        } else {
            let left = self.outbox.take_back(Kind::Call, id);
            if left != TakenBack::Whole {
                self.outbox.send(port, Head::new(Kind::Cancel, id), &[])?;
            }
            if left == TakenBack::Nothing {
                return Ok(()); // the server answers a call that it has seen, also a cancelled one
            }
            let charged = self.get(id).and_then(|call| call.charged.take());
            self.uncharge(charged);
        }
        if self.get(id).is_some_and(|call| call.orphan) {
            self.remove(id);
        }
        Ok(())
    }

    /// Ends the calls whose deadlines are over.
    pub(crate) fn expire(
        &mut self,
        port: &mut impl Port,
        now: Instant,
        woken: &mut Woken,
    ) -> Result<(), Violation> {
        while let Some((_, id)) = self.timers.due(now) {
            let Some(call) = self.get(id) else { continue };
            if call.outcome.is_some() || call.orphan {
                continue;
            }
            call.outcome = Some(Outcome::TimedOut);
            woken.add(call.listener.take());
            self.withdraw(port, id)?;
        }
        Ok(())
    }

    fn tidy(&mut self) {
        let places = &self.places;
        self.timers.tidy(|_, id| {
            let place = places.get((id & 0xffff_ffff) as usize);
            place.is_some_and(|place| {
                u64::from(place.generation) == id >> 32 && place.call.is_some()
            })
        });
    }

    /// The connection broke: every call that is not over ends. `delivered` judges by where a request
    /// ends in the ring.
    pub(crate) fn break_off(
        &mut self,
        delivered: impl Fn(Option<u64>) -> Delivered,
        woken: &mut Woken,
    ) {
        self.queue.clear();
        self.outbox = Outbox::default();
        self.partial = Partial::default();
        for index in 0..self.places.len() {
            let place = &mut self.places[index];
            let id = index as u64 | u64::from(place.generation) << 32;
            let Some(call) = place.call.as_mut().filter(|call| !call.closed) else { continue };
            call.closed = true;
            if call.outcome.is_none() {
                let delivered = match delivered(call.sent) {
                    Delivered::No if call.request.in_place && call.sent.is_some() => {
                        Delivered::Unknown
                    }
                    told => told,
                };
                call.outcome = Some(Outcome::Disconnected(delivered));
            }
            woken.add(call.listener.take());
            let (charged, orphan) = (call.charged.take(), call.orphan);
            self.uncharge(charged);
            if orphan {
                self.remove(id);
            }
        }
    }
}
