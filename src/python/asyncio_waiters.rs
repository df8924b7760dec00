//! Who waits on one face, in which order, and what the face has to remember of them. No I/O, and nothing
//! is called in Python here: the face holds a lock around it.

use std::collections::VecDeque;

use pyo3::prelude::*;
use pyo3::types::PyWeakrefReference;

use super::asyncio_loop::Reader;

/// A place among those who wait on one face.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

pub(super) struct Waiter {
    pub(super) ticket: Ticket,
    pub(super) queued: bool,
    /// What it sleeps on; none before its first sleep.
    pub(super) future: Option<Py<PyWeakrefReference>>,
}

#[derive(Default)]
pub(super) struct Waiters {
    pub(super) list: VecDeque<Waiter>,
    last_ticket: u64,
    /// A wake has been asked for and no harvest came since.
    pub(super) armed: bool,
    /// Blocking verbs under way.
    pub(super) inside: u32,
    /// `threading.get_ident()` of the thread inside.
    pub(super) ident: Option<Py<PyAny>>,
    /// The fork count of the process that all of this is of.
    forks: u64,
    pub(super) reader: Option<Reader>,
}

impl Waiters {
    /// Nobody yet, in the process of that fork count.
    pub(super) fn of(forks: u64) -> Waiters {
        Waiters { forks, ..Waiters::default() }
    }

    /// What came by fork into the process of that count, which begins with nobody.
    pub(super) fn take_inherited(&mut self, forks: u64) -> Option<Waiters> {
        if self.forks == forks {
            return None;
        }
        let anew = Waiters { last_ticket: self.last_ticket, ..Waiters::of(forks) };
        Some(std::mem::replace(self, anew))
    }

    pub(super) fn first_queued(&self) -> Option<&Waiter> {
        self.list.iter().find(|waiter| waiter.queued)
    }

    pub(super) fn position(&self, ticket: Ticket) -> Option<usize> {
        self.list.iter().position(|waiter| waiter.ticket == ticket)
    }

    /// The futures to resolve at a wake: the first of the queue and every free one.
    pub(super) fn sleepers(&self, py: Python<'_>) -> Vec<Py<PyWeakrefReference>> {
        let first = self.first_queued().map(|waiter| waiter.ticket);
        self.list
            .iter()
            .filter(|waiter| !waiter.queued || Some(waiter.ticket) == first)
            .filter_map(|waiter| waiter.future.as_ref().map(|future| future.clone_ref(py)))
            .collect()
    }

    /// The place of one who has none yet, or no more, at the end.
    pub(super) fn join(&mut self, queued: bool, ticket: Option<Ticket>) -> Ticket {
        if let Some(ticket) = ticket
            && self.position(ticket).is_some()
        {
            return ticket;
        }
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.list.push_back(Waiter { ticket, queued, future: None });
        ticket
    }

    pub(super) fn has_turn(&self, ticket: Ticket) -> bool {
        let place = self.position(ticket).and_then(|at| self.list.get(at));
        place.is_some_and(|waiter| !waiter.queued)
            || self.first_queued().is_some_and(|waiter| waiter.ticket == ticket)
    }
}
