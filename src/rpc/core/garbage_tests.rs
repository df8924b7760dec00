//! What no correct peer sends: each violation by hand, and any bytes at all by chance.

use super::client::{ClientCore, FIRST_CREDIT};
use super::fuzzing;
use super::news::{News, Outcome, Request, Woken};
use super::port::{Outbox, Partial, Port, Sent, TakenBack};
use super::session::{Heard, Reply, Session};
use super::tests::{Flag, Pipe, many};
use crate::rpc::error::Delivered;
use crate::rpc::limits::{Grant, Limits};
use crate::rpc::wire::{CHUNKED, Head, Kind, RAW, STREAM, Violation};
use proptest::prelude::*;
use std::time::{Duration, Instant};

const BODY: usize = 16;

fn limits() -> Limits {
    Limits {
        max_pending: 2,
        max_message: 100,
        max_inflight_bytes: 150,
        max_unread_bytes: 1000,
        ..Limits::default()
    }
}

fn frame(kind: Kind, id: u64, flags: u8) -> Head {
    Head { flags, ..Head::new(kind, id) }
}

fn kinds(pipe: &Pipe) -> Vec<(Kind, u64, u8, usize)> {
    pipe.frames.iter().map(|(head, body)| (head.kind, head.id, head.flags, body.len())).collect()
}

#[test]
fn what_waits_goes_out_in_the_order_of_its_call() {
    use Kind::{Chunk, End, Item};
    // Room for one frame of the longest.
    let (mut pipe, mut outbox) = (Pipe::new(BODY, 0), Outbox::default());
    let (long, short) = ([1; 40], [2; 3]);
    let item = |id| Head::new(Item, id);
    assert_eq!(outbox.send(&mut pipe, item(1), &long), Ok(Sent::Later));
    assert_eq!(outbox.send(&mut pipe, item(1), &short), Ok(Sent::Later));
    assert_eq!(outbox.send(&mut pipe, Head::new(End, 1), &[]), Ok(Sent::Later));
    assert_eq!(outbox.send(&mut pipe, item(2), &short), Ok(Sent::Later));
    assert!(outbox.bytes() > 46, "bodies and places");
    let mut sent = Vec::new();
    let mut whole = Vec::new();
    while !outbox.is_empty() {
        sent.extend(kinds(&pipe));
        while pipe.take().is_some() {}
        outbox.flush(&mut pipe, |head, _| whole.push((head.kind, head.id))).unwrap();
        outbox.audit();
    }
    sent.extend(kinds(&pipe));
    let expected = [
        (Chunk, 1, 0, 16),
        (Item, 2, 0, 3), // passes what is of another call
        (Chunk, 1, 0, 16),
        (Item, 1, CHUNKED, 8),
        (Item, 1, 0, 3),
        (End, 1, 0, 0),
    ];
    assert_eq!(sent, expected);
    assert_eq!(whole, [(Item, 2), (Item, 1), (Item, 1), (End, 1)]);
    assert_eq!(outbox.bytes(), 0);
}

#[test]
fn what_waits_can_be_taken_back() {
    let (mut pipe, mut outbox) = (Pipe::new(BODY, 0), Outbox::default());
    let call = |id| Head::new(Kind::Call, id);
    assert!(matches!(outbox.send(&mut pipe, call(1), &[0; BODY]), Ok(Sent::Whole(32))));
    outbox.send(&mut pipe, call(2), &[0; 4]).unwrap();
    outbox.send(&mut pipe, call(3), &[0; 40]).unwrap();
    while pipe.take().is_some() {}
    outbox.flush(&mut pipe, |_, _| ()).unwrap();
    while pipe.take().is_some() {}
    outbox.flush(&mut pipe, |_, _| ()).unwrap();
    outbox.send(&mut pipe, call(4), &[0; 4]).unwrap();
    assert_eq!(outbox.take_back(Kind::Call, 1), TakenBack::Nothing);
    assert_eq!(outbox.take_back(Kind::Cancel, 4), TakenBack::Nothing);
    assert_eq!(outbox.take_back(Kind::Call, 4), TakenBack::Whole);
    assert_eq!(outbox.take_back(Kind::Call, 3), TakenBack::Rest);
    assert_eq!(outbox.take_back(Kind::Call, 3), TakenBack::Nothing);
    assert!(outbox.is_empty() && outbox.bytes() == 0);
}

