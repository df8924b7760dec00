//! Doorbells of peers that are rung again and again, for kinds with many slots.
//!
//! There nobody holds a connection to everybody: who wakes a peer for the first time knocks and
//! forgets; at the second time it keeps the connection until the doorbell comes over it, and from
//! then on the doorbell alone. The few that were rung last are kept.

use crate::notify::Endpoint;
use crate::notify::wake::knocked;
use crate::region::Region;
use crate::sys::door::Knock;
use crate::sys::doorbell::Bell;
use crate::sys::fd::Fd;
use crate::sys::fdpass::{self, Answer};
use std::collections::VecDeque;

/// Peers that are remembered.
const KEPT: usize = 8;

#[derive(Debug)]
enum Known {
    /// Knocked at once, nothing is held.
    Knocked,
    /// Knocked again; the doorbell will come over this.
    Asked(Fd),
    Here(Bell),
}

/// The peers that one endpoint rang last, the latest first.
#[derive(Debug, Default)]
pub(crate) struct Bells {
    known: VecDeque<(u64, Known)>,
}

impl Bells {
    /// Wakes whoever sleeps behind `tag`. False: nobody was woken.
    pub(super) fn ring(&mut self, region: &Region, tag: u64) -> bool {
        let at = self.known.iter().position(|(known, _)| *known == tag);
        let known = at.and_then(|at| self.known.remove(at)).map(|(_, known)| known);
        let (rung, now) = match known {
            Some(Known::Here(bell)) => {
                Self::by_bell(bell).unwrap_or_else(|| Self::ask(region, tag))
            }
            Some(Known::Asked(conn)) => match fdpass::receive(&conn) {
                // Our knock still stands in its door, and an open door wakes.
                Answer::NotYet => (true, Known::Asked(conn)),
                Answer::Fd(fd) => {
                    Bell::new(fd).and_then(Self::by_bell).unwrap_or_else(|| Self::ask(region, tag))
                }
                Answer::Broken | Answer::TooManyFiles => Self::ask(region, tag),
            },
            Some(Known::Knocked) => Self::ask(region, tag),
            None => (Endpoint::knock_once(region, tag), Known::Knocked),
        };
        self.known.push_front((tag, now));
        self.known.truncate(KEPT);
        rung
    }

    /// `None`: it cannot be rung any more.
    fn by_bell(bell: Bell) -> Option<(bool, Known)> {
        bell.ring().is_ok().then_some((true, Known::Here(bell)))
    }

    fn ask(region: &Region, tag: u64) -> (bool, Known) {
        match region.doors().knock(tag) {
            Knock::Open(conn) => (true, Known::Asked(conn)),
            Knock::Full => (true, Known::Knocked),
            knock => (knocked(&knock) || Endpoint::knock_once(region, tag), Known::Knocked),
        }
    }

    pub(super) fn connections(&self) -> usize {
        self.known.iter().filter(|(_, known)| matches!(known, Known::Asked(_))).count()
    }

    pub(super) fn doorbells(&self) -> usize {
        self.known.iter().filter(|(_, known)| matches!(known, Known::Here(_))).count()
    }
}
