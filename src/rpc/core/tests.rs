//! Client and session against each other, over ports with little room, by random programs: frames come in
//! portions, handlers finish at once or later, callers give up, deadlines pass, the connection breaks.
//! Every call gets one outcome, its own; nothing piles up; in the end both tables are empty.

use super::port::Port;
use super::session::Stop;
use super::simulation::World;
use crate::rpc::wire::{HEAD_LEN, Head, Violation};
use crate::sync::{AtomicBool, Ordering};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::sync::Arc;

/// A ring of little room, as a vector.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) frames: VecDeque<(Head, Vec<u8>)>,
    pub(super) max_body: usize,
    room: usize,
    put: u64,
    pub(super) taken: u64,
    pub(super) damaged: bool,
}

impl Pipe {
    pub(super) fn new(max_body: usize, room: usize) -> Pipe {
        let room = room + HEAD_LEN + max_body;
        Pipe { frames: VecDeque::new(), max_body, room, put: 0, taken: 0, damaged: false }
    }

    pub(super) fn take(&mut self) -> Option<(Head, Vec<u8>)> {
        let frame = self.frames.pop_front()?;
        self.taken += (HEAD_LEN + frame.1.len()) as u64;
        Some(frame)
    }
}

impl Port for Pipe {
    fn put(&mut self, head: Head, body: &[u8]) -> Result<bool, Violation> {
        assert!(body.len() <= self.max_body, "a frame that fits in no ring");
        if self.damaged {
            return Err(Violation::Ring("on purpose".into()));
        }
        let len = (HEAD_LEN + body.len()) as u64;
        if self.put - self.taken + len > self.room as u64 {
            return Ok(false);
        }
        self.put += len;
        self.frames.push_back((head, body.to_vec()));
        Ok(true)
    }

    fn max_body(&self) -> usize {
        self.max_body
    }

    fn position(&self) -> u64 {
        self.put
    }
}

#[derive(Debug, Default)]
pub(super) struct Flag(pub(super) Arc<AtomicBool>);

impl Stop for Flag {
    fn stop(self: Box<Self>) {
        assert!(!self.0.swap(true, Ordering::SeqCst), "stopped twice");
    }
}

/// A step of a program.
#[derive(Debug, Clone)]
pub(super) enum Act {
    Begin {
        len: usize,
        items: Option<u8>,
        deadline: Option<u8>,
    },
    Take(usize),
    Abandon(usize),
    /// Time passes for the client.
    Advance(u8),
    /// The client reads so many frames.
    ToClient(usize),
    /// The server reads so many frames; `at_once`: handlers are done in their first step.
    ToServer {
        frames: usize,
        at_once: bool,
    },
    StartPending {
        at_once: bool,
    },
    Finish(usize),
    Item(usize),
    /// A deadline is over at the server.
    ExpireAtServer(usize),
    /// Whoever waited for room looks.
    Pump {
        server: bool,
    },
    /// What the client writes is refused from now on.
    Damage,
    BreakOff,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let some = any::<usize>;
    let act = prop_oneof![
        12 => (0..400_usize, prop::option::weighted(0.3, 0..40_u8), prop::option::weighted(0.3, 0..20_u8))
            .prop_map(|(len, items, deadline)| Act::Begin { len, items, deadline }),
        12 => some().prop_map(Act::Take),
        3 => some().prop_map(Act::Abandon),
        2 => (1..10_u8).prop_map(Act::Advance),
        12 => (1..6_usize).prop_map(Act::ToClient),
        12 => (1..6_usize, any::<bool>()).prop_map(|(frames, at_once)| Act::ToServer { frames, at_once }),
        6 => any::<bool>().prop_map(|at_once| Act::StartPending { at_once }),
        8 => some().prop_map(Act::Finish),
        12 => some().prop_map(Act::Item),
        2 => some().prop_map(Act::ExpireAtServer),
        6 => any::<bool>().prop_map(|server| Act::Pump { server }),
    ];
    let end = prop_oneof![6 => Just(vec![]), 1 => Just(vec![Act::Damage]), 2 => Just(vec![Act::BreakOff])];
    (prop::collection::vec(act.clone(), 1..150), end, prop::collection::vec(act, 0..30))
        .prop_map(|(first, end, last)| [first, end, last].concat())
}

/// So many cases, or `PROPTEST_CASES`.
pub(super) fn many(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases.max(cases), failure_persistence: None, ..default }
}

proptest! {
    #![proptest_config(many(3000))]

    #[test]
    fn prop_every_call_gets_its_own_outcome(
        grant in (1..8_u32, 40..2000_u64),
        max_body in 8..70_usize,
        room in (0..300_usize, 0..300_usize),
        acts in acts(),
    ) {
        let mut world = World::new(grant, max_body, room);
        for act in acts {
            world.act(act);
        }
        world.wind_up();
    }
}
