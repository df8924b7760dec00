//! Fork, exec and stop: an inherited handle is refused and harms nothing; a forked child does not
//! hide its parent's death; exec is the death of what was attached; a stopped process is not dead.

#![allow(unsafe_code, reason = "who is our parent")]

mod common;
mod forked;
mod stage;

use common::{hear, say};
use forked::{fork, is_forked, leave_a_child, leave_after, lives, state, wait_for_it};
use ringspan::{OpenError, PopError, PushError, Ring, TryPopError, TryPushError};
use rustix::process::Signal;
use stage::{Test, role, runtime, until};
use std::os::unix::process::CommandExt;
use std::time::Duration;

const MOMENT: Duration = Duration::from_millis(30);

/// Does nothing unless it is a child.
#[test]
fn child_entry() {
    let Some(role) = role() else { return };
    let ring = Ring::options().open(&role.name).unwrap();
    match role.role.as_str() {
        "inherits-producer" => inherits_producer(&ring),
        "inherits-consumer" => inherits_consumer(&ring),
        "leaves-a-child" => leaves_a_child(&ring, &role.argument),
        "execs" => {
            let _end = (role.argument == "producer").then(|| ring.producer().unwrap());
            let _other = (role.argument == "consumer").then(|| ring.consumer().unwrap());
            say("ready");
            hear();
            panic!("{}", std::process::Command::new("cat").exec());
        }
        "pops" => {
            let mut rx = ring.consumer().unwrap();
            say("ready");
            while rx.blocking_pop(None).unwrap().is_some() {}
        }
        "pushes" => {
            let mut tx = ring.producer().unwrap();
            say("ready");
            hear();
            tx.blocking_push(b"late", None).unwrap();
        }
        other => panic!("role {other}"),
    }
    std::process::exit(0);
}

fn inherits_producer(ring: &Ring) {
    let mut tx = ring.producer().unwrap();
    let name = ring.name();
    let rt = runtime();
    // Asleep on tokio once, so that there is a registration to inherit.
    rt.block_on(tx.attached()).unwrap();
    tx.try_push(b"before").unwrap();
    let parent = ring.stat().producer;
    let mut grant = tx.try_reserve(4).unwrap();
    grant.copy_from_slice(b"lost");
    if fork() {
        grant.commit(4); // publishes nothing
        leave_after(|| {
            let Err(TryPushError::Fault(fault)) = tx.try_push(b"x") else { panic!() };
            is_forked(&fault, &name);
            let Err(PushError::Fault(fault)) = tx.blocking_push(b"x", None) else { panic!() };
            is_forked(&fault, &name);
            let Err(PushError::Fault(fault)) = tx.blocking_push_many([b"x"], None) else {
                panic!()
            };
            is_forked(&fault, &name);
            let Err(PushError::Fault(fault)) = tx.arm() else { panic!() };
            is_forked(&fault, &name);
            is_forked(&tx.disarm().unwrap_err(), &name);
            is_forked(&tx.close().unwrap_err(), &name);
            // The ring itself can be used anew; the role is the parent's.
            let OpenError::RoleTaken { pid, .. } = ring.producer().unwrap_err() else { panic!() };
            // SAFETY: no argument.
            assert_eq!(pid as i32, unsafe { libc::getppid() });
        });
    }
    wait_for_it();
    assert_eq!(ring.stat().producer, parent);
    say("forked");
    tx.try_push(b"after").unwrap();
    // The registration still wakes us: the other side makes room for this one.
    while tx.try_push(&[0; 100]).is_ok() {}
    rt.block_on(tx.push(&[9; 100])).unwrap();
    tx.close().unwrap();
}

fn inherits_consumer(ring: &Ring) {
    let mut rx = ring.consumer().unwrap();
    let name = ring.name();
    let message = rx.blocking_pop(None).unwrap().unwrap();
    if fork() {
        drop(message); // releases nothing
        leave_after(|| {
            let Err(TryPopError::Fault(fault)) = rx.try_pop().map(drop) else { panic!() };
            is_forked(&fault, &name);
            let Err(PopError::Fault(fault)) = rx.blocking_pop(None).map(drop) else { panic!() };
            is_forked(&fault, &name);
            drop(rx);
        });
    }
    wait_for_it();
    assert_eq!((&*message, ring.stat().popped), (&b"one"[..], 0));
    drop(message);
    say("forked");
    assert_eq!(rx.blocking_pop(None).unwrap().as_deref(), Some(&b"two"[..]));
    if fork() {
        leave_after(|| assert_eq!(ring.stat().capacity, 4096));
    }
    wait_for_it();
    assert!(rx.blocking_pop(None).unwrap().is_none());
}

fn leaves_a_child(ring: &Ring, how: &str) {
    let _tx = ring.producer().unwrap();
    leave_a_child(how)
}

