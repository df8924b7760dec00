//! What a call asks for, and what its owner hears of it.

use crate::rpc::error::Delivered;
use std::task::Waker;
use std::time::Instant;

/// Who is told that a call has news.
#[derive(Debug)]
pub(crate) enum Listener {
    Task(Waker),
    /// A number that the driver of an event loop knows.
    #[cfg_attr(not(feature = "python"), allow(dead_code, reason = "asyncio's"))]
    Token(u64),
}

/// Whom to tell, once no lock is held.
#[derive(Debug, Default)]
pub(crate) struct Woken {
    pub(crate) tasks: Vec<Waker>,
    pub(crate) tokens: Vec<u64>,
}

impl Woken {
    pub(super) fn add(&mut self, listener: Option<Listener>) {
        match listener {
            Some(Listener::Task(waker)) => self.tasks.push(waker),
            Some(Listener::Token(token)) => self.tokens.push(token),
            None => {}
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tasks.is_empty() && self.tokens.is_empty()
    }

    /// Adds those of another.
    pub(crate) fn append(&mut self, mut other: Woken) {
        self.tasks.append(&mut other.tasks);
        self.tokens.append(&mut other.tokens);
    }

    /// Wakes the tasks; the tokens are left to whoever knows them.
    pub(crate) fn wake_tasks(&mut self) {
        self.tasks.drain(..).for_each(Waker::wake);
    }
}

/// One message of the server: a value, or bytes as they are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) raw: bool,
    pub(crate) body: Vec<u8>,
}

/// How a call ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Value(Answer),
    /// The body of an error frame.
    Remote(Vec<u8>),
    /// The end of a stream.
    End,
    /// Its deadline was over first.
    TimedOut,
    /// The connection broke.
    Disconnected(Delivered),
}

/// What the owner of a call finds when it looks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    Item(Answer),
    Over(Outcome),
}

/// What a call is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    pub(crate) method: u16,
    /// Of the wire: RAW, STREAM.
    pub(crate) flags: u8,
    pub(crate) deadline: Option<Instant>,
    /// Whether it ran cannot be told by how far the ring was read.
    pub(crate) in_place: bool,
}
