//! The way out: frames are put into a port as long as it has room, and wait in an [`Outbox`] while it has
//! none. Nothing here waits, and reading never depends on it.

use crate::rpc::wire::{CHUNKED, Head, Kind, Violation};
use std::collections::VecDeque;

/// Where frames go: a ring, or a vector in tests.
pub(crate) trait Port {
    /// Takes one frame, or has no room for it now. A frame is not published before the caller says so.
    fn put(&mut self, head: Head, body: &[u8]) -> Result<bool, Violation>;

    /// The longest body of one frame.
    fn max_body(&self) -> usize;

    /// Where what was put last ends, to compare with what the peer has taken.
    fn position(&self) -> u64;
}

/// A message that waits for room, or has gone out in part.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) head: Head,
    body: Vec<u8>,
    sent: usize,
}

/// What a message that waits costs beside its body; generous.
const PER_MESSAGE: usize = 128;

/// What found no room. Messages go out in order, but a short one may pass a long one of another call that
/// goes in chunks.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Of one frame each, and nothing of their calls waits in chunks.
    short: VecDeque<Waiting>,
    /// In chunks, and what comes after them in the same call.
    long: VecDeque<Waiting>,
    bytes: usize,
}

#[cfg(any(test, fuzzing))]
impl Outbox {
    pub(super) fn audit(&self) {
        let all = || self.short.iter().chain(&self.long);
        assert_eq!(self.bytes, all().map(|one| one.body.len() + PER_MESSAGE).sum::<usize>());
        assert!(all().all(|one| one.sent <= one.body.len()));
    }

    pub(super) fn ends(&self) -> usize {
        let ends = |one: &&Waiting| matches!(one.head.kind, Kind::Result | Kind::Error | Kind::End);
        self.short.iter().chain(&self.long).filter(ends).count()
    }

    pub(super) fn count(&self) -> usize {
        self.short.len() + self.long.len()
    }
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// All of it is in the port, up to this position.
    Whole(u64),
    /// It waits.
    Later,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.short.is_empty() && self.long.is_empty()
    }

    /// Bytes that wait, each message with what its place costs.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sends one message, now or later.
    #[inline]
    pub(crate) fn send(
        &mut self,
        port: &mut impl Port,
        head: Head,
        body: &[u8],
    ) -> Result<Sent, Violation> {
        let short = body.len() <= port.max_body() && !self.waits_long(head.id);
        if short && self.short.is_empty() && port.put(head, body)? {
            return Ok(Sent::Whole(port.position()));
        }
        let first = self.is_empty();
        self.bytes += body.len() + PER_MESSAGE;
        let list = if short { &mut self.short } else { &mut self.long };
        list.push_back(Waiting { head, body: body.to_vec(), sent: 0 });
        if short || !first {
            return Ok(Sent::Later); // there was no room a moment ago, or others wait for it
        }
        let mut whole = Sent::Later;
        self.flush(port, |done, at| {
            if done.id == head.id && done.kind == head.kind {
                whole = Sent::Whole(at);
            }
        })?;
        Ok(whole)
    }

    /// Whether something of a call waits that what comes after it must not pass.
    fn waits_long(&self, id: u64) -> bool {
        self.long.iter().any(|one| one.head.id == id)
    }

    /// Sends what there is room for; `whole` hears of every message that went out entirely.
    pub(crate) fn flush(
        &mut self,
        port: &mut impl Port,
        mut whole: impl FnMut(Head, u64),
    ) -> Result<(), Violation> {
        loop {
            while let Some(next) = self.short.front() {
                if !port.put(next.head, &next.body)? {
                    return Ok(());
                }
                whole(next.head, port.position());
                self.bytes -= next.body.len() + PER_MESSAGE;
                self.short.pop_front();
            }
            let Some(next) = self.long.front_mut() else { return Ok(()) };
            let left = &next.body[next.sent..];
            if left.len() > port.max_body() {
                let chunk = &left[..port.max_body()];
                if !port.put(Head::new(Kind::Chunk, next.head.id), chunk)? {
                    return Ok(());
                }
                next.sent += chunk.len();
                continue;
            }
            let chunked = if next.sent > 0 { CHUNKED } else { 0 };
            let last = Head { flags: next.head.flags | chunked, ..next.head };
            if !port.put(last, left)? {
                return Ok(());
            }
            whole(next.head, port.position());
            self.bytes -= next.body.len() + PER_MESSAGE;
            self.long.pop_front();
        }
    }

    /// Takes back what is left of a message.
    pub(crate) fn take_back(&mut self, kind: Kind, id: u64) -> TakenBack {
        for list in [&mut self.short, &mut self.long] {
            let at = list.iter().position(|one| one.head.id == id && one.head.kind == kind);
            if let Some(gone) = at.and_then(|at| list.remove(at)) {
                self.bytes -= gone.body.len() + PER_MESSAGE;
                return if gone.sent == 0 { TakenBack::Whole } else { TakenBack::Rest };
            }
        }
        TakenBack::Nothing
    }
}

/// What was left of a message in an [`Outbox`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TakenBack {
    /// All of it: the peer has heard nothing.
    Whole,
    /// Some chunks are out.
    Rest,
    /// It is out.
    Nothing,
}

/// Puts messages together that came in chunks. Bounded: by the sender's grants, and by `max_message`.
#[derive(Debug, Default)]
pub(crate) struct Partial {
    parts: Vec<(u64, Vec<u8>)>,
}

impl Partial {
    /// One more chunk of the message `id`; there is something in each.
    pub(crate) fn add(&mut self, id: u64, chunk: &[u8], limit: u64) -> Result<(), Violation> {
        if chunk.is_empty() { Err(Violation::Chunk(id)) } else { self.append(id, chunk, limit) }
    }

    fn append(&mut self, id: u64, chunk: &[u8], limit: u64) -> Result<(), Violation> {
        let at = self.parts.iter().position(|(known, _)| *known == id);
        let at = at.unwrap_or_else(|| {
            self.parts.push((id, Vec::new()));
            self.parts.len() - 1
        });
        let body = &mut self.parts[at].1;
        if (body.len() + chunk.len()) as u64 > limit {
            return Err(Violation::TooLong(limit));
        }
        body.extend_from_slice(chunk);
        Ok(())
    }

    /// The whole message whose last part this is.
    pub(crate) fn finish(
        &mut self,
        id: u64,
        last: &[u8],
        limit: u64,
    ) -> Result<Vec<u8>, Violation> {
        self.append(id, last, limit)?;
        let at = self.parts.iter().position(|(known, _)| *known == id);
        let body = at.map(|at| self.parts.swap_remove(at).1).ok_or(Violation::Chunk(id))?;
        // What was announced as chunked must have had some.
        if body.len() == last.len() { Err(Violation::Chunk(id)) } else { Ok(body) }
    }

    /// Bytes of the message `id` that are here.
    pub(crate) fn len(&self, id: u64) -> usize {
        self.parts.iter().find(|(known, _)| *known == id).map_or(0, |(_, body)| body.len())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Messages that are not whole yet.
    pub(crate) fn count(&self) -> usize {
        self.parts.len()
    }

    /// Forgets a message.
    pub(crate) fn forget(&mut self, id: u64) {
        self.parts.retain(|(known, _)| *known != id);
    }
}

#[cfg(any(test, fuzzing))]
impl Partial {
    pub(super) fn ids(&self) -> impl Iterator<Item = u64> {
        self.parts.iter().map(|(id, _)| *id)
    }

    pub(super) fn audit(&self) {
        assert!(self.parts.iter().all(|(_, body)| !body.is_empty()), "a message without parts");
    }
}