#[test]
fn parts_are_bounded_and_none_is_empty() {
    let mut partial = Partial::default();
    assert_eq!(partial.add(1, &[], 10), Err(Violation::Chunk(1)));
    assert_eq!(partial.add(1, &[1; 6], 10), Ok(()));
    assert_eq!(partial.add(2, &[2; 10], 10), Ok(()));
    assert_eq!(partial.add(1, &[1; 5], 10), Err(Violation::TooLong(10)));
    assert_eq!(partial.finish(1, &[3; 4], 10), Ok([[1; 6].as_slice(), &[3; 4]].concat()));
    assert_eq!((partial.len(1), partial.len(2), partial.count()), (0, 10, 1));
    assert_eq!(partial.finish(3, &[1], 10), Err(Violation::Chunk(3)), "it had no parts");
    assert_eq!(partial.add(4, &[4; 2], 10), Ok(()));
    assert_eq!(partial.finish(4, &[5], 10), Ok(vec![4, 4, 5]), "not the first that is here");
    partial.forget(2);
    assert_eq!(partial.len(2), 0);
}

#[test]
fn each_violation_of_a_client() {
    type Frames<'a> = &'a [(Head, usize)];
    let call = |id| frame(Kind::Call, id, 0);
    let chunk = |id| frame(Kind::Chunk, id, 0);
    let cases: [(Violation, Frames<'_>); 13] = [
        (Violation::Direction(Kind::Result), &[(frame(Kind::Result, 1, 0), 0)]),
        (Violation::Direction(Kind::Goodbye), &[(frame(Kind::Goodbye, 0, 0), 0)]),
        (Violation::TooManyCalls(2), &[(call(1), 1), (call(2), 1), (call(3), 1)]),
        (Violation::TooManyCalls(2), &[(call(1), 1), (call(2), 1), (chunk(3), 1)]),
        (Violation::TooManyCalls(2), &[(chunk(1), 1), (chunk(2), 1), (chunk(3), 1)]),
        (Violation::TooManyBytes(150), &[(call(1), 80), (call(2), 71)]),
        (Violation::TooManyBytes(150), &[(chunk(1), 80), (chunk(2), 71)]),
        (Violation::TooLong(100), &[(call(1), 101)]),
        (Violation::TooLong(100), &[(chunk(1), 60), (chunk(1), 41)]),
        (Violation::Duplicate(1), &[(call(1), 1), (call(1), 1)]),
        (Violation::Chunk(1), &[(frame(Kind::Call, 1, CHUNKED), 5)]),
        (Violation::Chunk(1), &[(chunk(1), 5), (call(1), 5)]),
        (Violation::Chunk(1), &[(chunk(1), 0)]),
    ];
    for (violation, frames) in cases {
        let mut session = Session::new(&limits());
        let (last, before) = frames.split_last().unwrap();
        for (head, len) in before {
            if let Heard::Call(call) = session.hear(*head, &vec![0; *len]).unwrap() {
                session.started(call.id, call.charge, call.stream, Box::new(Flag::default()));
            }
            session.audit();
        }
        assert_eq!(session.hear(last.0, &vec![0; last.1]).unwrap_err(), violation);
        assert!(!violation.to_string().is_empty());
    }
}

/// Whoever does not read cannot make answers pile up, whatever becomes of the calls.
#[test]
fn answers_that_nobody_reads_are_calls() {
    let mut session = Session::new(&limits());
    let mut full = Pipe::new(BODY, 0);
    full.put(Head::new(Kind::Result, 9), &[0; BODY]).unwrap();
    for id in 1..=2 {
        let Heard::Call(call) = session.hear(frame(Kind::Call, id, 0), &[]).unwrap() else {
            panic!()
        };
        let reply = Reply::Value { raw: true, body: &[] };
        session.answer(&mut full, call.id, call.charge, reply).unwrap();
    }
    assert_eq!((session.calls(), session.waiting()), (0, 2));
    let refused = session.hear(frame(Kind::Call, 3, 0), &[]).unwrap_err();
    assert_eq!(refused, Violation::TooManyCalls(2));
    while full.take().is_some() {}
    session.pump(&mut full).unwrap();
    assert!(matches!(session.hear(frame(Kind::Call, 3, 0), &[]), Ok(Heard::Call(_))));
}

#[test]
fn credits_and_cancels_for_nothing_are_nothing() {
    let mut session = Session::new(&limits());
    let mut pipe = Pipe::new(BODY, 10_000);
    let credit = |aux| Head { aux, ..Head::new(Kind::Credit, 1) };
    assert!(matches!(session.hear(credit(u32::MAX), &[]), Ok(Heard::Nothing)));
    assert!(matches!(session.hear(frame(Kind::Cancel, 7, 0), &[]), Ok(Heard::Nothing)));
    let Heard::Call(call) = session.hear(frame(Kind::Call, 1, STREAM), &[]).unwrap() else {
        panic!()
    };
    session.started(1, call.charge, true, Box::new(Flag::default()));
    for _ in 0..3 {
        // What was not sent cannot be credited.
        assert!(matches!(session.hear(credit(u32::MAX), &[]), Ok(Heard::Credit)));
        for _ in 0..FIRST_CREDIT {
            assert!(session.may_send(1));
            session.item(&mut pipe, 1, false, &[1]).unwrap();
        }
        assert!(!session.may_send(1));
    }
}

fn caller(flags: u8) -> (ClientCore, u64, Pipe) {
    let mut core = ClientCore::new(Grant::from(&limits()));
    let mut pipe = Pipe::new(BODY, 100);
    let request = Request { method: 0, flags, deadline: None, in_place: false };
    let id = core.begin(&mut pipe, request, &[1]).unwrap();
    (core, id, pipe)
}

#[test]
fn each_violation_of_a_server() {
    type Frames = Vec<(Kind, u64, u8, usize)>;
    let (_, id, _) = caller(0);
    let items = |more: Frames| -> Frames {
        (0..FIRST_CREDIT).map(|_| (Kind::Item, id, 0, 1)).chain(more).collect()
    };
    let cases: Vec<(Violation, u8, Frames)> = vec![
        (Violation::Direction(Kind::Call), 0, vec![(Kind::Call, id, 0, 0)]),
        (Violation::Direction(Kind::Credit), 0, vec![(Kind::Credit, id, 0, 0)]),
        (Violation::Unasked(5), 0, vec![(Kind::Result, 5, 0, 0)]),
        (Violation::Unasked(5), 0, vec![(Kind::Chunk, 5, 0, 1)]),
        (Violation::Unasked(id), 0, vec![(Kind::Result, id, 0, 0), (Kind::Error, id, 0, 0)]),
        (Violation::Unasked(id), 0, vec![(Kind::End, id, 0, 0), (Kind::Chunk, id, 0, 1)]),
        (Violation::NoCredit(id), 0, vec![(Kind::Item, id, 0, 1)]),
        (Violation::NoCredit(id), STREAM, items(vec![(Kind::Item, id, 0, 1)])),
        (Violation::Unasked(id), STREAM, vec![(Kind::End, id, 0, 0), (Kind::Item, id, 0, 1)]),
        (Violation::Chunk(id), 0, vec![(Kind::Result, id, CHUNKED, 4)]),
        (Violation::Chunk(id), 0, vec![(Kind::Chunk, id, 0, 4), (Kind::Result, id, 0, 4)]),
        (Violation::Chunk(id), 0, vec![(Kind::Chunk, id, 0, 0)]),
        (Violation::TooLong(100), 0, vec![(Kind::Chunk, id, 0, 60), (Kind::Chunk, id, 0, 60)]),
        (Violation::Goodbye, 0, vec![(Kind::Goodbye, 0, 0, 0), (Kind::Goodbye, 0, 0, 0)]),
    ];
    for (violation, how, frames) in cases {
        let (mut core, id, mut pipe) = caller(how);
        let mut woken = Woken::default();
        let (last, before) = frames.split_last().unwrap();
        for (kind, id, flags, len) in before {
            core.hear(frame(*kind, *id, *flags), &vec![0; *len], &mut woken).unwrap();
            core.audit();
        }
        let (kind, at, flags, len) = *last;
        let told = core.hear(frame(kind, at, flags), &vec![0; len], &mut woken);
        assert_eq!(told, Err(violation));
        core.break_off(|_| Delivered::Unknown, &mut woken);
        while !matches!(core.take(&mut pipe, id), Ok(Some(News::Over(_)))) {}
        core.assert_empty();
    }
}

/// A call that waits for the grants, or in part, has no answer; one that is wholly sent has.
#[test]
fn nobody_answers_what_is_not_sent() {
    let mut core = ClientCore::new(Grant::from(&limits()));
    let (mut pipe, mut woken) = (Pipe::new(BODY, 20), Woken::default());
    let request = Request { method: 0, flags: 0, deadline: None, in_place: false };
    let long = core.begin(&mut pipe, request, &[1; 90]).unwrap();
    let queued = core.begin(&mut pipe, request, &[1; 90]).unwrap();
    for id in [long, queued] {
        let told = core.hear(frame(Kind::Result, id, 0), &[], &mut woken);
        assert_eq!(told, Err(Violation::Unasked(id)));
    }
    while core.wants_room() {
        while pipe.take().is_some() {}
        core.pump(&mut pipe).unwrap();
    }
    core.hear(frame(Kind::Result, long, RAW), &[3], &mut woken).unwrap();
    assert!(matches!(core.take(&mut pipe, long), Ok(Some(News::Over(Outcome::Value(_))))));
    core.audit();
}

/// What went out together with another request was delivered all the same.
#[test]
fn a_request_behind_another_one_is_known_to_be_out() {
    let mut core =
        ClientCore::new(Grant { max_pending: 9, max_inflight_bytes: 1000, max_message: 100 });
    let (mut pipe, mut woken) = (Pipe::new(BODY, 0), Woken::default());
    let request = Request { method: 0, flags: 0, deadline: None, in_place: false };
    let first = core.begin(&mut pipe, request, &[1; 30]).unwrap();
    while pipe.take().is_some() {}
    let second = core.begin(&mut pipe, request, &[1; 30]).unwrap();
    let mut out = 0;
    while core.wants_room() {
        while let Some((head, _)) = pipe.take() {
            out += usize::from(head.kind == Kind::Call);
        }
        core.pump(&mut pipe).unwrap();
    }
    assert_eq!((out, pipe.frames.len()), (1, 1));
    let sent = |sent: Option<u64>| if sent.is_some() { Delivered::Yes } else { Delivered::No };
    core.break_off(sent, &mut woken);
    for id in [first, second] {
        let news = core.take(&mut pipe, id).unwrap();
        assert_eq!(news, Some(News::Over(Outcome::Disconnected(Delivered::Yes))));
    }
}

/// Deadlines of weeks do not gather.
#[test]
fn deadlines_of_calls_that_are_over_are_forgotten() {
    let mut core = ClientCore::new(Grant::from(&limits()));
    let (mut pipe, mut woken) = (Pipe::new(BODY, 0), Woken::default());
    let late = Some(Instant::now() + Duration::from_secs(1 << 20));
    let request = Request { method: 0, flags: 0, deadline: late, in_place: false };
    for _ in 0..10_000 {
        let id = core.begin(&mut pipe, request, &[]).unwrap();
        pipe.take().unwrap();
        core.hear(frame(Kind::Result, id, 0), &[], &mut woken).unwrap();
        assert!(core.take(&mut pipe, id).unwrap().is_some());
        assert!(core.deadlines() <= 66, "{}", core.deadlines());
    }
}

proptest! {
    #![proptest_config(many(4000))]

    #[test]
    fn garbage_from_a_client(bytes in prop::collection::vec(any::<u8>(), 0..1500)) {
        fuzzing::session(&bytes);
    }

    #[test]
    fn garbage_from_a_server(bytes in prop::collection::vec(any::<u8>(), 0..1500)) {
        fuzzing::client(&bytes);
    }
}