#[test]
fn an_inherited_producer_is_refused_and_harms_nothing() {
    let test = Test::new("inherited producer");
    let ring = test.ring(4096);
    let mut child = test.spawn("inherits-producer", "");
    let mut rx = ring.consumer().unwrap();
    child.expect("forked");
    assert_eq!(rx.blocking_pop(None).unwrap().as_deref(), Some(&b"before"[..]));
    assert_eq!(rx.blocking_pop(None).unwrap().as_deref(), Some(&b"after"[..]));
    until(|| ring.stat().producer_parked);
    let mut last = Vec::new();
    while let Some(message) = rx.blocking_pop(None).unwrap() {
        last = message.to_vec();
    }
    assert_eq!(last, [9; 100]);
    child.finish();
}

#[test]
fn an_inherited_consumer_is_refused_and_harms_nothing() {
    let test = Test::new("inherited consumer");
    let ring = test.ring(4096);
    let mut child = test.spawn("inherits-consumer", "");
    let mut tx = ring.producer().unwrap();
    tx.try_push(b"one").unwrap();
    child.expect("forked");
    tx.try_push(b"two").unwrap();
    tx.close().unwrap();
    child.finish();
}

#[test]
fn a_forked_child_does_not_hide_its_parents_death() {
    for how in ["fork", "clone"] {
        for on_tokio in [false, true] {
            let test = Test::new(&format!("death of a parent, {how}, tokio {on_tokio}"));
            let ring = test.ring(4096);
            let mut child = test.spawn("leaves-a-child", how);
            let grandchild: u32 = child.hear().parse().unwrap();
            let mut rx = ring.consumer().unwrap();
            let survivor = std::thread::spawn(move || {
                let popped = match on_tokio {
                    true => runtime().block_on(rx.pop()).map(drop),
                    false => rx.blocking_pop(None).map(drop),
                };
                popped.unwrap_err()
            });
            until(|| ring.stat().consumer_parked);
            let pid = child.pid();
            child.signal(Signal::KILL); // and its standard input stays open for the other
            let PopError::PeerDied { pid: dead, .. } = survivor.join().unwrap() else { panic!() };
            assert_eq!(dead, Some(pid));
            assert!(lives(grandchild), "the forked child is there all the while");
            drop(ring.producer().unwrap());
            drop(child);
        }
    }
}

#[test]
fn exec_is_the_death_of_what_was_attached() {
    let test = Test::new("exec");
    let ring = test.ring(4096);
    let mut rx = ring.consumer().unwrap();
    let mut child = test.spawn("execs", "producer");
    child.expect("ready");
    let waiting = std::thread::spawn(move || {
        let err = rx.blocking_pop(None).map(drop).unwrap_err();
        drop(rx);
        err
    });
    until(|| ring.stat().consumer_parked);
    child.say("exec");
    let PopError::PeerDied { pid, .. } = waiting.join().unwrap() else { panic!() };
    assert_eq!(pid, Some(child.pid()));
    assert!(lives(child.pid()));
    child.finish();

    let mut tx = ring.producer().unwrap();
    let mut child = test.spawn("execs", "consumer");
    child.expect("ready");
    while tx.try_push(&[0; 100]).is_ok() {}
    let waiting = std::thread::spawn(move || {
        let err = runtime().block_on(tx.push(&[0; 100])).unwrap_err();
        tx.detach().unwrap();
        err
    });
    until(|| ring.stat().producer_parked);
    child.say("exec");
    let PushError::PeerDied { pid, .. } = waiting.join().unwrap() else { panic!() };
    assert_eq!(pid, Some(child.pid()));
    assert!(lives(child.pid()));
    child.finish();
}

#[test]
fn a_stopped_peer_is_not_dead() {
    let test = Test::new("stopped peer");
    let ring = test.ring(4096);
    let mut tx = ring.producer().unwrap();
    let mut child = test.spawn("pops", "");
    child.expect("ready");
    child.signal(Signal::STOP);
    until(|| state(child.pid()) == Some('T'));
    while tx.try_push(&[1; 100]).is_ok() {}
    for _ in 0..1000 {
        assert_eq!(tx.try_push(&[1; 100]).unwrap_err(), TryPushError::Full);
    }
    let OpenError::RoleTaken { pid, .. } = ring.consumer().unwrap_err() else { panic!() };
    assert_eq!(pid, child.pid());
    assert!(matches!(tx.blocking_push(&[1; 100], MOMENT), Err(PushError::Timeout(_))));
    child.signal(Signal::CONT);
    tx.blocking_push(&[1; 100], None).unwrap();
    tx.close().unwrap();
    child.finish();

    let mut child = test.spawn("pushes", "");
    child.expect("ready");
    child.signal(Signal::STOP);
    until(|| state(child.pid()) == Some('T'));
    let mut rx = ring.consumer().unwrap();
    assert!(matches!(rx.blocking_pop(MOMENT), Err(PopError::Timeout(_))));
    for _ in 0..1000 {
        assert_eq!(rx.try_pop().unwrap_err(), TryPopError::Empty);
    }
    child.say("push");
    child.signal(Signal::CONT);
    assert_eq!(rx.blocking_pop(None).unwrap().as_deref(), Some(&b"late"[..]));
    assert!(rx.blocking_pop(None).unwrap().is_none());
    child.finish();
}
