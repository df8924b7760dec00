//! Kill -9 at every step: for each fail point of `failpoints.txt` a child process is killed there
//! while it produces, consumes, takes over or removes; the survivors must finish, with every message
//! whole, in order, none lost and none doubled, and every death told.
//!
//! A run in which the point is not reached is a run without a kill and must end in good order too.
//! The test fails when some point of the table was reached in no run. Those of locks are
//! reached by `rwlock_kill.rs`, those of values and scalars by `value_kill.rs` and `scalar.rs`, those of
//! RPC by `rpc_kill_points.rs`.
#![cfg(feature = "failpoints")]

mod common;
mod killing;
mod stage;

use killing::{Job, Plan, Run, in_lanes, table};
use ringspan::{OpenError, PopError, PushError, Ring, Segment};
use stage::{Role, Test, role};
use std::io::Write;
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

/// Messages that a whole stream has.
const COUNT: u64 = 300;
/// Small, so that a producer parks; 64-byte messages.
const CAPACITY: u64 = 4096;
/// How often a notifier notifies.
const NOTIFIED: u64 = 8;

// ---- the children -------------------------------------------------------------------------------

fn message(stream: u64, index: u64) -> [u8; 64] {
    let mut bytes = [0; 64];
    for (i, chunk) in bytes.chunks_mut(8).enumerate() {
        let word = if i == 0 { stream } else { index ^ (i as u64 - 1) << 32 };
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

fn parse(bytes: &[u8]) -> (u64, u64) {
    assert_eq!(bytes.len(), 64, "a message of another length");
    let word = |i: usize| u64::from_le_bytes(bytes[i * 8..i * 8 + 8].try_into().unwrap());
    for i in 1..8 {
        assert_eq!(word(i), word(1) ^ (i as u64 - 1) << 32, "a torn message");
    }
    (word(0), word(1))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn open(name: &str) -> Ring {
    Ring::options().capacity(CAPACITY).open_or_create(name).unwrap()
}

/// Does nothing unless it is a child.
#[test]
fn child_entry() {
    let Some(Role { role, name, argument }) = role() else { return };
    let stream: u64 = argument.parse().unwrap();
    let on_tokio = killing::on_tokio();
    match role.as_str() {
        "producer" => produce(&name, stream, on_tokio),
        "consumer" => consume(&name, on_tokio),
        "notifier" => {
            let seg = Segment::open(&name).unwrap();
            for _ in 0..NOTIFIED {
                seg.notify().unwrap();
            }
        }
        "remover" => match ringspan::remove(&name) {
            Ok(()) | Err(OpenError::NotFound(_)) => {}
            Err(err) => panic!("{err}"),
        },
        other => panic!("role {other}"),
    }
    std::process::exit(0);
}

fn produce(name: &str, stream: u64, on_tokio: bool) {
    let mut tx = open(name).producer().unwrap();
    for index in 0..COUNT {
        let bytes = message(stream, index);
        if on_tokio {
            runtime().block_on(tx.push(&bytes)).unwrap();
        } else {
            tx.blocking_push(&bytes, None).unwrap();
        }
    }
    tx.close().unwrap();
}

fn consume(name: &str, on_tokio: bool) {
    let mut rx = open(name).consumer().unwrap();
    let mut out = std::io::stdout();
    let runtime = runtime();
    loop {
        let popped = if on_tokio { runtime.block_on(rx.pop()) } else { rx.blocking_pop(None) };
        match popped {
            Ok(Some(message)) => {
                let (_, index) = parse(&message);
                // Before the release: what a kill leaves unreleased is printed by the next one too.
                writeln!(out, "{index}").unwrap();
                out.flush().unwrap();
            }
            Ok(None) => return,
            Err(err) => panic!("{err}"),
        }
    }
}

// ---- the harness --------------------------------------------------------------------------------

/// Until the side is parked or its process has ended.
fn settle(ring: &Ring, producer: bool, child: &mut Child) -> bool {
    loop {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        let stat = ring.stat();
        if (producer && stat.producer_parked) || (!producer && stat.consumer_parked) {
            return true;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// A producer is killed; the consumer (here) gets whole messages in order, the death at most once,
/// and then all of the next producer's. Returns the point that was reached.
fn producer_killed(plan: &Plan, predecessor: bool) -> Option<String> {
    let run = Run::new(format!("producer killed at {plan:?}, predecessor {predecessor}"));
    let ring = open(&run.name);
    let mut rx = ring.consumer().unwrap();
    if predecessor {
        // One that died with messages in the ring: the child under test takes over from it.
        let first = Plan { point: "push.published".into(), pass: 5, on_tokio: false };
        let child = run.spawn("producer", "7", Some(&first));
        run.finish(child);
        let _ = std::fs::remove_file(&run.log);
    }
    let mut child = run.spawn("producer", "1", Some(plan));
    settle(&ring, true, &mut child);
    let mut successor = None;
    let (mut deaths, mut whole) = (0, false);
    let mut next = std::collections::BTreeMap::<u64, u64>::new();
    while !whole {
        if successor.is_none() && child.try_wait().unwrap().is_some() {
            // Whatever the first one left behind, the next one gets in and is heard in full.
            successor = Some(run.spawn("producer", "2", None));
        }
        match rx.blocking_pop(Duration::from_millis(20)) {
            Ok(Some(message)) => {
                let (stream, index) = parse(&message);
                let expected = next.entry(stream).or_insert(0);
                assert_eq!(index, *expected, "{}: lost or doubled", run.what);
                *expected += 1;
            }
            Ok(None) => whole = next.get(&2) == Some(&COUNT),
            Err(PopError::PeerDied { .. }) => deaths += 1,
            Err(PopError::Timeout(_)) => {}
            Err(err) => panic!("{}: {err}", run.what),
        }
    }
    run.finish(successor.unwrap());
    assert_eq!(next.get(&2), Some(&COUNT), "{}: the successor's stream is not whole", run.what);
    let expected_most = 1 + u32::from(predecessor);
    assert!(deaths <= expected_most, "{}: {deaths} deaths told", run.what);
    let cut = next.get(&1).is_some_and(|&n| n > 0 && n < COUNT);
    assert!(!cut || deaths >= 1, "{}: a death was not told", run.what);
    assert!(!predecessor || next.get(&7) == Some(&5), "{}: predecessor's messages", run.what);
    let reached = run.reached();
    run.finish(child);
    drop(rx);
    reached
}

/// A consumer is killed; the producer (here) goes on, and the next consumer gets everything from the
/// message that the first one had not released.
fn consumer_killed(plan: &Plan) -> Option<String> {
    let run = Run::new(format!("consumer killed at {plan:?}"));
    let ring = open(&run.name);
    let mut tx = ring.producer().unwrap();
    let mut child = run.spawn("consumer", "0", Some(plan));
    let mut told = 0;
    let mut index = 0;
    let mut alive = true;
    while index < COUNT {
        if alive && index % 40 == 0 {
            alive = settle(&ring, false, &mut child);
        }
        if !alive {
            break;
        }
        match tx.blocking_push(&message(1, index), None) {
            Ok(()) => index += 1,
            Err(PushError::PeerDied { .. } | PushError::Closed(_)) => {
                told += 1;
                alive = false;
            }
            Err(err) => panic!("{}: {err}", run.what),
        }
    }
    let at_kill = alive;
    if at_kill {
        // It lived to the end: this producer's close ends it.
        tx.close().unwrap();
        let (status, numbers) = run.finish(child);
        if status.success() {
            assert_eq!(numbers, (0..COUNT).collect::<Vec<_>>(), "{}", run.what);
            return run.reached();
        }
        let next = numbers.last().copied();
        let second = run.spawn("consumer", "0", None);
        // The end may have been taken by the first one: another stream ends the second.
        let mut tx = ring.producer().unwrap();
        while let Err(err) = tx.blocking_push(&message(2, COUNT), None) {
            // A consumer that is found dead in its slot is told to the new producer too, once.
            told += 1;
            assert!(told <= 2, "{}: {err}", run.what);
        }
        tx.close().unwrap();
        let (_, rest) = run.finish(second);
        check_rest(&run, next, &rest, None);
        return run.reached();
    }
    let (_, numbers) = run.finish(child);
    let second = run.spawn("consumer", "0", None);
    while index < COUNT {
        match tx.blocking_push(&message(1, index), None) {
            Ok(()) => index += 1,
            Err(PushError::PeerDied { .. } | PushError::Closed(_)) => told += 1,
            Err(err) => panic!("{}: {err}", run.what),
        }
    }
    tx.close().unwrap();
    let (_, rest) = run.finish(second);
    check_rest(&run, numbers.last().copied(), &rest, Some(COUNT - 1));
    assert!(told <= 1, "{}: told {told} times", run.what);
    run.reached()
}

/// `rest` goes on where `last` was printed: again, if it was not released.
fn check_rest(run: &Run, last: Option<u64>, rest: &[u64], end: Option<u64>) {
    if let Some(&first) = rest.first() {
        let expected = last.map_or(0, |last| last + 1);
        let again = last.is_some_and(|last| first == last);
        assert!(
            again || first == expected || first == COUNT,
            "{}: {last:?} then {first}",
            run.what
        );
        for pair in rest.windows(2) {
            assert_eq!(pair[1], pair[0] + 1, "{}: a gap", run.what);
        }
    }
    if let Some(end) = end {
        assert_eq!(rest.last().copied().or(last), Some(end), "{}: not to the end", run.what);
    }
}

/// A remover is killed; the ring is removed by the next one and the name is free again.
fn remover_killed(plan: &Plan) -> Option<String> {
    let run = Run::new(format!("remover killed at {plan:?}"));
    let ring = open(&run.name);
    let rx = ring.consumer().unwrap();
    let child = run.spawn("remover", "0", Some(plan));
    run.finish(child);
    match ringspan::remove(&run.name) {
        Ok(()) | Err(OpenError::NotFound(_)) => {}
        Err(err) => panic!("{}: {err}", run.what),
    }
    let fresh = Ring::options().capacity(CAPACITY).create(&run.name).unwrap();
    let mut tx = fresh.producer().unwrap();
    let mut rx2 = fresh.consumer().unwrap();
    tx.try_push(b"new").unwrap();
    assert_eq!(&*rx2.try_pop().unwrap(), b"new");
    drop(rx);
    run.reached()
}

/// A creator is killed: its name is whole or not there; whoever comes next gets in.
fn creator_killed(plan: &Plan) -> Option<String> {
    let run = Run::new(format!("creator killed at {plan:?}"));
    let mut child = run.spawn("producer", "1", Some(plan));
    let path = PathBuf::from(format!("/dev/shm{}", run.name));
    while child.try_wait().unwrap().is_none() && !path.exists() {
        std::thread::sleep(Duration::from_micros(200));
    }
    if path.exists() {
        Ring::options().open(&run.name).expect("a name that exists is whole");
    }
    let mut rx = open(&run.name).consumer().unwrap();
    let mut next = std::collections::BTreeMap::<u64, u64>::new();
    let mut successor = None;
    while next.get(&2) != Some(&COUNT) {
        if successor.is_none() && child.try_wait().unwrap().is_some() {
            successor = Some(run.spawn("producer", "2", None));
        }
        match rx.blocking_pop(Duration::from_millis(20)) {
            Ok(Some(message)) => {
                let (stream, index) = parse(&message);
                let expected = next.entry(stream).or_insert(0);
                assert_eq!(index, *expected, "{}: lost or doubled", run.what);
                *expected += 1;
            }
            Ok(None) | Err(PopError::PeerDied { .. } | PopError::Timeout(_)) => {}
            Err(err) => panic!("{}: {err}", run.what),
        }
    }
    run.finish(successor.unwrap());
    run.finish(child);
    run.reached()
}

/// A notifier is killed; whoever sleeps here misses nothing of what it and the next one raised.
fn notifier_killed(plan: &Plan) -> Option<String> {
    let run = Run::new(format!("notifier killed at {plan:?}"));
    let seg = Segment::create(&run.name, 8).unwrap();
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| {
            let mut seen = 0;
            while seen < NOTIFIED {
                let before = seen;
                seen = seg.blocking_changed(seen, None).unwrap();
                assert!(seen > before, "{}: the version went back", run.what);
            }
        });
        run.finish(run.spawn("notifier", "1", Some(plan)));
        run.finish(run.spawn("notifier", "2", None));
        sleeper.join().unwrap();
    });
    run.reached()
}

#[test]
fn killed_at_every_step() {
    let _test = Test::lasting("killed at every step", Duration::from_secs(600));
    let table = table(|point| {
        !["lock.", "value.", "grow.", "scalar.", "rpc."].iter().any(|kind| point.starts_with(kind))
    });
    let mut jobs: Vec<Job> = Vec::new();
    for point in &table {
        for (pass, on_tokio) in [(1, false), (1, true), (2, false), (4, true)] {
            let plan = Plan { point: point.clone(), pass, on_tokio };
            if point.starts_with("notify.") {
                let plan = plan.clone();
                jobs.push(Box::new(move || notifier_killed(&plan)));
            }
            let (a, b, c, d, e) = (plan.clone(), plan.clone(), plan.clone(), plan.clone(), plan);
            jobs.push(Box::new(move || producer_killed(&a, false)));
            jobs.push(Box::new(move || producer_killed(&b, true)));
            jobs.push(Box::new(move || consumer_killed(&c)));
            if pass == 1 && !on_tokio {
                jobs.push(Box::new(move || creator_killed(&e)));
                jobs.push(Box::new(move || remover_killed(&d)));
            }
        }
    }
    let reached = in_lanes(jobs);
    ringspan::gc().unwrap(); // the doors of those killed before they had a slot
    let missed: Vec<_> = table.iter().filter(|point| !reached.contains(*point)).collect();
    assert!(missed.is_empty(), "points that no run reached: {missed:?}");
}
